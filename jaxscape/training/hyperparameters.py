"""The loss after training as a function of hyperparameters, for `landscape` to map."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util.checks import Key
from jaxscape._util.pytree import Params, as_arrays, is_traced
from jaxscape.losses.checks import check_is_function
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis
from jaxscape.training.optimizers import check_optimizer
from jaxscape.training.run import check_run_spec, run_one
from jaxscape.training.run_axis import check_hyperparameters


@dataclass(frozen=True, eq=False)
class FinalLoss:
    """The loss after training, as a function of hyperparameters that `landscape` can map.

    The boundary between hyperparameters that converge and that diverge can be a fractal
    (Sohl-Dickstein 2024, arXiv 2402.06184). Deep zooms into it need float64: `jax.enable_x64` and
    float64 data.

    Args:
        loss: (params, data) -> scalar, the loss that training minimizes.
        params: the start of training, as in `descend`.
        optimizer: an optimizer made by `optax.inject_hyperparams`, from any function of numbers,
            such as `lambda log_rate, momentum: optax.sgd(10.0**log_rate, momentum)`, or one that
            gives each layer its own learning rate with `optax.partition`.
        epochs: the number of passes through the data, 1 or more.
        batch_size: the number of samples in a batch; None for one batch of all samples.
        key: None keeps the order of the samples; a JAX random key shuffles them in every epoch.
        evaluate: the data of the final loss; None for the training data.

    Raises:
        TypeError: `loss` is not a function.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.0)
        >>> after = jxs.training.FinalLoss(jxs.squared_error, jxs.Weights(1.0, 0.2), sgd, epochs=30)
        >>> plane = jxs.training.hyperparameter_plane("learning_rate", "momentum")
        >>> jxs.landscape(after, data, plane, learning_rate=(0.1, 1, 4), momentum=(0, 0.9, 3))
        Landscape(learning_rate: 4 × momentum: 3, dense, float32)
          loss from ... to ..., lowest at learning_rate = ..., momentum = ... (on the edge)
    """

    loss: Callable[[Any, Any], jax.Array]
    params: Params
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int | None = None
    key: Key | None = None
    evaluate: Any = None

    def __post_init__(self) -> None:
        check_is_function("loss", self.loss)

    @property
    def name(self) -> str:
        """The loss's name in figures."""
        return f"loss after {self.epochs:,} epoch{'s' if self.epochs != 1 else ''}"

    def check_grid(self, plane: Plane, a: Axis, b: Axis, data: Any) -> None:
        """Check the hyperparameters of a grid, before any cell is computed.

        Args:
            plane: a plane from `hyperparameter_plane`.
            a: the values of the first coordinate.
            b: the values of the second coordinate.
            data: the training data.

        Raises:
            TypeError: The points of the plane are not mappings of hyperparameters.
            ValueError: The optimizer does not have the hyperparameters, or a learning rate is
                negative in a corner of the grid.
        """
        if is_traced(*jax.tree.leaves(plane)):
            return
        corners = [plane.at(x, y) for x in a.values[[0, -1]] for y in b.values[[0, -1]]]
        if not isinstance(corners[0], Mapping):
            raise TypeError(
                "plane: expected a plane from hyperparameter_plane, got one with points such as "
                f"{corners[0]!r}"
            )
        # The plane is affine, so a value that is negative on the grid is negative in a corner.
        by_name = {name: np.array([corner[name] for corner in corners]) for name in corners[0]}
        start = jax.tree.map(jnp.asarray, as_arrays(self.params, data))
        check_optimizer("optimizer", self.optimizer, start, check_hyperparameters(by_name))

    def __call__(self, hyperparameters: Mapping[str, jax.Array], data: Any) -> jax.Array:
        """Return the loss after training on `data`, a scalar, which is NaN if the run diverged.

        Raises:
            ValueError: The optimizer does not have a hyperparameter.
        """
        samples = jax.tree.leaves(data)[0].shape[0]
        spec = check_run_spec(self.epochs, self.batch_size, "end", samples)
        start = jax.tree.map(jnp.asarray, as_arrays(self.params, data))
        check_optimizer("optimizer", self.optimizer, start, hyperparameters)
        run = run_one(self.loss, self.optimizer, spec, start, data, self.key, hyperparameters, None)
        last = jax.tree.map(lambda leaf: leaf[-1], run.points.params)
        value = self.loss(last, data if self.evaluate is None else self.evaluate)
        # A saturated network has a finite loss even at infinite weights, so test `diverged_step`.
        return jnp.where(run.diverged_step < 0, value, jnp.nan)


def hyperparameter_plane(first: str, second: str) -> Plane:
    """Return the plane whose coordinates are two hyperparameters of an optimizer.

    Args:
        first: the name of a hyperparameter, as in `optax.inject_hyperparams`.
        second: the name of another hyperparameter.

    Returns:
        A plane whose points are dicts of two numbers.

    Raises:
        ValueError: The names are equal.

    Example:
        >>> jxs.training.hyperparameter_plane("learning_rate", "momentum").at(0.1, 0.9)
        {'learning_rate': 0.1, 'momentum': 0.9}
    """
    if first == second:
        raise ValueError(f"second: expected another name than the first, got {second!r} twice")
    names = (first, second)
    u, v = ({name: 1.0 if name == own else None for name in names} for own in names)
    return Plane(dict.fromkeys(names, 0.0), u, v, names)
