"""Batch statistics that are computed anew at each point of a plane."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from jaxscape.data.stream import Stream


@dataclass(frozen=True)
class WithBatchStatistics:
    """A loss whose batch statistics are those of the data at each point: a `loss(params, data)`.

    As they are kept otherwise, they are those of the parameters that the model was trained to.
    A stream is refused: the statistics of a batch are not those of all data, and those of later
    layers depend on those of all earlier ones.

    Args:
        loss: (params, data) -> scalar, of a model that uses the statistics in its parameters.
        statistics: (params, data) -> the parameters, the statistics among them those of the data.

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

    loss: Callable[[Any, Any], Any]
    statistics: Callable[[Any, Any], Any]

    @property
    def name(self) -> str:
        """What the loss is called in figures."""
        return str(getattr(self.loss, "name", None) or getattr(self.loss, "__name__", "loss"))

    def __call__(self, params: Any, data: Any) -> jax.Array:
        """The loss with the statistics of these parameters and data."""
        return self.loss(self.statistics(params, data), data)


def check_data(loss: Any, data: Any) -> None:
    """Refuse what is no data, and a stream for a loss that needs all data at once.

    Raises:
        TypeError: batches that are no `Stream`, as a generator or a loader of them.
        ValueError: a stream for a `WithBatchStatistics` loss.
    """
    if isinstance(data, Stream):
        if isinstance(loss, WithBatchStatistics):
            raise ValueError(
                "data: expected arrays for a WithBatchStatistics loss, whose statistics are those of all "
                "data, got a Stream"
            )
        return
    leaves = jax.tree_util.tree_leaves_with_path(data, is_leaf=lambda x: isinstance(x, Iterator))
    for path, leaf in leaves:
        if isinstance(leaf, Iterable) and not (hasattr(leaf, "shape") or isinstance(leaf, str)):
            raise TypeError(
                f"data{jax.tree_util.keystr(path)}: expected arrays, or a Stream of batches, got "
                f"{type(leaf).__name__}; jxs.Stream(...) takes what yields the same batches each "
                "time"
            )
