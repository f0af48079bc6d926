"""The profile of the two-weight network: the lowest squared error over w2, along w1 > 0.

With h = tanh(w1·x), A = Σ n·h² and B = Σ y·h the error is c - 2·w2·B + w2²·A, lowest at w2 = B/A,
and the profile c - B²/A is stationary where E = ½·A'·B - A·B' vanishes, ' being d/d(log w1). The
derivatives of h, of κ = 2z/sinh(2z) and of λ = 2z·coth(2z) - 1, z = w1·x, are polynomials in
themselves, h' = h·κ and κ' = -λ·κ, and each is monotone in w1: over a stretch of w1 every sample's
part lies between its ends' values, and so do the sums.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from jaxscape.critical.two_weights.roots import Interval

# Each term of a sum is a product of a few functions, right to some units in the last place; the
# least certain is an exponential whose argument, of size 745 at most, is rounded.
_ROUNDING = 1e-12
# Below, subtractions of nearly equal numbers are replaced by series.
_SERIES_BELOW = 1.0


class Samples(NamedTuple):
    """Samples as the profile knows them: tanh is odd, so that those of equal |x| are one."""

    x: np.ndarray
    """(k,) the distinct |x| that are not 0, in increasing order."""
    n: np.ndarray
    """(k,) the weights of the samples there, all weights being 1 in sum."""
    y: np.ndarray
    """(k,) the weighted sums of their targets, with the signs of their inputs."""
    square: float
    """The mean of all squared targets."""
    slope: float
    """The mean of x·y; exactly 0 where it cannot be told from 0."""
    total: float
    """The sum of `y`, likewise."""


def of_samples(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Samples:
    """Samples in float64, those of equal |x| put together."""
    weight = weight / math.fsum(weight)
    size, sign = abs(x), np.sign(x)
    distinct, where = np.unique(size, return_inverse=True)
    order = np.argsort(where, kind="stable")
    ends = np.searchsorted(where[order], np.arange(len(distinct) + 1))

    def sums(values: np.ndarray) -> np.ndarray:
        # fsum rounds once: targets that cancel are 0 and nothing else.
        grouped = values[order]
        pairs = itertools.pairwise(ends)
        return np.array([math.fsum(grouped[start:end]) for start, end in pairs])

    n, target = sums(weight), sums(weight * y * sign)
    keep = (distinct > 0) & (n > 0)

    def told_from_zero(number: float, terms: np.ndarray) -> float:
        return number if abs(number) > 4 * np.finfo(float).eps * math.fsum(abs(terms)) else 0.0

    return Samples(
        distinct[keep],
        n[keep],
        target[keep],
        math.fsum(weight * y * y),
        told_from_zero(math.fsum(distinct * target), weight * x * y),
        told_from_zero(math.fsum(target[keep]), weight * y),
    )


class _Functions(NamedTuple):
    """(b, k) at b values of w1 and k of x."""

    h: np.ndarray
    phi: np.ndarray
    """h / w1."""
    kappa: np.ndarray
    mu: np.ndarray
    """1 - κ."""
    lam: np.ndarray
    ratio: np.ndarray
    """κ over that of the smallest x, which falls far more slowly than κ itself."""
    apart: np.ndarray
    """λ less that of the smallest x."""


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
    # log κ = log 2u - u - log(1 - exp(-2u)), of which the large part is subtracted exactly.
    rest = np.log(-np.expm1(-2 * u))
    ratio = np.exp(np.log(x / x[0]) - 2 * w1[:, None] * (x - x[0]) - (rest - rest[:, :1]))
    return _Functions(h, h / w1[:, None], kappa, mu, lam, ratio, lam - lam[:, :1])


def _sum(of: np.ndarray, low: np.ndarray, high: np.ndarray) -> Interval:
    """Sums over samples, (b,), of terms (b, k) between low and high times what each counts."""
    plus, minus = np.maximum(of, 0), np.maximum(-of, 0)
    size = np.maximum(abs(low), abs(high)) @ (plus + minus)
    slack = (_ROUNDING + 4 * len(of) * np.finfo(float).eps) * size + np.finfo(float).tiny
    return low @ plus - high @ minus - slack, high @ plus - low @ minus + slack


def times(first: Interval, second: Interval) -> Interval:
    """The product of two intervals."""
    ends = np.stack([a * b for a in first for b in second])
    slack = 4 * np.finfo(float).eps * abs(ends).max(axis=0) + np.finfo(float).tiny
    return ends.min(axis=0) - slack, ends.max(axis=0) + slack


def minus(first: Interval, *others: Interval) -> Interval:
    """An interval less others."""
    low, high = first
    for other_low, other_high in others:
        low, high = low - other_high, high - other_low
    slack = 4 * np.finfo(float).eps * np.maximum(abs(low), abs(high))
    return low - slack, high + slack


def _plus(first: Interval, second: Interval) -> Interval:
    return minus(first, (-second[1], -second[0]))


class Stationarity:
    """E, divided by what has no root, where w1 is small, and where it is not."""

    def __init__(self, samples: Samples) -> None:
        """For at least two different |x|: with one alone, E is 0 everywhere."""
        self._s = samples
        # Where most of κ is near 1 its distance from 1 has more digits.
        self._small = 0.6 / float(np.average(samples.x, weights=samples.n))

    def values(self, w1: np.ndarray) -> Interval:
        """Enclosures of E at points, (b,)."""
        at = _functions(self._s.x, w1)
        return _where(w1 < self._small, self._near(at, at)[0], self._far(at, at)[0])

    def slopes(self, p: np.ndarray, q: np.ndarray) -> Interval:
        """Enclosures of E' over stretches from p to q, each (b,)."""
        start, end = _functions(self._s.x, p), _functions(self._s.x, q)
        small = np.sqrt(p * q) < self._small
        return _where(small, self._near(start, end)[1], self._far(start, end)[1])

    def _near(self, p: _Functions, q: _Functions) -> tuple[Interval, Interval]:
        """E / w1³, and its derivative: with φ for h and μ = 1 - κ for -κ."""
        n, y = self._s.n, self._s.y
        one, square = (q.phi, p.phi), (q.phi**2, p.phi**2)
        mu, tau = (p.mu, q.mu), (p.lam * q.kappa, q.lam * p.kappa)
        bend = _signed(square, (2 * mu[0] ** 2 - tau[1], 2 * mu[1] ** 2 - tau[0]))
        turn = _signed(one, (mu[0] ** 2 - tau[1], mu[1] ** 2 - tau[0]))
        a, a_mu = _sum(n, *square), _sum(n, square[0] * mu[0], square[1] * mu[1])
        b, b_mu = _sum(y, *one), _sum(y, one[0] * mu[0], one[1] * mu[1])
        value = minus(times(a, b_mu), times(a_mu, b))
        return value, minus(times(_sum(n, *bend), b), times(a_mu, b_mu), times(a, _sum(y, *turn)))

    def _far(self, p: _Functions, q: _Functions) -> tuple[Interval, Interval]:
        """E / κ of the smallest x, and its derivative."""
        n, y = self._s.n, self._s.y
        one, square = (p.h, q.h), (p.h**2, q.h**2)
        kappa, ratio = (q.kappa, p.kappa), (q.ratio, p.ratio)
        # Of differences of λ the last digits are lost.
        lost = 16 * np.finfo(float).eps * (1 + q.lam)
        apart = (p.apart - lost, q.apart + lost)
        squared, single = (
            tuple(low * part for low, part in zip(term, ratio, strict=True))
            for term in (square, one)
        )
        bend = _signed(squared, (2 * kappa[0] - apart[1], 2 * kappa[1] - apart[0]))
        turn = _signed(single, (kappa[0] - apart[1], kappa[1] - apart[0]))
        a, a_slope = _sum(n, *square), _sum(n, square[0] * kappa[0], square[1] * kappa[1])
        b, b_slope = _sum(y, *one), _sum(y, one[0] * kappa[0], one[1] * kappa[1])
        a_ratio, b_ratio = _sum(n, *squared), _sum(y, *single)
        value = minus(times(a_ratio, b), times(a, b_ratio))
        rising = _plus(times(_sum(n, *bend), b), times(a_ratio, b_slope))
        twice = (2 * a_slope[0], 2 * a_slope[1])
        return value, minus(rising, times(twice, b_ratio), times(a, _sum(y, *turn)))

    def vanishes_below(self, w1: float) -> bool:
        """Whether E may have a root between 0 and w1, both ends left out and w1 counted in."""
        x, n, y = self._s[:3]
        at = _functions(x, np.array([w1]))
        # φ and μ/z² fall from their limits x and 2/3 at 0.
        phi, full = (at.phi, x[None]), np.full((1, len(x)), 2 / 3)
        mu = (at.mu / (w1 * x) ** 2 * x**2, full * x**2)
        square = (phi[0] ** 2, phi[1] ** 2)
        first = times(_sum(n, *square), _sum(y, phi[0] * mu[0], phi[1] * mu[1]))
        second = times(_sum(n, square[0] * mu[0], square[1] * mu[1]), _sum(y, *phi))
        return _holds_zero(minus(first, second))

    def vanishes_beyond(self, w1: float) -> bool:
        """Whether E may have a root beyond w1."""
        x, n, y = self._s[:3]
        at = _functions(x, np.array([w1]))
        # h rises to 1, and the ratios of κ fall to 0 but the first, which is 1.
        one, first = (at.h, np.ones_like(at.h)), np.arange(len(x)) == 0
        ratio = (np.where(first, 1, 0), np.where(first, 1, at.ratio))
        squares = _sum(n, one[0] ** 2 * ratio[0], ratio[1])
        singles = _sum(y, one[0] * ratio[0], ratio[1])
        return _holds_zero(
            minus(times(squares, _sum(y, *one)), times(_sum(n, one[0] ** 2, one[1]), singles))
        )


