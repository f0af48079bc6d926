"""Where descents went: `Trajectory` of one, `Descents` of many, `Projection` on a plane.

Arrays with an axis T hold one entry for every recorded point, with an axis R one for every run.
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
    """What one descent and many have in common."""

    step: Array
    training_loss: Array
    evaluation_loss: Array | None
    diverged_step: Array
    steps_per_epoch: int

    @property
    def loss(self) -> Array:
        """(T,), of many (R, T), float: over the evaluation set, or without one the training set."""
        return self.training_loss if self.evaluation_loss is None else self.evaluation_loss

    @property
    def epoch(self) -> np.ndarray:
        """(T,) float: epochs of training done; whole numbers at the end of each."""
        return np.asarray(self.step) / self.steps_per_epoch

    @property
    def steps_taken(self) -> np.ndarray:
        """() int, of many (R,): the steps up to the one that was not finite, or else all."""
        lost = np.asarray(self.diverged_step)
        return np.where(lost < 0, np.asarray(self.step)[-1], lost)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Trajectory(_Recorded):
    """Where a descent went: T recorded points, the first of them the start."""

    params: Any
    """The parameters' pytree, each leaf with a leading axis T."""
    step: Array
    """(T,) int: how many optimizer steps had been taken."""
    training_loss: Array
    """(T,) float: the loss over the whole training set."""
    evaluation_loss: Array | None
    """(T,) float: the loss over the evaluation set; None where none was given."""
    diverged_step: Array
    """() int: the first step whose batch loss or new parameters were not finite; -1 if none."""
    steps_per_epoch: int = field(metadata=STATIC)
    """How many optimizer steps make an epoch."""
    step_size: Array | None = None
    """(T,) float: how far the last step before each point went, in parameter space; 0 at first."""
    path_length: Array | None = None
    """(T,) float: the length of all steps so far."""
    learning_rate: Array | None = None
    """(T,) float: as it was applied in the last step; None where the optimizer does not tell,
    which it does if `optax.inject_hyperparams` made it, or if it searches along a line."""
    gradient_norm: Array | None = None
    """() float: the norm of the gradient of the loss over the training set, at the end."""
    name: str = field(default="", metadata=STATIC)
    """What the descent is called in figures."""

    def coordinate(self, name: str) -> np.ndarray:
        """(T,) float: the parameter that is a number of this name.

        Raises:
            ValueError: there is none.
        """
        return _coordinate(self.params, name, 1)

    @property
    def final_params(self) -> Any:
        """The last parameters."""
        return jax.tree.map(lambda leaf: leaf[-1], self.params)

    @property
    def diverged(self) -> bool:
        """Whether the run left the finite numbers."""
        return int(self.diverged_step) >= 0

    def until_divergence(self) -> "Trajectory":
        """The points recorded before the run left the finite numbers: all of them if it did not."""
        if not self.diverged:
            return self
        kept = int((np.asarray(self.step) < int(self.diverged_step)).sum())
        # Arrays of one number each, such as `diverged_step`, belong to the whole run.
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
        """What a notebook shows: the loss by epoch."""
        words = thumbnails.text(self)
        if is_traced(self.step, self.loss, self.diverged_step):
            return words
        return thumbnails.lines(self.epoch, np.asarray(self.loss)[None], ("epoch", "loss")) + words


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Descents(_Recorded):
    """R descents of T recorded points each: one of them is `descents[r]`, a `Trajectory`.

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
    """The parameters' pytree, each leaf with leading axes (R, T)."""
    step: Array
    """(T,) int: how many optimizer steps had been taken."""
    training_loss: Array
    """(R, T) float: the loss over the whole training set."""
    evaluation_loss: Array | None
    """(R, T) float: the loss over the evaluation set; None where none was given."""
    diverged_step: Array
    """(R,) int: the first step that was not finite; -1 if none."""
    step_size: Array
    """(R, T) float: how far the last step before each point went; 0 at first."""
    path_length: Array
    """(R, T) float: the length of all steps so far."""
    learning_rate: Array | None
    """(R, T) float: as it was applied in the last step; None where the optimizer does not tell."""
    gradient_norm: Array
    """(R,) float: the norm of the gradient of the loss over the training set, at the end."""
    steps_per_epoch: int = field(metadata=STATIC)
    """How many optimizer steps make an epoch."""
    name: str = field(default="", metadata=STATIC)
    """What the descents are called in figures."""

    def coordinate(self, name: str) -> np.ndarray:
        """(R, T) float: the parameter that is a number of this name.

        Raises:
            ValueError: there is none.
        """
        return _coordinate(self.params, name, 2)

    @property
    def final_params(self) -> Any:
        """The last parameters of every run, each leaf with a leading axis R."""
        return jax.tree.map(lambda leaf: leaf[:, -1], self.params)

    @property
    def diverged(self) -> np.ndarray:
        """(R,) bool: whether a run left the finite numbers."""
        return np.asarray(self.diverged_step) >= 0

    @property
    def median(self) -> Trajectory:
        """The medians, number by number, of what the runs recorded that have not diverged.

        Of all runs, if all diverged: NaN then, where one of them is NaN.
        """
        kept = ~self.diverged if not self.diverged.all() else np.ones(len(self), bool)
        middle = self._of_runs(lambda leaf: np.median(np.asarray(leaf)[kept], axis=0))
        name = f"{self.name + ', ' if self.name else ''}median of {int(kept.sum())} runs"
        return dataclasses.replace(middle, diverged_step=np.array(-1, np.int32), name=name)

    def __len__(self) -> int:
        return int(self.diverged_step.shape[0])

    def __getitem__(self, run: int) -> Trajectory:
        """One of the runs, counted from 0, or from the end if negative."""
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
        end = f"from {last.min():.6g} to {last.max():.6g}" if last.size else "nowhere finite"
        return (
            f"{head}, {points}, {int(self.step[-1])} steps, {int(diverged.sum())} diverged)\n"
            f"  last loss {end}"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the losses of those that have not diverged, by epoch."""
        words = thumbnails.text(self)
        if is_traced(self.step, self.loss, self.diverged_step) or self.diverged.all():
            return words
        kept = np.asarray(self.loss)[~self.diverged]
        return thumbnails.lines(self.epoch, kept, ("epoch", "loss")) + words


class Projection(NamedTuple):
    """The T recorded points of a path as a plane sees them, each array (T,) unless said otherwise.

    Figures draw it as they draw a `Trajectory`: at its own loss, not the surface's under it.
    """

    coordinates: np.ndarray
    """(T, 2) float64: where the plane comes nearest to each point."""
    distance: np.ndarray
    """How far each point is from there, in the norm of all parameters."""
    loss: np.ndarray
    """The loss at each point itself, as the path recorded it."""
    surface_loss: np.ndarray
    """The loss at the point of the plane below it."""
    epoch: np.ndarray
    """Epochs of training done."""
    explained: float
    """The part of the path's variance about its mean that lies in the plane, 0 to 1."""
    names: tuple[str, str]
    """What the plane's coordinates are called."""
    name: str
    """What the path is called in figures."""

    def coordinate(self, name: str) -> np.ndarray:
        """(T,) float: the coordinate of this name.

        Raises:
            ValueError: the plane has none.
        """
        if name not in self.names:
            raise ValueError(
                f"paths: expected a projection on {' and '.join(self.names)}, as the landscape's "
                f"axes, got one without {name!r}"
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
        """What a notebook shows: the loss by epoch, and the surface's below."""
        both = np.stack([self.loss, self.surface_loss])
        return thumbnails.lines(self.epoch, both, ("epoch", "loss")) + thumbnails.text(self)


def _coordinate(params: Any, name: str, ndim: int) -> np.ndarray:
    by_name = params._asdict() if hasattr(params, "_asdict") else params
    if not isinstance(by_name, Mapping) or name not in by_name or np.ndim(by_name[name]) != ndim:
        shapes = jax.tree.map(np.shape, by_name)
        raise ValueError(
            f"paths: expected parameters with a number {name!r} at every point, as the "
            f"landscape's axis is called, got shapes {shapes}; jxs.project makes a path on a plane "
            "of any parameters"
        )
    return np.asarray(by_name[name])
