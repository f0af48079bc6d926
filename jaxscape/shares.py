"""The exact strategy by several threads: each computes the parabolas of its share of the rows.

On processors alone, which never round float32 products: no precision is asked for.
"""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxscape.network import PointwiseLoss
from jaxscape.plane import Plane
from jaxscape.quadratic import IN_CACHE, cells_of, parabolas

# Predictions of all rows, some three nanoseconds each, that are worth a thread: below, XLA's own
# threads are as fast or faster.
_WORTH_A_THREAD = 2**22


def compiled_share(
    loss: Any, plane: Any, a: Any, data: Any, workers: int, cache: int, samples: int
) -> Any:
    """The parabolas of a worker's share of all rows, compiled.

    Args:
        loss: what the exact strategy is asked for.
        plane, a, data: shapes of a plane, of all its rows' coordinates, and of data.
        workers: how many share the rows.
        cache, samples: as in `parabolas`.

    Returns:
        A function (plane, share of a, data) -> parabolas; None where that is not worth a thread,
        or of a loss whose parabolas have to be checked.
    """
    if not isinstance(loss, PointwiseLoss) or a.size * data.y.size < workers * _WORTH_A_THREAD:
        return None
    traced = jax.make_jaxpr(lambda plane, x: loss.predict(plane.at(0.0, 0.0), x))(plane, data.x)
    if any(isinstance(constant, jax.core.Tracer) for constant in traced.consts):
        return None  # A traced value that the loss holds may not leave its thread.
    share = jax.ShapeDtypeStruct((math.ceil(a.size / workers),), a.dtype)
    # On blocks beyond the cache XLA's threads would be at work as well, and ours wait for them.
    lowered = parabolas.lower(loss.predict, plane, share, data, cache, samples, IN_CACHE)
    return lowered.compile()


def exact(
    compiled: Any, workers: int, plane: Plane, a: np.ndarray, b: np.ndarray, data: Any
) -> tuple[jax.Array, jax.Array]:
    """The loss in every cell, (n1, n2), and whether all of a row are finite, (n1,)."""
    share = math.ceil(len(a) / workers)
    values = np.pad(a, (0, share * workers - len(a)), mode="edge").reshape(-1, share)
    # Arrays of JAX are made here: each thread has its own precision.
    plane, data, b, (own, *others) = jax.device_put((plane, data, b, list(values)))
    running = [_threads(workers - 1).submit(compiled, plane, part, data) for part in others]
    parts = [compiled(plane, own, data), *(future.result() for future in running)]
    return cells_of(parts, b, len(a))


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Kept: to start them takes a fifth of the time that they are worth."""
    return ThreadPoolExecutor(count)
