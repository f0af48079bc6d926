"""Compare contenders for one result: check their values, time them in turns, print a table."""

import ctypes
import datetime
import importlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

# A contender is timed as often as fits into this time, within these bounds.
_SECONDS, _FEWEST, _MOST = 2.0, 3, 15
# A run of this length needs no untimed run before it. Shorter ones do.
_LONG, _ENOUGH = 1.0, 10.0


class Contender(NamedTuple):
    """One implementation of the result."""

    name: str
    run: Callable[[], Any]
    """Computes the result, or a part of it."""
    error: Callable[[Any], float]
    """Returns the largest relative error of the value of `run`."""
    tolerance: float
    """The largest allowed error."""
    part: int
    """The number of units of work (cells, epochs) that `run` does."""
    compiles: Callable[[], Any] | None = None
    """A call that compiles what `run` needs, `run` itself if it is short; None if nothing does."""
    floor: float | None = None
    """The least seconds that the whole result needs on this machine; None if unknown."""


class Timing(NamedTuple):
    """The times of a contender for the whole result, in seconds."""

    name: str
    median: float
    fastest: float
    slowest: float
    repeats: int
    compiling: float | None
    """The first call minus the second, mostly compilation; None if nothing is compiled."""
    part: int
    """The units of work that were timed; if these are not all, the times are extrapolated."""
    whole: int
    error: float
    """The largest error relative to the reference."""
    memory: int | None = None
    """The rise of the peak resident memory during a run, in bytes; None if unknown."""
    floor: float | None = None
    """The least seconds that the whole result needs on this machine; None if unknown."""

    @property
    def extrapolated(self) -> bool:
        """Whether only a part of the work was timed."""
        return self.part < self.whole

    @property
    def per_unit(self) -> float:
        """The seconds for one unit of work."""
        return self.median / self.whole


