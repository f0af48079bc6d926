"""3-D scenes: isolated cells, camera, and notes."""

import numpy as np
import plotly.graph_objects as go
import pytest

import jaxscape as jxs
from jaxscape.plot.parts import scene
from jaxscape.plot.parts.scale import common_scale
from tests.plot.helpers import make_landscape


def test_isolated_cells_are_those_without_a_finite_square():
    rng = np.random.default_rng(0)
    a, b = np.linspace(0, 1, 9), np.linspace(2, 5, 7)
    heights = rng.normal(size=(9, 7))
    heights[rng.random((9, 7)) < 0.4] = np.nan
    finite = np.isfinite(heights)
    expected = [
        (a[i], b[j], heights[i, j])
        for i, j in np.argwhere(finite)
        if not any(
            finite[k : k + 2, m : m + 2].all()
            for k in (i - 1, i)
            for m in (j - 1, j)
            if 0 <= k < 8 and 0 <= m < 6
        )
    ]
    assert expected
    for coordinates in ((a, b), np.meshgrid(a, b, indexing="ij")):
        figure = go.Figure(go.Surface(x=a, y=b, z=heights.T))
        notes = scene.add_isolated_cells(figure, *coordinates, heights, heights, (-1, 1), None)
        points = figure.data[1]
        np.testing.assert_array_equal(np.transpose([points.x, points.y, points.z]), expected)
        assert notes == [f"{len(expected)} isolated finite cells are drawn as points"]


def test_a_complete_surface_has_no_isolated_cells():
    a, b = np.arange(4.0), np.arange(3.0)
    heights = np.add.outer(a, b)
    figure = go.Figure(go.Surface(x=a, y=b, z=heights.T))
    assert scene.add_isolated_cells(figure, a, b, heights, heights, (0, 1), None) == []
    assert len(figure.data) == 1


def test_the_camera_stands_on_the_side_of_the_wall_where_the_polyline_is():
    a, b = np.linspace(-1, 1, 41), np.linspace(0, 3, 31)
    wall = 5 * np.exp(-40 * a**2)[:, None] + 0 * b
    for side in (1, -1):
        polyline = np.column_stack([np.full(9, 0.4 * side), np.linspace(1, 2, 9), np.zeros(9)])
        camera = scene.choose_camera(a, b, wall, [polyline, np.empty((0, 3))])
        assert side * camera["eye"]["x"] > 0.3


def test_the_distance_of_the_camera_is_multiplied():
    a, b = np.arange(4.0), np.arange(3.0)
    eyes = [
        scene.choose_camera(a, b, np.add.outer(a, b), [], factor)["eye"] for factor in (1.0, 1.5)
    ]
    for axis in "xyz":
        assert eyes[1][axis] == pytest.approx(1.5 * eyes[0][axis])


def test_units_are_in_a_note():
    axes = jxs.Axis(np.arange(2.0), "s", "mm"), jxs.Axis(np.arange(2.0), "t")
    landscape = jxs.Landscape(np.ones((2, 2)), *axes, "loss", "dense")
    assert scene.unit_notes(landscape) == ["axes: s (mm)"]
    assert scene.unit_notes(make_landscape()) == []


@pytest.mark.parametrize(("spread", "count"), [(0.0, 0), (1e-7, 1), (1e-4, 0)])
def test_heights_that_float32_distorts_are_noted(spread, count):
    landscape = make_landscape(function=lambda a, b: 7e5 * (1 + spread * (a + b) / 7))
    assert len(scene.precision_notes(common_scale([landscape]))) == count
