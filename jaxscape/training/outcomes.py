"""What descents came to: converged, moving, oscillating, diverged, or off the grid."""

from typing import Any

import jax
import numpy as np

from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents, Trajectory

# Of the way since half of the steps, the part that led somewhere.
_NET_PROGRESS = 1 / 2


def outcomes(
    descents: Trajectory | Descents, tolerance: float = 1e-3, within: Landscape | None = None
) -> Any:
    """What each run came to, in a word.

    The first that holds of: "diverged", it left the finite numbers; "left the grid", it ended
    beyond the landscape's axes; "converged", the gradient of the loss over the training set is
    within the tolerance at the end; "oscillating", since half of its steps it got less far than
    half of the way it went; "moving" otherwise.

    Args:
        descents: what `descend` returned.
        tolerance: a norm of the gradient, in units of loss per unit of the parameters.
        within: a landscape whose axes are named as the parameters.

    Returns:
        A string; of `Descents` an array of them, (runs,).

    Raises:
        ValueError: a tolerance that is not positive and finite, paths that were not made by
            `descend`, or parameters not named as the landscape's axes.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        >>> runs = jxs.descend(lambda x, _: x**2, 1.0, data, optimizer=sgd, epochs=50,
        ...                    hyperparameters={"learning_rate": [1e-3, 0.5, 1.0, 99.0]})
        >>> jxs.training.outcomes(runs)
        array(['moving', 'converged', 'oscillating', 'diverged'], dtype='<U13')
    """
    if not isinstance(descents, Trajectory | Descents):
        raise TypeError(
            f"descents: expected a Trajectory or Descents, got {type(descents).__name__}"
        )
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance: expected a positive finite number, got {tolerance}")
    if descents.gradient_norm is None or descents.path_length is None:
        raise ValueError("descents: expected what descend returned, got paths without gradients")
    steps = np.asarray(descents.step)
    half = int(np.searchsorted(steps, steps[-1] / 2, side="right")) - 1
    path_length = np.asarray(descents.path_length)

    with np.errstate(invalid="ignore", over="ignore"):
        way = path_length[..., -1] - path_length[..., half]
        batch = path_length.ndim - 1
        squares = [
            np.square(_at(leaf, batch, -1) - _at(leaf, batch, half)).sum(
                axis=tuple(range(batch, np.ndim(leaf) - 1))
            )
            for leaf in jax.tree.leaves(descents.params)
        ]
        oscillating = np.sqrt(np.sum(squares, axis=0)) < _NET_PROGRESS * way
        converged = np.asarray(descents.gradient_norm) <= tolerance
    words = np.where(converged, "converged", np.where(oscillating, "oscillating", "moving"))
    if within is not None:
        outside = np.zeros(words.shape, bool)
        for axis in (within.a, within.b):
            last = descents.coordinate(axis.name)[..., -1]
            outside |= ~((last >= axis.values[0]) & (last <= axis.values[-1]))
        words = np.where(outside, "left the grid", words)
    words = np.where(np.asarray(descents.diverged_step) >= 0, "diverged", words).astype("<U13")
    return words if batch else str(words)


def _at(leaf: Any, axis: int, point: int) -> np.ndarray:
    return np.take(np.asarray(leaf), point, axis=axis).astype(float)
