"""Train with any optax optimizer over mini-batches: one run, or thousands at once."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util.blocks import run_blocks
from jaxscape._util.checks import Key, check_count, check_key, check_memory
from jaxscape._util.devices import cores, default_device, memory_budget
from jaxscape._util.progress import bar
from jaxscape._util.pytree import Params, as_arrays
from jaxscape._util.warnings import InterruptedWarning, warn
from jaxscape.data.dataset import sample_count
from jaxscape.losses.checks import check_is_function
from jaxscape.results.trajectory import Descents, Trajectory
from jaxscape.training.optimizers import check_optimizer
from jaxscape.training.run import (
    Record,
    Run,
    RunSpec,
    check_run_spec,
    recorded_count,
    recorded_steps,
    run_all,
    steps_per_epoch,
)
from jaxscape.training.run_axis import RunAxis, check_hyperparameters, find_run_axis

# The number of runs in a block: enough to make the fixed cost of a step negligible.
_MIN_BLOCK_RUNS, _MAX_BLOCK_RUNS = 256, 4096

Loss: TypeAlias = Callable[[Any, Any], jax.Array]
Number: TypeAlias = float | np.floating | np.integer
Stack: TypeAlias = Sequence[float] | np.ndarray | jax.Array


@overload
def descend(
    loss: Loss,
    params: Params,
    train: Any,
    *,
    optimizer: Mapping[str, optax.GradientTransformation],
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Number] | None = None,
    runs: None = None,
    evaluate: Any = None,
    record: Record = "epoch",
    memory: int | None = None,
) -> dict[str, Trajectory]: ...
@overload
def descend(
    loss: Loss,
    params: Params,
    train: Any,
    *,
    optimizer: Mapping[str, optax.GradientTransformation],
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Number | Stack] | None = None,
    runs: int,
    evaluate: Any = None,
    record: Record = "epoch",
    memory: int | None = None,
) -> dict[str, Descents]: ...
@overload
def descend(
    loss: Loss,
    params: Params,
    train: Any,
    *,
    optimizer: Mapping[str, optax.GradientTransformation],
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Number | Stack],
    runs: None = None,
    evaluate: Any = None,
    record: Record = "epoch",
    memory: int | None = None,
) -> dict[str, Descents]: ...
@overload
def descend(
    loss: Loss,
    params: Params,
    train: Any,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Number] | None = None,
    runs: None = None,
    evaluate: Any = None,
    record: Record = "epoch",
    memory: int | None = None,
) -> Trajectory: ...
@overload
def descend(
    loss: Loss,
    params: Params,
    train: Any,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Number | Stack] | None = None,
    runs: int,
    evaluate: Any = None,
    record: Record = "epoch",
    memory: int | None = None,
) -> Descents: ...
@overload
def descend(
    loss: Loss,
    params: Params,
    train: Any,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Number | Stack],
    runs: None = None,
    evaluate: Any = None,
    record: Record = "epoch",
    memory: int | None = None,
) -> Descents: ...
def descend(
    loss: Loss,
    params: Params,
    train: Any,
    *,
    optimizer: optax.GradientTransformation | Mapping[str, optax.GradientTransformation],
    epochs: int,
    batch_size: int | None = None,
    key: Key | None = None,
    hyperparameters: Mapping[str, Number | Stack] | None = None,
    runs: int | None = None,
    evaluate: Any = None,
    record: Record = "epoch",
    memory: int | None = None,
) -> Trajectory | Descents | dict[str, Trajectory] | dict[str, Descents]:
    """Train from `params` with an optax optimizer and record the path.

    It trains one run, or many runs in one compiled program. Many runs are computed in blocks, with
    a progress bar. After Ctrl-C, it returns the results that are complete.

    The loss and the optimizer are static arguments of the compiled program. Pass the same objects
    again in later calls, which then need no compilation.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        params: the start, any pytree of floating arrays or Python floats; the latter get the dtype
            of the data. With `runs`, every leaf has a leading axis of that many starts.
        train: n samples: a `Dataset`, or a pytree of arrays that share their first axis.
        optimizer: any optax gradient transformation, including those with a line search; or a
            mapping of names to several of them.
        epochs: the number of passes through the data, 1 or more.
        batch_size: the number of samples in a batch, 1 to n. The last batch of an epoch is shorter
            if n is not a multiple of it. None: one batch of all samples.
        key: None keeps the order of the samples. A JAX random key shuffles them in every epoch. A
            stack of keys, (runs,), gives every run its own order.
        hyperparameters: values by name of the hyperparameters that `optax.inject_hyperparams` gave
            the optimizer: one number for all runs, or (runs,) numbers, as in
            `{"learning_rate": rates}`.
        runs: the number of starts that `params` holds. None: `params` is one start.
        evaluate: another data set on which the loss is recorded, too.
        record: the points to record: "epoch" for the start and the end of each epoch, "step" for
            the start and every step, "end" for the start and the end, a number k for the start,
            every k-th step and the end.
        memory: the bytes that the recorded points, and the runs computed at the same time, may use.
            None: a quarter of the device's memory.

    Returns:
        A `Trajectory`; `Descents` if starts, hyperparameters or keys are stacked. With a mapping of
        optimizers, a dict of these by name. A run that diverges raises no error and does not affect
        the others; its `diverged_step` is the step at which it diverged. Type checkers cannot see
        that keys are stacked, so they infer a `Trajectory`.

    Raises:
        TypeError: The loss does not return a floating scalar, the parameters are not floating, or
            `optimizer` is not an optax gradient transformation.
        ValueError: The parameters, the hyperparameters or an optimizer's learning rate are not
            finite; a learning rate is negative; the optimizer does not have a hyperparameter; the
            stacks differ in length; `batch_size` is not between 1 and n; `epochs` is less than 1;
            the recorded points need more than `memory`.

    Warns:
        InterruptedWarning: Ctrl-C stopped the training; the message says what is returned.

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
    spec = check_run_spec(epochs, batch_size, record, n)
    if evaluate is not None:
        sample_count("evaluate", evaluate)
    if key is not None:
        check_key(key)
    if runs is not None:
        runs = check_count("runs", runs)
    check_memory(memory)
    start = as_arrays(params, train)
    values = check_hyperparameters({} if hyperparameters is None else hyperparameters)
    count, run_axis = find_run_axis(start, runs, key, values)
    first = jax.tree.map(lambda leaf: leaf[0], start) if run_axis.params else start
    for name, one in optimizers.items():
        check_optimizer(f"optimizer[{name!r}]" if name else "optimizer", one, first, values)
    budget = memory_budget(default_device(), memory)
    _check_recorded_size(spec, first, n, count or 1, budget)

    results: dict[str, Any] = {}
    for name, one in optimizers.items():
        task = _Task(loss, one, spec, run_axis, start, train, key, values, evaluate)
        try:
            if count is None:
                results[name] = _make_result(Trajectory, *_run_single(task), spec, n, name)
            else:
                results[name] = _make_result(
                    Descents, *_run_in_blocks(task, count, budget), spec, n, name
                )
        except KeyboardInterrupt:
            if not results:
                raise
            warn(
                f"interrupted: returned the results of {', '.join(results)}, not of "
                f"{', '.join(name for name in optimizers if name not in results)}",
                InterruptedWarning,
            )
            break
        if count is not None and len(results[name]) < count:
            break
    return results if isinstance(optimizer, Mapping) else results[""]


