"""Checks of a loss, of its results and of its predictions; the weighted mean over samples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

ScalarLoss = Callable[[Any, Any], jax.Array]
"""A loss (params, data) -> scalar of a floating dtype."""

NamedLosses = Callable[[Any, Any], Mapping[str, jax.Array]]
"""A loss (params, data) -> several scalars by name, for instance a loss and an accuracy."""


def check_is_function(name: str, function: Any) -> None:
    """Raise an error unless `function` is callable, and hashable for use as a static argument."""
    if not callable(function):
        raise TypeError(f"{name}: expected a function of (params, data), got {function!r}")
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"{name}: expected a hashable function, got {function!r}; wrap it in a function"
        ) from None


def check_same_shape(prediction: jax.Array, target: jax.Array) -> None:
    """Raise an error if predictions and targets differ in shape, such as (n, 1) and (n,)."""
    if jnp.shape(prediction) != jnp.shape(target):
        raise ValueError(
            f"data: expected targets y of the predictions' shape {jnp.shape(prediction)}, "
            f"got {jnp.shape(target)}"
        )


def scalar(value: Any, name: str = "loss") -> jax.Array:
    """Return the value of a loss as an array; raise an error if it is not a floating scalar."""
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
            f"{name}: expected a scalar, got an array of shape {shape}; take its mean if it holds "
            "one value per sample"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating scalar, got dtype {dtype}")
    return value


def scalars(value: Any) -> jax.Array:
    """Return a loss's value as an array: (), or (K,) for K named scalars in the order of names."""
    if not isinstance(value, Mapping):
        return scalar(value)
    parts = [scalar(value[name], f"loss[{name!r}]") for name in sorted(value)]
    if not parts:
        raise TypeError("loss: expected a scalar or several by name, got an empty dictionary")
    return jnp.stack([part.astype(jnp.result_type(*parts)) for part in parts])


def mean_over_samples(values: jax.Array, sample_weight: jax.Array | None) -> jax.Array:
    """Return the mean of values (n, ...), weighted by the sample weights (n,) if there are any.

    It is 0 if all weights are zero, as in a batch of padding.
    """
    if sample_weight is None:
        return jnp.mean(values)
    weight = jnp.expand_dims(sample_weight, tuple(range(1, values.ndim)))
    weight = jnp.broadcast_to(weight, values.shape)
    return jnp.sum(weight * values) / weight_divisor(jnp.sum(weight))


def weight_divisor(total_weight: jax.Array) -> jax.Array:
    """Return the total weight by which a weighted sum is divided; 1 if it is 0.

    The mean over a batch without weight is then 0, and so is its gradient.
    """
    return jnp.where(total_weight == 0, 1, total_weight)


def loss_name(loss: Any) -> str:
    """Return a loss's name for figures."""
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "loss")
    return "loss" if name == "<lambda>" else str(name).replace("_", " ")
