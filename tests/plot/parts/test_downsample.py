"""Cells that are drawn of a large landscape."""

import itertools

import numpy as np
import pytest

from jaxscape.plot.parts import downsample
from tests.plot.helpers import make_landscape


def chosen_slowly(loss, max_values):
    """The drawn cell of each block, as `choose_cells` describes it."""
    size = [-(-n // max_values) for n in loss.shape]
    counts = [-(-n // k) for n, k in zip(loss.shape, size, strict=True)]
    blocks = {
        (i, j): [
            (loss[r, c], r, c)
            for r in range(i * size[0], min((i + 1) * size[0], loss.shape[0]))
            for c in range(j * size[1], min((j + 1) * size[1], loss.shape[1]))
            if np.isfinite(loss[r, c])
        ]
        for i, j in np.ndindex(*counts)
    }
    chosen = {}
    for block, cells in blocks.items():
        middle = [
            0 if k == 0 else n - 1 if k == count - 1 else min(k * length + length // 2, n - 1)
            for k, count, n, length in zip(block, counts, loss.shape, size, strict=True)
        ]
        chosen[block] = tuple(middle)
        around = [
            cell
            for di, dj in itertools.product((-1, 0, 1), repeat=2)
            if (di, dj) != (0, 0)
            for cell in blocks.get((block[0] + di, block[1] + dj), [])
        ]
        for best in (min, max):
            # A cell is chosen if it is strictly lower (higher) than all neighboring blocks.
            if cells and best(cells) == best(cells + around):
                chosen[block] = best(cells)[1:]
    return chosen


@pytest.mark.parametrize("shape", [(23, 17), (9, 40), (30, 8)])
def test_the_chosen_cells_are_those_of_a_search_block_by_block(shape, monkeypatch):
    loss = np.random.default_rng(0).normal(size=shape)
    loss[3, 2], loss[5, 5] = np.nan, np.inf
    # Read the losses in several parts.
    monkeypatch.setattr(downsample, "_CELLS_PER_READ", 2 * shape[1])
    blocks = downsample.choose_cells(loss, 8)
    slow = chosen_slowly(loss, 8)
    assert len(slow) == blocks.rows.size
    for (i, j), cell in slow.items():
        assert (blocks.rows[i, j], blocks.columns[i, j]) == cell


def test_the_mesh_reaches_the_edges_and_has_at_most_the_given_number_of_values():
    for n1, n2 in ((8, 8), (9, 40), (81, 25)):
        blocks = downsample.choose_cells(np.add.outer(np.arange(n1), np.arange(n2)), 8)
        assert max(blocks.rows.shape) <= 8
        for index, n in zip(blocks.axes, (n1, n2), strict=True):
            assert (index[0], index[-1]) == (0, n - 1)
            assert (np.diff(index) > 0).all()


def test_a_small_landscape_is_drawn_completely():
    landscape = make_landscape()
    landscape.loss[2, 1] = np.inf
    expected = np.where(np.isfinite(landscape.loss), landscape.loss, np.nan)
    for a, b, loss, notes in (
        downsample.for_surface(landscape, 7),
        downsample.for_image(landscape, 7, "heatmap"),
    ):
        np.testing.assert_array_equal(a, landscape.a.values)
        np.testing.assert_array_equal(b, landscape.b.values)
        np.testing.assert_array_equal(loss, expected)
        assert notes == []


def test_a_downsampled_surface_keeps_the_coordinates_of_each_cell():
    landscape = make_landscape(50, 31, lambda a, b: np.sin(9 * a) + np.cos(7 * b))
    a, b, loss, notes = downsample.for_surface(landscape, 20)
    assert a.shape == b.shape == loss.shape == (17, 16)
    np.testing.assert_allclose(loss, np.sin(9 * a) + np.cos(7 * b))
    assert notes == ["surface of 17 × 16 cells, all minima and maxima kept"]


def test_a_downsampled_image_has_one_coordinate_for_each_row_and_column():
    landscape = make_landscape(50, 31, lambda a, b: np.sin(9 * a) + np.cos(7 * b))
    a, b, loss, notes = downsample.for_image(landscape, 20, "heatmap")
    assert (a.shape, b.shape, loss.shape) == ((17,), (16,), (17, 16))
    assert np.isin(loss, landscape.loss).all()
    assert notes == ["heatmap of 17 × 16 cells, all minima and maxima kept"]


@pytest.mark.parametrize(
    ("count", "max_count", "expected"),
    [(3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (10, 4, [0, 3, 6, 9]), (9, 2, [0, 8])],
)
def test_evenly_spaced_indices_include_the_first_and_the_last(count, max_count, expected):
    np.testing.assert_array_equal(downsample.evenly_spaced(count, max_count), expected)