class _Task(NamedTuple):
    """The arguments of `run_all`; the first four are static."""

    loss: Loss
    optimizer: optax.GradientTransformation
    spec: RunSpec
    run_axis: RunAxis
    params: Params
    train: Any
    key: Key | None
    hyperparameters: Mapping[str, Any]
    evaluate: Any

    def select(self, indices: np.ndarray) -> "_Task":
        """Return the task for the runs of these indices only."""

        def pick(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf[indices], tree)

        hyperparameters = {
            name: value[indices] if name in self.run_axis.hyperparameters else value
            for name, value in self.hyperparameters.items()
        }
        return self._replace(
            params=pick(self.params) if self.run_axis.params else self.params,
            key=pick(self.key) if self.run_axis.key else self.key,
            hyperparameters=hyperparameters,
        )


def _run_single(task: _Task) -> tuple[Run, jax.Array]:
    with bar(1, "run"):
        return jax.block_until_ready(run_all(*task))


def _run_in_blocks(task: _Task, count: int, budget: int) -> tuple[Run, np.ndarray]:
    """Train all runs in blocks, on a CPU with one thread per core.

    After Ctrl-C, return the runs of the blocks that are done.
    """
    threads = cores() if default_device().platform == "cpu" else 1
    size = min(count, _MAX_BLOCK_RUNS, max(_MIN_BLOCK_RUNS, math.ceil(count / threads)))
    while True:
        compiled = run_all.lower(*task.select(np.arange(size))).compile()
        stats: Any = compiled.memory_analysis()
        needed = threads * (stats.temp_size_in_bytes + stats.output_size_in_bytes)
        if needed <= budget or size == 1:
            break
        size = max(1, min(size // 2, size * budget // needed))
    results: list[tuple[Run, np.ndarray]] = []

    def blocks() -> Iterator[tuple[range, tuple[Any, ...]]]:
        for start in range(0, count, size):
            rows = range(start, min(start + size, count))
            # Pad the last block with the last run, so that all blocks use one compiled program.
            indices = np.minimum(np.arange(start, start + size), rows.stop - 1)
            # `jax.enable_x64` holds only in the calling thread, so the arrays are made here.
            yield rows, jax.tree.map(jnp.asarray, task.select(indices)[4:])

    def compute(block: tuple[range, tuple[Any, ...]]) -> Any:
        rows, arguments = block
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(rows)], compiled(*arguments))

    def keep(block: tuple[range, tuple[Any, ...]], result: Any) -> int:
        results.append(result)
        return len(block[0])

    def interrupted() -> str | None:
        if not results:
            return None
        done = sum(len(run.diverged_step) for run, _ in results)
        return f"the first {done} of {count} runs are done and returned"

    run_blocks(
        blocks(),
        compute,
        keep,
        total=count,
        unit="runs",
        threads=threads,
        interrupted=interrupted,
    )
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


