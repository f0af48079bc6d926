"""The two-weight network f(x) = w2·tanh(w1·x)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Elementwise = Callable[[jax.Array], jax.Array]


class Weights(NamedTuple):
    """The two weights of the network: two numbers, or two arrays of one shape for many networks.

    Example:
        >>> jxs.Weights(w1=-1.0, w2=0.5)
        Weights(w1=-1.0, w2=0.5)
    """

    w1: Any
    """The weight of the input."""
    w2: Any
    """The weight of the hidden neuron's output."""


@dataclass(frozen=True)
class TwoWeightNetwork:
    """A network with one input, one hidden neuron, one output and no biases.

    Args:
        activation: any elementwise function of JAX arrays, such as `jnp.tanh` or `jax.nn.relu`.

    Example:
        >>> jxs.TwoWeightNetwork()(jxs.Weights(1.0, 2.0), jnp.array([0.0, 1.0]))
        Array([0.       , 1.5231884], dtype=float32)
    """

    activation: Elementwise = jnp.tanh

    def __call__(self, weights: Weights, x: jax.Array) -> jax.Array:
        """Return the predictions, (n,), for inputs `x`, (n,).

        Raises:
            ValueError: `x` does not have shape (n,).
        """
        if x.ndim != 1:
            raise ValueError(
                "x: expected inputs of one feature, shape (n,), for the two-weight network, "
                f"got shape {x.shape}"
            )
        return weights.w2 * self.activation(weights.w1 * x)
