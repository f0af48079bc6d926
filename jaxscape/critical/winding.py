"""How often a gradient turns along a closed curve: the sum of the indices within it."""

from collections.abc import Callable

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]
"""Points (n, 2) -> gradients (n, 2)."""

# Between neighboring points the gradient turns by less than this, in radians; of a turn that stays
# larger however near the points are, the gradient vanishes between them.
_LARGEST_TURN = 0.6
_HALVINGS = 40
_MOST_POINTS = 200_000


def around(field: Field, curve: Callable[[np.ndarray], np.ndarray], points: int) -> int | None:
    """How often a field turns along a closed curve, positive where it turns as the curve does.

    Args:
        field: the gradient.
        curve: places in [0, 1], (n,) -> points of the curve, (n, 2), counterclockwise.
        points: how many to begin with.

    Returns:
        The number of turns; None where the field vanishes on the curve, or is not finite.
    """
    places = np.linspace(0, 1, points + 1)
    gradients = field(curve(places))
    for _ in range(_HALVINGS):
        sizes = np.hypot(*gradients.T)
        if not np.isfinite(gradients).all() or not (sizes > 0).all():
            return None
        turns = _turns(gradients)
        coarse = np.flatnonzero(abs(turns) > _LARGEST_TURN)
        if not len(coarse):
            return round(float(turns.sum()) / (2 * np.pi))
        between = (places[coarse] + places[coarse + 1]) / 2
        if len(places) > _MOST_POINTS or (between == places[coarse]).any():
            return None
        gradients = np.insert(gradients, coarse + 1, field(curve(between)), axis=0)
        places = np.insert(places, coarse + 1, between)
    return None


def _turns(gradients: np.ndarray) -> np.ndarray:
    """The angles from each gradient to the next."""
    (x, y), (u, v) = gradients[:-1].T, gradients[1:].T
    return np.arctan2(x * v - y * u, x * u + y * v)


def border(box: tuple[tuple[float, float], ...]) -> Callable[[np.ndarray], np.ndarray]:
    """The border of a box as a curve."""
    (left, right), (bottom, top) = box
    corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]])

    def curve(places: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(4 * places, np.arange(5), side) for side in corners.T], axis=1)

    return curve


def circle(center: np.ndarray, radii: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """An ellipse along the axes."""

    def curve(places: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * places
        return center + radii * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    return curve
