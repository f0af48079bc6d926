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


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "activation",
    [
        jnp.sort,
        jax.nn.softmax,
        lambda z: z - z.mean(),
        lambda z: z / jnp.linalg.norm(z),
        lambda z: jnp.cumsum(z),
        lambda z: z[::-1],
        lambda z: z * jax.random.bernoulli(KEY, 0.5, z.shape),
        lambda z: jnp.where(z >= jnp.sort(z)[-3], z, 0),
        lambda z: jnp.tanh(z) * (z.sum() > 0),
        jnp.max,
        lambda z: z[:, None],
        lambda z: (z, z),
    ],
)
def test_activations_that_mix_the_inputs_are_refused(activation):
    with pytest.raises(ValueError, match="activation: expected an elementwise function, got"):
        jxs.TwoWeightNetwork(activation)


@pytest.mark.parametrize(
    "activation",
    [
        jax.nn.gelu,
        jnp.log,
        jnp.round,
        lambda z: (z > 0) * 1.0,
        lambda z: jnp.interp(z, jnp.array([-1.0, 0, 1]), jnp.array([0.0, 2, 1])),
        lambda z: jnp.exp(-((z[:, None] - jnp.arange(3.0)[None]) ** 2)).sum(axis=1),
    ],
)
def test_elementwise_activations_of_any_operations_are_accepted(activation):
    """The operations may mix numbers that belong to one input, and results may be NaN."""
    x = np.float32([2, 0.5, 1])
    prediction = jxs.TwoWeightNetwork(activation)(jxs.Weights(0.7, -1.5), jnp.asarray(x))
    np.testing.assert_allclose(prediction, -1.5 * activation(np.float32(0.7) * x), rtol=1e-6)


def test_an_activation_that_depends_on_a_traced_array_is_accepted():
    def slope(beta):
        network = jxs.TwoWeightNetwork(lambda z: jnp.tanh(beta * z))
        return network(jxs.Weights(0.7, -1.5), jnp.array([0.4]))[0]

    np.testing.assert_allclose(
        jax.jit(jax.grad(slope))(1.2), -1.5 * 0.28 / np.cosh(1.2 * 0.28) ** 2, rtol=1e-5
    )


def test_objects_that_are_not_functions_are_refused():
    with pytest.raises(TypeError, match="activation: expected a function, got 3"):
        jxs.TwoWeightNetwork(3)
