"""The animation of a path with the network's predictions."""

import io

import numpy as np
import pytest
from PIL import Image

import jaxscape as jxs
from jaxscape import plot
from jaxscape.training.predictions import Predictions
from tests.plot.helpers import make_landscape, make_path

# One point per epoch, from 0 to 7.
PATH = make_path(np.linspace(-1.6, 0.7, 8), np.linspace(3.2, 0.4, 8), stride=2)


def make_predictions(samples=40):
    """Return predictions w2·tanh(w1·x) along the path."""
    generator = np.random.default_rng(0)
    x = np.linspace(-2, 2, samples)
    data = jxs.Dataset(x, np.tanh(x) + generator.normal(0, 0.1, samples))
    inputs = np.linspace(-2.2, 2.2, 50)
    w1, w2 = (part[:, None] for part in PATH.params)
    return Predictions(PATH, data, inputs, w2 * np.tanh(w1 * inputs))


@pytest.mark.parametrize("kind", ["surface", "contour"])
def test_each_frame_shows_a_point_and_its_predictions(kind):
    predictions = make_predictions()
    figure = plot.fit(make_landscape(), predictions, kind=kind)
    assert [frame.name for frame in figure.frames] == [str(k) for k in range(8)]
    curve = len(figure.data) - 1
    [end] = [k for k, trace in enumerate(figure.data) if (trace.name or "").startswith("end")]
    for k, frame in enumerate(figure.frames):
        parts = dict(zip(frame.traces, frame.data, strict=True))
        for trace in (curve - 1, curve):
            np.testing.assert_allclose(parts[trace].y, predictions.y[k], rtol=1e-6)
        position = (parts[end].x[0], parts[end].y[0])
        np.testing.assert_allclose(position, [part[k] for part in PATH.params], rtol=1e-6)
    [points] = [trace for trace in figure.data if trace.legendgroup and trace.hovertemplate]
    assert figure.data[curve].line.color == points.marker.color
    [samples] = [trace for trace in figure.data if trace.name == "data"]
    np.testing.assert_array_equal(samples.x, predictions.data.x)
    np.testing.assert_array_equal(samples.y, predictions.data.y)


def test_predictions_far_from_the_data_do_not_flatten_it():
    predictions = make_predictions()
    low, high = predictions.data.y.min(), predictions.data.y.max()
    predictions.y[2, 3], predictions.y[3] = np.nan, 1e9
    bottom, top = plot.fit(make_landscape(), predictions).layout.yaxis2.range
    assert bottom < low < high < top < high + 2 * (high - low)


def test_the_camera_is_further_away_than_in_a_surface_of_full_width():
    """At 1200 × 900 and 600 × 450 pixels, axis titles are cut off at 1.3 times the distance."""
    cameras = (
        figure.layout.scene.camera.eye
        for figure in (
            plot.fit(make_landscape(), make_predictions()),
            plot.surface(make_landscape(), PATH),
        )
    )
    narrow, full = ([eye[axis] for axis in "xyz"] for eye in cameras)
    np.testing.assert_allclose(narrow, 1.5 * np.array(full))


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_tick_labels_on_the_right_of_a_picture_are_not_cut_off():
    figure = plot.fit(make_landscape(), make_predictions())
    # "−400µ" is the widest label.
    figure.update_layout(yaxis2_range=[-5e-4, 5e-4])
    picture = Image.open(io.BytesIO(figure.to_image("png", width=1200, height=900)))
    assert np.asarray(picture.convert("L"))[:, -4:].min() > 250


def test_at_most_1000_samples_are_drawn_and_a_note_says_so():
    figure = plot.fit(make_landscape(), make_predictions(2500), kind="contour")
    assert "1000 of 2500 samples are drawn" in figure.layout.meta["notes"]
    assert "1000 of 2500 samples" in figure.layout.title.subtitle.text
    [samples] = [trace for trace in figure.data if trace.name == "data"]
    assert len(samples.x) == 1000


def test_a_path_without_predictions_raises():
    message = r"predictions: .* got Trajectory; jxs.training.predictions\(loss, path"
    with pytest.raises(TypeError, match=message):
        plot.fit(make_landscape(), PATH)
