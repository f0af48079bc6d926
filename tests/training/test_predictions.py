"""The network's curve at each point of a path, and the figure in which both move."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import jaxscape as jxs
from jaxscape import plot

STUDENT = jxs.data.teacher_student(jax.random.key(0), n=40)


@pytest.fixture(scope="module")
def path():
    return jxs.descend(
        jxs.squared_error,
        jxs.Weights(1.0, 0.2),
        STUDENT,
        optimizer=optax.sgd(0.5),
        epochs=7,
    )


def test_the_curves_are_the_networks_at_each_point(path):
    found = jxs.training.predictions(jxs.squared_error, path, STUDENT)
    assert found.y.shape == (8, 200)
    x = np.asarray(found.x, float)
    for w1, w2, curve in zip(*path.params, found.y, strict=True):
        np.testing.assert_allclose(curve, float(w2) * np.tanh(float(w1) * x), atol=2e-6)
    assert found.x[0] < float(STUDENT.x.min())
    assert found.x[-1] > float(STUDENT.x.max())


def test_a_model_with_columns_and_a_long_path_goes_through_in_parts():
    """131 points, in blocks of 64, of a model that takes (n, 1) and gives (n, 1)."""
    params = {"w": jnp.linspace(-1, 1, 131 * 3).reshape(131, 1, 3), "v": jnp.ones((131, 3, 1))}
    path = jxs.Trajectory(
        params=params,
        step=np.arange(131),
        training_loss=np.zeros(131),
        evaluation_loss=None,
        diverged_step=np.int32(-1),
        steps_per_epoch=1,
    )
    data = jxs.Dataset(STUDENT.x[:, None], STUDENT.y[:, None])
    found = jxs.training.predictions(lambda p, x: jnp.sin(x @ p["w"]) @ p["v"], path, data)
    x = np.asarray(found.x, float)[:, None]
    for k in (0, 63, 64, 130):
        w = np.asarray(params["w"][k], float)
        np.testing.assert_allclose(found.y[k], np.sin(x @ w).sum(axis=1), atol=3e-6)


def test_a_path_that_diverged_has_curves_up_to_there(path):
    lost = dataclasses.replace(path, diverged_step=np.int32(3))
    found = jxs.training.predictions(jxs.squared_error, lost, STUDENT)
    assert len(found.y) == len(found.path) == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": 3}, TypeError, "model: expected a loss or a function, got int"),
        ({"model": jxs.article.broadcast_squared_error}, TypeError, "model: expected one of the"),
        ({"model": lambda p, x: p.w1}, ValueError, r"each of 200 inputs, got shape \(\)"),
        ({"path": "path"}, TypeError, "path: expected a Trajectory, got str"),
        ({"data": 3}, TypeError, r"data: expected a Dataset\(x, y\), got int"),
        (
            {"data": jxs.Dataset(np.ones((5, 2)), np.ones(5))},
            ValueError,
            r"data: expected one input a sample, x of shape .* got \(5, 2\)",
        ),
        (
            {"data": jxs.Dataset(np.ones(5), np.ones((5, 3)))},
            ValueError,
            r"data: expected one target a sample, y of shape .* got \(5, 3\)",
        ),
    ],
)
def test_what_has_no_curve_is_refused(path, change, error, message):
    asked = {"model": jxs.squared_error, "path": path, "data": STUDENT} | change
    with pytest.raises(error, match=message):
        jxs.training.predictions(*asked.values())


@pytest.mark.parametrize("kind", ["surface", "contour"])
def test_each_frame_has_the_point_and_its_curve(path, kind):
    surface = jxs.landscape(jxs.squared_error, STUDENT, w1=(0.5, 2, 7), w2=(0, 1, 5))
    found = jxs.training.predictions(jxs.squared_error, path, STUDENT)
    figure = plot.fit(surface, found, kind=kind)
    assert [frame.name for frame in figure.frames] == [str(k) for k in range(8)]
    curve = len(figure.data) - 1
    [end] = [k for k, trace in enumerate(figure.data) if (trace.name or "").startswith("end")]
    for k, frame in enumerate(figure.frames):
        parts = dict(zip(frame.traces, frame.data, strict=True))
        for drawn in (curve - 1, curve):
            np.testing.assert_array_equal(parts[drawn].y, found.y[k])
        where = (parts[end].x[0], parts[end].y[0])
        np.testing.assert_allclose(where, [part[k] for part in path.params], rtol=1e-6)
    [points] = [trace for trace in figure.data if trace.legendgroup and trace.hovertemplate]
    assert figure.data[curve].line.color == points.marker.color
    [samples] = [trace for trace in figure.data if trace.name == "data"]
    np.testing.assert_array_equal(samples.x, np.asarray(STUDENT.x, float))


def test_the_narrow_surface_is_seen_from_so_far_that_no_title_is_cut(path):
    """In pictures of 1200 × 900 and 600 × 450 titles were cut at 1.3 times, not at 1.5."""
    surface = jxs.landscape(jxs.squared_error, STUDENT, w1=(0.5, 2, 7), w2=(0, 1, 5))
    found = jxs.training.predictions(jxs.squared_error, path, STUDENT)
    cameras = (
        figure.layout.scene.camera.eye
        for figure in (plot.fit(surface, found), plot.surface(surface, path))
    )
    ours, alone = ([eye[axis] for axis in "xyz"] for eye in cameras)
    np.testing.assert_allclose(ours, 1.5 * np.array(alone))


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_the_title_at_the_right_of_a_picture_is_not_cut(path):
    surface = jxs.landscape(jxs.squared_error, STUDENT, w1=(0.5, 2, 7), w2=(0, 1, 5))
    figure = plot.fit(surface, jxs.training.predictions(jxs.squared_error, path, STUDENT))
    # "−400µ" is the widest label.
    figure.update_layout(yaxis2_range=[-5e-4, 5e-4])
    picture = Image.open(io.BytesIO(figure.to_image("png", width=1200, height=900)))
    assert np.asarray(picture.convert("L"))[:, -4:].min() > 250


def test_many_samples_are_thinned_and_the_figure_says_so(path):
    surface = jxs.landscape(jxs.squared_error, STUDENT, w1=(0.5, 2, 7), w2=(0, 1, 5))
    many = jxs.data.teacher_student(jax.random.key(1), n=2500)
    figure = plot.fit(
        surface, jxs.training.predictions(jxs.squared_error, path, many), kind="contour"
    )
    assert "1000 of 2500 samples are drawn" in figure.layout.meta["notes"]
    with pytest.raises(TypeError, match=r"got Trajectory; jxs.training.predictions\(loss, path"):
        plot.fit(surface, path)
