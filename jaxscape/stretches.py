"""Stretches of rows: which of them a process computes, and what all have computed."""

import math
from collections.abc import Sequence

import jax
import numpy as np

from jaxscape.devices import of_all


def mine(todo: Sequence[range], process: int | None = None) -> list[range]:
    """A process's share of some stretches of rows: as many as any other's, or one less."""
    process = jax.process_index() if process is None else process
    n, processes = sum(map(len, todo)), jax.process_count()
    first, end = n * process // processes, n * (process + 1) // processes
    share = []
    for stretch in todo:
        share.append(stretch[max(first, 0) : max(end, 0)])
        first, end = first - len(stretch), end - len(stretch)
    return [stretch for stretch in share if stretch]


def cut(todo: Sequence[range], rows: int) -> list[range]:
    """Stretches of rows cut into bands."""
    return [stretch[k : k + rows] for stretch in todo for k in range(0, len(stretch), rows)]


def gathered(losses: np.ndarray) -> np.ndarray:
    """The rows of all processes, each of which has filled in its own."""
    rows, processes = range(len(losses)), jax.process_count()
    part = np.zeros((math.ceil(len(rows) / processes), *losses.shape[1:]), losses.dtype)
    for own in mine([rows]):
        part[: len(own)] = losses[own.start : own.stop]
    parts = of_all(part)
    for process in range(processes):
        for share in mine([rows], process):
            losses[share.start : share.stop] = parts[process, : len(share)]
    return losses
