"""The basins of a grid, and how they merge as the level rises: union and find."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Half of the neighbors of a cell; the others are the same steps backward.
SIDES = ((0, 1), (1, 0))
SIDES_AND_CORNERS = (*SIDES, (1, 1), (1, -1))


class Forest(NamedTuple):
    """The m finite cells by rank, from the lowest up, and how their k basins merge.

    The wall, of one rank for all of its cells, is a basin of its own: the last for minima, the
    first for maxima, where it is the outside.
    """

    cells: np.ndarray
    """(m + 1,) the flat index at each rank; -1 for the wall."""
    rank: np.ndarray
    """(n1, n2)"""
    down: np.ndarray
    """(m + 1,) the rank of the lowest neighbor; its own at a minimum."""
    basin: np.ndarray
    """(m + 1,) which minimum that leads to."""
    minima: np.ndarray
    """(k,) their ranks, increasing."""
    into: np.ndarray
    """(k,) the minimum each merges into; -1 for none."""
    bridge: np.ndarray
    """(k, 2) the ranks of the two neighbors where it does, the pass first."""


def forest_of(loss: np.ndarray, sign: int, steps: tuple[tuple[int, int], ...]) -> Forest:
    """The basins of sign * loss, (n1, n2), and how they merge across these steps."""
    flat = sign * loss.ravel()
    finite = np.flatnonzero(np.isfinite(flat))
    wall = len(finite) if sign > 0 else 0
    cells = np.insert(finite[np.argsort(flat[finite], kind="stable")], wall, -1)
    down = np.arange(len(cells))
    rank = np.full(loss.shape, wall)
    rank.flat[cells[down != wall]] = down[down != wall]
    padded = np.pad(rank, 1, constant_values=wall)
    for x, y in _neighbors(padded, steps):
        # No rank occurs twice, but for the wall's.
        down[x] = np.minimum(down[x], y)
        down[y] = np.minimum(down[y], x)
    down[wall] = wall
    minima, basin = np.unique(ends(down), return_inverse=True)

    chosen = []
    for x, y in _neighbors(padded, steps):
        over = np.maximum(x, y)
        across = np.flatnonzero((basin[x] != basin[y]) & (over != wall))
        chosen.append(np.stack([over[across], np.minimum(x, y)[across]]))
    over, under = np.concatenate(chosen, axis=1)
    order = np.argsort(over * len(cells) + under)
    bridges = np.stack([over, under], axis=1)[order]
    x, y = basin[bridges].T
    # Of two basins that touch, the first of their bridges, which is the lowest.
    _, lowest = np.unique(np.minimum(x, y) * len(minima) + np.maximum(x, y), return_index=True)
    lowest.sort()
    into, last = _merge(len(minima), x[lowest].tolist(), y[lowest].tolist())
    bridge = np.append(bridges[lowest], [[-1, -1]], axis=0)[last]
    # Where several meet at one pass, all of them merge into the lowest.
    while (again := (into >= 0) & (bridge[into, 0] == bridge[:, 0])).any():
        into[again] = into[into[again]]
    return Forest(cells, rank, down, basin, minima, into, bridge)


def _neighbors(
    padded: np.ndarray, steps: tuple[tuple[int, int], ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each step, all pairs of cells that it leads between."""
    n1, n2 = padded.shape
    for i, j in steps:
        left, right = max(-j, 0), max(j, 0)
        yield padded[: n1 - i, left : n2 - right].ravel(), padded[i:, right : n2 - left].ravel()


def ends(step: np.ndarray) -> np.ndarray:
    """Where each index comes to rest, going from it to `step` of it again and again."""
    while not np.array_equal(further := step[step], step):
        step = further
    return step


def _merge(k: int, firsts: list[int], seconds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each of k basins, which it merges into and at which of the passes, the lowest first."""
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
