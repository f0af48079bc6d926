"""Check arguments before anything is computed.

Each message names the argument, the expected value and the actual one, for example
"steps: expected 1 or more, got 0".
An object of the wrong type raises TypeError, a wrong value ValueError.
"""

import math
import operator
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

Key = jax.Array
"""A JAX random key, made by `jax.random.key` or `jax.random.PRNGKey`."""


def check_type(name: str, value: Any, kind: type, expected: str | None = None) -> None:
    """Check that `value` is a `kind`; `expected` replaces the kind's name in the message."""
    if not isinstance(value, kind):
        wanted = expected or f"a {kind.__name__}"
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Check that `value` is one of the choices."""
    choices = tuple(choices)
    # Only strings are compared with `==`, which works elementwise on arrays.
    if not any(
        value is choice or (isinstance(value, str) and value == choice) for choice in choices
    ):
        first, last = ", ".join(map(repr, choices[:-1])), repr(choices[-1])
        raise ValueError(f"{name}: expected {first} or {last}, got {value!r}")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Check that `value` is a whole number of at least `least`, and return it as an `int`."""
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if count < least:
        raise ValueError(f"{name}: expected {least} or more, got {count}")
    return count


def check_number(name: str, value: Any) -> float:
    """Check that `value` is one real number, perhaps infinite or NaN; return it as a `float`."""
    if isinstance(value, str | bytes | bool) or np.ndim(value) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    return float(value)


def check_positive(name: str, value: Any) -> float:
    """Check that `value` is a positive finite number, and return it as a `float`."""
    number = check_number(name, value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name}: expected a positive finite number, got {value}")
    return number


def check_memory(memory: int | None) -> None:
    """Check that a memory budget is a whole number of bytes, or None for the default."""
    if memory is None:
        return
    if isinstance(memory, bool) or not hasattr(memory, "__index__"):
        raise TypeError(f"memory: expected a whole number of bytes, got {memory!r}")
    if memory < 1:
        raise ValueError(f"memory: expected at least 1 byte, got {memory}")


def check_key(key: Any) -> None:
    """Check that `key` is an array, such as a random key, and not a seed."""
    if not isinstance(key, jax.Array):
        raise TypeError(f"key: expected a JAX random key such as jax.random.key(0), got {key!r}")
