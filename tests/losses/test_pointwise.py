"""Pointwise losses compared with their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs

RESIDUALS = np.array([0.0, 1e-6, 1e-3, 0.0099, 0.5, 0.999, 1.0, 1.5, 3.0, 80.0, 1e4])


def per_sample(loss, residual, dtype=np.float32):
    """Return the loss of one sample whose prediction misses its target by `residual`."""
    data = jxs.Dataset(np.ones(1, dtype), np.array([-residual], dtype))
    return loss(jxs.Weights(jnp.asarray(1.0, dtype), jnp.asarray(0.0, dtype)), data)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_log_cosh_is_accurate_from_tiny_to_huge_residuals(residual, sign):
    r = float(np.float32(residual))
    # NumPy's logaddexp cancels for small residuals, where half the square is accurate: the next
    # term is below 2e-5 of it.
    truth = r**2 / 2 if r < 1e-2 else np.logaddexp(r, -r) - np.log(2)
    assert float(per_sample(jxs.log_cosh, sign * residual)) == pytest.approx(truth, rel=2e-5)


@pytest.mark.parametrize("residual", [*RESIDUALS, -0.5, -1e4])
def test_the_derivatives_are_those_of_the_definitions(residual, x64):
    def derivative(loss):
        return jax.grad(lambda w2: loss(jxs.Weights(jnp.inf, w2), data))(0.0)

    # tanh(∞ · 1) is 1, so that the prediction is w2 = 0 and its residual is `residual`.
    data = jxs.Dataset([1.0], [-residual])
    assert derivative(jxs.squared_error) == pytest.approx(2 * residual)
    assert derivative(jxs.absolute_error) == np.sign(residual)
    assert derivative(jxs.huber(0.5)) == pytest.approx(np.clip(residual, -0.5, 0.5))
    assert derivative(jxs.log_cosh) == pytest.approx(np.tanh(residual), rel=1e-12)


def test_the_squared_error_has_no_factor_one_half_and_huber_has():
    assert per_sample(jxs.squared_error, 3.0) == 9
    assert per_sample(jxs.huber(5.0), 3.0) == 4.5
    assert per_sample(jxs.huber(1.0), 3.0) == 2.5


@pytest.mark.parametrize("delta", [0, -1, float("inf"), float("nan")])
def test_a_delta_that_is_not_positive_and_finite_is_refused(delta):
    with pytest.raises(ValueError, match="delta: expected a positive finite number"):
        jxs.huber(delta)


def test_losses_of_equal_parts_are_equal():
    """Equal losses share compiled code."""
    assert jxs.huber(2) == jxs.huber(2.0)
    assert hash(jxs.huber(2)) == hash(jxs.huber(2.0))
    assert jxs.huber(2) != jxs.huber(3)
    assert jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.tanh)) == jxs.squared_error
    assert jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.sin)) != jxs.squared_error


def test_sample_weights_give_the_weighted_mean():
    data = jxs.Dataset([1.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 0.0, 3.0])
    zero = jxs.Weights(0.0, 0.0)
    assert jxs.squared_error(zero, data) == pytest.approx(27 / 4)
    assert jxs.absolute_error(zero, data) == pytest.approx(9 / 4)


def test_the_mean_is_over_samples_and_outputs():
    data = jxs.Dataset(np.ones(2), np.float32([[1, 2, 3], [0, 0, 0]]), [3.0, 1.0])
    loss = jxs.squared_error.of(lambda params, x: params * x[:, None] * jnp.ones((1, 3)))
    assert loss(0.0, data) == pytest.approx(3 * 14 / (3 * 4))


def test_data_that_do_not_fit_are_refused():
    weights = jxs.Weights(1.0, 1.0)
    with pytest.raises(TypeError, match=r"data: expected a Dataset\(x, y\), got tuple"):
        jxs.squared_error(weights, (np.ones(3), np.ones(3)))
    column = jxs.Dataset(np.ones(3), np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"expected targets y of the predictions' shape \(3,\)"):
        jxs.squared_error(weights, column)
