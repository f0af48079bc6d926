"""Analyze training: outcomes of runs, predictions along a path, and surfaces of mini-batches."""

from jaxscape.training.batch_landscapes import BatchLandscapes, batch_landscapes
from jaxscape.training.hyperparameters import FinalLoss, hyperparameter_plane
from jaxscape.training.outcomes import outcomes
from jaxscape.training.predictions import Predictions, predictions

__all__ = [
    "BatchLandscapes",
    "FinalLoss",
    "Predictions",
    "batch_landscapes",
    "hyperparameter_plane",
    "outcomes",
    "predictions",
]
