"""The shape of a sampled grid as a whole: its minima, maxima and passes, by persistence."""

import operator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxscape._util import thumbnails
from jaxscape.results.landscape import Cell, Landscape
from jaxscape.topology.merge_tree import SIDES, SIDES_AND_CORNERS, Forest, ends, forest_of

_SHOWN = 4
"""Minima that are printed, the most persistent ones."""


class Extremum(NamedTuple):
    """A minimum or a maximum of a grid, and the pass where it merges into one beyond it."""

    cell: Cell
    """Where it is."""
    persistence: float
    """How deep a minimum lies below its pass, or how high a maximum above; inf without a pass."""
    saddle: Cell | None
    """The pass: where its component first meets that of a lower minimum or higher maximum."""
    into: int | None
    """Which one that is, as an index into the same tuple; None for none and for the outside."""


@dataclass(frozen=True, eq=False)
class Persistence:
    """The minima and maxima of a grid, by how far one has to climb or fall to leave them.

    Example:
        >>> a, b = np.linspace(-1.5, 1.5, 61), np.linspace(-1, 1, 41)
        >>> wells = (a[:, None] ** 2 - 1) ** 2 + a[:, None] / 10 + b[None] ** 2
        >>> surface = jxs.Landscape(wells, jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense")
        >>> jxs.topology.persistence(surface)
        Persistence of 61 × 41 cells: 2 minima, 1 saddle between, 0 maxima inside
          lowest: loss -0.1 at w1 = -1, w2 = 0
          0.9 deep: loss 0.1 at w1 = 1, w2 = 0, pass at w1 = 0.05, w2 = 0
    """

    minima: tuple[Extremum, ...]
    """The most persistent first, ties by loss, then by index; the lowest of each connected part of
    the finite cells never merges."""
    maxima: tuple[Extremum, ...]
    """Those inside, likewise; the last of them merge into the outside."""
    label: np.ndarray
    """(n1, n2) int32: which of `minima` steepest descent from each cell leads to, going to the
    lowest of the 8 neighbors whatever their distance; -1 for cells that are not finite."""
    surface: Landscape
    """The grid."""

    def deep(self, depth: float) -> tuple[Extremum, ...]:
        """The minima whose persistence is at least `depth`, the first few of `minima`.

        Raises:
            ValueError: a depth that is negative or NaN.
        """
        if not depth >= 0:
            raise ValueError(f"depth: expected a number that is not negative, got {depth}")
        return tuple(found for found in self.minima if found.persistence >= depth)

    def area_below(self, level: float) -> float:
        """The area, in units of a times units of b, of the finite cells with loss <= level.

        Each cell counts for the rectangle half way to its neighbors, within the grid.

        Raises:
            ValueError: a level that is NaN.
        """
        if np.isnan(level):
            raise ValueError("level: expected a number, got nan")
        loss = np.asarray(self.surface.loss)
        a, b = map(_widths, (self.surface.a.values, self.surface.b.values))
        return float(a @ ((loss <= level) & np.isfinite(loss)) @ b)

    def __repr__(self) -> str:
        n1, n2 = self.surface.shape
        saddles = sum(found.saddle is not None for found in self.minima)
        lines = [
            f"Persistence of {n1} × {n2} cells: {_count(len(self.minima), 'minimum', 'minima')}, "
            f"{_count(saddles, 'saddle', 'saddles')} between, "
            f"{_count(len(self.maxima), 'maximum', 'maxima')} inside"
        ]
        for k, (cell, depth, saddle, _) in enumerate(self.minima[:_SHOWN]):
            at = f"loss {cell.loss:.3g} at {self._where(cell)}"
            if saddle is None:
                lines.append(f"{'lowest of another part' if k else 'lowest'}: {at}")
            else:
                lines.append(f"{depth:.3g} deep: {at}, pass at {self._where(saddle)}")
        if rest := self.minima[_SHOWN:]:
            others = _count(len(rest), "other", "others")
            lines.append(f"{others}, up to {rest[0].persistence:.3g} deep")
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows: the cells from which descent leads to each minimum, as colors."""
        axes = (self.surface.a, self.surface.b)
        a, b = (np.asarray(axis.values, float) for axis in axes)
        names = (axes[0].name, axes[1].name)
        return thumbnails.kinds(self.label, a, b, names) + thumbnails.text(self)

    def _where(self, cell: Cell) -> str:
        return f"{self.surface.a.name} = {cell.a:.3g}, {self.surface.b.name} = {cell.b:.3g}"


def persistence(landscape: Landscape) -> Persistence:
    """Find the minima and maxima of a grid, and how far each stands out.

    As the level rises, the cells below it form components: one is born at each minimum, and where
    two meet, at a pass, that of the higher minimum ends. Components of low cells hold together by
    sides and corners, those of high cells by sides only, so that the latter lie in the holes of
    the former. The outside counts as a high component that has always been there: a maximum on
    the border is part of it and not listed. Of equal losses the one of lower index counts as the
    lower (for maxima, the higher), and what then merges without any climb is not listed.

    Cells that are not finite are walls: they belong to no minimum, and to the outside for maxima.

    Args:
        landscape: the grid.

    Returns:
        `Persistence`.

    Raises:
        TypeError: not a `Landscape`.
        ValueError: a landscape without a finite cell.

    Source:
        Edelsbrunner, Letscher and Zomorodian 2002, Topological persistence and simplification;
        Bleile et al. 2022, arXiv 2102.11397, on the duality of the two ways to be neighbors.

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
    _check_is_landscape(landscape)
    loss = np.asarray(landscape.loss, np.float64)
    if not np.isfinite(loss).any():
        raise ValueError("landscape: expected a finite cell at least, got none")
    minima, label = _extrema(landscape, 1, SIDES_AND_CORNERS)
    maxima, _ = _extrema(landscape, -1, SIDES)
    return Persistence(minima, maxima, label, landscape)


