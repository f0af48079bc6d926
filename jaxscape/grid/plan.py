"""Bands of rows: how many are computed at once, on which devices, by which process."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxscape._util.devices import budget_of, cache_of, cores, default_device
from jaxscape.grid import cost, sample_mean, strategies
from jaxscape.grid.cost import Limits
from jaxscape.grid.parabola import IN_CACHE, fewer, parabolas, samples_at_once
from jaxscape.losses.pointwise import PointwiseLoss

# Predictions of all rows, some three nanoseconds each, that are worth a thread: below, XLA's own
# threads are as fast or faster.
_WORTH_A_THREAD = 2**22


def compiled_share(
    loss: Any, plane: Any, a: Any, data: Any, workers: int, cache: int, samples: int
) -> Any:
    """The parabolas of a worker's share of all rows, compiled.

    Args:
        loss: what the exact strategy is asked for.
        plane, a, data: shapes of a plane, of all its rows' coordinates, and of data.
        workers: how many share the rows.
        cache, samples: as in `parabolas`.

    Returns:
        A function (plane, share of a, data) -> parabolas; None where that is not worth a thread,
        or of a loss whose parabolas have to be checked.
    """
    if not isinstance(loss, PointwiseLoss) or a.size * data.y.size < workers * _WORTH_A_THREAD:
        return None
    traced = jax.make_jaxpr(lambda plane, x: loss.predict(plane.at(0.0, 0.0), x))(plane, data.x)
    if any(isinstance(constant, jax.core.Tracer) for constant in traced.consts):
        return None  # A traced value that the loss holds may not leave its thread.
    share = jax.ShapeDtypeStruct((math.ceil(a.size / workers),), a.dtype)
    # On blocks beyond the cache XLA's threads would be at work as well, and ours wait for them.
    lowered = parabolas.lower(loss.predict, plane, share, data, cache, samples, IN_CACHE)
    return lowered.compile()


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
    whole, shared = shardings(mesh)
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


def shardings(mesh: Mesh | None) -> tuple[NamedSharding | None, NamedSharding | None]:
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
    limits = limits_for(device.platform, budget // workers)
    n1, n2, itemsize = a.size, b.size, a.dtype.itemsize

    share = cost.share(limits, loss, plane, a, b, data)
    operations = share.of(1, n2).operations
    if method == "exact":
        limits = blocked_limits(limits, loss, plane, a, b, data)
        # A parabola takes some ten passes over the predictions of a row, and one over its cells.
        operations = 10 * share.of(1, 1).operations + 4 * n2
    at_once = _BAND_OPERATIONS.get(device.platform, _BAND_OPERATIONS_ELSEWHERE) * devices
    # What all cells share is computed anew for every band.
    at_once = max(at_once, _BAND_TO_SHARED * share.all.operations)
    rows = max(1, at_once // max(1, operations))
    streamed = method == "dense" and sample_mean.is_summed(loss, plane, data, a.dtype)
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
        parts = compiled_share(loss, plane, a, data, workers, limits.cache, limits.samples)
        if parts and workers * _needed(parts.memory_analysis()) + n1 * n2 * itemsize <= budget:
            return Plan(rows, workers, limits, mesh, parts)
    if rows >= n1 and share.of(n1, n2).bytes <= budget:
        return Plan(rows, 1, limits, mesh)

    strategy, most_rows = getattr(strategies, method), rows
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


def limits_for(platform: str, memory: int) -> Limits:
    # As a power of two, so that budgets that are almost equal compile once. The other half is for
    # the band's own cells.
    half = 2 ** int(math.log2(max(1, memory / 2)))
    return Limits(
        cells=_TILE_CELLS.get(platform, _TILE_CELLS_ELSEWHERE),
        cache=cache_of(platform),
        memory=min(half, _TILE_BYTES.get(platform, memory)),
        shared=half,
    )


def blocked_limits(limits: Limits, loss: Callable, plane: Any, a: Any, b: Any, data: Any) -> Limits:
    """The limits of the exact strategy: of wide networks fewer samples stay near the cache."""
    if not isinstance(loss, PointwiseLoss):
        return limits
    share = cost.share(limits._replace(memory=0, shared=0), loss, plane, a, b, data)
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
