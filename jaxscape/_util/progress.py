"""A progress bar that long work shows in a terminal or a notebook, and nothing else does."""

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_SECONDS = 1.0
"""After which it appears, and between two moves of its clock."""


@contextlib.contextmanager
def bar(total: int | None, unit: str) -> Iterator[Any]:
    """tqdm's bar over `total` units (None: no one knows how many), which appears after a second.

    Its clock goes on while a single unit takes long: of one descent nothing else would be seen.
    """
    with warnings.catch_warnings():
        # Without ipywidgets the bar is one of characters, which does as well.
        warnings.filterwarnings("ignore", "IProgress not found")
        from tqdm.auto import tqdm

    in_notebook = "ipykernel" in sys.modules
    shown = in_notebook or sys.stderr.isatty()
    # A notebook shows errors on a red ground, and a bar is none.
    file = sys.stdout if in_notebook else None
    done = threading.Event()

    def keep_time() -> None:
        while not done.wait(_SECONDS):
            progress.refresh()
            # What was displayed is cleared in the end, as if it had not been waited for.
            progress.delay = 0

    with tqdm(
        total=total, unit=f" {unit}", delay=_SECONDS, disable=not shown, leave=False, file=file
    ) as progress:
        clock = threading.Thread(target=keep_time, daemon=True)
        # Whoever has set TQDM_DISABLE sees none.
        runs = not progress.disable
        if runs:
            clock.start()
        try:
            yield progress
        finally:
            done.set()
            if runs:
                clock.join()
