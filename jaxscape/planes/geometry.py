"""The directions in which the points of a path vary most.

Where a plane comes nearest to points, and how far from them it stays.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.pytree import is_none, is_parameter, paired
from jaxscape.results.trajectory import Trajectory

# Numbers of a path's points that are in float64 at once.
_NUMBERS_AT_ONCE = 2**22


def principal_plane(path: Any) -> tuple[Any, Any, Any]:
    """A path's last point, and the two directions in which it varies most.

    Args:
        path: a `Trajectory`, up to where it diverged; or as in `principal_directions`.

    Raises:
        ValueError: as `principal_directions`, or a path that does not leave a line.
    """
    points = path.until_divergence().params if isinstance(path, Trajectory) else path
    found = principal_directions(points, 2)
    if len(found) < 2:
        raise ValueError(f"path: expected one that leaves a line, got {len(found)} direction")
    last = jax.tree.map(lambda x: x[-1] if is_parameter(x) else x, points)
    return last, *found


def principal_directions(path: Any, count: int) -> list[Any]:
    """The directions in which a path varies most, of length 1 and at right angles.

    They come from the T × T matrix of inner products, so that no matrix of parameters by
    parameters is made.

    Args:
        path: pytree, each leaf with floating numbers with a leading axis T.
        count: how many; of them, those are left out in which the path does not vary.

    Returns:
        Directions of one point's structure, `None` for each leaf without floating numbers, or that
        is the same in all points, as layers that were not trained.

    Raises:
        ValueError: fewer than 3 points, or some that are not finite.
    """
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(path) if is_parameter(x)}
    if len(lengths) != 1 or lengths == {()} or lengths < {(k,) for k in range(3)}:
        raise ValueError(
            "path: expected arrays that share their first axis, 3 points or more, got first "
            f"axes {sorted(lengths)}"
        )
    leaves, structure = jax.tree.flatten(path, is_leaf=is_none)
    parts = [np.asarray(x).reshape(len(x), -1) if is_parameter(x) else None for x in leaves]
    some = next(part for part in parts if part is not None)
    gram, moved = np.zeros((len(some), len(some))), [False] * len(parts)
    for k, (where, *_) in enumerate(paired(path, path)):
        for values in _pieces(parts[k]):
            if not np.isfinite(values).all():
                raise ValueError(f"path{where}: expected finite parameters, got some that are not")
            # A mean of equal numbers may not be theirs, by rounding.
            if (values == values[0]).all():
                continue
            moved[k] = True
            values -= values.mean(axis=0)
            gram += values @ values.T
    squares, vectors = np.linalg.eigh(gram)
    # Below this, what is left of a square is the rounding of the path's own dtype.
    least = squares[-1] * (4 * float(jnp.finfo(some.dtype).eps)) ** 2
    kept = [k for k in range(len(squares) - 1, -1, -1) if squares[k] > least][:count]

    def direction(k: int) -> Any:
        # The components sum to 0 over the points, so that the mean need not be taken off.
        weights = vectors[:, k] / np.sqrt(squares[k])
        steps = [
            _combined(weights, part, leaf) if moves else None
            for part, moves, leaf in zip(parts, moved, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, steps)

    return [direction(k) for k in kept]


def _combined(weights: np.ndarray, part: np.ndarray | None, leaf: Any) -> jax.Array:
    """A leaf's points, each times its weight, in sum: (n,) as the leaf has them."""
    sums = np.concatenate([weights @ values for values in _pieces(part)])
    return jnp.asarray(sums.reshape(np.shape(leaf)[1:]).astype(leaf.dtype))


def _pieces(part: np.ndarray | None) -> Iterator[np.ndarray]:
    """A leaf's points, (T, n), as pieces of them in float64; none of no leaf."""
    if part is None:
        return
    columns = max(1, _NUMBERS_AT_ONCE // len(part))
    for start in range(0, part.shape[1], columns):
        yield part[:, start : start + columns].astype(np.float64)


# Numbers of the points that are in float64 at once.
_AT_ONCE = 2**22


def nearest(
    origin: Any, u: Any, v: Any, points: Any, count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Where a plane comes nearest to points, piece by piece, in float64.

    Args:
        origin, u, v: the plane's.
        points: the origin's structure, each floating leaf with a leading axis of T points.
        count: T.

    Returns:
        Coordinates (T, 2), distances (T,) and the part of the points' variance that lies in the
        plane, 1 if they do not vary.

    Raises:
        ValueError: points that are not finite.
    """

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """How far points are from the origin, (T, n), and the directions, (2, n), piece by piece.

        The difference is taken in float64: both may be far from 0 and near one another.
        """
        leaves = (jax.tree.leaves(tree, is_leaf=is_none) for tree in (u, v))
        for (where, here, there), *steps in zip(paired(origin, points), *leaves, strict=True):
            if not is_parameter(here):
                continue
            flat = np.asarray(there).reshape(count, -1)
            start = np.asarray(here, np.float64).ravel()
            directions = np.stack(
                [np.zeros(start.size) if s is None else np.ravel(np.asarray(s)) for s in steps]
            ).astype(np.float64)
            columns = max(1, _AT_ONCE // count)
            for k in range(0, start.size, columns):
                piece = slice(k, k + columns)
                away = flat[:, piece].astype(np.float64) - start[piece]
                if not np.isfinite(away).all():
                    raise ValueError(
                        f"path{where}: expected finite parameters, got some that are not"
                    )
                yield away, directions[:, piece]

    gram, products = np.zeros((2, 2)), np.zeros((count, 2))
    for away, directions in parts():
        gram += directions @ directions.T
        products += away @ directions.T
    coordinates = np.linalg.solve(gram, products.T).T
    squares, spread = np.zeros(count), 0.0
    for away, directions in parts():
        squares += np.sum((away - coordinates @ directions) ** 2, axis=1)
        spread += np.sum((away - away.mean(axis=0)) ** 2)
    centered = coordinates - coordinates.mean(axis=0)
    within = float(np.sum(centered @ gram * centered))
    return coordinates, np.sqrt(squares), within / float(spread) if spread else 1.0
