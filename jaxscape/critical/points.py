"""The result of a search for critical points: their kinds, and whether all of them are known."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypedDict

import numpy as np

from jaxscape._util import thumbnails

Box = tuple[tuple[float, float], tuple[float, float]]
"""The lower and the upper end of each coordinate."""
Kind = Literal["minimum", "maximum", "saddle", "degenerate"]
"""The kind of a critical point, by the signs of its Hessian's eigenvalues."""
Completeness = Literal["proved", "index", "incomplete"]
"""The evidence that all critical points of a box are known."""

# An eigenvalue counts as 0 below this fraction of the larger one: a few times the rounding error of
# a Hessian that is a sum in float64.
_SINGULAR_TOL = 1e-9
_MAX_LINES = 20


class Unsearchable(ValueError):
    """The search is impossible, because gradients are not finite or not float64."""


class Limits(TypedDict, total=False):
    """The two-weight network's loss, minimized over w2, as w1 goes to its limits."""

    w1_to_0: float
    """The limit as w1 → 0."""
    w1_to_infinity: float
    """The limit as w1 → ±∞."""
    infimum: float
    """The infimum over all weights."""
    attained: bool | None
    """Whether some weights attain the infimum; None if that is not proved."""
    searched_to: float
    """The |w1| up to which the search is complete; infinite for all."""


class CriticalPoint(NamedTuple):
    """A point of a plane at which the gradient of the loss vanishes."""

    a: float
    """The first coordinate."""
    b: float
    """The second coordinate."""
    kind: Kind
    """"minimum", "maximum", "saddle" or "degenerate"."""
    loss: float
    """The loss at the point."""
    eigenvalues: np.ndarray
    """(2,) eigenvalues of the Hessian in both coordinates, in increasing order."""
    residual: float
    """The norm of the gradient at the point, computed in float64."""
    turns: int
    """The index, the winding number of the gradient around the point. It is +1 for extrema and -1
    for simple saddles."""
    radius: float
    """The distance within which this is proved to be the only critical point; 0 if not certified.
    """
    certified: bool
    """Whether bounds on the derivatives prove that the point exists."""
    on_boundary: bool
    """Whether it lies on the boundary of the box."""


@dataclass(frozen=True, eq=False)
class CriticalPoints:
    """The critical points in a box, lowest loss first, with the evidence that these are all.

    Example:
        >>> double_well = jxs.Function(lambda w1, w2: (w1**2 - 1) ** 2 + (w1 - w2) ** 2)
        >>> jxs.critical_points(double_well, w1=(-2, 2), w2=(-2, 2))
        3 critical points, proved to be all in w1 in [-2, 2], w2 in [-2, 2]
          minimum at w1 = -1, w2 = -1, loss 0
          minimum at w1 = 1, w2 = 1, loss 0
          saddle at w1 = 0, w2 = 0, loss 1
    """

    points: tuple[CriticalPoint, ...]
    """The critical points."""
    names: tuple[str, str]
    """The names of the coordinates."""
    box: Box
    """The box that was searched."""
    completeness: Completeness
    """"proved" if it is proved that there are no other critical points; "index" if the indices sum
    to the winding number of the gradient along the boundary (Poincaré and Hopf), so that missing
    points could only cancel each other; "incomplete" otherwise."""
    winding: int | None
    """The winding number of the gradient along the boundary of the box; None if the gradient
    vanishes there."""
    undecided: tuple[Box, ...]
    """Boxes for which it is neither proved nor disproved that they hold a critical point."""
    notes: tuple[str, ...]
    """Sentences about curves of stationary points and about obstacles to a proof."""
    limits: Limits
    """The limits of the two-weight network's loss, minimized over w2; empty for other losses."""

    @property
    def complete(self) -> bool:
        """Whether all critical points are known, by proof or by index."""
        return self.completeness != "incomplete"

    def of_kind(self, kind: str) -> tuple[CriticalPoint, ...]:
        """Return the points of one kind, lowest loss first.

        Args:
            kind: "minimum", "maximum", "saddle" or "degenerate".
        """
        return tuple(point for point in self.points if point.kind == kind)

    def __repr__(self) -> str:
        box = ", ".join(
            f"{name} in [{low:g}, {high:g}]"
            for name, (low, high) in zip(self.names, self.box, strict=True)
        )
        count = len(self.points)
        evidence = {
            "proved": f"proved to be all in {box}",
            "index": f"consistent with the winding number of the gradient around {box}",
            "incomplete": f"possibly not all in {box}",
        }[self.completeness]
        lines = [f"{count} critical point{'' if count == 1 else 's'}, {evidence}"]
        lines += [
            f"{point.kind} at {self.names[0]} = {format_number(point.a)}, "
            f"{self.names[1]} = {format_number(point.b)}, loss {format_number(point.loss)}"
            for point in self.points[:_MAX_LINES]
        ]
        if count > _MAX_LINES:
            lines.append(f"and {count - _MAX_LINES} more")
        return "\n  ".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        """Show a table of the points in a notebook."""
        heads = ("kind", *self.names, "loss", "eigenvalues", "certified")
        rows = [
            (
                point.kind,
                *map(format_number, (point.a, point.b, point.loss)),
                ", ".join(f"{value:.4g}" for value in point.eigenvalues),
                "yes" if point.certified else "no",
            )
            for point in self.points
        ]
        sentences = [repr(self).partition("\n")[0], *self.notes]
        return thumbnails.table(heads, rows) + "".join(map(thumbnails.paragraph, sentences))


def format_number(number: float, digits: int = 6) -> str:
    """Format a number with `digits` significant digits; numbers below 1e-13 in size become 0."""
    return "0" if abs(number) < 1e-13 else f"{number:.{digits}g}"


def kind_of(eigenvalues: np.ndarray) -> Kind:
    """Return a critical point's kind by the signs of its Hessian's eigenvalues."""
    least, greatest = eigenvalues
    if min(abs(least), abs(greatest)) <= _SINGULAR_TOL * max(abs(least), abs(greatest)):
        return "degenerate"
    return "minimum" if least > 0 else "maximum" if greatest < 0 else "saddle"


def in_box(box: Box, a: float, b: float) -> bool:
    """Return whether a point lies in a box, including its boundary."""
    return all(low <= x <= high for (low, high), x in zip(box, (a, b), strict=True))


def on_boundary(box: Box, a: float, b: float) -> bool:
    """Return whether a point lies on the boundary of a box, within rounding."""
    return any(
        abs(x - end) <= 1e-12 * (high - low)
        for (low, high), x in zip(box, (a, b), strict=True)
        for end in (low, high)
    )
