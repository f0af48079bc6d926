"""The axes of a grid: ranges or arrays of values from the caller, converted and checked."""

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis

AxisValues: TypeAlias = tuple[float, float, int] | np.ndarray | jax.Array
"""The values of an axis: (lo, hi, n), or a 1-D array of increasing values."""


def make_axes(plane: Plane, data: Any, given: Mapping[str, AxisValues]) -> tuple[Axis, Axis]:
    """Return the two axes of a grid on a plane, in the dtype of the plane and the data.

    Args:
        plane: the plane, whose names and units the axes get.
        data: the data of the loss, any pytree.
        given: the values of both axes, by the names of the plane's coordinates.

    Raises:
        TypeError: An axis has values of a wrong type.
        ValueError: An axis is missing, unknown, too short, not finite or not increasing.
    """
    if set(given) != set(plane.names):
        raise ValueError(
            f"axes: expected {plane.names[0]} and {plane.names[1]}, "
            f"got {', '.join(given) or 'none'}"
        )
    dtype = computed_dtype(plane, data)
    named = zip(plane.names, plane.units, strict=True)
    first, second = (make_axis(name, given[name], dtype, unit) for name, unit in named)
    return first, second


def computed_dtype(plane: Plane, data: Any) -> np.dtype:
    """Return the floating dtype of a loss that is computed from a plane and data."""
    # Python floats, such as those of the weight plane, take the dtype of the arrays, or JAX's
    # default dtype if there are no arrays.
    leaves = [leaf for leaf in jax.tree.leaves((plane, data)) if hasattr(leaf, "dtype")]
    floating = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.result_type(*(jax.dtypes.canonicalize_dtype(d) for d in floating or [float]))


def make_axis(name: str, given: AxisValues, dtype: Any, unit: str = "") -> Axis:
    """Return an axis from (lo, hi, n) or from an array of increasing values.

    Args:
        name: the axis's name, also for error messages.
        given: n values evenly spaced from lo to hi, or all values.
        dtype: the floating dtype of the axis.
        unit: the meaning of one unit of the axis, for figures.

    Raises:
        TypeError: lo, hi or n is not a number.
        ValueError: There are fewer than two values, or they are not finite or do not increase in
            `dtype`.
    """
    expected = f"{name}: expected a tuple (lo, hi, n) or a 1-D array of increasing values"
    if isinstance(given, tuple):
        if len(given) != 3:
            raise ValueError(f"{expected}, got {given!r}")
        lo, hi, n = given
        if not hasattr(n, "__index__") or isinstance(n, bool):
            raise TypeError(f"{name}: expected a whole number n of values, got {n!r}")
        if n < 2:
            raise ValueError(f"{name}: expected at least 2 values, got {n}")
        if not all(hasattr(end, "__float__") for end in (lo, hi)):
            raise TypeError(f"{name}: expected numbers lo and hi, got {lo!r} and {hi!r}")
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ValueError(f"{name}: expected finite lo < hi, got {lo} and {hi}")
        values = np.linspace(float(lo), float(hi), operator.index(n))
    else:
        # Do not accept lists: [-1, 1, 50] could mean either form.
        values = np.asarray(given) if hasattr(given, "dtype") else np.empty(())
        if values.ndim != 1 or values.dtype.kind not in "iuf":
            raise ValueError(f"{expected}, got {given!r}")
        if len(values) < 2:
            raise ValueError(f"{name}: expected at least 2 values, got {len(values)}")
    values = values.astype(dtype)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite {values.dtype} values, got some that are not")
    not_increasing = np.flatnonzero(np.diff(values) <= 0)
    if not_increasing.size:
        k = int(not_increasing[0])
        raise ValueError(
            f"{name}: expected values that increase in {values.dtype}, got {values[k]} and then "
            f"{values[k + 1]} at index {k + 1}"
        )
    return Axis(values, name, unit)
