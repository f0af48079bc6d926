"""Curves of low loss from one solution to another, trained."""

import functools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util import pytree, thumbnails
from jaxscape._util.checks import Key, check_key
from jaxscape._util.devices import in_full_precision
from jaxscape._util.progress import bar
from jaxscape._util.pytree import check_finite, is_array, is_none, is_parameter, is_traced
from jaxscape._util.warnings import InterruptedWarning
from jaxscape.connectivity import along
from jaxscape.connectivity.lines import as_lines
from jaxscape.data.dataset import check_batch_size, sample_count, take
from jaxscape.data.stream import Stream
from jaxscape.losses.checks import check_is_function, scalar
from jaxscape.results.landscape import Array
from jaxscape.training.optimizers import check_optimizer, update

# One object, so that a second call compiles nothing.
_ADAM = optax.adam(0.01)
# What a block of steps takes at least, where there are as many.
_BLOCK_SECONDS = 0.1


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Curve:
    """The quadratic Bézier curve from one solution to another, bent toward a control point.

    At t it is `(1 - t)²·first + 2t(1 - t)·control + t²·second`: it lies in the plane of the three,
    `Plane.through(curve.first, curve.second, curve.control)`.

    Example:
        >>> curve = jxs.connectivity.Curve({"w": 0.0}, {"w": 4.0}, {"w": 6.0}, np.array([0.5, 0.25]))
        >>> curve
        Curve(control point trained in 2 steps, sampled loss from 0.5 to 0.25)
        >>> curve.at(0.5)
        {'w': Array(4., dtype=float32...)}
    """

    first: Any
    """The parameters at t = 0."""
    second: Any
    """The parameters at t = 1."""
    control: Any
    """The point that the curve bends toward and, as a rule, does not reach."""
    history: Array
    """(steps,) float: the loss that each step of training saw, at a t of its own; after Ctrl-C as
    far as it came."""

    def at(self, t: Any) -> Any:
        """The parameters at t, a number, or at T of them, every floating leaf with an axis T.

        Leaves that are not floating numbers are the first's. At 0 and at 1 the others are the
        solutions' to the bit. What it returns for T numbers, `project` takes as a path.
        """
        if jnp.ndim(t) == 0:
            return along.on_curve(self._points, None, t)
        points = along.moving(self.first, self.first), *self._points[1:]
        found = jax.vmap(lambda t: along.on_curve(points, None, t))(jnp.asarray(t))
        return _filled(self.first, found)

    def losses(
        self, loss: Callable[[Any, Any], jax.Array], data: Any, t: Any = (0.0, 1.0, 101)
    ) -> Any:
        """The loss along the curve.

        Args:
            loss, data, t: as in `lines`.

        Returns:
            `Lines`, the loss (1, n), to compare with those of `interpolate`; or a dictionary.

        Raises:
            TypeError, ValueError: as `lines`; a control point that is not finite, as training
                diverged.
        """
        check_is_function("loss", loss)
        check_finite("control", self.control)
        found = along.losses_along(along.on_curve, self._points, 1, loss, data, t)
        return as_lines(found, "Bézier curve")

    @property
    def _points(self) -> tuple[Any, Any, Any]:
        """The control points; beyond the first, the leaves that move."""
        control, second = (along.moving(self.first, p) for p in (self.control, self.second))
        return self.first, control, second

    def __repr__(self) -> str:
        head = f"Curve(control point trained in {self.history.shape[0]} steps"
        if is_traced(self.history):
            return head + ", traced)"
        history = np.asarray(self.history)
        holes = np.flatnonzero(~np.isfinite(history))
        lost = f", not finite from step {holes[0] + 1} on" if holes.size else ""
        return f"{head}, sampled loss from {history[0]:.6g} to {history[-1]:.6g}{lost})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the loss that each step of training saw."""
        if is_traced(self.history):
            return thumbnails.text(self)
        history = np.asarray(self.history)[None]
        steps = np.arange(history.size)
        return thumbnails.lines(steps, history, ("step", "loss")) + thumbnails.text(self)


