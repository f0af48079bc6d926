"""Summarize a loss surface, in sentences and as data for JSON."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import check_type
from jaxscape._util.percent import percent
from jaxscape._util.warnings import NonFiniteWarning
from jaxscape.critical.points import CriticalPoint, CriticalPoints, Unsearchable, format_number
from jaxscape.critical.search import critical_points
from jaxscape.grid.landscape import whole_landscape
from jaxscape.grid.refine import interpolation_error
from jaxscape.losses.checks import check_is_function
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis, Cell, Landscape
from jaxscape.topology.persistence import Extremum, Persistence, persistence
from jaxscape.topology.valleys import minimax_path, valley

# A minimum of the grid is deep if its persistence is at least this fraction of the loss's range.
_DEEP = 1e-3
# A node is flat if a plane with its slope would change by less than this fraction of the loss's
# range from one side of the grid to the other.
_FLAT = 1e-2
# A range below this multiple of a rounding error is reported as rounding, and minima below it as
# shallow: a loss is a sum, which carries a few rounding errors.
_ROUNDINGS = 16
_MIN_FLAT_FRACTION = 0.01
"""The smallest fraction of flat nodes that is reported."""
_MIN_OPPOSITES = 4
"""A symmetry is reported if at least this many nodes along each axis have a mirror image."""
_MAX_NODES = 2**20
"""The largest grid for which the interpolation error between the nodes is computed."""
_MAX_POINTS = 12
"""The largest number of critical points that are described one by one."""


@dataclass(frozen=True, eq=False)
class Description:
    """A summary of a loss surface."""

    sentences: tuple[str, ...]
    """One fact per sentence."""
    data: dict[str, Any]
    """The same facts as numbers, strings, lists and dicts that JSON can hold, with None for numbers
    that are not finite."""
    critical_points: CriticalPoints | None
    """The critical points, if `describe` was given the loss and could search it."""
    persistence: Persistence
    """The minima and maxima of the grid."""

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Show the sentences in a notebook."""
        return "".join(map(thumbnails.paragraph, self.sentences))


def describe(
    surface: Landscape,
    loss: Callable[[Any, Any], jax.Array] | None = None,
    data: Any = None,
    plane: Plane | None = None,
    **box: tuple[float, float],
) -> Description:
    """Summarize a loss surface in sentences: range, minima, critical points, symmetries, limits.

    From the grid alone, the summary reports the range of the loss, the lowest node, the minima by
    depth, the minimax path between the two deepest minima, flat regions and symmetries; or that the
    range is within rounding errors. With the loss, it also reports the critical points, whether
    these are proved to be all, the interpolation error in the middles of cells and edges and, for
    the two-weight network, the limits as w1 → 0 and as w1 → ±∞.

    Args:
        surface: the grid.
        loss: the loss of the surface; for a function of two numbers, `Function(f)`.
        data: the data of the surface.
        plane: the plane of the surface; None for the plane of the two weights.
        box: the box to search for critical points, as (low, high) for each coordinate by its name;
            by default the rectangle of the grid.

    Returns:
        A `Description`. `print` shows its sentences, and `.data` can be written as JSON.

    Raises:
        TypeError: `surface` is not a `Landscape`, or `loss` is not a function.
        ValueError: The surface has no finite loss; there is a box but no loss; the box is empty; or
            `loss`, `data` and `plane` do not give the losses of the surface.

    Example:
        >>> wells = jxs.Function(lambda w1, w2: (w1**2 - 1) ** 2 + (w1 - w2) ** 2)
        >>> surface = jxs.landscape(wells, None, w1=(-2, 2, 81), w2=(-2, 2, 61))
        >>> description = jxs.describe(surface, wells)
        >>> print(description.sentences[-1])
        The lowest path from the minimum at w1 = -1, w2 = -1 to the minimum at w1 = 1, w2 = 1
        crosses the saddle at w1 = 0, w2 = 0, 1 above the first and 1 above the second.
        >>> [point["kind"] for point in description.data["critical_points"]]
        ['minimum', 'minimum', 'saddle']
    """
    check_type("surface", surface, Landscape)
    if loss is None and (box or data is not None or plane is not None):
        raise ValueError("loss: expected the surface's loss along with its data, plane and box")
    if loss is not None:
        check_is_function("loss", loss)
    extrema = persistence(surface)
    summary = _Summary(surface, extrema)
    summary.add_grid()
    summary.add_symmetries()
    points = None
    if loss is not None:
        summary.add_interpolation_error(loss, data, plane)
        points = summary.add_critical_points(loss, data, plane, box)
    summary.add_minimax_path(points)
    return Description(tuple(summary.sentences), _to_json(summary.data), points, extrema)


