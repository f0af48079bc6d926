"""A plane through a network in PyTorch: a loop over its cells, and `torch.func.vmap`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
# Cells that vmap takes at a time; more of them are no faster, and need as much more memory.
_CELLS_AT_ONCE = 4


class Network(torch.nn.Module):
    """Convolutions and then dense layers, all numbers in one parameter.

    Setting one parameter is the least that a cell can take, and packages that scale every
    parameter by itself keep the plane as it is.
    """

    def __init__(self, layers: Layers, activation: str):
        super().__init__()
        self.flat = torch.nn.Parameter(flat(layers), requires_grad=False)
        self.activation = getattr(torch, activation)
        self.shapes = [leaf.shape for layer in layers for leaf in _as_torch(layer)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The predictions, (n, outputs), of images (n, channels, height, width) or of rows."""
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
    """A loss on a plane: the parameters `origin + a·u + b·v`, each a vector."""

    network: Network
    origin: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor
    error: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """(predictions, targets) -> scalar."""
    x: torch.Tensor
    y: torch.Tensor


def problem(
    origin: Layers, u: Layers, v: Layers, activation: str, error: str, x: np.ndarray, y: np.ndarray
) -> Problem:
    """The same in PyTorch; `error` is the name of a function of `torch.nn.functional`."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    if inputs.ndim == 4:
        # As channels_last: two to three times as fast here as channels first.
        inputs = inputs.permute(0, 3, 1, 2)
    if not targets.is_floating_point():
        targets = targets.long()
    network = Network(origin, activation)
    start, along_a, along_b = (flat(layers) for layers in (origin, u, v))
    mean_error = getattr(functional, error)
    return Problem(network, start, along_a, along_b, mean_error, inputs, targets)


def flat(layers: Layers) -> torch.Tensor:
    """All numbers of all layers, in one vector."""
    return torch.cat([leaf.flatten() for layer in layers for leaf in _as_torch(layer)])


def _as_torch(layer: tuple[np.ndarray, np.ndarray]) -> list[torch.Tensor]:
    """Weight and bias with the output's axis first."""
    weight, bias = (torch.tensor(leaf) for leaf in layer)
    return [weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T, bias]


@torch.inference_mode()
def loop(on: Problem, a: np.ndarray, b: np.ndarray, parts: int = 1) -> np.ndarray:
    """The loss in every cell, its parameters set in place.

    All samples go through the network at once, or in parts of almost one size.
    """
    batches = list(zip(on.x.tensor_split(parts), on.y.tensor_split(parts), strict=True))
    shares = [len(y) / len(on.y) for _, y in batches]
    losses = np.empty((a.size, b.size), np.float32)
    flat = on.network.flat.data
    for i, row in enumerate(a):
        for j, column in enumerate(b):
            torch.add(on.origin, on.u, alpha=float(row), out=flat)
            flat.add_(on.v, alpha=float(column))
            errors = [on.error(on.network(x), y) for x, y in batches]
            losses[i, j] = sum(w * e.item() for w, e in zip(shares, errors, strict=True))
    return losses


@torch.no_grad()
def vmapped(on: Problem, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same by `torch.func.vmap` over the cells of a row, some at a time."""

    def cell(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        params = {"flat": on.origin + row * on.u + column * on.v}
        return on.error(torch.func.functional_call(on.network, params, on.x), on.y)

    over_row = torch.func.vmap(cell, (None, 0), chunk_size=_CELLS_AT_ONCE)
    rows = [over_row(row, torch.from_numpy(b)) for row in torch.from_numpy(a)]
    return torch.stack(rows).numpy()
