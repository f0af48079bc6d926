"""The figures of many runs, of step sizes, of stability and of a valley's profile."""

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.critical.points import CriticalPoint, CriticalPoints
from jaxscape.curvature import Stability
from jaxscape.topology import Valley
from tests.plot.helpers import make_descents, make_landscape

STEP = np.arange(12)


def make_steps(name, step_size, learning_rate=None):
    """Return a path with these step sizes, recorded at every step."""
    count = len(step_size)
    return jxs.Trajectory(
        jxs.Weights(np.zeros(count), np.zeros(count)),
        step=np.arange(count),
        training_loss=np.ones(count),
        evaluation_loss=None,
        diverged_step=np.int32(-1),
        steps_per_epoch=4,
        step_size=np.array(step_size, float),
        learning_rate=learning_rate,
        name=name,
    )


def test_the_fan_is_the_quantiles_of_the_runs():
    runs = make_descents(7)
    outer, inner, median = plot.fan(runs).data
    np.testing.assert_allclose(median.y, np.median(runs.loss, axis=0))
    np.testing.assert_allclose(outer.y[:5], np.percentile(runs.loss, 95, axis=0))
    np.testing.assert_allclose(outer.y[5:], np.percentile(runs.loss, 5, axis=0)[::-1])
    np.testing.assert_allclose(inner.y[:5], np.percentile(runs.loss, 75, axis=0))
    np.testing.assert_allclose(inner.y[5:], np.percentile(runs.loss, 25, axis=0)[::-1])
    np.testing.assert_array_equal(median.x, runs.epoch)


def test_diverged_runs_are_left_out_of_the_fan_and_counted():
    runs = make_descents(3, diverged=[1])
    assert runs.diverged.tolist() == [False, True, False]
    figure = plot.fan(runs)
    assert figure.layout.title.subtitle.text == "1 of 3 runs diverged and are left out"
    np.testing.assert_allclose(figure.data[2].y, runs.loss[[0, 2]].mean(axis=0))
    assert figure.data[2].name == "median of 2 runs"
    np.testing.assert_allclose(runs.median.loss, runs.loss[[0, 2]].mean(axis=0))
    assert runs.median.name == "median of 2 runs"
    with pytest.raises(ValueError, match="descents: expected a run that has not diverged"):
        plot.fan(make_descents(3, diverged=[0, 1, 2]))


def test_step_lengths_are_drawn_with_learning_rates_and_the_grid_spacing():
    plain = make_steps("plain", 0.3 / (1 + STEP))
    cosine = make_steps("cosine", 0.2 * np.exp(-STEP), 0.05 * np.cos(STEP / 8) ** 2)
    landscape = make_landscape(21, 17)
    figure = plot.steps(plain, cosine, landscape=landscape)
    by_name = {trace.name: trace for trace in figure.data}
    np.testing.assert_array_equal(by_name["plain, length of the step"].x, STEP[1:])
    np.testing.assert_allclose(by_name["plain, length of the step"].y, plain.step_size[1:])
    np.testing.assert_allclose(by_name["cosine, learning rate"].y, cosine.learning_rate[1:])
    assert "plain, learning rate" not in by_name
    # w1 is 3 long in 20 cells, w2 is 4 long in 16.
    assert by_name["grid spacing, 0.15"].y[0] == pytest.approx(3 / 20)
    assert by_name["cosine, length of the step"].y[-1] < 1e-5


def test_steps_of_length_0_are_gaps_on_the_log_scale():
    [trace] = plot.steps(make_steps("", [0, 0.1, 0, 0.2])).data
    np.testing.assert_array_equal(trace.y, [0.1, np.nan, 0.2])


def test_step_lengths_over_many_decades_have_few_ticks():
    sizes = 10.0 ** -np.linspace(0, 24, 60)
    axis = plot.steps(make_steps("", sizes)).layout.yaxis
    decades = np.ptp(np.log10(sizes[1:]))
    assert 20 < decades < 6 * axis.dtick + 1


@pytest.mark.parametrize("factor", [1, 0.62, 0.031])
@pytest.mark.parametrize("last", [0.9, 0.4, 0.11])
def test_step_lengths_within_one_decade_have_ticks(factor, last):
    """Plotly's own ticks are powers of ten, of which there may be none, or omit the power."""
    sizes = factor * np.linspace(1, last, 10)
    axis = plot.steps(make_steps("", sizes)).layout.yaxis
    assert len(axis.ticktext) > 1
    np.testing.assert_allclose(axis.tickvals, [float(text) for text in axis.ticktext])
    assert sizes[1:].min() <= min(axis.tickvals) < max(axis.tickvals) <= sizes[1:].max()


def make_stability(sharpness, threshold):
    zeros = np.zeros(len(sharpness))
    return Stability(
        np.arange(len(sharpness)), np.array(sharpness), zeros, threshold, 1 + zeros, zeros
    )


def test_an_unbounded_threshold_does_not_flatten_the_sharpness():
    stability = make_stability([3.0, 5, 4], np.array([8, 1e9, np.inf]))
    low, high = plot.stability(stability).layout.yaxis.range
    assert low < 0 < 8 < high < 10
    stability = make_stability([-3.0, np.nan, 40], None)
    low, high = plot.stability(stability).layout.yaxis.range
    assert -10 < low < -3 < 40 < high < 50


