"""Figures of losses along lines hold what was computed."""

import dataclasses

import numpy as np
import pytest

from jaxscape.connectivity.lines import Lines
from jaxscape.plot.lines import lines

T = np.linspace(-1, 1, 7)


def of(count, name="directions", connects=False):
    losses = np.random.default_rng(count).normal(3, 1, (count, 7)).astype(np.float32)
    return Lines(losses, T + connects, "squared error", name, connects)


def by_name(figure):
    return {trace.name: trace for trace in figure.data}


def test_many_lines_are_drawn_with_mean_and_band():
    found = of(5)
    band, thin, mean = lines(found).data
    assert (band.name, thin.name, mean.name) == ("80 % of directions", None, "mean of directions")
    np.testing.assert_allclose(np.reshape(thin.y, (5, 8))[:, :7], found.loss)
    np.testing.assert_array_equal(np.reshape(thin.x, (5, 8))[:, :7], np.tile(T, (5, 1)))
    assert np.isnan(np.reshape(thin.y, (5, 8))[:, 7]).all()
    np.testing.assert_allclose(mean.y, np.mean(found.loss, axis=0), rtol=1e-6)
    low, high = found.quantiles((0.1, 0.9))
    np.testing.assert_allclose(band.y[:14], [*high, *low[::-1]])
    np.testing.assert_allclose(band.x[:14], [*T, *T[::-1]])
    figure = lines(found)
    assert figure.layout.xaxis.title.text == "t"
    assert figure.layout.yaxis.title.text == "squared error"


def test_a_single_line_is_a_line_with_its_solutions():
    found = dataclasses.replace(of(1, "straight line", True), t=np.linspace(-0.5, 1, 7))
    line, solutions = lines(found).data
    assert line.name == f"straight line, barrier {found.barrier:.4g}"
    np.testing.assert_allclose(line.y, found.loss[0])
    np.testing.assert_array_equal(solutions.x, [0, 1])
    np.testing.assert_allclose(solutions.y, found.loss[0, [2, 6]])
    (line,) = lines(of(1)).data
    assert line.name == "directions"


def test_several_are_told_apart_and_share_their_solutions():
    straight, curve = (
        Lines(np.array([[1, k, 2.0]]), np.array([0, 0.5, 1]), "loss", name, True)
        for name, k in (("straight line", 5), ("Bézier curve", 1.5))
    )
    figure = lines(straight, curve, of(3), of(4))
    named = by_name(figure)
    assert [*named] == [
        "80 % of directions (1)",
        "80 % of directions (2)",
        None,
        "straight line, barrier 3.5",
        "Bézier curve, barrier 0",
        "mean of directions (1)",
        "mean of directions (2)",
        "solutions",
    ]
    assert len(named["solutions"].x) == 2
    colors = {trace.line.color for trace in figure.data if trace.line.width == 3.5}
    assert len(colors) == 4
    assert figure.layout.yaxis.title.text == "loss / squared error"


def test_what_is_not_finite_is_a_gap_and_counted():
    found = of(4)
    found.loss[1, 3], found.loss[2, 6] = np.nan, np.inf
    band, thin, mean = lines(found).data
    np.testing.assert_array_equal(np.isnan(mean.y), [False] * 3 + [True] + [False] * 2 + [True])
    assert np.isnan(np.reshape(thin.y, (4, 8))[2, 6])
    # Two polygons, each closed: three values there and back, and two.
    assert np.isnan(band.y).nonzero()[0].tolist() == [6, 11]
    note = "2 of 28 losses of directions are not finite"
    assert lines(found).layout.title.subtitle.text == note
    assert lines(found).layout.meta["notes"] == [note]


def test_of_very_many_lines_400_are_drawn():
    figure = lines(of(1000), dark=True)
    assert len(figure.data[1].y) == 400 * 8
    assert figure.layout.meta["notes"] == ["400 of directions as thin lines"]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="lines: expected at least one, got none"):
        lines()
    with pytest.raises(TypeError, match="lines: expected Lines, got int"):
        lines(of(3), 3)
    nothing = Lines(np.full((1, 7), np.nan), T, "loss", "line")
    with pytest.raises(
        ValueError, match="lines: expected a finite loss to draw, got none in Lines"
    ):
        lines(nothing)
