"""The pointwise losses against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs

RESIDUALS = np.array([0.0, 1e-6, 1e-3, 0.0099, 0.5, 0.999, 1.0, 1.5, 3.0, 80.0, 1e4])


def per_sample(loss, residual, dtype=np.float32):
    """The loss of one sample at which the prediction misses its target by `residual`."""
    data = jxs.Dataset(np.ones(1, dtype), np.array([-residual], dtype))
    return loss(jxs.Weights(jnp.asarray(1.0, dtype), jnp.asarray(0.0, dtype)), data)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_log_cosh_keeps_its_digits_from_tiny_to_huge(residual, sign):
    r = float(np.float32(residual))
    # Half the square below 1e-3 (the next term is 1e-7 of it), where NumPy's logaddexp cancels.
    truth = r**2 / 2 if r < 1e-2 else np.logaddexp(r, -r) - np.log(2)
    assert float(per_sample(jxs.log_cosh, sign * residual)) == pytest.approx(truth, rel=2e-5)


@pytest.mark.parametrize("residual", [*RESIDUALS, -0.5, -1e4])
def test_derivatives_of_the_losses(residual, x64):
    def derivative(loss):
        return jax.grad(lambda w2: loss(jxs.Weights(jnp.inf, w2), data))(0.0)

    # tanh(∞ · 1) = 1, so the prediction is w2 and the residual w2 + residual.
    data = jxs.Dataset([1.0], [-residual])
    assert derivative(jxs.squared_error) == pytest.approx(2 * residual)
    assert derivative(jxs.absolute_error) == np.sign(residual)
    assert derivative(jxs.huber(0.5)) == pytest.approx(np.clip(residual, -0.5, 0.5))
    assert derivative(jxs.log_cosh) == pytest.approx(np.tanh(residual), rel=1e-12)


def test_the_squared_error_carries_no_half_and_huber_does():
    assert per_sample(jxs.squared_error, 3.0) == 9
    assert per_sample(jxs.huber(5.0), 3.0) == 4.5
    assert per_sample(jxs.huber(1.0), 3.0) == 2.5


@pytest.mark.parametrize("delta", [0, -1, float("inf"), float("nan")])
def test_a_delta_that_cannot_be_is_refused(delta):
    with pytest.raises(ValueError, match="delta: expected a positive finite number"):
        jxs.huber(delta)


def test_losses_of_equal_parts_are_equal():
    """Equal losses share compiled code, however often they are made."""
    assert jxs.huber(2) == jxs.huber(2.0)
    assert hash(jxs.huber(2)) == hash(jxs.huber(2.0))
    assert jxs.huber(2) != jxs.huber(3)
    assert jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.tanh)) == jxs.squared_error
    assert jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.sin)) != jxs.squared_error


def test_sample_weights_weigh():
    data = jxs.Dataset([1.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 0.0, 3.0])
    zero = jxs.Weights(0.0, 0.0)
    assert jxs.squared_error(zero, data) == pytest.approx(27 / 4)
    assert jxs.absolute_error(zero, data) == pytest.approx(9 / 4)
