"""Layout that figures share."""

import numpy as np
import plotly.graph_objects as go
import pytest

import jaxscape as jxs
from jaxscape.plot.parts import layout
from tests.plot.helpers import make_landscape


def test_colors_are_mixed_with_black_and_white():
    assert layout.mix_color("#0072b2", 255, 0.5) == "rgb(128, 184, 216)"
    assert layout.mix_color("#0072b2", 0, 1) == "rgb(0, 0, 0)"
    assert layout.mix_color("#0072b2", 0, 0) == "rgb(0, 114, 178)"


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.linspace(0, 1, 9), np.float32),
        # The range is below the resolution of float32.
        (1e6 + np.linspace(0, 1e-3, 9), np.float64),
        # Overflow and subnormal numbers in float32.
        (np.array([1e39, 2e39]), np.float64),
        (np.array([1e-40, 2e-40]), np.float64),
        (np.array([np.nan, np.inf, 0.1]), np.float64),
        (np.array([np.nan, 0.1, 0.7]), np.float32),
    ],
)
def test_values_are_narrowed_if_the_rounding_is_invisible(values, dtype):
    narrowed = layout.narrow_dtype(values)
    assert narrowed.dtype == dtype
    np.testing.assert_allclose(narrowed, values, rtol=1e-7)


def test_only_landscapes_with_a_finite_loss_are_drawn():
    layout.check_drawable(make_landscape())
    with pytest.raises(TypeError, match="grid: expected a Landscape, got ndarray"):
        layout.check_drawable(np.ones((3, 3)), "grid")
    empty = make_landscape(3, 4, lambda a, b: a * np.nan)
    with pytest.raises(ValueError, match="landscape: .* at least one finite loss .* 3 × 4 cells"):
        layout.check_drawable(empty)


def test_nonfinite_cells_are_counted_and_the_first_is_located():
    assert layout.nonfinite_notes(make_landscape()) == []
    landscape = make_landscape()
    landscape.loss[2, 1], landscape.loss[4, 3] = np.inf, np.nan
    [note] = layout.nonfinite_notes(landscape)
    assert note == "2 of 35 cells are not finite, the first at w1 = -1, w2 = 1"


def test_axes_have_the_titles_and_ranges_of_the_grid():
    axes = jxs.Axis(np.array([0.0, 2, 3]), "s", "mm"), jxs.Axis(np.array([-1.0, 5]), "t")
    figure = go.Figure(go.Scatter(x=[1], y=[2]))
    layout.name_axes(figure, jxs.Landscape(np.ones((3, 2)), *axes, "loss", "dense"))
    x, y = figure.layout.xaxis, figure.layout.yaxis
    assert (x.title.text, x.range, x.title.font.size) == ("s (mm)", (0, 3), 15)
    assert (y.title.text, y.range, y.title.font.size) == ("t", (-1, 5), 18)


def test_notes_are_below_the_title_and_in_the_metadata():
    figure = go.Figure(go.Scatter(x=[1, 2], y=[2, 1], name="one", showlegend=True))
    layout.finish(figure, "Title", ["first", "second"], True, "head")
    assert figure.layout.title.text == "Title"
    assert figure.layout.title.subtitle.text == "head<br>first<br>second"
    assert figure.layout.meta == {"notes": ["first", "second"]}
    assert figure.layout.margin.t == 56 + 3 * 17
    assert figure.layout.showlegend


def test_moving_the_camera_back_keeps_its_direction():
    figure = go.Figure(layout_scene_camera_eye={"x": 1, "y": -2, "z": 0.5})
    layout.move_camera_back(figure, 1.5)
    eye = figure.layout.scene.camera.eye
    assert (eye.x, eye.y, eye.z) == (1.5, -3, 0.75)
