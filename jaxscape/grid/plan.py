"""Plan a grid: how many rows form a block, which devices compute it, and in how many threads."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxscape._util.devices import cache_bytes, cores, default_device, memory_budget
from jaxscape._util.jaxpr import abstract
from jaxscape._util.pytree import is_traced
from jaxscape.grid import cost, sample_mean, strategies
from jaxscape.grid.cost import TileLimits
from jaxscape.grid.parabola import (
    CACHE_FRACTION,
    parabolas,
    proved_block_size,
    sample_block_size,
    smaller_block,
)
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane

# The fewest predictions per thread, about three nanoseconds each, for which a pool of threads pays
# off. With fewer, XLA's own threads are as fast or faster.
_MIN_PREDICTIONS_PER_THREAD = 2**22
# The operations of a row block. On a CPU they take some hundredths of a second: much longer than
# the overhead of a call, and short enough for a smooth progress bar.
_BLOCK_OPERATIONS = {"cpu": 2**30}
_BLOCK_OPERATIONS_ELSEWHERE = 2**40
# The least ratio of a row block's operations to those that are repeated for every block.
_MIN_BLOCK_TO_SHARED = 30
# The fewest operations per thread for which every thread computes a row block of its own. XLA then
# does not divide each operation among threads: on two cores, grids of small networks took half the
# time.
_MIN_OPERATIONS_PER_THREAD = 2**29
# The fewest cells of a row block whose losses are summed sample by sample. With fewer, the fixed
# cost of a step matters. On two cores, no number from 2¹⁴ to 2²⁰ was faster.
_MIN_SUMMED_CELLS = 2**18
# About the third-level cache. XLA usually fuses a reduction with the computation of its inputs, but
# not always: a mean of 10⁵ errors was 10 times slower in tiles whose values do not fit in that
# cache.
_MAX_TILE_BYTES = {"cpu": 2**25}
_MAX_TILE_CELLS = {"cpu": 2**12}
_MAX_TILE_CELLS_ELSEWHERE = 2**18
# The most bytes of a row block that is written to a destination. A kill loses at most one block per
# thread.
_MAX_WRITTEN_BYTES = 2**26


class MemoryBudgetError(ValueError):
    """The memory budget is too small for one row."""


class Problem(NamedTuple):
    """A grid to compute: a loss on a plane, at all pairs of values of the two coordinates."""

    method: str
    """The strategy, a function of `strategies`: "dense" or "exact"."""
    loss: Callable[[Any, Any], Any]
    """(params, data) -> a scalar, or several by name."""
    plane: Plane
    """The plane through parameter space."""
    a: np.ndarray
    """(n1,) the values of the first coordinate."""
    b: np.ndarray
    """(n2,) the values of the second coordinate."""
    data: Any
    """The data of the loss, any pytree."""


class Plan(NamedTuple):
    """How a grid is divided into row blocks, and on which devices they are computed."""

    rows: int
    """Rows of a block, over all devices; n1 or more if the grid is computed in one block."""
    workers: int
    """Number of threads that compute row blocks."""
    limits: TileLimits
    """The limits of a tile within a row block."""
    mesh: Mesh | None
    """The devices among which the rows of a block are divided; None for the default device."""
    worker_parabolas: Callable | None = None
    """The compiled program for the parabolas of one worker's row range, (plane, a, data) ->
    `Parabola`; None if the workers do not divide the rows of a single block."""


def make_plan(problem: Problem, mesh: Mesh | None, memory: int | None, written: bool) -> Plan:
    """Plan how to compute a grid within a memory budget.

    Args:
        problem: the grid.
        mesh: this process's devices; None for the default device.
        memory: bytes of a device that may be used; None for a quarter of its memory.
        written: whether the row blocks are written to a destination.

    Raises:
        MemoryBudgetError: The budget is too small for one row.
    """
    leaves, structure = jax.tree.flatten((problem.plane, problem.data))
    replicated, by_rows = shardings(mesh)
    shapes = tuple(abstract(leaf, replicated) for leaf in leaves)
    axes = abstract(problem.a, by_rows), abstract(problem.b, replicated)
    # The trace, and so the cached plan, depends on these settings.
    settings = jnp.result_type(float), default_device()
    return _cached_plan(
        problem.method, problem.loss, mesh, structure, shapes, axes, memory, written, settings
    )


def shardings(mesh: Mesh | None) -> tuple[NamedSharding | None, NamedSharding | None]:
    """Return two shardings: replicated, and divided by rows."""
    if mesh is None:
        return None, None
    rows = PartitionSpec(mesh.axis_names)
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, rows)


@functools.lru_cache(maxsize=256)
def _cached_plan(
    method: str,
    loss: Callable,
    mesh: Mesh | None,
    structure: jax.tree_util.PyTreeDef,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    axes: tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct],
    memory: int | None,
    written: bool,
    _settings: tuple,
) -> Plan:
    """Plan a grid from shapes alone; `shapes` are those of the leaves of (plane, data)."""
    plane, data = jax.tree.unflatten(structure, shapes)
    (a, b), devices = axes, 1 if mesh is None else mesh.size
    device = default_device() if mesh is None else mesh.devices.flat[0]
    budget = memory_budget(device, memory)
    workers = cores() if device.platform == "cpu" and mesh is None else 1
    limits = limits_for(device.platform, budget // workers)
    n1, n2, itemsize = a.size, b.size, a.dtype.itemsize

    costs = cost.grid_cost(limits, loss, plane, a, b, data)
    operations_per_row = costs.of_cells(1, n2).operations
    if method == "exact":
        limits = limits_of_exact(limits, loss, plane, a, b, data)
        # A parabola takes about ten passes over the predictions of a row, and one over its cells.
        operations_per_row = 10 * costs.of_cells(1, 1).operations + 4 * n2
    operations = _BLOCK_OPERATIONS.get(device.platform, _BLOCK_OPERATIONS_ELSEWHERE) * devices
    operations = max(operations, _MIN_BLOCK_TO_SHARED * costs.shared.operations)
    rows = max(1, operations // max(1, operations_per_row))
    summed = method == "dense" and sample_mean.is_summed_by_sample(loss, plane, data, a.dtype)
    if summed:
        rows = max(rows, _MIN_SUMMED_CELLS // n2)
    tiled = method == "dense" and not summed
    if n1 <= 2 * rows:
        divided = tiled and n1 * operations_per_row > _MIN_OPERATIONS_PER_THREAD * workers
        rows = math.ceil(n1 / workers) if divided else n1
    if written:
        rows = min(rows, max(1, _MAX_WRITTEN_BYTES // (n2 * itemsize)))
    # A first guess, before anything is compiled: the cells, and a copy or two of them.
    rows = min(rows, max(1, budget * devices // (3 * n2 * itemsize)))
    rows = _even_rows(rows, n1, devices, workers)
    if rows >= n1 and method == "exact" and workers > 1 and not written:
        compiled = compile_worker_parabolas(loss, plane, a, data, workers, limits)
        if compiled and workers * _needed_bytes(compiled) + n1 * n2 * itemsize <= budget:
            return Plan(rows, workers, limits, mesh, compiled)
    if rows >= n1 and costs.of_cells(n1, n2).bytes <= budget:
        return Plan(rows, 1, limits, mesh)

    strategy, initial_rows = getattr(strategies, method), rows
    while True:
        block = jax.ShapeDtypeStruct((rows,), a.dtype, sharding=a.sharding)
        needed = _needed_bytes(strategy.lower(loss, mesh, limits, plane, block, b, data).compile())
        if needed <= budget:
            workers = min(workers, math.ceil(n1 / rows), max(1, budget // max(1, needed)))
            return Plan(rows, workers, limits, mesh)
        if rows <= devices and method == "exact" and isinstance(loss, PointwiseLoss):
            samples = smaller_block(limits.samples)
            if proved_block_size(loss.predict, plane, data, a.dtype, samples) < limits.samples:
                limits, rows = limits._replace(samples=samples), initial_rows
                continue
        if rows <= devices and limits.bytes:
            # Tiles of one cell without shared arrays need the least memory.
            limits, rows = limits._replace(bytes=0, shared_bytes=0), initial_rows
            continue
        if rows <= devices:
            raise MemoryBudgetError(
                f"memory: expected at least {needed:,} bytes, which one row of {n2} cells needs, "
                f"got {budget:,}"
            )
        rows = _even_rows(max(1, min(rows // 2, rows * budget // needed)), n1, devices, workers)


def compile_worker_parabolas(
    loss: Any, plane: Any, a: jax.ShapeDtypeStruct, data: Any, workers: int, limits: TileLimits
) -> Any:
    """Compile the parabolas of one worker's row range.

    Args:
        loss: the loss of the exact strategy.
        plane: the plane's shapes.
        a: the shape (n1,) of all values of the first coordinate.
        data: the data's shapes.
        workers: the number of threads among which the rows are divided.
        limits: the cache and the number of samples of a block.

    Returns:
        The compiled program, (plane, the range's values of a, data) -> `Parabola`. None if the
        grid is too small for a pool of threads, if the parabolas must be compared with the loss,
        or if the loss closes over a traced value.
    """
    if not isinstance(loss, PointwiseLoss):
        return None
    if a.size * data.y.size < workers * _MIN_PREDICTIONS_PER_THREAD:
        return None
    traced = jax.make_jaxpr(lambda plane, x: loss.predict(plane.at(0.0, 0.0), x))(plane, data.x)
    if is_traced(*traced.consts):
        return None  # A traced value cannot be used in another thread.
    own = jax.ShapeDtypeStruct((math.ceil(a.size / workers),), a.dtype)
    # With blocks larger than the cache, XLA would divide operations among its own threads, for
    # which the pool's threads would wait.
    lowered = parabolas.lower(
        loss.predict, plane, own, data, limits.cache_bytes, limits.samples, CACHE_FRACTION
    )
    return lowered.compile()


def limits_for(platform: str, memory: int) -> TileLimits:
    """Return the limits of a tile on a platform, given the bytes of one worker's memory budget."""
    # Round down to a power of two, so that similar budgets share compiled programs. The other half
    # of the budget is for the cells of the row block.
    half = 2 ** int(math.log2(max(1, memory / 2)))
    return TileLimits(
        cells=_MAX_TILE_CELLS.get(platform, _MAX_TILE_CELLS_ELSEWHERE),
        cache_bytes=cache_bytes(platform),
        bytes=min(half, _MAX_TILE_BYTES.get(platform, memory)),
        shared_bytes=half,
    )


def limits_of_exact(
    limits: TileLimits, loss: Callable, plane: Any, a: Any, b: Any, data: Any
) -> TileLimits:
    """Choose the samples per block of the exact strategy: fewer if each sample takes many bytes.

    All samples form one block if smaller ones are not proved to give the same predictions.
    """
    if not isinstance(loss, PointwiseLoss):
        return limits
    costs = cost.grid_cost(limits._replace(bytes=0, shared_bytes=0), loss, plane, a, b, data)
    total = costs.of_cells(1, 1).bytes + costs.shared.bytes
    samples = sample_block_size(
        total / len(data), len(data), limits.cache_bytes, limits.shared_bytes
    )
    samples = min(samples, limits.samples)
    return limits._replace(samples=proved_block_size(loss.predict, plane, data, a.dtype, samples))


def _needed_bytes(compiled: Any) -> int:
    """Return the bytes that a compiled program needs in addition to its arguments."""
    stats = compiled.memory_analysis()
    return stats.temp_size_in_bytes + stats.output_size_in_bytes


def _even_rows(rows: int, n: int, devices: int, workers: int) -> int:
    """Return about `rows` rows, for which all workers and devices get blocks of similar size."""
    count = math.ceil(n / rows)
    if count > 1:
        count = workers * math.ceil(count / workers)
    return devices * math.ceil(n / count / devices)
