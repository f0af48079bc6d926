"""Facts of a grid of losses: where it is flat, and which symmetries it has.

A description of a surface, as sentences and as data that JSON holds.

The sentences of a description, each with the data that it says, as they are gathered.

What is known of a surface, in plain sentences and as data that JSON holds.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.warnings import NonFiniteWarning
from jaxscape.critical.points import CriticalPoint, CriticalPoints, Unsearchable, format_number
from jaxscape.critical.search import critical_points
from jaxscape.grid.landscape import whole_landscape
from jaxscape.grid.refine import interpolation_error
from jaxscape.losses.checks import check_is_function
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis, Landscape
from jaxscape.topology.persistence import Persistence, persistence
from jaxscape.topology.valleys import minimax_path, valley

# Opposite nodes along an axis, for a symmetry to be more than chance.
_FEWEST = 4


def flat_share(surface: Landscape, change: float) -> float:
    """The share of nodes at whose slope the loss would change by little from side to side.

    Args:
        surface: the grid.
        change: how little, as a part of the losses' range.
    """
    loss = np.asarray(surface.loss, float)
    axes = [np.asarray(axis.values, float) for axis in (surface.a, surface.b)]
    with np.errstate(invalid="ignore"):
        steepness = [
            np.gradient(loss, values, axis=k) * (values[-1] - values[0])
            for k, values in enumerate(axes)
        ]
        return float(np.mean(np.hypot(*steepness) <= change * _range(surface)))


def symmetries(surface: Landscape) -> list[str]:
    """Which reflections leave the losses alone, where the grid has opposite nodes, in words."""
    a, b = surface.a, surface.b
    loss = np.asarray(surface.loss, float)
    rows, columns, all_a, all_b = _opposite(a), _opposite(b), np.arange(len(a)), np.arange(len(b))
    found = []
    for name, i, j in (
        (f"({a.name}, {b.name}) → (-{a.name}, -{b.name})", rows, columns),
        (f"{a.name} → -{a.name}", rows, all_b),
        (f"{b.name} → -{b.name}", all_a, columns),
    ):
        here = loss[np.ix_(i >= 0, j >= 0)]
        if min(here.shape) >= _FEWEST and _same(surface, here, loss[np.ix_(i[i >= 0], j[j >= 0])]):
            found.append(name)
    if np.array_equal(a.values, b.values) and _same(surface, loss, loss.T):
        found.append(f"({a.name}, {b.name}) → ({b.name}, {a.name})")
    return found


def _range(surface: Landscape) -> float:
    lowest, highest = surface.lowest, surface.highest
    return 0.0 if lowest is None or highest is None else highest - lowest.loss


def _opposite(axis: Axis) -> np.ndarray:
    """(n,) for each value the index of its opposite, -1 where the axis has none."""
    values = np.asarray(axis.values, float)
    nearest = abs(values[None, :] + values[:, None]).argmin(axis=1)
    slack = 1e-3 * np.diff(values).min()
    return np.where(abs(values + values[nearest]) <= slack, nearest, -1)


def _same(surface: Landscape, here: np.ndarray, there: np.ndarray) -> bool:
    """Whether losses agree, but for the rounding of their sums."""
    spread = _range(surface)
    allowed = np.sqrt(np.finfo(surface.loss.dtype).eps) * spread
    holes = np.isfinite(here) == np.isfinite(there)
    with np.errstate(invalid="ignore"):
        return bool(spread and holes.all() and not (abs(here - there) > allowed).any())


@dataclass(frozen=True, eq=False)
class Description:
    """What is known of a surface."""

    sentences: tuple[str, ...]
    """In plain words, one fact each."""
    data: dict[str, Any]
    """As numbers, strings, lists and dicts that JSON holds; what is not finite is None."""
    critical_points: CriticalPoints | None
    """Of the loss, if it was given and could be searched."""
    persistence: Persistence
    """The minima and maxima of the grid."""

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentences."""
        return "".join(map(thumbnails.paragraph, self.sentences))


