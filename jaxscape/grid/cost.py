"""The cost of a loss on a grid, and the shape of the tiles that minimizes it."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util.jaxpr import avals, innermost_equations, multiply_adds
from jaxscape.grid import affine, sample_mean
from jaxscape.grid.parabola import MAX_SAMPLE_BLOCK
from jaxscape.losses.checks import scalars
from jaxscape.planes.plane import Plane

# The fixed cost of a tile, in operations.
_TILE_OPERATIONS = 10_000


class TileLimits(NamedTuple):
    """The largest tile, and the largest block of samples."""

    cells: int
    """The most cells of a tile. Larger tiles are no faster, and far larger ones much slower."""
    cache_bytes: int
    """The most bytes that a tile's matrix products read and write, so that they stay in the
    cache."""
    bytes: int
    """The most bytes of all intermediate values of a tile, as if each were stored."""
    shared_bytes: int = 0
    """The most bytes of the arrays that all cells share."""
    samples: int = MAX_SAMPLE_BLOCK
    """The most samples that the exact strategy processes at once."""


class Cost(NamedTuple):
    """The cost of a computation."""

    operations: int
    """Multiply-adds of matrix products and convolutions, and output values of other operations."""
    product_bytes: int
    """Bytes read and written by matrix products and convolutions, which XLA never fuses."""
    bytes: int
    """Bytes of all intermediate values."""


class GridCost(NamedTuple):
    """The cost of a loss on a grid, in four parts that are computed differently often."""

    row: Cost
    """The part that is computed once for each row."""
    column: Cost
    """The part that is computed once for each column."""
    cell: Cost
    """The part that is computed once for each cell."""
    shared: Cost
    """The part that is computed once for all cells."""

    def of_cells(self, rows: int, columns: int) -> Cost:
        """Return the cost of rows × columns cells, without the shared part."""
        return Cost(
            *(
                rows * row + columns * column + rows * columns * cell
                for row, column, cell in zip(self.row, self.column, self.cell, strict=True)
            )
        )


def grid_cost(
    limits: TileLimits, loss: Callable, plane: Plane, a: Any, b: Any, data: Any
) -> GridCost:
    """Measure the cost of a loss for each row, column and cell of a grid.

    `vmap` computes a value that does not depend on a coordinate only once along it. The traced
    equations of four small grids therefore determine the four parts of the cost.

    Args:
        limits: limits whose `bytes` and `shared_bytes` apply to the shared arrays.
        loss: (params, data) -> scalar, or a dictionary of scalars.
        plane: the plane through the parameters.
        a: an array of the first coordinate's dtype.
        b: an array of the second coordinate's dtype.
        data: the loss's second argument. Only shapes of `plane`, `a`, `b` and `data` matter.
    """

    def losses(plane: Plane, data: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        shared, compute = split_loss(limits, loss, plane, data, a.dtype)
        return compute(shared, a, b)

    def measure(rows: int, columns: int) -> np.ndarray:
        axes = (jax.ShapeDtypeStruct((n,), x.dtype) for n, x in ((rows, a), (columns, b)))
        traced = jax.make_jaxpr(losses)(plane, data, *axes)
        return np.sum([Cost(0, 0, 0), *_costs(traced)], axis=0)

    base, more_columns, more_rows, both = (
        measure(rows, columns) for rows, columns in ((2, 2), (2, 3), (3, 2), (3, 3))
    )
    cell = both - more_rows - more_columns + base
    row, column = more_rows - base - 2 * cell, more_columns - base - 2 * cell
    shared = base - 2 * row - 2 * column - 4 * cell
    return GridCost(*(Cost(*(int(n) for n in part)) for part in (row, column, cell, shared)))


def split_loss(
    limits: TileLimits, loss: Callable, plane: Plane, data: Any, dtype: Any
) -> tuple[Any, Callable[[Any, jax.Array, jax.Array], jax.Array]]:
    """Split a loss on a plane into arrays that all cells share, and a function for the cells.

    Returns:
        The shared arrays, and a function that maps them and coordinates (n1,) and (n2,) to losses
        (n1, n2); (n1, n2, K) if the loss returns K scalars by name.
    """

    def value(params: Any, data: Any) -> jax.Array:
        return scalars(loss(params, data))

    shared, cell = affine.split(value, plane, data, dtype, limits.bytes, limits.shared_bytes)

    def losses(shared: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        return sample_mean.map_grid(functools.partial(cell, shared), a, b)

    return shared, losses


def _costs(jaxpr: Any) -> Iterator[Cost]:
    """Yield the cost of each equation."""
    for equation, repeats in innermost_equations(jaxpr):
        inputs, outputs = avals(equation.invars), avals(equation.outvars)
        size = sum(output.size for output in outputs)
        written = sum(map(_bytes, outputs))
        per_value = multiply_adds(equation)
        if per_value is None:
            yield Cost(repeats * size, 0, written)
        else:
            yield Cost(repeats * size * per_value, written + sum(map(_bytes, inputs)), written)


def _bytes(aval: Any) -> int:
    return aval.size * getattr(aval.dtype, "itemsize", 0)


def tile_shape(limits: TileLimits, cost: GridCost, n1: int, n2: int) -> tuple[int, int]:
    """Return the rows and columns of the tile with the fewest operations per cell.

    Args:
        limits: the largest tile.
        cost: the cost of the loss.
        n1: the rows of the grid.
        n2: the columns of the grid.
    """

    def operations_per_cell(shape: tuple[int, int]) -> float:
        return (cost.of_cells(*shape).operations + _TILE_OPERATIONS) / math.prod(shape)

    def fits(shape: tuple[int, int]) -> bool:
        needed = cost.of_cells(*shape)
        return (
            math.prod(shape) <= limits.cells
            and needed.product_bytes <= limits.cache_bytes
            and needed.bytes <= limits.bytes
        )

    shapes = itertools.product(_even_parts(n1), _even_parts(n2))
    return min(filter(fits, shapes), key=operations_per_cell, default=(1, 1))


def _even_parts(n: int) -> list[int]:
    """Return the sizes of the parts if n is divided by 1, 2, 4, ... or n, largest first."""
    counts = [2**k for k in range(n.bit_length())] + [n]
    return sorted({math.ceil(n / count) for count in counts}, reverse=True)
