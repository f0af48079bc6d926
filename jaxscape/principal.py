"""The directions in which the points of a path vary most."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.directions import is_none, is_parameter, paired

# Numbers of a path's points that are in float64 at once.
_AT_ONCE = 2**24


def principal_directions(path: Any, count: int) -> list[Any]:
    """The directions in which a path varies most, of length 1 and at right angles.

    They come from the T × T matrix of inner products, so that no matrix of parameters by
    parameters is made.

    Args:
        path: pytree, each leaf with floating numbers with a leading axis T.
        count: how many; of them, those are left out in which the path does not vary.

    Returns:
        Directions of one point's structure, `None` for each leaf without floating numbers.

    Raises:
        ValueError: fewer than 3 points, or some that are not finite.
    """
    for where, leaf, _ in paired(path, path):
        if is_parameter(leaf) and not np.isfinite(np.asarray(leaf, np.float64)).all():
            raise ValueError(f"path{where}: expected finite parameters, got some that are not")
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(path) if is_parameter(x)}
    if len(lengths) != 1 or lengths == {()} or lengths < {(k,) for k in range(3)}:
        raise ValueError(
            "path: expected arrays that share their first axis, 3 points or more, got first "
            f"axes {sorted(lengths)}"
        )
    leaves, structure = jax.tree.flatten(path, is_leaf=is_none)
    points = [np.asarray(x).reshape(len(x), -1) if is_parameter(x) else None for x in leaves]
    moved = [part for part in points if part is not None]
    gram = np.zeros((len(moved[0]), len(moved[0])))
    for part in moved:
        columns = max(1, _AT_ONCE // len(part))
        for start in range(0, part.shape[1], columns):
            values = part[:, start : start + columns].astype(np.float64)
            values -= values.mean(axis=0)
            gram += values @ values.T
    squares, vectors = np.linalg.eigh(gram)
    # Below this, what is left of a square is the rounding of the path's own dtype.
    least = squares[-1] * (4 * float(jnp.finfo(moved[0].dtype).eps)) ** 2
    kept = [k for k in range(len(squares) - 1, -1, -1) if squares[k] > least][:count]

    def direction(k: int) -> Any:
        # The components sum to 0 over the points, so that the mean need not be taken off.
        weights = vectors[:, k] / np.sqrt(squares[k])
        steps = [
            None
            if part is None
            else jnp.asarray((weights @ part).reshape(np.shape(leaf)[1:]), leaf.dtype)
            for part, leaf in zip(points, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, steps)

    return [direction(k) for k in kept]
