"""Where a grid is too coarse for its surface or for a path on it, and finer patches there.

Rectangles that cover the flagged cells of a grid (Berger and Rigoutsos 1991).
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.warnings import NonFiniteWarning
from jaxscape.grid.landscape import whole_landscape
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis, Landscape
from jaxscape.results.trajectory import Projection, Trajectory

_LONGEST_SIDE = 1024
"""Values along a patch."""
_DEEPEST = 4
"""Patches within patches around steps that grow ever shorter."""
_NODES_AT_ONCE = 2**24


class Place(NamedTuple):
    """Where on the plane, and how far off the interpolation is there."""

    a: float
    b: float
    error: float


@dataclass(frozen=True, eq=False)
class Refinement:
    """How well a grid shows its surface and the paths on it, and finer patches where it does not.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 9), w2=(-2, 2, 11))
        >>> jxs.refine(surface, jxs.squared_error, data, tolerance=0.1)
        Refinement of 9 × 11 nodes:
          interpolation is off by up to 0.218, 4 % of the range, at w1 = ..., w2 = ...
          6 of 80 cells are off by more than 0.1
          2 patches: 7 × 5, 7 × 5
    """

    surface: Landscape
    """The grid."""
    interpolation_error: np.ndarray
    """(n1 - 1, n2 - 1) float: the largest |loss - bilinear interpolation of the nodes| found in
    each cell, at its center and the middles of its edges; NaN where not all of these are finite."""
    tolerance: float
    """The error from which on a cell is too coarse, in units of the loss."""
    smallest_step: tuple[float, ...]
    """For each path, its shortest recorded step in cells of the grid; NaN without one inside."""
    patches: tuple[Landscape, ...]
    """Finer landscapes of where cells are too coarse, then of where steps are short, each of the
    latter within the one before it if steps are shorter still."""

    @property
    def largest(self) -> Place | None:
        """The largest error found, and the middle of its cell; None where none could be judged."""
        if np.isnan(self.interpolation_error).all():
            return None
        i, j = np.unravel_index(np.nanargmax(self.interpolation_error), self.too_coarse.shape)
        a, b = (
            float(np.mean(axis.values[k : k + 2]))
            for axis, k in ((self.surface.a, i), (self.surface.b, j))
        )
        return Place(a, b, float(self.interpolation_error[i, j]))

    @property
    def too_coarse(self) -> np.ndarray:
        """(n1 - 1, n2 - 1) bool: the cells whose error is over the tolerance."""
        return self.interpolation_error > self.tolerance

    def __repr__(self) -> str:
        a, b = self.surface.a.name, self.surface.b.name
        n1, n2 = self.surface.shape
        unjudged, cells = int(np.isnan(self.interpolation_error).sum()), (n1 - 1) * (n2 - 1)
        lines = [f"Refinement of {n1} × {n2} nodes:"]
        if place := self.largest:
            share = 100 * place.error / max(_range(self.surface), np.finfo(float).tiny)
            lines += [
                f"interpolation is off by up to {place.error:.3g}, {share:.2g} % of the range, "
                f"at {a} = {place.a:.4g}, {b} = {place.b:.4g}",
                f"{int(self.too_coarse.sum()):,} of {cells:,} cells are off by more than "
                f"{self.tolerance:.3g}",
            ]
        if unjudged:
            lines.append(f"{unjudged:,} of {cells:,} cells are not finite throughout")
        lines += [f"smallest step of a path: {step:.3g} cells" for step in self.smallest_step]
        sizes = ", ".join(" × ".join(map(str, patch.shape)) for patch in self.patches)
        lines.append(f"{len(self.patches)} patches" + (f": {sizes}" if sizes else ""))
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows: the errors of cells as colors, the largest marked."""
        place = self.largest
        if place is None:
            return thumbnails.text(self)
        axes = (self.surface.a, self.surface.b)
        a, b = (np.asarray(axis.values, float) for axis in axes)
        middles = (a[1:] + a[:-1]) / 2, (b[1:] + b[:-1]) / 2
        names, ends = (axes[0].name, axes[1].name), (0.0, place.error)
        drawn = thumbnails.surface(self.interpolation_error, *middles, names, ends, place[:2])
        return drawn + thumbnails.text(self)


