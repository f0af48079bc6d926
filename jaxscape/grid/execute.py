"""Execute the plan of a grid: in one call or in row blocks, in threads and in processes."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from jaxscape._util.blocks import run_blocks
from jaxscape._util.devices import default_device, gather_processes, memory_budget
from jaxscape._util.pytree import is_traced
from jaxscape.grid import strategies
from jaxscape.grid.parabola import FitCheck, check_fit, evaluate_parabolas
from jaxscape.grid.plan import Plan, Problem, limits_for, limits_of_exact, shardings
from jaxscape.planes.plane import Plane


class RowBlock(NamedTuple):
    """Consecutive rows that one call computes."""

    rows: range
    """The rows."""
    compute: Callable[[], tuple]
    """Returns the losses, (rows, n2), whether each row is finite, (rows,), and a `FitCheck` or None
    if the strategy is exact. Rows of padding may follow the block's own."""


def compute_traced(problem: Problem, memory: int | None) -> jax.Array:
    """Compute all cells under a transformation of JAX, as a part of the traced program."""
    device = default_device()
    limits = limits_for(device.platform, memory_budget(device, memory))
    if problem.method == "exact":
        limits = limits_of_exact(limits, *problem[1:])
    losses, *_ = getattr(strategies, problem.method)(problem.loss, None, limits, *problem[2:])
    return losses


def compute_at_once(plan: Plan, problem: Problem) -> tuple[jax.Array, bool]:
    """Compute all cells in one call; return them, and False if any is known not to be finite."""
    if plan.worker_parabolas is not None:
        losses, finite = exact_in_threads(plan.worker_parabolas, plan.workers, *problem[2:])
    else:
        strategy = getattr(strategies, problem.method)
        losses, finite, *checks = strategy(problem.loss, None, plan.limits, *problem[2:])
        _check_parabolas(checks, problem.a, problem)
    # The result is traced if the loss closes over a traced value.
    return losses, is_traced(finite) or bool(np.asarray(finite).all())


