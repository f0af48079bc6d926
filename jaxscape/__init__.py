"""See the loss surface a network is trained on, and what training does there, in pure JAX.

Importing this costs little more than importing JAX: the rooms that need optax or plotly
(`descend`, `article`, `plot`) load when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

from jaxscape import archive, data
from jaxscape.data import Dataset, batches, noisy_sine, split, weigh_batches_equally
from jaxscape.files import read
from jaxscape.grid import InterruptedWarning, NonFiniteWarning, landscape
from jaxscape.network import (
    Network,
    PointwiseLoss,
    Weights,
    absolute_error,
    huber,
    log_cosh,
    squared_error,
    teacher_student,
)
from jaxscape.noise import BatchLandscapes, batch_landscapes
from jaxscape.outcome import outcomes
from jaxscape.plane import Plane
from jaxscape.refinement import Refinement, refine
from jaxscape.results import Axis, Landscape
from jaxscape.trajectory import Descents, Trajectory

if TYPE_CHECKING:
    from jaxscape import article, plot
    from jaxscape.attraction import Basins, basins
    from jaxscape.descent import descend
    from jaxscape.edge import Stability, edge_of_stability
    from jaxscape.limits import Limit
    from jaxscape.tuning import FinalLoss, hyperparameter_plane

__version__ = "0.1.0"

__all__ = [
    "Axis",
    "BatchLandscapes",
    "Basins",
    "Dataset",
    "Descents",
    "FinalLoss",
    "InterruptedWarning",
    "Landscape",
    "Limit",
    "Network",
    "NonFiniteWarning",
    "Plane",
    "PointwiseLoss",
    "Refinement",
    "Stability",
    "Trajectory",
    "Weights",
    "absolute_error",
    "archive",
    "article",
    "basins",
    "batch_landscapes",
    "batches",
    "data",
    "descend",
    "edge_of_stability",
    "huber",
    "hyperparameter_plane",
    "landscape",
    "log_cosh",
    "noisy_sine",
    "outcomes",
    "plot",
    "read",
    "refine",
    "split",
    "squared_error",
    "teacher_student",
    "weigh_batches_equally",
]


# Where names live that need optax or plotly.
_LATER = {
    "Basins": "attraction",
    "basins": "attraction",
    "descend": "descent",
    "FinalLoss": "tuning",
    "Stability": "edge",
    "Limit": "limits",
    "edge_of_stability": "edge",
    "hyperparameter_plane": "tuning",
}


def __getattr__(name: str):
    if name in ("article", "plot"):
        return importlib.import_module(f"jaxscape.{name}")
    if name in _LATER:
        found = getattr(importlib.import_module(f"jaxscape.{_LATER[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'jaxscape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