class _Summary:
    """The sentences about a surface and the data behind them, collected one fact at a time."""

    def __init__(self, surface: Landscape, extrema: Persistence) -> None:
        lowest, highest = surface.lowest, surface.highest
        assert lowest is not None
        assert highest is not None
        self.surface, self.extrema, self.lowest = surface, extrema, lowest
        self.range = highest - lowest.loss
        self.rounding = _eps(surface) * max(abs(highest), abs(lowest.loss))
        self.sentences: list[str] = []
        self.data: dict[str, Any] = {}

    def add(self, sentence: str, **data: Any) -> None:
        self.sentences.append(sentence)
        self.data |= data

    @property
    def is_rounding(self) -> bool:
        """Whether the losses are equal within rounding."""
        return self.range <= _ROUNDINGS * self.rounding

    def is_deep(self, minimum: Extremum) -> bool:
        """Whether a minimum is deeper than a fraction of the range and than rounding errors."""
        rounding = _ROUNDINGS * _eps(self.surface) * abs(minimum.cell.loss)
        return minimum.persistence >= _DEEP * self.range and minimum.persistence > rounding

    def add_grid(self) -> None:
        """Add the grid's size and range, its lowest node, non-finite losses, and its minima."""
        surface, lowest = self.surface, self.lowest
        (n1, n2), highest = surface.shape, lowest.loss + self.range
        ends = {
            axis.name: (float(axis.values[0]), float(axis.values[-1]))
            for axis in (surface.a, surface.b)
        }
        spans = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in ends.items())
        self.add(
            f"The {surface.loss_name} on {n1} × {n2} nodes, {spans}, ranges from "
            f"{lowest.loss:.6g} to {highest:.6g}.",
            loss_name=surface.loss_name,
            shape=[n1, n2],
            axes=ends,
            lowest_cell=self.cell_data(lowest) | {"on_edge": surface.lowest_is_on_edge},
            highest=highest,
        )
        nonfinite = surface.nonfinite_count
        if not self.range:
            self.add("It is the same at all nodes.", grid_minima=[], shallow_minima=0)
            self.data |= {"nonfinite": nonfinite, "flat": 1.0}
            return
        if self.is_rounding:
            dtype = surface.loss.dtype
            advice = "on a larger rectangle" if dtype == np.float64 else "in float64"
            self.add(
                "This range is within rounding errors: it is only about "
                f"{self.range / self.rounding:.2g} times the spacing of {dtype} numbers of this "
                f"size. Compute the surface {advice} to see its shape.",
                grid_minima=[],
                shallow_minima=len(self.extrema.minima),
            )
            self.data |= {"nonfinite": nonfinite, "flat": 1.0}
            return
        edge = "on the edge, so it may be lower outside the grid"
        where = edge if surface.lowest_is_on_edge else "inside the grid"
        self.add(f"The lowest node is at {self.position(lowest)}, {where}.")
        if nonfinite:
            self.add(f"{nonfinite} of {n1 * n2} losses are not finite.")
        deep = [minimum for minimum in self.extrema.minima if self.is_deep(minimum)]
        shallow = [minimum for minimum in self.extrema.minima if not self.is_deep(minimum)]
        others = ""
        if shallow:
            others = f"; {len(shallow)} more are at most {shallow[0].persistence:.3g} deep"
        on_edge = sum(self.is_on_edge(minimum.cell) for minimum in deep)
        self.add(
            f"The grid has {len(deep)} {'minimum' if len(deep) == 1 else 'minima'} deeper than "
            f"{_DEEP:g} of the range, {on_edge or 'none'} on its edge{others}.",
            nonfinite=nonfinite,
            grid_minima=[
                self.cell_data(minimum.cell) | {"depth": minimum.persistence} for minimum in deep
            ],
            shallow_minima=len(shallow),
        )
        self.add_flat_regions()

    def add_flat_regions(self) -> None:
        """Add the fraction of flat nodes and the area with low losses."""
        flat = _flat_fraction(self.surface, _FLAT)
        if flat >= _MIN_FLAT_FRACTION:
            self.add(
                f"{percent(flat)} of the grid is flat: a plane with the same slope would change "
                f"by less than {percent(_FLAT)} of the range from one side to the other."
            )
        area = self.extrema.area_below(self.lowest.loss + _FLAT * self.range)
        low = area / self.extrema.area_below(math.inf)
        self.add(
            f"Losses in the lowest {percent(_FLAT)} of the range cover {percent(low)} of the area.",
            flat=flat,
            low_area=low,
        )

    def add_symmetries(self) -> None:
        """Add the reflections that leave the grid's losses unchanged."""
        symmetries = [] if self.is_rounding else _symmetries(self.surface)
        self.data["symmetries"] = symmetries
        if symmetries:
            self.add(f"At the nodes, the loss is symmetric under {' and '.join(symmetries)}.")

    def add_interpolation_error(self, loss: Callable, data: Any, plane: Plane | None) -> None:
        """Add the largest error of bilinear interpolation in the middles of cells and edges."""
        surface = self.surface
        if surface.loss.size > _MAX_NODES:
            return

        def patch(a: np.ndarray, b: np.ndarray) -> Landscape:
            axes: dict[str, Any] = {surface.a.name: a, surface.b.name: b}
            return whole_landscape(loss, data, plane, **axes)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NonFiniteWarning)
            errors = interpolation_error(surface, patch)
        if np.isnan(errors).all():
            return
        largest = float(np.nanmax(errors))
        relative = f", {percent(largest / self.range)} of the range" if self.range else ""
        self.add(
            "Linear interpolation between the nodes, measured in the middles of cells and edges, "
            f"is off by up to {largest:.3g}{relative}.",
            interpolation_error=largest,
        )

    def add_critical_points(
        self, loss: Callable, data: Any, plane: Plane | None, box: Mapping[str, Any]
    ) -> CriticalPoints | None:
        """Add the critical points and the evidence that these are all; return the points."""
        axes = (self.surface.a, self.surface.b)
        box = box or {axis.name: (float(axis.values[0]), float(axis.values[-1])) for axis in axes}
        try:
            points = critical_points(loss, data, plane, **box)
        except Unsearchable as error:
            self.add(
                f"There was no search for critical points: {error}.",
                critical_points=[],
                complete=False,
                limits={},
            )
            return None
        self._add_points(points)
        self._add_limits(points, loss, data, plane)
        return points

    def _add_points(self, found: CriticalPoints) -> None:
        count = len(found.points)
        spans = " and ".join(
            f"{name} from {low:g} to {high:g}"
            for name, (low, high) in zip(found.names, found.box, strict=True)
        )
        evidence = {
            "proved": "It is proved that there are no others.",
            "index": "Their indices sum to the winding number of the gradient along the boundary, "
            "as they must if these are all.",
            "incomplete": "There may be others.",
        }[found.completeness]
        self.add(
            f"{count} critical point{'' if count == 1 else 's'} with {spans}. {evidence}",
            critical_points=[self.point_data(point) for point in found.points],
            complete=found.complete,
            completeness=found.completeness,
            box=dict(zip(found.names, map(list, found.box), strict=True)),
            winding=found.winding,
            undecided=[[list(side) for side in box] for box in found.undecided],
            notes=list(found.notes),
        )
        for point in found.points[:_MAX_POINTS]:
            noun = "degenerate critical point" if point.kind == "degenerate" else point.kind
            boundary = ", on the boundary of the box" * point.on_boundary
            proof = "" if point.certified else ", computed but not proved"
            self.add(
                f"A {noun} at {self.position(point)}, loss {format_number(point.loss)}, "
                f"eigenvalues {', '.join(map(format_number, point.eigenvalues))}{boundary}{proof}."
            )
        if count > _MAX_POINTS:
            self.add(f"And {count - _MAX_POINTS} more critical points.")
        for note in found.notes:
            self.add(f"{note[0].upper()}{note[1:]}.")

    def _add_limits(
        self, found: CriticalPoints, loss: Callable, data: Any, plane: Plane | None
    ) -> None:
        """Add the range and the limits of the two-weight network's valley."""
        limits, (first, second) = found.limits, found.names
        self.data["limits"] = dict(limits)
        if not limits:
            return
        # The valley's extrema lie at its stationary points or at the ends.
        (low, high), whole_axis = found.box[0], {second: (-1e30, 1e30)}
        stationary = critical_points(loss, data, plane, **{first: (low, high)}, **whole_axis).points
        # Float32 ends at 3e38, but at 1e30 the network has long reached its limit.
        ends = np.clip([low, high], -1e30, 1e30)
        losses = valley(loss, data, plane, **{first: ends}).loss[ends != 0].tolist()
        losses += [point.loss for point in stationary if point.a]
        losses += [limits["w1_to_0"]] * (low <= 0 <= high)
        lowest, highest = min(losses), max(losses)
        self.add(
            f"The bottom of the valley, the minimum over {second} for each {first}, ranges from "
            f"{format_number(lowest)} to {format_number(highest)} there.",
            valley={"lowest": lowest, "highest": highest},
        )
        self.add(
            f"It tends to {limits['w1_to_0']:.6g} as {first} → 0 and to "
            f"{limits['w1_to_infinity']:.6g} as {first} → ±∞."
        )
        value = format_number(limits["infimum"])
        if limits["attained"]:
            self.add(f"The global minimum of the loss is {value}.")
        elif limits["attained"] is None:
            self.add(f"It is not proved whether the loss falls below {value} anywhere.")
        else:
            self.add(f"The infimum of the loss is {value}, and no point attains it.")

    def add_minimax_path(self, points: CriticalPoints | None) -> None:
        """Add the lowest path between the two deepest minima."""
        deep = [minimum for minimum in self.extrema.minima if self.is_deep(minimum)]
        if self.is_rounding or len(deep) < 2 or deep[1].saddle is None:
            return
        first, second = (self._nearest_minimum(points, minimum.cell) for minimum in deep[:2])
        path = minimax_path(self.surface, first, second, points)
        top = path.saddle or path.top
        self.add(
            f"The lowest path from the minimum at {self.position(first)} to the minimum at "
            f"{self.position(second)} crosses the {'saddle' if path.saddle else 'node'} at "
            f"{self.position(top)}, {format_number(path.height)} above the first and "
            f"{format_number(path.height_from_end)} above the second.",
            minimax_path={
                "from": self.cell_data(first),
                "to": self.cell_data(second),
                "over": self.cell_data(top),
                "heights": [path.height, path.height_from_end],
            },
        )

    def _nearest_minimum(self, points: CriticalPoints | None, cell: Cell) -> Cell | CriticalPoint:
        """Return a minimum among the critical points within one grid step, else the cell."""
        steps = [
            float(np.diff(np.asarray(axis.values, float)).max())
            for axis in (self.surface.a, self.surface.b)
        ]
        for point in points.of_kind("minimum") if points else ():
            if abs(point.a - cell.a) <= steps[0] and abs(point.b - cell.b) <= steps[1]:
                return point
        return cell

    def is_on_edge(self, cell: Cell) -> bool:
        return any(k in (0, n - 1) for k, n in zip(cell[:2], self.surface.shape, strict=True))

    def position(self, point: Cell | CriticalPoint) -> str:
        a, b = self.surface.a.name, self.surface.b.name
        return f"{a} = {format_number(point.a)}, {b} = {format_number(point.b)}"

    def cell_data(self, cell: Cell | CriticalPoint) -> dict[str, Any]:
        return {self.surface.a.name: cell.a, self.surface.b.name: cell.b, "loss": cell.loss}

    def point_data(self, point: CriticalPoint) -> dict[str, Any]:
        fields = {k: v for k, v in point._asdict().items() if k not in ("a", "b")}
        return {"kind": point.kind, **self.cell_data(point), **fields}


