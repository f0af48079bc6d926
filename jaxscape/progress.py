"""A progress bar that long work shows in a terminal or a notebook, and nothing else does."""

import sys
from typing import Any


def bar(total: int | None, unit: str) -> Any:
    """tqdm's bar over `total` units (None: no one knows how many), which appears after a second."""
    from tqdm.auto import tqdm

    in_notebook = "ipykernel" in sys.modules
    shown = in_notebook or sys.stderr.isatty()
    return tqdm(total=total, unit=f" {unit}", delay=1.0, disable=not shown, leave=False)
