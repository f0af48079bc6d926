"""A training run as a loss of its hyperparameters, for the grid to map."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util import pytree
from jaxscape._util.checks import Key
from jaxscape.losses.checks import check_is_function
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis
from jaxscape.training import run as run_
from jaxscape.training import stacks
from jaxscape.training.descend import course_of
from jaxscape.training.optimizers import check_optimizer


@dataclass(frozen=True, eq=False)
class FinalLoss:
    """The loss after training, as a function of hyperparameters: a `loss(params, data)` to map.

    The map of where training converges can be a fractal (Sohl-Dickstein 2024, arXiv 2402.06184).
    Its deep zooms need float64: under `jax.enable_x64`, with float64 data.

    Args:
        loss: what training minimizes, (params, data) -> scalar.
        params: where it starts, as in `descend`.
        optimizer: made by `optax.inject_hyperparams`, of any function of numbers, such as
            `lambda log_rate, momentum: optax.sgd(10.0**log_rate, momentum)`, or one that gives
            each layer a learning rate of its own with `optax.partition`.
        epochs, batch_size, key, evaluate: as in `descend`; the last loss is taken on `evaluate`.

    Raises:
        TypeError: a loss that is no function.

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
    params: Any
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int | None = None
    key: Key | None = None
    evaluate: Any = None

    def __post_init__(self) -> None:
        check_is_function("loss", self.loss)

    @property
    def name(self) -> str:
        """What the loss is called in figures."""
        return f"loss after {self.epochs:,} epoch{'s' if self.epochs != 1 else ''}"

    def check_grid(self, plane: Plane, a: Axis, b: Axis, data: Any) -> None:
        """Refuse hyperparameters that `descend` would refuse, before any cell is computed.

        Raises:
            TypeError: a plane that is not of hyperparameters by name.
            ValueError: a negative learning rate, in a corner of the grid.
        """
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(plane)):
            return
        corners = [plane.at(x, y) for x in a.values[[0, -1]] for y in b.values[[0, -1]]]
        if not isinstance(corners[0], Mapping):
            raise TypeError(
                "plane: expected one of hyperparameters, as hyperparameter_plane makes it, got "
                f"points such as {corners[0]!r}"
            )
        # The plane is affine: what is negative on the grid is so in a corner.
        named = {name: np.array([corner[name] for corner in corners]) for name in corners[0]}
        start = jax.tree.map(jnp.asarray, pytree.floating(self.params, data))
        check_optimizer("optimizer", self.optimizer, start, stacks.hyperparameters(named))

    def __call__(self, hyperparameters: Mapping[str, jax.Array], data: Any) -> jax.Array:
        """The loss after training on `data`, a scalar, not finite where the run diverged.

        Raises:
            ValueError: hyperparameters that the optimizer does not have by name.
        """
        samples = jax.tree.leaves(data)[0].shape[0]
        course = course_of(self.epochs, self.batch_size, "end", samples)
        start = jax.tree.map(jnp.asarray, pytree.floating(self.params, data))
        check_optimizer("optimizer", self.optimizer, start, hyperparameters)
        run = run_.run(
            self.loss, self.optimizer, course, start, data, self.key, hyperparameters, None
        )
        last = jax.tree.map(lambda leaf: leaf[-1], run.points.params)
        value = self.loss(last, data if self.evaluate is None else self.evaluate)
        # Huge weights may give a finite loss again, as a saturated network does.
        return jnp.where(run.diverged_step < 0, value, jnp.nan)


def hyperparameter_plane(first: str, second: str) -> Plane:
    """The plane whose coordinates are two hyperparameters of an optimizer.

    Args:
        first, second: their names, as `optax.inject_hyperparams` knows them.

    Returns:
        A plane of dicts of two numbers.

    Raises:
        ValueError: one name twice.

    Example:
        >>> jxs.training.hyperparameter_plane("learning_rate", "momentum").at(0.1, 0.9)
        {'learning_rate': 0.1, 'momentum': 0.9}
    """
    if first == second:
        raise ValueError(f"second: expected another name than the first, got {second!r} twice")
    names = (first, second)
    u, v = ({name: 1.0 if name == along else None for name in names} for along in names)
    return Plane(dict.fromkeys(names, 0.0), u, v, names)
