"""A loss composed of a model and a loss of its outputs, for the Gauss–Newton matrix."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxscape._util.pytree import Params
from jaxscape.losses.checks import loss_name


@dataclass(frozen=True)
class ComposedLoss:
    """A loss composed of a model and a loss of its outputs.

    It is a function `loss(params, data)`, `output_loss(predict(params, data), data)`. The
    Gauss–Newton matrix needs the two parts separately. Two composed losses with equal parts are
    equal and share compiled code.

    Args:
        predict: (params, data) -> outputs, a floating array or a pytree of them.
        output_loss: (outputs, data) -> scalar of a floating dtype, the mean over samples.

    Example:
        >>> def logits(params, data):
        ...     return data["x"] @ params
        >>> def cross_entropy(logits, data):
        ...     losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["label"])
        ...     return losses.mean()
        >>> loss = jxs.curvature.ComposedLoss(logits, cross_entropy)
        >>> data = {"x": jnp.eye(3), "label": jnp.array([0, 1, 1])}
        >>> loss(jnp.zeros((3, 2)), data)
        Array(0.6931472, dtype=float32)
    """

    predict: Callable[[Any, Any], Any]
    output_loss: Callable[[Any, Any], jax.Array]

    @property
    def name(self) -> str:
        """The loss's name in figures."""
        return loss_name(self.output_loss)

    def __call__(self, params: Params, data: Any) -> jax.Array:
        """Compute the loss of the model's outputs, a scalar."""
        return self.output_loss(self.predict(params, data), data)