def optional(module: str, *names: str) -> ModuleType | None:
    """Import a module, or print the contenders that are skipped because a package is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        print(f"skipped: {', '.join(names)} ({missing})")
        return None


def relative_error(values: Any, reference: np.ndarray) -> float:
    """Return the largest |values - reference| / |reference|; NaN if any value is NaN."""
    return float(np.max(np.abs(np.asarray(values, float) - reference) / np.abs(reference)))


def compare(contenders: Sequence[Contender], whole: int) -> list[Timing]:
    """Check the values of all contenders, then time them in rounds, so that all drift equally.

    Args:
        contenders: implementations of one result.
        whole: the units of work in the whole result.

    Returns:
        One timing per contender, for the whole result.

    Raises:
        SystemExit: Values differ from the reference; then nothing is timed.
    """
    compiling, warm, errors, memory = [], [], [], []
    for contender in contenders:
        call = contender.compiles
        first = None if call is None else _timed(call)
        start = time.perf_counter()
        found = jax.block_until_ready(contender.run())
        warm.append(time.perf_counter() - start)
        if call is not None and first is not None:
            second = warm[-1] if call is contender.run else _timed(call)
            first = max(0.0, first - second)
        compiling.append(first)
        error = contender.error(found)
        if not error <= contender.tolerance:
            raise SystemExit(
                f"{contender.name}: relative error {error:.1e} over {contender.tolerance:g}; "
                "nothing is timed while values differ"
            )
        errors.append(error)
        memory.append(peak_memory(contender.run))

    taken: list[list[float]] = [[] for _ in contenders]
    for turn in range(_MOST):
        for contender, seconds, times in zip(contenders, warm, taken, strict=True):
            fewest = turn < _FEWEST and sum(times) < _ENOUGH
            if fewest or sum(times) + times[-1] <= _SECONDS:
                if seconds < _LONG:
                    # Not timed: threads of the previous contender may still be spinning.
                    jax.block_until_ready(contender.run())
                times.append(_timed(contender.run))

    return [
        _timing(*measured, whole)
        for measured in zip(contenders, compiling, taken, errors, memory, strict=True)
    ]


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def _timing(
    contender: Contender,
    compiling: float | None,
    taken: list[float],
    error: float,
    memory: int | None,
    whole: int,
) -> Timing:
    scale = whole / contender.part
    return Timing(
        contender.name,
        scale * statistics.median(taken),
        scale * min(taken),
        scale * max(taken),
        len(taken),
        compiling,
        contender.part,
        whole,
        error,
        memory,
        contender.floor,
    )


def peak_memory(run: Callable[[], Any]) -> int | None:
    """Return the rise of the peak resident memory during a call, in bytes; None without /proc.

    Memory of an accelerator is not counted.
    """
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None

    def resident(field: str) -> int:
        lines = status.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

    # Free memory that malloc keeps would hide the memory of the call.
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    reset.write_text("5")
    before = resident("VmRSS")
    jax.block_until_ready(run())
    return max(0, resident("VmHWM") - before)


def duration(seconds: float) -> str:
    """Format seconds with three digits in a readable unit.

    Example:
        >>> duration(0.00123), duration(16_400.0)
        ('1.23 ms', '16,400 s')
    """
    units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    unit = next((unit for unit, scale in units.items() if seconds >= scale), "ns")
    return f"{_three_digits(seconds / units[unit])} {unit}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def table(timings: Sequence[Timing], unit: str, points: int, baselines: Mapping[str, str]) -> str:
    """Format timings as aligned columns.

    Args:
        timings: the timings of one result.
        unit: the name of a unit of work, in the singular.
        points: the samples that each unit of work visits.
        baselines: maps a column's heading to the contender with which it compares.
    """
    by_name = {timing.name: timing for timing in timings}
    against = {
        heading: by_name[name].median for heading, name in baselines.items() if name in by_name
    }
    head = ["method", f"{unit}s timed", "runs", "compile s", "median", "min", "max", f"per {unit}"]
    lines = [[*head, f"G {unit}·points/s", *against]]
    lines[0] += ["of floor", "peak MB", "rel. error"]
    for timing in timings:
        mark = "*" if timing.extrapolated else ""
        times = timing.median, timing.fastest, timing.slowest
        lines.append(
            [
                timing.name,
                f"{timing.part:,} of {timing.whole:,}" if mark else "all",
                str(timing.repeats),
                "–" if timing.compiling is None else f"{timing.compiling:.2f}",
                *(duration(seconds) + mark for seconds in times),
                duration(timing.per_unit),
                _three_digits(points / timing.per_unit / 1e9),
                *(_three_digits(seconds / timing.median) for seconds in against.values()),
                "–" if timing.floor is None else f"{timing.floor / timing.median:.2f}",
                "–" if timing.memory is None else f"{timing.memory / 1e6:,.0f}",
                f"{timing.error:.0e}",
            ]
        )
    disturbed = [timing.name for timing in timings if timing.median > 2 * timing.fastest]
    note = f"\ndisturbed, median over twice the min: {', '.join(disturbed)}" if disturbed else ""
    return _aligned(lines) + note


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if k else text.ljust(width)
            for k, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def machine() -> dict[str, Any]:
    """Return the machine, the versions of the packages, and the date."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("jax", "numpy", "numba", "torch")},
        # The load of the minute before; timings need an idle machine.
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.date.today().isoformat(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine_line(machine: Mapping[str, Any]) -> str:
    """Format the machine as one line."""
    packages = ", ".join(
        f"{name} {machine[name] or 'absent'}" for name in ("jax", "numpy", "numba", "torch")
    )
    return (
        f"{machine['processor']}, {machine['cores']} cores; device {machine['device']}; "
        f"Python {machine['python']}, {packages}; load {machine['load']}; {machine['date']}"
    )


def write_json(
    path: Path, machine: Mapping[str, Any], cases: Mapping[str, Sequence[Timing]]
) -> None:
    """Write the timings by case and contender, with times in seconds."""
    content = {
        "machine": dict(machine),
        "cases": {
            case: {
                timing.name: {
                    **{key: value for key, value in timing._asdict().items() if key != "name"},
                    "per_unit": timing.per_unit,
                    "extrapolated": timing.extrapolated,
                }
                for timing in timings
            }
            for case, timings in cases.items()
        },
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
