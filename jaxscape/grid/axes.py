"""The axes of a grid, as callers give them."""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis


def axes_of(plane: Plane, data: Any, given: dict[str, Any]) -> tuple[Axis, Axis]:
    """The two axes that were given by name, in the dtype of plane and data."""
    if set(given) != set(plane.names):
        raise ValueError(
            f"axes: expected {plane.names[0]} and {plane.names[1]}, "
            f"got {', '.join(given) or 'none'}"
        )
    dtype = dtype_of(plane, data)
    named = zip(plane.names, plane.units, strict=True)
    first, second = (axis_of(name, given[name], dtype, unit) for name, unit in named)
    return first, second


def dtype_of(plane: Plane, data: Any) -> Any:
    """The dtype of what is computed from a plane and data."""
    # Python floats, as the weight plane's, follow the arrays; without any, JAX's default holds.
    leaves = [leaf for leaf in jax.tree.leaves((plane, data)) if hasattr(leaf, "dtype")]
    floating = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.result_type(*(jax.dtypes.canonicalize_dtype(d) for d in floating or [float]))


def axis_of(name: str, spec: Any, dtype: Any, unit: str = "") -> Axis:
    """An axis as a caller gave it, (lo, hi, n) or an array of increasing values."""
    expected = f"{name}: expected a tuple (lo, hi, n) or a 1-D array of increasing values"
    if isinstance(spec, tuple):
        if len(spec) != 3:
            raise ValueError(f"{expected}, got {spec!r}")
        lo, hi, n = spec
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
        # A list is refused: [-1, 1, 50] could be meant as either.
        values = np.asarray(spec) if hasattr(spec, "dtype") else np.empty(())
        if values.ndim != 1 or values.dtype.kind not in "iuf":
            raise ValueError(f"{expected}, got {spec!r}")
        if len(values) < 2:
            raise ValueError(f"{name}: expected at least 2 values, got {len(values)}")
    values = values.astype(dtype)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite {values.dtype} values, got some that are not")
    flat = np.flatnonzero(np.diff(values) <= 0)
    if flat.size:
        k = int(flat[0])
        raise ValueError(
            f"{name}: expected values that increase in {values.dtype}, got {values[k]} and then "
            f"{values[k + 1]} at index {k + 1}"
        )
    return Axis(values, name, unit)
