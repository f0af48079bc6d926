"""Functions of two numbers as losses."""

import jax.numpy as jnp
import numpy as np

import jaxscape as jxs


def saddle(w1, w2):
    return w1**2 - jnp.sin(w2)


def test_the_loss_is_the_function_of_the_two_weights():
    assert jxs.Function(saddle)(jxs.Weights(3.0, 0.5), None) == 9 - np.sin(np.float32(0.5))


def test_the_name_is_that_of_the_function():
    assert jxs.Function(saddle).name == "saddle"
    assert jxs.Function(lambda w1, w2: w1).name == "function"


def test_losses_of_the_same_function_are_equal():
    assert jxs.Function(saddle) == jxs.Function(saddle)
    assert hash(jxs.Function(saddle)) == hash(jxs.Function(saddle))
