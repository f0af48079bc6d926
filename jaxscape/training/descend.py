"""Training: any optax optimizer over mini-batches, one run or thousands at once."""

import math
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util import pytree
from jaxscape._util.checks import Key, check_key, check_memory
from jaxscape._util.devices import budget_of, cores, default_device
from jaxscape._util.progress import bar
from jaxscape._util.warnings import InterruptedWarning
from jaxscape.data.dataset import check_batch_size, sample_count
from jaxscape.losses.checks import check_is_function
from jaxscape.results.trajectory import Descents, Trajectory
from jaxscape.training import run as run_
from jaxscape.training import stacks
from jaxscape.training.optimizers import check_optimizer
from jaxscape.training.run import Batched, Course

# A block has work enough for a thread of its own, and steps that are long beside their fixed cost.
_FEWEST_RUNS, _MOST_RUNS = 256, 4096
# Steps are counted in 32 bits.
_MOST_STEPS = 2**31 - 1


def descend(
    loss: Callable[[Any, Any], jax.Array],
    params: Any,
    train: Any,
    *,
    optimizer: optax.GradientTransformation | Mapping[str, optax.GradientTransformation],
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    runs: int | None = None,
    evaluate: Any = None,
    record: Literal["epoch", "step", "end"] | int = "epoch",
    memory: int | None = None,
) -> Any:
    """Descend from `params` by mini-batch training and record the way, of one run or of many.

    Loss and optimizer are static: build the optimizer once and pass the same object again, and
    a second call compiles nothing. Many runs are one compiled program that goes through them in
    blocks, with a progress bar; after Ctrl-C, the runs and optimizers that are done are returned.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        params: where to start; any pytree of floating arrays or Python floats, which take the
            dtype of the data. With `runs`, every leaf has a leading axis of so many starts.
        train: n samples: a `Dataset`, or a pytree of arrays that share their first axis.
        optimizer: any optax gradient transformation, one with a line search included; or several
            by name.
        epochs: how many times to go through the data, 1 or more.
        batch_size: samples in a batch, 1 to n; the last batch of an epoch is short where they
            do not divide. None: all of them.
        key: None walks through the data in order; a JAX random key shuffles anew every epoch; a
            stack of keys, (runs,), gives every run an order of its own.
        hyperparameters: values for what `optax.inject_hyperparams` gave the optimizer by name:
            a number for all runs, or (runs,) numbers, as for `{"learning_rate": rates}`.
        runs: how many starts `params` holds. Needed for stacked starts only.
        evaluate: other data on which to record the loss as well.
        record: "epoch" records the start and the end of each epoch, "step" every step, "end" the
            start and the end, and a number k every k-th step and the end.
        memory: bytes that recorded points, and runs in work, may take; a quarter of what the
            device has if None.

    Returns:
        A `Trajectory`; `Descents` where starts, hyperparameters or keys are stacked; a dict of
        them by name for several optimizers. A run that leaves the finite numbers is not an
        error, and does not touch its neighbors: `diverged_step` says when it did.

    Raises:
        TypeError: a loss that does not return a floating scalar, parameters that are not floats,
            an optimizer that is not optax's.
        ValueError: parameters, hyperparameters or an optimizer's learning rate that are not
            finite, a negative learning rate; a hyperparameter that the optimizer does not have;
            stacks of unequal length; a batch size over n; fewer than 1 epoch; more recorded
            points than the memory holds.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...             optimizer=optax.sgd(0.1), epochs=100)
        Trajectory(101 points, 100 steps, finite throughout)
          loss from 0.2469... to 0.00102...
        >>> starts = jxs.Weights(w1=jnp.linspace(-2, 2, 64), w2=jnp.full(64, 0.2))
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        >>> jxs.descend(jxs.squared_error, starts, data, runs=64, optimizer=sgd, epochs=100,
        ...             hyperparameters={"learning_rate": np.geomspace(0.01, 1, 64)})
        Descents(64 runs, 101 points, 100 steps, 0 diverged)
          last loss from ... to ...
    """
    check_is_function("loss", loss)
    optimizers = optimizer if isinstance(optimizer, Mapping) else {"": optimizer}
    if not optimizers:
        raise ValueError("optimizer: expected at least one, got an empty mapping")
    if not all(isinstance(name, str) for name in optimizers):
        raise TypeError(f"optimizer: expected names that are strings, got {list(optimizers)}")
    n = sample_count("train", train)
    course = course_of(epochs, batch_size, record, n)
    if evaluate is not None:
        sample_count("evaluate", evaluate)
    if key is not None:
        check_key(key)
    if runs is not None and (not isinstance(runs, int | np.integer) or isinstance(runs, bool)):
        raise TypeError(f"runs: expected a whole number, got {runs!r}")
    check_memory(memory)
    start = pytree.floating(params, train)
    values = stacks.hyperparameters({} if hyperparameters is None else hyperparameters)
    count, batched = stacks.stacked(start, runs, key, values)
    first = jax.tree.map(lambda leaf: leaf[0], start) if batched.params else start
    for name, one in optimizers.items():
        check_optimizer(f"optimizer[{name!r}]" if name else "optimizer", one, first, values)
    budget = budget_of(default_device(), memory)
    _check_history(course, first, n, count or 1, budget)

    results: dict[str, Any] = {}
    for name, one in optimizers.items():
        task = _Task(loss, one, course, batched, start, train, key, values, evaluate)
        steps = run_.recorded_steps(course, n)
        try:
            done = _alone(task) if count is None else _in_blocks(task, count, budget)
        except KeyboardInterrupt:
            if not results:
                raise
            warnings.warn(
                f"interrupted: {', '.join(results)} of {', '.join(optimizers)} are done, and "
                "returned",
                InterruptedWarning,
                stacklevel=2,
            )
            break
        results[name] = _result(done, steps, run_.steps_per_epoch(course, n), count, name)
        if count is not None and len(results[name]) < count:
            break
    return results if isinstance(optimizer, Mapping) else results[""]


