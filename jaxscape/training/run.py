"""Training with optax inside `lax.scan`: one run, and `vmap` over many."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxscape._util.checks import Key, check_count
from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import Params, norm
from jaxscape.data.dataset import check_batch_size, take
from jaxscape.losses.checks import scalar
from jaxscape.training.optimizers import (
    adam_constants,
    all_finite,
    learning_rate,
    set_hyperparameters,
    stability_factor,
    update,
)
from jaxscape.training.run_axis import NO_RUN_AXIS, RunAxis

# The number of samples, summed over runs, whose gradients are computed at once after training. For
# the two-weight network on two cores, all values from 2¹⁷ to 2²¹ are equally fast.
_SAMPLES_AT_ONCE = 2**18
# Steps are counted in 32-bit integers.
_MAX_STEPS = 2**31 - 1

Record: TypeAlias = Literal["epoch", "step", "end"] | int


class RunSpec(NamedTuple):
    """The length of a run and the spacing of its recorded points."""

    epochs: int
    batch_size: int
    record_every: int
    """The number of steps between two recorded points. The last step is always recorded."""


class Points(NamedTuple):
    """The recorded points of a run, each array with a leading axis T."""

    params: Params
    step_size: jax.Array
    path_length: jax.Array
    learning_rate: jax.Array | None


class Run(NamedTuple):
    """The result of one run."""

    points: Points
    training_loss: jax.Array
    """(T,)"""
    evaluation_loss: jax.Array | None
    """(T,)"""
    diverged_step: jax.Array
    """() int, -1 if the run did not diverge"""
    stability_factor: jax.Array | None = None
    """() as in `Trajectory`; None if `run_one` returned the run"""
    adam: Mapping[str, jax.Array] | None = None
    """() each, as in `Trajectory`; None if `run_one` returned the run"""


class _State(NamedTuple):
    params: Params
    optimizer_state: Any
    step: jax.Array
    step_size: jax.Array
    path_length: jax.Array
    diverged_step: jax.Array


def check_run_spec(epochs: int, batch_size: int | None, record: Record, samples: int) -> RunSpec:
    """Check the length of a run and the points to record, and return them as a `RunSpec`.

    Raises:
        TypeError: A value is not a whole number.
        ValueError: A value is out of range, or there are more than 2³¹ - 1 steps.
    """
    epochs = check_count("epochs", epochs)
    batch_size = check_batch_size(samples if batch_size is None else batch_size, samples)
    spec = RunSpec(epochs, batch_size, 1)
    per_epoch = steps_per_epoch(spec, samples)
    if epochs * per_epoch > _MAX_STEPS:
        raise ValueError(
            f"epochs: expected at most {_MAX_STEPS:,} steps, got {epochs:,} epochs of "
            f"{per_epoch:,} steps"
        )
    if isinstance(record, str):
        every = {"epoch": per_epoch, "step": 1, "end": epochs * per_epoch}
        if record not in every:
            raise ValueError(f"record: expected 'epoch', 'step', 'end' or a number, got {record!r}")
        return spec._replace(record_every=every[record])
    return spec._replace(record_every=check_count("record", record))


def steps_per_epoch(spec: RunSpec, samples: int) -> int:
    """Return the number of optimizer steps in an epoch, including the short last batch."""
    return math.ceil(samples / spec.batch_size)


def recorded_count(spec: RunSpec, samples: int) -> int:
    """Return the number of recorded points."""
    return 1 + math.ceil(spec.epochs * steps_per_epoch(spec, samples) / spec.record_every)


def recorded_steps(spec: RunSpec, samples: int) -> list[int]:
    """Return the numbers of steps after which a point is recorded, from 0 to all steps."""
    total = spec.epochs * steps_per_epoch(spec, samples)
    return [*range(0, total, spec.record_every), total]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
@in_full_precision
def run_all(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    spec: RunSpec,
    run_axis: RunAxis,
    params: Params,
    train: Any,
    key: Key | None,
    hyperparameters: Mapping[str, jax.Array],
    evaluate: Any,
) -> tuple[Run, jax.Array]:
    """Train once, or once for each entry along the run axis of the stacked arguments.

    Returns:
        The `Run`, and the norm of the gradient of the training loss at its last point. With a run
        axis, every array has it as its first axis.
    """

    def gradient_norm(params: Params) -> jax.Array:
        return norm(jax.grad(lambda params: scalar(loss(params, train)))(params))

    def one(
        params: Params, train: Any, key: Key | None, hyperparameters: Any, evaluate: Any
    ) -> Run:
        run = run_one(loss, optimizer, spec, params, train, key, hyperparameters, evaluate)
        state = _initial_state(optimizer, params, hyperparameters)
        dtype = run.points.step_size.dtype
        factor = stability_factor(optimizer, state.optimizer_state, params, dtype)
        adam = adam_constants(state.optimizer_state, dtype)
        return run._replace(stability_factor=factor, adam=adam)

    if run_axis == NO_RUN_AXIS:
        run = one(params, train, key, hyperparameters, evaluate)
        return run, gradient_norm(jax.tree.map(lambda leaf: leaf[-1], run.points.params))
    by_name = {name: 0 if name in run_axis.hyperparameters else None for name in hyperparameters}
    in_axes = (0 if run_axis.params else None, None, 0 if run_axis.key else None, by_name, None)
    runs = jax.vmap(one, in_axes)(params, train, key, hyperparameters, evaluate)
    # A gradient reads every intermediate array twice. With few runs at a time, these arrays stay in
    # the cache.
    samples = jax.tree.leaves(train)[0].shape[0]
    ends = jax.tree.map(lambda leaf: leaf[:, -1], runs.points.params)
    at_once = max(1, _SAMPLES_AT_ONCE // samples)
    return runs, jax.lax.map(gradient_norm, ends, batch_size=at_once)


def _initial_state(
    optimizer: optax.GradientTransformation, params: Params, hyperparameters: Mapping[str, Any]
) -> _State:
    dtype = jax.tree.leaves(params)[0].dtype
    optimizer_state = set_hyperparameters(optimizer.init(params), hyperparameters, dtype)
    zero = jnp.zeros((), norm(params).dtype)
    return _State(params, optimizer_state, jnp.int32(0), zero, zero, jnp.int32(-1))


def run_one(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    spec: RunSpec,
    params: Params,
    train: Any,
    key: Key | None,
    hyperparameters: Mapping[str, jax.Array],
    evaluate: Any,
) -> Run:
    """Train once; may be called under any JAX transformation."""
    n = jax.tree.leaves(train)[0].shape[0]
    full_batches, rest = divmod(n, spec.batch_size)

    def value(params: Params, batch: Any) -> jax.Array:
        return scalar(loss(params, batch))

    def step(state: _State, batch: Any) -> _State:
        batch_loss, gradient = jax.value_and_grad(value)(state.params, batch)
        change, optimizer_state = update(
            optimizer,
            gradient,
            state.optimizer_state,
            state.params,
            batch_loss,
            lambda params: value(params, batch),
        )
        params = optax.apply_updates(state.params, change)
        count, size = state.step + 1, norm(change)
        is_finite = jnp.isfinite(batch_loss) & all_finite(params)
        diverges = (state.diverged_step < 0) & ~is_finite
        diverged_step = jnp.where(diverges, count, state.diverged_step)
        return _State(params, optimizer_state, count, size, state.path_length + size, diverged_step)

    def record(points: Points, state: _State) -> Points:
        # Every step writes to the slot of the next recorded point; the last write before it stays.
        rate = learning_rate(state.optimizer_state, state.path_length.dtype)
        point = Points(state.params, state.step_size, state.path_length, rate)
        slot = (state.step + spec.record_every - 1) // spec.record_every
        return jax.tree.map(
            lambda leaf, value: leaf.at[slot].set(value, indices_are_sorted=True), points, point
        )

    def epoch(carry: tuple[_State, Points], index: jax.Array) -> tuple[tuple[_State, Points], None]:
        order = None if key is None else jax.random.permutation(jax.random.fold_in(key, index), n)

        def advance(
            carry: tuple[_State, Points], first: Any, size: int
        ) -> tuple[tuple[_State, Points], None]:
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
            functools.partial(advance, size=spec.batch_size),
            carry,
            spec.batch_size * jnp.arange(full_batches),
        )
        # The short last batch is a separate step: a padded batch would need a loss with weights.
        return advance(carry, full_batches * spec.batch_size, rest) if rest else (carry, None)

    state = _initial_state(optimizer, params, hyperparameters)
    length, zero = recorded_count(spec, n), state.path_length
    start = Points(params, zero, zero, learning_rate(state.optimizer_state, zero.dtype))
    points = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length, *leaf.shape)), start)
    (state, points), _ = jax.lax.scan(epoch, (state, points), jnp.arange(spec.epochs))

    def losses(data: Any) -> jax.Array:
        # `vmap` would hold the activations of all T points of a large model at once.
        return jax.lax.map(lambda params: value(params, data), points.params)

    return Run(
        points,
        losses(train),
        None if evaluate is None else losses(evaluate),
        state.diverged_step,
    )
