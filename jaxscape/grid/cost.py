"""The loss in every cell of some rows of a grid, compiled: dense, or a parabola a row."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape.grid import affine, sample_mean
from jaxscape.grid.parabola import SAMPLES_AT_ONCE
from jaxscape.losses.checks import scalars
from jaxscape.planes.plane import Plane

# What a tile costs beside its cells, in operations.
_TILE_OVERHEAD = 10_000


class Limits(NamedTuple):
    """How large a tile may be."""

    cells: int
    """Cells of a tile: more of them reduce no faster, and far more reduce far slower."""
    cache: int
    """Bytes that a tile's matrix products read and write: what stays in the cache is faster."""
    memory: int
    """Bytes of all its intermediate values, as if each were stored."""
    shared: int = 0
    """Bytes of what all cells share, where it is worth more than the reading of so much memory."""
    samples: int = SAMPLES_AT_ONCE
    """Samples that the exact strategy goes through at once."""


class Count(NamedTuple):
    """What computing some cells takes."""

    operations: int
    """Multiply-adds of matrix products, and elements of everything else."""
    product_bytes: int
    """Bytes read and written by matrix products and convolutions, which are never fused."""
    bytes: int
    """Bytes of all intermediate values."""


class Share(NamedTuple):
    """What is done once for each row, for each column, for each cell, and for all."""

    row: Count
    column: Count
    cell: Count
    all: Count

    def of(self, rows: int, columns: int) -> Count:
        """What rows × columns cells take, beside what is done once for all."""
        return Count(
            *(
                rows * row + columns * column + rows * columns * cell
                for row, column, cell in zip(*self[:3], strict=True)
            )
        )


def share(limits: Limits, loss: Callable, plane: Plane, a: Any, b: Any, data: Any) -> Share:
    """What the loss takes for each row, column and cell, by the shapes of a nested `vmap`.

    Where a direction leaves parameters alone, `vmap` computes what depends on them only once; so
    four small grids tell how much that is.
    """

    def losses(plane: Plane, data: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        shared, of = loss_count(limits, loss, plane, data, a.dtype)
        return of(shared, a, b)

    def count(rows: int, columns: int) -> np.ndarray:
        axes = (jax.ShapeDtypeStruct((n,), x.dtype) for n, x in ((rows, a), (columns, b)))
        traced = jax.make_jaxpr(losses)(plane, data, *axes)
        return np.sum([[0, 0, 0], *_counts(traced.jaxpr)], axis=0)

    low, column, row, both = (count(n1, n2) for n1, n2 in ((2, 2), (2, 3), (3, 2), (3, 3)))
    cell = both - row - column + low
    row, column = row - low - 2 * cell, column - low - 2 * cell
    parts = (row, column, cell, low - 2 * row - 2 * column - 4 * cell)
    return Share(*(Count(*(int(n) for n in part)) for part in parts))


def loss_count(
    limits: Limits, loss: Callable, plane: Plane, data: Any, dtype: Any
) -> tuple[Any, Callable]:
    """What all cells share, and the loss at every pair of coordinates.

    Of what is shared, (n1,) and (n2,) to (n1, n2), or (n1, n2, K).
    """

    def value(params: Any, data: Any) -> jax.Array:
        return scalars(loss(params, data))

    shared, cell = affine.split(value, plane, data, dtype, limits.memory, limits.shared)

    def losses(shared: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        return sample_mean.over_grid(functools.partial(cell, shared), a, b)

    return shared, losses


def _counts(jaxpr: Any, times: int = 1) -> Iterator[tuple[int, int, int]]:
    """(operations, bytes of products, bytes) of every equation."""
    for equation in jaxpr.eqns:
        inner = [
            getattr(value, "jaxpr", value)
            for parameter in equation.params.values()
            for value in (parameter if isinstance(parameter, tuple | list) else [parameter])
            if hasattr(getattr(value, "jaxpr", value), "eqns")
        ]
        if inner:
            repeated = times * equation.params.get("length", 1)
            for part in inner:
                yield from _counts(part, repeated)
            continue
        outputs = [out.aval for out in equation.outvars]
        size = sum(out.size for out in outputs)
        written = sum(_bytes(out) for out in outputs)
        inputs = [value.aval for value in equation.invars]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            size *= math.prod(inputs[0].shape[k] for k in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            channel = equation.params["dimension_numbers"].rhs_spec[0]
            size *= inputs[1].size // inputs[1].shape[channel]
        else:
            yield times * size, 0, written
            continue
        yield times * size, written + sum(map(_bytes, inputs)), written


def _bytes(aval: Any) -> int:
    return aval.size * getattr(aval.dtype, "itemsize", 0)


def tile(limits: Limits, share: Share, n1: int, n2: int) -> tuple[int, int]:
    """The rows and columns of the tile with least work a cell that the limits allow."""

    def work(size: tuple[int, int]) -> float:
        return (share.of(*size).operations + _TILE_OVERHEAD) / math.prod(size)

    def fits(size: tuple[int, int]) -> bool:
        count = share.of(*size)
        return (
            math.prod(size) <= limits.cells
            and count.product_bytes <= limits.cache
            and count.bytes <= limits.memory
        )

    sizes = itertools.product(_even_parts(n1), _even_parts(n2))
    return min(filter(fits, sizes), key=work, default=(1, 1))


def _even_parts(n: int) -> list[int]:
    """Sizes that cut n into 1, 2, 4, ... parts with little left over, largest first."""
    counts = [2**k for k in range(n.bit_length())] + [n]
    return sorted({math.ceil(n / count) for count in counts}, reverse=True)
