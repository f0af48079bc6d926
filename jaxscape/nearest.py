"""Where a plane comes nearest to points, and how far from them it stays."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxscape.directions import is_none, is_parameter, paired

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
    centred = coordinates - coordinates.mean(axis=0)
    within = float(np.sum(centred @ gram * centred))
    return coordinates, np.sqrt(squares), within / float(spread) if spread else 1.0
