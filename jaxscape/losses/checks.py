"""The two-weight network f(x) = w2·tanh(w1·x), and pointwise losses of any model."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def check_same_shape(prediction: jax.Array, target: jax.Array) -> None:
    """Refuse predictions that would broadcast against the targets, as (n, 1) does with (n,)."""
    if jnp.shape(prediction) != jnp.shape(target):
        raise ValueError(
            f"data: expected targets y of the predictions' shape {jnp.shape(prediction)}, "
            f"got {jnp.shape(target)}"
        )


def scalar(value: Any, name: str = "loss") -> jax.Array:
    """`value`, what a loss returned, if it is a floating scalar; a TypeError if it is not."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, float):
        return jnp.asarray(value)
    if shape is None or dtype is None:
        raise TypeError(
            f"{name}: expected a scalar, got {type(value).__name__}; return the loss alone, or "
            "several scalars in a dictionary by name"
        )
    if shape != ():
        raise TypeError(
            f"{name}: expected a scalar, got an array of shape {shape}; take its mean, if it is "
            "one value a sample"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating scalar, got dtype {dtype}")
    return value


def scalars(value: Any) -> jax.Array:
    """What a loss returned: one scalar, (), or a dictionary of K, (K,), sorted by name."""
    if not isinstance(value, Mapping):
        return scalar(value)
    found = [scalar(value[name], f"loss[{name!r}]") for name in sorted(value)]
    if not found:
        raise TypeError("loss: expected a scalar or several by name, got an empty dictionary")
    return jnp.stack([part.astype(jnp.result_type(*found)) for part in found])


def mean_over_samples(values: jax.Array, sample_weight: jax.Array | None) -> jax.Array:
    """The mean of all `values`, (n, ...), each row counting as its sample weighs."""
    if sample_weight is None:
        return jnp.mean(values)
    weight = jnp.expand_dims(sample_weight, tuple(range(1, values.ndim)))
    weight = jnp.broadcast_to(weight, values.shape)
    return jnp.sum(weight * values) / jnp.sum(weight)


def check_is_function(name: str, function: Any) -> None:
    """Refuse what cannot be called, or cannot be a static argument of a compiled function."""
    if not callable(function):
        raise TypeError(f"{name}: expected a function of (params, data), got {function!r}")
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"{name}: expected a hashable function, got {function!r}; wrap it in a function"
        ) from None


def loss_name(loss: Any) -> str:
    """What a loss is called in figures."""
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "loss")
    return "loss" if name == "<lambda>" else str(name).replace("_", " ")
