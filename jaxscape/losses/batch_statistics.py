"""A loss whose batch statistics are recomputed at every point of a plane."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from jaxscape._util.pytree import Params
from jaxscape.data.stream import Stream
from jaxscape.losses.checks import ScalarLoss


@dataclass(frozen=True)
class WithBatchStatistics:
    """Wrap a loss so that batch-norm statistics are recomputed at every grid point.

    The result is a function `loss(params, data)`. Without the wrapper, the loss uses the statistics
    in the parameters, which are those of the trained model, at every point.

    A `Stream` is not accepted: the statistics of one batch are not those of all data, and the
    statistics of a layer depend on those of all layers before it.

    Args:
        loss: (params, data) -> scalar of a floating dtype, of a model that reads the statistics
            from its parameters.
        statistics: (params, data) -> the same parameters, with the statistics of the data.

    Example:
        >>> def loss(params, x):
        ...     return jnp.mean((params["w"] * x - params["mean"]) ** 2)
        >>> def statistics(params, x):
        ...     return params | {"mean": jnp.mean(params["w"] * x)}
        >>> recomputed = jxs.WithBatchStatistics(loss, statistics)
        >>> params, x = {"w": 3.0, "mean": 0.0}, jnp.array([1.0, 2.0])
        >>> loss(params, x), recomputed(params, x)
        (Array(22.5, dtype=float32), Array(2.25, dtype=float32))
    """

    loss: ScalarLoss
    statistics: Callable[[Any, Any], Params]

    @property
    def name(self) -> str:
        """The loss's name in figures."""
        return str(getattr(self.loss, "name", None) or getattr(self.loss, "__name__", "loss"))

    def __call__(self, params: Params, data: Any) -> jax.Array:
        """Compute the loss with the statistics of these parameters and data."""
        return self.loss(self.statistics(params, data), data)


def check_data(loss: Any, data: Any) -> None:
    """Raise an error if the loss cannot be computed on the data.

    Raises:
        TypeError: The data contain an iterable that is not an array or a `Stream`, for instance a
            generator or a loader of batches.
        ValueError: The data are a `Stream`, and the loss is a `WithBatchStatistics`.
    """
    if isinstance(data, Stream):
        if isinstance(loss, WithBatchStatistics):
            raise ValueError(
                "data: expected arrays for a WithBatchStatistics loss, which needs the statistics "
                "of all data, got a Stream"
            )
        return
    leaves = jax.tree_util.tree_leaves_with_path(data, is_leaf=lambda x: isinstance(x, Iterator))
    for path, leaf in leaves:
        if isinstance(leaf, Iterable) and not (hasattr(leaf, "shape") or isinstance(leaf, str)):
            raise TypeError(
                f"data{jax.tree_util.keystr(path)}: expected arrays, or a Stream of batches, got "
                f"{type(leaf).__name__}; wrap an iterable that yields the same batches each time "
                "in jxs.Stream(...)"
            )
