"""The winding number of a gradient along a closed curve: the sum of the indices inside it."""

from collections.abc import Callable

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]
"""Points (n, 2) -> gradients (n, 2)."""
Curve = Callable[[np.ndarray], np.ndarray]
"""Parameters in [0, 1], (n,) -> points of a closed curve, (n, 2), counterclockwise."""

# The largest angle, in radians, between the gradients at neighboring points. Where bisection does
# not bring an angle below this, the gradient vanishes between the points.
_MAX_ANGLE = 0.6
_MAX_BISECTIONS = 40
_MAX_POINTS = 200_000


def winding_number(field: Field, curve: Curve, points: int) -> int | None:
    """Compute the winding number of a field along a closed curve.

    It is positive if the field turns in the direction of the curve. The curve is sampled more
    densely where the field turns fast.

    Args:
        field: the gradient.
        curve: the closed curve.
        points: the number of points to begin with.

    Returns:
        The number of turns; None if the field vanishes on the curve or is not finite there.
    """
    parameters = np.linspace(0, 1, points + 1)
    gradients = field(curve(parameters))
    for _ in range(_MAX_BISECTIONS):
        norms = np.hypot(*gradients.T)
        if not np.isfinite(gradients).all() or not (norms > 0).all():
            return None
        angles = _angles(gradients)
        coarse = np.flatnonzero(abs(angles) > _MAX_ANGLE)
        if not len(coarse):
            return round(float(angles.sum()) / (2 * np.pi))
        middles = (parameters[coarse] + parameters[coarse + 1]) / 2
        if len(parameters) > _MAX_POINTS or (middles == parameters[coarse]).any():
            return None
        gradients = np.insert(gradients, coarse + 1, field(curve(middles)), axis=0)
        parameters = np.insert(parameters, coarse + 1, middles)
    return None


def _angles(gradients: np.ndarray) -> np.ndarray:
    """Return the angle from each gradient to the next."""
    # Powers of two are exact factors. Without them, products of tiny gradients vanish.
    _, exponents = np.frexp(abs(gradients).max(axis=1))
    gradients = np.ldexp(gradients, -exponents[:, None])
    (x, y), (u, v) = gradients[:-1].T, gradients[1:].T
    return np.arctan2(x * v - y * u, x * u + y * v)


def boundary(box: tuple[tuple[float, float], ...]) -> Curve:
    """Return the boundary of a box as a curve."""
    (left, right), (bottom, top) = box
    corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]])

    def curve(parameters: np.ndarray) -> np.ndarray:
        return np.stack(
            [np.interp(4 * parameters, np.arange(5), side) for side in corners.T], axis=1
        )

    return curve


def ellipse(center: np.ndarray, radii: np.ndarray) -> Curve:
    """Return an ellipse with its axes along the coordinates."""

    def curve(parameters: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * parameters
        return center + radii * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    return curve