class _Task(NamedTuple):
    """The arguments of `training.runs`."""

    loss: Callable
    optimizer: optax.GradientTransformation
    course: Course
    batched: Batched
    params: Any
    train: Any
    key: Key | None
    hyperparameters: Mapping[str, Any]
    evaluate: Any

    def of(self, chosen: np.ndarray) -> "_Task":
        """The task for the runs of these indices only."""

        def pick(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf[chosen], tree)

        named = {
            name: value[chosen] if name in self.batched.hyperparameters else value
            for name, value in self.hyperparameters.items()
        }
        return self._replace(
            params=pick(self.params) if self.batched.params else self.params,
            key=pick(self.key) if self.batched.key else self.key,
            hyperparameters=named,
        )


def _alone(task: _Task) -> tuple[run_.Run, jax.Array]:
    """One run."""
    with bar(1, "run"):
        return jax.block_until_ready(run_.runs(*task))


def _in_blocks(task: _Task, count: int, budget: int) -> tuple[run_.Run, np.ndarray]:
    """All runs, in blocks, on a processor one for each core; those done before Ctrl-C."""
    workers = cores() if default_device().platform == "cpu" else 1
    size = min(count, _MOST_RUNS, max(_FEWEST_RUNS, math.ceil(count / workers)))
    while True:
        compiled = run_.runs.lower(*task.of(np.arange(size))).compile()
        stats: Any = compiled.memory_analysis()
        needed = workers * (stats.temp_size_in_bytes + stats.output_size_in_bytes)
        if needed <= budget or size == 1:
            break
        size = max(1, min(size // 2, size * budget // needed))
    blocks = [range(k, min(k + size, count)) for k in range(0, count, size)]
    done: list[Any] = []

    def arguments(block: range) -> tuple:
        # The last block is filled up with its last run, so that one program serves all. On
        # devices already: a thread has its own precision.
        chosen = np.minimum(np.arange(block.start, block.start + size), block.stop - 1)
        return jax.tree.map(jnp.asarray, task.of(chosen)[4:])

    def one(block: range, given: tuple) -> Any:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(block)], compiled(*given))

    pool = ThreadPoolExecutor(workers)
    runs = pool.map(one, blocks, map(arguments, blocks))
    try:
        with bar(count, "runs") as progress:
            for block, run in zip(blocks, runs, strict=True):
                done.append(run)
                progress.update(len(block))
    except KeyboardInterrupt:
        if not done:
            raise
        finished = blocks[len(done) - 1].stop
        warnings.warn(
            f"interrupted: the first {finished} of {count} runs are done, and returned",
            InterruptedWarning,
            stacklevel=3,
        )
    finally:
        pool.shutdown(cancel_futures=True)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *done)


def _result(
    done: tuple[run_.Run, Any], steps: list[int], per_epoch: int, count: int | None, name: str
) -> Any:
    run, gradient_norm = done
    kind: Callable[..., Any] = Trajectory if count is None else Descents
    return kind(
        params=run.points.params,
        step=np.array(steps, np.int32),
        training_loss=run.training_loss,
        evaluation_loss=run.evaluation_loss,
        diverged_step=run.diverged_step,
        steps_per_epoch=per_epoch,
        step_size=run.points.step_size,
        path_length=run.points.path_length,
        learning_rate=run.points.learning_rate,
        gradient_norm=gradient_norm,
        name=name,
    )


def course_of(epochs: Any, batch_size: Any, record: Any, n: int) -> Course:
    """How long a run on n samples is, and when it is recorded."""
    for name, value in (("epochs", epochs), ("record", 1 if isinstance(record, str) else record)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise TypeError(f"{name}: expected a whole number, got {value!r}")
        if value < 1:
            raise ValueError(f"{name}: expected 1 or more, got {value}")
    if batch_size is None:
        batch_size = n
    check_batch_size(batch_size, n)
    course = Course(int(epochs), int(batch_size), 1)
    per_epoch = run_.steps_per_epoch(course, n)
    if course.epochs * per_epoch > _MOST_STEPS:
        raise ValueError(
            f"epochs: expected at most {_MOST_STEPS:,} steps, got {epochs:,} epochs of "
            f"{per_epoch:,} steps"
        )
    every = {"epoch": per_epoch, "step": 1, "end": epochs * per_epoch}
    if isinstance(record, str) and record not in every:
        raise ValueError(f"record: expected 'epoch', 'step', 'end' or a number, got {record!r}")
    return course._replace(every=int(every.get(record, record)))


def _check_history(course: Course, params: Any, samples: int, runs: int, budget: int) -> None:
    points = run_.recorded_count(course, samples)
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    itemsize = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    # Beside the parameters: two losses, two lengths and a learning rate.
    size = runs * points * (numbers + 5) * itemsize
    if size > budget:
        raise ValueError(
            f"record: expected a history within {budget:,} bytes, got {runs:,} runs × {points:,} "
            f"points × {numbers + 5:,} numbers = {size:,} bytes; record fewer points, such as "
            "record='end', or allow more with memory="
        )
