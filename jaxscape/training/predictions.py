"""The predictions of a one-input network along a training path."""

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

_INPUTS = 200
# The number of path points evaluated at a time, to limit the memory for a model's activations.
_POINTS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a one-input network at M inputs, for each of T points of a path."""

    path: Trajectory
    """The path, without the points after a divergence."""
    data: Dataset
    """The data that the curves should fit."""
    x: np.ndarray
    """(M,) float: equally spaced inputs, over the data's range and 5 % of it on each side."""
    y: np.ndarray
    """(T, M) float: the predictions. NaN and infinite values are kept."""

    def __repr__(self) -> str:
        return (
            f"Predictions({len(self.y)} points of the path × {len(self.x)} inputs "
            f"from {self.x[0]:.4g} to {self.x[-1]:.4g}, {len(self.data)} samples)"
        )

    def _repr_html_(self) -> str:
        """Show the curves in a notebook."""
        return thumbnails.curves(self.x, self.y, ("x", "prediction")) + thumbnails.text(self)


@in_full_precision
def predictions(
    model: PointwiseLoss | Callable[[Any, jax.Array], jax.Array], path: Trajectory, data: Dataset
) -> Predictions:
    """Evaluate a one-input network at every recorded point of a training path.

    Args:
        model: the model, `(params, x) -> predictions`, or a loss that holds it, such as
            `squared_error` and `squared_error.of(model)`.
        path: a result of `descend`.
        data: a `Dataset` with one input and one target per sample, (n,) or (n, 1).

    Returns:
        The predictions at 200 inputs.

    Raises:
        TypeError: `model` is not a model of the path's parameters, `path` is not a `Trajectory`, or
            `data` is not a `Dataset`.
        ValueError: `data` has several inputs or targets per sample, or the model does not return
            one prediction per input.

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
    for name, noun in (("x", "input"), ("y", "target")):
        shape = getattr(data, name).shape
        if shape not in ((len(data),), (len(data), 1)):
            raise ValueError(
                f"data: expected one {noun} per sample, {name} of shape (n,) or (n, 1), got {shape}"
            )
    path = path.until_divergence()
    low, high = float(data.x.min()), float(data.x.max())
    margin = 0.05 * (high - low) or 1.0
    x = jnp.linspace(low - margin, high + margin, _INPUTS, dtype=data.x.dtype)
    inputs = x.reshape(-1, *data.x.shape[1:])
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), path.params)
    try:
        shape = getattr(jax.eval_shape(predict, one, inputs), "shape", None)
    except Exception as error:
        raise TypeError(
            "model: expected a function of the path's parameters, (params, x) -> predictions, or a "
            f"loss with a model, such as squared_error.of(model); called with x it failed: {error}"
        ) from error
    if shape not in ((_INPUTS,), (_INPUTS, 1)):
        raise ValueError(
            f"model: expected a prediction for each of {_INPUTS} inputs, got shape {shape}"
        )
    curves = np.asarray(_predict_at_points(predict, path.params, inputs))
    return Predictions(path, data, np.asarray(x), curves.reshape(-1, _INPUTS))


@functools.partial(jax.jit, static_argnums=0)
def _predict_at_points(predict: Callable[..., Any], params: Any, inputs: jax.Array) -> jax.Array:
    return jax.lax.map(lambda one: predict(one, inputs), params, batch_size=_POINTS_AT_ONCE)
