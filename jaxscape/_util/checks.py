"""The devices that this process computes on, their memory and precision; other processes.

Points to learn from: a `Dataset`, made up, split and batched.
"""

from typing import Any

import jax


def check_memory(memory: Any) -> None:
    """Refuse what is no number of bytes."""
    if memory is not None and (isinstance(memory, bool) or not hasattr(memory, "__index__")):
        raise TypeError(f"memory: expected a whole number of bytes, got {memory!r}")
    if memory is not None and memory < 1:
        raise ValueError(f"memory: expected at least 1 byte, got {memory}")


Key = jax.Array


def check_key(key: Any) -> None:
    """Refuse what is no random key, as a bare seed is none."""
    if not isinstance(key, jax.Array):
        raise TypeError(f"key: expected a JAX random key such as jax.random.key(0), got {key!r}")
