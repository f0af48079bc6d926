"""Predictions of a one-input network along a training path."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from tests.training.helpers import make_data

DATA = make_data(40)


@pytest.fixture(scope="module")
def path():
    return jxs.descend(
        jxs.squared_error,
        jxs.Weights(1.0, 0.2),
        DATA,
        optimizer=optax.sgd(0.5),
        epochs=7,
    )


def test_predictions_equal_the_network_at_each_point(path):
    found = jxs.training.predictions(jxs.squared_error, path, DATA)
    assert found.y.shape == (8, 200)
    x = np.asarray(found.x, float)
    for w1, w2, curve in zip(*path.params, found.y, strict=True):
        np.testing.assert_allclose(curve, float(w2) * np.tanh(float(w1) * x), atol=2e-6)
    assert found.x[0] < float(DATA.x.min())
    assert found.x[-1] > float(DATA.x.max())


def test_a_long_path_of_a_model_with_columns_is_evaluated_in_blocks():
    """131 points in blocks of 64; the model maps (n, 1) to (n, 1)."""
    params = {"w": jnp.linspace(-1, 1, 131 * 3).reshape(131, 1, 3), "v": jnp.ones((131, 3, 1))}
    path = jxs.Trajectory(
        params=params,
        step=np.arange(131),
        training_loss=np.zeros(131),
        evaluation_loss=None,
        diverged_step=np.int32(-1),
        steps_per_epoch=1,
    )
    data = jxs.Dataset(DATA.x[:, None], DATA.y[:, None])
    found = jxs.training.predictions(lambda p, x: jnp.sin(x @ p["w"]) @ p["v"], path, data)
    x = np.asarray(found.x, float)[:, None]
    for k in (0, 63, 64, 130):
        w = np.asarray(params["w"][k], float)
        np.testing.assert_allclose(found.y[k], np.sin(x @ w).sum(axis=1), atol=3e-6)


def test_a_diverged_path_has_predictions_before_the_divergence(path):
    lost = dataclasses.replace(path, diverged_step=np.int32(3))
    found = jxs.training.predictions(jxs.squared_error, lost, DATA)
    assert len(found.y) == len(found.path) == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": 3}, TypeError, "model: expected a loss or a function, got int"),
        (
            {"model": jxs.article.broadcast_squared_error},
            TypeError,
            "model: expected a function",
        ),
        ({"model": lambda p, x: p.w1}, ValueError, r"each of 200 inputs, got shape \(\)"),
        ({"path": "path"}, TypeError, "path: expected a Trajectory, got str"),
        ({"data": 3}, TypeError, r"data: expected a Dataset\(x, y\), got int"),
        (
            {"data": jxs.Dataset(np.ones((5, 2)), np.ones(5))},
            ValueError,
            r"data: expected one input per sample, x of shape .* got \(5, 2\)",
        ),
        (
            {"data": jxs.Dataset(np.ones(5), np.ones((5, 3)))},
            ValueError,
            r"data: expected one target per sample, y of shape .* got \(5, 3\)",
        ),
    ],
)
def test_models_and_data_without_a_curve_raise_an_error(path, change, error, message):
    asked = {"model": jxs.squared_error, "path": path, "data": DATA} | change
    with pytest.raises(error, match=message):
        jxs.training.predictions(*asked.values())