def test_stability_is_drawn_over_the_steps_with_gaps():
    stability = make_stability([3.0, np.nan, 4], np.array([8.0, 9, 9]))._replace(
        gradient_norm=np.array([1.0, 0.5, 0.25]), angle=np.array([90.0, 20, np.inf])
    )
    by_name = {trace.name: trace for trace in plot.stability(stability).data}
    for name, values in (
        ("sharpness", [3, np.nan, 4]),
        ("2 / learning rate", [8, 9, 9]),
        ("gradient norm", [1, 0.5, 0.25]),
        ("step angle to −gradient", [90, 20, np.nan]),
    ):
        np.testing.assert_array_equal(by_name[name].y, values)
        np.testing.assert_array_equal(by_name[name].x, stability.step)
    assert len(by_name) == 4
    assert len(plot.stability(stability._replace(threshold=None)).data) == 3
    names = [trace.name for trace in plot.stability(stability._replace(factor=3.8)).data]
    assert "3.8 / learning rate" in names


def test_stability_of_adam_has_the_preconditioned_sharpness():
    stability = make_stability([3.0, 5, 4], None)._replace(
        factor=38.0,
        preconditioned_sharpness=np.array([100.0, 200, 300]),
        preconditioned_threshold=np.array([380.0, 380, 380]),
    )
    figure = plot.stability(stability)
    by_name = {trace.name: trace for trace in figure.data}
    np.testing.assert_array_equal(by_name["preconditioned sharpness"].y, [100, 200, 300])
    np.testing.assert_array_equal(by_name["38 / learning rate"].y, [380] * 3)
    assert "sharpness" not in by_name
    assert figure.layout.yaxis.range[1] > 380


W1 = np.linspace(0.5, 3, 26)
VALLEY = Valley(jxs.Axis(W1, "w1", "unit"), 2 / W1, (W1 - 1.5) ** 2 + 0.3, "w2", "squared error")


def make_critical_points():
    """Return a minimum and a saddle in the valley, two minima outside it, and limits."""
    points = [
        CriticalPoint(a, b, kind, loss, np.array([1.0, 2]), 0.0, 1, 0.1, True, False)
        for a, b, kind, loss in (
            (1.5, 4 / 3, "minimum", 0.3),
            (2.5, 0.8, "saddle", 1.3),
            (-1.5, -4 / 3, "minimum", 0.3),
            (0.7, 0.0, "minimum", 2.0),
        )
    ]
    box = ((-6.0, 6.0), (-5.0, 5.0))
    limits = {"w1_to_0": 0.9, "w1_to_infinity": 1.1}
    return CriticalPoints(tuple(points), ("w1", "w2"), box, "proved", 1, (), (), limits)


def test_the_profile_is_the_valley():
    loss, second = plot.profile(VALLEY).data
    np.testing.assert_array_equal(loss.x, W1)
    np.testing.assert_array_equal(loss.y, VALLEY.loss)
    np.testing.assert_array_equal(second.y, VALLEY.b)
    assert loss.yaxis != second.yaxis
    layout = plot.profile(VALLEY).layout
    assert layout.xaxis2.title.text == "w1 (unit)"
    assert (layout.yaxis.title.text, layout.yaxis2.title.text) == ("loss", "w2")


def test_the_profile_marks_the_critical_points_in_the_valley():
    data = plot.profile(VALLEY, make_critical_points()).data
    by_name = {(trace.name, trace.yaxis): trace for trace in data}
    above, below = by_name["minimum of the surface", "y"], by_name["minimum of the surface", "y2"]
    assert (above.x, above.y, below.x, below.y) == ((1.5,), (0.3,), (1.5,), (4 / 3,))
    saddle = by_name["saddle of the surface", "y"]
    assert (saddle.x, saddle.y) == ((2.5,), (1.3,))
    assert by_name["0.9 as w1 → 0", "y"].y == (0.9, 0.9)
    assert tuple(by_name["1.1 as w1 → ±∞", "y"].x) == (0.5, 3)


def test_a_second_coordinate_that_goes_to_infinity_does_not_flatten_the_rest():
    b = VALLEY.b.copy()
    b[12] = 1e6
    valley = Valley(VALLEY.a, b, VALLEY.loss, "w2", "loss")
    low, high = plot.profile(valley).layout.yaxis2.range
    assert low < 0.8
    assert 3 < high < 10


def test_bad_arguments_raise():
    runs, landscape = make_descents(3), make_landscape()
    with pytest.raises(TypeError, match="descents: expected Descents, got Trajectory"):
        plot.fan(runs[0])
    with pytest.raises(TypeError, match="stability: expected Stability, got Descents"):
        plot.stability(runs)
    with pytest.raises(ValueError, match="paths: expected at least one"):
        plot.steps()
    with pytest.raises(TypeError, match="paths: expected Trajectory objects, got Descents"):
        plot.steps(runs)
    with pytest.raises(TypeError, match="valley: expected a Valley, got Landscape"):
        plot.profile(landscape)
    with pytest.raises(TypeError, match="critical: expected CriticalPoints, got int"):
        plot.profile(VALLEY, 3)
