"""The two-weight network f(x) = w2·tanh(w1·x), and pointwise losses of any model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxscape.data.dataset import Dataset
from jaxscape.losses.checks import check_same_shape, mean_over_samples
from jaxscape.losses.two_weights import TwoWeightNetwork


@dataclass(frozen=True)
class PointwiseLoss:
    """The mean over samples of an error between prediction and target: a `loss(params, data)`.

    With sample weights in the data, the weighted mean. Two of these are equal, and share
    compiled code, if their parts are.

    Args:
        error: (predictions, targets) -> errors, elementwise.
        predict: (params, x) -> predictions, one row a sample.
        name: what the error is called in figures.

    Example:
        >>> jxs.squared_error(jxs.Weights(1.0, 2.0), jxs.Dataset([0.0, 1.0], [1.0, 1.5231884]))
        Array(0.5, dtype=float32)
    """

    error: Callable[[jax.Array, jax.Array], jax.Array]
    predict: Callable[[Any, jax.Array], jax.Array]
    name: str

    def __call__(self, params: Any, data: Dataset) -> jax.Array:
        """The mean error, a scalar.

        Raises:
            TypeError: data that are no Dataset.
            ValueError: predictions of another shape than the targets.
        """
        if not isinstance(data, Dataset):
            raise TypeError(f"data: expected a Dataset(x, y), got {type(data).__name__}")
        prediction = self.predict(params, data.x)
        check_same_shape(prediction, data.y)
        return mean_over_samples(self.error(prediction, data.y), data.sample_weight)

    def of(self, predict: Callable[[Any, jax.Array], jax.Array]) -> "PointwiseLoss":
        """The same error of another model, `predict(params, x)`.

        Example:
            >>> jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.sin)).name
            'squared error'
        """
        return replace(self, predict=predict)


def square(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """(prediction - target)², without a factor ½."""
    return jnp.square(prediction - target)


def absolute(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """|prediction - target|."""
    difference = prediction - target
    # As jnp.abs, but its derivative at an exact fit is 0 and not 1.
    return jnp.maximum(difference, -difference)


def log_cosh_of_difference(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """log(cosh(prediction - target)), without overflow."""
    difference = prediction - target
    size = jnp.abs(difference)
    # |r| + log1p(exp(-2|r|)) - log 2 cancels where r is small, and -log1p(-tanh²r)/2 where it is
    # large. The logarithm is the dear part and taken once; where tanh is not used its argument is
    # 0, so that it has no part in the derivative.
    near = size < 1
    inside = -jnp.square(jnp.tanh(jnp.where(near, difference, 0)))
    logarithm = jnp.log1p(jnp.where(near, inside, jnp.exp(-2 * size)))
    log_2 = jnp.log(2.0).astype(size.dtype)
    return jnp.where(near, -logarithm / 2, size + logarithm - log_2)


@dataclass(frozen=True)
class HuberError:
    """r²/2 where |r| ≤ delta, delta·(|r| - delta/2) beyond, of r = prediction - target."""

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
"""Mean of log(cosh(prediction - target)) over the samples: r²/2 for small r, |r| - log 2 beyond."""


def huber(delta: float = 1.0) -> PointwiseLoss:
    """Huber's loss (1964): half the squared error up to `delta`, linear beyond.

    Args:
        delta: where the loss turns linear, in units of the targets.

    Returns:
        The mean of r²/2 where |r| ≤ delta and of delta·(|r| - delta/2) elsewhere.

    Raises:
        ValueError: a delta that is not positive and finite.

    Example:
        >>> jxs.huber(0.5)(jxs.Weights(0.0, 0.0), jxs.Dataset([1.0], [2.0]))
        Array(0.875, dtype=float32)
    """
    if not 0 < delta < float("inf"):
        raise ValueError(f"delta: expected a positive finite number, got {delta}")
    return PointwiseLoss(
        HuberError(float(delta)), TwoWeightNetwork(), f"Huber error (delta {delta:g})"
    )
