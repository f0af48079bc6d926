"""The principal directions of a path, and the projection of points onto a plane."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.pytree import Params, is_none, is_parameter, zip_with_paths
from jaxscape.planes.directions import Direction
from jaxscape.results.trajectory import Trajectory

# The points of a path are converted to float64 in pieces of at most this many numbers.
_MAX_NUMBERS = 2**22
# The inner products are known to about float64's eps times the largest eigenvalue of their matrix.
# Eigenvalues below this fraction of the largest have eigenvectors with an error above 1 %.
_MIN_EIGENVALUE = 1e4 * np.finfo(np.float64).eps


def principal_plane(path: Trajectory | Params) -> tuple[Params, Direction, Direction]:
    """Return a path's last point and its first two principal directions.

    Args:
        path: a `Trajectory`, of which the points before divergence are used; or a pytree as in
            `principal_directions`.

    Raises:
        ValueError: As in `principal_directions`; or the points lie on a line.
    """
    points = path.until_divergence().params if isinstance(path, Trajectory) else path
    directions = principal_directions(points, 2)
    if len(directions) < 2:
        raise ValueError(
            f"path: expected points that vary in 2 directions, got {len(directions)} direction"
            f"{'' if len(directions) == 1 else 's'}"
        )
    last = jax.tree.map(lambda x: x[-1] if is_parameter(x) else x, points)
    return last, *directions


def principal_directions(path: Params, count: int) -> list[Direction]:
    """Return the directions in which a path varies most, orthonormal.

    They are computed from the T × T matrix of inner products of the centered points, so that no
    matrix of parameters by parameters is needed. A direction is left out if the path varies along
    it by less than the rounding of the points, or by less than 1.5e-6 of the variation along the
    first direction.

    Args:
        path: pytree, each floating leaf with a leading axis of T points.
        count: the most directions to return.

    Returns:
        Directions of the structure of a point, with `None` for each leaf that is not floating, or
        that is the same at all points, for instance a layer that was not trained.

    Raises:
        ValueError: There are fewer than 3 points, or some are not finite.
    """
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(path) if is_parameter(x)}
    if len(lengths) != 1 or lengths == {()} or lengths < {(k,) for k in range(3)}:
        raise ValueError(
            "path: expected arrays that share their first axis, 3 points or more, got first "
            f"axes {sorted(lengths)}"
        )
    leaves, structure = jax.tree.flatten(path, is_leaf=is_none)
    flat = [np.asarray(x).reshape(len(x), -1) if is_parameter(x) else None for x in leaves]
    some = next(points for points in flat if points is not None)
    gram, moved, rounding = np.zeros((len(some), len(some))), [False] * len(flat), 0.0
    for k, (tree_path, *_) in enumerate(zip_with_paths(path, path)):
        points = flat[k]
        if points is None:
            continue
        eps = float(jnp.finfo(points.dtype).eps)
        for values in _pieces(points):
            if not np.isfinite(values).all():
                raise ValueError(
                    f"path{tree_path}: expected finite parameters, got some that are not"
                )
            # The mean of equal numbers can differ from them by rounding.
            if (values == values[0]).all():
                continue
            moved[k] = True
            # Each number may be off by half of its dtype's eps: together less than this.
            rounding += float(np.sum((eps * values) ** 2))
            values -= values.mean(axis=0)
            gram += values @ values.T
    squares, vectors = np.linalg.eigh(gram)
    smallest = max(rounding, _MIN_EIGENVALUE * squares[-1])
    kept = [k for k in range(len(squares) - 1, -1, -1) if squares[k] > smallest][:count]
    sums = [
        np.concatenate(
            [vectors[:, kept].T @ (values - values.mean(axis=0)) for values in _pieces(points)],
            axis=1,
        )
        if there
        else None
        for points, there in zip(flat, moved, strict=True)
    ]
    steps = _orthonormalize_rows(sums)
    return [
        jax.tree.unflatten(
            structure,
            [
                None
                if rows is None
                else jnp.asarray(rows[k].reshape(np.shape(leaf)[1:]).astype(leaf.dtype))
                for rows, leaf in zip(steps, leaves, strict=True)
            ],
        )
        for k in range(len(kept))
    ]


def _orthonormalize_rows(parts: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """Orthonormalize directions that are split by leaf, (count, n) each, in order."""
    gram = sum(part @ part.T for part in parts if part is not None)
    if np.size(gram) <= 1 and not np.any(gram):
        return parts
    # With L·Lᵀ the Gram matrix, the rows of L⁻¹·X are orthonormal: Gram and Schmidt's process.
    transform = np.linalg.inv(np.linalg.cholesky(np.asarray(gram)))
    return [None if part is None else transform @ part for part in parts]


def _pieces(points: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yield a leaf's points, (T, n), in float64 pieces of whole columns; nothing for None."""
    if points is None:
        return
    for piece in _columns(*points.shape):
        yield points[:, piece].astype(np.float64)


def _columns(count: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` columns, each of at most `_MAX_NUMBERS` numbers at `count` rows."""
    width = max(1, _MAX_NUMBERS // count)
    for start in range(0, size, width):
        yield slice(start, start + width)


def nearest_points(
    origin: Params, u: Direction, v: Direction, points: Params, count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Project points onto a plane, in float64.

    Large leaves are converted piece by piece, to save memory.

    Args:
        origin: the parameters at (0, 0).
        u: the plane's first direction.
        v: the plane's second direction.
        points: a pytree of the structure of `origin`, each floating leaf with a leading axis of T
            points.
        count: T.

    Returns:
        The coordinates of the nearest points, (T, 2), the distances to them, (T,), and the fraction
        of the points' variance that lies in the plane, 1 if they do not vary.

    Raises:
        ValueError: Some points are not finite.
    """

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield displacements from the origin, (T, n), and both directions, (2, n).

        The displacements are computed in float64, because origin and points may be far from 0 and
        close together.
        """
        leaves = (jax.tree.leaves(tree, is_leaf=is_none) for tree in (u, v))
        for (path, here, there), *steps in zip(
            zip_with_paths(origin, points), *leaves, strict=True
        ):
            if not is_parameter(here):
                continue
            flat = np.asarray(there).reshape(count, -1)
            start = np.asarray(here, np.float64).ravel()
            directions = np.stack(
                [np.zeros(start.size) if s is None else np.ravel(np.asarray(s)) for s in steps]
            ).astype(np.float64)
            for piece in _columns(count, start.size):
                away = flat[:, piece].astype(np.float64) - start[piece]
                if not np.isfinite(away).all():
                    raise ValueError(
                        f"path{path}: expected finite parameters, got some that are not"
                    )
                yield away, directions[:, piece]

    gram, products = np.zeros((2, 2)), np.zeros((count, 2))
    for away, directions in pieces():
        gram += directions @ directions.T
        products += away @ directions.T
    coordinates = np.linalg.solve(gram, products.T).T
    squares, variance = np.zeros(count), 0.0
    for away, directions in pieces():
        squares += np.sum((away - coordinates @ directions) ** 2, axis=1)
        variance += np.sum((away - away.mean(axis=0)) ** 2)
    centered = coordinates - coordinates.mean(axis=0)
    within = float(np.sum(centered @ gram * centered))
    return coordinates, np.sqrt(squares), within / float(variance) if variance else 1.0