def plain(value: Any) -> Any:
    """What JSON holds: arrays as lists, and None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, bool | np.bool_ | str) or value is None:
        return value if isinstance(value, str) or value is None else bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None


# A minimum of the grid matters if it is deeper than this part of the losses' range.
_DEEP = 1e-3
# Flat is where the loss would change by less than this part of its range across the whole grid.
_FLAT = 1e-2
_MUCH = 0.01
"""The share of a grid that is worth a sentence."""
_MOST_CELLS = 2**20
"""Of a grid whose losses between the nodes are computed, too."""
_NOUNS = {"degenerate": "degenerate critical point"}
_MOST_SENTENCES = 12
"""About single points."""


class Sentences:
    """What is said of a surface, in words and as data, fact by fact."""

    def __init__(self, surface: Landscape, shape: Persistence) -> None:
        lowest, highest = surface.lowest, surface.highest
        assert lowest is not None
        assert highest is not None
        self.surface, self.shape, self.lowest = surface, shape, lowest
        self.spread = highest - lowest.loss
        self.sentences: list[str] = []
        self.data: dict[str, Any] = {}

    def say(self, sentence: str, **facts: Any) -> None:
        self.sentences.append(sentence)
        self.data |= facts

    def place(self, point: Any) -> str:
        a, b = self.surface.a.name, self.surface.b.name
        return f"{a} = {format_number(point.a)}, {b} = {format_number(point.b)}"

    def grid(self) -> None:
        """Resolution, range, lowest cell, holes, minima, flat regions."""
        surface, shape, lowest = self.surface, self.shape, self.lowest
        (n1, n2), highest = surface.shape, lowest.loss + self.spread
        axes = [np.asarray(axis.values, float) for axis in (surface.a, surface.b)]
        spans = ", ".join(
            f"{axis.name} from {values[0]:g} to {values[-1]:g}"
            for axis, values in zip((surface.a, surface.b), axes, strict=True)
        )
        self.say(
            f"The {surface.loss_name} on {n1} × {n2} nodes, {spans}, lies between "
            f"{lowest.loss:.6g} and {highest:.6g}.",
            loss_name=surface.loss_name,
            shape=[n1, n2],
            axes={
                axis.name: [values[0], values[-1]]
                for axis, values in zip((surface.a, surface.b), axes, strict=True)
            },
            lowest_cell=self.cell(lowest) | {"on_edge": surface.lowest_is_on_edge},
            highest=highest,
        )
        if not self.spread:
            self.say("It is the same at every node.", grid_minima=[], shallow_minima=0)
            self.data |= {"nonfinite": surface.nonfinite_count, "flat": 1.0}
            return
        beyond = "on the edge, so that it may fall further beyond" * surface.lowest_is_on_edge
        self.say(f"The lowest node is at {self.place(lowest)}, {beyond or 'inside'}.")
        holes = surface.nonfinite_count
        if holes:
            self.say(f"{holes} of {n1 * n2} losses are not finite.")
        deep = shape.deep(_DEEP * self.spread)
        others = shape.minima[len(deep) :]
        rest = ""
        if others:
            rest = f"; {len(others)} more are at most {others[0].persistence:.3g} deep"
        one = len(deep) == 1
        border = sum(self.on_edge(minimum.cell) for minimum in deep)
        self.say(
            f"{len(deep)} {'minimum' if one else 'minima'} of the grid, {border or 'none'} on its "
            f"edge, {'is' if one else 'are'} deeper than {_DEEP:g} of the range{rest}.",
            nonfinite=holes,
            grid_minima=[
                self.cell(minimum.cell) | {"depth": minimum.persistence} for minimum in deep
            ],
            shallow_minima=len(others),
        )
        self.flat()

    def flat(self) -> None:
        """Where little changes, and how much of the grid is low."""
        share, percent = flat_share(self.surface, _FLAT), 100 * _FLAT
        if share >= _MUCH:
            self.say(
                f"{100 * share:.2g} % of the grid is flat: at its slope the loss would change by "
                f"less than {percent:g} % of its range from one side to the other."
            )
        area = self.shape.area_below(self.lowest.loss + _FLAT * self.spread)
        part = area / self.shape.area_below(math.inf)
        self.say(
            f"The lowest {percent:g} % of the range take {100 * part:.2g} % of the area.",
            flat=share,
            low_area=part,
        )

    def symmetries(self) -> None:
        """Which reflections leave the losses alone."""
        found = symmetries(self.surface)
        self.data["symmetries"] = found
        if found:
            self.say(f"It is symmetric under {' and '.join(found)}, as far as the grid shows.")

    def between_nodes(self, loss: Callable, data: Any, plane: Plane | None) -> None:
        """How far off the grid is between its nodes."""
        surface = self.surface
        if surface.loss.size > _MOST_CELLS:
            return

        def patch(a: np.ndarray, b: np.ndarray) -> Landscape:
            given: dict[str, Any] = {surface.a.name: a, surface.b.name: b}
            return whole_landscape(loss, data, plane, **given)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NonFiniteWarning)
            errors = interpolation_error(surface, patch)
        if np.isnan(errors).all():
            return
        largest = float(np.nanmax(errors))
        share = ""
        if self.spread:
            share = f", {100 * largest / self.spread:.2g} % of the range"
        self.say(
            f"Between the nodes, straight interpolation is off by up to {largest:.3g}{share}.",
            interpolation_error=largest,
        )

    def critical(
        self, loss: Callable, data: Any, plane: Plane | None, box: dict[str, Any]
    ) -> CriticalPoints | None:
        """The critical points, what is proved of them, and limits."""
        axes = (self.surface.a, self.surface.b)
        box = box or {axis.name: (float(axis.values[0]), float(axis.values[-1])) for axis in axes}
        try:
            found = critical_points(loss, data, plane, **box)
        except Unsearchable as error:
            self.say(
                f"Critical points were not searched: {error}.",
                critical_points=[],
                complete=False,
                limits={},
            )
            return None
        self.points(found)
        self.valley(found, loss, data, plane)
        return found

    def points(self, found: CriticalPoints) -> None:
        count, (first, second) = len(found.points), found.box
        where = f"{found.names[0]} from {first[0]:g} to {first[1]:g} and {found.names[1]} from "
        where += f"{second[0]:g} to {second[1]:g}"
        known = {
            "proved": "this is proved to be all",
            "index": "as many as the turning of the gradient along the border asks for",
            "incomplete": "these may not be all",
        }[found.completeness]
        self.say(
            f"{count} critical point{'' if count == 1 else 's'} with {where}: {known}.",
            critical_points=[self.critical_point(point) for point in found.points],
            complete=found.complete,
            completeness=found.completeness,
            box=dict(zip(found.names, map(list, found.box), strict=True)),
            winding=found.winding,
            undecided=[[list(side) for side in box] for box in found.undecided],
            notes=list(found.notes),
        )
        for point in found.points[:_MOST_SENTENCES]:
            border = ", on the border of the box" * point.on_boundary
            proof = "" if point.certified else ", by computation without proof"
            noun = _NOUNS.get(point.kind, point.kind)
            self.say(
                f"A {noun} at {self.place(point)}, loss {format_number(point.loss)}, eigenvalues "
                f"{', '.join(map(format_number, point.eigenvalues))}{border}{proof}."
            )
        if count > _MOST_SENTENCES:
            self.say(f"And {count - _MOST_SENTENCES} critical points more.")
        for note in found.notes:
            self.say(f"{note[0].upper()}{note[1:]}.")

    def valley(self, found: CriticalPoints, loss: Callable, data: Any, plane: Plane | None) -> None:
        """Of the two-weight network: the bottom of its valley, and its limits."""
        limits, (first, second) = found.limits, found.names
        self.data["limits"] = dict(limits)
        if not limits:
            return
        (low, high), whole = found.box[0], {second: (-1e30, 1e30)}
        stationary = critical_points(loss, data, plane, **{first: (low, high)}, **whole).points
        borders = np.array([low, high])
        along = [*valley(loss, data, plane, **{first: borders}).loss[borders != 0].tolist()]
        along += [point.loss for point in stationary if point.a]
        along += [limits["w1_to_0"]] * (low <= 0 <= high)
        ends = min(along), max(along)
        self.say(
            f"The bottom of the valley, the lowest loss over {second} for each {first}, lies "
            f"between {format_number(ends[0])} and {format_number(ends[1])} there.",
            valley={"lowest": ends[0], "highest": ends[1]},
        )
        self.say(
            f"The lowest loss over {second} tends to {limits['w1_to_0']:.6g} as {first} → 0 and to "
            f"{limits['w1_to_infinity']:.6g} as {first} → ±∞."
        )
        value = format_number(limits["infimum"])
        if limits["attained"]:
            self.say(f"The lowest loss of all is {value}.")
        elif limits["attained"] is None:
            self.say(f"Whether a loss below {value} is reached anywhere is not proved.")
        else:
            self.say(f"The loss comes as near to {value} as one likes, and nowhere reaches it.")

    def way_over(self, found: CriticalPoints | None) -> None:
        """The pass between the two deepest minima."""
        deep = self.shape.deep(_DEEP * self.spread)
        if not self.spread or len(deep) < 2 or deep[1].saddle is None:
            return
        ends: list[Any] = [self.nearest(found, minimum.cell) for minimum in deep[:2]]
        way = minimax_path(self.surface, ends[0], ends[1], found)
        top = way.saddle or way.top
        word = "saddle" if way.saddle else "node"
        self.say(
            f"The way from the minimum at {self.place(ends[0])} to that at {self.place(ends[1])} "
            f"leads over the {word} at {self.place(top)}, {format_number(way.height)} above the one "
            f"and {format_number(way.height_from_end)} above the other.",
            minimax_path={
                "from": self.cell(ends[0]),
                "to": self.cell(ends[1]),
                "over": self.cell(top),
                "heights": [way.height, way.height_from_end],
            },
        )

    def nearest(self, found: CriticalPoints | None, cell: Any) -> Any:
        """The critical minimum in the neighborhood of a grid's minimum, or else its cell."""
        steps = [
            float(np.diff(np.asarray(axis.values, float)).max())
            for axis in (self.surface.a, self.surface.b)
        ]
        near = [
            point
            for point in (found.of_kind("minimum") if found else ())
            if abs(point.a - cell.a) <= steps[0] and abs(point.b - cell.b) <= steps[1]
        ]
        return near[0] if near else cell

    def on_edge(self, cell: Any) -> bool:
        return any(k in (0, n - 1) for k, n in zip(cell[:2], self.surface.shape, strict=True))

    def cell(self, cell: Any) -> dict[str, float]:
        return {self.surface.a.name: cell.a, self.surface.b.name: cell.b, "loss": cell.loss}

    def critical_point(self, point: CriticalPoint) -> dict[str, Any]:
        fields = {k: v for k, v in point._asdict().items() if k not in ("a", "b")}
        return {"kind": point.kind, **self.cell(point), **fields}