def _flat_fraction(surface: Landscape, tolerance: float) -> float:
    """Return the fraction of flat nodes.

    Args:
        surface: the grid.
        tolerance: the largest change across the grid of a plane with the node's slope, as a
            fraction of the loss's range.
    """
    loss = np.asarray(surface.loss, float)
    axes = [np.asarray(axis.values, float) for axis in (surface.a, surface.b)]
    with np.errstate(invalid="ignore"):
        changes = [
            np.gradient(loss, values, axis=k) * (values[-1] - values[0])
            for k, values in enumerate(axes)
        ]
        return float(np.mean(np.hypot(*changes) <= tolerance * _loss_range(surface)))


def _symmetries(surface: Landscape) -> list[str]:
    """Return the reflections that leave the losses unchanged at nodes with a mirror image."""
    a, b = surface.a, surface.b
    loss = np.asarray(surface.loss, float)
    rows, columns, all_a, all_b = _opposite(a), _opposite(b), np.arange(len(a)), np.arange(len(b))
    symmetries = []
    for name, i, j in (
        (f"({a.name}, {b.name}) → (-{a.name}, -{b.name})", rows, columns),
        (f"{a.name} → -{a.name}", rows, all_b),
        (f"{b.name} → -{b.name}", all_a, columns),
    ):
        original, image = loss[np.ix_(i >= 0, j >= 0)], loss[np.ix_(i[i >= 0], j[j >= 0])]
        if min(original.shape) >= _MIN_OPPOSITES and _are_equal(surface, original, image):
            symmetries.append(name)
    if np.array_equal(a.values, b.values) and _are_equal(surface, loss, loss.T):
        symmetries.append(f"({a.name}, {b.name}) → ({b.name}, {a.name})")
    return symmetries


