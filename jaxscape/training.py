"""One run of training, written once and mapped over as many as are wanted: optax in one scan."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxscape.data import Key, take
from jaxscape.devices import in_full_precision
from jaxscape.network import scalar

# Sharpness-aware minimisation climbs first, and comes back.
_TRIAL_STEPS = 8
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
    travelled: jax.Array
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
    """The optimiser's state."""
    step: jax.Array
    step_size: jax.Array
    travelled: jax.Array
    diverged_step: jax.Array


def steps_per_epoch(course: Course, samples: int) -> int:
    """Optimiser steps in an epoch, the short last batch included."""
    return math.ceil(samples / course.batch_size)


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
        change, memory = update(
            optimizer,
            gradient,
            state.memory,
            state.params,
            batch_loss,
            lambda params: value(params, batch),
        )
        params = optax.apply_updates(state.params, change)
        count, size = state.step + 1, norm(change)
        lost = ~(jnp.isfinite(batch_loss) & _all_finite(params))
        diverged_step = jnp.where((state.diverged_step < 0) & lost, count, state.diverged_step)
        return _State(params, memory, count, size, state.travelled + size, diverged_step)

    def record(points: Points, state: _State) -> Points:
        # Every step writes to the place of the next recorded point; the last of them stays.
        rate = _learning_rate(state.memory, state.travelled.dtype)
        now = Points(state.params, state.step_size, state.travelled, rate)
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

    memory = _with_hyperparameters(optimizer.init(params), hyperparameters)
    zero = jnp.zeros((), norm(params).dtype)
    state = _State(params, memory, jnp.int32(0), zero, zero, jnp.int32(-1))
    length = len(recorded_steps(course, n))
    start = Points(params, zero, zero, _learning_rate(memory, zero.dtype))
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


def norm(tree: Any) -> jax.Array:
    """The length of all numbers of a pytree as one vector."""
    # Scaled, so that squares of tiny steps do not underflow: a step of 1e-25 is a step.
    leaves = jax.tree.leaves(tree)
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(leaf)) for leaf in leaves])
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = [jnp.sum(jnp.square(leaf / scale)) for leaf in leaves]
    return scale * jnp.sqrt(functools.reduce(jnp.add, squares))


def _all_finite(tree: Any) -> jax.Array:
    return functools.reduce(
        jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    )


def _is_injected(node: Any) -> bool:
    return hasattr(node, "hyperparams")


def _injected(memory: Any) -> list[Any]:
    """The states of `optax.inject_hyperparams`, wherever they are, outer ones first."""
    found = []
    for node in jax.tree.leaves(memory, is_leaf=_is_injected):
        if _is_injected(node):
            found += [node, *_injected(node.inner_state)]
    return found


def _with_hyperparameters(memory: Any, values: Mapping[str, jax.Array]) -> Any:
    def fill(node: Any) -> Any:
        if not _is_injected(node):
            return node
        known = {
            name: jnp.asarray(values[name], jnp.result_type(value)) if name in values else value
            for name, value in node.hyperparams.items()
        }
        inner = _with_hyperparameters(node.inner_state, values)
        return node._replace(hyperparams=known, inner_state=inner)

    return jax.tree.map(fill, memory, is_leaf=_is_injected)


def _learning_rate(memory: Any, dtype: Any) -> jax.Array | None:
    """The learning rate in an optimiser's state; None where it does not hold exactly one."""
    held = [
        node.hyperparams["learning_rate"]
        for node in _injected(memory)
        if "learning_rate" in node.hyperparams
    ]
    held += [
        node.learning_rate
        for node in jax.tree.leaves(memory, is_leaf=lambda node: hasattr(node, "learning_rate"))
        if hasattr(node, "learning_rate")
    ]
    return jnp.asarray(held[0], dtype) if len(held) == 1 else None


def injected_names(optimizer: Any, params: Any) -> tuple[set[str], set[str]]:
    """What `optax.inject_hyperparams` gave an optimiser: names of constants, and of schedules."""
    states = _injected(jax.eval_shape(optimizer.init, params))
    scheduled = {name for node in states for name in node.hyperparams_states}
    return {name for node in states for name in node.hyperparams} - scheduled, scheduled


def first_update_fault(optimizer: Any, params: Any) -> str | None:
    """What is wrong with an optimiser that makes a finite gradient infinite, or that climbs it.

    Optimisers are closures, so what they do is the only way to see in.
    """
    with jax.ensure_compile_time_eval():
        ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)

        def total(params: Any) -> jax.Array:
            return functools.reduce(jnp.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(params)])

        position, memory = ones, optimizer.init(ones)
        for _ in range(_TRIAL_STEPS):
            change, memory = update(optimizer, ones, memory, position, total(position), total)
            if not _all_finite(change):
                return "got an update that is not finite from a gradient of ones"
            position = optax.apply_updates(position, change)
            if total(position) <= total(ones):
                return None
    return "got updates along a gradient of ones"


def update(
    optimizer: Any, gradient: Any, memory: Any, params: Any, value: Any, function: Callable
) -> tuple[Any, Any]:
    """An optimiser's update, given what else it can take."""
    known = {
        "value": value,
        "grad": gradient,
        # optax's line search refuses what neither it nor this function takes.
        "value_fn": lambda params, grad_fn=None: function(params),
        "grad_fn": lambda params, _: jax.grad(function)(params),
    }
    takes = inspect.signature(optimizer.update).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        known = {name: value for name, value in known.items() if name in takes}
    return optimizer.update(gradient, memory, params, **known)
