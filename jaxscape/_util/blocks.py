"""Run blocks of work in threads, with a progress bar, until all are done or Ctrl-C is pressed."""

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
    """Compute blocks of work, keep their results in order, and show a progress bar.

    Args:
        blocks: the blocks. The calling thread iterates over them; at most `threads` + 1 of them
            are submitted and not yet kept. With `threads` = 0, all earlier results are kept before
            the next block is requested, so a generator can depend on them.
        compute: maps a block to its result; called in one of the threads.
        keep: stores a block's result and returns the number of units in the block; called in the
            calling thread, in the order of the blocks.
        total: the number of units; None if unknown.
        unit: the name of the units, shown in the progress bar.
        threads: the number of threads; 0 computes in the calling thread.
        interrupted: called after Ctrl-C; returns the warning to issue, or None to raise
            `KeyboardInterrupt`.

    Returns:
        Whether all blocks were computed.

    Raises:
        KeyboardInterrupt: Ctrl-C, if `interrupted` returns None.
    """
    results = _in_threads(blocks, compute, threads) if threads else _in_this_thread(blocks, compute)
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


def _in_this_thread(
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
