"""The sentences of a description, each with the data that it says, as they are gathered."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxscape import facts
from jaxscape.critical import critical_points
from jaxscape.grid import NonFiniteWarning, whole_landscape
from jaxscape.lattice import Persistence
from jaxscape.plane import Plane
from jaxscape.points import CriticalPoint, CriticalPoints, Unsearchable, rounded
from jaxscape.refinement import interpolation_error
from jaxscape.results import Landscape
from jaxscape.valleys import barrier, valley

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
        return f"{a} = {rounded(point.a)}, {b} = {rounded(point.b)}"

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
        share, percent = facts.flat_share(self.surface, _FLAT), 100 * _FLAT
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
        found = facts.symmetries(self.surface)
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
                f"A {noun} at {self.place(point)}, loss {rounded(point.loss)}, eigenvalues "
                f"{', '.join(map(rounded, point.eigenvalues))}{border}{proof}."
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
            f"between {rounded(ends[0])} and {rounded(ends[1])} there.",
            valley={"lowest": ends[0], "highest": ends[1]},
        )
        self.say(
            f"The lowest loss over {second} tends to {limits['w1_to_0']:.6g} as {first} → 0 and to "
            f"{limits['w1_to_infinity']:.6g} as {first} → ±∞."
        )
        value = rounded(limits["infimum"])
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
        way = barrier(self.surface, ends[0], ends[1], found)
        top = way.saddle or way.top
        word = "saddle" if way.saddle else "node"
        self.say(
            f"The way from the minimum at {self.place(ends[0])} to that at {self.place(ends[1])} "
            f"leads over the {word} at {self.place(top)}, {rounded(way.height)} above the one and "
            f"{rounded(way.height_from_end)} above the other.",
            barrier={
                "from": self.cell(ends[0]),
                "to": self.cell(ends[1]),
                "over": self.cell(top),
                "heights": [way.height, way.height_from_end],
            },
        )

    def nearest(self, found: CriticalPoints | None, cell: Any) -> Any:
        """The critical minimum in the neighbourhood of a grid's minimum, or else its cell."""
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
