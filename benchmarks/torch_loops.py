"""The article's surface and descent in PyTorch, with targets in the shape of the predictions.

Errors are means of batch means, in which a short last batch counts as much as a full one.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

_mean_squared_error = nn.MSELoss()


def batches(x: np.ndarray, y: np.ndarray, batch_size: int) -> DataLoader:
    """Return batches of the points in order."""
    columns = (torch.tensor(values)[:, None] for values in (x, y))
    return DataLoader(TensorDataset(*columns), batch_size)


def network(w1: float, w2: float) -> nn.Sequential:
    """Return the network f(x) = w2·tanh(w1·x)."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False))
    set_weights(model, w1, w2)
    return model


@torch.no_grad()
def set_weights(model: nn.Sequential, w1: float, w2: float) -> None:
    """Set the two weights."""
    for weight, value in zip(model.parameters(), (w1, w2), strict=True):
        weight.fill_(value)


@torch.no_grad()
def error(model: nn.Sequential, points: DataLoader) -> float:
    """Return the mean of the mean squared errors of all batches."""
    return float(np.mean([_mean_squared_error(model(x), y).item() for x, y in points]))


def surface(w1: np.ndarray, w2: np.ndarray, points: DataLoader) -> np.ndarray:
    """Compute the error cell by cell."""
    model = network(0.0, 0.0)
    losses = np.empty((w1.size, w2.size), np.float32)
    for i, j in np.ndindex(losses.shape):
        set_weights(model, float(w1[i]), float(w2[j]))
        losses[i, j] = error(model, points)
    return losses


def _epoch(model: nn.Sequential, optimizer: torch.optim.Optimizer, points: DataLoader) -> None:
    for x, y in points:
        optimizer.zero_grad()
        _mean_squared_error(model(x), y).backward()
        optimizer.step()


def descent(
    start: tuple[float, float], train: DataLoader, test: DataLoader, epochs: int, rate: float
) -> np.ndarray:
    """Run SGD and return (1 + epochs, 3) weights and test errors, one row per epoch."""
    model = network(*start)
    optimizer = torch.optim.SGD(model.parameters(), rate)

    def point() -> list[Any]:
        return [*(weight.item() for weight in model.parameters()), error(model, test)]

    path = [point()]
    for _ in range(epochs):
        _epoch(model, optimizer, train)
        path.append(point())
    return np.array(path)


def train(
    start: tuple[float, float], points: DataLoader, epochs: int, rate: float
) -> tuple[float, ...]:
    """Run SGD and return the last weights."""
    model = network(*start)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(epochs):
        _epoch(model, optimizer, points)
    return tuple(weight.item() for weight in model.parameters())
