"""The profile of the two-weight network: its squared error minimized over w2, for w1 > 0.

With h = tanh(w1·x), A = Σ n·h² and B = Σ y·h the error is c - 2·w2·B + w2²·A, which is lowest at
w2 = B/A (variable projection). The profile c - B²/A is stationary where E = ½·A'·B - A·B' vanishes,
where ' is d/d(log w1). With z = w1·x, the derivatives of h, of κ = 2z/sinh(2z) and of
λ = 2z·coth(2z) - 1 are polynomials in these functions, h' = h·κ and κ' = -λ·κ, and each function is
monotone in w1. Over a subinterval of w1 every sample's term therefore lies between its values at
the ends, and so do the sums.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from jaxscape.critical.two_weights.roots import Interval

# Each term of a sum is a product of a few functions that are accurate to some units in the last
# place. The least accurate one is an exponential with a rounded argument, of size 745 at most.
_ROUNDING_TOL = 1e-12
# Below, series replace subtractions of nearly equal numbers.
_SERIES_BELOW = 1.0


class Samples(NamedTuple):
    """The samples grouped by |x|: tanh is odd, so those of equal |x| act as one."""

    x: np.ndarray
    """(k,) the distinct nonzero |x|, in increasing order."""
    n: np.ndarray
    """(k,) the total weight of the samples at each |x|; all weights sum to 1."""
    y: np.ndarray
    """(k,) the weighted sums of their targets, with the signs of their inputs."""
    mean_square: float
    """The weighted mean of all squared targets."""
    mean_xy: float
    """The weighted mean of x·y; exactly 0 if it is 0 within rounding."""
    sum_y: float
    """The sum of `y`; exactly 0 if it is 0 within rounding."""


def group_samples(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Samples:
    """Group samples, given in float64, by |x|."""
    weight = weight / math.fsum(weight)
    size, sign = abs(x), np.sign(x)
    distinct, group = np.unique(size, return_inverse=True)
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(len(distinct) + 1))

    def sums(values: np.ndarray) -> np.ndarray:
        # fsum rounds once: targets that cancel sum to exactly 0.
        grouped = values[order]
        pairs = itertools.pairwise(ends)
        return np.array([math.fsum(grouped[start:end]) for start, end in pairs])

    n, target = sums(weight), sums(weight * y * sign)
    keep = (distinct > 0) & (n > 0)

    def zero_if_rounding(number: float, terms: np.ndarray) -> float:
        return number if abs(number) > 4 * np.finfo(float).eps * math.fsum(abs(terms)) else 0.0

    return Samples(
        distinct[keep],
        n[keep],
        target[keep],
        math.fsum(weight * y * y),
        zero_if_rounding(math.fsum(distinct * target), weight * x * y),
        zero_if_rounding(math.fsum(target[keep]), weight * y),
    )


class _Functions(NamedTuple):
    """The functions at b values of w1 and k of x, each (b, k)."""

    h: np.ndarray
    phi: np.ndarray
    """h / w1."""
    kappa: np.ndarray
    mu: np.ndarray
    """1 - κ."""
    lam: np.ndarray
    ratio: np.ndarray
    """κ divided by that of the smallest x, which decays far more slowly than κ itself."""
    lam_difference: np.ndarray
    """λ minus that of the smallest x."""


def _functions(x: np.ndarray, w1: np.ndarray) -> _Functions:
    z = w1[:, None] * x
    h, u = np.tanh(z), 2 * z
    with np.errstate(over="ignore"):
        sinh = np.sinh(u)
    kappa = u / sinh
    small = np.minimum(u, _SERIES_BELOW) ** 2
    excess, moment = np.zeros_like(u), np.zeros_like(u)
    for k in range(9, 0, -1):
        # sinh u - u = u·Σ u²ᵏ/(2k+1)! and u·cosh u - sinh u = u·Σ 2k·u²ᵏ/(2k+1)!
        excess = (excess + 1) * small / ((2 * k) * (2 * k + 1))
        moment = (moment + 2 * k) * small / ((2 * k) * (2 * k + 1))
    near = u < _SERIES_BELOW
    mu = np.where(near, excess * kappa, 1 - kappa)
    with np.errstate(divide="ignore", invalid="ignore"):
        lam = np.where(near, moment * kappa, u / np.tanh(u) - 1)
    # log κ = log 2u - u - log(1 - exp(-2u)). The large part of the difference is exact.
    rest = np.log(-np.expm1(-2 * u))
    ratio = np.exp(np.log(x / x[0]) - 2 * w1[:, None] * (x - x[0]) - (rest - rest[:, :1]))
    return _Functions(h, h / w1[:, None], kappa, mu, lam, ratio, lam - lam[:, :1])


def _weighted_sum(weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> Interval:
    """Enclose the sums over samples, (b,), of weights, (k,), times terms in intervals, (b, k)."""
    plus, minus = np.maximum(weight, 0), np.maximum(-weight, 0)
    size = np.maximum(abs(low), abs(high)) @ (plus + minus)
    relative = _ROUNDING_TOL + 4 * len(weight) * np.finfo(float).eps
    rounding = relative * size + np.finfo(float).tiny
    return low @ plus - high @ minus - rounding, high @ plus - low @ minus + rounding


def times(first: Interval, second: Interval) -> Interval:
    """Return the product of two intervals."""
    ends = np.stack([a * b for a in first for b in second])
    rounding = 4 * np.finfo(float).eps * abs(ends).max(axis=0) + np.finfo(float).tiny
    return ends.min(axis=0) - rounding, ends.max(axis=0) + rounding


def minus(first: Interval, *others: Interval) -> Interval:
    """Return an interval minus others."""
    low, high = first
    for other_low, other_high in others:
        low, high = low - other_high, high - other_low
    rounding = 4 * np.finfo(float).eps * np.maximum(abs(low), abs(high))
    return low - rounding, high + rounding


def _plus(first: Interval, second: Interval) -> Interval:
    return minus(first, (-second[1], -second[0]))


class ProfileEquation:
    """E, whose roots are the stationary points off w2 = 0, divided by a function without a root.

    The divisor is w1³ for small w1, and κ of the smallest x otherwise.
    """

    def __init__(self, samples: Samples) -> None:
        """Prepare the equation for at least two different |x|; for one, E is 0 everywhere."""
        self._samples = samples
        # Where κ is close to 1 for most samples, 1 - κ has more digits.
        self._small = _small_w1(samples)

    def values(self, w1: np.ndarray) -> Interval:
        """Enclose E at points, (b,)."""
        at = _functions(self._samples.x, w1)
        return _choose(w1 < self._small, self._near(at, at)[0], self._far(at, at)[0])

    def derivatives(self, p: np.ndarray, q: np.ndarray) -> Interval:
        """Enclose E' over subintervals from p to q, each (b,)."""
        start, end = _functions(self._samples.x, p), _functions(self._samples.x, q)
        small = np.sqrt(p * q) < self._small
        return _choose(small, self._near(start, end)[1], self._far(start, end)[1])

    def _near(self, p: _Functions, q: _Functions) -> tuple[Interval, Interval]:
        """Enclose E / w1³ and its derivative, with φ in place of h and μ = 1 - κ in place of -κ."""
        n, y = self._samples.n, self._samples.y
        one, square = (q.phi, p.phi), (q.phi**2, p.phi**2)
        mu, tau = (p.mu, q.mu), (p.lam * q.kappa, q.lam * p.kappa)
        bend = _times_nonnegative(square, (2 * mu[0] ** 2 - tau[1], 2 * mu[1] ** 2 - tau[0]))
        turn = _times_nonnegative(one, (mu[0] ** 2 - tau[1], mu[1] ** 2 - tau[0]))
        a, a_mu = _weighted_sum(n, *square), _weighted_sum(n, square[0] * mu[0], square[1] * mu[1])
        b, b_mu = _weighted_sum(y, *one), _weighted_sum(y, one[0] * mu[0], one[1] * mu[1])
        value = minus(times(a, b_mu), times(a_mu, b))
        return value, minus(
            times(_weighted_sum(n, *bend), b), times(a_mu, b_mu), times(a, _weighted_sum(y, *turn))
        )

    def _far(self, p: _Functions, q: _Functions) -> tuple[Interval, Interval]:
        """Enclose E / κ of the smallest x, and its derivative."""
        n, y = self._samples.n, self._samples.y
        one, square = (p.h, q.h), (p.h**2, q.h**2)
        kappa, ratio = (q.kappa, p.kappa), (q.ratio, p.ratio)
        # Differences of λ lose their last digits.
        lost = 16 * np.finfo(float).eps * (1 + q.lam)
        difference = (p.lam_difference - lost, q.lam_difference + lost)
        squared, single = (
            tuple(low * part for low, part in zip(term, ratio, strict=True))
            for term in (square, one)
        )
        bend = _times_nonnegative(
            squared, (2 * kappa[0] - difference[1], 2 * kappa[1] - difference[0])
        )
        turn = _times_nonnegative(single, (kappa[0] - difference[1], kappa[1] - difference[0]))
        a, a_slope = (
            _weighted_sum(n, *square),
            _weighted_sum(n, square[0] * kappa[0], square[1] * kappa[1]),
        )
        b, b_slope = _weighted_sum(y, *one), _weighted_sum(y, one[0] * kappa[0], one[1] * kappa[1])
        a_ratio, b_ratio = _weighted_sum(n, *squared), _weighted_sum(y, *single)
        value = minus(times(a_ratio, b), times(a, b_ratio))
        rising = _plus(times(_weighted_sum(n, *bend), b), times(a_ratio, b_slope))
        twice = (2 * a_slope[0], 2 * a_slope[1])
        return value, minus(rising, times(twice, b_ratio), times(a, _weighted_sum(y, *turn)))

    def may_vanish_below(self, w1: float) -> bool:
        """Return whether E may have a root in (0, w1]."""
        x, n, y = self._samples[:3]
        at = _functions(x, np.array([w1]))
        # φ and μ/z² decrease from their limits x and 2/3 at 0.
        phi, full = (at.phi, x[None]), np.full((1, len(x)), 2 / 3)
        mu = (at.mu / (w1 * x) ** 2 * x**2, full * x**2)
        square = (phi[0] ** 2, phi[1] ** 2)
        first = times(_weighted_sum(n, *square), _weighted_sum(y, phi[0] * mu[0], phi[1] * mu[1]))
        second = times(
            _weighted_sum(n, square[0] * mu[0], square[1] * mu[1]), _weighted_sum(y, *phi)
        )
        return _contains_zero(minus(first, second))

    def may_vanish_above(self, w1: float) -> bool:
        """Return whether E may have a root above w1."""
        x, n, y = self._samples[:3]
        at = _functions(x, np.array([w1]))
        # h rises to 1. The first ratio of κ is 1, and the others fall to 0.
        one, first = (at.h, np.ones_like(at.h)), np.arange(len(x)) == 0
        ratio = (np.where(first, 1, 0), np.where(first, 1, at.ratio))
        squares = _weighted_sum(n, one[0] ** 2 * ratio[0], ratio[1])
        singles = _weighted_sum(y, one[0] * ratio[0], ratio[1])
        return _contains_zero(
            minus(
                times(squares, _weighted_sum(y, *one)),
                times(_weighted_sum(n, one[0] ** 2, one[1]), singles),
            )
        )


