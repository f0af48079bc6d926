"""Find where a grid is too coarse for its surface or for a path, and compute finer patches.

The patches are rectangles that cover the flagged cells of the grid (Berger and Rigoutsos 1991).
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import check_positive, check_type
from jaxscape._util.percent import percent
from jaxscape._util.warnings import NonFiniteWarning
from jaxscape.grid.landscape import whole_landscape
from jaxscape.losses.checks import ScalarLoss
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis, Landscape
from jaxscape.results.trajectory import Projection, Trajectory

Box = tuple[slice, slice]
"""A rectangle of cells: the slices of their indices along both axes."""

_MAX_SIDE = 1024
"""The most values along a side of a patch."""
_MAX_DEPTH = 4
"""The most patches inside each other, around shorter and shorter steps."""
_NODES_PER_BLOCK = 2**24
_MAX_RECTANGLES = 8
"""The number is small because each rectangle has its own shape, which is compiled separately."""
_MIN_SIDE = 4
"""A rectangle of at most this many cells per side is not cut further."""
_MIN_FLAGGED = 0.7
"""A rectangle with at least this fraction of flagged cells is not cut further."""


class CellError(NamedTuple):
    """The middle of a cell, and the interpolation error found in the cell."""

    a: float
    """The first coordinate."""
    b: float
    """The second coordinate."""
    error: float
    """The error, in units of the loss."""


@dataclass(frozen=True, eq=False)
class Refinement:
    """The interpolation errors of a grid, the step sizes of paths on it, and finer patches.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 9), w2=(-2, 2, 11))
        >>> jxs.refine(surface, jxs.squared_error, data, tolerance=0.1)
        Refinement of 9 × 11 nodes:
          interpolation, measured in the middles of cells and edges, is off by up to 0.218, ...
          6 of 80 cells are off by more than 0.1 there
          2 patches: 7 × 5, 7 × 5
    """

    surface: Landscape
    """The grid."""
    interpolation_error: np.ndarray
    """(n1 - 1, n2 - 1) float, the largest |loss - bilinear interpolation| found in each cell. The
    loss is computed at the cell's center and at the middles of its edges; the error may be larger
    elsewhere. NaN if it is not finite there or at a node of the cell."""
    tolerance: float
    """The error above which a cell is too coarse, in units of the loss."""
    smallest_step: tuple[float, ...]
    """For each path, its shortest step inside the grid, in cells; NaN if it has none."""
    patches: tuple[Landscape, ...]
    """The finer landscapes. Those of cells that are too coarse come first, then those of short
    steps; a patch of even shorter steps lies inside an earlier one."""

    @property
    def largest(self) -> CellError | None:
        """The largest error found, and the middle of its cell; None if no cell is finite."""
        if np.isnan(self.interpolation_error).all():
            return None
        i, j = np.unravel_index(np.nanargmax(self.interpolation_error), self.too_coarse.shape)
        a, b = (
            float(np.mean(axis.values[k : k + 2]))
            for axis, k in ((self.surface.a, i), (self.surface.b, j))
        )
        return CellError(a, b, float(self.interpolation_error[i, j]))

    @property
    def too_coarse(self) -> np.ndarray:
        """The cells whose error is above the tolerance, (n1 - 1, n2 - 1) bool."""
        return self.interpolation_error > self.tolerance

    def __repr__(self) -> str:
        a, b = self.surface.a.name, self.surface.b.name
        n1, n2 = self.surface.shape
        not_finite, cells = int(np.isnan(self.interpolation_error).sum()), (n1 - 1) * (n2 - 1)
        lines = [f"Refinement of {n1} × {n2} nodes:"]
        if cell := self.largest:
            relative = cell.error / max(_loss_range(self.surface), np.finfo(float).tiny)
            lines += [
                "interpolation, measured in the middles of cells and edges, is off by up to "
                f"{cell.error:.3g}, {percent(relative)} of the range, "
                f"at {a} = {cell.a:.4g}, {b} = {cell.b:.4g}",
                f"{int(self.too_coarse.sum()):,} of {cells:,} cells are off by more than "
                f"{self.tolerance:.3g} there",
            ]
        if not_finite:
            lines.append(f"{not_finite:,} of {cells:,} cells are not finite throughout")
        lines += [f"smallest step of a path: {step:.3g} cells" for step in self.smallest_step]
        sizes = ", ".join(" × ".join(map(str, patch.shape)) for patch in self.patches)
        lines.append(f"{len(self.patches)} patches" + (f": {sizes}" if sizes else ""))
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        """Show the errors as colors in a notebook, the largest with a dot, and the text."""
        cell = self.largest
        if cell is None:
            return thumbnails.text(self)
        axes = (self.surface.a, self.surface.b)
        a, b = (np.asarray(axis.values, float) for axis in axes)
        middles = (a[1:] + a[:-1]) / 2, (b[1:] + b[:-1]) / 2
        names, ends = (axes[0].name, axes[1].name), (0.0, cell.error)
        picture = thumbnails.surface(self.interpolation_error, *middles, names, ends, cell[:2])
        return picture + thumbnails.text(self)


def refine(
    surface: Landscape,
    loss: ScalarLoss,
    data: Any,
    *paths: Trajectory | Projection,
    plane: Plane | None = None,
    tolerance: float | None = None,
) -> Refinement:
    """Find where a grid is too coarse, and compute finer patches there.

    The loss is computed at the center of every cell and in the middle of every edge, and compared
    with the bilinear interpolation of the nodes. The error may be larger at other points, where the
    loss changes fast within a cell. For a smooth loss, the error is proportional to the square of
    the spacing; the spacing of a patch is chosen accordingly. A path needs a finer
    grid where its steps are shorter than a cell.

    Args:
        surface: the grid.
        loss: the loss of the surface, (params, data) -> scalar.
        data: the data of the surface.
        paths: descents whose parameters have the names of the surface's axes, as `Weights` have;
            or projections from `project`, for other parameters.
        plane: the plane of the surface; None for the plane of the two weights.
        tolerance: the interpolation error above which a cell is too coarse, in units of the loss;
            None for a hundredth of the surface's range.

    Returns:
        A `Refinement` with the errors, the smallest step of each path, and the patches. Up to 8
        patches cover the cells that are too coarse (Berger and Rigoutsos 1991), others the short
        steps. A patch has up to 1024 values per side.

    Raises:
        TypeError: `surface` is not a `Landscape`, a path is neither a `Trajectory` nor a
            `Projection`, or `tolerance` is not a number.
        ValueError: A path lacks a coordinate of the surface. `loss`, `data` and `plane` do not
            reproduce the surface's values. `tolerance` is not positive and finite. Two neighboring
            values of an axis have no number between them.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 9), w2=(-2, 2, 11))
        >>> jxs.refine(surface, jxs.squared_error, data).largest.error
        0.218...
    """
    check_type("surface", surface, Landscape)
    if tolerance is not None:
        tolerance = check_positive("tolerance", tolerance)
    axes = np.asarray(surface.a.values), np.asarray(surface.b.values)
    points_of_paths = [_points(path, surface) for path in paths]
    if tolerance is None:
        # On a flat surface, the error is only rounding.
        tolerance = _loss_range(surface) / 100 or float(jnp.finfo(axes[0].dtype).tiny)

    def patch(a: np.ndarray, b: np.ndarray) -> Landscape:
        patch_axes: dict[str, Any] = {surface.a.name: a, surface.b.name: b}
        return whole_landscape(loss, data, plane, **patch_axes)

    error = interpolation_error(surface, patch)
    patches = []
    for box in rectangles(error > tolerance):
        # Allow for a quarter more: the largest error is between the points where it was computed.
        factor = math.sqrt(1.25 * np.nanmax(error[box]) / tolerance)
        patches.append(patch(*_finer_axes(axes, box, factor)))
    for points in points_of_paths:
        patches += [patch(*finer) for finer in _axes_around_short_steps(axes, points)]
    steps = tuple(
        float(min(_step_lengths(axes, points), default=math.nan)) for points in points_of_paths
    )
    return Refinement(surface, error, float(tolerance), steps, tuple(patches))


def _loss_range(surface: Landscape) -> float:
    """Return the highest minus the lowest finite loss; 0 if there is none."""
    highest, lowest = surface.highest, surface.lowest
    return 0.0 if highest is None or lowest is None else highest - lowest.loss


def _points(path: Trajectory | Projection, surface: Landscape) -> np.ndarray:
    """Return the points of a path before it diverged, (T, 2), in the surface's coordinates."""
    if not isinstance(path, Trajectory | Projection):
        raise TypeError(f"paths: expected a Trajectory or a Projection, got {type(path).__name__}")
    kept = path.until_divergence() if isinstance(path, Trajectory) else path
    names = surface.a.name, surface.b.name
    return np.column_stack([np.asarray(kept.coordinate(name), float) for name in names])


