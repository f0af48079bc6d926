"""The two-weight network f(x) = w2·tanh(w1·x)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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

    Raises:
        TypeError: `activation` is not a function.
        ValueError: `activation` is not elementwise, as `jnp.sort` or a normalization by the mean.

    Example:
        >>> jxs.TwoWeightNetwork()(jxs.Weights(1.0, 2.0), jnp.array([0.0, 1.0]))
        Array([0.       , 1.5231884], dtype=float32)
    """

    activation: Elementwise = jnp.tanh

    def __post_init__(self) -> None:
        if self.activation is not jnp.tanh:
            _check_elementwise(self.activation)

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


def _check_elementwise(activation: Elementwise) -> None:
    """Check that an activation maps each number by itself, on 17 numbers."""
    if not callable(activation):
        raise TypeError(f"activation: expected a function, got {activation!r}")
    # Unordered, of both signs, and of different sizes.
    order = (np.arange(17) * 5) % 17
    inputs = ((-1.0) ** order * 0.05 * 1.3**order).astype(np.float32)
    for numbers in (inputs, inputs[:1]):
        shape = getattr(jax.eval_shape(activation, numbers), "shape", None)
        if shape != numbers.shape:
            raise ValueError(
                f"activation: expected an elementwise function, got one of shape {shape} for "
                f"inputs of shape {numbers.shape}"
            )

    def both(numbers: jax.Array) -> tuple[jax.Array, jax.Array]:
        return activation(numbers), jax.lax.map(activation, numbers[:, None])[:, 0]

    with jax.ensure_compile_time_eval():
        together, alone = jax.jit(both)(inputs)
    if isinstance(together, jax.core.Tracer):
        return  # The activation depends on an array that is traced, so its values are not known.
    same = np.isclose(together, alone, rtol=1e-3, atol=1e-5, equal_nan=True)
    if not same.all():
        k = int(np.argmin(same))
        raise ValueError(
            f"activation: expected an elementwise function, got {together[k]:.4g} for "
            f"{inputs[k]:.4g} among other inputs and {alone[k]:.4g} for the same input alone; "
            "write such a model as a function of (params, x), for `.of(model)` of a loss"
        )
