"""Minima, maxima and passes of a grid: against a slow merge tree, gudhi, and known surfaces."""

import importlib
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxscape as jxs

persistence_module = importlib.import_module("jaxscape.topology.persistence")

SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))
ALL = (*SIDES, (-1, -1), (-1, 1), (1, -1), (1, 1))
OUTSIDE = (-np.inf, -1, -1)
NAN, INF = np.nan, np.inf


def surface(loss, a=None, b=None):
    loss = np.asarray(loss, float)
    n1, n2 = loss.shape
    a = np.arange(n1) ** 1.5 if a is None else a
    b = np.arange(n2) / 4 - 3 if b is None else b
    return jxs.Landscape(loss, jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense")


def himmelblau():
    a, b = np.linspace(-5, 5, 401), np.linspace(-5, 5, 301)
    x, y = a[:, None], b[None]
    return surface((x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2, a, b)


def random_losses(seed):
    """Small arrays: noise, ties, smooth bumps; some with holes."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 13, 2))
    kind = seed % 3
    if kind == 0:
        loss = rng.normal(size=shape)
    elif kind == 1:
        loss = rng.integers(0, rng.integers(1, 6), shape).astype(float)
    else:
        x, y = np.meshgrid(*map(np.arange, shape), indexing="ij")
        p = rng.normal(size=6)
        loss = np.sin(p[0] * x + p[1] * y + p[2]) + np.cos(p[3] * x * y / 9 + p[4]) + p[5] * x / 9
    if rng.random() < 0.5:
        holes = rng.random(shape) < 0.3 * rng.random()
        loss[holes] = rng.choice([NAN, INF, -INF], holes.sum())
        loss[rng.integers(shape[0]), rng.integers(shape[1])] = 0.5
    return loss


def around(loss, i, j, steps):
    for di, dj in steps:
        u, v = i + di, j + dj
        inside = 0 <= u < loss.shape[0] and 0 <= v < loss.shape[1]
        yield (u, v) if inside and np.isfinite(loss[u, v]) else None


def merge_tree(loss, steps, outside):
    """{minimum: (pass, the minimum merged into)}, all as (loss, i, j), cell after cell."""
    nodes = sorted((loss[ij], *ij) for ij in np.ndindex(loss.shape) if np.isfinite(loss[ij]))
    up, merges = {OUTSIDE: OUTSIDE}, {}

    def root(node):
        return node if up[node] == node else root(up[node])

    for node in nodes:
        beside = [other and (loss[other], *other) for other in around(loss, *node[1:], steps)]
        beside = [OUTSIDE if other is None and outside else other for other in beside]
        roots = sorted({root(other) for other in beside if other in up})
        up[node] = roots[0] if roots else node
        if not roots:
            merges[node] = None, None
        for other in roots[1:]:
            up[other] = roots[0]
            merges[other] = node, roots[0]
    return merges


def listed(extrema, sign):
    """The same of what was found, with cells as (sign * loss, i, j)."""

    def node(cell):
        return cell and (sign * cell.loss, cell.i, cell.j)

    return {
        node(found.cell): (
            node(found.saddle),
            None if found.into is None else node(extrema[found.into].cell),
        )
        for found in extrema
    }


def lasting(merges):
    """Without pairs that merge at their own height."""
    return {
        node: (over, None if into == OUTSIDE else into)
        for node, (over, into) in merges.items()
        if over is None or over[0] > node[0]
    }


def lowest_neighbor(loss, i, j):
    cells = [(loss[i, j], i, j), *((loss[c], *c) for c in around(loss, i, j, ALL) if c)]
    return min(cells)[1:]


def bottleneck(loss, start, end):
    """The lowest level whose cells connect them; None where not even all finite ones do."""
    for level in np.unique(loss[np.isfinite(loss)]):
        if max(loss[start], loss[end]) > level:
            continue
        seen, waiting = {start}, [start]
        while waiting:
            for cell in around(loss, *waiting.pop(), ALL):
                if cell and loss[cell] <= level and cell not in seen:
                    seen.add(cell)
                    waiting.append(cell)
        if end in seen:
            return level
    return None


@given(seed=st.integers(0, 100_000))
@settings(max_examples=300, deadline=None)
def test_minima_and_maxima_are_those_of_a_merge_tree_cell_by_cell(seed):
    loss = random_losses(seed)
    found = persistence_module.persistence(surface(loss))
    assert listed(found.minima, 1) == lasting(merge_tree(loss, ALL, outside=False))
    assert listed(found.maxima, -1) == lasting(merge_tree(-loss, SIDES, outside=True))
    for sign, extrema in ((1, found.minima), (-1, found.maxima)):
        for cell, depth, saddle, _ in extrema:
            assert depth == (sign * (saddle.loss - cell.loss) if saddle else INF)
            assert depth > 0
        order = [(-f.persistence, sign * f.cell.loss, f.cell.i, f.cell.j) for f in extrema]
        assert order == sorted(order)
        assert all(f.into is None or f.into < k for k, f in enumerate(extrema))


@given(seed=st.integers(0, 100_000))
@settings(max_examples=200, deadline=None)
def test_labels_are_where_steepest_descent_of_each_cell_ends(seed):
    loss = random_losses(seed)
    found = persistence_module.persistence(surface(loss))
    index = {(f.cell.i, f.cell.j): k for k, f in enumerate(found.minima)}
    merges = merge_tree(loss, ALL, outside=False)
    truth = np.full(loss.shape, -1)
    for cell in np.ndindex(loss.shape):
        if np.isfinite(loss[cell]):
            here = cell
            while (lower := lowest_neighbor(loss, *here)) != here:
                here = lower
            while here not in index:  # a part of a plateau
                here = merges[loss[here], *here][1][1:]
            truth[cell] = index[here]
    assert found.label.dtype == np.int32
    np.testing.assert_array_equal(found.label, truth)


@given(seed=st.integers(0, 100_000))
@settings(max_examples=100, deadline=None)
def test_pairs_are_those_of_gudhi(seed):
    gudhi = pytest.importorskip("gudhi")
    loss = random_losses(seed)
    found = persistence_module.persistence(surface(loss))
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
    found = persistence_module.persistence(surface(loss))
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
            persistence_module.minimax_cells(surface(loss), start, end)
        return
    way = persistence_module.minimax_cells(surface(loss), start, end)
    cells = [(cell.i, cell.j) for cell in way]
    assert (cells[0], cells[-1]) == (start, end)
    assert len(set(cells)) == len(cells)
    assert (np.abs(np.diff(cells, axis=0)).max(axis=1) == 1).all()
    assert max(cell.loss for cell in way) == level
    passes = {over[1:] for over, _ in merge_tree(loss, ALL, outside=False).values() if over}
    for pair in itertools.pairwise(cells):
        low, high = sorted(pair, key=lambda cell: (loss[cell], cell))
        assert high in passes or lowest_neighbor(loss, *high) == low


def test_a_minimax_cells_two_wells_crosses_the_pass_and_no_other():
    found = himmelblau()
    minima = persistence_module.persistence(found).minima
    way = persistence_module.minimax_cells(found, minima[3].cell, minima[0].cell)
    assert (way[0], way[-1]) == (minima[3].cell, minima[0].cell)
    top = int(np.argmax([cell.loss for cell in way]))
    assert way[top] == minima[3].saddle
    losses = np.array([cell.loss for cell in way])
    assert (np.diff(losses[: top + 1]) > 0).all()
    assert (np.diff(losses[top:]) < 0).all()


def test_a_path_within_a_basin_does_not_go_through_the_minimum_for_nothing():
    loss = np.arange(5.0)[None] + 10 * np.arange(3)[:, None]
    way = persistence_module.minimax_cells(surface(loss), (0, 4), (0, 2))
    assert [(cell.i, cell.j) for cell in way] == [(0, 4), (0, 3), (0, 2)]
    assert len(persistence_module.minimax_cells(surface(loss), (2, 3), (2, 3))) == 1


def test_a_double_well_has_two_minima_as_far_apart_as_its_barrier():
    a, b = np.linspace(-1.5, 1.5, 61), np.linspace(-1, 2, 46)
    wells = 3 * (a[:, None] ** 2 - 1) ** 2 + (b[None] - 0.2) ** 2
    wells[a > 0] += 0.25
    found = persistence_module.persistence(surface(wells, a, b))
    lowest, other = found.minima
    assert (lowest.persistence, lowest.saddle, lowest.into) == (INF, None, None)
    assert lowest.cell[2:4] == pytest.approx((-1, 0.2))
    assert other.cell[2:4] == pytest.approx((1, 0.2))
    barrier = 3 * (0.05**2 - 1) ** 2  # the first cell of the raised half
    assert other.persistence == pytest.approx(barrier)
    assert other.saddle[2:] == pytest.approx((0.05, 0.2, barrier + 0.25))
    assert other.into == 0
    assert found.maxima == ()
    np.testing.assert_array_equal(found.label[:30], 0)
    np.testing.assert_array_equal(found.label[32:], 1)


def test_himmelblau():
    found = persistence_module.persistence(himmelblau())
    places = {(3, 2), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)}
    for a, b in places:
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


def test_small_noise_adds_minima_that_are_not_deep_and_it_is_said():
    a = np.linspace(-1.5, 1.5, 61)
    noise = 1e-6 * np.random.default_rng(0).uniform(0, 1, (61, 47))
    found = persistence_module.persistence(
        surface((a[:, None] ** 2 - 1) ** 2 + a[:, None] / 50 + noise, a)
    )
    assert len(found.minima) > 10
    assert len(found.deep(1e-6)) == 2
    assert found.deep(0) == found.minima
    others = repr(found).splitlines()[-1].split()
    assert others[:2] == [str(len(found.minima) - 4), "others,"]
    assert 1e-7 < float(others[-2]) < 1e-6


def test_parts_that_walls_separate_each_have_a_lowest_minimum():
    loss = [[3.0, 1, NAN, 4], [5, 2, INF, 6], [7, 8, -INF, 9]]
    found = persistence_module.persistence(surface(loss))
    assert [(f.cell.loss, f.persistence) for f in found.minima] == [(1, INF), (4, INF)]
    np.testing.assert_array_equal(found.label, [[0, 0, -1, 1]] * 3)
    assert found.maxima == ()
    assert "lowest of another part: loss 4" in repr(found)


def test_a_maximum_beside_a_hole_is_on_the_border():
    loss = np.zeros((5, 6))
    loss[2, 2] = 3
    assert [f.persistence for f in persistence_module.persistence(surface(loss)).maxima] == [3]
    for hole, count in (((2, 3), 0), ((3, 3), 1)):
        holed = loss.copy()
        holed[hole] = NAN
        assert len(persistence_module.persistence(surface(holed)).maxima) == count


def test_area_below_counts_each_cell_for_its_own_rectangle():
    a, b = np.array([-2.0, -1.5, 0, 4]), np.array([0.0, 1, 1.5, 5, 5.25])
    loss = np.random.default_rng(3).normal(size=(4, 5))
    found = persistence_module.persistence(surface(loss, a, b))
    assert found.area_below(INF) == pytest.approx(6 * 5.25)
    assert found.area_below(loss.min() - 1) == 0
    # Points at the middles of a fine even division, each of the nearest cell.
    fine = [
        axis[0] + np.ptp(axis) * (np.arange(n) + 0.5) / n
        for axis, n in ((a, 6 * 8), (b, int(5.25 * 32)))
    ]
    nearest = [
        np.abs(values[:, None] - axis[None]).argmin(axis=1)
        for values, axis in zip(fine, (a, b), strict=True)
    ]
    share = (loss[np.ix_(*nearest)] <= 0.3).mean()
    assert 0.1 < share < 0.9
    assert found.area_below(0.3) == pytest.approx(share * 6 * 5.25)


def test_cells_that_are_not_finite_have_no_area():
    found = persistence_module.persistence(
        surface([[1.0, -INF, 2], [NAN, INF, 1]], [0, 1], [0, 1, 2])
    )
    assert found.area_below(INF) == 0.25 * 3
    assert found.area_below(1) == 0.25 * 2


def test_a_grid_of_jax_arrays_in_float32_is_the_same():
    loss = np.random.default_rng(1).integers(0, 99, (7, 9)) / 4
    a, b = np.arange(7.0), np.arange(9.0)
    single = persistence_module.persistence(
        jxs.Landscape(
            jnp.asarray(loss), jxs.Axis(jnp.asarray(a), "w1"), jxs.Axis(b, "w2"), "loss", "dense"
        )
    )
    double = persistence_module.persistence(surface(loss, a, b))
    assert (single.minima, single.maxima) == (double.minima, double.maxima)
    assert type(single.minima[0].cell.a) is float


def test_bad_input_is_named():
    loss = np.arange(12.0).reshape(3, 4)
    loss[1, 2] = NAN
    good = surface(loss)
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got ndarray"):
        persistence_module.persistence(loss)
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got ndarray"):
        persistence_module.minimax_cells(loss, (0, 0), (1, 1))
    with pytest.raises(ValueError, match="landscape: expected at least one finite cell"):
        persistence_module.persistence(surface(np.full((2, 3), NAN)))
    for cell in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(ValueError, match="start: expected a cell of the 3 × 4 grid"):
            persistence_module.minimax_cells(good, cell, (0, 0))
    with pytest.raises(ValueError, match=r"end: expected a finite loss, got nan at \(1, 2\)"):
        persistence_module.minimax_cells(good, (0, 0), (1, 2))
    for cell in ((0.5, 1), (1,), 3):
        with pytest.raises(TypeError, match="end: expected a Cell or"):
            persistence_module.minimax_cells(good, (0, 0), cell)
    found = persistence_module.persistence(good)
    for depth in (-1, NAN):
        with pytest.raises(ValueError, match="depth: expected"):
            found.deep(depth)
    with pytest.raises(ValueError, match="level: expected a number, got nan"):
        found.area_below(NAN)
