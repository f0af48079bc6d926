"""One run of training, written once and mapped over as many as are wanted: optax in one scan."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxscape._util.checks import Key
from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import norm
from jaxscape.data.dataset import take
from jaxscape.losses.checks import scalar
from jaxscape.training import optimizers

# Of 2¹⁷ to 2²¹ samples of the two-weight network, none did better on two cores.
_SAMPLES_AT_ONCE = 2**18


class Course(NamedTuple):
    """How long a run is, and when it is recorded."""

    epochs: int
    batch_size: int
    every: int
    """Steps between two recorded points; the end is recorded in any case."""


class Points(NamedTuple):
    """What is recorded of a run, each with a leading axis T."""

    params: Any
    step_size: jax.Array
    path_length: jax.Array
    learning_rate: jax.Array | None


class Run(NamedTuple):
    """One run."""

    points: Points
    training_loss: jax.Array
    """(T,)"""
    evaluation_loss: jax.Array | None
    """(T,)"""
    diverged_step: jax.Array
    """() int, -1 if none"""


class Batched(NamedTuple):
    """Which arguments of `runs` have a leading axis of runs."""

    params: bool
    key: bool
    hyperparameters: tuple[str, ...]


class _State(NamedTuple):
    params: Any
    memory: Any
    """The optimizer's state."""
    step: jax.Array
    step_size: jax.Array
    path_length: jax.Array
    diverged_step: jax.Array


def steps_per_epoch(course: Course, samples: int) -> int:
    """Optimizer steps in an epoch, the short last batch included."""
    return math.ceil(samples / course.batch_size)


def recorded_count(course: Course, samples: int) -> int:
    """How many points are recorded."""
    return 1 + math.ceil(course.epochs * steps_per_epoch(course, samples) / course.every)


def recorded_steps(course: Course, samples: int) -> list[int]:
    """The steps after which a run is recorded: the start, every so many, and the end."""
    total = course.epochs * steps_per_epoch(course, samples)
    return [*range(0, total, course.every), total]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
@in_full_precision
def runs(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    course: Course,
    batched: Batched,
    params: Any,
    train: Any,
    key: Key | None,
    hyperparameters: Mapping[str, jax.Array],
    evaluate: Any,
) -> tuple[Run, jax.Array]:
    """One run, or as many as the arguments named in `batched` have, with a leading axis.

    Returns:
        The run, and the norm of the gradient of the loss over the training set at its end.
    """

    def gradient_norm(params: Any) -> jax.Array:
        return norm(jax.grad(lambda params: scalar(loss(params, train)))(params))

    one = functools.partial(run, loss, optimizer, course)
    if batched == Batched(False, False, ()):
        done = one(params, train, key, hyperparameters, evaluate)
        return done, gradient_norm(jax.tree.map(lambda leaf: leaf[-1], done.points.params))
    axes = {name: 0 if name in batched.hyperparameters else None for name in hyperparameters}
    along = (0 if batched.params else None, None, 0 if batched.key else None, axes, None)
    done = jax.vmap(one, along)(params, train, key, hyperparameters, evaluate)
    # A few runs at a time: what the samples give is used twice, and should still be in the cache.
    samples = jax.tree.leaves(train)[0].shape[0]
    ends = jax.tree.map(lambda leaf: leaf[:, -1], done.points.params)
    at_once = max(1, _SAMPLES_AT_ONCE // samples)
    return done, jax.lax.map(gradient_norm, ends, batch_size=at_once)


def run(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    course: Course,
    params: Any,
    train: Any,
    key: Key | None,
    hyperparameters: Mapping[str, jax.Array],
    evaluate: Any,
) -> Run:
    """One run; may be called under any transformation of JAX."""
    n = jax.tree.leaves(train)[0].shape[0]
    full, rest = divmod(n, course.batch_size)
    every = course.every

    def value(params: Any, batch: Any) -> jax.Array:
        return scalar(loss(params, batch))

    def step(state: _State, batch: Any) -> _State:
        batch_loss, gradient = jax.value_and_grad(value)(state.params, batch)
        change, memory = optimizers.update(
            optimizer,
            gradient,
            state.memory,
            state.params,
            batch_loss,
            lambda params: value(params, batch),
        )
        params = optax.apply_updates(state.params, change)
        count, size = state.step + 1, norm(change)
        lost = ~(jnp.isfinite(batch_loss) & optimizers.all_finite(params))
        diverged_step = jnp.where((state.diverged_step < 0) & lost, count, state.diverged_step)
        return _State(params, memory, count, size, state.path_length + size, diverged_step)

    def record(points: Points, state: _State) -> Points:
        # Every step writes to the place of the next recorded point; the last of them stays.
        rate = optimizers.learning_rate(state.memory, state.path_length.dtype)
        now = Points(state.params, state.step_size, state.path_length, rate)
        slot = (state.step + every - 1) // every
        return jax.tree.map(
            lambda all_points, point: all_points.at[slot].set(point, indices_are_sorted=True),
            points,
            now,
        )

    def epoch(carry: tuple[_State, Points], index: jax.Array) -> tuple[tuple[_State, Points], None]:
        order = None if key is None else jax.random.permutation(jax.random.fold_in(key, index), n)

        def advance(carry: tuple[_State, Points], first: Any, size: int):
            state, points = carry
            if order is None:
                batch = jax.tree.map(
                    lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size), train
                )
            else:
                batch = take(train, jax.lax.dynamic_slice_in_dim(order, first, size))
            state = step(state, batch)
            return (state, record(points, state)), None

        carry, _ = jax.lax.scan(
            functools.partial(advance, size=course.batch_size),
            carry,
            course.batch_size * jnp.arange(full),
        )
        # The short last batch is a step of its own: padding would need every loss to know of it.
        return advance(carry, full * course.batch_size, rest) if rest else (carry, None)

    floating = jax.tree.leaves(params)[0].dtype
    memory = optimizers.with_hyperparameters(optimizer.init(params), hyperparameters, floating)
    zero = jnp.zeros((), norm(params).dtype)
    state = _State(params, memory, jnp.int32(0), zero, zero, jnp.int32(-1))
    length = recorded_count(course, n)
    start = Points(params, zero, zero, optimizers.learning_rate(memory, zero.dtype))
    points = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length, *leaf.shape)), start)
    (state, points), _ = jax.lax.scan(epoch, (state, points), jnp.arange(course.epochs))

    def losses(data: Any) -> jax.Array:
        # One point after the other: a large model's activations then exist once, not T times.
        return jax.lax.map(lambda params: value(params, data), points.params)

    return Run(
        points,
        losses(train),
        None if evaluate is None else losses(evaluate),
        state.diverged_step,
    )
