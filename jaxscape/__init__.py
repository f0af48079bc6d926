"""Compute and draw the loss surfaces of neural networks and training paths on them, in pure JAX.

Each name loads its module when it is first used, so that `import jaxscape` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxscape import archive, article, connectivity, curvature, data, plot, topology, training
    from jaxscape._util.warnings import InterruptedWarning, NonFiniteWarning
    from jaxscape.critical.points import CriticalPoint, CriticalPoints
    from jaxscape.critical.search import critical_points
    from jaxscape.data.dataset import Dataset
    from jaxscape.data.stream import Stream
    from jaxscape.description import Description, describe
    from jaxscape.grid.derivatives import Derivatives, derivatives
    from jaxscape.grid.landscape import landscape
    from jaxscape.grid.refine import Refinement, refine
    from jaxscape.losses.batch_statistics import WithBatchStatistics
    from jaxscape.losses.function import Function
    from jaxscape.losses.pointwise import (
        PointwiseLoss,
        absolute_error,
        huber,
        log_cosh,
        squared_error,
    )
    from jaxscape.losses.two_weights import TwoWeightNetwork, Weights
    from jaxscape.planes.directions import random_direction
    from jaxscape.planes.gradient import gradient_plane
    from jaxscape.planes.plane import Plane
    from jaxscape.results.landscape import Axis, Landscape
    from jaxscape.results.trajectory import Descents, Projection, Trajectory
    from jaxscape.training.basins import Basins, basins
    from jaxscape.training.descend import descend
    from jaxscape.training.limits import Limit
    from jaxscape.training.projection import project
    from jaxscape.training.recorder import Recorder

__version__ = "0.1.0"

__all__ = [
    "Axis",
    "Basins",
    "CriticalPoint",
    "CriticalPoints",
    "Dataset",
    "Derivatives",
    "Descents",
    "Description",
    "Function",
    "InterruptedWarning",
    "Landscape",
    "Limit",
    "NonFiniteWarning",
    "Plane",
    "PointwiseLoss",
    "Projection",
    "Recorder",
    "Refinement",
    "Stream",
    "Trajectory",
    "TwoWeightNetwork",
    "Weights",
    "WithBatchStatistics",
    "absolute_error",
    "archive",
    "article",
    "basins",
    "connectivity",
    "critical_points",
    "curvature",
    "data",
    "derivatives",
    "descend",
    "describe",
    "gradient_plane",
    "huber",
    "landscape",
    "log_cosh",
    "plot",
    "project",
    "random_direction",
    "refine",
    "squared_error",
    "topology",
    "training",
]

_PACKAGES = {
    "archive",
    "article",
    "connectivity",
    "curvature",
    "data",
    "plot",
    "topology",
    "training",
}
# The module that defines each of the other names.
_MODULES = {
    "InterruptedWarning": "_util.warnings",
    "NonFiniteWarning": "_util.warnings",
    "CriticalPoint": "critical.points",
    "CriticalPoints": "critical.points",
    "critical_points": "critical.search",
    "Dataset": "data.dataset",
    "Stream": "data.stream",
    "Description": "description",
    "describe": "description",
    "Derivatives": "grid.derivatives",
    "derivatives": "grid.derivatives",
    "landscape": "grid.landscape",
    "Refinement": "grid.refine",
    "refine": "grid.refine",
    "WithBatchStatistics": "losses.batch_statistics",
    "Function": "losses.function",
    "PointwiseLoss": "losses.pointwise",
    "absolute_error": "losses.pointwise",
    "huber": "losses.pointwise",
    "log_cosh": "losses.pointwise",
    "squared_error": "losses.pointwise",
    "TwoWeightNetwork": "losses.two_weights",
    "Weights": "losses.two_weights",
    "random_direction": "planes.directions",
    "gradient_plane": "planes.gradient",
    "Plane": "planes.plane",
    "Axis": "results.landscape",
    "Landscape": "results.landscape",
    "Descents": "results.trajectory",
    "Projection": "results.trajectory",
    "Trajectory": "results.trajectory",
    "Basins": "training.basins",
    "basins": "training.basins",
    "descend": "training.descend",
    "Limit": "training.limits",
    "project": "training.projection",
    "Recorder": "training.recorder",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"jaxscape.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'jaxscape' has no attribute {name!r}")
    module = importlib.import_module(f"jaxscape.{_MODULES[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