def interpolation_error(
    surface: Landscape, patch: Callable[[np.ndarray, np.ndarray], Landscape]
) -> np.ndarray:
    """Return the largest error of bilinear interpolation found in each cell, (n1 - 1, n2 - 1).

    Args:
        surface: the grid.
        patch: two axes' values -> the landscape of the same loss on them.

    Raises:
        ValueError: A patch does not reproduce the surface's values.
    """
    a, b = (_with_midpoints(axis) for axis in (surface.a, surface.b))
    rows = max(1, _NODES_PER_BLOCK // (2 * len(b)))
    blocks = []
    for start in range(0, len(surface.a) - 1, rows):
        with warnings.catch_warnings():
            # The result is NaN for these cells.
            warnings.simplefilter("ignore", NonFiniteWarning)
            computed = patch(a[2 * start : 2 * (start + rows) + 1], b)
        losses = np.asarray(computed.loss)
        nodes = losses[::2, ::2]
        _check_same_surface(surface, start, nodes)
        blocks.append(_cell_errors(losses, np.asarray(nodes, float)))
    return np.concatenate(blocks)


def _cell_errors(losses: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the largest error in each cell; `losses` has the nodes at its even indices."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as it should be
        along_a = abs(losses[1::2, ::2] - (nodes[:-1] + nodes[1:]) / 2)
        along_b = abs(losses[::2, 1::2] - (nodes[:, :-1] + nodes[:, 1:]) / 2)
        corners = nodes[:-1, :-1] + nodes[:-1, 1:] + nodes[1:, :-1] + nodes[1:, 1:]
        center = abs(losses[1::2, 1::2] - corners / 4)
    errors = (center, along_a[:, :-1], along_a[:, 1:], along_b[:-1], along_b[1:])
    largest = np.max(errors, axis=0)  # NaN if any is
    return np.where(np.isinf(largest), np.nan, largest)


def _with_midpoints(axis: Axis) -> np.ndarray:
    """Return the n values of an axis and the midpoints between them, (2n - 1,)."""
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


def _check_same_surface(surface: Landscape, start: int, nodes: np.ndarray) -> None:
    """Raise an error if the computed losses at some rows' nodes are not the surface's."""
    given = np.asarray(surface.loss[start : start + len(nodes)])
    finite = np.isfinite(given) & np.isfinite(nodes)
    # Strategies differ in the rounding of their sums, which is far below √eps.
    allowed = np.sqrt(float(jnp.finfo(nodes.dtype).eps)) * max(
        _loss_range(surface), np.abs(given[finite]).max(initial=0.0)
    )
    differs = (np.isfinite(given) != np.isfinite(nodes)) | (
        finite & (np.abs(np.where(finite, given, 0) - np.where(finite, nodes, 0)) > allowed)
    )
    if differs.any():
        i, j = np.unravel_index(np.argmax(differs), differs.shape)
        a, b = surface.a, surface.b
        raise ValueError(
            f"surface: expected the values of this loss, data and plane, {nodes[i, j]:g} at "
            f"{a.name} = {a.values[start + i]:g}, {b.name} = {b.values[j]:g}, "
            f"got {given[i, j]:g}"
        )


def _finer_axes(
    axes: tuple[np.ndarray, np.ndarray], box: Box, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the axes of a patch over a box, each cell cut into about `factor` parts per side."""
    finer = []
    for values, cells in zip(axes, box, strict=True):
        n = cells.stop - cells.start
        parts = max(1, min(math.ceil(factor), (_MAX_SIDE - 1) // n))
        positions = np.linspace(cells.start, cells.stop, n * parts + 1)
        fine = np.interp(positions, np.arange(len(values)), values.astype(float))
        # Values that round to the same number are kept once.
        finer.append(np.unique(fine.astype(values.dtype)))
    return finer[0], finer[1]


def _is_finer(fine: np.ndarray, values: np.ndarray, cells: slice) -> bool:
    return len(fine) > len(values[cells]) + 1


def _in_cells(axes: tuple[np.ndarray, np.ndarray], points: np.ndarray) -> np.ndarray:
    """Convert points, (T, 2), to units of cells; points outside of the grid become NaN."""
    columns = [
        np.interp(column, values.astype(float), np.arange(len(values)), np.nan, np.nan)
        for values, column in zip(axes, points.T, strict=True)
    ]
    return np.column_stack(columns)


def _step_lengths(axes: tuple[np.ndarray, np.ndarray], points: np.ndarray) -> np.ndarray:
    """Return the lengths of the steps inside the grid, in cells."""
    lengths = np.hypot(*np.diff(_in_cells(axes, points), axis=0).T)
    return lengths[np.isfinite(lengths)]


def _axes_around_short_steps(
    axes: tuple[np.ndarray, np.ndarray], points: np.ndarray, depth: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield finer axes around each run of steps shorter than a cell, then again within them."""
    positions = _in_cells(axes, points)
    lengths = np.hypot(*np.diff(positions, axis=0).T)
    short = np.concatenate([[False], lengths < 1, [False]])
    starts, ends = np.flatnonzero(np.diff(short.astype(int))).reshape(-1, 2).T
    for start, end in zip(starts, ends, strict=True):
        run = positions[start : end + 1]
        # Add one cell on each side, where the grid has one.
        rows, columns = (
            slice(max(0, math.floor(low) - 1), min(len(values) - 1, math.ceil(high) + 1))
            for values, low, high in zip(axes, run.min(axis=0), run.max(axis=0), strict=True)
        )
        shortest = float(lengths[start:end].min())
        finer = _finer_axes(axes, (rows, columns), 1 / max(shortest, 1 / _MAX_SIDE))
        yield finer
        if depth + 1 < _MAX_DEPTH and any(map(_is_finer, finer, axes, (rows, columns))):
            yield from _axes_around_short_steps(finer, points[start : end + 1], depth + 1)


def rectangles(flagged: np.ndarray) -> list[Box]:
    """Return at most 8 rectangles that cover all flagged cells and few others.

    As in Berger and Rigoutsos (1991), a rectangle is shrunk to its flagged cells and cut where
    they are fewest.
    """
    min_side = _MIN_SIDE
    while len(boxes := list(_cut(flagged, (0, 0), min_side))) > _MAX_RECTANGLES:
        min_side *= 2
    return boxes


def _cut(flagged: np.ndarray, corner: tuple[int, int], min_side: int) -> Iterator[Box]:
    """Yield the rectangles of an array of cells whose first cell has the index `corner`."""
    if not flagged.any():
        return
    spans = [np.flatnonzero(flagged.any(axis=other)) for other in (1, 0)]
    (top, bottom), (left, right) = ((int(span[0]), int(span[-1]) + 1) for span in spans)
    flagged = flagged[top:bottom, left:right]
    corner = corner[0] + top, corner[1] + left
    if flagged.mean() >= _MIN_FLAGGED or max(flagged.shape) <= min_side:
        (i, j), (n1, n2) = corner, flagged.shape
        yield slice(i, i + n1), slice(j, j + n2)
        return
    # Cut the longer side, near its middle, where the fewest cells are flagged.
    axis = int(flagged.shape[1] > flagged.shape[0])
    counts, middle = flagged.sum(axis=1 - axis), flagged.shape[axis] / 2
    inner = np.arange(1, len(counts))
    k = int(inner[np.argmin(counts[1:] + abs(inner - middle) / len(counts))])
    for part, offset in zip(np.split(flagged, [k], axis=axis), (0, k), strict=True):
        shifted = list(corner)
        shifted[axis] += offset
        yield from _cut(part, (shifted[0], shifted[1]), min_side)
