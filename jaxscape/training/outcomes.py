"""Label training runs: converged, moving, oscillating, diverged, or left the grid."""

from typing import overload

import jax
import numpy as np

from jaxscape._util.checks import check_positive
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents, Trajectory

# A run oscillates if its net displacement is less than this fraction of its path length.
_MAX_OSCILLATING_DISPLACEMENT = 1 / 2


@overload
def outcomes(
    descents: Trajectory, tolerance: float = 1e-3, within: Landscape | None = None
) -> str: ...
@overload
def outcomes(
    descents: Descents, tolerance: float = 1e-3, within: Landscape | None = None
) -> np.ndarray: ...
def outcomes(
    descents: Trajectory | Descents, tolerance: float = 1e-3, within: Landscape | None = None
) -> str | np.ndarray:
    """Label each run as "converged", "diverged", "oscillating", "moving" or "left the grid".

    The label is the first of these that applies:

    - "diverged": the loss or the parameters became NaN or infinite.
    - "left the grid": with `within`, the last point is outside of the landscape's axes.
    - "converged": at the last point, the norm of the gradient of the training loss is at most
      `tolerance`.
    - "oscillating": over the second half of the run, the net displacement is less than half of the
      path length. The second half begins at the last point recorded in the first half of the
      steps.
    - "moving": none of the above.

    Args:
        descents: a result of `descend`.
        tolerance: the largest gradient norm of a converged run, in units of the loss per unit of
            the parameters.
        within: a landscape whose axes have the names of parameters.

    Returns:
        The label of a `Trajectory`, or an array of the labels of `Descents`, (runs,).

    Raises:
        TypeError: `descents` is not a `Trajectory` or `Descents`.
        ValueError: `tolerance` is not positive and finite, `descents` was not returned by
            `descend`, or the parameters do not have the names of the landscape's axes.

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
    tolerance = check_positive("tolerance", tolerance)
    if descents.gradient_norm is None or descents.path_length is None:
        raise ValueError("descents: expected a result of descend, got paths without gradients")
    steps = np.asarray(descents.step)
    half = int(np.searchsorted(steps, steps[-1] / 2, side="right")) - 1
    path_length = np.asarray(descents.path_length)
    # The axis of recorded points: 0 for one run, 1 for many.
    axis = path_length.ndim - 1

    with np.errstate(invalid="ignore", over="ignore"):
        length = path_length[..., -1] - path_length[..., half]
        squares = [
            np.square(_take_point(leaf, axis, -1) - _take_point(leaf, axis, half)).sum(
                axis=tuple(range(axis, np.ndim(leaf) - 1))
            )
            for leaf in jax.tree.leaves(descents.params)
        ]
        displacement = np.sqrt(np.sum(squares, axis=0))
        oscillating = displacement < _MAX_OSCILLATING_DISPLACEMENT * length
        converged = np.asarray(descents.gradient_norm) <= tolerance
    labels = np.where(converged, "converged", np.where(oscillating, "oscillating", "moving"))
    if within is not None:
        outside = np.zeros(labels.shape, bool)
        for coordinate in (within.a, within.b):
            last = descents.coordinate(coordinate.name)[..., -1]
            outside |= ~((last >= coordinate.values[0]) & (last <= coordinate.values[-1]))
        labels = np.where(outside, "left the grid", labels)
    labels = np.where(np.asarray(descents.diverged_step) >= 0, "diverged", labels).astype("<U13")
    return labels if axis else str(labels)


def _take_point(leaf: jax.Array | np.ndarray, axis: int, point: int) -> np.ndarray:
    """Return one recorded point of a leaf, in float64."""
    return np.take(np.asarray(leaf), point, axis=axis).astype(float)
