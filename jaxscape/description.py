"""A description of a surface, as sentences and as data that JSON holds."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxscape import sketch
from jaxscape.lattice import Persistence
from jaxscape.points import CriticalPoints


@dataclass(frozen=True, eq=False)
class Description:
    """What is known of a surface."""

    sentences: tuple[str, ...]
    """In plain words, one fact each."""
    data: dict[str, Any]
    """As numbers, strings, lists and dicts that JSON holds; what is not finite is None."""
    critical_points: CriticalPoints | None
    """Of the loss, if it was given and could be searched."""
    persistence: Persistence
    """The minima and maxima of the grid."""

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentences."""
        return "".join(map(sketch.paragraph, self.sentences))


def plain(value: Any) -> Any:
    """What JSON holds: arrays as lists, and None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, bool | np.bool_ | str) or value is None:
        return value if isinstance(value, str) or value is None else bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None