class AxisEquation:
    """B, whose roots are the stationary points on w2 = 0, divided by a function without a root."""

    def __init__(self, samples: Samples) -> None:
        """Prepare the equation for targets that are not all 0."""
        self._samples = samples
        self._small = _small_w1(samples)

    def values(self, w1: np.ndarray) -> Interval:
        """Enclose B at points, (b,)."""
        at, y = _functions(self._samples.x, w1), self._samples.y
        if self._samples.sum_y:
            far = _weighted_sum(y, at.h, at.h)
        else:
            ratio, _ = self._ratio_and_rate(w1)
            far = _weighted_sum(-y, ratio, ratio)
        return _choose(w1 < self._small, _weighted_sum(y, at.phi, at.phi), far)

    def derivatives(self, p: np.ndarray, q: np.ndarray) -> Interval:
        """Enclose B' over subintervals from p to q, each (b,)."""
        y = self._samples.y
        start, end = _functions(self._samples.x, p), _functions(self._samples.x, q)
        near = _weighted_sum(-y, end.phi * start.mu, start.phi * end.mu)
        if self._samples.sum_y:
            far = _weighted_sum(y, start.h * end.kappa, end.h * start.kappa)
        else:
            (most, low), (least, high) = self._ratio_and_rate(p), self._ratio_and_rate(q)
            fall = low - high[:, :1], high - low[:, :1]
            far = _weighted_sum(y, *_times_nonnegative((least, most), fall))
        return _choose(np.sqrt(p * q) < self._small, near, far)

    def _ratio_and_rate(self, w1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return r, the ratio of 1 - h to that of the smallest x, and z·(1 + h).

        r decreases, at a rate given by the differences of z·(1 + h) between samples. If the targets
        sum to 0, B is the sum of y·(h - 1), which has more digits for large w1.
        """
        x = self._samples.x
        z = w1[:, None] * x
        small = np.exp(-2 * z)
        ratio = np.exp(-2 * w1[:, None] * (x - x[0])) * (1 + small[:, :1]) / (1 + small)
        return ratio, 2 * z / (1 + small)

    def may_vanish_below(self, w1: float) -> bool:
        """Return whether B may have a root between 0 and w1."""
        x, y = self._samples.x, self._samples.y
        if self._samples.mean_xy:
            return _contains_zero(_weighted_sum(y, _functions(x, np.array([w1])).phi, x[None]))
        # The sum of x·y is 0, so -B/w1 is the sum of y·(x - φ). There (x - φ)/(w1²·x³) decreases
        # from 1/3 and is at least 1/3/(1 + z²).
        rest = x[None] ** 3 / 3
        return _contains_zero(_weighted_sum(y, rest / (1 + (w1 * x) ** 2), rest))

    def may_vanish_above(self, w1: float) -> bool:
        """Return whether B may have a root above w1."""
        if self._samples.sum_y:
            h = _functions(self._samples.x, np.array([w1])).h
            return _contains_zero(_weighted_sum(self._samples.y, h, np.ones_like(h)))
        ratio, _ = self._ratio_and_rate(np.array([w1]))
        return _contains_zero(
            _weighted_sum(self._samples.y, np.where(np.arange(ratio.size) == 0, 1, 0), ratio)
        )


def _small_w1(samples: Samples) -> float:
    """Return the w1 below which the form of an equation for small w1 is used."""
    return 0.6 / float(np.average(samples.x, weights=samples.n))


def _times_nonnegative(factor: Interval, other: Interval) -> Interval:
    """Return the product of an interval of numbers ≥ 0 and an interval of any numbers."""
    (low, high), (below, above) = factor, other
    return (
        np.where(below >= 0, low, high) * below,
        np.where(above >= 0, high, low) * above,
    )


def _choose(condition: np.ndarray, first: Interval, second: Interval) -> Interval:
    return np.where(condition, first[0], second[0]), np.where(condition, first[1], second[1])


def _contains_zero(interval: Interval) -> bool:
    low, high = interval
    return bool(low[0] <= 0 <= high[0])
