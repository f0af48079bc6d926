"""The squared error of the two-weight network as piecewise polynomials of w1.

With h = tanh(w1·x), A = mean(h²) and B = mean(y·h), the mean squared error is a parabola in w2 with
its minimum at B/A. The form floor + A·(w2 - B/A)² is accurate near a perfect fit, where
C - 2·w2·B + w2²·A, with C = mean(y²), loses digits by cancellation. At w1 = 0, however, A vanishes
and B/A has a pole. With t = tanh(w1·scale), where scale is the largest |x|, the form

    error = floor + curvature·(t·w2 - center)², curvature = A/t², center = t·B/A

has no such singularity. Floor, curvature and center are even in w1, smooth at 0, and constant in
float64 where every sample is saturated. Their singularities have |arg w1| > 45°, because A can
vanish only there. So on an interval from w1 to √2·w1, Chebyshev coefficients decrease at least as
fast as 8.2⁻ᵏ for any data (Trefethen, "Approximation Theory and Approximation Practice",
theorem 8.2).
"""

import math
from typing import NamedTuple

import numpy as np

from jaxscape._util.progress import bar

DEGREE = 16
"""The degree of the polynomials; 8.2⁻¹⁷ is 3e-16, about the rounding error of float64."""
_FIRST_END = 0.25
"""scale·w1 at the end of the first interval, which starts at 0."""
_SATURATION = 20.0
"""tanh of larger numbers is 1 in float64."""


class PiecewisePolynomials(NamedTuple):
    """Floor, curvature and center as functions of w1 ≥ 0, in float64."""

    scale: float
    """The largest |x|; 1 if all x are 0."""
    ends: np.ndarray
    """(p,) ends of the intervals. The first starts at 0; beyond the last, the limits hold."""
    coefficients: np.ndarray
    """(p, 3, DEGREE + 1) Chebyshev coefficients of floor, curvature and center."""
    limits: np.ndarray
    """(3,) floor, curvature and center beyond the last interval."""

    def evaluate(self, w1: np.ndarray) -> np.ndarray:
        """Return floor, curvature and center, (3, k), at the values `w1`, (k,).

        Example:
            >>> one_sample = fit_polynomials(np.array([2.0]), np.array([3.0]))
            >>> one_sample.evaluate(np.array([0.0, -0.7, 1e6])).round(12) + 0.0
            array([[0., 0., 0.],
                   [1., 1., 1.],
                   [3., 3., 3.]])
        """
        size = abs(w1)
        interval = np.searchsorted(self.ends, size)
        values = np.repeat(self.limits[:, None], len(size), axis=1)
        inside = interval < len(self.ends)
        interval, size = interval[inside], size[inside]
        starts = np.concatenate([[0.0], self.ends[:-1]])[interval]
        position = 2 * (size - starts) / (self.ends[interval] - starts) - 1
        basis = np.polynomial.chebyshev.chebvander(position, DEGREE)
        values[:, inside] = np.einsum("kd,kqd->qk", basis, self.coefficients[interval])
        return values

    def error(self, w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
        """Return the mean squared error, (k,), at the points (w1, w2), (k,) each.

        Example:
            >>> one_sample = fit_polynomials(np.array([2.0]), np.array([3.0]))
            >>> one_sample.error(np.array([0.5]), np.array([1.0])).round(6)
            array([5.010461])
        """
        floor, curvature, center = self.evaluate(w1)
        with np.errstate(over="ignore"):  # tanh of infinity is 1
            t = np.tanh(w1 * self.scale)
        return floor + curvature * (t * w2 - center) ** 2


def fit_polynomials(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None
) -> PiecewisePolynomials:
    """Compute the polynomials of a data set, with a progress bar.

    Args:
        x: (n,) float64, the inputs.
        y: (n,) float64, the targets.
        weight: (n,) float64, the sample weights; None for equal weights.

    Returns:
        The polynomials, on at most 2·log2(160·scale / the smallest nonzero |x|) intervals.

    Example:
        >>> fit_polynomials(np.array([1.0, -2.0]), np.array([1.0, 1.0])).coefficients.shape
        (16, 3, 17)
    """
    weight = np.ones_like(x) if weight is None else weight
    # Sorted by |x|: samples with x = 0 come first, those that are saturated at a given w1 last.
    order = np.argsort(abs(x), kind="stable")
    order = order[weight[order] > 0]
    size, signed, weight = abs(x)[order], (y * np.sign(x))[order], weight[order]
    weight = weight / math.fsum(weight)
    zeros = int(np.searchsorted(size, 0, side="right"))
    constant = float(weight[:zeros] @ y[order][:zeros] ** 2)
    size, signed, weight = size[zeros:], signed[zeros:], weight[zeros:]
    if not len(size):
        limits = np.array([constant, 0.0, 0.0])
        return PiecewisePolynomials(1.0, np.empty(0), np.empty((0, 3, DEGREE + 1)), limits)
    scale = float(size[-1])
    # The intervals end where all samples are saturated, or at the largest float64 numbers.
    last = min(math.log2(_SATURATION) - math.log2(size[0]), 1000.0)
    count = math.ceil(2 * (last + math.log2(scale / _FIRST_END))) + 1
    ends = np.exp2(math.log2(_FIRST_END / scale) + np.arange(count) / 2)
    starts = np.concatenate([[0.0], ends[:-1]])
    angles = np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1)
    # The discrete cosine transform from values at Chebyshev nodes to coefficients.
    transform = 2 / (DEGREE + 1) * np.cos(np.outer(np.arange(DEGREE + 1), angles))
    transform[0] /= 2
    coefficients = np.empty((count, 3, DEGREE + 1))
    samples = _Samples(size, signed, weight, constant)
    with bar(count, "intervals") as progress:
        for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
            nodes = start + (end - start) * (1 + np.cos(angles)) / 2
            coefficients[k] = samples.parabolas(nodes, scale) @ transform.T
            progress.update()
    limits = samples.parabolas(np.array([math.inf]), scale)[:, 0]
    return PiecewisePolynomials(scale, ends, coefficients, limits)


class _Samples(NamedTuple):
    """The samples with x ≠ 0, sorted by |x|."""

    size: np.ndarray
    """(n,) |x|."""
    signed: np.ndarray
    """(n,) y·sign(x)."""
    weight: np.ndarray
    """(n,) sample weights; those of all samples add up to 1."""
    constant: float
    """The error of the samples with x = 0, which does not depend on the network's weights."""

    def parabolas(self, w1: np.ndarray, scale: float) -> np.ndarray:
        """Return floor, curvature and center, (3, k), at k values of w1 > 0, by direct sums."""
        unsaturated = int(np.searchsorted(self.size, _SATURATION / w1.min()))
        # Saturated samples have h = 1; their weight, mean and variance determine their error.
        signed, weight = self.signed[unsaturated:], self.weight[unsaturated:]
        total = float(weight.sum())
        mean = float(weight @ signed) / total if total else 0.0
        rest = self.constant + float(weight @ (signed - mean) ** 2)
        size, signed, weight = (
            values[:unsaturated] for values in (self.size, self.signed, self.weight)
        )
        result = np.empty((3, len(w1)))
        for k, value in enumerate(w1):
            h = np.tanh(value * size)
            weighted = weight * h
            mean_square = total + weighted @ h
            minimum = (total * mean + weighted @ signed) / mean_square
            floor = rest + total * (mean - minimum) ** 2 + weight @ (signed - minimum * h) ** 2
            t = math.tanh(float(value) * scale)
            result[:, k] = floor, mean_square / t**2, t * minimum
        return result