def _opposite(axis: Axis) -> np.ndarray:
    """Return the index of each value's opposite, (n,); -1 if the axis does not contain it."""
    values = np.asarray(axis.values, float)
    nearest = abs(values[None, :] + values[:, None]).argmin(axis=1)
    tolerance = 1e-3 * np.diff(values).min()
    return np.where(abs(values + values[nearest]) <= tolerance, nearest, -1)


def _are_equal(surface: Landscape, first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two arrays of losses agree within √eps times the loss's range."""
    loss_range = _loss_range(surface)
    tolerance = np.sqrt(_eps(surface)) * loss_range
    same_finite = np.isfinite(first) == np.isfinite(second)
    with np.errstate(invalid="ignore"):
        differs = (abs(first - second) > tolerance).any()
    return bool(loss_range and same_finite.all() and not differs)


def _eps(surface: Landscape) -> float:
    """Return the relative spacing of the losses' dtype."""
    return float(jnp.finfo(surface.loss.dtype).eps)


def _loss_range(surface: Landscape) -> float:
    lowest, highest = surface.lowest, surface.highest
    return 0.0 if lowest is None or highest is None else highest - lowest.loss


def _to_json(value: Any) -> Any:
    """Return a value that JSON can hold: arrays become lists, non-finite numbers None."""
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_to_json(item) for item in value]
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None
