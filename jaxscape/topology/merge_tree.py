"""The merge tree of a grid: its basins, and how they merge as the level rises (union-find)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# The steps from a cell to half of its neighbors. The opposite steps lead to the other half.
SIDES = ((0, 1), (1, 0))
SIDES_AND_CORNERS = (*SIDES, (1, 1), (1, -1))


class MergeTree(NamedTuple):
    """The m finite cells in order of their loss, and the merging of their k basins.

    A cell's rank is its position in this order. One extra cell, the wall, stands for all cells that
    are not finite and for the outside of the grid. It has its own basin and the highest rank for
    minima, the lowest for maxima.
    """

    cells: np.ndarray
    """(m + 1,) the flat index of the cell at each rank; -1 for the wall."""
    rank: np.ndarray
    """(n1, n2) the rank of each cell."""
    descent: np.ndarray
    """(m + 1,) the rank of each cell's lowest neighbor; a minimum's own rank."""
    basin: np.ndarray
    """(m + 1,) the index in `minima` of the minimum that steepest descent from a cell reaches."""
    minima: np.ndarray
    """(k,) the ranks of the minima, increasing."""
    into: np.ndarray
    """(k,) the index of the minimum whose basin each basin merges into; -1 for none."""
    bridge: np.ndarray
    """(k, 2) the ranks of the two neighbors that connect the merging basins, the saddle first."""


def merge_tree(loss: np.ndarray, sign: int, steps: tuple[tuple[int, int], ...]) -> MergeTree:
    """Compute the merge tree of sign * loss, (n1, n2), for neighbors at the given steps."""
    flat = sign * loss.ravel()
    finite = np.flatnonzero(np.isfinite(flat))
    wall = len(finite) if sign > 0 else 0
    cells = np.insert(finite[np.argsort(flat[finite], kind="stable")], wall, -1)
    descent = np.arange(len(cells))
    rank = np.full(loss.shape, wall)
    rank.flat[cells[descent != wall]] = descent[descent != wall]
    padded = np.pad(rank, 1, constant_values=wall)
    for x, y in _neighbors(padded, steps):
        # No rank except the wall's occurs twice in x or in y, so no assignment overwrites another.
        descent[x] = np.minimum(descent[x], y)
        descent[y] = np.minimum(descent[y], x)
    descent[wall] = wall
    minima, basin = np.unique(follow(descent), return_inverse=True)

    bridges = []
    for x, y in _neighbors(padded, steps):
        upper = np.maximum(x, y)
        across = np.flatnonzero((basin[x] != basin[y]) & (upper != wall))
        bridges.append(np.stack([upper[across], np.minimum(x, y)[across]]))
    upper, lower = np.concatenate(bridges, axis=1)
    order = np.argsort(upper * len(cells) + lower)
    ordered = np.stack([upper, lower], axis=1)[order]
    x, y = basin[ordered].T
    # The first bridge between two basins is their lowest.
    _, lowest = np.unique(np.minimum(x, y) * len(minima) + np.maximum(x, y), return_index=True)
    lowest.sort()
    into, edge = _merge(len(minima), x[lowest].tolist(), y[lowest].tolist())
    bridge = np.append(ordered[lowest], [[-1, -1]], axis=0)[edge]
    # If several basins meet at one saddle, all of them merge into the lowest.
    while (same_saddle := (into >= 0) & (bridge[into, 0] == bridge[:, 0])).any():
        into[same_saddle] = into[into[same_saddle]]
    return MergeTree(cells, rank, descent, basin, minima, into, bridge)


def _neighbors(
    padded: np.ndarray, steps: tuple[tuple[int, int], ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each step, the values of `padded` at all cells and at the cells one step away."""
    n1, n2 = padded.shape
    for i, j in steps:
        left, right = max(-j, 0), max(j, 0)
        yield padded[: n1 - i, left : n2 - right].ravel(), padded[i:, right : n2 - left].ravel()


def follow(step: np.ndarray) -> np.ndarray:
    """Return, for each index k, the fixed point that repeated steps k → `step[k]` reach."""
    while not np.array_equal(further := step[step], step):
        step = further
    return step


def _merge(k: int, firsts: list[int], seconds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Merge k basins along edges between them, the lowest edge first.

    Returns:
        The basin that each basin merges into, (k,), and the index of the edge along which it does,
        (k,); -1 for none.
    """
    root, into, merging_edge = list(range(k)), [-1] * k, [-1] * k
    for edge, (x, y) in enumerate(zip(firsts, seconds, strict=True)):
        while root[x] != x:
            root[x] = x = root[root[x]]
        while root[y] != y:
            root[y] = y = root[root[y]]
        if x != y:
            low, high = min(x, y), max(x, y)
            root[high] = into[high] = low
            merging_edge[high] = edge
    return np.array(into), np.array(merging_edge)
