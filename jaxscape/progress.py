"""A progress bar that long work shows in a terminal or a notebook, and nothing else does."""

import sys
import warnings
from typing import Any


def bar(total: int | None, unit: str) -> Any:
    """tqdm's bar over `total` units (None: no one knows how many), which appears after a second."""
    with warnings.catch_warnings():
        # Without ipywidgets the bar is one of characters, which does as well.
        warnings.filterwarnings("ignore", "IProgress not found")
        from tqdm.auto import tqdm

    in_notebook = "ipykernel" in sys.modules
    shown = in_notebook or sys.stderr.isatty()
    # A notebook shows errors on a red ground, and a bar is none.
    file = sys.stdout if in_notebook else None
    return tqdm(total=total, unit=f" {unit}", delay=1.0, disable=not shown, leave=False, file=file)
