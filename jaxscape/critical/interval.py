"""Intervals of float64: lower and upper ends, rounded outward."""

import functools
from typing import Any, NamedTuple

import numpy as np

EPSILON = np.finfo(float).eps
TINY = np.finfo(float).tiny


class Interval(NamedTuple):
    """Numbers, or truth values, between two arrays of one shape."""

    low: np.ndarray
    high: np.ndarray

    @property
    def is_point(self) -> bool:
        """Whether both ends are known to be the same."""
        return self.low is self.high


def point(value: Any) -> Interval:
    """An interval of one value."""
    array = np.asarray(value)
    return Interval(array, array)


def rounded(low: np.ndarray, high: np.ndarray, units: float = 1) -> Interval:
    """Ends moved outward by so many units in the last place; what is not a number is unknown."""
    low = low - (units * EPSILON * abs(low) + TINY)
    high = high + (units * EPSILON * abs(high) + TINY)
    lost = np.isnan(low) | np.isnan(high)
    return Interval(np.where(lost, -np.inf, low), np.where(lost, np.inf, high))


def hull(ends: list[np.ndarray], units: float = 1) -> Interval:
    """From the least to the greatest of some numbers; all are unknown if one is not a number."""
    low = functools.reduce(np.minimum, ends)
    return rounded(low, functools.reduce(np.maximum, ends), units)
