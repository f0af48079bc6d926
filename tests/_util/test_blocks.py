"""Blocks of work keep their order in threads, and Ctrl-C keeps the results so far."""

import threading

import pytest

from jaxscape._util.blocks import run_blocks
from jaxscape._util.warnings import InterruptedWarning


def run(blocks, compute, keep, threads, interrupted=lambda: None):
    return run_blocks(
        blocks, compute, keep, total=None, unit="blocks", threads=threads, interrupted=interrupted
    )


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_are_kept_in_order(threads):
    kept = []
    done = run(range(17), lambda k: k**2, lambda k, result: kept.append((k, result)) or 1, threads)
    assert done
    assert kept == [(k, k**2) for k in range(17)]


def test_blocks_are_computed_at_the_same_time():
    """Each block waits for another one, so a single thread would never end."""
    together = threading.Barrier(2, timeout=60)
    assert run(range(4), lambda _: together.wait(), lambda *_: 1, 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_at_most_threads_plus_one_blocks_are_submitted_at_a_time(threads):
    made, kept = [], []

    def blocks():
        for k in range(20):
            made.append(k)
            assert len(made) - len(kept) <= threads + 2
            yield k

    run(blocks(), lambda k: k, lambda k, _: kept.append(k) or 1, threads)
    assert kept == list(range(20))


@pytest.mark.parametrize("threads", [0, 2])
def test_ctrl_c_keeps_the_results_so_far(threads):
    kept = []

    def keep(block, _):
        if block == 3:
            raise KeyboardInterrupt
        kept.append(block)
        return 1

    with pytest.warns(InterruptedWarning, match="interrupted: 3 blocks are done") as caught:
        done = run(range(9), str, keep, threads, lambda: f"{len(kept)} blocks are done")
    assert not done
    assert kept == [0, 1, 2]
    assert caught[0].filename == __file__


def test_ctrl_c_without_results_raises_keyboard_interrupt():
    def keep(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(range(3), str, keep, 1)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_in_a_block_is_raised(threads):
    with pytest.raises(ZeroDivisionError):
        run([1, 0, 2], lambda k: 1 // k, lambda *_: 1, threads)
