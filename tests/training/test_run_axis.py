"""The axis of runs: hyperparameters as arrays, and the number of stacked runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscape.training.run_axis import (
    NO_RUN_AXIS,
    RunAxis,
    check_hyperparameters,
    find_run_axis,
)

PARAMS = {"w": np.ones((4, 3)), "b": np.ones(4)}


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, np.float64),
        ([1, 2, 3], np.float64),
        (np.float32(0.5), np.float32),
        (jnp.array([0.5, 1], jnp.bfloat16), np.float32),
    ],
)
def test_hyperparameters_become_floating_arrays(value, dtype):
    array = check_hyperparameters({"rate": value})["rate"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.asarray(value, float))


@pytest.mark.parametrize(
    ("hyperparameters", "error", "message"),
    [
        ({1: 0.1}, TypeError, "expected a mapping of names to numbers"),
        ({"rate": "fast"}, TypeError, r"hyperparameters\['rate'\]: expected numbers, got 'fast'"),
        ({"rate": True}, TypeError, "expected numbers, got True"),
        ({"rate": np.ones((2, 3))}, ValueError, r"got shape \(2, 3\)"),
        ({"rate": [0.1, np.inf]}, ValueError, "expected finite numbers, got inf"),
        ({"learning_rate": [0.1, -0.2]}, ValueError, "expected 0 or more, got -0.2"),
    ],
)
def test_bad_hyperparameters_raise_an_error(hyperparameters, error, message):
    with pytest.raises(error, match=message):
        check_hyperparameters(hyperparameters)


def test_other_hyperparameters_may_be_negative():
    assert check_hyperparameters({"log_rate": -1.0}) == {"log_rate": np.array(-1.0)}


def test_stacks_of_one_length_are_runs():
    keys = jax.random.split(jax.random.key(0), 4)
    values = {"rate": np.ones(4), "momentum": np.array(0.5)}
    assert find_run_axis(PARAMS, 4, keys, values) == (4, RunAxis(True, True, ("rate",)))
    assert find_run_axis(PARAMS, None, keys, {}) == (4, RunAxis(False, True, ()))
    assert find_run_axis(PARAMS, None, keys[0], {}) == (None, NO_RUN_AXIS)


def test_raw_keys_have_one_axis_more():
    raw = jax.random.PRNGKey(0)
    assert find_run_axis(PARAMS, None, raw, {}) == (None, NO_RUN_AXIS)
    stacked = jnp.stack([raw] * 3)
    assert find_run_axis(PARAMS, None, stacked, {}) == (3, RunAxis(False, True, ()))


@pytest.mark.parametrize(
    ("runs", "values", "message"),
    [
        (3, {}, r"params\['b'\]: expected a first axis of 3, the runs, got shape \(4,\)"),
        (4, {"rate": np.ones(2)}, r"got runs of 4, hyperparameters\['rate'\] of 2"),
        (None, {"rate": np.ones(0)}, "1 or more, got hyperparameters.'rate'. of 0"),
    ],
)
def test_stacks_of_different_lengths_raise_an_error(runs, values, message):
    with pytest.raises(ValueError, match=message):
        find_run_axis(PARAMS, runs, None, values)
