"""Run blocks of work in order, in threads, with a progress bar, until they are done or Ctrl-C."""

import collections
import contextlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from jaxscape._util.progress import bar
from jaxscape._util.warnings import InterruptedWarning, warn

Block = TypeVar("Block")
Result = TypeVar("Result")


def run_blocks(
    blocks: Iterable[Block],
    compute: Callable[[Block], Result],
    keep: Callable[[Block, Result], int],
    *,
    total: int | None,
    unit: str,
    threads: int,
    interrupted: Callable[[], str | None],
) -> bool:
    """Compute blocks of work and keep their results in order, with a progress bar.

    Args:
        blocks: the blocks. They are made in the calling thread, at most `threads` + 1 of them ahead
            of the last one that was kept. A generator may use what was kept if `threads` is 0.
        compute: maps a block to its result, in one of the threads.
        keep: stores a block's result, in the calling thread, and returns the number of units done.
        total: the number of units; None if it is not known.
        unit: what the progress bar counts.
        threads: how many blocks are computed at a time; 0 computes in the calling thread.
        interrupted: after Ctrl-C, returns a warning that says what is done; None if nothing is.

    Returns:
        Whether all blocks are done.

    Raises:
        KeyboardInterrupt: Ctrl-C, and `interrupted` returned None.
    """
    results = _in_threads(blocks, compute, threads) if threads else _here(blocks, compute)
    with contextlib.closing(results), bar(total, unit) as progress:
        try:
            for block, result in results:
                progress.update(keep(block, result))
        except KeyboardInterrupt:
            message = interrupted()
            if message is None:
                raise
            warn(f"interrupted: {message}", InterruptedWarning)
            return False
    return True


def _here(
    blocks: Iterable[Block], compute: Callable[[Block], Result]
) -> Generator[tuple[Block, Result]]:
    for block in blocks:
        yield block, compute(block)


def _in_threads(
    blocks: Iterable[Block], compute: Callable[[Block], Result], threads: int
) -> Generator[tuple[Block, Result]]:
    with ThreadPoolExecutor(threads) as pool:
        running: collections.deque[tuple[Block, Future[Result]]] = collections.deque()
        try:
            for block in blocks:
                if len(running) > threads:
                    first, future = running.popleft()
                    yield first, future.result()
                running.append((block, pool.submit(compute, block)))
            while running:
                first, future = running.popleft()
                yield first, future.result()
        finally:
            for _, future in running:
                future.cancel()
