"""Critical points as results: of what kind each is, and whether all of them are known."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxscape._util import thumbnails

Box = tuple[tuple[float, float], tuple[float, float]]
"""The lower and the upper end of both coordinates."""

# Beside the larger eigenvalue, one below this may be 0: it is a few times the rounding of a
# Hessian from sums in float64.
_SINGULAR = 1e-9
_MOST_LINES = 20


class Unsearchable(ValueError):
    """Critical points cannot be searched for: gradients are not finite, or not of float64."""


class CriticalPoint(NamedTuple):
    """A point of a plane at which the gradient of the loss vanishes."""

    a: float
    """The first coordinate."""
    b: float
    """The second coordinate."""
    kind: str
    """"minimum", "maximum", "saddle" or "degenerate"."""
    loss: float
    """The loss there."""
    eigenvalues: np.ndarray
    """(2,) of the Hessian in both coordinates, in increasing order."""
    residual: float
    """The norm of the gradient that is left, in float64."""
    turns: int
    """Its index, how often the gradient turns around it: +1 for extrema, -1 for simple saddles."""
    radius: float
    """No other critical point is nearer than this: proved if certified, and 0 otherwise."""
    certified: bool
    """Whether it is proved that there is one, by bounds on the derivatives."""
    on_boundary: bool
    """Whether it lies on the border of the box."""


@dataclass(frozen=True, eq=False)
class CriticalPoints:
    """The critical points in a box, lowest loss first, and how far it is known that these are all.

    Example:
        >>> double_well = jxs.Function(lambda w1, w2: (w1**2 - 1) ** 2 + (w1 - w2) ** 2)
        >>> jxs.critical_points(double_well, w1=(-2, 2), w2=(-2, 2))
        3 critical points, proved to be all in w1 in [-2, 2], w2 in [-2, 2]
          minimum at w1 = -1, w2 = -1, loss 0
          minimum at w1 = 1, w2 = 1, loss 0
          saddle at w1 = 0, w2 = 0, loss 1
    """

    points: tuple[CriticalPoint, ...]
    """Those found."""
    names: tuple[str, str]
    """What the coordinates are called."""
    box: Box
    """Where was searched."""
    completeness: str
    """"proved": it is proved that there are no others; "index": the gradient turns around the box
    as often as the points found make it turn (Poincaré and Hopf), so that others could be there in
    pairs only; "incomplete": neither."""
    winding: int | None
    """How often the gradient turns along the border of the box; None where it vanishes on it."""
    undecided: tuple[Box, ...]
    """Where it is neither proved that there is a critical point nor that there is none."""
    notes: tuple[str, ...]
    """Curves of stationary points, and what stood in the way of a proof, in sentences."""
    limits: dict[str, Any]
    """Of the two-weight network: the limits of the lowest loss over w2; see `critical_points`."""

    @property
    def complete(self) -> bool:
        """Whether all are known to be found, by proof or by index."""
        return self.completeness != "incomplete"

    def of_kind(self, kind: str) -> tuple[CriticalPoint, ...]:
        """Those of one kind."""
        return tuple(point for point in self.points if point.kind == kind)

    def __repr__(self) -> str:
        where = ", ".join(
            f"{name} in [{low:g}, {high:g}]"
            for name, (low, high) in zip(self.names, self.box, strict=True)
        )
        count = len(self.points)
        known = {
            "proved": f"proved to be all in {where}",
            "index": f"as many as the gradient's turning around {where} asks for",
            "incomplete": f"maybe not all in {where}",
        }[self.completeness]
        lines = [f"{count} critical point{'' if count == 1 else 's'}, {known}"]
        lines += [
            f"{point.kind} at {self.names[0]} = {rounded(point.a)}, "
            f"{self.names[1]} = {rounded(point.b)}, loss {rounded(point.loss)}"
            for point in self.points[:_MOST_LINES]
        ]
        if count > _MOST_LINES:
            lines.append(f"and {count - _MOST_LINES} more")
        return "\n  ".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of the points."""
        heads = ("kind", *self.names, "loss", "eigenvalues", "certified")
        rows = [
            (
                point.kind,
                *map(rounded, (point.a, point.b, point.loss)),
                ", ".join(f"{value:.4g}" for value in point.eigenvalues),
                "yes" if point.certified else "no",
            )
            for point in self.points
        ]
        words = [repr(self).partition("\n")[0], *self.notes]
        return thumbnails.table(heads, rows) + "".join(map(thumbnails.paragraph, words))


def rounded(number: float, digits: int = 6) -> str:
    """So many digits, and 0 for what is only rounding."""
    return "0" if abs(number) < 1e-13 else f"{number:.{digits}g}"


def kind_of(eigenvalues: np.ndarray) -> str:
    """A critical point's kind by the signs of its Hessian's eigenvalues."""
    least, greatest = eigenvalues
    if min(abs(least), abs(greatest)) <= _SINGULAR * max(abs(least), abs(greatest)):
        return "degenerate"
    return "minimum" if least > 0 else "maximum" if greatest < 0 else "saddle"


def in_box(box: Box, a: float, b: float) -> bool:
    """Whether a point lies in the box, its border counted in."""
    return all(low <= x <= high for (low, high), x in zip(box, (a, b), strict=True))


def on_boundary(box: Box, a: float, b: float) -> bool:
    """Whether a point lies on the border of the box, as far as float64 tells."""
    return any(
        abs(x - end) <= 1e-12 * (high - low)
        for (low, high), x in zip(box, (a, b), strict=True)
        for end in (low, high)
    )
