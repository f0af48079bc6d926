"""Training: any optax optimiser over mini-batches, in one compiled scan."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape.cells import scalar
from jaxscape.data import Key, check_batch_size, check_key, take
from jaxscape.grid import check_is_function
from jaxscape.results import Trajectory


def descend(
    loss: Callable[[Any, Any], jax.Array],
    params: Any,
    train: Any,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    evaluate: Any = None,
    record: Literal["epoch", "step"] = "epoch",
) -> Trajectory:
    """Descend from `params` by mini-batch training and record the way.

    Loss and optimiser are static: build the optimiser once and pass the same object again, and
    a second call compiles nothing.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        params: where to start; any pytree of floating arrays or Python floats, which take the
            dtype of the data.
        train: n samples: a `Dataset`, or a pytree of arrays that share their first axis.
        optimizer: any optax gradient transformation, one with a line search included.
        epochs: how many times to go through the data, 1 or more.
        batch_size: samples in a batch, 1 to n; the last batch of an epoch is short where they
            do not divide. None: all of them.
        key: None walks through the data in order; a JAX random key shuffles anew every epoch.
        evaluate: other data on which to record the loss as well.
        record: "epoch" records the start and the end of each epoch, "step" every step.

    Returns:
        A `Trajectory` of 1 + epochs points, or 1 + epochs · batches. A run that leaves the finite
        numbers is not an error: `diverged_step` says when it did.

    Raises:
        TypeError: a loss that does not return a floating scalar, parameters that are not floats,
            an optimizer that is not optax's.
        ValueError: parameters, or an optimiser's learning rate, that are not finite; a batch size
            over n; fewer than 1 epoch.

    Example:
        >>> data = jxs.teacher_student(jax.random.key(0))
        >>> jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...             optimizer=optax.sgd(0.1), epochs=100)
        Trajectory(101 points, 100 steps, finite throughout)
          loss from 0.2469... to 0.00102...
    """
    check_is_function("loss", loss)
    if not (callable(getattr(optimizer, "init", None)) and callable(optimizer.update)):
        raise TypeError(
            f"optimizer: expected an optax gradient transformation such as optax.sgd(0.01), "
            f"got {optimizer!r}"
        )
    if not isinstance(epochs, int | np.integer) or isinstance(epochs, bool):
        raise TypeError(f"epochs: expected a whole number, got {epochs!r}")
    if epochs < 1:
        raise ValueError(f"epochs: expected 1 or more, got {epochs}")
    if record not in ("epoch", "step"):
        raise ValueError(f"record: expected 'epoch' or 'step', got {record!r}")
    if key is not None:
        check_key(key)
    n = _sample_count("train", train)
    if batch_size is None:
        batch_size = n
    check_batch_size(batch_size, n)
    if evaluate is not None:
        _sample_count("evaluate", evaluate)
    start = _floating(params, train)
    return _descend(
        loss, optimizer, int(epochs), int(batch_size), record == "step", start, train, key, evaluate
    )


def _sample_count(name: str, data: Any) -> int:
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(
            f"{name}: expected arrays that share their first axis, the samples, "
            f"got first axes {sorted(lengths)}"
        )
    return lengths.pop()[0]


def _floating(params: Any, data: Any) -> Any:
    """The start as strongly typed arrays: a scan's state must keep its dtype."""
    leaves = [leaf for leaf in jax.tree.leaves(data) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    if not jax.tree.leaves(params):
        raise ValueError(f"params: expected at least one array or number, got {params!r}")

    def convert(path, leaf):
        name = f"params{jax.tree_util.keystr(path)}"
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            dtype = jnp.result_type(*leaves, float) if leaves else jnp.result_type(float)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{name}: expected floating numbers, got dtype {dtype}")
        if isinstance(leaf, jax.core.Tracer):
            return leaf
        array = np.asarray(leaf).astype(dtype)
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers, got some that are not")
        return leaf if isinstance(leaf, jax.Array) else array

    return jax.tree_util.tree_map_with_path(convert, params)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _descend(loss, optimizer, epochs, batch_size, every_step, params, train, key, evaluate):
    optimizer = optax.with_extra_args_support(optimizer)
    _check_learning_rate(optimizer, params)
    n = jax.tree.leaves(train)[0].shape[0]
    full, rest = divmod(n, batch_size)

    def value(params, batch):
        return scalar(loss(params, batch))

    def step(state, batch):
        params, memory, count, diverged_step = state
        batch_loss, gradient = jax.value_and_grad(value)(params, batch)
        update, memory = optimizer.update(
            gradient,
            memory,
            params,
            value=batch_loss,
            grad=gradient,
            value_fn=lambda params: value(params, batch),
        )
        params = optax.apply_updates(params, update)
        count = count + 1
        lost = ~(jnp.isfinite(batch_loss) & _all_finite(params))
        diverged_step = jnp.where((diverged_step < 0) & lost, count, diverged_step)
        return (params, memory, count, diverged_step), params if every_step else None

    def epoch(state, index):
        if key is None:
            samples = train
        else:
            order = jax.random.permutation(jax.random.fold_in(key, index), n)
            samples = take(train, order)
        # The short last batch is a step of its own: padding would need every loss to know of it.
        batches = jax.tree.map(
            lambda leaf: leaf[: full * batch_size].reshape(full, batch_size, *leaf.shape[1:]),
            samples,
        )
        state, on_the_way = jax.lax.scan(step, state, batches)
        if rest:
            state, last = step(state, take(samples, slice(full * batch_size, n)))
            if every_step:
                on_the_way = jax.tree.map(
                    lambda way, end: jnp.concatenate([way, end[None]]), on_the_way, last
                )
        return state, on_the_way if every_step else state[0]

    state = (params, optimizer.init(params), jnp.int32(0), jnp.int32(-1))
    (*_, diverged_step), visited = jax.lax.scan(epoch, state, jnp.arange(epochs))
    if every_step:
        visited = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), visited)
    path = jax.tree.map(lambda first, later: jnp.concatenate([first[None], later]), params, visited)

    def losses(data):
        # One point after the other: a large model's activations then exist once, not T times.
        return jax.lax.map(lambda params: value(params, data), path)

    steps_per_epoch = math.ceil(n / batch_size)
    stride = 1 if every_step else steps_per_epoch
    return Trajectory(
        params=path,
        step=stride * jnp.arange(jax.tree.leaves(path)[0].shape[0]),
        training_loss=losses(train),
        evaluation_loss=None if evaluate is None else losses(evaluate),
        diverged_step=diverged_step,
        steps_per_epoch=steps_per_epoch,
    )


def _check_learning_rate(optimizer: Any, params: Any) -> None:
    """Refuse an optimiser that makes a finite gradient infinite, as a NaN learning rate does.

    Called while tracing: optimisers are closures, so what they do is the only way to see in.
    """
    with jax.ensure_compile_time_eval():
        ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)

        def total(params):
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))

        update, _ = optimizer.update(
            ones, optimizer.init(ones), ones, value=total(ones), grad=ones, value_fn=total
        )
        finite = bool(_all_finite(update))
    if not finite:
        raise ValueError(
            "optimizer: expected a finite learning rate, got an update that is not finite from a "
            "gradient of ones"
        )
