"""The figures of basins of attraction and of the loss after training."""

import itertools

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
from tests.plot.helpers import make_landscape, make_path

A, B = jxs.Axis(np.linspace(-3, 3, 21), "w1"), jxs.Axis(np.linspace(-2, 2, 17), "w2")
LIMITS = (
    jxs.Limit("minimum", jxs.Weights(1.5, 0.8), 0.1, None, 130),
    jxs.Limit("minimum", jxs.Weights(-1.5, -0.8), 0.1, None, 120),
    jxs.Limit("unfinished", None, np.nan, None, 107),
)


def make_basins(limits=LIMITS, label=None, a=A, b=B):
    """Return basins with labels, steps and losses that are no multiples of each other."""
    cells = np.arange(len(a) * len(b)).reshape(len(a), len(b))
    label = cells * 7 % len(limits) if label is None else label
    steps = cells * 13 % 311
    return jxs.Basins(label, steps, cells / 1000, a, b, limits, "squared error")


def test_the_integer_part_is_the_limit_and_the_fraction_grows_with_the_steps():
    basins = make_basins()
    image = plot.basins(basins).data[0]
    assert image.z.shape == (17, 21)
    np.testing.assert_array_equal(np.floor(image.z).astype(int), basins.label.T)
    shade = (image.z - basins.label.T)[basins.label.T == 0]
    steps = basins.steps.T[basins.label.T == 0]
    assert (np.diff(shade[np.argsort(steps)]) > -1e-6).all()
    assert np.ptp(shade) > 0.1
    assert image.text[3, 2] == LIMITS[basins.label[2, 3]].kind
    assert tuple(image.customdata[3, 2]) == (basins.steps[2, 3], basins.loss[2, 3])


def test_limits_are_marked_at_their_coordinates_in_colors_of_their_own():
    first, second, unfinished = plot.basins(make_basins()).data[1:]
    assert first.name == "minimum at (1.5, 0.8), loss 0.1: 36.4 % of starts"
    assert (first.x[0], first.y[0]) == (1.5, 0.8)
    assert (second.x[0], second.y[0]) == (-1.5, -0.8)
    assert (first.marker.symbol, unfinished.marker.symbol) == ("star", "square")
    assert len({trace.marker.color for trace in (first, second, unfinished)}) == 3


@pytest.mark.parametrize("params", [None, np.ones(3), {"w1": 1.0}, {"w1": np.ones(2), "w2": 1.0}])
def test_limits_without_coordinates_are_only_in_the_legend(params):
    limits = (jxs.Limit("unfinished", params, np.nan, None, 357),)
    _, limit = plot.basins(make_basins(limits)).data
    assert limit.name == "unfinished: 100 % of starts"
    assert np.isnan(limit.x[0])
    assert limit.marker.symbol == "square"


def test_paths_are_drawn_over_their_basins():
    path = make_path(np.linspace(-1, 1.5, 9), np.linspace(1.5, 0.8, 9))
    figure = plot.basins(make_basins(), path)
    line = next(trace for trace in figure.data[1:] if trace.mode == "lines")
    np.testing.assert_allclose(line.x, path.params.w1)
    np.testing.assert_allclose(line.y, path.params.w2)


def test_the_legend_lists_the_eight_limits_with_most_starts():
    limits = tuple(jxs.Limit("valley", None, float(k), None, 20 - abs(9 - k)) for k in range(20))
    figure = plot.basins(make_basins(limits))
    losses = [trace.name.split(":")[0] for trace in figure.data[1:]]
    assert losses == [f"valley, loss {k}" for k in range(5, 13)]
    assert "12 more limits with fewer starts" in figure.layout.title.subtitle.text


def test_neighboring_basins_differ_in_color():
    """Nine limits and seven colors: one stripe each, and the eighth limit next to the first."""
    label = np.tile(np.array([0, 7, 1, 2, 3, 4, 5, 6, 8, 0]), (4, 1))
    limits = tuple(jxs.Limit("minimum", None, float(k), None, 1) for k in range(9))
    a, b = jxs.Axis(np.arange(4.0), "a"), jxs.Axis(np.arange(10.0), "b")
    figure = plot.basins(make_basins(limits, label, a, b))
    scale = [color for _, color in figure.data[0].colorscale[::2]]
    assert len(set(scale[:7])) == 7
    assert all(scale[one] != scale[other] for one, other in itertools.pairwise(label[0]))


def test_the_loss_after_training_is_on_a_log_scale_with_holes():
    loss = np.array([[1e-3, np.nan], [1.0, 100.0], [0.0, 10.0]], np.float32)
    axes = jxs.Axis(np.arange(3.0), "rate"), jxs.Axis(np.arange(2.0), "momentum")
    figure = plot.trainability(jxs.Landscape(loss, *axes, "loss after 3 epochs", "dense"))
    image = figure.data[0]
    assert image.z.shape == (2, 3)
    np.testing.assert_allclose(image.z[0, :2], [-3, 0], atol=1e-6)
    np.testing.assert_allclose(image.z[1, 1:], [2, 1], atol=1e-6)
    assert np.isnan(image.z[1, 0])
    assert image.customdata[0, 2] == 0
    assert np.isfinite(image.z[0, 2])
    assert "1 of 6 cells are not finite" in figure.layout.title.subtitle.text


def test_hyperparameters_with_a_constant_ratio_have_a_log_axis():
    """On a linear axis, most learning rates would be at the left edge."""
    rates, others = np.geomspace(1e-3, 1, 5), np.array([1e-3, 1e-2, 0.2, 0.3])
    for values in (rates, rates.astype(np.float32)):
        axes = jxs.Axis(values, "rate"), jxs.Axis(others, "momentum")
        landscape = jxs.Landscape(np.ones((5, 4)), *axes, loss_name="loss", method="dense")
        layout = plot.trainability(landscape).layout
        assert layout.xaxis.type == "log"
        np.testing.assert_allclose(layout.xaxis.range, [-3, 0], atol=1e-6)
        assert layout.yaxis.type is None
        assert layout.yaxis.range == (1e-3, 0.3)


def test_bad_arguments_raise():
    landscape = make_landscape()
    with pytest.raises(TypeError, match="basins: expected Basins, got Landscape"):
        plot.basins(landscape)
    negative = jxs.Landscape(landscape.loss - 100, landscape.a, landscape.b, "loss", "dense")
    with pytest.raises(ValueError, match="landscape: expected losses of 0 or more"):
        plot.trainability(negative)
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got Basins"):
        plot.trainability(make_basins())
