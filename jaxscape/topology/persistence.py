"""The minima, maxima and saddles of a sampled grid, ranked by persistence; minimax paths on it."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import check_type
from jaxscape.results.landscape import Cell, Landscape
from jaxscape.topology.merge_tree import SIDES, SIDES_AND_CORNERS, MergeTree, follow, merge_tree

_MAX_MINIMA_SHOWN = 4
"""The number of minima printed, the most persistent ones."""


class Extremum(NamedTuple):
    """A minimum or maximum of a grid, and the saddle where its component merges into another."""

    cell: Cell
    """The cell of the minimum or maximum."""
    persistence: float
    """The loss difference between the extremum and its saddle; inf without a saddle."""
    saddle: Cell | None
    """The cell where its component first meets that of a lower minimum or higher maximum."""
    into: int | None
    """The index of that extremum in the same tuple; None if there is none or if the component
    merges into the outside."""


@dataclass(frozen=True, eq=False)
class Persistence:
    """The grid's minima and maxima, ranked by persistence.

    Example:
        >>> a, b = np.linspace(-1.5, 1.5, 61), np.linspace(-1, 1, 41)
        >>> wells = (a[:, None] ** 2 - 1) ** 2 + a[:, None] / 10 + b[None] ** 2
        >>> surface = jxs.Landscape(wells, jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense")
        >>> jxs.topology.persistence(surface)
        Persistence of 61 × 41 cells: 2 minima, 1 saddle between, 0 maxima inside
          lowest: loss -0.1 at w1 = -1, w2 = 0
          0.9 deep: loss 0.1 at w1 = 1, w2 = 0, saddle at w1 = 0.05, w2 = 0
    """

    minima: tuple[Extremum, ...]
    """The minima, most persistent first; equal persistence is sorted by loss, then by index. The
    lowest minimum of each connected part of the finite cells never merges."""
    maxima: tuple[Extremum, ...]
    """The maxima inside the grid, in the same order. One whose component meets no higher maximum
    merges into the outside."""
    label: np.ndarray
    """(n1, n2) int32: the index in `minima` of the minimum that steepest descent from each cell
    reaches; -1 for cells that are not finite. Each step goes to the lowest of the 8 neighbors,
    whatever their distances."""
    surface: Landscape
    """The grid."""

    def deep(self, depth: float) -> tuple[Extremum, ...]:
        """Return the minima whose persistence is at least `depth`, which come first in `minima`.

        Args:
            depth: the smallest persistence, in units of the loss.

        Raises:
            ValueError: `depth` is negative or NaN.

        Example:
            >>> axes = jxs.Axis(np.arange(2.0), "w1"), jxs.Axis(np.arange(4.0), "w2")
            >>> loss = np.array([[0.0, 5, 4, 2], [3, 6, 5, 7]])
            >>> found = jxs.topology.persistence(jxs.Landscape(loss, *axes, "loss", "dense"))
            >>> len(found.minima), len(found.deep(4))
            (2, 1)
        """
        if not depth >= 0:
            raise ValueError(f"depth: expected a number that is not negative, got {depth}")
        return tuple(minimum for minimum in self.minima if minimum.persistence >= depth)

    def area_below(self, level: float) -> float:
        """Return the area of the finite cells with a loss of at most `level`.

        A cell's area is that of the rectangle that extends halfway to its neighbors, within the
        grid.

        Args:
            level: the highest loss.

        Returns:
            The area, in units of a times units of b.

        Raises:
            ValueError: `level` is NaN.
        """
        if np.isnan(level):
            raise ValueError("level: expected a number, got nan")
        loss = np.asarray(self.surface.loss)
        a, b = map(_cell_widths, (self.surface.a.values, self.surface.b.values))
        return float(a @ ((loss <= level) & np.isfinite(loss)) @ b)

    def __repr__(self) -> str:
        n1, n2 = self.surface.shape
        saddles = sum(minimum.saddle is not None for minimum in self.minima)
        lines = [
            f"Persistence of {n1} × {n2} cells: {_count(len(self.minima), 'minimum', 'minima')}, "
            f"{_count(saddles, 'saddle', 'saddles')} between, "
            f"{_count(len(self.maxima), 'maximum', 'maxima')} inside"
        ]
        for k, (cell, depth, saddle, _) in enumerate(self.minima[:_MAX_MINIMA_SHOWN]):
            minimum = f"loss {cell.loss:.3g} at {self._coordinates(cell)}"
            if saddle is None:
                lines.append(f"{'lowest of another part' if k else 'lowest'}: {minimum}")
            else:
                lines.append(f"{depth:.3g} deep: {minimum}, saddle at {self._coordinates(saddle)}")
        if rest := self.minima[_MAX_MINIMA_SHOWN:]:
            others = _count(len(rest), "other", "others")
            lines.append(f"{others}, up to {rest[0].persistence:.3g} deep")
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        """Show the basins of the minima as colors in a notebook."""
        axes = (self.surface.a, self.surface.b)
        a, b = (np.asarray(axis.values, float) for axis in axes)
        names = (axes[0].name, axes[1].name)
        return thumbnails.label_map(self.label, a, b, names) + thumbnails.text(self)

    def _coordinates(self, cell: Cell) -> str:
        return f"{self.surface.a.name} = {cell.a:.3g}, {self.surface.b.name} = {cell.b:.3g}"


def persistence(landscape: Landscape) -> Persistence:
    """Find the minima and maxima of a grid and their persistence.

    As the level rises, the cells below it form components. A component is born at each minimum.
    When two components meet, at a saddle, that of the higher minimum ends (the elder rule).

    Low cells are connected by sides and corners, high cells by sides only, so that the holes of the
    low components are the high components. The outside counts as a high component that never ends:
    a maximum on the boundary belongs to it and is not listed. Of two equal losses, the one with the
    lower index counts as lower for minima and as higher for maxima. Extrema of persistence 0 are
    not listed.

    Cells that are not finite belong to no minimum. For maxima, they count as outside.

    Args:
        landscape: the grid.

    Returns:
        A `Persistence`.

    Raises:
        TypeError: `landscape` is not a `Landscape`.
        ValueError: No cell is finite.

    Source:
        Edelsbrunner, Letscher and Zomorodian 2002, Topological persistence and simplification;
        Bleile et al. 2022, arXiv 2102.11397, on the duality of the two kinds of neighbors.

    Example:
        >>> axes = jxs.Axis(np.arange(2.0), "w1"), jxs.Axis(np.arange(4.0), "w2")
        >>> loss = np.array([[0.0, 5, 4, 2], [3, 6, 5, 7]])
        >>> found = jxs.topology.persistence(jxs.Landscape(loss, *axes, "loss", "dense"))
        >>> [(minimum.cell.loss, minimum.persistence) for minimum in found.minima]
        [(0.0, inf), (2.0, 3.0)]
        >>> found.label
        array([[0, 0, 1, 1],
               [0, 0, 1, 1]], dtype=int32)
        >>> found.area_below(3)
        0.75
    """
    check_type("landscape", landscape, Landscape)
    loss = np.asarray(landscape.loss, np.float64)
    if not np.isfinite(loss).any():
        raise ValueError("landscape: expected at least one finite cell, got none")
    minima, label = _extrema(landscape, 1, SIDES_AND_CORNERS)
    maxima, _ = _extrema(landscape, -1, SIDES)
    return Persistence(minima, maxima, label, landscape)


def minimax_cells(
    landscape: Landscape, start: Cell | Sequence[int], end: Cell | Sequence[int]
) -> tuple[Cell, ...]:
    """Return the cells of the minimax path between two cells of a grid.

    The highest loss on the path is the lowest possible. From every saddle that it crosses, the path
    follows steepest descent on both sides.

    Args:
        landscape: the grid.
        start: the first cell, as a `Cell` or as indices (i, j).
        end: the last cell, as a `Cell` or as indices (i, j).

    Returns:
        The cells from start to end. Consecutive cells share a side or a corner.

    Raises:
        TypeError: `landscape` is not a `Landscape`, or a cell is not given by two integers.
        ValueError: A cell is outside the grid or is not finite, or no path of finite cells connects
            the two.

    Example:
        >>> from jaxscape.topology.persistence import minimax_cells
        >>> axes = jxs.Axis(np.arange(3.0), "w1"), jxs.Axis(np.arange(3.0), "w2")
        >>> loss = np.array([[0.0, 9, 1], [1, 9, 2], [4, 3, 5]])
        >>> surface = jxs.Landscape(loss, *axes, "loss", "dense")
        >>> [cell.loss for cell in minimax_cells(surface, (0, 0), (0, 2))]
        [0.0, 1.0, 3.0, 2.0, 1.0]
    """
    check_type("landscape", landscape, Landscape)
    loss = np.asarray(landscape.loss, np.float64)
    ends = [_parse_cell(name, cell, loss) for name, cell in (("start", start), ("end", end))]
    tree = merge_tree(loss, 1, SIDES_AND_CORNERS)
    first, last = (int(tree.rank[cell]) for cell in ends)
    bridges = _bridges(tree, int(tree.basin[first]), int(tree.basin[last]))
    if bridges is None:
        raise ValueError(
            f"end: expected a cell that finite cells connect with start, {ends[0]}, got {ends[1]}"
        )
    stops = [first, *(rank for bridge in bridges for rank in bridge), last]
    path: dict[int, None] = {}
    for begin, finish in zip(stops[::2], stops[1::2], strict=True):
        for rank in (*_descend(tree.descent, begin), *reversed(_descend(tree.descent, finish))):
            while rank in path and next(reversed(path)) != rank:
                path.popitem()  # the path is back at this cell: remove the loop
            path[rank] = None
    return tuple(_cells(landscape, loss, tree.cells[list(path)]))


def _extrema(
    landscape: Landscape, sign: int, steps: tuple[tuple[int, int], ...]
) -> tuple[tuple[Extremum, ...], np.ndarray]:
    """Return the minima of sign * loss by persistence, and the label of every cell."""
    loss = np.asarray(landscape.loss, np.float64)
    cells, rank, _, basin, minima, into, bridge = merge_tree(loss, sign, steps)
    saddle, merges = bridge[:, 0], into >= 0
    level = sign * loss.ravel()[cells]
    depth = np.full(len(minima), np.inf)
    with np.errstate(over="ignore"):
        depth[merges] = level[saddle[merges]] - level[minima[merges]]
    kept = np.flatnonzero((depth > 0) & (cells[minima] >= 0))
    kept = kept[np.argsort(-depth[kept], kind="stable")]
    position = np.full(len(minima) + 1, -1)  # the last entry is read for `into` = -1
    position[kept] = np.arange(len(kept))
    listed = position[follow(np.where(merges & (depth == 0), into, np.arange(len(minima))))]
    label = listed[basin[rank]].astype(np.int32)

    extremum_cells = _cells(landscape, loss, cells[minima[kept]])
    saddle_cells = _cells(landscape, loss, cells[saddle[kept]])
    extrema = tuple(
        Extremum(cell, height, over if merging else None, parent if parent >= 0 else None)
        for cell, height, over, merging, parent in zip(
            extremum_cells,
            depth[kept].tolist(),
            saddle_cells,
            merges[kept].tolist(),
            position[into[kept]].tolist(),
            strict=True,
        )
    )
    return extrema, label


def _cells(landscape: Landscape, loss: np.ndarray, flat: np.ndarray) -> list[Cell]:
    # The flat index -1 means no cell. It yields an arbitrary cell, which the callers ignore.
    i, j = np.unravel_index(flat % loss.size, loss.shape)
    a, b = (np.asarray(axis.values, float) for axis in (landscape.a, landscape.b))
    columns = (i, j, a[i], b[j], loss[i, j])
    return [Cell(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _bridges(tree: MergeTree, origin: int, goal: int) -> list[tuple[int, int]] | None:
    """Return the bridges between two basins along the merge tree; None if it is disconnected."""
    leaving: dict[int, list[tuple[int, int]]] = {}
    for upper, lower in tree.bridge[tree.into >= 0].tolist():
        leaving.setdefault(int(tree.basin[upper]), []).append((upper, lower))
        leaving.setdefault(int(tree.basin[lower]), []).append((lower, upper))
    came_by, reached = {origin: (-1, -1)}, [origin]
    for basin in reached:
        for bridge in leaving.get(basin, ()):
            if (neighbor := int(tree.basin[bridge[1]])) not in came_by:
                came_by[neighbor] = bridge
                reached.append(neighbor)
    if goal not in came_by:
        return None
    bridges: list[tuple[int, int]] = []
    while goal != origin:
        bridges.append(came_by[goal])
        goal = int(tree.basin[came_by[goal][0]])
    return bridges[::-1]


def _descend(descent: np.ndarray, rank: int) -> list[int]:
    """Return the ranks of the cells on the steepest descent from a cell to its minimum."""
    ranks = [rank]
    while (lower := int(descent[rank])) != rank:
        ranks.append(rank := lower)
    return ranks


def _cell_widths(values: Any) -> np.ndarray:
    """Return, for each value of an axis, the width of the section of the axis closest to it."""
    values = np.asarray(values, float)
    middles = (values[1:] + values[:-1]) / 2
    return np.diff(np.concatenate([values[:1], middles, values[-1:]]))


def _count(n: int, singular: str, plural: str) -> str:
    return f"{n:,} {singular if n == 1 else plural}"


def _parse_cell(name: str, cell: Any, loss: np.ndarray) -> tuple[int, int]:
    """Check that a `Cell` or (i, j) is a finite cell of the grid, and return its indices."""
    try:
        i, j = map(operator.index, cell[:2])
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a Cell or (i, j), got {cell!r}") from None
    n1, n2 = loss.shape
    if not (0 <= i < n1 and 0 <= j < n2):
        raise ValueError(f"{name}: expected a cell of the {n1} × {n2} grid, got ({i}, {j})")
    if not np.isfinite(loss[i, j]):
        raise ValueError(f"{name}: expected a finite loss, got {loss[i, j]} at ({i}, {j})")
    return i, j
