"""The surfaces of mini-batches, against single surfaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from tests import reference
from tests.grid.helpers import interrupt_after, set_block_size
from tests.training.helpers import make_data

AXES = {"w1": (-1.5, 2.0, 7), "w2": (-2.0, 1.0, 5)}


@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error])
@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_mean_and_deviation_equal_a_loop(loss, shuffled):
    """107 samples in batches of 10; the last batch of 7 has the weight 7."""
    data = make_data()
    key = jax.random.key(5) if shuffled else None
    found = jxs.training.batch_landscapes(loss, data, 10, key=key, **AXES)
    error = reference.ERRORS["squared" if loss is jxs.squared_error else "absolute"]
    parts = list(jxs.data.batches(data, 10, key))
    truth = np.array([reference.surface(found.mean, part, error) for part in parts])
    assert len(found.batches) == 11
    for surface, losses in zip(found.batches, truth, strict=True):
        np.testing.assert_allclose(surface.loss, losses, rtol=1e-5)
    weights = np.array([10.0] * 10 + [7.0]) / 107
    mean = np.tensordot(weights, truth, 1)
    np.testing.assert_allclose(found.mean.loss, mean, rtol=1e-5)
    deviation = np.sqrt(np.tensordot(weights, (truth - mean) ** 2, 1))
    np.testing.assert_allclose(found.deviation.loss, deviation, rtol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_is_the_surface_of_all_samples(weighted):
    data = make_data()
    if weighted:
        weight = np.random.default_rng(0).uniform(0, 2, 107).astype(np.float32)
        data = jxs.Dataset(data.x, data.y, weight)
    found = jxs.training.batch_landscapes(jxs.squared_error, data, 25, **AXES)
    whole = jxs.landscape(jxs.squared_error, data, **AXES)
    np.testing.assert_allclose(found.mean.loss, whole.loss, rtol=1e-5)
    # Equal weights do not give it, because the last batch is short.
    equal = np.mean([surface.loss for surface in found.batches], axis=0)
    assert np.max(abs(equal / np.asarray(whole.loss) - 1)) > 1e-3
    assert found.mean.loss_name == "mean of squared error over 5 batches"


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_a_batch_of_zero_weights_is_zero_and_does_not_count(method):
    data, weight = make_data(), np.linspace(0.5, 2, 107, dtype=np.float32)
    weight[25:50] = 0
    weighted = jxs.Dataset(data.x, data.y, weight)
    found = jxs.training.batch_landscapes(jxs.squared_error, weighted, 25, method=method, **AXES)
    whole = jxs.landscape(jxs.squared_error, weighted, method=method, **AXES)
    np.testing.assert_allclose(found.mean.loss, whole.loss, rtol=1e-5)
    assert not found.batches[1].loss.any()
    others = np.array([found.batches[k].loss for k in (0, 2, 3, 4)], float)
    weights = np.array([weight[k : k + 25].sum() for k in (0, 50, 75, 100)]) / weight.sum()
    deviation = np.sqrt(np.tensordot(weights, (others - found.mean.loss) ** 2, 1))
    np.testing.assert_allclose(found.deviation.loss, deviation, rtol=1e-4)


def test_the_loss_of_a_batch_of_zero_weights_may_be_nan():
    """A loss of the caller's may divide 0 by 0."""
    data, weight = make_data(), np.linspace(0.5, 2, 107, dtype=np.float32)
    weight[25:50] = 0
    weighted = jxs.Dataset(data.x, data.y, weight)

    def loss(weights, data):
        errors = jnp.abs(weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y)
        return jnp.sum(data.sample_weight * errors) / jnp.sum(data.sample_weight)

    with pytest.warns(jxs.NonFiniteWarning, match="35 of 35"):
        found = jxs.training.batch_landscapes(loss, weighted, 25, **AXES)
    whole = jxs.landscape(loss, weighted, **AXES)
    np.testing.assert_allclose(found.mean.loss, whole.loss, rtol=1e-5)
    assert np.isnan(found.batches[1].loss).all()
    assert np.isfinite(found.deviation.loss).all()


def test_one_batch_has_no_deviation():
    found = jxs.training.batch_landscapes(jxs.squared_error, make_data(), 107, **AXES)
    assert not found.deviation.loss.any()


def test_an_interruption_returns_no_partial_surfaces(monkeypatch):
    set_block_size(monkeypatch, 3)
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        jxs.training.batch_landscapes(jxs.absolute_error, make_data(), 50, **AXES)


def test_bad_arguments_raise_an_error():
    with pytest.raises(ValueError, match="batch_size: expected 1 to 107, .* got 108"):
        jxs.training.batch_landscapes(jxs.squared_error, make_data(), 108, **AXES)
    with pytest.raises(TypeError, match="key: expected a JAX random key"):
        jxs.training.batch_landscapes(jxs.squared_error, make_data(), 10, key=0, **AXES)
    with pytest.raises(ValueError, match="data: expected arrays that share"):
        jxs.training.batch_landscapes(jxs.squared_error, (np.ones(2), np.ones(3)), 1, **AXES)
