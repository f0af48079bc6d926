"""The squared error of the two-weight network as polynomials of w1, whatever the size of the data.

With h = tanh(w1·x), A = mean(h²) and B = mean(y·h), the error is a parabola in w2 that is lowest at
B/A, and floor + A·(w2 - B/A)² loses no digits near a perfect fit, where C - 2·w2·B + w2²·A does.
Beside w1 = 0 both A and 1/(B/A) vanish. So with t = tanh(w1·scale), scale being the largest |x|:

    error = floor + curvature·(t·w2 - lowest)², curvature = A/t², lowest = t·B/A.

All three are even in w1, smooth at 0, and constant to the last digit where every sample is
saturated. Their singularities lie where |arg w1| > 45°, since there alone A can vanish: so on a
panel from w1 to √2·w1 Chebyshev coefficients fall at least as 8.2⁻ᵏ, on any data (Trefethen,
"Approximation Theory and Approximation Practice", theorem 8.2).
"""

import math
from typing import NamedTuple

import numpy as np

from jaxscape._util.progress import bar

DEGREE = 16
"""8.2⁻¹⁷ is 3e-16, a rounding."""
_FIRST = 0.25
"""scale·w1 at the end of the first panel, which starts at 0."""
_SATURATED = 20.0
"""tanh rounds to 1 from here on."""


class Panels(NamedTuple):
    """Floor, curvature and lowest point along w1 ≥ 0, in float64."""

    scale: float
    """The largest |x|; 1 if all x are 0."""
    ends: np.ndarray
    """(p,) where each panel ends; the first starts at 0, and beyond the last all is constant."""
    coefficients: np.ndarray
    """(p, 3, DEGREE + 1) of Chebyshev polynomials on each panel: floor, curvature, lowest."""
    limits: np.ndarray
    """(3,) the same three beyond the last panel."""

    def at(self, w1: np.ndarray) -> np.ndarray:
        """Floor, curvature and lowest point, (3, k), at the values `w1`, (k,).

        Example:
            >>> of_one = panels(np.array([2.0]), np.array([3.0]))
            >>> of_one.at(np.array([0.0, -0.7, 1e6])).round(12) + 0.0
            array([[0., 0., 0.],
                   [1., 1., 1.],
                   [3., 3., 3.]])
        """
        size = abs(w1)
        panel = np.searchsorted(self.ends, size)
        found = np.repeat(self.limits[:, None], len(size), axis=1)
        inside = panel < len(self.ends)
        panel, size = panel[inside], size[inside]
        starts = np.concatenate([[0.0], self.ends[:-1]])[panel]
        place = 2 * (size - starts) / (self.ends[panel] - starts) - 1
        basis = np.polynomial.chebyshev.chebvander(place, DEGREE)
        found[:, inside] = np.einsum("kd,kqd->qk", basis, self.coefficients[panel])
        return found

    def error(self, w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
        """The mean squared error at the points (w1, w2), each (k,).

        Example:
            >>> of_one = panels(np.array([2.0]), np.array([3.0]))
            >>> of_one.error(np.array([0.5]), np.array([1.0])).round(6)
            array([5.010461])
        """
        floor, curvature, lowest = self.at(w1)
        with np.errstate(over="ignore"):  # its tanh is 1
            t = np.tanh(w1 * self.scale)
        return floor + curvature * (t * w2 - lowest) ** 2


def panels(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> Panels:
    """Floor, curvature and lowest point of the error along w1.

    Args:
        x, y: (n,) float64 inputs and targets.
        weight: (n,) what each sample counts; None: all alike.

    Returns:
        The panels, at most 2·log2(160·scale / the smallest |x| that is not 0) of them.

    Example:
        >>> panels(np.array([1.0, -2.0]), np.array([1.0, 1.0])).coefficients.shape
        (16, 3, 17)
    """
    weight = np.ones_like(x) if weight is None else weight
    # By size, so that the samples that are saturated on a panel come last; those of x = 0 first.
    order = np.argsort(abs(x), kind="stable")
    order = order[weight[order] > 0]
    size, signed, weight = abs(x)[order], (y * np.sign(x))[order], weight[order]
    weight = weight / math.fsum(weight)
    moving = int(np.searchsorted(size, 0, side="right"))
    idle = float(weight[:moving] @ y[order][:moving] ** 2)
    size, signed, weight = size[moving:], signed[moving:], weight[moving:]
    if not len(size):
        return Panels(1.0, np.empty(0), np.empty((0, 3, DEGREE + 1)), np.array([idle, 0.0, 0.0]))
    scale = float(size[-1])
    # From the end of the first panel to where all are saturated, or to the largest of numbers.
    last = min(math.log2(_SATURATED) - math.log2(size[0]), 1000.0)
    count = math.ceil(2 * (last + math.log2(scale / _FIRST))) + 1
    ends = np.exp2(math.log2(_FIRST / scale) + np.arange(count) / 2)
    starts = np.concatenate([[0.0], ends[:-1]])
    angles = np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1)
    # A discrete cosine transform, written out.
    transform = 2 / (DEGREE + 1) * np.cos(np.outer(np.arange(DEGREE + 1), angles))
    transform[0] /= 2
    coefficients = np.empty((count, 3, DEGREE + 1))
    samples = _Samples(size, signed, weight, idle)
    with bar(count, "panels") as progress:
        for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
            nodes = start + (end - start) * (1 + np.cos(angles)) / 2
            coefficients[k] = samples.along(nodes, scale) @ transform.T
            progress.update()
    limits = samples.along(np.array([math.inf]), scale)[:, 0]
    return Panels(scale, ends, coefficients, limits)


class _Samples(NamedTuple):
    """Samples that are not at x = 0, in the order of |x|."""

    size: np.ndarray
    """(n,) |x|."""
    signed: np.ndarray
    """(n,) y with the sign of x."""
    weight: np.ndarray
    """(n,) what each counts."""
    idle: float
    """What the samples at x = 0, which no weight moves, add to the error."""

    def along(self, w1: np.ndarray, scale: float) -> np.ndarray:
        """Floor, curvature and lowest point, (3, k), at k values of w1 > 0."""
        moving = int(np.searchsorted(self.size, _SATURATED / w1.min()))
        # The others are at 1 for all these w1, and known by their sum, mean and spread.
        signed, weight = self.signed[moving:], self.weight[moving:]
        sure = float(weight.sum())
        mean = float(weight @ signed) / sure if sure else 0.0
        spread = self.idle + float(weight @ (signed - mean) ** 2)
        size, signed, weight = self.size[:moving], self.signed[:moving], self.weight[:moving]
        found = np.empty((3, len(w1)))
        for k, value in enumerate(w1):
            h = np.tanh(value * size)
            weighted = weight * h
            square = sure + weighted @ h
            best = (sure * mean + weighted @ signed) / square
            floor = spread + sure * (mean - best) ** 2 + weight @ (signed - best * h) ** 2
            t = math.tanh(float(value) * scale)
            found[:, k] = floor, square / t**2, t * best
        return found
