"""Valleys: where the loss is lowest over one coordinate, and the passes from one to another."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.devices import cache_bytes, default_device
from jaxscape._util.pytree import in_float64
from jaxscape.critical.points import CriticalPoint, CriticalPoints
from jaxscape.grid.axes import computed_dtype, make_axis
from jaxscape.grid.parabola import parabolas, why_not_exact
from jaxscape.losses.checks import check_is_function, loss_name
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import STATIC, Axis, Cell, Landscape
from jaxscape.topology.persistence import path_between

# A saddle belongs to the pass of a grid if it is no farther than this, in cells.
_NEAR = 2.0
# Of a network with some dozens of hidden values, what so many samples take stays near the cache.
_SAMPLES_AT_ONCE = 2**14


@dataclass(frozen=True, eq=False)
class Valley:
    """The lowest squared error over the second coordinate, along the first, and where it is.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.topology.valley(jxs.squared_error, data, w1=(0.5, 2.5, 101))
        Valley(w1: 101 values from 0.5 to 2.5)
          lowest loss ... at w1 = 1.5, w2 = 0.8
    """

    a: Axis
    """n values of the first coordinate."""
    b: np.ndarray
    """(n,) the second coordinate of the lowest loss; NaN where the prediction ignores it."""
    loss: np.ndarray
    """(n,) the lowest loss, in float64."""
    b_name: str = field(metadata=STATIC)
    """What the second coordinate is called."""
    loss_name: str = field(metadata=STATIC)
    """What was measured, in words."""
    b_unit: str = field(default="", metadata=STATIC)
    """What 1 along the second coordinate is, in words; empty if not known."""

    def __repr__(self) -> str:
        k, values = int(np.argmin(self.loss)), self.a.values
        return (
            f"Valley({self.a.name}: {len(self.a)} values from {values[0]:g} to {values[-1]:g})\n"
            f"  lowest loss {self.loss[k]:.6g} at {self.a.name} = {values[k]:.6g}, "
            f"{self.b_name} = {self.b[k]:.6g}"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the lowest loss along the first coordinate."""
        values = np.asarray(self.a.values, float)
        return thumbnails.lines(values, self.loss[None], (self.a.name, "loss")) + thumbnails.text(
            self
        )


def valley(
    loss: Callable[[Any, Any], jax.Array], data: Any, plane: Plane | None = None, **axis: Any
) -> Valley:
    """Find the lowest loss over the second coordinate for each value of the first, in float64.

    It takes a squared error of a prediction affine in the second coordinate, such as the last
    layer's: its lowest point is then known in closed form, one pass over the data for each value.

    Args:
        loss, data, plane: as for `landscape`.
        axis: for the plane's first name (`w1` for the two weights) either (lo, hi, n) or a 1-D
            array of increasing values.

    Returns:
        The bottom and its loss at each value of the axis.

    Raises:
        ValueError: a loss that is no parabola in the second coordinate, or another axis.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.topology.valley(jxs.squared_error, data, w1=(0.5, 2.5, 5))
        >>> found.b.round(3)
        array([1.323, 0.918, 0.8  , 0.744, 0.711])
    """
    check_is_function("loss", loss)
    plane = weight_plane() if plane is None else plane
    if not isinstance(plane, Plane):
        raise TypeError(f"plane: expected a Plane, got {type(plane).__name__}")
    first, second = plane.names
    if set(axis) != {first}:
        raise ValueError(f"axis: expected {first} alone, got {', '.join(axis) or 'none'}")
    if objection := why_not_exact(loss, plane, data):
        raise ValueError(f"loss: expected a parabola in {second}, but {objection}")
    units = plane.units
    given = make_axis(first, axis[first], computed_dtype(plane, data))
    with jax.enable_x64(True):
        plane, data, values = in_float64((plane, data, np.asarray(given.values)))
        cache = cache_bytes(default_device().platform)
        predict = loss.predict  # type: ignore[attr-defined]
        found = parabolas(predict, plane, values, data, cache, _SAMPLES_AT_ONCE)
        floor, curvature, scale, lowest, correction = map(np.asarray, found)
    with np.errstate(invalid="ignore", divide="ignore"):
        b = np.where(curvature > 0, (lowest + correction) / scale, np.nan)
    return Valley(Axis(values, first, units[0]), b, floor, second, loss_name(loss), units[1])