Result = TypeVar("Result", Trajectory, Descents)


def _make_result(
    kind: type[Result],
    run: Run,
    gradient_norm: jax.Array | np.ndarray,
    spec: RunSpec,
    samples: int,
    name: str,
) -> Result:
    return kind(
        params=run.points.params,
        step=np.array(recorded_steps(spec, samples), np.int32),
        training_loss=run.training_loss,
        evaluation_loss=run.evaluation_loss,
        diverged_step=run.diverged_step,
        steps_per_epoch=steps_per_epoch(spec, samples),
        step_size=run.points.step_size,
        path_length=run.points.path_length,
        learning_rate=run.points.learning_rate,
        gradient_norm=gradient_norm,
        stability_factor=run.stability_factor,
        adam=run.adam,
        name=name,
    )


def _check_recorded_size(
    spec: RunSpec, params: Params, samples: int, runs: int, budget: int
) -> None:
    points = recorded_count(spec, samples)
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    itemsize = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    # A point has, besides the parameters, two losses, two lengths and a learning rate.
    size = runs * points * (numbers + 5) * itemsize
    if size > budget:
        raise ValueError(
            f"record: expected recorded points within {budget:,} bytes, got {runs:,} runs × "
            f"{points:,} points × {numbers + 5:,} numbers = {size:,} bytes; record fewer points, "
            "such as record='end', or allow more with memory="
        )