def refine(
    surface: Landscape,
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    *paths: Trajectory | Projection,
    plane: Plane | None = None,
    tolerance: float | None = None,
) -> Refinement:
    """Find where a grid is too coarse, and compute finer patches there.

    Between its nodes the surface is compared with the true loss: at the center of every cell and
    in the middle of every edge. The interpolation's error falls with the square of the spacing
    where the loss is smooth, which sets how much finer a patch is. A path needs a finer grid where
    its steps are shorter than a cell.

    Args:
        surface: the grid.
        loss, data, plane: what it was computed from.
        paths: descents whose parameters are named as the surface's axes, as `Weights` are, or
            what `project` makes of any other's.
        tolerance: the interpolation error, in units of the loss, from which on a cell is too
            coarse; None for a hundredth of the surface's range.

    Returns:
        The errors, the paths' smallest steps, and the patches: up to 8 for the surface, found by
        cutting up the flagged cells (Berger and Rigoutsos 1991), of up to 1024 values a side.

    Raises:
        TypeError: what is no path.
        ValueError: a path of other coordinates; a loss, data or plane that does not give the
            surface's own values; a tolerance that is not positive; nodes with no number between
            them.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 9), w2=(-2, 2, 11))
        >>> jxs.refine(surface, jxs.squared_error, data).largest.error
        0.218...
    """
    if not isinstance(surface, Landscape):
        raise TypeError(f"surface: expected a Landscape, got {type(surface).__name__}")
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance: expected a positive finite number, got {tolerance}")
    axes = np.asarray(surface.a.values), np.asarray(surface.b.values)
    walked = [_coordinates(path, surface) for path in paths]
    if tolerance is None:
        tolerance = _range(surface) / 100
        # A surface that is flat is off by rounding at most.
        tolerance = tolerance or float(np.finfo(axes[0].dtype).tiny)

    def patch(a: np.ndarray, b: np.ndarray) -> Landscape:
        given: dict[str, Any] = {surface.a.name: a, surface.b.name: b}
        return whole_landscape(loss, data, plane, **given)

    error = interpolation_error(surface, patch)
    patches = []
    for box in rectangles(error > tolerance):
        # A quarter to spare: a cell's error is largest between the places it is measured at.
        factor = math.sqrt(1.25 * np.nanmax(error[box]) / tolerance)
        patches.append(patch(*_finer(axes, box, factor)))
    for points in walked:
        patches += [patch(*finer) for finer in _around_short_steps(axes, points)]
    steps = tuple(float(min(_steps(axes, points), default=math.nan)) for points in walked)
    return Refinement(surface, error, float(tolerance), steps, tuple(patches))


def _range(surface: Landscape) -> float:
    highest, lowest = surface.highest, surface.lowest
    return 0.0 if highest is None or lowest is None else highest - lowest.loss


def _coordinates(path: Trajectory | Projection, surface: Landscape) -> np.ndarray:
    """(T, 2) the points of a path that were recorded before it left the finite numbers."""
    if not isinstance(path, Trajectory | Projection):
        raise TypeError(f"paths: expected a Trajectory or a Projection, got {type(path).__name__}")
    kept = path.until_divergence() if isinstance(path, Trajectory) else path
    names = surface.a.name, surface.b.name
    return np.column_stack([np.asarray(kept.coordinate(name), float) for name in names])


