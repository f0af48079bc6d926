"""The devices that this process computes on, their memory and precision; other processes."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh

# Half of a core's second-level cache; an accelerator is filled by large products only.
_CACHE = {"cpu": 2**19}
_CACHE_ELSEWHERE = 2**28


def local_mesh(mesh: Mesh | None) -> Mesh | None:
    """The part of a mesh on this process's devices, by default all of them; None for a single one.

    Raises:
        TypeError: what is no mesh of devices.
        ValueError: a mesh of devices that are not there, or without one of this process.
    """
    here = jax.local_devices()
    if mesh is None:
        one = len(here) == 1 or _chosen_device() is not None
        return None if one else Mesh(np.array(here), ("rows",))
    if isinstance(mesh, AbstractMesh) or not isinstance(mesh, Mesh):
        raise TypeError(f"mesh: expected a jax.sharding.Mesh of devices, got {mesh!r}")
    missing = [device for device in mesh.devices.flat if device not in set(_all_devices(mesh))]
    if missing:
        raise ValueError(
            f"mesh: expected devices that are there, got {missing[0]}; there are {jax.devices()}"
        )
    mine = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    if not mine:
        raise ValueError(f"mesh: expected some devices of this process, {here}, got none")
    return Mesh(np.array(mine), ("rows",))


def _all_devices(mesh: Mesh) -> list:
    platforms = {device.platform for device in mesh.devices.flat}
    known = []
    for platform in platforms:
        with contextlib.suppress(RuntimeError):  # an unknown platform has no devices here
            known += jax.devices(platform)
    return known


def in_full_precision(function: Callable) -> Callable:
    """The same function of arrays, with float32 products in float32.

    GPUs would otherwise round the factors to TF32, ten bits of 23. A precision that the caller has
    chosen with `jax.default_matmul_precision` is kept.
    """

    @functools.wraps(function)
    def traced(*arguments: Any, **named: Any) -> Any:
        chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        with jax.default_matmul_precision(chosen or "highest"):
            return function(*arguments, **named)

    return traced


def cache_of(platform: str) -> int:
    """Bytes of a platform's cache that a computation may count on."""
    return _CACHE.get(platform, _CACHE_ELSEWHERE)


def memory_of(device: Any) -> int:
    """Bytes of memory that a device has: its own, or for a processor the machine's."""
    stats = None if device.platform == "cpu" else device.memory_stats()
    return int(stats["bytes_limit"]) if stats and "bytes_limit" in stats else machine_memory()


def budget_of(device: Any, memory: int | None) -> int:
    """`memory`, or a quarter of what a device has if it is None.

    So that the user's own arrays and other programs have a place too.
    """
    return memory_of(device) // 4 if memory is None else memory


@functools.cache
def machine_memory() -> int:
    """Bytes of memory that this process may use."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # A container's own limit is below the machine's.
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return machine if text == "max" else min(machine, int(text))


def default_device() -> Any:
    """The device that JAX computes on."""
    device = _chosen_device()
    return device if hasattr(device, "platform") else jax.local_devices(backend=device)[0]


def _chosen_device() -> Any:
    return jax.config.jax_default_device  # type: ignore[attr-defined]


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def together(stage: str) -> Iterator[None]:
    """A stage of work that all processes end before any goes on; where one fails, all do.

    A process that raised on its own would leave the others waiting for it.

    Raises:
        RuntimeError: another process failed; its own error says why.
    """
    error: BaseException | None = None
    try:
        yield
    except (Exception, KeyboardInterrupt) as raised:
        error = raised
    failed = of_all(np.array(error is not None))
    if error is not None:
        raise error
    if failed.any():
        raise RuntimeError(
            f"{stage}: process {', '.join(map(str, np.flatnonzero(failed)))} of {failed.size} "
            "failed; its own error says why"
        )


def of_all(array: np.ndarray) -> np.ndarray:
    """An array of each process, along a new first axis."""
    if jax.process_count() == 1:
        return array[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))


def check_agreement(digests: dict[str, str]) -> None:
    """Refuse processes that were not given the same.

    Raises:
        ValueError: what differs, by the names of its digests.
    """
    mine = np.array([list(bytes.fromhex(digest)) for digest in digests.values()], np.uint8)
    equal = (of_all(mine) == mine).all(axis=(0, 2))
    differing = [name for name, same in zip(digests, equal, strict=True) if not same]
    if differing:
        raise ValueError(f"{', '.join(differing)}: expected the same in all processes")
