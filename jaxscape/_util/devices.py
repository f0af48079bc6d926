"""Devices, their memory and precision, and the synchronization of processes."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# On a CPU, half of a core's second-level cache. An accelerator needs large products to be busy.
_CACHE_BYTES = {"cpu": 2**19}
_CACHE_BYTES_ELSEWHERE = 2**28


def local_mesh(mesh: Mesh | None) -> Mesh | None:
    """Return the devices of a mesh that belong to this process, as a mesh with one axis.

    Args:
        mesh: a mesh of any shape; None for all devices of this process.

    Returns:
        The mesh. None if `mesh` is None and this process has a single device or a default device.

    Raises:
        TypeError: `mesh` is not a mesh of devices.
        ValueError: `mesh` has a device that does not exist, or no device of this process.
    """
    local = jax.local_devices()
    if mesh is None:
        single = len(local) == 1 or _configured_device() is not None
        return None if single else Mesh(np.array(local), ("rows",))
    if isinstance(mesh, AbstractMesh) or not isinstance(mesh, Mesh):
        raise TypeError(f"mesh: expected a jax.sharding.Mesh of devices, got {mesh!r}")
    existing = set(_all_devices(mesh))
    missing = [device for device in mesh.devices.flat if device not in existing]
    if missing:
        raise ValueError(
            f"mesh: expected devices that exist, got {missing[0]}; there are {jax.devices()}"
        )
    mine = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    if not mine:
        raise ValueError(f"mesh: expected some devices of this process, {local}, got none")
    return Mesh(np.array(mine), ("rows",))


def _all_devices(mesh: Mesh) -> list[jax.Device]:
    """Return all devices of the platforms in a mesh."""
    platforms = {device.platform for device in mesh.devices.flat}
    known: list[jax.Device] = []
    for platform in platforms:
        with contextlib.suppress(RuntimeError):  # an unknown platform has no devices
            known += jax.devices(platform)
    return known


def in_full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make a function of arrays compute its float32 matrix products in full float32 precision.

    By default, GPUs round the factors to TF32, which keeps 10 of the 23 bits of the significand. A
    precision that the caller has set with `jax.default_matmul_precision` is kept.
    """

    @functools.wraps(function)
    def traced(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        configured = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        with jax.default_matmul_precision(configured or "highest"):
            return function(*arguments, **named)

    return traced


def cache_bytes(platform: str) -> int:
    """Return the bytes of a platform's cache that a computation can use."""
    return _CACHE_BYTES.get(platform, _CACHE_BYTES_ELSEWHERE)


def device_memory(device: jax.Device) -> int:
    """Return the bytes of memory of a device; for a CPU, those of the machine."""
    stats = None if device.platform == "cpu" else device.memory_stats()
    return int(stats["bytes_limit"]) if stats and "bytes_limit" in stats else machine_memory()


def memory_budget(device: jax.Device, memory: int | None) -> int:
    """Return `memory`, or a quarter of the device's memory if it is None.

    The rest stays free for the user's arrays and for other programs.
    """
    return device_memory(device) // 4 if memory is None else memory


@functools.cache
def machine_memory() -> int:
    """Return the bytes of memory that this process may use."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # A container may have a lower limit.
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return machine if text == "max" else min(machine, int(text))


def default_device() -> jax.Device:
    """Return the device that JAX computes on."""
    device = _configured_device()
    return device if hasattr(device, "platform") else jax.local_devices(backend=device)[0]


def _configured_device() -> Any:
    """Return JAX's default device or platform name, if the caller has set one, or None."""
    return jax.config.jax_default_device  # type: ignore[attr-defined]


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def synchronized(stage: str) -> Iterator[None]:
    """Wait until all processes have finished a stage of work, and fail in all if it fails in one.

    If only the failing process raised an error, the others would wait for it forever.

    Args:
        stage: the name of the stage, for error messages.

    Raises:
        RuntimeError: Another process failed; that process raises the original error.
    """
    error: BaseException | None = None
    try:
        yield
    except (Exception, KeyboardInterrupt) as raised:
        error = raised
    failed = gather_processes(np.array(error is not None))
    if error is not None:
        raise error
    if failed.any():
        raise RuntimeError(
            f"{stage}: process {', '.join(map(str, np.flatnonzero(failed)))} of {failed.size} "
            "failed; its own error says why"
        )


def gather_processes(array: np.ndarray) -> np.ndarray:
    """Stack the arrays of all processes, which have the same shape, along a new first axis."""
    if jax.process_count() == 1:
        return array[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))


def check_agreement(digests: Mapping[str, str]) -> None:
    """Check that all processes have the same digests.

    Args:
        digests: names, and digests in hexadecimal.

    Raises:
        ValueError: Some digests differ; the message names them.
    """
    mine = np.array([list(bytes.fromhex(digest)) for digest in digests.values()], np.uint8)
    equal = (gather_processes(mine) == mine).all(axis=(0, 2))
    differing = [name for name, same in zip(digests, equal, strict=True) if not same]
    if differing:
        raise ValueError(f"{', '.join(differing)}: expected the same in all processes")
