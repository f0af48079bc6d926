"""Bands of rows: how many are computed at once, on which devices, by which process."""

import collections
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxscape import cells, shares, stretches, sums
from jaxscape.cells import Limits
from jaxscape.checked import Checked, refuse_wrong
from jaxscape.devices import budget_of, cache_of, cores, default_device
from jaxscape.network import PointwiseLoss
from jaxscape.progress import bar
from jaxscape.quadratic import fewer, samples_at_once

# Operations in a band: at least some hundredths of a second, long beside the cost of a call and
# short beside a person's patience. An accelerator does some hundred times more in that time.
_BAND_OPERATIONS = {"cpu": 2**30}
_BAND_OPERATIONS_ELSEWHERE = 2**40
# Of a band's operations, one in so many at most is computed for other bands too.
_BAND_TO_SHARED = 30
# A thread that computes a band by itself wastes no time on sharing out each operation: on two
# cores, grids through small networks took half the time, once there was some milliseconds of work.
_OPERATIONS_WORTH_A_THREAD = 2**29
# Cells of a band whose losses are added up sample by sample: with fewer, what a step costs beside
# its sums shows. Of 2¹⁴ to 2²⁰ cells, none did better on two cores.
_STREAMED_CELLS = 2**18
# The third-level cache. XLA fuses what it reduces as a rule and not always: a mean of 10⁵ errors
# was 10 times slower in tiles whose values do not fit there.
_TILE_BYTES = {"cpu": 2**25}
_TILE_CELLS = {"cpu": 2**12}
_TILE_CELLS_ELSEWHERE = 2**18
# Rows of a band that goes to a destination: a kill loses at most so many bytes.
_BAND_BYTES_WRITTEN = 2**26


class Problem(NamedTuple):
    """A grid to compute: a loss on a plane, at all pairs of a's and b's values."""

    method: str
    loss: Callable
    plane: Any
    a: np.ndarray
    b: np.ndarray
    data: Any


class Plan(NamedTuple):
    """How a grid is cut."""

    rows: int
    """Rows of a band, over all devices; at least the grid's where it is done in one."""
    workers: int
    """Bands in work at a time."""
    limits: Limits
    """How large a tile within a band may be."""
    mesh: Mesh | None
    """The devices that share the rows of a band; None for the default device alone."""
    share: Any = None
    """The compiled parabolas of a worker's share of all rows, where it is worth a thread."""


def make_plan(problem: Problem, mesh: Mesh | None, memory: int | None, written: bool) -> Plan:
    """How to compute a grid within a budget of memory.

    Args:
        problem: the grid.
        mesh: this process's devices.
        memory: bytes of a device that may be used; None for a quarter of what it has.
        written: whether bands go to a destination.

    Raises:
        ValueError: a budget that is too small for one row.
    """
    leaves, structure = jax.tree.flatten((problem.plane, problem.data))
    whole, shared = _shardings(mesh)
    shapes = tuple(_shape(leaf, whole) for leaf in leaves)
    axes = _shape(problem.a, shared), _shape(problem.b, whole)
    # What else the traced computation depends on.
    setting = jnp.result_type(float), default_device()
    return _plan(
        problem.method, problem.loss, mesh, structure, shapes, axes, memory, written, setting
    )


def _shape(leaf: Any, sharding: NamedSharding | None) -> jax.ShapeDtypeStruct:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    if not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    weak = getattr(leaf, "weak_type", not hasattr(leaf, "dtype"))
    return jax.ShapeDtypeStruct(jnp.shape(leaf), dtype, sharding=sharding, weak_type=weak)


def _shardings(mesh: Mesh | None) -> tuple[NamedSharding | None, NamedSharding | None]:
    """How a mesh holds what every device needs whole, and how it holds rows."""
    if mesh is None:
        return None, None
    rows = PartitionSpec(mesh.axis_names)
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, rows)


