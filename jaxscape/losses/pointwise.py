"""Pointwise losses of any model, which are means of an elementwise error."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxscape._util.checks import check_positive
from jaxscape._util.pytree import Params
from jaxscape.data.dataset import Dataset
from jaxscape.losses.checks import check_same_shape, mean_over_samples
from jaxscape.losses.two_weights import TwoWeightNetwork


@dataclass(frozen=True)
class PointwiseLoss:
    """The mean of an elementwise error between predictions and targets.

    It is a function `loss(params, data)` of a `Dataset`. The mean is over all samples and outputs,
    without a further factor; with sample weights it is the weighted mean. Two pointwise losses with
    equal parts are equal and share compiled code.

    Args:
        error: (predictions, targets) -> errors, an elementwise function.
        predict: (params, x) -> predictions, one row per sample.
        name: the error's name in figures.

    Example:
        >>> jxs.squared_error(jxs.Weights(1.0, 2.0), jxs.Dataset([0.0, 1.0], [1.0, 1.5231884]))
        Array(0.5, dtype=float32)
    """

    error: Callable[[jax.Array, jax.Array], jax.Array]
    predict: Callable[[Any, jax.Array], jax.Array]
    name: str

    def __call__(self, params: Params, data: Dataset) -> jax.Array:
        """Compute the mean error, a scalar.

        Raises:
            TypeError: `data` is not a `Dataset`.
            ValueError: The predictions and the targets differ in shape.
        """
        if not isinstance(data, Dataset):
            raise TypeError(f"data: expected a Dataset(x, y), got {type(data).__name__}")
        prediction = self.predict(params, data.x)
        check_same_shape(prediction, data.y)
        return mean_over_samples(self.error(prediction, data.y), data.sample_weight)

    def of(self, predict: Callable[[Any, jax.Array], jax.Array]) -> "PointwiseLoss":
        """Return a loss with the same error for another model.

        Args:
            predict: (params, x) -> predictions, one row per sample.

        Example:
            >>> jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.sin)).name
            'squared error'
        """
        return replace(self, predict=predict)


def square(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Compute (prediction - target)², without a factor ½."""
    return jnp.square(prediction - target)


def absolute(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Compute |prediction - target|."""
    difference = prediction - target
    # This equals jnp.abs, but its derivative at 0 is 0 instead of 1.
    return jnp.maximum(difference, -difference)


def log_cosh_of_difference(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Compute log(cosh(prediction - target)), without overflow."""
    difference = prediction - target
    size = jnp.abs(difference)
    # For r = difference: |r| + log1p(exp(-2|r|)) - log 2 cancels if r is small, -log1p(-tanh²r)/2
    # if it is large. The logarithm is expensive, so it is computed only once. Where tanh is not
    # used, its argument is 0, so that it does not contribute to the derivative.
    near = size < 1
    inside = -jnp.square(jnp.tanh(jnp.where(near, difference, 0)))
    logarithm = jnp.log1p(jnp.where(near, inside, jnp.exp(-2 * size)))
    log_2 = jnp.log(2.0).astype(size.dtype)
    return jnp.where(near, -logarithm / 2, size + logarithm - log_2)


@dataclass(frozen=True)
class HuberError:
    """The error r²/2 if |r| ≤ delta, and delta·(|r| - delta/2) beyond; r = prediction - target."""

    delta: float

    def __call__(self, prediction: jax.Array, target: jax.Array) -> jax.Array:
        size = jnp.abs(prediction - target)
        inner = jnp.minimum(size, self.delta)
        return inner * (size - inner / 2)


squared_error = PointwiseLoss(square, TwoWeightNetwork(), "squared error")
"""Mean of (prediction - target)² over the samples, without a factor ½."""

absolute_error = PointwiseLoss(absolute, TwoWeightNetwork(), "absolute error")
"""Mean of |prediction - target| over the samples."""

log_cosh = PointwiseLoss(log_cosh_of_difference, TwoWeightNetwork(), "log-cosh error")
"""Mean of log(cosh(r)) over the samples, with r = prediction - target; about r²/2 for small |r| and
|r| - log 2 for large |r|."""


def huber(delta: float = 1.0) -> PointwiseLoss:
    """Return Huber's loss (1964): half the squared error up to `delta`, linear beyond.

    Args:
        delta: the |prediction - target| beyond which the error is linear, in units of the targets.

    Returns:
        The mean over the samples of r²/2 if |r| ≤ delta, and of delta·(|r| - delta/2) otherwise,
        with r = prediction - target. Unlike `squared_error`, it has a factor ½.

    Raises:
        TypeError: `delta` is not a number.
        ValueError: `delta` is not positive and finite.

    Example:
        >>> jxs.huber(0.5)(jxs.Weights(0.0, 0.0), jxs.Dataset([1.0], [2.0]))
        Array(0.875, dtype=float32)
    """
    error = HuberError(check_positive("delta", delta))
    return PointwiseLoss(error, TwoWeightNetwork(), f"Huber error (delta {delta:g})")
