"""Error messages name the argument, the expected value and the actual one."""

import jax
import numpy as np
import pytest

from jaxscape._util.checks import (
    check_choice,
    check_count,
    check_key,
    check_memory,
    check_number,
    check_positive,
    check_type,
)


@pytest.mark.parametrize(
    ("check", "error", "message"),
    [
        (lambda: check_type("plane", 3, dict), TypeError, "plane: expected a dict, got int"),
        (
            lambda: check_type("data", 3, dict, "a Dataset(x, y)"),
            TypeError,
            "data: expected a Dataset(x, y), got int",
        ),
        (
            lambda: check_choice("method", "fast", ["auto", "dense", "exact"]),
            ValueError,
            "method: expected 'auto', 'dense' or 'exact', got 'fast'",
        ),
        (
            lambda: check_choice("normalize", np.ones(2), ["filter", None]),
            ValueError,
            "normalize: expected 'filter' or None, got array([1., 1.])",
        ),
        (lambda: check_count("steps", 2.0), TypeError, "steps: expected a whole number, got 2.0"),
        (lambda: check_count("steps", True), TypeError, "steps: expected a whole number, got True"),
        (lambda: check_count("steps", 0), ValueError, "steps: expected 1 or more, got 0"),
        (lambda: check_count("k", 5, least=6), ValueError, "k: expected 6 or more, got 5"),
        (lambda: check_number("q", "1"), TypeError, "q: expected a number, got '1'"),
        (lambda: check_number("q", [1.0]), TypeError, "q: expected a number, got [1.0]"),
        (
            lambda: check_positive("tolerance", float("nan")),
            ValueError,
            "tolerance: expected a positive finite number, got nan",
        ),
        (lambda: check_memory(1.5), TypeError, "memory: expected a whole number of bytes, got 1.5"),
        (lambda: check_memory(0), ValueError, "memory: expected at least 1 byte, got 0"),
        (
            lambda: check_key(0),
            TypeError,
            "key: expected a JAX random key such as jax.random.key(0), got 0",
        ),
    ],
)
def test_bad_values_raise_errors_with_these_messages(check, error, message):
    with pytest.raises(error) as raised:
        check()
    assert str(raised.value) == message


def test_good_values_pass_and_are_converted():
    assert check_count("n", np.int64(3)) == 3
    assert check_number("q", np.float32(0.5)) == 0.5
    assert check_positive("q", 2) == 2.0
    check_memory(None)
    check_memory(np.int32(1))
    check_key(jax.random.key(0))
    check_key(jax.random.PRNGKey(0))
    check_type("plane", {}, dict)
    check_choice("normalize", None, ["filter", None])