def path_between(landscape: Landscape, start: Any, end: Any) -> tuple[Cell, ...]:
    """The path on the grid between two cells whose highest loss is the lowest possible.

    From every pass that it crosses it goes down by steepest descent on both sides.

    Args:
        landscape: the grid.
        start, end: each a `Cell`, or (i, j).

    Returns:
        The cells from start to end, each a neighbor of the one before by a side or a corner.

    Raises:
        TypeError: not a `Landscape`, or a cell that is not given by two integers.
        ValueError: a cell outside the grid or not finite, or cells that no path of finite cells
            connects.

    Example:
        >>> from jaxscape.topology.persistence import path_between
        >>> axes = jxs.Axis(np.arange(3.0), "w1"), jxs.Axis(np.arange(3.0), "w2")
        >>> loss = np.array([[0.0, 9, 1], [1, 9, 2], [4, 3, 5]])
        >>> surface = jxs.Landscape(loss, *axes, "loss", "dense")
        >>> [cell.loss for cell in path_between(surface, (0, 0), (0, 2))]
        [0.0, 1.0, 3.0, 2.0, 1.0]
    """
    _check_is_landscape(landscape)
    loss = np.asarray(landscape.loss, np.float64)
    given = [_checked(name, cell, loss) for name, cell in (("start", start), ("end", end))]
    forest = forest_of(loss, 1, SIDES_AND_CORNERS)
    first, last = (int(forest.rank[cell]) for cell in given)
    bridges = _bridges(forest, int(forest.basin[first]), int(forest.basin[last]))
    if bridges is None:
        raise ValueError(f"end: no finite cells connect {given[1]} with start, {given[0]}")
    stops = [first, *(rank for bridge in bridges for rank in bridge), last]
    way: dict[int, None] = {}
    for begin, finish in zip(stops[::2], stops[1::2], strict=True):
        for rank in (*_descent(forest.down, begin), *reversed(_descent(forest.down, finish))):
            while rank in way and next(reversed(way)) != rank:
                way.popitem()  # back where it has been: the loop since then led nowhere
            way[rank] = None
    return tuple(_cells(landscape, loss, forest.cells[list(way)]))


