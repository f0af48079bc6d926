"""A loss that is a mean over samples, added up sample by sample in all cells at once."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.data import Dataset
from jaxscape.means import is_mean_over_samples
from jaxscape.network import Network, PointwiseLoss, scalars
from jaxscape.plane import Plane

# Samples whose errors are added in registers before the running sum of every cell is read and
# written once. Of 4, 8, 16, 24 on two cores, 8 was fastest at 1024 × 1024; compile time grows
# with it.
_UNROLLED_SAMPLES = 8
# A step has a fixed cost: on a small grid, several lanes of samples are added side by side, so
# that a step works on up to this many sums. From 16 × 16 to 256 × 256 cells none did better.
_SUMS_A_STEP = 32_768
# Numbers of a plane's origin and directions: what is done with parameters alone is done for every
# sample. With 128 in each a grid took 1.4 to 2.2 times as long as with 2, with 32 1.2 times.
_MOST_NUMBERS = 96


def is_summed(loss: Any, plane: Any, data: Any, dtype: Any) -> bool:
    """Whether a loss is known to be a mean over samples that is faster added up one by one.

    Args:
        loss: (params, data) -> scalar.
        plane, data: where and on what; shapes do.
        dtype: of the coordinates.
    """
    if isinstance(loss, PointwiseLoss):
        if not isinstance(data, Dataset):
            return False
        data, _ = _unweighted(data)
        if isinstance(loss.predict, Network):
            return True

    if sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(plane)) > _MOST_NUMBERS:
        return False

    def value(where: Any, data: Any) -> jax.Array:
        plane, a, b = where
        return scalars(loss(plane.at(a, b), data))

    coordinate = jax.ShapeDtypeStruct((), dtype)
    return is_mean_over_samples(value, data, (plane, coordinate, coordinate))


def _unweighted(data: Dataset) -> tuple[Dataset, jax.Array | None]:
    """Data whose samples count alike, and what they counted."""
    leaves, weight = (data.x, data.y, None), data.sample_weight
    return data.tree_unflatten(None, leaves), weight


def over_samples(loss: Callable, plane: Plane, a: jax.Array, b: jax.Array, data: Any) -> jax.Array:
    """The mean of a loss of each sample alone, samples outermost and cells innermost.

    The nested `vmap` of a mean reduces over samples inside every cell, which compilers vectorise
    badly; here every step adds a few samples' losses to all cells at once.
    """
    data, weight = _unweighted(data) if isinstance(loss, PointwiseLoss) else (data, None)
    # The whole data once, for its checks: its shapes are known here, its values are not needed.
    dtype = jax.eval_shape(lambda: loss(plane.at(a[0], b[0]), data)).dtype
    leaves, structure = jax.tree.flatten(data)
    varies = [leaf.ndim > 0 for leaf in leaves]
    columns = [leaf for leaf in leaves if leaf.ndim]
    n = len(columns[0])
    most_lanes = math.ceil(n / _UNROLLED_SAMPLES)
    lanes = min(max(1, _SUMS_A_STEP // (a.size * b.size)), most_lanes)
    # Blocks of about √steps steps are summed apart and then added: a single running sum of 3,000
    # float32 errors is off by 1.5e-6 of its value, sums of sums by 3e-7.
    steps = math.ceil(n / (lanes * _UNROLLED_SAMPLES))
    inner = math.isqrt(steps)
    shape = (math.ceil(steps / inner), inner, lanes, _UNROLLED_SAMPLES)
    counted = np.arange(math.prod(shape)).reshape(shape) < n

    def blocks(array):
        missing = math.prod(shape) - n
        padding = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding, mode="edge").reshape(*shape, *array.shape[1:])

    def add_samples(total, samples):
        columns, weight, counts = samples
        errors = []
        for k in range(_UNROLLED_SAMPLES):

            def error(a, b, k=k):
                column = iter(columns)
                sample = [
                    next(column)[k : k + 1] if varied else leaf
                    for leaf, varied in zip(leaves, varies, strict=True)
                ]
                return loss(plane.at(a, b), jax.tree.unflatten(structure, sample))

            at_all_cells = over_grid(error, a, b)
            if weight is not None:
                at_all_cells = weight[k] * at_all_cells
            # Not a factor 0, which would make NaN of an infinite error.
            errors.append(jnp.where(counts[k], at_all_cells, 0))
        return total + sum(errors[1:], errors[0]), None

    def add_block(total, block):
        block_sum, _ = jax.lax.scan(jax.checkpoint(jax.vmap(add_samples)), zeros, block)
        return total + block_sum, None

    zeros = jnp.zeros((lanes, a.size, b.size), dtype)
    samples = *jax.tree.map(blocks, (columns, weight)), counted
    total, _ = jax.lax.scan(add_block, zeros, samples)
    return total.sum(axis=0) / (n if weight is None else jnp.sum(weight))


def over_grid(cell: Callable, a: jax.Array, b: jax.Array) -> jax.Array:
    """`cell(a, b)` at every pair of coordinates, (n1, n2, ...)."""
    return jax.vmap(jax.vmap(cell, (None, 0)), (0, None))(a, b)
