"""Figures of what descents do hold what was measured."""

import itertools

import jax
import numpy as np
import optax
import pytest

import jaxscape as jxs
from tests.training.test_descend import make_data
from tests.training.test_run import INJECTED, STARTS

NINE = np.linspace(-2, 2, 9)
STUDENT = jxs.Dataset(NINE, 0.8 * np.tanh(1.5 * NINE))
SGD = optax.sgd(0.3)


@pytest.fixture(scope="module")
def found():
    return jxs.basins(jxs.squared_error, STUDENT, optimizer=SGD, w1=(-3, 3, 21), w2=(-2, 2, 17))


@pytest.fixture(scope="module")
def runs():
    return jxs.descend(
        jxs.squared_error,
        jxs.Weights(-0.4, 1.3),
        make_data(),
        optimizer=optax.sgd(0.05),
        epochs=4,
        batch_size=10,
        key=jax.random.split(jax.random.key(0), 7),
    )


@pytest.fixture(scope="module")
def surface():
    return jxs.landscape(jxs.squared_error, make_data(), w1=(-2, 2, 21), w2=(-1, 2, 17))


def test_the_image_of_basins_is_the_label_with_the_steps_as_shade(found):
    figure = jxs.plot.basins(found)
    image = figure.data[0]
    assert image.z.shape == (17, 21)
    np.testing.assert_array_equal(np.floor(image.z).astype(int), found.label.T)
    shade = (image.z - found.label.T)[found.label.T == 0]
    steps = found.steps.T[found.label.T == 0]
    assert (np.diff(shade[np.argsort(steps)]) > -1e-6).all()
    assert np.ptp(shade) > 0.1
    assert image.text[3, 2] == found.limits[found.label[2, 3]].kind
    assert tuple(image.customdata[3, 2]) == (found.steps[2, 3], found.loss[2, 3])
    stars = {trace.name: (trace.x[0], trace.y[0]) for trace in figure.data[1:]}
    assert len(stars) == 3
    first = next(place for name, place in stars.items() if name.startswith("minimum at (-1.5"))
    np.testing.assert_allclose(first, (-1.5, -0.8), rtol=1e-4)
    assert len({trace.marker.color for trace in figure.data[1:]}) == 3


def test_paths_lie_over_their_basins(found):
    path = jxs.descend(jxs.squared_error, jxs.Weights(-1.0, 1.5), STUDENT, optimizer=SGD, epochs=50)
    figure = jxs.plot.basins(found, path)
    way = next(trace for trace in figure.data[1:] if trace.mode == "lines")
    np.testing.assert_allclose(way.x[:9], path.params.w1[:9])
    assert len(figure.data) > len(jxs.plot.basins(found).data)


def test_limits_without_a_place_are_in_the_legend_only(found):
    short = jxs.basins(
        jxs.squared_error, STUDENT, optimizer=SGD, steps=1, w1=(-3, 3, 4), w2=(-2, 2, 5)
    )
    figure = jxs.plot.basins(short)
    assert figure.data[1].name == "unfinished: 100 % of starts"
    assert np.isnan(figure.data[1].x[0])
    assert figure.data[1].marker.symbol == "square"


def test_many_limits_are_counted_and_not_all_listed(found):
    limits = tuple(
        jxs.Limit("valley", None, float(k), None, starts)
        for k, starts in enumerate(range(20, 0, -1))
    )
    label = np.arange(21 * 17).reshape(21, 17) % 20
    many = jxs.Basins(label, found.steps, found.loss, found.a, found.b, limits, "loss")
    figure = jxs.plot.basins(many)
    assert len(figure.data) == 1 + 8
    assert "and 12 limits more" in figure.layout.title.subtitle.text


def test_basins_side_by_side_differ_in_color():
    """Nine limits and seven colors: a stripe each, the eighth beside the first."""
    label = np.tile(np.array([0, 7, 1, 2, 3, 4, 5, 6, 8, 0]), (4, 1))
    limits = tuple(jxs.Limit("minimum", None, float(k), None, 1) for k in range(9))
    a, b = jxs.Axis(np.arange(4.0), "a"), jxs.Axis(np.arange(10.0), "b")
    flat = np.zeros(label.shape)
    figure = jxs.plot.basins(jxs.Basins(label, flat.astype(int), flat, a, b, limits, "loss"))
    scale = [color for _, color in figure.data[0].colorscale[::2]]
    assert len(set(scale[:7])) == 7
    assert all(scale[one] != scale[other] for one, other in itertools.pairwise(label[0]))


