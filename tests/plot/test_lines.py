"""Figures of losses along lines show the losses, their mean and their quantiles."""

import dataclasses

import numpy as np
import pytest

from jaxscape.connectivity.lines import Lines
from jaxscape.plot.lines import lines

T = np.linspace(-1, 1, 7)


def make_lines(count, name="directions", connects=False):
    """Return random losses along lines for t from -1 to 1, or from 0 to 2 if they connect."""
    losses = np.random.default_rng(count).normal(3, 1, (count, 7)).astype(np.float32)
    return Lines(losses, T + connects, "squared error", name, connects)


def test_several_lines_are_drawn_with_their_mean_and_quantiles():
    group = make_lines(5)
    area, thin, mean = lines(group).data
    assert (area.name, thin.name, mean.name) == ("80 % of directions", None, "mean of directions")
    np.testing.assert_allclose(np.reshape(thin.y, (5, 8))[:, :7], group.loss)
    np.testing.assert_array_equal(np.reshape(thin.x, (5, 8))[:, :7], np.tile(T, (5, 1)))
    assert np.isnan(np.reshape(thin.y, (5, 8))[:, 7]).all()
    np.testing.assert_allclose(mean.y, np.mean(group.loss, axis=0), rtol=1e-6)
    low, high = group.quantiles((0.1, 0.9))
    np.testing.assert_allclose(area.y[:14], [*high, *low[::-1]])
    np.testing.assert_allclose(area.x[:14], [*T, *T[::-1]])
    figure = lines(group)
    assert figure.layout.xaxis.title.text == "t"
    assert figure.layout.yaxis.title.text == "squared error"


def test_a_single_line_is_drawn_with_its_solutions():
    group = dataclasses.replace(make_lines(1, "straight line", True), t=np.linspace(-0.5, 1, 7))
    line, solutions = lines(group).data
    assert line.name == f"straight line, barrier {group.barrier:.4g}"
    np.testing.assert_allclose(line.y, group.loss[0])
    np.testing.assert_array_equal(solutions.x, [0, 1])
    np.testing.assert_allclose(solutions.y, group.loss[0, [2, 6]])
    (line,) = lines(make_lines(1)).data
    assert line.name == "directions"


def test_groups_differ_in_name_and_color_and_share_their_solutions():
    straight, curve = (
        Lines(np.array([[1, k, 2.0]]), np.array([0, 0.5, 1]), "loss", name, True)
        for name, k in (("straight line", 5), ("Bézier curve", 1.5))
    )
    figure = lines(straight, curve, make_lines(3), make_lines(4))
    by_name = {trace.name: trace for trace in figure.data}
    assert [*by_name] == [
        "80 % of directions (1)",
        "80 % of directions (2)",
        None,
        "straight line, barrier 3.5",
        "Bézier curve, barrier 0",
        "mean of directions (1)",
        "mean of directions (2)",
        "solutions",
    ]
    assert len(by_name["solutions"].x) == 2
    colors = {trace.line.color for trace in figure.data if trace.line.width == 3.5}
    assert len(colors) == 4
    assert figure.layout.yaxis.title.text == "loss / squared error"


def test_losses_that_are_not_finite_are_gaps_and_counted():
    group = make_lines(4)
    group.loss[1, 3], group.loss[2, 6] = np.nan, np.inf
    area, thin, mean = lines(group).data
    np.testing.assert_array_equal(np.isnan(mean.y), [False] * 3 + [True] + [False] * 2 + [True])
    assert np.isnan(np.reshape(thin.y, (4, 8))[2, 6])
    # Two closed polygons, around three and around two values of t.
    assert np.isnan(area.y).nonzero()[0].tolist() == [6, 11]
    note = "2 of 28 losses of directions are not finite"
    assert lines(group).layout.title.subtitle.text == note
    assert lines(group).layout.meta["notes"] == [note]


def test_at_most_400_lines_are_drawn_and_a_note_says_so():
    figure = lines(make_lines(1000), dark=True)
    assert len(figure.data[1].y) == 400 * 8
    assert figure.layout.meta["notes"] == ["directions: 400 of 1000 lines are drawn"]


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match="lines: expected at least one, got none"):
        lines()
    with pytest.raises(TypeError, match="lines: expected Lines, got int"):
        lines(make_lines(3), 3)
    not_finite = Lines(np.full((1, 7), np.nan), T, "loss", "line")
    with pytest.raises(
        ValueError, match="lines: expected a finite loss to draw, got none in Lines"
    ):
        lines(not_finite)
