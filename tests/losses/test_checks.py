"""Checks of losses and of what they return, and the weighted mean over samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscape.losses.checks import (
    check_is_function,
    check_same_shape,
    loss_name,
    mean_over_samples,
    scalar,
    scalars,
)


def test_functions_must_be_callable_and_hashable():
    check_is_function("loss", jnp.mean)

    class Unhashable:
        __hash__ = None

        def __call__(self, params, data):
            return 0.0

    with pytest.raises(TypeError, match=r"loss: expected a function of \(params, data\), got 3"):
        check_is_function("loss", 3)
    with pytest.raises(TypeError, match="loss: expected a hashable function, .* wrap it in a fun"):
        check_is_function("loss", Unhashable())


def test_predictions_must_not_broadcast_against_targets():
    check_same_shape(np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(
        ValueError, match=r"targets y of the predictions' shape \(3, 1\), got \(3,\)"
    ):
        check_same_shape(np.ones((3, 1)), np.ones(3))


def test_a_floating_scalar_is_returned_as_an_array():
    assert scalar(0.5).dtype == jnp.float32
    value = np.float16(2)
    assert scalar(value) is value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1.0, 2.0), "loss: expected a scalar, got tuple; return the loss alone"),
        (np.ones(3), r"loss: expected a scalar, got an array of shape \(3,\); take its mean"),
        (np.int32(1), "loss: expected a floating scalar, got dtype int32"),
        (None, "loss: expected a scalar, got NoneType"),
    ],
)
def test_other_values_of_a_loss_are_refused(value, message):
    with pytest.raises(TypeError, match=message):
        scalar(value)
    with pytest.raises(TypeError, match=message.replace("loss", r"loss\['a'\]", 1)):
        scalars({"a": value})


def test_several_scalars_are_stacked_by_name():
    values = scalars({"b": np.float32(2), "a": np.float16(1)})
    np.testing.assert_array_equal(values, [1, 2])
    assert values.dtype == jnp.float32
    assert scalars(np.float32(3)) == 3
    with pytest.raises(TypeError, match="got an empty dictionary"):
        scalars({})


def test_the_mean_weighs_each_row_by_its_sample():
    values, weight = np.float32([[1, 2], [5, 7]]), np.float32([3, 1])
    assert mean_over_samples(values, None) == 15 / 4
    mean = jax.jit(mean_over_samples)(values, weight)
    assert mean == pytest.approx(np.average(values.mean(axis=1), weights=weight))


def test_a_name_for_figures_is_found():
    class Named:
        name = "squared error"

    def mean_error(params, data):
        return 0.0

    assert loss_name(mean_error) == "mean error"
    assert loss_name(Named()) == "squared error"
    assert loss_name(lambda params, data: 0.0) == "loss"
    assert loss_name(functools.partial(mean_error)) == "loss"


def test_the_mean_over_samples_of_weight_zero_and_its_derivatives_are_zero():
    values, zeros = np.array([[1.0, -2.0], [3.0, 5.0], [0.5, 0.25]]), np.zeros(3)

    def mean(factor, weight):
        return mean_over_samples(jnp.sin(factor * values), weight)

    for order in (mean, jax.grad(mean), jax.grad(jax.grad(mean))):
        assert jax.jit(order)(0.7, zeros) == 0
    tiny = np.array([0.0, 1e-37, 0.0])
    np.testing.assert_allclose(mean(0.7, tiny), np.mean(np.sin(0.7 * values[1])), rtol=1e-5)
