"""The bottom of a valley, and the pass between two places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.results.landscape import Cell


def himmelblau(w1, w2):
    return (w1**2 + w2 - 11) ** 2 + (w1 + w2**2 - 7) ** 2


SURFACE = jxs.landscape(jxs.Function(himmelblau), None, w1=(-5, 5, 401), w2=(-5, 5, 301))
POINTS = jxs.critical_points(jxs.Function(himmelblau), w1=(-5.0, 5.0), w2=(-5.0, 5.0))


def minimum(a, b):
    return min(POINTS.of_kind("minimum"), key=lambda p: np.hypot(p.a - a, p.b - b))


def test_the_bottom_is_the_least_squares_fit_of_each_row():
    """Against a float64 least-squares fit of w2, also near w1 = 0 and on weighted data."""
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


def test_where_the_prediction_ignores_w2_there_is_no_lowest_place():
    data = jxs.Dataset(np.array([1.0, 2.0]), np.array([1.0, -1.0]))
    found = jxs.topology.valley(jxs.squared_error, data, w1=np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(np.isnan(found.b), [False, True, False])
    np.testing.assert_allclose(found.loss[1], 1.0)


def test_a_valley_of_another_model():
    """The last layer of a network is a line in its coordinate, and its first layer is not."""

    def model(params, x):
        return jnp.tanh(x[:, None] * params["w"][None]) @ params["v"]

    params = {"w": jnp.array([0.5, 2.0]), "v": jnp.array([1.0, -1.0])}
    data = jxs.data.noisy_sine(jax.random.key(0))
    along = {"w": jnp.ones(2), "v": None}, {"w": None, "v": jnp.ones(2)}
    loss = jxs.squared_error.of(model)
    found = jxs.topology.valley(loss, data, jxs.Plane(params, *along), a=(-1, 1, 9))
    grid = jxs.landscape(loss, data, jxs.Plane(params, *along), a=(-1, 1, 9), b=(-20, 20, 20001))
    np.testing.assert_allclose(found.loss, np.asarray(grid.loss).min(axis=1), rtol=1e-4)
    with pytest.raises(ValueError, match="loss: expected a parabola in b, but the prediction"):
        jxs.topology.valley(loss, data, jxs.Plane(params, *along[::-1]), a=(-1, 1, 9))
    with pytest.raises(ValueError, match="but it holds for squared_error"):
        jxs.topology.valley(jxs.log_cosh, data, w1=(-1, 1, 9))


def test_bad_axes_of_a_valley_are_refused():
    data = jxs.data.noisy_sine(jax.random.key(0))
    for axes in ({}, {"w2": (-1, 1, 5)}, {"w1": (-1, 1, 5), "w2": (-1, 1, 5)}):
        with pytest.raises(ValueError, match="axis: expected only w1"):
            jxs.topology.valley(jxs.squared_error, data, **axes)
    with pytest.raises(TypeError, match="plane: expected a Plane"):
        jxs.topology.valley(jxs.squared_error, data, 3, w1=(-1, 1, 5))


def test_the_way_leads_over_the_saddle():
    """Between (3, 2) and (-2.8, 3.1) over the saddle of 67.7, of known height."""
    start, end = minimum(3, 2), minimum(-2.8, 3.1)
    way = jxs.topology.minimax_path(SURFACE, start, end, POINTS)
    assert way.saddle is not None
    np.testing.assert_allclose(way.height, 67.7191500875, rtol=1e-10)
    np.testing.assert_allclose(way.height_from_end, 67.7191500875, rtol=1e-10)
    grid = jxs.topology.minimax_path(SURFACE, start, end)
    assert grid.saddle is None
    # The pass of the grid lies above the saddle, by less than a cell's second order.
    assert 0 < grid.height - way.height < 0.1
    assert max(cell.loss for cell in way.path) == way.top.loss
    assert np.hypot(way.path[0].a - 3, way.path[0].b - 2) < 0.03


def test_a_detour_is_taken_where_it_is_lower():
    """From (3.6, -1.8) to (-2.8, 3.1) by way of (3, 2): two passes, the higher of which counts."""
    way = jxs.topology.minimax_path(SURFACE, (3.584, -1.848), (-2.805, 3.131), POINTS)
    assert min(np.hypot(cell.a - 3, cell.b - 2) for cell in way.path) < 0.1
    np.testing.assert_allclose(way.height, 67.7191500875, atol=0.1)
    np.testing.assert_allclose(way.saddle.b, 2.88425470117, rtol=1e-9)


def test_a_cell_will_do_as_a_place():
    lowest = SURFACE.lowest
    assert isinstance(lowest, Cell)
    assert jxs.topology.minimax_path(SURFACE, lowest, (3.58, -1.85)).height > 13


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ((9.0, 0.0), ValueError, "start: expected w1 from -5 to 5, got 9"),
        ((0.0, np.nan), ValueError, "start: expected w2 from -5 to 5, got nan"),
        ("here", TypeError, "start: expected a CriticalPoint, a Cell or"),
        (3.0, TypeError, "start: expected a CriticalPoint, a Cell or"),
    ],
)
def test_places_beyond_the_grid_are_refused(place, error, message):
    with pytest.raises(error, match=message):
        jxs.topology.minimax_path(SURFACE, place, (0.0, 0.0))
    with pytest.raises(TypeError, match="landscape: expected a Landscape"):
        jxs.topology.minimax_path(3, (0.0, 0.0), (0.0, 0.0))
