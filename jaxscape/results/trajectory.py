"""Training paths: `Trajectory` of one run, `Descents` of many runs, `Projection` onto a plane.

T is the number of recorded points of a run, and R the number of runs.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.pytree import is_traced
from jaxscape.results.landscape import STATIC, Array


class _Recorded:
    """The properties that `Trajectory` and `Descents` share."""

    step: Array
    training_loss: Array
    evaluation_loss: Array | None
    diverged_step: Array
    steps_per_epoch: int

    @property
    def loss(self) -> Array:
        """(T,) or (R, T) float: the evaluation loss, or the training loss if there is none."""
        return self.training_loss if self.evaluation_loss is None else self.evaluation_loss

    @property
    def epoch(self) -> np.ndarray:
        """(T,) float: the number of completed epochs at each point, possibly a fraction."""
        return np.asarray(self.step) / self.steps_per_epoch

    @property
    def steps_taken(self) -> np.ndarray:
        """() or (R,) int: the number of steps until the run diverged, or of all steps."""
        diverged = np.asarray(self.diverged_step)
        return np.where(diverged < 0, np.asarray(self.step)[-1], diverged)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Trajectory(_Recorded):
    """The path of one training run: T recorded points, of which the first is the start."""

    params: Any
    """The parameters at the recorded points, each leaf with a leading axis T."""
    step: Array
    """(T,) int: the number of optimizer steps taken."""
    training_loss: Array
    """(T,) float: the loss over the whole training set."""
    evaluation_loss: Array | None
    """(T,) float: the loss over the evaluation set; None without one."""
    diverged_step: Array
    """() int: the first step whose batch loss or new parameters are not finite; -1 if none."""
    steps_per_epoch: int = field(metadata=STATIC)
    """The number of optimizer steps in an epoch."""
    step_size: Array | None = None
    """(T,) float: the norm of the last step before each point; 0 at the start."""
    path_length: Array | None = None
    """(T,) float: the sum of the norms of all steps so far."""
    learning_rate: Array | None = None
    """(T,) float: the learning rate of the last step before each point. None unless the optimizer's
    state contains exactly one, as with `optax.inject_hyperparams` or a line search."""
    gradient_norm: Array | None = None
    """() float: the norm of the gradient of the training loss at the last point."""
    stability_factor: Array | None = None
    """() float: the product of learning rate and curvature up to which the optimizer is stable on a
    quadratic: 2 for gradient descent. None or NaN if no bound is known; momentum is recognized if
    `optax.inject_hyperparams` wraps the optimizer."""
    adam: Mapping[str, Array] | None = None
    """() float each: the constants "b1", "b2", "eps" and "eps_root" of an optimizer with these
    names, as in `optax.adam`. None for others, or if `optax.inject_hyperparams` does not wrap it.
    """
    name: str = field(default="", metadata=STATIC)
    """The run's name in figures."""

    def coordinate(self, name: str) -> np.ndarray:
        """Return the scalar parameter of this name at every point, (T,) float.

        Raises:
            ValueError: No scalar parameter has this name.
        """
        return _coordinate(self.params, name, 1)

    @property
    def final_params(self) -> Any:
        """The parameters at the last point."""
        return jax.tree.map(lambda leaf: leaf[-1], self.params)

    @property
    def diverged(self) -> bool:
        """Whether the loss or the parameters became NaN or infinite."""
        return int(self.diverged_step) >= 0

    def until_divergence(self) -> "Trajectory":
        """Return the points recorded before the run diverged, or all points if it did not."""
        if not self.diverged:
            return self
        kept = int((np.asarray(self.step) < int(self.diverged_step)).sum())
        # 0-dimensional arrays, such as `diverged_step`, belong to the whole run.
        return jax.tree.map(lambda leaf: leaf[:kept] if np.ndim(leaf) else leaf, self)

    def __len__(self) -> int:
        return int(self.step.shape[0])

    def __repr__(self) -> str:
        head = f"Trajectory({self.name + ', ' if self.name else ''}{len(self)} points"
        if is_traced(self.step, self.loss, self.diverged_step):
            return head + ", traced)"
        kept = self.until_divergence()
        end = (
            f"diverged at step {int(self.diverged_step)}" if self.diverged else "finite throughout"
        )
        return (
            f"{head}, {int(self.step[-1])} steps, {end})\n"
            f"  loss from {float(kept.loss[0]):.6g} to {float(kept.loss[-1]):.6g}"
        )

    def _repr_html_(self) -> str:
        """Show the loss by epoch in a notebook."""
        words = thumbnails.text(self)
        if is_traced(self.step, self.loss, self.diverged_step):
            return words
        return thumbnails.curves(self.epoch, np.asarray(self.loss)[None], ("epoch", "loss")) + words


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Descents(_Recorded):
    """The paths of R training runs, T recorded points each; `descents[r]` is a `Trajectory`.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> starts = jxs.Weights(w1=jnp.linspace(-2, 2, 5), w2=jnp.ones(5))
        >>> runs = jxs.descend(jxs.squared_error, starts, data, runs=5,
        ...                    optimizer=optax.sgd(0.1), epochs=30)
        >>> runs.params.w1.shape, len(runs[3])
        ((5, 31), 31)
        >>> runs.final_params.w1.shape
        (5,)
    """

    params: Any
    """The parameters at the recorded points, each leaf with leading axes (R, T)."""
    step: Array
    """(T,) int: the number of optimizer steps taken."""
    training_loss: Array
    """(R, T) float: the loss over the whole training set."""
    evaluation_loss: Array | None
    """(R, T) float: the loss over the evaluation set; None without one."""
    diverged_step: Array
    """(R,) int: the first step whose batch loss or new parameters are not finite; -1 if none."""
    step_size: Array
    """(R, T) float: the norm of the last step before each point; 0 at the start."""
    path_length: Array
    """(R, T) float: the sum of the norms of all steps so far."""
    learning_rate: Array | None
    """(R, T) float: the learning rate of the last step before each point; None as in
    `Trajectory`."""
    gradient_norm: Array
    """(R,) float: the norm of the gradient of the training loss at the last point."""
    steps_per_epoch: int = field(metadata=STATIC)
    """The number of optimizer steps in an epoch."""
    stability_factor: Array | None = None
    """(R,) float: as in `Trajectory`."""
    adam: Mapping[str, Array] | None = None
    """(R,) float each: as in `Trajectory`."""
    name: str = field(default="", metadata=STATIC)
    """The name of the runs in figures."""

    def coordinate(self, name: str) -> np.ndarray:
        """Return the scalar parameter of this name at every point, (R, T) float.

        Raises:
            ValueError: No scalar parameter has this name.
        """
        return _coordinate(self.params, name, 2)

    @property
    def final_params(self) -> Any:
        """The parameters at the last points, each leaf with a leading axis R."""
        return jax.tree.map(lambda leaf: leaf[:, -1], self.params)

    @property
    def diverged(self) -> np.ndarray:
        """(R,) bool: whether the loss or the parameters of a run became NaN or infinite."""
        return np.asarray(self.diverged_step) >= 0

    @property
    def median(self) -> Trajectory:
        """The elementwise median over the runs that have not diverged.

        If all runs have diverged, it is the median over all of them, and NaN where a run is NaN.
        """
        kept = ~self.diverged if not self.diverged.all() else np.ones(len(self), bool)
        middle = self._of_runs(lambda leaf: np.median(np.asarray(leaf)[kept], axis=0))
        name = f"{self.name + ', ' if self.name else ''}median of {int(kept.sum())} runs"
        return dataclasses.replace(middle, diverged_step=np.array(-1, np.int32), name=name)

    def __len__(self) -> int:
        return int(self.diverged_step.shape[0])

    def __getitem__(self, run: int) -> Trajectory:
        """Return the run with an index, which may be negative."""
        if not -len(self) <= operator.index(run) < len(self):
            raise IndexError(f"run: expected {-len(self)} to {len(self) - 1}, got {run}")
        name = f"{self.name} {run % len(self)}" if self.name else f"run {run % len(self)}"
        return dataclasses.replace(self._of_runs(lambda leaf: leaf[run]), name=name)

    def __iter__(self) -> Iterator[Trajectory]:
        return (self[run] for run in range(len(self)))

    def _of_runs(self, reduce: Callable[[Any], Any]) -> Trajectory:
        fields = {
            name: jax.tree.map(reduce, value)
            for name, value in vars(self).items()
            if name not in ("step", "steps_per_epoch", "name")
        }
        return Trajectory(step=self.step, steps_per_epoch=self.steps_per_epoch, **fields)

    def __repr__(self) -> str:
        head = f"Descents({self.name + ', ' if self.name else ''}{len(self)} runs"
        points = f"{self.step.shape[0]} points"
        if is_traced(self.step, self.loss, self.diverged_step):
            return f"{head}, {points}, traced)"
        diverged = self.diverged
        last = np.asarray(self.loss)[~diverged, -1]
        end = f"from {last.min():.6g} to {last.max():.6g}" if last.size else "not finite"
        return (
            f"{head}, {points}, {int(self.step[-1])} steps, {int(diverged.sum())} diverged)\n"
            f"  last loss {end}"
        )

    def _repr_html_(self) -> str:
        """Show the losses by epoch in a notebook, of the runs that have not diverged."""
        words = thumbnails.text(self)
        if is_traced(self.step, self.loss, self.diverged_step) or self.diverged.all():
            return words
        kept = np.asarray(self.loss)[~self.diverged]
        return thumbnails.curves(self.epoch, kept, ("epoch", "loss")) + words


