"""The loss in every cell of some rows of a grid, compiled: dense, or a parabola a row."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxscape._util.devices import in_full_precision
from jaxscape.grid import sample_mean
from jaxscape.grid.cost import Limits, loss_count, share, tile
from jaxscape.grid.parabola import Checked, cells_of, of_any_loss, parabolas
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@in_full_precision
def dense(
    loss: Callable,
    mesh: Mesh | None,
    limits: Limits,
    plane: Plane,
    a: jax.Array,
    b: jax.Array,
    data: Any,
) -> tuple[jax.Array, jax.Array]:
    """The loss in every cell, (n1, n2), and whether all of a row are finite, (n1,).

    Of a loss that returns K scalars by name, (n1, n2, K).
    """

    def rows(plane, a, b, data):
        streamed = sample_mean.is_summed(loss, plane, data, a.dtype)
        compute = sample_mean.over_samples if streamed else functools.partial(_tiled, limits)
        cells = compute(loss, plane, a, b, data)
        return cells, jnp.isfinite(cells).all(axis=tuple(range(1, cells.ndim)))

    return _over_devices(rows, mesh)(plane, a, b, data)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@in_full_precision
def exact(
    loss: Callable,
    mesh: Mesh | None,
    limits: Limits,
    plane: Plane,
    a: jax.Array,
    b: jax.Array,
    data: Any,
) -> tuple[jax.Array, jax.Array, Checked | None]:
    """As `dense`, from a parabola a row, which is checked where it is not proved."""

    def band(plane, a, b, data):
        if not isinstance(loss, PointwiseLoss):
            cells, checked = of_any_loss(loss, plane, a, b, data)
            return cells, jnp.isfinite(cells).all(axis=1), checked
        rows = [parabolas(loss.predict, plane, a, data, limits.cache, limits.samples)]
        return *cells_of(rows, b, a.size), None

    return _over_devices(band, mesh)(plane, a, b, data)


def _over_devices(rows: Callable, mesh: Mesh | None) -> Callable:
    """`rows(plane, a, b, data)` with the rows shared out over a mesh."""
    if mesh is None:
        return rows
    shared, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
    return jax.shard_map(
        rows,
        mesh=mesh,
        in_specs=(whole, shared, whole, whole),
        out_specs=shared,
        check_vma=False,
    )


def _tiled(limits: Limits, loss: Callable, plane: Plane, a: jax.Array, b: jax.Array, data: Any):
    """Any loss, tile by tile: each a nested `vmap` that stays in the cache."""
    shared, losses = loss_count(limits, loss, plane, data, a.dtype)
    rows, columns = tile(limits, share(limits, loss, plane, a, b, data), a.size, b.size)
    if (rows, columns) == (a.size, b.size):
        return losses(shared, a, b)

    def blocks(values, size):
        count = math.ceil(values.size / size)
        return jnp.pad(values, (0, count * size - values.size), mode="edge").reshape(count, size)

    # What a tile computed is computed again for a derivative, and not kept for all tiles.
    losses = jax.checkpoint(losses)
    of_columns = blocks(b, columns)
    grid = jax.lax.map(
        lambda a: jax.lax.map(lambda b: losses(shared, a, b), of_columns), blocks(a, rows)
    )
    across = grid.shape[0] * rows, grid.shape[1] * columns
    grid = grid.swapaxes(1, 2)
    return grid.reshape(*across, *grid.shape[4:])[: a.size, : b.size]
