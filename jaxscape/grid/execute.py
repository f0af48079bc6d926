"""The exact strategy by several threads: each computes the parabolas of its share of the rows.

On processors alone, which never round float32 products: no precision is asked for.

Stretches of rows: which of them a process computes, and what all have computed.
"""

import collections
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import budget_of, default_device, of_all
from jaxscape._util.progress import bar
from jaxscape.grid import strategies
from jaxscape.grid.parabola import Checked, cells_of, refuse_wrong
from jaxscape.grid.plan import Plan, Problem, blocked_limits, limits_for, shardings
from jaxscape.planes.plane import Plane


def exact(
    compiled: Any, workers: int, plane: Plane, a: np.ndarray, b: np.ndarray, data: Any
) -> tuple[jax.Array, jax.Array]:
    """The loss in every cell, (n1, n2), and whether all of a row are finite, (n1,)."""
    share = math.ceil(len(a) / workers)
    values = np.pad(a, (0, share * workers - len(a)), mode="edge").reshape(-1, share)
    # Arrays of JAX are made here: each thread has its own precision.
    plane, data, b, (own, *others) = jax.device_put((plane, data, b, list(values)))
    running = [_threads(workers - 1).submit(compiled, plane, part, data) for part in others]
    parts = [compiled(plane, own, data), *(future.result() for future in running)]
    return cells_of(parts, b, len(a))


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Kept: to start them takes a fifth of the time that they are worth."""
    return ThreadPoolExecutor(count)


def mine(todo: Sequence[range], process: int | None = None) -> list[range]:
    """A process's share of some stretches of rows: as many as any other's, or one less."""
    process = jax.process_index() if process is None else process
    n, processes = sum(map(len, todo)), jax.process_count()
    first, end = n * process // processes, n * (process + 1) // processes
    share = []
    for stretch in todo:
        share.append(stretch[max(first, 0) : max(end, 0)])
        first, end = first - len(stretch), end - len(stretch)
    return [stretch for stretch in share if stretch]


def cut(todo: Sequence[range], rows: int) -> list[range]:
    """Stretches of rows cut into bands."""
    return [stretch[k : k + rows] for stretch in todo for k in range(0, len(stretch), rows)]


def gathered(losses: np.ndarray) -> np.ndarray:
    """The rows of all processes, each of which has filled in its own."""
    rows, processes = range(len(losses)), jax.process_count()
    part = np.zeros((math.ceil(len(rows) / processes), *losses.shape[1:]), losses.dtype)
    for own in mine([rows]):
        part[: len(own)] = losses[own.start : own.stop]
    parts = of_all(part)
    for process in range(processes):
        for share in mine([rows], process):
            losses[share.start : share.stop] = parts[process, : len(share)]
    return losses


def compute_traced(problem: Problem, memory: int | None) -> jax.Array:
    """All cells, under a transformation of JAX, whose one program they become a part of."""
    device = default_device()
    budget = budget_of(device, memory)
    strategy, limits = getattr(strategies, problem.method), limits_for(device.platform, budget)
    if problem.method == "exact":
        limits = blocked_limits(limits, *problem[1:])
    losses, *_ = strategy(problem.loss, None, limits, *problem[2:])
    return losses


def compute_at_once(plan: Plan, problem: Problem) -> tuple[jax.Array, bool]:
    """All cells in one call, and whether all are finite, as far as that is known."""
    if plan.share is not None:
        losses, finite = exact(plan.share, plan.workers, *problem[2:])
    else:
        strategy = getattr(strategies, problem.method)
        losses, finite, *checked = strategy(problem.loss, None, plan.limits, *problem[2:])
        _refuse_wrong(checked, problem.a, problem)
    # A loss may itself hold on to a traced value.
    return losses, isinstance(finite, jax.core.Tracer) or bool(np.asarray(finite).all())


def run(
    plan: Plan,
    problem: Problem,
    todo: Sequence[range],
    keep: Callable[[range, np.ndarray], None],
) -> tuple[int, bool]:
    """Compute stretches of rows band by band, in order, with a progress bar.

    Args:
        plan: how.
        problem: the grid.
        todo: the stretches of rows.
        keep: is given each band's rows and losses when they are done.

    Returns:
        How many rows are done, fewer than asked for after Ctrl-C; and whether those are finite.

    Raises:
        KeyboardInterrupt: Ctrl-C before any band was done, or where other processes wait.
    """
    done, all_finite = 0, True
    with bar(sum(map(len, todo)), "rows") as progress:
        try:
            for rows, losses, finite in _computed(plan, problem, cut(todo, plan.rows)):
                keep(rows, losses)
                done += len(rows)
                progress.update(len(rows))
                all_finite &= bool(finite.all())
        except KeyboardInterrupt:
            if done == 0 or jax.process_count() > 1:
                raise
    return done, all_finite


def _computed(
    plan: Plan, problem: Problem, bands: Sequence[range]
) -> Iterator[tuple[range, np.ndarray, np.ndarray]]:
    """Rows, their losses (rows, n2), and whether all of each row are finite (rows,)."""
    if not bands:
        return
    strategy = getattr(strategies, problem.method)
    whole, shared = shardings(plan.mesh)
    plane, b, data = jax.tree.map(
        lambda leaf: _placed(leaf, whole), (problem.plane, problem.b, problem.data)
    )

    def padded(rows: range) -> jax.Array:
        # The last band is filled up with its last row, so that one program serves all.
        values = problem.a[rows.start : rows.stop]
        values = np.pad(values, (0, plan.rows - len(rows)), mode="edge")
        return _placed(values, shared)

    # Compiled here, once, and not in threads: each has its own precision and would trace anew.
    compiled = strategy.lower(
        problem.loss, plan.mesh, plan.limits, plane, padded(bands[0]), b, data
    ).compile()

    def one(rows: range, a: jax.Array) -> tuple[range, np.ndarray, np.ndarray]:
        losses, finite, *checked = compiled(plane, a, b, data)
        _refuse_wrong(checked, problem.a[rows.start : rows.stop], problem)
        return rows, np.asarray(losses)[: len(rows)], np.asarray(finite)[: len(rows)]

    with ThreadPoolExecutor(plan.workers) as pool:
        running: collections.deque[Future] = collections.deque()
        try:
            for rows in bands:
                if len(running) > plan.workers:
                    yield running.popleft().result()
                running.append(pool.submit(one, rows, padded(rows)))
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _refuse_wrong(checked: Sequence[Checked | None], a: np.ndarray, problem: Problem) -> None:
    """Refuse a band before it is kept, if its parabolas were checked and are not the loss."""
    for rows in checked:
        if rows is not None:
            refuse_wrong(rows, a, problem.plane.names)


def _placed(leaf: Any, sharding: Any) -> jax.Array:
    # jnp.asarray keeps the weak type of a Python float, which takes its neighbors' dtype.
    return jnp.asarray(leaf) if sharding is None else jax.device_put(leaf, sharding)
