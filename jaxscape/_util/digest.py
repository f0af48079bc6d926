"""What a grid is of, in digests that two calls can compare."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def identity(loss: Callable, plane: Any, data: Any, dtype: Any) -> dict[str, str]:
    """What a grid is of, in digests: two calls that agree in all of them compute the same.

    A loss is known by the computation it does, and not by its name.
    """
    zero = jnp.zeros((), dtype)
    closed = jax.make_jaxpr(loss)(plane.at(zero, zero), data)
    return {
        "loss": digest(str(closed.jaxpr), _held(closed)),
        "plane": digest(str(jax.tree.structure(plane)), jax.tree.leaves(plane)),
        "data": digest(str(jax.tree.structure(data)), jax.tree.leaves(data)),
    }


def _held(closed: Any) -> Iterator[Any]:
    """The arrays that a computation holds on to, and those of the compiled functions it calls."""
    yield from getattr(closed, "consts", ())
    for equation in getattr(closed, "jaxpr", closed).eqns:
        for value in equation.invars:
            # A constant that stands in its place is printed without its numbers.
            if jnp.ndim(getattr(value, "val", 0)):
                yield value.val
        for parameter in equation.params.values():
            for part in parameter if isinstance(parameter, tuple | list) else [parameter]:
                if hasattr(getattr(part, "jaxpr", part), "eqns"):
                    yield from _held(part)


def digest(text: str, arrays: Iterable[Any]) -> str:
    """The digest of a text and of arrays' shapes, dtypes and bytes."""
    # Functions print their addresses, which are new in every process.
    sha = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for array in arrays:
        if jax.dtypes.issubdtype(getattr(array, "dtype", float), jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        array = np.asarray(array)
        sha.update(f"{array.dtype}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
