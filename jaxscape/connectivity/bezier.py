"""Train Bézier curves of low loss between two solutions."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxscape._util import thumbnails
from jaxscape._util.blocks import run_blocks
from jaxscape._util.checks import Key, check_count, check_key
from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import (
    Params,
    Static,
    as_arrays,
    check_finite,
    combine,
    is_traced,
    moving_leaves,
    partition,
    split_arrays,
)
from jaxscape.connectivity import along
from jaxscape.connectivity.lines import Lines, make_lines
from jaxscape.data.dataset import check_batch_size, sample_count, take
from jaxscape.data.stream import Stream
from jaxscape.grid.axes import AxisValues
from jaxscape.losses.checks import NamedLosses, ScalarLoss, check_is_function, scalar
from jaxscape.results.landscape import Array
from jaxscape.training.optimizers import check_optimizer, update

# One object for all calls, so that a second call does not compile again.
_ADAM = optax.adam(0.01)
# The number of steps per block grows until a block takes this long.
_MIN_BLOCK_SECONDS = 0.1


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Curve:
    """A quadratic Bézier curve from one solution to another, with one control point between them.

    Its point at t is `(1 - t)²·first + 2t(1 - t)·control + t²·second`. The curve lies in the plane
    of the three, `Plane.through(curve.first, curve.second, curve.control)`.

    Example:
        >>> ends, control = ({"w": 0.0}, {"w": 4.0}), {"w": 6.0}
        >>> curve = jxs.connectivity.Curve(*ends, control, np.array([0.5, 0.25]))
        >>> curve
        Curve(control point trained in 2 steps, sampled loss from 0.5 to 0.25)
        >>> curve.at(0.5)
        {'w': Array(4., dtype=float32...)}
    """

    first: Params
    """The parameters at t = 0."""
    second: Params
    """The parameters at t = 1."""
    control: Params
    """The control point. In general the curve does not pass through it."""
    history: Array
    """(steps,) float, the loss at the random t of each training step; after Ctrl-C, of the steps
    that are done."""

    def at(self, t: ArrayLike) -> Params:
        """Return the parameters at one or several values of t.

        Args:
            t: a number, or an array of T numbers. The parameters at 0 and 1 are exactly the
                solutions.

        Returns:
            A pytree of the structure of `first`; for T numbers, each floating leaf has a leading
            axis T, and `project` accepts the result as a path. Leaves that are not floating numbers
            are taken from `first`.
        """
        if jnp.ndim(t) == 0:
            return along.point_on_curve(self._points, None, t)
        points = moving_leaves(self.first, self.first), *self._points[1:]
        curve = jax.vmap(lambda t: along.point_on_curve(points, None, t))(jnp.asarray(t))
        return combine(curve, self.first)

    @overload
    def losses(self, loss: ScalarLoss, data: Any, t: AxisValues = (0.0, 1.0, 101)) -> Lines: ...

    @overload
    def losses(
        self, loss: NamedLosses, data: Any, t: AxisValues = (0.0, 1.0, 101)
    ) -> dict[str, Lines]: ...

    def losses(
        self, loss: ScalarLoss | NamedLosses, data: Any, t: AxisValues = (0.0, 1.0, 101)
    ) -> Lines | dict[str, Lines]:
        """Compute the loss along the curve.

        Args:
            loss: as in `lines`.
            data: as in `lines`.
            t: as in `lines`.

        Returns:
            `Lines` with a loss of shape (1, n), like those of `interpolate`; for a loss with
            several scalars, a dictionary of `Lines`.

        Raises:
            TypeError: The loss is not a function with a floating scalar result.
            ValueError: The control point is not finite, because training diverged.

        Warns:
            NonFiniteWarning: Some losses are NaN or infinite; they are kept.
            InterruptedWarning: After Ctrl-C, only the first points are returned.
        """
        check_is_function("loss", loss)
        check_finite("control", self.control)
        surfaces = along.losses_along(along.point_on_curve, self._points, 1, loss, data, t)
        return make_lines(surfaces, "Bézier curve")

    @property
    def _points(self) -> tuple[Params, Params, Params]:
        """The three control points; the last two have `None` for leaves that do not move."""
        control, second = (moving_leaves(self.first, p) for p in (self.control, self.second))
        return self.first, control, second

    def __repr__(self) -> str:
        head = f"Curve(control point trained in {self.history.shape[0]} steps"
        if is_traced(self.history):
            return head + ", traced)"
        history = np.asarray(self.history)
        nonfinite = np.flatnonzero(~np.isfinite(history))
        note = f", not finite from step {nonfinite[0] + 1} on" if nonfinite.size else ""
        return f"{head}, sampled loss from {history[0]:.6g} to {history[-1]:.6g}{note})"

    def _repr_html_(self) -> str:
        """Show the training losses in a notebook."""
        if is_traced(self.history):
            return thumbnails.text(self)
        history = np.asarray(self.history)[None]
        steps = np.arange(history.size)
        return thumbnails.curves(steps, history, ("step", "loss")) + thumbnails.text(self)


def bezier(
    loss: ScalarLoss,
    data: Any,
    first: Params,
    second: Params,
    key: Key,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    batch_size: int | None = None,
) -> Curve:
    """Train a curve of low loss between two solutions (Garipov et al. 2018, arXiv 1802.10026).

    The control point of a quadratic Bézier curve starts halfway between the solutions. Each step
    draws a uniform t from 0 to 1, and a batch, and takes an optimizer step on the loss at t, so
    that training minimizes the expected loss over t. Training is compiled; the loss and the
    optimizer are static arguments, as in `descend`. A progress bar is shown in a terminal or
    notebook. After Ctrl-C, the curve as trained so far is returned.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        data: the second argument of the loss. With a batch size, a `Dataset` or a pytree of arrays
            that share their first axis, n samples.
        first: the parameters at t = 0. Leaves that are not floating numbers are taken from these.
        second: the parameters at t = 1, of the same structure.
        key: a JAX random key, for t and the batches.
        optimizer: any optax gradient transformation; None for `optax.adam(0.01)`.
        steps: the number of training steps.
        batch_size: the number of samples that each step draws, with replacement; None for all data.

    Returns:
        A `Curve`.

    Raises:
        TypeError: The loss does not return a floating scalar, the optimizer is not optax's, or the
            data are a `Stream`.
        ValueError: The solutions differ in structure or shape, are not finite, or are equal;
            `steps` is less than 1; or `batch_size` is not from 1 to n.

    Warns:
        InterruptedWarning: After Ctrl-C, only the first steps are done.

    Example:
        >>> def ring(p, data):
        ...     return (p["x"] ** 2 + p["y"] ** 2 - 1) ** 2
        >>> ends = {"x": 1.0, "y": 0.0}, {"x": -0.6, "y": 0.8}
        >>> curve = jxs.connectivity.bezier(ring, None, *ends, jax.random.key(0))
        >>> straight = jxs.connectivity.interpolate(ring, None, *ends).barrier
        >>> curve.losses(ring, None).barrier < 0.02 * straight
        True
    """
    check_is_function("loss", loss)
    check_key(key)
    if isinstance(data, Stream):
        raise TypeError(f"data: expected arrays to draw batches of, got {data!r}")
    moving, rest = partition(first)
    points = moving, along.check_solutions(first, second)
    steps = check_count("steps", steps)
    if batch_size is not None:
        batch_size = check_batch_size(batch_size, sample_count("data", data))
    start, end = (jax.tree.map(jnp.asarray, as_arrays(point, data)) for point in points)
    optimizer = _ADAM if optimizer is None else optimizer
    check_optimizer("optimizer", optimizer, start, {})
    arrays, static = split_arrays(rest)
    task = _Task(loss, optimizer, steps, batch_size, static)
    control, history = train(task, (start, end), arrays, data, key)
    return Curve(first, second, combine(control, first), history)


class _Task(NamedTuple):
    """The static arguments of a training program."""

    loss: ScalarLoss
    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int | None
    static: Static
    """The leaves that do not move and are not arrays."""


def train(
    task: _Task, ends: tuple[Params, Params], arrays: Params, data: Any, key: Key
) -> tuple[Params, jax.Array]:
    """Return the trained control point, and the losses of the steps that are done.

    Steps run in blocks, so that the progress bar moves and Ctrl-C works. The blocks grow until one
    takes a tenth of a second; they do not change the result.

    Args:
        task: the static arguments.
        ends: the moving leaves of the two ends.
        arrays: the other leaves that are arrays, `None` for the rest.
        data: as in `bezier`.
        key: as in `bezier`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed before the first block was done.
    """
    keys = jax.random.split(key, task.steps)
    state, done = start(task, ends, arrays, data), 0

    def blocks() -> Iterator[int]:
        """Yield the step at which each block ends."""
        size = 1
        while done < task.steps:
            began = time.perf_counter()
            yield min(done + size, task.steps)
            size *= 4 if time.perf_counter() - began < _MIN_BLOCK_SECONDS else 1

    def compute(end: int) -> _State:
        return jax.block_until_ready(advance(task, ends, arrays, data, keys, state, done, end))

    def keep(end: int, new_state: _State) -> int:
        nonlocal state, done
        count, done = end - done, end
        state = new_state
        return count

    def interrupted() -> str | None:
        return f"the first {done} of {task.steps} training steps are done" if done else None

    run_blocks(
        blocks(),
        compute,
        keep,
        total=task.steps,
        unit="steps",
        threads=0,
        interrupted=interrupted,
    )
    return state.control, state.history[:done]


class _State(NamedTuple):
    """The state of training after some steps."""

    control: Params
    optimizer_state: Any
    history: jax.Array
    """(steps,) the losses of the steps that are done, then zeros."""


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def start(task: _Task, ends: tuple[Params, Params], arrays: Params, data: Any) -> _State:
    """Return the state before the first step, with the control point halfway between the ends."""
    control = along.point_on_curve(ends, None, 0.5)
    t = jnp.zeros((), jnp.result_type(*jax.tree.leaves(ends)))
    loss = jax.eval_shape(_make_loss(task, ends, arrays), control, t, data)
    return _State(control, task.optimizer.init(control), jnp.zeros(task.steps, loss.dtype))


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def advance(
    task: _Task,
    ends: tuple[Params, Params],
    arrays: Params,
    data: Any,
    keys: jax.Array,
    state: _State,
    done: int,
    end: int,
) -> _State:
    """Return the state after the steps from `done` to `end`; step k uses the key `keys[k]`."""
    loss_at = _make_loss(task, ends, arrays)
    dtype = jnp.result_type(*jax.tree.leaves(ends))

    def step(k: jax.Array, state: _State) -> _State:
        control, optimizer_state, history = state
        t_key, batch_key = jax.random.split(keys[k])
        t = jax.random.uniform(t_key, (), dtype)
        batch = data
        if task.batch_size is not None:
            n = sample_count("data", data)
            batch = take(data, jax.random.randint(batch_key, (task.batch_size,), 0, n))
        loss, gradient = jax.value_and_grad(loss_at)(control, t, batch)
        change, optimizer_state = update(
            task.optimizer,
            gradient,
            optimizer_state,
            control,
            loss,
            lambda control: loss_at(control, t, batch),
        )
        control = optax.apply_updates(control, change)
        return _State(control, optimizer_state, history.at[k].set(loss))

    return jax.lax.fori_loop(done, end, step, state)


def _make_loss(
    task: _Task, ends: tuple[Params, Params], arrays: Params
) -> Callable[[Params, jax.Array, Any], jax.Array]:
    """Return a function (control point, t, batch) -> the loss at t on the curve."""
    first, second = ends
    rest = task.static.with_arrays(arrays)

    def loss_at(control: Params, t: jax.Array, batch: Any) -> jax.Array:
        point = along.point_on_curve((first, control, second), None, t)
        return scalar(task.loss(combine(point, rest), batch))

    return loss_at
