"""Intervals of float64 numbers, with both ends rounded outward."""

import functools
from typing import Any, NamedTuple

import numpy as np

EPSILON = np.finfo(float).eps
TINY = np.finfo(float).tiny


class Interval(NamedTuple):
    """All numbers, or truth values, between two arrays of one shape."""

    low: np.ndarray
    high: np.ndarray

    @property
    def is_point(self) -> bool:
        """Whether both ends are the same array."""
        return self.low is self.high


def point(value: Any) -> Interval:
    """Return the interval that holds a single value."""
    array = np.asarray(value)
    return Interval(array, array)


def round_outward(low: np.ndarray, high: np.ndarray, units: float = 1) -> Interval:
    """Move both ends outward by `units` in the last place; unbounded where an end is NaN."""
    low = low - (units * EPSILON * abs(low) + TINY)
    high = high + (units * EPSILON * abs(high) + TINY)
    unknown = np.isnan(low) | np.isnan(high)
    return Interval(np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high))


def hull(ends: list[np.ndarray], units: float = 1) -> Interval:
    """Return the smallest interval that holds all arrays, rounded outward; unbounded for NaN."""
    low = functools.reduce(np.minimum, ends)
    return round_outward(low, functools.reduce(np.maximum, ends), units)
