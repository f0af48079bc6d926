"""A progress bar for long computations, shown in terminals and notebooks only."""

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_SECONDS = 1.0
"""The delay before the bar appears, and the interval at which its clock is redrawn."""


@contextlib.contextmanager
def bar(total: int | None, unit: str) -> Iterator[Any]:
    """Open a tqdm progress bar over `total` units, which appears after a second.

    A thread redraws the bar every second, so that its clock also runs during a long unit.

    Args:
        total: the number of units; None if unknown.
        unit: the name of the units.
    """
    with warnings.catch_warnings():
        # Without ipywidgets, tqdm falls back to a bar of text.
        warnings.filterwarnings("ignore", "IProgress not found")
        from tqdm.auto import tqdm

    in_notebook = "ipykernel" in sys.modules
    visible = in_notebook or sys.stderr.isatty()
    # Notebooks show stderr on a red background.
    file = sys.stdout if in_notebook else None
    done = threading.Event()

    def redraw_clock() -> None:
        while not done.wait(_SECONDS):
            progress.refresh()
            # tqdm clears a displayed bar at the end only if it has no delay.
            progress.delay = 0

    with tqdm(
        total=total, unit=f" {unit}", delay=_SECONDS, disable=not visible, leave=False, file=file
    ) as progress:
        clock = threading.Thread(target=redraw_clock, daemon=True)
        # The environment variable TQDM_DISABLE also disables the bar.
        if not progress.disable:
            clock.start()
        try:
            yield progress
        finally:
            done.set()
            if clock.is_alive():
                clock.join()
