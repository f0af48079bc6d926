"""The two-weight network f(x) = w2·tanh(w1·x), and pointwise losses of any model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Elementwise = Callable[[jax.Array], jax.Array]


class Weights(NamedTuple):
    """The two weights of the network: parameters, or a whole path of them.

    Example:
        >>> jxs.Weights(w1=-1.0, w2=0.5)
        Weights(w1=-1.0, w2=0.5)
    """

    w1: Any
    w2: Any


@dataclass(frozen=True)
class TwoWeightNetwork:
    """The network of one input, one hidden neuron, one output and no biases.

    Args:
        activation: any elementwise function of JAX arrays, such as `jnp.tanh` or `jax.nn.relu`.

    Example:
        >>> jxs.TwoWeightNetwork()(jxs.Weights(1.0, 2.0), jnp.array([0.0, 1.0]))
        Array([0.       , 1.5231884], dtype=float32)
    """

    activation: Elementwise = jnp.tanh

    def __call__(self, weights: Weights, x: jax.Array) -> jax.Array:
        """The predictions, (n,), for inputs `x`, (n,).

        Raises:
            ValueError: inputs that are not one feature.
        """
        if x.ndim != 1:
            raise ValueError(
                "x: the two-weight network takes one feature, so inputs of shape (n,); "
                f"got shape {x.shape}"
            )
        return weights.w2 * self.activation(weights.w1 * x)
