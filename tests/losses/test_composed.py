"""Losses composed of a model and a loss of its outputs."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.curvature import ComposedLoss

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def predict(params, x):
    return jnp.tanh(x @ params)


def mean_quartic(outputs, x):
    return jnp.mean((outputs - x[:, 0]) ** 4)


def test_the_loss_is_the_output_loss_of_the_predictions():
    params = np.float32([0.5, -1, 2])
    truth = np.mean((np.tanh(X @ params) - X[:, 0]) ** 4)
    assert ComposedLoss(predict, mean_quartic)(params, X) == pytest.approx(truth, rel=1e-5)


def test_a_composed_loss_has_a_landscape_with_the_name_of_its_output_loss():
    loss = ComposedLoss(predict, mean_quartic)
    u, v = np.float32([1, 0, 1]), np.float32([0, 1, 0])
    plane = jxs.Plane(np.float32([0.5, -1, 2]), u, v)
    surface = jxs.landscape(loss, X, plane, a=(-1, 1, 3), b=(-1, 1, 4))
    assert surface.loss_name == "mean quartic"
    corner = float(loss(plane.at(-1.0, 1.0), X))
    assert float(surface.loss[0, 3]) == pytest.approx(corner, rel=1e-5)


def test_losses_of_equal_parts_are_equal():
    assert ComposedLoss(predict, mean_quartic) == ComposedLoss(predict, mean_quartic)
    assert ComposedLoss(predict, mean_quartic) != ComposedLoss(mean_quartic, predict)
