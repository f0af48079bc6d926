"""Valleys, where the loss is minimal over one coordinate, and minimax paths between two points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import check_type
from jaxscape._util.devices import cache_bytes, default_device
from jaxscape._util.pytree import in_float64
from jaxscape.critical.points import CriticalPoint, CriticalPoints
from jaxscape.grid.axes import AxisValues, computed_dtype, make_axis
from jaxscape.grid.parabola import parabolas, why_not_exact
from jaxscape.losses.checks import check_is_function, loss_name
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import STATIC, Axis, Cell, Landscape
from jaxscape.topology.persistence import minimax_cells

Point: TypeAlias = CriticalPoint | Cell | Sequence[float] | np.ndarray
"""A critical point, a cell of a grid, or two coordinates (a, b)."""

# The largest distance, in cells, between a path's highest cell and the saddle that replaces it.
_MAX_SADDLE_DISTANCE = 2.0
# With a few dozen hidden values per sample, the intermediate values of this many samples roughly
# fit into the cache.
_BATCH_SAMPLES = 2**14


@dataclass(frozen=True, eq=False)
class Valley:
    """For each value of the first coordinate, the minimum over the second and its position.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.topology.valley(jxs.squared_error, data, w1=(0.5, 2.5, 101))
        Valley(w1: 101 values from 0.5 to 2.5)
          lowest loss ... at w1 = 1.5, w2 = 0.8
    """

    a: Axis
    """The n values of the first coordinate."""
    b: np.ndarray
    """(n,) the second coordinate of the minimum; NaN where the prediction does not depend on it."""
    loss: np.ndarray
    """(n,) the lowest loss, in float64."""
    b_name: str = field(metadata=STATIC)
    """The name of the second coordinate."""
    loss_name: str = field(metadata=STATIC)
    """The name of the loss."""
    b_unit: str = field(default="", metadata=STATIC)
    """The unit of the second coordinate, in words; empty if not known."""

    def __repr__(self) -> str:
        k, values = int(np.argmin(self.loss)), self.a.values
        return (
            f"Valley({self.a.name}: {len(self.a)} values from {values[0]:g} to {values[-1]:g})\n"
            f"  lowest loss {self.loss[k]:.6g} at {self.a.name} = {values[k]:.6g}, "
            f"{self.b_name} = {self.b[k]:.6g}"
        )

    def _repr_html_(self) -> str:
        """Show the lowest loss along the first coordinate in a notebook."""
        values = np.asarray(self.a.values, float)
        return thumbnails.curves(values, self.loss[None], (self.a.name, "loss")) + thumbnails.text(
            self
        )


def valley(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    plane: Plane | None = None,
    **axis: AxisValues,
) -> Valley:
    """Minimize a squared error over the second coordinate, for each value of the first, in float64.

    The prediction must be affine in the second coordinate, for instance a weight of the last layer.
    The loss is then a parabola in it, whose minimum follows in closed form from one pass over the
    data (variable projection).

    Args:
        loss: a squared error, (params, data) -> scalar, as for `landscape`.
        data: the second argument of the loss.
        plane: the plane through the parameters; None for the plane of the two weights.
        axis: (lo, hi, n) or a 1-D array of increasing values, for the plane's first name (`w1` for
            the two weights).

    Returns:
        A `Valley`.

    Raises:
        TypeError: `loss` is not a function of (params, data), or `plane` is not a `Plane`.
        ValueError: The loss is not a parabola in the second coordinate, or the axis is not the
            plane's first one.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.topology.valley(jxs.squared_error, data, w1=(0.5, 2.5, 5))
        >>> found.b.round(3)
        array([1.323, 0.918, 0.8  , 0.744, 0.711])
    """
    check_is_function("loss", loss)
    plane = weight_plane() if plane is None else plane
    check_type("plane", plane, Plane)
    first, second = plane.names
    if set(axis) != {first}:
        raise ValueError(f"axis: expected only {first}, got {', '.join(axis) or 'none'}")
    units = plane.units
    given = make_axis(first, axis[first], computed_dtype(plane, data))
    with jax.enable_x64(True):
        plane, data, values = in_float64((plane, data, np.asarray(given.values)))
        # The equations in float64 count. If the model computes in a narrower dtype, it must at
        # least keep the precision of the given arrays.
        if objection := why_not_exact(loss, plane, data, given.values.dtype):
            raise ValueError(f"loss: expected a parabola in {second}, but {objection}")
        cache = cache_bytes(default_device().platform)
        predict = loss.predict  # type: ignore[attr-defined]
        rows = parabolas(predict, plane, values, data, cache, _BATCH_SAMPLES)
        floor, curvature, scale, lowest, correction = map(np.asarray, rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        b = np.where(curvature > 0, (lowest + correction) / scale, np.nan)
    return Valley(Axis(values, first, units[0]), b, floor, second, loss_name(loss), units[1])


class MinimaxPath(NamedTuple):
    """The path between two cells of a grid that has the lowest possible maximum of the loss."""

    path: tuple[Cell, ...]
    """The cells of the path."""
    top: Cell
    """The highest cell of the path."""
    saddle: CriticalPoint | None
    """The saddle at the highest cell, if critical points were given and one of them is there."""
    height: float
    """The loss of the saddle, or else of the highest cell, minus the loss at the start."""
    height_from_end: float
    """The same loss minus the loss at the end."""

    def __repr__(self) -> str:
        start, end = (f"({cell.a:.4g}, {cell.b:.4g})" for cell in (self.path[0], self.path[-1]))
        return (
            f"MinimaxPath({len(self.path)} cells from {start} to {end})\n"
            f"  {self.height:.6g} above the start, {self.height_from_end:.6g} above the end, "
            f"highest at ({self.top.a:.4g}, {self.top.b:.4g})"
        )

    def _repr_html_(self) -> str:
        """Show the losses along the path in a notebook."""
        losses = np.array([[cell.loss for cell in self.path]])
        cells = np.arange(len(self.path))
        return thumbnails.curves(cells, losses, ("cell", "loss")) + thumbnails.text(self)


def minimax_path(
    landscape: Landscape, start: Point, end: Point, among: CriticalPoints | None = None
) -> MinimaxPath:
    """Find the path between two points of a grid that has the lowest possible maximum of the loss.

    It is found with the merge tree of the grid.

    Args:
        landscape: the grid.
        start: the first point, a `CriticalPoint`, a `Cell`, or coordinates (a, b). The path starts
            at the nearest cell.
        end: the last point, in the same form.
        among: critical points. If one of their saddles is within 2 cells of the highest cell, and
            its loss differs from that cell's by at most the interpolation error of the grid there,
            it replaces the cell.

    Returns:
        A `MinimaxPath`, with the height of its highest loss above both ends.

    Raises:
        TypeError: `landscape` is not a `Landscape`, or a point has none of the types above.
        ValueError: A point is outside the grid or its nearest cell is not finite, or no path of
            finite cells connects the two points.

    Example:
        >>> wells = jxs.Function(lambda w1, w2: (w1**2 - 1) ** 2 + w2**2)
        >>> surface = jxs.landscape(wells, None, w1=(-2, 2, 81), w2=(-1, 1, 41))
        >>> round(jxs.topology.minimax_path(surface, (-1, 0), (1, 0)).height, 6)
        1.0
    """
    check_type("landscape", landscape, Landscape)
    path = minimax_cells(
        landscape, _nearest_cell(landscape, "start", start), _nearest_cell(landscape, "end", end)
    )
    highest = max(path, key=lambda cell: cell.loss)
    saddle = None if among is None else _saddle_at(landscape, highest, among)
    level = highest.loss if saddle is None else saddle.loss
    heights = [
        level - (point.loss if isinstance(point, CriticalPoint) else cell.loss)
        for point, cell in ((start, path[0]), (end, path[-1]))
    ]
    return MinimaxPath(path, highest, saddle, *heights)


def _nearest_cell(landscape: Landscape, name: str, point: Point) -> tuple[int, int]:
    """Return the indices of the cell nearest to a point."""
    coordinates = (point.a, point.b) if isinstance(point, CriticalPoint | Cell) else point
    try:
        a, b = map(float, coordinates)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected a CriticalPoint, a Cell or (a, b), got {point!r}"
        ) from None
    indices = []
    for axis, x in ((landscape.a, a), (landscape.b, b)):
        values = np.asarray(axis.values, float)
        tolerance = 1e-6 * (values[-1] - values[0])
        if not values[0] - tolerance <= x <= values[-1] + tolerance:
            raise ValueError(
                f"{name}: expected {axis.name} from {values[0]:g} to {values[-1]:g}, got {x:g}"
            )
        indices.append(int(np.argmin(abs(values - x))))
    return indices[0], indices[1]


def _saddle_at(landscape: Landscape, cell: Cell, among: CriticalPoints) -> CriticalPoint | None:
    """Return the saddle that a path's highest cell stands for; None if there is none.

    It is the closest saddle within 2 cells whose loss differs from the cell's by at most the
    interpolation error of the grid there.
    """
    spacing = [
        float(np.diff(np.asarray(axis.values, float)).max()) for axis in (landscape.a, landscape.b)
    ]
    error = _interpolation_error(np.asarray(landscape.loss), cell)

    def distance(point: CriticalPoint) -> float:
        return float(np.hypot((point.a - cell.a) / spacing[0], (point.b - cell.b) / spacing[1]))

    saddles = (
        point
        for point in among.of_kind("saddle")
        if distance(point) <= _MAX_SADDLE_DISTANCE and abs(point.loss - cell.loss) <= error
    )
    return min(saddles, key=distance, default=None)


def _interpolation_error(loss: np.ndarray, cell: Cell) -> float:
    """Estimate the error of linear interpolation around a cell, from second differences.

    A second difference of step h is h²·f'' up to higher orders, and the error of linear
    interpolation over h is at most h²·|f''|/8. A path steps along the sides and the diagonals of
    cells, so the largest difference along these counts, with its middle in the 3 × 3 cells around
    the given one.
    """
    i, j = (slice(max(0, k - 2), k + 3) for k in cell[:2])
    near = loss[i, j].astype(float)
    inner = near[1:-1, 1:-1]
    with np.errstate(invalid="ignore"):
        differences = [
            near[2:] - 2 * near[1:-1] + near[:-2],
            near[:, 2:] - 2 * near[:, 1:-1] + near[:, :-2],
            near[2:, 2:] - 2 * inner + near[:-2, :-2],
            near[2:, :-2] - 2 * inner + near[:-2, 2:],
        ]
    sizes = abs(np.concatenate([difference.ravel() for difference in differences]))
    rounding = 4 * float(jnp.finfo(loss.dtype).eps) * abs(cell.loss)
    return float(sizes[np.isfinite(sizes)].max(initial=0.0)) / 8 + rounding