@functools.lru_cache(maxsize=256)
def _plan(method, loss, mesh, structure, shapes, axes, memory, written, _setting) -> Plan:
    plane, data = jax.tree.unflatten(structure, shapes)
    (a, b), devices = axes, 1 if mesh is None else mesh.size
    device = default_device() if mesh is None else mesh.devices.flat[0]
    budget = budget_of(device, memory)
    workers = cores() if device.platform == "cpu" and mesh is None else 1
    limits = _limits(device.platform, budget // workers)
    n1, n2, itemsize = a.size, b.size, a.dtype.itemsize

    share = cells.share(limits, loss, plane, a, b, data)
    operations = share.of(1, n2).operations
    if method == "exact":
        limits = _in_blocks(limits, loss, plane, a, b, data)
        # A parabola takes some ten passes over the predictions of a row, and one over its cells.
        operations = 10 * share.of(1, 1).operations + 4 * n2
    at_once = _BAND_OPERATIONS.get(device.platform, _BAND_OPERATIONS_ELSEWHERE) * devices
    # What all cells share is computed anew for every band.
    at_once = max(at_once, _BAND_TO_SHARED * share.all.operations)
    rows = max(1, at_once // max(1, operations))
    streamed = method == "dense" and sums.is_summed(loss, plane, data, a.dtype)
    if streamed:
        rows = max(rows, _STREAMED_CELLS // n2)
    tiled = method == "dense" and not streamed
    if n1 <= 2 * rows:
        shared = tiled and n1 * operations > _OPERATIONS_WORTH_A_THREAD * workers
        rows = math.ceil(n1 / workers) if shared else n1
    if written:
        rows = min(rows, max(1, _BAND_BYTES_WRITTEN // (n2 * itemsize)))
    # A first guess, before anything is compiled: the cells, and a copy or two of them.
    rows = min(rows, max(1, budget * devices // (3 * n2 * itemsize)))
    rows = _even(rows, n1, devices, workers)
    if rows >= n1 and method == "exact" and workers > 1 and not written:
        parts = shares.compiled_share(loss, plane, a, data, workers, limits.cache, limits.samples)
        if parts and workers * _needed(parts.memory_analysis()) + n1 * n2 * itemsize <= budget:
            return Plan(rows, workers, limits, mesh, parts)
    if rows >= n1 and share.of(n1, n2).bytes <= budget:
        return Plan(rows, 1, limits, mesh)

    strategy, most_rows = getattr(cells, method), rows
    in_blocks = method == "exact" and isinstance(loss, PointwiseLoss)
    while True:
        band = jax.ShapeDtypeStruct((rows,), a.dtype, sharding=a.sharding)
        compiled = strategy.lower(loss, mesh, limits, plane, band, b, data).compile()
        needed = _needed(compiled.memory_analysis())
        if needed <= budget:
            workers = min(workers, math.ceil(n1 / rows), max(1, budget // max(1, needed)))
            return Plan(rows, workers, limits, mesh)
        if rows <= devices and in_blocks and fewer(limits.samples) < limits.samples:
            limits, rows = limits._replace(samples=fewer(limits.samples)), most_rows
            continue
        if rows <= devices and limits.memory:
            # By itself a cell takes less than with what all cells share.
            limits, rows = limits._replace(memory=0, shared=0), most_rows
            continue
        if rows <= devices:
            raise ValueError(
                f"memory: expected at least {needed:,} bytes, what one row of {n2} cells needs, "
                f"got {budget:,}"
            )
        rows = _even(max(1, min(rows // 2, rows * budget // needed)), n1, devices, workers)


def _limits(platform: str, memory: int) -> Limits:
    # As a power of two, so that budgets that are almost equal compile once. The other half is for
    # the band's own cells.
    half = 2 ** int(math.log2(max(1, memory / 2)))
    return Limits(
        cells=_TILE_CELLS.get(platform, _TILE_CELLS_ELSEWHERE),
        cache=cache_of(platform),
        memory=min(half, _TILE_BYTES.get(platform, memory)),
        shared=half,
    )


def _in_blocks(limits: Limits, loss: Callable, plane: Any, a: Any, b: Any, data: Any) -> Limits:
    """The limits of the exact strategy: of wide networks fewer samples stay near the cache."""
    if not isinstance(loss, PointwiseLoss):
        return limits
    share = cells.share(limits._replace(memory=0, shared=0), loss, plane, a, b, data)
    whole = share.of(1, 1).bytes + share.all.bytes
    samples = samples_at_once(whole / len(data), len(data), limits.cache, limits.shared)
    return limits._replace(samples=min(samples, limits.samples))


def _needed(stats: Any) -> int:
    """Bytes that a compiled call needs beside the arguments, which are there in any case."""
    return stats.temp_size_in_bytes + stats.output_size_in_bytes


def _even(rows: int, n: int, devices: int, workers: int) -> int:
    """At most some `rows` rows, so that all workers and devices have bands of almost one size."""
    count = math.ceil(n / rows)
    if count > 1:
        count = workers * math.ceil(count / workers)
    return devices * math.ceil(n / count / devices)


def compute_traced(problem: Problem, memory: int | None) -> jax.Array:
    """All cells, under a transformation of JAX, whose one program they become a part of."""
    device = default_device()
    budget = budget_of(device, memory)
    strategy, limits = getattr(cells, problem.method), _limits(device.platform, budget)
    if problem.method == "exact":
        limits = _in_blocks(limits, *problem[1:])
    losses, *_ = strategy(problem.loss, None, limits, *problem[2:])
    return losses


def compute_at_once(plan: Plan, problem: Problem) -> tuple[jax.Array, bool]:
    """All cells in one call, and whether all are finite, as far as that is known."""
    if plan.share is not None:
        losses, finite = shares.exact(plan.share, plan.workers, *problem[2:])
    else:
        strategy = getattr(cells, problem.method)
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
            for rows, losses, finite in _computed(plan, problem, stretches.cut(todo, plan.rows)):
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
    strategy = getattr(cells, problem.method)
    whole, shared = _shardings(plan.mesh)
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
    # jnp.asarray keeps the weak type of a Python float, which takes its neighbours' dtype.
    return jnp.asarray(leaf) if sharding is None else jax.device_put(leaf, sharding)
