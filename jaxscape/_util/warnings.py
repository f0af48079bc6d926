"""Warnings of the library, shown at the line of user code that called it."""

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])


class NonFiniteWarning(UserWarning):
    """Some cells of a landscape are NaN or infinite."""


class InterruptedWarning(UserWarning):
    """A result is incomplete because its computation was interrupted."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points to the innermost line outside this library."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
