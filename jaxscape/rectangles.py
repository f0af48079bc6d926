"""Rectangles that cover the flagged cells of a grid (Berger and Rigoutsos 1991)."""

from collections.abc import Iterator

import numpy as np

_MOST = 8
"""Rectangles: the patch on each is of a shape of its own, and compiled anew."""
_SMALLEST_SIDE = 4
"""Cells of a rectangle that is not cut further."""
_LEAST_FILLED = 0.7
"""The share of flagged cells from which on a rectangle of them is not cut further."""


def rectangles(flagged: np.ndarray) -> list[tuple[slice, slice]]:
    """A few rectangles of cells that cover all flagged ones and not many others."""
    least = _SMALLEST_SIDE
    while len(boxes := list(_cut(flagged, (0, 0), least))) > _MOST:
        least *= 2
    return boxes


def _cut(flagged: np.ndarray, corner: tuple[int, int], least: int) -> Iterator[tuple[slice, slice]]:
    if not flagged.any():
        return
    spans = [np.flatnonzero(flagged.any(axis=other)) for other in (1, 0)]
    (top, bottom), (left, right) = ((int(span[0]), int(span[-1]) + 1) for span in spans)
    flagged = flagged[top:bottom, left:right]
    corner = corner[0] + top, corner[1] + left
    if flagged.mean() >= _LEAST_FILLED or max(flagged.shape) <= least:
        yield tuple(slice(first, first + n) for first, n in zip(corner, flagged.shape, strict=True))  # type: ignore[misc]
        return
    # Across the longer side, at the emptiest line near its middle.
    along = int(flagged.shape[1] > flagged.shape[0])
    counts, middle = flagged.sum(axis=1 - along), flagged.shape[along] / 2
    inner = np.arange(1, len(counts))
    k = int(inner[np.argmin(counts[1:] + abs(inner - middle) / len(counts))])
    for part, offset in zip(np.split(flagged, [k], axis=along), (0, k), strict=True):
        shifted = list(corner)
        shifted[along] += offset
        yield from _cut(part, (shifted[0], shifted[1]), least)