def exact_in_threads(
    worker_parabolas: Callable, workers: int, plane: Plane, a: np.ndarray, b: np.ndarray, data: Any
) -> tuple[jax.Array, jax.Array]:
    """Compute the exact strategy in threads, each with the parabolas of its own row range.

    It runs on CPUs only, which never round the factors of float32 products, so it sets no
    precision.

    Args:
        worker_parabolas: as in `Plan`.
        workers: the number of threads.
        plane: the plane.
        a: (n1,) the values of the first coordinate.
        b: (n2,) the values of the second coordinate.
        data: the data.

    Returns:
        The losses, (n1, n2), and whether all cells of a row are finite, (n1,).
    """
    rows = math.ceil(len(a) / workers)
    ranges = np.pad(a, (0, rows * workers - len(a)), mode="edge").reshape(-1, rows)
    # Make JAX arrays in this thread, because JAX's settings of precision are those of a thread.
    plane, data, b, (own, *others) = jax.device_put((plane, data, b, list(ranges)))
    running = [_pool(workers - 1).submit(worker_parabolas, plane, part, data) for part in others]
    parts = [worker_parabolas(plane, own, data), *(future.result() for future in running)]
    return evaluate_parabolas(parts, b, len(a))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return a cached pool; starting new threads would cost a fifth of the time that they save."""
    return ThreadPoolExecutor(threads)


def compute_row_blocks(
    plan: Plan,
    problem: Problem,
    row_ranges: Sequence[range],
    keep: Callable[[range, np.ndarray], None],
    interrupted: Callable[[], str | None],
) -> bool:
    """Compute row ranges block by block, in order, with a progress bar.

    Args:
        plan: the plan.
        problem: the grid.
        row_ranges: the rows.
        keep: stores the losses of a block's rows, (rows, n2) or (rows, n2, K).
        interrupted: called after Ctrl-C; returns a warning that says which rows are done, or None
            if no result can be returned.

    Returns:
        Whether all losses that were kept are finite.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and no block is done, there are several processes, or
            `interrupted` returned None.
        ValueError: The strategy is exact, and a parabola differs from the loss.
    """
    kept, all_finite = 0, True

    def compute(block: RowBlock) -> tuple[np.ndarray, bool]:
        losses, finite, *checks = block.compute()
        n = len(block.rows)
        _check_parabolas(checks, problem.a[block.rows.start : block.rows.stop], problem)
        return np.asarray(losses)[:n], bool(np.asarray(finite)[:n].all())

    def keep_block(block: RowBlock, result: tuple[np.ndarray, bool]) -> int:
        nonlocal kept, all_finite
        losses, finite = result
        keep(block.rows, losses)
        kept, all_finite = kept + 1, all_finite and finite
        return len(block.rows)

    run_blocks(
        _row_blocks(plan, problem, row_ranges),
        compute,
        keep_block,
        total=sum(map(len, row_ranges)),
        unit="rows",
        threads=plan.workers,
        interrupted=lambda: interrupted() if kept and jax.process_count() == 1 else None,
    )
    return all_finite


def _row_blocks(plan: Plan, problem: Problem, row_ranges: Sequence[range]) -> Iterator[RowBlock]:
    """Yield row blocks with their compiled program and its arguments, placed on the devices."""
    if not row_ranges:
        return
    replicated, by_rows = shardings(plan.mesh)
    plane, b, data = jax.tree.map(
        lambda leaf: _place(leaf, replicated), (problem.plane, problem.b, problem.data)
    )
    compiled = None
    for rows in cut(row_ranges, plan.rows):
        # Pad the last block with its last row, so that all blocks use one compiled program.
        values = problem.a[rows.start : rows.stop]
        a = _place(np.pad(values, (0, plan.rows - len(rows)), mode="edge"), by_rows)
        if compiled is None:
            # Compile in this thread: other threads have their own precision and would trace again.
            strategy = getattr(strategies, problem.method)
            lowered = strategy.lower(problem.loss, plan.mesh, plan.limits, plane, a, b, data)
            compiled = lowered.compile()
        yield RowBlock(rows, functools.partial(compiled, plane, a, b, data))


def _place(leaf: Any, sharding: Sharding | None) -> jax.Array:
    # jnp.asarray keeps the weak type of a Python float, which takes the dtype of other arrays.
    return jnp.asarray(leaf) if sharding is None else jax.device_put(leaf, sharding)


def _check_parabolas(checks: Sequence[FitCheck | None], a: np.ndarray, problem: Problem) -> None:
    """Raise an error if parabolas were compared with the loss and differ from it."""
    for check in checks:
        if check is not None:
            check_fit(check, a, problem.plane.names)


def own_row_ranges(row_ranges: Sequence[range], process: int | None = None) -> list[range]:
    """Return the rows that one process computes; all processes get the same number, or one less.

    Args:
        row_ranges: the rows of all processes.
        process: the index of a process; None for this one.
    """
    process = jax.process_index() if process is None else process
    n, processes = sum(map(len, row_ranges)), jax.process_count()
    start, stop = n * process // processes, n * (process + 1) // processes
    own = []
    for rows in row_ranges:
        own.append(rows[max(start, 0) : max(stop, 0)])
        start, stop = start - len(rows), stop - len(rows)
    return [rows for rows in own if rows]


def cut(row_ranges: Sequence[range], size: int) -> list[range]:
    """Cut row ranges into blocks of at most `size` rows."""
    return [rows[k : k + size] for rows in row_ranges for k in range(0, len(rows), size)]


def gather_rows(losses: np.ndarray) -> np.ndarray:
    """Fill in the rows that other processes have computed, in place."""
    rows, processes = range(len(losses)), jax.process_count()
    part = np.zeros((math.ceil(len(rows) / processes), *losses.shape[1:]), losses.dtype)
    for own in own_row_ranges([rows]):
        part[: len(own)] = losses[own.start : own.stop]
    parts = gather_processes(part)
    for process in range(processes):
        for own in own_row_ranges([rows], process):
            losses[own.start : own.stop] = parts[process, : len(own)]
    return losses
