"""Helpers that tests of several packages share."""

import os
from pathlib import Path


def child_environment(index=0, **more):
    """Return the environment of a child process that runs beside other children.

    Its programs are cached in a folder of its own, because JAX does not write them atomically.
    """
    cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    folder = cache.parents[1] / f"child{index}" / cache.name
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder)} | more
