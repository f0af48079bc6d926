"""A plane through a network in PyTorch: a loop over its cells, and `torch.func.vmap`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
# The cells per call of vmap; more cells are not faster and need more memory.
_CELLS_AT_ONCE = 4


class Network(torch.nn.Module):
    """Convolutions followed by dense layers, with all numbers in one parameter.

    One parameter is the fastest to set. It also keeps packages that scale each parameter
    separately from changing the plane.
    """

    def __init__(self, layers: Layers, activation: str):
        super().__init__()
        self.flat = torch.nn.Parameter(flat(layers), requires_grad=False)
        self.activation = getattr(torch, activation)
        self.shapes = [leaf.shape for layer in layers for leaf in _as_torch(layer)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the (n, outputs) predictions of (n, channels, height, width) images or of rows."""
        sizes = [shape.numel() for shape in self.shapes]
        leaves = [
            part.view(shape)
            for part, shape in zip(self.flat.split(sizes), self.shapes, strict=True)
        ]
        for k in range(0, len(leaves), 2):
            weight, bias = leaves[k : k + 2]
            if weight.ndim == 4:
                x = functional.max_pool2d(self.activation(functional.conv2d(x, weight, bias)), 2)
                continue
            if x.ndim == 4:
                x = x.permute(0, 2, 3, 1).flatten(1)
            x = functional.linear(x, weight, bias)
            x = self.activation(x) if k + 2 < len(leaves) else x
        return x


class Problem(NamedTuple):
    """A loss on the plane `origin + a·u + b·v`, where each is one vector."""

    network: Network
    origin: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor
    error: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Maps predictions and targets to a scalar."""
    x: torch.Tensor
    y: torch.Tensor


def problem(
    origin: Layers, u: Layers, v: Layers, activation: str, error: str, x: np.ndarray, y: np.ndarray
) -> Problem:
    """Convert a problem to PyTorch; `error` names a function of `torch.nn.functional`."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    if inputs.ndim == 4:
        # The memory format channels_last is two to three times as fast here.
        inputs = inputs.permute(0, 3, 1, 2)
    if not targets.is_floating_point():
        targets = targets.long()
    network = Network(origin, activation)
    start, along_a, along_b = (flat(layers) for layers in (origin, u, v))
    mean_error = getattr(functional, error)
    return Problem(network, start, along_a, along_b, mean_error, inputs, targets)


def flat(layers: Layers) -> torch.Tensor:
    """Return all numbers of all layers in one vector."""
    return torch.cat([leaf.flatten() for layer in layers for leaf in _as_torch(layer)])


def _as_torch(layer: tuple[np.ndarray, np.ndarray]) -> list[torch.Tensor]:
    """Return weight and bias with the output axis first."""
    weight, bias = (torch.tensor(leaf) for leaf in layer)
    return [weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T, bias]


@torch.inference_mode()
def loop(on: Problem, a: np.ndarray, b: np.ndarray, parts: int = 1) -> np.ndarray:
    """Compute the loss cell by cell, with parameters set in place.

    All samples go through the network in one call, or in `parts` of about equal size.
    """
    batches = list(zip(on.x.tensor_split(parts), on.y.tensor_split(parts), strict=True))
    weights = [len(y) / len(on.y) for _, y in batches]
    losses = np.empty((a.size, b.size), np.float32)
    flat = on.network.flat.data
    for i, row in enumerate(a):
        for j, column in enumerate(b):
            torch.add(on.origin, on.u, alpha=float(row), out=flat)
            flat.add_(on.v, alpha=float(column))
            errors = [on.error(on.network(x), y) for x, y in batches]
            losses[i, j] = sum(w * e.item() for w, e in zip(weights, errors, strict=True))
    return losses


@torch.no_grad()
def vmapped(on: Problem, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the same with `torch.func.vmap` over some cells of a row at a time."""

    def cell(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        params = {"flat": on.origin + row * on.u + column * on.v}
        return on.error(torch.func.functional_call(on.network, params, on.x), on.y)

    over_row = torch.func.vmap(cell, (None, 0), chunk_size=_CELLS_AT_ONCE)
    rows = [over_row(row, torch.from_numpy(b)) for row in torch.from_numpy(a)]
    return torch.stack(rows).numpy()