def interpolation_error(surface: Landscape, patch: Callable[..., Landscape]) -> np.ndarray:
    """(n1 - 1, n2 - 1) the largest error of bilinear interpolation found in each cell.

    Args:
        surface: the grid.
        patch: two axes' values -> the landscape of the same loss there.

    Raises:
        ValueError: a patch that does not give the surface's own values.
    """
    a, b = (_with_midpoints(axis) for axis in (surface.a, surface.b))
    rows = max(1, _NODES_AT_ONCE // (2 * len(b)))
    blocks = []
    for start in range(0, len(surface.a) - 1, rows):
        with warnings.catch_warnings():
            # Said by the result: cells that could not be judged.
            warnings.simplefilter("ignore", NonFiniteWarning)
            true = patch(a[2 * start : 2 * (start + rows) + 1], b)
        losses = np.asarray(true.loss)
        nodes = losses[::2, ::2]
        _refuse_another_surface(surface, start, nodes)
        blocks.append(_largest_in_cells(losses, np.asarray(nodes, float)))
    return np.concatenate(blocks)


def _largest_in_cells(losses: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, and meant to be
        along_a = abs(losses[1::2, ::2] - (nodes[:-1] + nodes[1:]) / 2)
        along_b = abs(losses[::2, 1::2] - (nodes[:, :-1] + nodes[:, 1:]) / 2)
        middle = nodes[:-1, :-1] + nodes[:-1, 1:] + nodes[1:, :-1] + nodes[1:, 1:]
        center = abs(losses[1::2, 1::2] - middle / 4)
    found = (center, along_a[:, :-1], along_a[:, 1:], along_b[:-1], along_b[1:])
    largest = np.max(found, axis=0)  # NaN if any is
    return np.where(np.isinf(largest), np.nan, largest)


def _with_midpoints(axis: Axis) -> np.ndarray:
    """(2n - 1,) the values and the middles between them."""
    values = np.asarray(axis.values)
    middles = (values[:-1] / 2 + values[1:] / 2).astype(values.dtype)
    between = (values[:-1] < middles) & (middles < values[1:])
    if not between.all():
        k = int(np.argmin(between))
        raise ValueError(
            f"surface: expected values of {axis.name} with a {values.dtype} between them, got "
            f"{values[k]} and {values[k + 1]}"
        )
    both = np.empty(2 * len(values) - 1, values.dtype)
    both[::2], both[1::2] = values, middles
    return both


def _refuse_another_surface(surface: Landscape, start: int, nodes: np.ndarray) -> None:
    given = np.asarray(surface.loss[start : start + len(nodes)])
    finite = np.isfinite(given) & np.isfinite(nodes)
    # Strategies differ by the rounding of their sums, which is far below half of the digits.
    allowed = np.sqrt(np.finfo(nodes.dtype).eps) * max(
        _range(surface), np.abs(given[finite]).max(initial=0.0)
    )
    apart = (np.isfinite(given) != np.isfinite(nodes)) | (
        finite & (np.abs(np.where(finite, given, 0) - np.where(finite, nodes, 0)) > allowed)
    )
    if apart.any():
        i, j = np.unravel_index(np.argmax(apart), apart.shape)
        a, b = surface.a, surface.b
        raise ValueError(
            f"surface: expected the values of this loss, data and plane, {nodes[i, j]:g} at "
            f"{a.name} = {a.values[start + i]:g}, {b.name} = {b.values[j]:g}, "
            f"got {given[i, j]:g}"
        )


def _finer(
    axes: tuple[np.ndarray, np.ndarray], box: tuple[slice, slice], factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Values over the cells of a box, each cell cut into `factor` parts or as many as may be."""
    finer = []
    for values, cells in zip(axes, box, strict=True):
        n = cells.stop - cells.start
        parts = max(1, min(math.ceil(factor), (_LONGEST_SIDE - 1) // n))
        places = np.linspace(cells.start, cells.stop, n * parts + 1)
        fine = np.interp(places, np.arange(len(values)), values.astype(float))
        # Of values that round to one, one is left.
        finer.append(np.unique(fine.astype(values.dtype)))
    return finer[0], finer[1]


def _is_finer(fine: np.ndarray, values: np.ndarray, cells: slice) -> bool:
    return len(fine) > len(values[cells]) + 1


def _in_cells(axes: tuple[np.ndarray, np.ndarray], points: np.ndarray) -> np.ndarray:
    """(T, 2) points in units of cells, NaN outside of the grid."""
    columns = [
        np.interp(column, values.astype(float), np.arange(len(values)), np.nan, np.nan)
        for values, column in zip(axes, points.T, strict=True)
    ]
    return np.column_stack(columns)


def _steps(axes: tuple[np.ndarray, np.ndarray], points: np.ndarray) -> np.ndarray:
    """The lengths of the steps inside the grid, in cells."""
    lengths = np.hypot(*np.diff(_in_cells(axes, points), axis=0).T)
    return lengths[np.isfinite(lengths)]


def _around_short_steps(
    axes: tuple[np.ndarray, np.ndarray], points: np.ndarray, depth: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Finer axes around each run of steps shorter than a cell, and again within them."""
    places = _in_cells(axes, points)
    lengths = np.hypot(*np.diff(places, axis=0).T)
    short = np.concatenate([[False], lengths < 1, [False]])
    starts, ends = np.flatnonzero(np.diff(short.astype(int))).reshape(-1, 2).T
    for start, end in zip(starts, ends, strict=True):
        run = places[start : end + 1]
        # With a cell to each side, as far as there are any.
        box = tuple(
            slice(max(0, math.floor(low) - 1), min(len(values) - 1, math.ceil(high) + 1))
            for values, low, high in zip(axes, run.min(axis=0), run.max(axis=0), strict=True)
        )
        shortest = float(lengths[start:end].min())
        finer = _finer(axes, (box[0], box[1]), 1 / max(shortest, 1 / _LONGEST_SIDE))
        yield finer
        if depth + 1 < _DEEPEST and any(map(_is_finer, finer, axes, box)):
            yield from _around_short_steps(finer, points[start : end + 1], depth + 1)


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