def bezier(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    first: Any,
    second: Any,
    key: Key,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    batch_size: int | None = None,
) -> Curve:
    """Train a curve of low loss between two solutions (Garipov et al. 2018, arXiv 1802.10026).

    The control point of a quadratic Bézier curve, which starts half way between the two, goes down
    the expected loss at a t drawn evenly from 0 to 1: one t, and one batch, a step. Training is one
    compiled program; loss and optimizer are static, as in `descend`. It has a progress bar in a
    terminal; after Ctrl-C, the curve as far as it is trained is returned.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        data: what the loss takes; with a batch size, n samples: a `Dataset`, or a pytree of arrays
            that share their first axis.
        first, second: parameters of one structure, the ends. Leaves that are not floating numbers
            are the first's.
        key: a JAX random key, for t and the batches.
        optimizer: any optax gradient transformation; None for `optax.adam(0.01)`.
        steps: how many, 1 or more.
        batch_size: samples that each step draws, with replacement; None: all data.

    Returns:
        A `Curve`.

    Raises:
        TypeError: a loss that does not return a floating scalar, an optimizer that is not optax's,
            data that are a `Stream`.
        ValueError: solutions of different structures or shapes, not finite, or equal; fewer than 1
            step; a batch size over n.

    Warns:
        InterruptedWarning: Ctrl-C; the steps that are done count.

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
    points = along.moving(first, first), along.beyond(first, second)
    if not hasattr(steps, "__index__") or isinstance(steps, bool):
        raise TypeError(f"steps: expected a whole number, got {steps!r}")
    if steps < 1:
        raise ValueError(f"steps: expected 1 or more, got {steps}")
    if batch_size is not None:
        check_batch_size(batch_size, sample_count("data", data))
    start, end = (jax.tree.map(jnp.asarray, pytree.floating(point, data)) for point in points)
    optimizer = _ADAM if optimizer is None else optimizer
    check_optimizer("optimizer", optimizer, start, {})
    leaves, structure = jax.tree.flatten(first, is_leaf=is_none)
    still = [None if is_parameter(leaf) else leaf for leaf in leaves]
    arrays = tuple(leaf if is_array(leaf) else None for leaf in still)
    others = tuple(None if is_array(leaf) else leaf for leaf in still)
    task = _Task(loss, optimizer, int(steps), batch_size, structure, others)
    control, history = train(task, (start, end), arrays, data, key)
    return Curve(first, second, _filled(first, control), history)


class _Task(NamedTuple):
    """What is compiled for."""

    loss: Callable[[Any, Any], jax.Array]
    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int | None
    structure: Any
    """Of the parameters."""
    others: tuple[Any, ...]
    """Their leaves that are no arrays, `None` for the others."""


def train(
    task: _Task, ends: tuple[Any, Any], arrays: tuple, data: Any, key: Key
) -> tuple[Any, Array]:
    """The control point after training, and the loss of every step that was done.

    It goes on from block to block of steps, which take a tenth of a second or more, so that there
    is a bar to see and Ctrl-C is heard. Blocks do not change what is computed.

    Args:
        task: what is compiled for.
        ends: the leaves of the two ends that move.
        arrays: the other leaves that are arrays, `None` for the rest.
        data, key: as in `bezier`.

    Raises:
        KeyboardInterrupt: Ctrl-C before any block was done.
    """
    keys = jax.random.split(key, task.steps)
    state, done, size = start(task, ends, arrays, data), 0, 1
    with bar(task.steps, "steps") as progress:
        try:
            while done < task.steps:
                end, began = min(done + size, task.steps), time.perf_counter()
                state = jax.block_until_ready(
                    advance(task, ends, arrays, data, keys, state, done, end)
                )
                size *= 4 if time.perf_counter() - began < _BLOCK_SECONDS else 1
                progress.update(end - done)
                done = end
        except KeyboardInterrupt:
            if done == 0:
                raise
            warnings.warn(
                f"interrupted: the curve is trained in the first {done} of {task.steps} steps",
                InterruptedWarning,
                stacklevel=3,
            )
    return state.control, state.history[:done]


class _State(NamedTuple):
    """How far training is."""

    control: Any
    memory: Any
    """The optimizer's."""
    history: jax.Array
    """(steps,) the losses of the steps that are done."""


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def start(task: _Task, ends: tuple[Any, Any], arrays: tuple, data: Any) -> _State:
    """Half way between the ends, before any step."""
    control = along.on_curve(ends, None, 0.5)
    t = jnp.zeros((), jnp.result_type(*jax.tree.leaves(ends)))
    loss = jax.eval_shape(_value(task, ends, arrays), control, t, data)
    return _State(control, task.optimizer.init(control), jnp.zeros(task.steps, loss.dtype))


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def advance(
    task: _Task,
    ends: tuple[Any, Any],
    arrays: tuple,
    data: Any,
    keys: jax.Array,
    state: _State,
    done: Any,
    end: Any,
) -> _State:
    """The state after the steps from `done` to `end`, each with a key of its own."""
    value = _value(task, ends, arrays)
    dtype = jnp.result_type(*jax.tree.leaves(ends))

    def step(k: jax.Array, state: _State) -> _State:
        control, memory, history = state
        t_key, batch_key = jax.random.split(keys[k])
        t = jax.random.uniform(t_key, (), dtype)
        batch = data
        if task.batch_size is not None:
            n = sample_count("data", data)
            batch = take(data, jax.random.randint(batch_key, (task.batch_size,), 0, n))
        loss, gradient = jax.value_and_grad(value)(control, t, batch)
        change, memory = update(
            task.optimizer, gradient, memory, control, loss, lambda c: value(c, t, batch)
        )
        return _State(optax.apply_updates(control, change), memory, history.at[k].set(loss))

    return jax.lax.fori_loop(done, end, step, state)


def _value(task: _Task, ends: tuple[Any, Any], arrays: tuple) -> Callable[..., jax.Array]:
    """(control point, t, batch) -> the loss at t."""
    first, second = ends
    still = [b if a is None else a for a, b in zip(arrays, task.others, strict=True)]
    params = jax.tree.unflatten(task.structure, still)

    def value(control: Any, t: jax.Array, batch: Any) -> jax.Array:
        point = along.on_curve((first, control, second), None, t)
        return scalar(task.loss(_filled(params, point), batch))

    return value


def _filled(params: Any, points: Any) -> Any:
    """Parameters with the leaves that move from elsewhere."""
    return jax.tree.map(
        lambda leaf, point: leaf if point is None else point, params, points, is_leaf=is_none
    )