def test_the_fan_is_the_quantiles_of_the_runs(runs):
    outer, inner, median = jxs.plot.fan(runs).data
    np.testing.assert_allclose(median.y, np.median(runs.loss, axis=0))
    np.testing.assert_allclose(outer.y[:5], np.percentile(runs.loss, 95, axis=0))
    np.testing.assert_allclose(outer.y[5:], np.percentile(runs.loss, 5, axis=0)[::-1])
    np.testing.assert_allclose(inner.y[:5], np.percentile(runs.loss, 75, axis=0))
    np.testing.assert_array_equal(median.x, runs.epoch)


def test_diverged_runs_are_left_out_of_the_fan_and_counted():
    rates = {"learning_rate": np.array([0.01, 1e20, 0.02])}
    found = jxs.descend(
        jxs.squared_error,
        jxs.Weights(-0.4, 1.3),
        make_data(),
        optimizer=INJECTED,
        hyperparameters=rates,
        epochs=4,
    )
    assert found.diverged.tolist() == [False, True, False]
    figure = jxs.plot.fan(found)
    assert figure.layout.title.subtitle.text == "1 of 3 runs diverged and are left out"
    np.testing.assert_allclose(figure.data[2].y, found.loss[[0, 2]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.median.loss, found.loss[[0, 2]].mean(axis=0), rtol=1e-6)
    assert found.median.name == "median of 2 runs"


def test_many_descents_are_thin_lines_with_their_median(runs, surface):
    figure = jxs.plot.contour(surface, runs)
    thin = next(trace for trace in figure.data if trace.opacity == 0.55)
    np.testing.assert_allclose(thin.x.reshape(7, 6)[:, :5], runs.params.w1)
    assert np.isnan(thin.y.reshape(7, 6)[:, 5]).all()
    median = next(trace for trace in figure.data if (trace.name or "").startswith("median of 7"))
    np.testing.assert_allclose(median.x, np.median(runs.params.w1, axis=0))


def test_very_many_descents_are_thinned_and_it_is_said(surface):
    starts = jax.tree.map(lambda leaf: np.resize(leaf, 500), STARTS)
    many = jxs.descend(
        jxs.squared_error, starts, make_data(), runs=500, optimizer=optax.sgd(0.01), epochs=1
    )
    figure = jxs.plot.contour(surface, many)
    assert "400 of 500 descents as thin lines" in figure.layout.meta["notes"]


def test_a_turning_surface_takes_single_descents_only(runs, surface):
    with pytest.raises(TypeError, match="paths: expected Trajectory objects, got Descents"):
        jxs.plot.surface(surface, runs)


def test_steps_are_drawn_with_the_learning_rate_and_the_grid(surface):
    decay = optax.inject_hyperparams(optax.sgd)(optax.cosine_decay_schedule(0.05, 44))
    paths = jxs.descend(
        jxs.squared_error,
        jxs.Weights(-0.4, 1.3),
        make_data(),
        optimizer={"plain": optax.sgd(0.05), "cosine": decay},
        epochs=4,
        batch_size=10,
        record="step",
    )
    figure = jxs.plot.steps(*paths.values(), landscape=surface)
    by_name = {trace.name: trace for trace in figure.data}
    np.testing.assert_allclose(by_name["plain, length of the step"].y, paths["plain"].step_size[1:])
    np.testing.assert_allclose(
        by_name["cosine, learning rate"].y, paths["cosine"].learning_rate[1:]
    )
    assert "plain, learning rate" not in by_name
    # Schedules shrink steps far below a cell of the grid, here 4 / 20 and 3 / 16.
    assert by_name["a cell of the grid, 0.188"].y[0] == pytest.approx(3 / 16, rel=1e-5)
    assert by_name["cosine, length of the step"].y[-1] < 1e-3 < 3 / 16


def test_step_sizes_of_many_decades_have_few_ticks():
    path = jxs.descend(
        lambda x, _: 5 * x**2, 1.0, np.ones(2, np.float32), optimizer=optax.sgd(0.05), epochs=60,
        record="step",
    )  # fmt: skip
    figure = jxs.plot.steps(path)
    decades = np.ptp(np.log10(path.step_size[1:]))
    assert 10 < decades < 6 * figure.layout.yaxis.dtick + 1


@pytest.mark.parametrize("learning_rate", [0.002, 0.01, 0.02])
def test_step_sizes_within_a_decade_have_ticks(learning_rate):
    """Plotly marks powers of ten alone, of which there may be none, or leaves the power out."""
    path = jxs.descend(
        lambda x, _: 5 * x**2, 0.7, np.ones(2, np.float32), optimizer=optax.sgd(learning_rate),
        epochs=9, record="step",
    )  # fmt: skip
    axis = jxs.plot.steps(path).layout.yaxis
    assert len(axis.ticktext) > 1
    np.testing.assert_allclose(axis.tickvals, [float(text) for text in axis.ticktext])
    assert (
        path.step_size[1:].min() <= min(axis.tickvals) < max(axis.tickvals) <= path.step_size.max()
    )


def test_a_threshold_without_bound_leaves_sharpness_its_range(x64):
    steps = np.arange(3)
    found = jxs.curvature.Stability(
        steps, np.array([3.0, 5, 4]), np.zeros(3), np.array([8, 1e9, np.inf]), np.ones(3),
        np.zeros(3),
    )  # fmt: skip
    low, high = jxs.plot.stability(found).layout.yaxis.range
    assert low < 0 < 8 < high < 10
    far = found._replace(sharpness=np.array([-3.0, np.nan, 40]), threshold=None)
    low, high = jxs.plot.stability(far).layout.yaxis.range
    assert -10 < low < -3 < 40 < high < 50


def test_stability_has_its_threshold(x64):
    path = jxs.descend(
        lambda x, _: x**4 - x, 1.5, np.ones(3), optimizer=INJECTED, epochs=5,
        hyperparameters={"learning_rate": 0.02},
    )  # fmt: skip
    along = jxs.curvature.edge_of_stability(lambda x, _: x**4 - x, path, np.ones(3))
    figure = jxs.plot.stability(along)
    by_name = {trace.name: trace for trace in figure.data}
    np.testing.assert_allclose(by_name["sharpness"].y, 12 * np.asarray(path.params) ** 2)
    np.testing.assert_allclose(by_name["2 / learning rate"].y, 100)
    assert len(by_name) == 4


def test_trainability_is_on_a_log_scale_with_holes():
    loss = np.array([[1e-3, np.nan], [1.0, 100.0], [0.0, 10.0]], np.float32)
    axes = jxs.Axis(np.arange(3.0), "rate"), jxs.Axis(np.arange(2.0), "momentum")
    surface = jxs.Landscape(loss, *axes, loss_name="loss after 3 epochs", method="dense")
    figure = jxs.plot.trainability(surface)
    image = figure.data[0]
    assert image.z.shape == (2, 3)
    np.testing.assert_allclose(image.z[0, :2], [-3, 0], atol=1e-6)
    np.testing.assert_allclose(image.z[1, 1:], [2, 1], atol=1e-6)
    assert np.isnan(image.z[1, 0])
    assert image.customdata[0, 2] == 0
    assert np.isfinite(image.z[0, 2])
    assert "1 of 6 cells are not finite" in figure.layout.title.subtitle.text


def test_hyperparameters_that_grow_by_a_factor_have_a_log_axis():
    """As learning rates do, most of which would lie on the edge of a linear axis."""
    rates, others = np.geomspace(1e-3, 1, 5), np.array([1e-3, 1e-2, 0.2, 0.3])
    for values in (rates, rates.astype(np.float32)):
        axes = jxs.Axis(values, "rate"), jxs.Axis(others, "momentum")
        surface = jxs.Landscape(np.ones((5, 4)), *axes, loss_name="loss", method="dense")
        layout = jxs.plot.trainability(surface).layout
        assert layout.xaxis.type == "log"
        np.testing.assert_allclose(layout.xaxis.range, [-3, 0], atol=1e-6)
        assert layout.yaxis.type is None
        assert layout.yaxis.range == (1e-3, 0.3)


def test_bad_arguments_are_refused(runs, surface):
    with pytest.raises(TypeError, match="found: expected Basins, got Landscape"):
        jxs.plot.basins(surface)
    with pytest.raises(TypeError, match="descents: expected Descents, got Trajectory"):
        jxs.plot.fan(runs[0])
    with pytest.raises(TypeError, match="found: expected Stability"):
        jxs.plot.stability(runs)
    with pytest.raises(ValueError, match="paths: expected at least one"):
        jxs.plot.steps()
    with pytest.raises(TypeError, match="paths: expected Trajectory objects, got Descents"):
        jxs.plot.steps(runs)
    lower = jxs.Landscape(surface.loss - 100, surface.a, surface.b, "loss", "dense")
    with pytest.raises(ValueError, match="surface: expected losses of 0 or more"):
        jxs.plot.trainability(lower)
