"""The library's warnings, shown at the line of the user's code that called it."""

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])


class NonFiniteWarning(UserWarning):
    """Some cells of a landscape are NaN or infinite."""


class InterruptedWarning(UserWarning):
    """A result is incomplete, because its computation was interrupted."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the first line outside of this library that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