def _extrema(
    landscape: Landscape, sign: int, steps: tuple[tuple[int, int], ...]
) -> tuple[tuple[Extremum, ...], np.ndarray]:
    """The minima of sign * loss, and the label of every cell."""
    loss = np.asarray(landscape.loss, np.float64)
    cells, rank, _, basin, minima, into, bridge = forest_of(loss, sign, steps)
    saddle, merges = bridge[:, 0], into >= 0
    level = sign * loss.ravel()[cells]
    depth = np.full(len(minima), np.inf)
    with np.errstate(over="ignore"):
        depth[merges] = level[saddle[merges]] - level[minima[merges]]
    kept = np.flatnonzero((depth > 0) & (cells[minima] >= 0))
    kept = kept[np.argsort(-depth[kept], kind="stable")]
    place = np.full(len(minima) + 1, -1)  # the last is where `into` = -1 leads
    place[kept] = np.arange(len(kept))
    listed = place[ends(np.where(merges & (depth == 0), into, np.arange(len(minima))))]
    label = listed[basin[rank]].astype(np.int32)

    found = _cells(landscape, loss, cells[minima[kept]])
    passes = _cells(landscape, loss, cells[saddle[kept]])
    extrema = tuple(
        Extremum(cell, height, over if merging else None, beyond if beyond >= 0 else None)
        for cell, height, over, merging, beyond in zip(
            found,
            depth[kept].tolist(),
            passes,
            merges[kept].tolist(),
            place[into[kept]].tolist(),
            strict=True,
        )
    )
    return extrema, label


def _cells(landscape: Landscape, loss: np.ndarray, flat: np.ndarray) -> list[Cell]:
    # -1, which stands for none, comes to a cell that nobody looks at.
    i, j = np.unravel_index(flat % loss.size, loss.shape)
    a, b = (np.asarray(axis.values, float) for axis in (landscape.a, landscape.b))
    columns = (i, j, a[i], b[j], loss[i, j])
    return [Cell(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _bridges(forest: Forest, origin: int, goal: int) -> list[tuple[int, int]] | None:
    """Those crossed between two basins along the spanning tree; None where none connect them."""
    leaving: dict[int, list[tuple[int, int]]] = {}
    for over, under in forest.bridge[forest.into >= 0].tolist():
        leaving.setdefault(int(forest.basin[over]), []).append((over, under))
        leaving.setdefault(int(forest.basin[under]), []).append((under, over))
    came, reached = {origin: (-1, -1)}, [origin]
    for basin in reached:
        for here, there in leaving.get(basin, ()):
            if (found := int(forest.basin[there])) not in came:
                came[found] = here, there
                reached.append(found)
    if goal not in came:
        return None
    way: list[tuple[int, int]] = []
    while goal != origin:
        way.append(came[goal])
        goal = int(forest.basin[came[goal][0]])
    return way[::-1]


def _descent(down: np.ndarray, rank: int) -> list[int]:
    way = [rank]
    while (lower := int(down[rank])) != rank:
        way.append(rank := lower)
    return way


def _widths(values: Any) -> np.ndarray:
    """How much of an axis is nearest to each of its values."""
    values = np.asarray(values, float)
    middles = (values[1:] + values[:-1]) / 2
    return np.diff(np.concatenate([values[:1], middles, values[-1:]]))


def _count(n: int, one: str, several: str) -> str:
    return f"{n:,} {one if n == 1 else several}"


def _check_is_landscape(landscape: Landscape) -> None:
    if not isinstance(landscape, Landscape):
        raise TypeError(f"landscape: expected a Landscape, got {type(landscape).__name__}")


def _checked(name: str, cell: Any, loss: np.ndarray) -> tuple[int, int]:
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
