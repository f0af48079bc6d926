"""What a network of one input predicts at every point of its path, beside the data."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.devices import in_full_precision
from jaxscape.data.dataset import Dataset
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.results.trajectory import Trajectory

_POINTS = 200
_AT_ONCE = 64
"""Points of the path, as the values within a model take memory."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """A network's curve over its one input, at each of the T points of a path that are finite."""

    path: Trajectory
    """The path, up to where it diverged if it did."""
    data: Dataset
    """What the curves are to fit."""
    x: np.ndarray
    """(M,) float: inputs, evenly over those of the data and a little beyond."""
    y: np.ndarray
    """(T, M) float: the predictions at the inputs; values that are not finite stay as they are."""

    def __repr__(self) -> str:
        return (
            f"Predictions({len(self.y)} points of the path × {len(self.x)} inputs "
            f"from {self.x[0]:.4g} to {self.x[-1]:.4g}, {len(self.data)} samples)"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the curves."""
        return thumbnails.lines(self.x, self.y, ("x", "prediction")) + thumbnails.text(self)


@in_full_precision
def predictions(model: Callable[..., Any], path: Trajectory, data: Dataset) -> Predictions:
    """The curves that a network of one input draws through its data on its way.

    Args:
        model: a loss that knows its model, as `squared_error` and `squared_error.of(model)` do, or
            the model itself, `(params, x) -> predictions`.
        path: what `descend` returned.
        data: samples with one input and one target each: (n,) or (n, 1).

    Returns:
        `Predictions` at 200 inputs.

    Raises:
        TypeError: what is no model of these parameters, no path or no Dataset.
        ValueError: data of several inputs or targets, predictions that are not one for each input.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> jxs.training.predictions(jxs.squared_error, path, data)
        Predictions(21 points of the path × 200 inputs from ... to ..., 200 samples)
    """
    predict = model.predict if isinstance(model, PointwiseLoss) else model
    if not callable(predict):
        raise TypeError(f"model: expected a loss or a function, got {type(model).__name__}")
    if not isinstance(path, Trajectory):
        raise TypeError(f"path: expected a Trajectory, got {type(path).__name__}")
    if not isinstance(data, Dataset):
        raise TypeError(f"data: expected a Dataset(x, y), got {type(data).__name__}")
    for name, what in (("x", "input"), ("y", "target")):
        shape = getattr(data, name).shape
        if shape not in ((len(data),), (len(data), 1)):
            raise ValueError(
                f"data: expected one {what} a sample, {name} of shape (n,) or (n, 1), got {shape}"
            )
    path = path.until_divergence()
    low, high = float(data.x.min()), float(data.x.max())
    margin = 0.05 * (high - low) or 1.0
    x = jnp.linspace(low - margin, high + margin, _POINTS, dtype=data.x.dtype)
    inputs = x.reshape(-1, *data.x.shape[1:])
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), path.params)
    try:
        shape = getattr(jax.eval_shape(predict, one, inputs), "shape", None)
    except Exception as error:
        raise TypeError(
            "model: expected one of the path's parameters, (params, x) -> predictions, or a loss "
            f"that knows it, as squared_error.of(model) does; called with x it failed: {error}"
        ) from error
    if shape not in ((_POINTS,), (_POINTS, 1)):
        raise ValueError(
            f"model: expected a prediction for each of {_POINTS} inputs, got shape {shape}"
        )
    curves = np.asarray(_along(predict, path.params, inputs))
    return Predictions(path, data, np.asarray(x), curves.reshape(-1, _POINTS))


@functools.partial(jax.jit, static_argnums=0)
def _along(predict: Callable[..., Any], params: Any, inputs: jax.Array) -> jax.Array:
    return jax.lax.map(lambda one: predict(one, inputs), params, batch_size=_AT_ONCE)
