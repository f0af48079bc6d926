"""The cost of a loss by row, column and cell, counted by hand, and the tiles chosen from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.grid import cost
from jaxscape.grid.cost import Cost, GridCost, TileLimits, grid_cost, tile_shape
from jaxscape.planes.plane import weight_plane
from tests.grid.helpers import make_data, network, network_plane

AXES = np.zeros(2, np.float32), np.zeros(3, np.float32)
NOTHING_SHARED = TileLimits(0, 0, 0)
NETWORK_LOSS = jxs.squared_error.of(network)


def test_products_are_counted_by_row_column_and_cell():
    """Count by hand the bytes of a 1-7-5-1 network on 40 samples."""

    def products(**kind):
        found = grid_cost(NOTHING_SHARED, NETWORK_LOSS, network_plane(**kind), *AXES, make_data(40))
        return found.row.product_bytes, found.column.product_bytes, found.cell.product_bytes

    sizes = [(1, 7), (7, 5), (5, 1)]
    # All cells read the same inputs; each first product writes its own output.
    inputs, outputs = 40 * np.array([0, 7, 5]), 40 * np.array([7, 5, 1])
    every = 4 * (inputs + [i * o for i, o in sizes] + outputs)
    assert products() == (0, 0, every.sum())
    row, column, cell = products(early=False, late=False)
    # The first two products belong to a row. The last reads an input of the row and weights of the
    # column, and writes an output of the cell.
    assert cell == 4 * 40
    assert row > cell
    assert row + column + cell == pytest.approx(every.sum(), rel=0.1)


@pytest.mark.parametrize("kind", [{}, {"early": False, "late": False}])
@pytest.mark.parametrize("limits", [NOTHING_SHARED, TileLimits(4096, 2**19, 2**30)])
def test_the_parts_add_up_to_the_cost_of_any_grid(kind, limits):
    """Trace 5 × 7 cells directly, and compare with the sum over rows, columns and cells."""
    plane, data = network_plane(**kind), make_data(40)

    def losses(plane, data, a, b):
        shared, compute = cost.split_loss(limits, NETWORK_LOSS, plane, data, a.dtype)
        return compute(shared, a, b)

    traced = jax.make_jaxpr(losses)(plane, data, np.zeros(5, np.float32), np.zeros(7, np.float32))
    parts = grid_cost(limits, NETWORK_LOSS, plane, *AXES, data)
    expected = np.sum([parts.of_cells(5, 7), parts.shared], axis=0)
    np.testing.assert_array_equal(np.sum(list(cost._costs(traced)), axis=0), expected)


def test_the_steps_of_a_scan_are_counted():
    """20 steps of a sine per cell cost 19 × 30 operations more than one step."""
    data = make_data(30)

    def loss(steps):
        def of_steps(weights, data):
            def step(total, _):
                return jnp.sin(total), None

            start = weights.w1 * weights.w2 * data.x
            return jnp.sum(jax.lax.scan(step, start, length=steps)[0])

        return of_steps

    one, many = (
        grid_cost(NOTHING_SHARED, loss(steps), weight_plane(), *AXES, data).cell.operations
        for steps in (1, 20)
    )
    assert many - one == 19 * 30


@pytest.mark.parametrize(
    ("limits", "is_within"),
    [
        (TileLimits(64, 2**40, 2**40), lambda cost, cells: cells <= 64),
        (TileLimits(4096, 20_000, 2**40), lambda cost, cells: cost.product_bytes <= 20_000),
        (TileLimits(4096, 2**40, 100_000), lambda cost, cells: cost.bytes <= 100_000),
    ],
    ids=["cells", "cache_bytes", "bytes"],
)
def test_a_tile_fills_its_limits_and_no_more(limits, is_within):
    parts = grid_cost(limits, NETWORK_LOSS, network_plane(), *AXES, make_data(40))
    rows, columns = tile_shape(limits, parts, 200, 300)
    assert is_within(parts.of_cells(rows, columns), rows * columns)
    assert not is_within(parts.of_cells(4 * rows, 4 * columns), 16 * rows * columns)


def test_a_tile_is_long_along_the_axis_that_shares_the_work():
    """If early layers are computed once per row, a tile has many columns, and vice versa."""
    limits = TileLimits(32, 2**40, 2**40)
    plane = network_plane(early=False, late=False)
    for plane_, expected in (
        (plane, (1, 32)),
        (jxs.Plane(plane.origin, plane.v, plane.u), (32, 1)),
    ):
        parts = grid_cost(limits, NETWORK_LOSS, plane_, *AXES, make_data(400))
        assert tile_shape(limits, parts, 64, 64) == expected


def test_a_tile_is_one_cell_if_nothing_fits():
    cell = Cost(10, 0, 1000)
    parts = GridCost(Cost(0, 0, 0), Cost(0, 0, 0), cell, Cost(0, 0, 0))
    assert tile_shape(TileLimits(64, 2**40, 999), parts, 20, 30) == (1, 1)
    # At 4 times the bytes of a cell, 4 cells fit: in parts of 20 rows or of 30 columns.
    assert np.prod(tile_shape(TileLimits(64, 2**40, 4000), parts, 20, 30)) in (3, 4)


@pytest.mark.parametrize("n", [1, 2, 7, 30, 64])
def test_parts_of_an_axis_are_almost_equal(n):
    sizes = cost._even_parts(n)
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (n, 1)
    for size in sizes:
        count = -(-n // size)
        assert count * (size - 1) < n <= count * size