class Projection(NamedTuple):
    """A training path projected onto a plane: T points.

    Figures draw it like a `Trajectory`, at the losses of its points and not on the surface.
    """

    coordinates: np.ndarray
    """(T, 2) float64: the plane coordinates of each point's orthogonal projection."""
    distance: np.ndarray
    """(T,) float: the distance of each point from the plane, in parameter space."""
    loss: np.ndarray
    """(T,) float: the loss at each point."""
    surface_loss: np.ndarray
    """(T,) float: the loss at the projection of each point, which lies on the plane's surface."""
    epoch: np.ndarray
    """(T,) float: the number of completed epochs."""
    explained: float
    """The fraction of the path's variance about its mean that lies in the plane, 0 to 1."""
    names: tuple[str, str]
    """The names of the plane's coordinates."""
    name: str
    """The path's name in figures."""

    def coordinate(self, name: str) -> np.ndarray:
        """Return the coordinate of this name at every point, (T,) float.

        Raises:
            ValueError: The plane has no coordinate of this name.
        """
        if name not in self.names:
            raise ValueError(
                f"paths: expected a projection with a coordinate {name!r}, the name of the "
                f"landscape's axis, got one on {' and '.join(self.names)}"
            )
        return self.coordinates[:, self.names.index(name)]

    def __repr__(self) -> str:
        return (
            f"Projection({self.name + ', ' if self.name else ''}{len(self.epoch)} points on "
            f"{' and '.join(self.names)})\n  loss from {float(self.loss[0]):.6g} to "
            f"{float(self.loss[-1]):.6g}, {self.explained:.1%} of its variance in the plane, off "
            f"it by up to {float(np.max(self.distance)):.6g}"
        )

    def _repr_html_(self) -> str:
        """Show the loss and the surface's loss by epoch in a notebook."""
        both = np.stack([self.loss, self.surface_loss])
        return thumbnails.curves(self.epoch, both, ("epoch", "loss")) + thumbnails.text(self)


def _coordinate(params: Any, name: str, ndim: int) -> np.ndarray:
    by_name = params._asdict() if hasattr(params, "_asdict") else params
    if not isinstance(by_name, Mapping) or name not in by_name or np.ndim(by_name[name]) != ndim:
        shapes = jax.tree.map(np.shape, by_name)
        raise ValueError(
            f"paths: expected parameters with a number {name!r} at every point, the name of the "
            f"landscape's axis, got shapes {shapes}; jxs.project projects a path of any parameters "
            "onto a plane"
        )
    return np.asarray(by_name[name])