def describe(
    surface: Landscape,
    loss: Callable[[Any, Any], jax.Array] | None = None,
    data: Any = None,
    plane: Plane | None = None,
    **box: tuple[float, float],
) -> Description:
    """Say what is known of a surface.

    Of the grid alone: its resolution, its lowest cell and whether that lies on the edge, its
    minima by depth, the pass between the two deepest, flat regions and symmetries. With the loss
    that it was computed from also every critical point, what is proved of them, valleys and
    limits far away, and how far off the grid is between its nodes.

    Args:
        surface: the grid.
        loss, data, plane: what it was computed from; for a function of two numbers, `Function(f)`.
        box: where to look for critical points, (lo, hi) for each of the plane's names; without
            any, where the grid is.

    Returns:
        A `Description`: `print` shows it, `.data` is ready for JSON.

    Raises:
        TypeError: not a `Landscape`, or a loss that is no function.
        ValueError: a landscape without a finite cell, a box without a loss, a box without interior,
            or a loss, data or plane that does not give the surface's own values.

    Example:
        >>> wells = jxs.Function(lambda w1, w2: (w1**2 - 1) ** 2 + (w1 - w2) ** 2)
        >>> surface = jxs.landscape(wells, None, w1=(-2, 2, 81), w2=(-2, 2, 61))
        >>> found = jxs.describe(surface, wells)
        >>> print(found.sentences[-1])
        The way from the minimum at w1 = -1, w2 = -1 to that at w1 = 1, w2 = 1 leads over the saddle
        at w1 = 0, w2 = 0, 1 above the one and 1 above the other.
        >>> [point["kind"] for point in found.data["critical_points"]]
        ['minimum', 'minimum', 'saddle']
    """
    if not isinstance(surface, Landscape):
        raise TypeError(f"surface: expected a Landscape, got {type(surface).__name__}")
    if loss is None and (box or data is not None or plane is not None):
        raise ValueError("loss: expected the surface's loss beside its data, plane and box")
    if loss is not None:
        check_is_function("loss", loss)
    shape = persistence(surface)
    said = Sentences(surface, shape)
    said.grid()
    said.symmetries()
    found = None
    if loss is not None:
        said.between_nodes(loss, data, plane)
        found = said.critical(loss, data, plane, box)
    said.way_over(found)
    return Description(tuple(said.sentences), plain(said.data), found, shape)