class MinimaxPath(NamedTuple):
    """The pass between two places of a grid, on the path whose highest loss is the lowest."""

    path: tuple[Cell, ...]
    """The cells of the path."""
    top: Cell
    """Its highest cell."""
    saddle: CriticalPoint | None
    """The saddle there, if critical points were given and one of them is near."""
    height: float
    """How far the pass, or the saddle, lies above the start."""
    height_from_end: float
    """How far it lies above the end."""

    def __repr__(self) -> str:
        start, end = (f"({cell.a:.4g}, {cell.b:.4g})" for cell in (self.path[0], self.path[-1]))
        return (
            f"MinimaxPath({len(self.path)} cells from {start} to {end})\n"
            f"  {self.height:.6g} above the start, {self.height_from_end:.6g} above the end, "
            f"highest at ({self.top.a:.4g}, {self.top.b:.4g})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the losses on the way."""
        losses = np.array([[cell.loss for cell in self.path]])
        cells = np.arange(len(self.path))
        return thumbnails.lines(cells, losses, ("cell", "loss")) + thumbnails.text(self)


def minimax_path(
    landscape: Landscape, start: Any, end: Any, among: CriticalPoints | None = None
) -> MinimaxPath:
    """Find the lowest way over from one place to another, by the merge tree of the grid.

    Args:
        landscape: the grid.
        start, end: a `CriticalPoint`, a `Cell`, or two coordinates (a, b): the nearest cell counts.
        among: critical points, one of whose saddles may be the pass: its loss then counts, and not
            that of the highest cell.

    Returns:
        The cells of the way, its highest, and how far that lies above both ends.

    Raises:
        TypeError: anything else.
        ValueError: a place beyond the grid or on a cell that is not finite, or no way over.

    Example:
        >>> wells = jxs.Function(lambda w1, w2: (w1**2 - 1) ** 2 + w2**2)
        >>> surface = jxs.landscape(wells, None, w1=(-2, 2, 81), w2=(-1, 1, 41))
        >>> round(jxs.topology.minimax_path(surface, (-1, 0), (1, 0)).height, 6)
        1.0
    """
    if not isinstance(landscape, Landscape):
        raise TypeError(f"landscape: expected a Landscape, got {type(landscape).__name__}")
    path = path_between(
        landscape, *(_cell(landscape, *one) for one in (("start", start), ("end", end)))
    )
    highest = max(path, key=lambda cell: cell.loss)
    saddle = None if among is None else _nearest_saddle(landscape, highest, among)
    level = highest.loss if saddle is None else saddle.loss
    heights = [
        level - (place.loss if isinstance(place, CriticalPoint) else cell.loss)
        for place, cell in ((start, path[0]), (end, path[-1]))
    ]
    return MinimaxPath(path, highest, saddle, *heights)


def _cell(landscape: Landscape, name: str, place: Any) -> tuple[int, int]:
    """The cell nearest to a place."""
    if isinstance(place, CriticalPoint | Cell):
        place = (place.a, place.b)
    try:
        a, b = map(float, place)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected a CriticalPoint, a Cell or (a, b), got {place!r}"
        ) from None
    found = []
    for axis, x in ((landscape.a, a), (landscape.b, b)):
        values = np.asarray(axis.values, float)
        slack = 1e-6 * (values[-1] - values[0])
        if not values[0] - slack <= x <= values[-1] + slack:
            raise ValueError(
                f"{name}: expected {axis.name} from {values[0]:g} to {values[-1]:g}, got {x:g}"
            )
        found.append(int(np.argmin(abs(values - x))))
    return found[0], found[1]


def _nearest_saddle(
    landscape: Landscape, cell: Cell, among: CriticalPoints
) -> CriticalPoint | None:
    spacing = [
        float(np.diff(np.asarray(axis.values, float)).max()) for axis in (landscape.a, landscape.b)
    ]

    def distance(point: CriticalPoint) -> float:
        return float(np.hypot((point.a - cell.a) / spacing[0], (point.b - cell.b) / spacing[1]))

    saddles = among.of_kind("saddle")
    nearest = min(saddles, key=distance, default=None)
    return nearest if nearest is not None and distance(nearest) <= _NEAR else None
