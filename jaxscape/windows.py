"""Maxima over windows of an array, as compilers compute them fast."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Slices that a maximum is taken of; larger windows stay as they are.
_MOST_SLICES = 16


def largest(x: jax.Array, **params: Any) -> jax.Array:
    """The largest value in every window, as maxima of slices.

    XLA goes through a window's values one by one on a processor; slices are read along the array,
    and fused with what they are of. Values and derivatives are those of the operation, to the bit.

    Args:
        x: an array.
        params: of `reduce_window_max`, as JAX traces `lax.reduce_window` with `lax.max`.

    Returns:
        What `reduce_window_max` would.
    """

    def plain(x: jax.Array) -> jax.Array:
        return lax.reduce_window_max_p.bind(x, **params)

    windows, strides, dilations = (
        params[name] for name in ("window_dimensions", "window_strides", "window_dilation")
    )
    # How far the first values of an axis' windows reach.
    ends = [
        n + sum(padding) - (window - 1) * dilation
        for n, padding, window, dilation in zip(
            x.shape, params["padding"], windows, dilations, strict=True
        )
    ]
    slices = sum(window for window in windows if window > 1)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    # Booleans have no lowest number to pad with.
    known = floating or jnp.issubdtype(x.dtype, jnp.integer)
    if not known or slices > _MOST_SLICES or min(ends) < 1 or max(params["base_dilation"]) > 1:
        return plain(x)

    @jax.custom_jvp
    def sliced(x: jax.Array) -> jax.Array:
        lowest = -jnp.inf if floating else jnp.iinfo(x.dtype).min
        edges = [(low, high, 0) for low, high in params["padding"]]
        x = lax.pad(x, jnp.asarray(lowest, x.dtype), edges)
        for axis, (window, stride, dilation) in enumerate(
            zip(windows, strides, dilations, strict=True)
        ):
            parts = (
                lax.slice_in_dim(x, start, start + ends[axis], stride, axis)
                for start in range(0, window * dilation, dilation)
            )
            x = functools.reduce(lax.max, parts)
        return x

    # The derivative of a maximum goes to the first of equals, and not to all of them.
    sliced.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return sliced(x)
