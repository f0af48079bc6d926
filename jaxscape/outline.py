"""The line on a surface along which a field is 0."""

import numpy as np


def zero_line(field: np.ndarray, a: np.ndarray, b: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Where a field is 0, by marching squares: pieces (start, end, NaN) of a line on a surface.

    Args:
        field, height: (n1, n2) values at the nodes.
        a, b: (n1,) and (n2,) where these are; or (n1, n2) both, where each of them is.

    Returns:
        (3·pieces, 3) a, b and height, interpolated along the sides of cells; pieces in cells with
        a node that is not finite are left out.
    """
    on_grid = np.meshgrid(a, b, indexing="ij") if np.ndim(a) == 1 else (a, b)
    nodes = np.stack([*on_grid, height, field], axis=-1).astype(float)
    i, j = (part.ravel() for part in np.indices([n - 1 for n in field.shape]))
    # The corners of each cell, around it.
    corners = np.stack([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]], axis=1)
    corners = corners[np.isfinite(corners).all(axis=(1, 2))]
    following = np.roll(corners, -1, axis=1)
    below = corners[..., 3] < 0
    crossed = below != np.roll(below, -1, axis=1)
    step = following[..., 3] - corners[..., 3]
    part = np.where(crossed, -corners[..., 3] / np.where(crossed, step, 1), 0)
    points = (corners + part[..., None] * (following - corners))[..., :3]
    cells, sides = np.nonzero(crossed & (crossed.sum(axis=1) == 2)[:, None])
    pieces = [points[cells, sides].reshape(-1, 2, 3)]
    # Where all four sides are crossed, the two corners that differ from the middle are cut off.
    four = np.flatnonzero(crossed.all(axis=1))
    first = np.where(below[four, 0] != (corners[four, :, 3].mean(axis=1) < 0), 3, 0)
    for k in (0, 2):
        pair = np.stack([first + k, first + k + 1], axis=1) % 4
        pieces.append(points[four[:, None], pair])
    ends = np.concatenate(pieces)
    return np.concatenate([ends, np.full_like(ends[:, :1], np.nan)], axis=1).reshape(-1, 3)
