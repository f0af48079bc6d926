"""Minima, maxima and minimax paths: against slow references, gudhi, and known surfaces."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxscape as jxs
from jaxscape.topology.persistence import minimax_cells, persistence
from tests.topology.helpers import (
    ALL_NEIGHBORS,
    INF,
    NAN,
    SIDE_NEIGHBORS,
    bottleneck,
    himmelblau,
    lowest_neighbor,
    random_losses,
    slow_merge_tree,
    surface,
    without_zero_persistence,
)


def as_merges(extrema, sign):
    """Return {extremum: (saddle, extremum merged into)} with cells as (sign * loss, i, j)."""

    def node(cell):
        return cell and (sign * cell.loss, cell.i, cell.j)

    return {
        node(found.cell): (
            node(found.saddle),
            None if found.into is None else node(extrema[found.into].cell),
        )
        for found in extrema
    }


@given(seed=st.integers(0, 100_000))
@settings(max_examples=300, deadline=None)
def test_minima_and_maxima_are_those_of_a_slow_merge_tree(seed):
    loss = random_losses(seed)
    found = persistence(surface(loss))
    assert as_merges(found.minima, 1) == without_zero_persistence(
        slow_merge_tree(loss, ALL_NEIGHBORS, outside=False)
    )
    assert as_merges(found.maxima, -1) == without_zero_persistence(
        slow_merge_tree(-loss, SIDE_NEIGHBORS, outside=True)
    )
    for sign, extrema in ((1, found.minima), (-1, found.maxima)):
        for cell, depth, saddle, _ in extrema:
            assert depth == (sign * (saddle.loss - cell.loss) if saddle else INF)
            assert depth > 0
        order = [(-f.persistence, sign * f.cell.loss, f.cell.i, f.cell.j) for f in extrema]
        assert order == sorted(order)
        assert all(f.into is None or f.into < k for k, f in enumerate(extrema))


@given(seed=st.integers(0, 100_000))
@settings(max_examples=200, deadline=None)
def test_labels_follow_steepest_descent(seed):
    loss = random_losses(seed)
    found = persistence(surface(loss))
    index = {(f.cell.i, f.cell.j): k for k, f in enumerate(found.minima)}
    merges = slow_merge_tree(loss, ALL_NEIGHBORS, outside=False)
    truth = np.full(loss.shape, -1)
    for cell in np.ndindex(loss.shape):
        if np.isfinite(loss[cell]):
            here = cell
            while (lower := lowest_neighbor(loss, *here)) != here:
                here = lower
            while here not in index:  # a cell of a plateau
                here = merges[loss[here], *here][1][1:]
            truth[cell] = index[here]
    assert found.label.dtype == np.int32
    np.testing.assert_array_equal(found.label, truth)


@given(seed=st.integers(0, 100_000))
@settings(max_examples=100, deadline=None)
def test_pairs_are_those_of_gudhi(seed):
    gudhi = pytest.importorskip("gudhi")
    loss = random_losses(seed)
    found = persistence(surface(loss))
    walls = np.where(np.isfinite(loss), loss, INF)
    cubes = gudhi.CubicalComplex(top_dimensional_cells=walls)
    cubes.compute_persistence()
    minima, maxima = (
        sorted(
            (low, high)
            for low, high in cubes.persistence_intervals_in_dimension(dimension).tolist()
            if low < high and (dimension == 0 or high < INF)  # a loop around a hole never ends
        )
        for dimension in (0, 1)
    )
    assert minima == sorted((f.cell.loss, f.saddle.loss if f.saddle else INF) for f in found.minima)
    assert maxima == sorted((f.saddle.loss, f.cell.loss) for f in found.maxima)


def test_pairs_of_a_large_noisy_surface_are_those_of_gudhi():
    gudhi = pytest.importorskip("gudhi")
    rng = np.random.default_rng(7)
    loss = himmelblau().loss[::3, ::2] + 20 * rng.normal(size=(134, 151))
    found = persistence(surface(loss))
    cubes = gudhi.CubicalComplex(top_dimensional_cells=loss)
    cubes.compute_persistence()
    truth = [cubes.persistence_intervals_in_dimension(dimension).tolist() for dimension in (0, 1)]
    assert len(truth[0]) > 1000
    assert len(truth[1]) > 1000
    minima = ([f.cell.loss, f.saddle.loss if f.saddle else INF] for f in found.minima)
    assert sorted(truth[0]) == sorted(minima)
    assert sorted(truth[1]) == sorted([f.saddle.loss, f.cell.loss] for f in found.maxima)


@given(seed=st.integers(0, 100_000))
@settings(max_examples=200, deadline=None)
def test_the_highest_loss_of_a_path_is_the_lowest_possible(seed):
    loss = random_losses(seed)
    rng = np.random.default_rng(seed)
    finite = [tuple(map(int, cell)) for cell in np.argwhere(np.isfinite(loss))]
    start, end = (finite[k] for k in rng.integers(len(finite), size=2))
    level = bottleneck(loss, start, end)
    if level is None:
        with pytest.raises(ValueError, match="end: expected a cell that finite cells connect"):
            minimax_cells(surface(loss), start, end)
        return
    path = minimax_cells(surface(loss), start, end)
    cells = [(cell.i, cell.j) for cell in path]
    assert (cells[0], cells[-1]) == (start, end)
    assert len(set(cells)) == len(cells)
    assert (np.abs(np.diff(cells, axis=0)).max(axis=1) == 1).all()
    assert max(cell.loss for cell in path) == level
    saddles = {
        over[1:] for over, _ in slow_merge_tree(loss, ALL_NEIGHBORS, outside=False).values() if over
    }
    for pair in itertools.pairwise(cells):
        low, high = sorted(pair, key=lambda cell: (loss[cell], cell))
        assert high in saddles or lowest_neighbor(loss, *high) == low


def test_a_path_between_two_wells_crosses_only_their_saddle():
    found = himmelblau()
    minima = persistence(found).minima
    path = minimax_cells(found, minima[3].cell, minima[0].cell)
    assert (path[0], path[-1]) == (minima[3].cell, minima[0].cell)
    top = int(np.argmax([cell.loss for cell in path]))
    assert path[top] == minima[3].saddle
    losses = np.array([cell.loss for cell in path])
    assert (np.diff(losses[: top + 1]) > 0).all()
    assert (np.diff(losses[top:]) < 0).all()


def test_a_path_within_a_basin_avoids_a_detour_through_the_minimum():
    loss = np.arange(5.0)[None] + 10 * np.arange(3)[:, None]
    path = minimax_cells(surface(loss), (0, 4), (0, 2))
    assert [(cell.i, cell.j) for cell in path] == [(0, 4), (0, 3), (0, 2)]
    assert len(minimax_cells(surface(loss), (2, 3), (2, 3))) == 1


def test_the_persistence_of_a_double_well_is_the_height_of_its_saddle():
    a, b = np.linspace(-1.5, 1.5, 61), np.linspace(-1, 2, 46)
    wells = 3 * (a[:, None] ** 2 - 1) ** 2 + (b[None] - 0.2) ** 2
    wells[a > 0] += 0.25
    found = persistence(surface(wells, a, b))
    lowest, other = found.minima
    assert (lowest.persistence, lowest.saddle, lowest.into) == (INF, None, None)
    assert lowest.cell[2:4] == pytest.approx((-1, 0.2))
    assert other.cell[2:4] == pytest.approx((1, 0.2))
    height = 3 * (0.05**2 - 1) ** 2  # the first cell of the raised half
    assert other.persistence == pytest.approx(height)
    assert other.saddle[2:] == pytest.approx((0.05, 0.2, height + 0.25))
    assert other.into == 0
    assert found.maxima == ()
    np.testing.assert_array_equal(found.label[:30], 0)
    np.testing.assert_array_equal(found.label[32:], 1)


def test_himmelblau_has_four_minima_and_one_maximum():
    found = persistence(himmelblau())
    known = {(3, 2), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)}
    for a, b in known:
        assert any(np.hypot(f.cell.a - a, f.cell.b - b) < 0.03 for f in found.minima)
    depths = [f.persistence for f in found.minima]
    assert depths == pytest.approx([INF, 104.015, 67.719, 13.312], abs=0.1)
    (highest,) = found.maxima
    assert highest.cell[2:] == pytest.approx((-0.270845, -0.923039, 181.617), abs=0.02)
    assert highest.persistence == pytest.approx(181.617 - 178.337, abs=0.1)
    assert highest.into is None
    assert repr(found).startswith(
        "Persistence of 401 × 301 cells: 4 minima, 3 saddles between, 1 maximum inside\n  lowest: "
    )
    assert len(found.deep(50)) == 3
    assert found.deep(depths[2]) == found.minima[:3]


def test_small_noise_adds_minima_that_are_not_deep():
    a = np.linspace(-1.5, 1.5, 61)
    noise = 1e-6 * np.random.default_rng(0).uniform(0, 1, (61, 47))
    found = persistence(surface((a[:, None] ** 2 - 1) ** 2 + a[:, None] / 50 + noise, a))
    assert len(found.minima) > 10
    assert len(found.deep(1e-6)) == 2
    assert found.deep(0) == found.minima
    others = repr(found).splitlines()[-1].split()
    assert others[:2] == [str(len(found.minima) - 4), "others,"]
    assert 1e-7 < float(others[-2]) < 1e-6


def test_each_part_between_walls_has_a_lowest_minimum():
    loss = [[3.0, 1, NAN, 4], [5, 2, INF, 6], [7, 8, -INF, 9]]
    found = persistence(surface(loss))
    assert [(f.cell.loss, f.persistence) for f in found.minima] == [(1, INF), (4, INF)]
    np.testing.assert_array_equal(found.label, [[0, 0, -1, 1]] * 3)
    assert found.maxima == ()
    assert "lowest of another part: loss 4" in repr(found)


def test_a_maximum_next_to_a_hole_belongs_to_the_outside():
    loss = np.zeros((5, 6))
    loss[2, 2] = 3
    assert [f.persistence for f in persistence(surface(loss)).maxima] == [3]
    for hole, count in (((2, 3), 0), ((3, 3), 1)):
        holed = loss.copy()
        holed[hole] = NAN
        assert len(persistence(surface(holed)).maxima) == count


def test_area_below_sums_the_rectangles_of_cells():
    a, b = np.array([-2.0, -1.5, 0, 4]), np.array([0.0, 1, 1.5, 5, 5.25])
    loss = np.random.default_rng(3).normal(size=(4, 5))
    found = persistence(surface(loss, a, b))
    assert found.area_below(INF) == pytest.approx(6 * 5.25)
    assert found.area_below(loss.min() - 1) == 0
    # Assign the points of a fine even grid to the nearest cells.
    fine = [
        axis[0] + np.ptp(axis) * (np.arange(n) + 0.5) / n
        for axis, n in ((a, 6 * 8), (b, int(5.25 * 32)))
    ]
    nearest = [
        np.abs(values[:, None] - axis[None]).argmin(axis=1)
        for values, axis in zip(fine, (a, b), strict=True)
    ]
    fraction = (loss[np.ix_(*nearest)] <= 0.3).mean()
    assert 0.1 < fraction < 0.9
    assert found.area_below(0.3) == pytest.approx(fraction * 6 * 5.25)


def test_cells_that_are_not_finite_have_no_area():
    found = persistence(surface([[1.0, -INF, 2], [NAN, INF, 1]], [0, 1], [0, 1, 2]))
    assert found.area_below(INF) == 0.25 * 3
    assert found.area_below(1) == 0.25 * 2


def test_jax_arrays_in_float32_give_the_same_result():
    loss = np.random.default_rng(1).integers(0, 99, (7, 9)) / 4
    a, b = np.arange(7.0), np.arange(9.0)
    single = persistence(
        jxs.Landscape(
            jnp.asarray(loss), jxs.Axis(jnp.asarray(a), "w1"), jxs.Axis(b, "w2"), "loss", "dense"
        )
    )
    double = persistence(surface(loss, a, b))
    assert (single.minima, single.maxima) == (double.minima, double.maxima)
    assert type(single.minima[0].cell.a) is float


def test_bad_arguments_raise():
    loss = np.arange(12.0).reshape(3, 4)
    loss[1, 2] = NAN
    good = surface(loss)
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got ndarray"):
        persistence(loss)
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got ndarray"):
        minimax_cells(loss, (0, 0), (1, 1))
    with pytest.raises(ValueError, match="landscape: expected at least one finite cell"):
        persistence(surface(np.full((2, 3), NAN)))
    for cell in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(ValueError, match="start: expected a cell of the 3 × 4 grid"):
            minimax_cells(good, cell, (0, 0))
    with pytest.raises(ValueError, match=r"end: expected a finite loss, got nan at \(1, 2\)"):
        minimax_cells(good, (0, 0), (1, 2))
    for cell in ((0.5, 1), (1,), 3):
        with pytest.raises(TypeError, match="end: expected a Cell or"):
            minimax_cells(good, (0, 0), cell)
    found = persistence(good)
    for depth in (-1, NAN):
        with pytest.raises(ValueError, match="depth: expected"):
            found.deep(depth)
    with pytest.raises(ValueError, match="level: expected a number, got nan"):
        found.area_below(NAN)
