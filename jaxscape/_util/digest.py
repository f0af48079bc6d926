"""Digests that show whether two calls compute the same grid."""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.jaxpr import constants


def identity(loss: Callable, plane: Any, data: Any, dtype: Any) -> dict[str, str]:
    """Return digests of a loss, a plane and data; if all are equal, the computations are the same.

    The digest of a loss is that of the computation that JAX traces, not of its name.

    Args:
        loss: (params, data) -> scalar.
        plane: the plane through the parameters.
        data: a pytree of arrays.
        dtype: the dtype of the coordinates.
    """
    zero = jnp.zeros((), dtype)
    closed = jax.make_jaxpr(loss)(plane.at(zero, zero), data)
    return {
        "loss": digest(str(closed.jaxpr), constants(closed)),
        "plane": digest(str(jax.tree.structure(plane)), jax.tree.leaves(plane)),
        "data": digest(str(jax.tree.structure(data)), jax.tree.leaves(data)),
    }


def digest(text: str, arrays: Iterable[Any]) -> str:
    """Return the SHA-256 of a text and of the shapes, dtypes and bytes of arrays."""
    # The text of a function contains its memory address, which differs between processes.
    sha = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for array in arrays:
        if jax.dtypes.issubdtype(getattr(array, "dtype", float), jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        array = np.asarray(array)
        sha.update(f"{array.dtype}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
