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


def unbounded(shape: tuple[int, ...], dtype: Any) -> Interval:
    """Return intervals that hold every number, or both truth values, of a dtype."""
    dtype = np.dtype(dtype)
    low: float
    high: float
    if dtype.kind == "b":
        low, high = False, True
    elif dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        low, high = -np.inf, np.inf
    return Interval(np.full(shape, low, dtype), np.full(shape, high, dtype))


def unbounded_where(unknown: Any, x: Interval) -> Interval:
    """Return an interval without bounds where `unknown`, and `x` elsewhere."""
    if not np.any(unknown):
        return x
    everything = unbounded((), x.low.dtype)
    return Interval(*(np.where(unknown, *ends) for ends in zip(everything, x, strict=True)))


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