class Crossing:
    """B, whose roots are the stationary points on w2 = 0, divided by what has none."""

    def __init__(self, samples: Samples) -> None:
        """For targets that are not all 0."""
        self._s = samples
        self._small = 0.6 / float(np.average(samples.x, weights=samples.n))

    def values(self, w1: np.ndarray) -> Interval:
        """Enclosures of B at points, (b,)."""
        at, y = _functions(self._s.x, w1), self._s.y
        if self._s.total:
            far = _sum(y, at.h, at.h)
        else:
            ratio, _ = self._below_one(w1)
            far = _sum(-y, ratio, ratio)
        return _where(w1 < self._small, _sum(y, at.phi, at.phi), far)

    def slopes(self, p: np.ndarray, q: np.ndarray) -> Interval:
        """Enclosures of B' over stretches from p to q, each (b,)."""
        y = self._s.y
        start, end = _functions(self._s.x, p), _functions(self._s.x, q)
        near = _sum(-y, end.phi * start.mu, start.phi * end.mu)
        if self._s.total:
            far = _sum(y, start.h * end.kappa, end.h * start.kappa)
        else:
            (most, low), (least, high) = self._below_one(p), self._below_one(q)
            fall = low - high[:, :1], high - low[:, :1]
            far = _sum(y, *_signed((least, most), fall))
        return _where(np.sqrt(p * q) < self._small, near, far)

    def _below_one(self, w1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """1 - h over that of the smallest x, which falls, and z·(1 + h), by whose excess it does.

        Where the targets' sum is 0, B is the sum of y·(h - 1), which far away has more digits.
        """
        x = self._s.x
        z = w1[:, None] * x
        small = np.exp(-2 * z)
        ratio = np.exp(-2 * w1[:, None] * (x - x[0])) * (1 + small[:, :1]) / (1 + small)
        return ratio, 2 * z / (1 + small)

    def vanishes_below(self, w1: float) -> bool:
        """Whether B may have a root between 0 and w1."""
        x, y = self._s.x, self._s.y
        if self._s.slope:
            return _holds_zero(_sum(y, _functions(x, np.array([w1])).phi, x[None]))
        # The sum of x·y is 0: what is left is the sum of y·(x - φ), where (x - φ)/(w1²·x³) falls
        # from 1/3, and is at least 1/3/(1 + z²).
        rest = x[None] ** 3 / 3
        return _holds_zero(_sum(y, rest / (1 + (w1 * x) ** 2), rest))

    def vanishes_beyond(self, w1: float) -> bool:
        """Whether B may have a root beyond w1."""
        if self._s.total:
            h = _functions(self._s.x, np.array([w1])).h
            return _holds_zero(_sum(self._s.y, h, np.ones_like(h)))
        ratio, _ = self._below_one(np.array([w1]))
        return _holds_zero(_sum(self._s.y, np.where(np.arange(ratio.size) == 0, 1, 0), ratio))


def _signed(factor: Interval, other: Interval) -> Interval:
    """The product of an interval of numbers ≥ 0 and one of any numbers."""
    (low, high), (below, above) = factor, other
    return (
        np.where(below >= 0, low, high) * below,
        np.where(above >= 0, high, low) * above,
    )


def _where(condition: np.ndarray, first: Interval, second: Interval) -> Interval:
    return np.where(condition, first[0], second[0]), np.where(condition, first[1], second[1])


def _holds_zero(interval: Interval) -> bool:
    low, high = interval
    return bool(low[0] <= 0 <= high[0])
