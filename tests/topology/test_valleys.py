"""Valleys against least-squares fits, and minimax paths over known saddles."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.critical.points import CriticalPoint, CriticalPoints
from jaxscape.results.landscape import Cell


def himmelblau(w1, w2):
    return (w1**2 + w2 - 11) ** 2 + (w1 + w2**2 - 7) ** 2


@pytest.fixture(scope="module")
def surface():
    return jxs.landscape(jxs.Function(himmelblau), None, w1=(-5, 5, 401), w2=(-5, 5, 301))


@pytest.fixture(scope="module")
def points():
    return jxs.critical_points(jxs.Function(himmelblau), w1=(-5.0, 5.0), w2=(-5.0, 5.0))


def noisy_sine():
    generator = np.random.default_rng(1)
    x = generator.uniform(-3, 3, 60)
    y = np.sin(x) + 0.1 * generator.normal(size=60)
    return jxs.Dataset(np.float32(x), np.float32(y))


def test_the_minimum_is_the_least_squares_fit_of_each_row():
    """The fit is computed in float64, also close to w1 = 0, on weighted data."""
    generator = np.random.default_rng(0)
    x, y, weight = generator.normal(size=(3, 41))
    data = jxs.Dataset(x.astype(np.float32), y.astype(np.float32), sample_weight=abs(weight))
    found = jxs.topology.valley(jxs.squared_error, data, w1=np.array([-2.0, -1e-6, 1e-6, 0.3, 5.0]))
    x, y, weight = (np.asarray(v, float) for v in (data.x, data.y, data.sample_weight))
    for w1, w2, loss in zip(
        np.float32(found.a.values).astype(float), found.b, found.loss, strict=True
    ):
        h = np.tanh(w1 * x)
        best = (weight * h) @ y / ((weight * h) @ h)
        np.testing.assert_allclose(w2, best, rtol=1e-9)
        np.testing.assert_allclose(
            loss, np.average((best * h - y) ** 2, weights=weight), rtol=1e-12
        )


def test_the_minimum_has_no_position_where_the_prediction_ignores_w2():
    data = jxs.Dataset(np.array([1.0, 2.0]), np.array([1.0, -1.0]))
    found = jxs.topology.valley(jxs.squared_error, data, w1=np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(np.isnan(found.b), [False, True, False])
    np.testing.assert_allclose(found.loss[1], 1.0)


def test_the_valley_of_another_model_is_the_minimum_of_its_grid():
    """The output is affine in the last layer's weights, but not in the first layer's."""

    def model(params, x):
        return jnp.tanh(x[:, None] * params["w"][None]) @ params["v"]

    params = {"w": jnp.array([0.5, 2.0]), "v": jnp.array([1.0, -1.0])}
    data = noisy_sine()
    along = {"w": jnp.ones(2), "v": None}, {"w": None, "v": jnp.ones(2)}
    loss = jxs.squared_error.of(model)
    found = jxs.topology.valley(loss, data, jxs.Plane(params, *along), a=(-1, 1, 9))
    grid = jxs.landscape(loss, data, jxs.Plane(params, *along), a=(-1, 1, 9), b=(-20, 20, 20001))
    np.testing.assert_allclose(found.loss, np.asarray(grid.loss).min(axis=1), rtol=1e-4)
    with pytest.raises(ValueError, match="loss: expected a parabola in b, but the prediction"):
        jxs.topology.valley(loss, data, jxs.Plane(params, *along[::-1]), a=(-1, 1, 9))
    with pytest.raises(ValueError, match="but it holds for squared_error"):
        jxs.topology.valley(jxs.log_cosh, data, w1=(-1, 1, 9))


def test_bad_axes_of_a_valley_raise():
    data = noisy_sine()
    for axes in ({}, {"w2": (-1, 1, 5)}, {"w1": (-1, 1, 5), "w2": (-1, 1, 5)}):
        with pytest.raises(ValueError, match="axis: expected only w1"):
            jxs.topology.valley(jxs.squared_error, data, **axes)
    with pytest.raises(TypeError, match="plane: expected a Plane"):
        jxs.topology.valley(jxs.squared_error, data, 3, w1=(-1, 1, 5))


def test_the_minimax_path_crosses_the_saddle(surface, points):
    """Between (3, 2) and (-2.8, 3.1) it crosses the saddle of loss 67.7."""
    minima = points.of_kind("minimum")
    start, end = (
        min(minima, key=lambda p: np.hypot(p.a - a, p.b - b)) for a, b in ((3, 2), (-2.8, 3.1))
    )
    path = jxs.topology.minimax_path(surface, start, end, points)
    assert path.saddle is not None
    np.testing.assert_allclose(path.height, 67.7191500875, rtol=1e-10)
    np.testing.assert_allclose(path.height_from_end, 67.7191500875, rtol=1e-10)
    grid = jxs.topology.minimax_path(surface, start, end)
    assert grid.saddle is None
    # The highest cell lies above the saddle, by the second-order error of a cell.
    assert 0 < grid.height - path.height < 0.1
    assert max(cell.loss for cell in path.path) == path.top.loss
    assert np.hypot(path.path[0].a - 3, path.path[0].b - 2) < 0.03


def test_a_detour_is_taken_where_it_is_lower(surface, points):
    """From (3.6, -1.8) to (-2.8, 3.1) the path visits (3, 2) and crosses two saddles."""
    path = jxs.topology.minimax_path(surface, (3.584, -1.848), (-2.805, 3.131), points)
    assert min(np.hypot(cell.a - 3, cell.b - 2) for cell in path.path) < 0.1
    np.testing.assert_allclose(path.height, 67.7191500875, atol=0.1)
    np.testing.assert_allclose(path.saddle.b, 2.88425470117, rtol=1e-9)


def cosines(w1, w2):
    return np.cos(3 * w1 + 0.4) + 0.8 * np.cos(2.3 * w2 - 0.7) + 0.3 * w1 * w2


def grid_of(function, n1, n2):
    a, b = np.linspace(-2, 2, n1), np.linspace(-1.7, 2.1, n2)
    return jxs.Landscape(
        function(a[:, None], b[None]), jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense"
    )


def saddle(a, b, loss):
    point = CriticalPoint(a, b, "saddle", loss, np.array([-1.0, 1.0]), 0.0, -1, 0.0, False, False)
    return CriticalPoints(
        (point,), ("w1", "w2"), ((-2, 2), (-1.7, 2.1)), "incomplete", None, (), (), {}
    )


@pytest.mark.parametrize(("n1", "n2"), [(9, 8), (25, 31), (161, 130)])
def test_a_saddle_counts_up_to_the_interpolation_error(n1, n2):
    """The error comes from the second derivatives of the function, bounded on the whole grid."""
    surface = grid_of(cosines, n1, n2)
    plain = jxs.topology.minimax_path(surface, (-1.2, -1.1), (0.9, -1.1))
    top = plain.top
    h1, h2 = 4 / (n1 - 1), 3.8 / (n2 - 1)
    # |f11|, |f22| and |f12| are at most 9, 4.3 and 0.3.
    largest = (9 * h1**2 + 4.3 * h2**2 + 2 * 0.3 * h1 * h2) / 8
    far = saddle(top.a + 0.3 * h1, top.b - 0.2 * h2, top.loss - 1.01 * largest)
    found = jxs.topology.minimax_path(surface, (-1.2, -1.1), (0.9, -1.1), far)
    assert found.saddle is None
    assert found.height == plain.height
    near = saddle(top.a + 0.3 * h1, top.b - 0.2 * h2, top.loss - 0.03 * largest)
    found = jxs.topology.minimax_path(surface, (-1.2, -1.1), (0.9, -1.1), near)
    assert found.saddle is near.points[0]
    assert plain.height - found.height == pytest.approx(0.03 * largest)


def test_a_closer_saddle_of_another_pass_is_skipped():
    """The saddle of another loss lies closer to the highest cell than that of the path."""
    surface = grid_of(cosines, 25, 31)
    top = jxs.topology.minimax_path(surface, (-1.2, -1.1), (0.9, -1.1)).top
    right = saddle(top.a + 0.1, top.b, top.loss - 0.002).points
    both = saddle(top.a, top.b + 0.01, top.loss - 0.5)
    both = dataclasses.replace(both, points=(*both.points, *right))
    found = jxs.topology.minimax_path(surface, (-1.2, -1.1), (0.9, -1.1), both)
    assert found.saddle is right[0]


def test_saddles_between_the_nodes_of_a_bilinear_surface_count():
    """At the saddle of w1·w2 there is no curvature along the axes, only along the diagonals."""
    product = jxs.Function(lambda w1, w2: w1 * w2)
    surface = jxs.landscape(product, None, w1=(-1.95, 2, 9), w2=(-2, 1.9, 9))
    points = jxs.critical_points(product, w1=(-2.0, 2.0), w2=(-2.0, 2.0))
    found = jxs.topology.minimax_path(surface, (-1.95, 1.9), (2.0, -2.0), points)
    assert found.saddle is points.points[0]


def test_float32_grids_allow_for_rounding():
    """On a grid so fine that all losses round to the same number."""
    axis = np.linspace(-1e-5, 1e-5, 7)
    losses = np.float32(1000 + axis[:, None] ** 2 - axis**2)
    surface = jxs.Landscape(losses, jxs.Axis(axis, "w1"), jxs.Axis(axis, "w2"), "loss", "dense")
    top = jxs.topology.minimax_path(surface, (-1e-5, 0), (1e-5, 0)).top
    for difference, accepted in ((1e-4, True), (1e-3, False)):
        points = saddle(top.a, top.b, 1000 + difference)
        found = jxs.topology.minimax_path(surface, (-1e-5, 0), (1e-5, 0), points)
        assert (found.saddle is not None) == accepted


def test_a_cell_is_a_valid_point(surface):
    lowest = surface.lowest
    assert isinstance(lowest, Cell)
    assert jxs.topology.minimax_path(surface, lowest, (3.58, -1.85)).height > 13


@pytest.mark.parametrize(
    ("point", "error", "message"),
    [
        ((9.0, 0.0), ValueError, "start: expected w1 from -5 to 5, got 9"),
        ((0.0, np.nan), ValueError, "start: expected w2 from -5 to 5, got nan"),
        ("here", TypeError, "start: expected a CriticalPoint, a Cell or"),
        (3.0, TypeError, "start: expected a CriticalPoint, a Cell or"),
    ],
)
def test_points_outside_the_grid_raise(surface, point, error, message):
    with pytest.raises(error, match=message):
        jxs.topology.minimax_path(surface, point, (0.0, 0.0))
    with pytest.raises(TypeError, match="landscape: expected a Landscape"):
        jxs.topology.minimax_path(3, (0.0, 0.0), (0.0, 0.0))
