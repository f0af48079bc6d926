"""See the loss surface a network is trained on, and what training does there, in pure JAX.

Importing this costs little more than importing JAX: the rooms that need optax or plotly,
and those that find out what a surface is, load when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

from jaxscape import archive, data
from jaxscape.data import Dataset, batches, noisy_sine, split, weigh_batches_equally
from jaxscape.directions import random_direction
from jaxscape.files import read
from jaxscape.grid import InterruptedWarning, NonFiniteWarning, landscape
from jaxscape.network import (
    Function,
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
from jaxscape.projection import project
from jaxscape.recorder import Recorder
from jaxscape.refinement import Refinement, refine
from jaxscape.results import Axis, Landscape
from jaxscape.slices import Lines, interpolate, lines, random_directions
from jaxscape.statistics import Recomputed
from jaxscape.streams import Stream
from jaxscape.trajectory import Descents, Projection, Trajectory

if TYPE_CHECKING:
    from jaxscape import article, plot
    from jaxscape.attraction import Basins, basins
    from jaxscape.critical import critical_points
    from jaxscape.curves import Curve, bezier
    from jaxscape.derivatives import Fields, fields
    from jaxscape.descent import descend
    from jaxscape.description import Description
    from jaxscape.edge import Stability, edge_of_stability
    from jaxscape.fits import Predictions, predictions
    from jaxscape.lattice import Persistence, persistence
    from jaxscape.limits import Limit
    from jaxscape.points import CriticalPoint, CriticalPoints
    from jaxscape.products import ComposedLoss
    from jaxscape.report import describe
    from jaxscape.spectrum import (
        Eigenpairs,
        SpectralDensity,
        TraceEstimate,
        eigenpairs,
        spectral_density,
        trace,
    )
    from jaxscape.steepest import gradient_plane
    from jaxscape.tuning import FinalLoss, hyperparameter_plane
    from jaxscape.valleys import Barrier, Valley, barrier, valley

__version__ = "0.1.0"

__all__ = [
    "Axis",
    "Barrier",
    "Basins",
    "BatchLandscapes",
    "ComposedLoss",
    "CriticalPoint",
    "CriticalPoints",
    "Curve",
    "Dataset",
    "Descents",
    "Description",
    "Eigenpairs",
    "Fields",
    "FinalLoss",
    "Function",
    "InterruptedWarning",
    "Landscape",
    "Limit",
    "Lines",
    "Network",
    "NonFiniteWarning",
    "Persistence",
    "Plane",
    "PointwiseLoss",
    "Predictions",
    "Projection",
    "Recomputed",
    "Recorder",
    "Refinement",
    "SpectralDensity",
    "Stability",
    "Stream",
    "TraceEstimate",
    "Trajectory",
    "Valley",
    "Weights",
    "absolute_error",
    "archive",
    "article",
    "barrier",
    "basins",
    "batch_landscapes",
    "batches",
    "bezier",
    "critical_points",
    "data",
    "descend",
    "describe",
    "edge_of_stability",
    "eigenpairs",
    "fields",
    "gradient_plane",
    "huber",
    "hyperparameter_plane",
    "interpolate",
    "landscape",
    "lines",
    "log_cosh",
    "noisy_sine",
    "outcomes",
    "persistence",
    "plot",
    "predictions",
    "project",
    "random_direction",
    "random_directions",
    "read",
    "refine",
    "spectral_density",
    "split",
    "squared_error",
    "teacher_student",
    "trace",
    "valley",
    "weigh_batches_equally",
]


# Where names live that need optax or plotly, or rooms that take as long to load.
_LATER = {
    "critical_points": "critical",
    "Curve": "curves",
    "bezier": "curves",
    "Fields": "derivatives",
    "fields": "derivatives",
    "Description": "description",
    "Persistence": "lattice",
    "persistence": "lattice",
    "CriticalPoint": "points",
    "CriticalPoints": "points",
    "describe": "report",
    "Predictions": "fits",
    "predictions": "fits",
    "ComposedLoss": "products",
    "Eigenpairs": "eigenvalues",
    "SpectralDensity": "eigenvalues",
    "TraceEstimate": "eigenvalues",
    "eigenpairs": "spectrum",
    "spectral_density": "spectrum",
    "trace": "spectrum",
    "Barrier": "valleys",
    "Valley": "valleys",
    "barrier": "valleys",
    "valley": "valleys",
    "Basins": "attraction",
    "basins": "attraction",
    "descend": "descent",
    "FinalLoss": "tuning",
    "gradient_plane": "steepest",
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
