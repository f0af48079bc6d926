"""The compiled strategies that compute the loss in every cell of some rows: dense and exact."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxscape._util.devices import in_full_precision
from jaxscape.grid import sample_mean
from jaxscape.grid.cost import TileLimits, grid_cost, split_loss, tile_shape
from jaxscape.grid.parabola import FitCheck, evaluate_parabolas, parabolas, quadratic_losses
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@in_full_precision
def dense(
    loss: Callable,
    mesh: Mesh | None,
    limits: TileLimits,
    plane: Plane,
    a: jax.Array,
    b: jax.Array,
    data: Any,
) -> tuple[jax.Array, jax.Array]:
    """Compute the loss in every cell.

    Args:
        loss: (params, data) -> scalar, or a dictionary of K scalars.
        mesh: the devices among which the rows are divided; None for the default device.
        limits: the largest tile.
        plane: the plane through the parameters.
        a: (n1,) the first coordinates.
        b: (n2,) the second coordinates.
        data: the loss's second argument.

    Returns:
        The losses, (n1, n2) or (n1, n2, K), and whether each row is finite, (n1,).
    """

    def rows(plane: Plane, a: jax.Array, b: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
        if sample_mean.is_summed_by_sample(loss, plane, data, a.dtype):
            losses = sample_mean.losses_by_sample(loss, plane, a, b, data)
        else:
            losses = _losses_by_tile(limits, loss, plane, a, b, data)
        return losses, jnp.isfinite(losses).all(axis=tuple(range(1, losses.ndim)))

    return _split_rows(rows, mesh)(plane, a, b, data)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@in_full_precision
def exact(
    loss: Callable,
    mesh: Mesh | None,
    limits: TileLimits,
    plane: Plane,
    a: jax.Array,
    b: jax.Array,
    data: Any,
) -> tuple[jax.Array, jax.Array, FitCheck | None]:
    """Compute the loss in every cell from one parabola per row.

    Arguments and results are those of `dense`. The third result compares the parabolas with the
    loss. It is None for a pointwise loss, for which they are proved.
    """

    def rows(plane: Plane, a: jax.Array, b: jax.Array, data: Any) -> tuple:
        if not isinstance(loss, PointwiseLoss):
            losses, check = quadratic_losses(loss, plane, a, b, data)
            return losses, jnp.isfinite(losses).all(axis=1), check
        of_rows = parabolas(loss.predict, plane, a, data, limits.cache_bytes, limits.samples)
        return *evaluate_parabolas([of_rows], b, a.size), None

    return _split_rows(rows, mesh)(plane, a, b, data)


def _split_rows(rows: Callable, mesh: Mesh | None) -> Callable:
    """Return `rows(plane, a, b, data)` with the rows divided among the devices of a mesh."""
    if mesh is None:
        return rows
    by_row, replicated = PartitionSpec(mesh.axis_names), PartitionSpec()
    return jax.shard_map(
        rows,
        mesh=mesh,
        in_specs=(replicated, by_row, replicated, replicated),
        out_specs=by_row,
        check_vma=False,
    )


def _losses_by_tile(
    limits: TileLimits, loss: Callable, plane: Plane, a: jax.Array, b: jax.Array, data: Any
) -> jax.Array:
    """Compute any loss tile by tile; each tile is a nested `vmap` whose values fit in the cache."""
    shared, losses = split_loss(limits, loss, plane, data, a.dtype)
    cost = grid_cost(limits, loss, plane, a, b, data)
    rows, columns = tile_shape(limits, cost, a.size, b.size)
    if (rows, columns) == (a.size, b.size):
        return losses(shared, a, b)

    def blocks(values: jax.Array, size: int) -> jax.Array:
        count = math.ceil(values.size / size)
        return jnp.pad(values, (0, count * size - values.size), mode="edge").reshape(count, size)

    # A derivative recomputes the intermediate values of a tile instead of storing them for all
    # tiles.
    losses = jax.checkpoint(losses)
    column_blocks = blocks(b, columns)
    grid = jax.lax.map(
        lambda a: jax.lax.map(lambda b: losses(shared, a, b), column_blocks), blocks(a, rows)
    )
    padded_shape = grid.shape[0] * rows, grid.shape[1] * columns
    grid = grid.swapaxes(1, 2)
    return grid.reshape(*padded_shape, *grid.shape[4:])[: a.size, : b.size]
