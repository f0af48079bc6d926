"""The two-weight network compared with its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs


@pytest.mark.parametrize(("activation", "truth"), [(jnp.tanh, np.tanh), (jnp.sin, np.sin)])
def test_the_prediction_is_the_formula(activation, truth):
    x = np.float32([-2, 0.3, 1])
    prediction = jxs.TwoWeightNetwork(activation)(jxs.Weights(0.7, -1.5), jnp.asarray(x))
    np.testing.assert_allclose(prediction, -1.5 * truth(0.7 * x), rtol=1e-5)


def test_inputs_of_several_features_are_refused():
    with pytest.raises(ValueError, match=r"x: expected inputs of one feature.*got shape \(3, 1\)"):
        jxs.TwoWeightNetwork()(jxs.Weights(1.0, 1.0), jnp.ones((3, 1)))


def test_networks_of_the_same_activation_are_equal():
    assert jxs.TwoWeightNetwork(jax.nn.relu) == jxs.TwoWeightNetwork(jax.nn.relu)
    assert jxs.TwoWeightNetwork() != jxs.TwoWeightNetwork(jax.nn.relu)
