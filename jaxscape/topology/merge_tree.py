"""The merge tree of a grid: its basins, and how they merge as the level rises (union-find)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Half of the neighbors of a cell. The other half are the same steps backward.
SIDES = ((0, 1), (1, 0))
SIDES_AND_CORNERS = (*SIDES, (1, 1), (1, -1))


class MergeTree(NamedTuple):
    """The m finite cells by rank, from the lowest up, and the merging of their k basins.

    The wall stands for the cells that are not finite and for the outside of the grid. It is one
    cell with a basin of its own, the last one for minima and the first one for maxima.
    """

    cells: np.ndarray
    """(m + 1,) the flat index of the cell at each rank; -1 for the wall."""
    rank: np.ndarray
    """(n1, n2) the rank of each cell."""
    descent: np.ndarray
    """(m + 1,) the rank of the lowest neighbor; a minimum's own rank."""
    basin: np.ndarray
    """(m + 1,) the index of the minimum that steepest descent leads to."""
    minima: np.ndarray
    """(k,) the ranks of the minima, increasing."""
    into: np.ndarray
    """(k,) the index of the minimum that each one merges into; -1 for none."""
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
        # No rank occurs twice in x or in y, except the wall's.
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
    into, last = _merge(len(minima), x[lowest].tolist(), y[lowest].tolist())
    bridge = np.append(ordered[lowest], [[-1, -1]], axis=0)[last]
    # Where several basins meet at one saddle, all of them merge into the lowest.
    while (again := (into >= 0) & (bridge[into, 0] == bridge[:, 0])).any():
        into[again] = into[into[again]]
    return MergeTree(cells, rank, descent, basin, minima, into, bridge)


def _neighbors(
    padded: np.ndarray, steps: tuple[tuple[int, int], ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs of neighboring cells, for one step after the other."""
    n1, n2 = padded.shape
    for i, j in steps:
        left, right = max(-j, 0), max(j, 0)
        yield padded[: n1 - i, left : n2 - right].ravel(), padded[i:, right : n2 - left].ravel()


def follow(step: np.ndarray) -> np.ndarray:
    """Return the fixed point that repeated steps from k to `step[k]` reach, for each index k."""
    while not np.array_equal(further := step[step], step):
        step = further
    return step


def _merge(k: int, firsts: list[int], seconds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Merge k basins along edges between them, the lowest edge first.

    Returns:
        The basin that each one merges into, (k,), and the index of the edge, (k,); -1 for none.
    """
    root, into, last = list(range(k)), [-1] * k, [-1] * k
    for edge, (x, y) in enumerate(zip(firsts, seconds, strict=True)):
        while root[x] != x:
            root[x] = x = root[root[x]]
        while root[y] != y:
            root[y] = y = root[root[y]]
        if x != y:
            low, high = min(x, y), max(x, y)
            root[high] = into[high] = low
            last[high] = edge
    return np.array(into), np.array(last)
