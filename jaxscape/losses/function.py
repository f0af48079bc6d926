"""A function of two numbers as a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxscape.losses.two_weights import Weights


@dataclass(frozen=True)
class Function:
    """A function of two numbers as a loss on the plane of the two weights, without data.

    Args:
        function: (w1, w2) -> scalar of a floating dtype, written with JAX operations.

    Example:
        >>> bowl = jxs.Function(lambda w1, w2: w1**2 + 3 * w2**2)
        >>> jxs.landscape(bowl, None, w1=(-1, 1, 21), w2=(-1, 1, 31)).lowest.loss
        0.0
    """

    function: Callable[[Any, Any], jax.Array]

    @property
    def name(self) -> str:
        """The function's name in figures."""
        return getattr(self.function, "__name__", "function").replace("<lambda>", "function")

    def __call__(self, weights: Weights, data: Any) -> jax.Array:
        """Compute the function's value; `data` is ignored."""
        return self.function(*weights)
