"""Grids in PyTorch: `torch.func.vmap`, `torch.compile`, and a loop over the cells of a plane."""

import shutil
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import linear

# The most predictions in memory at a time.
_CELLS_AT_ONCE = 2**24


def _mean_squared_error(w1, w2, x, y):
    return torch.mean((w2 * torch.tanh(w1 * x) - y) ** 2)


_grid = torch.func.vmap(
    torch.func.vmap(_mean_squared_error, (None, 0, None, None)), (0, None, None, None)
)


def _rows(w1, w2, x, y):
    hidden = torch.tanh(w1[:, None] * x)
    return ((w2[:, None] * hidden[:, None] - y) ** 2).mean(-1)


_compiled = torch.compile(_rows, dynamic=False)
# Each size of grid has its own program.
torch._dynamo.config.recompile_limit = 64


@torch.no_grad()
def _by_rows(grid: Callable, w1: np.ndarray, *others: np.ndarray) -> np.ndarray:
    w2, x, y = (torch.tensor(array) for array in others)
    rows = min(w1.size, max(1, _CELLS_AT_ONCE // (w2.numel() * x.numel())))
    # The last part is padded, because a compiled grid is compiled once per size.
    filled = torch.tensor(np.resize(w1, rows * -(-w1.size // rows)))
    parts = [grid(part, w2, x, y) for part in filled.split(rows)]
    return torch.cat(parts)[: w1.size].numpy()


def vmapped(w1: np.ndarray, w2: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the mean squared error of the two weights with `torch.func.vmap` over both axes."""
    return _by_rows(_grid, w1, w2, x, y)


def can_compile() -> bool:
    """Return whether there is a C++ compiler, which `torch.compile` needs."""
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


def compiled(w1: np.ndarray, w2: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the same with `torch.compile`, some rows at a time."""
    return _by_rows(_compiled, w1, w2, x, y)


class Network(torch.nn.Module):
    """A dense network from (in, out) weights, biases, and the name of its activation."""

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]], activation: str):
        super().__init__()
        self.activation = getattr(torch, activation)
        self.layers = torch.nn.ParameterList()
        for weight, bias in layers:
            self.layers.extend([torch.tensor(weight.T.copy()), torch.tensor(bias)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the (n, outputs) predictions."""
        layers = list(self.layers)
        for k in range(0, len(layers), 2):
            x = linear(x, layers[k], layers[k + 1])
            if k + 2 < len(layers):
                x = self.activation(x)
        return x


@torch.no_grad()
def plane(
    network: Network,
    origin: Sequence[torch.Tensor],
    u: Sequence[torch.Tensor],
    v: Sequence[torch.Tensor],
    a: np.ndarray,
    b: np.ndarray,
    x: torch.Tensor,
    y: torch.Tensor,
) -> np.ndarray:
    """Compute the mean squared error of a plane cell by cell, with weights set in place."""
    losses = np.empty((a.size, b.size), np.float32)
    parameters = list(network.parameters())
    for i, row in enumerate(a):
        for j, column in enumerate(b):
            for parameter, start, along_a, along_b in zip(parameters, origin, u, v, strict=True):
                parameter.copy_(start).add_(along_a, alpha=float(row))
                parameter.add_(along_b, alpha=float(column))
            losses[i, j] = torch.mean((network(x) - y) ** 2)
    return losses


@torch.no_grad()
def vmapped_plane(
    network: Network,
    origin: Sequence[torch.Tensor],
    u: Sequence[torch.Tensor],
    v: Sequence[torch.Tensor],
    a: np.ndarray,
    b: np.ndarray,
    x: torch.Tensor,
    y: torch.Tensor,
) -> np.ndarray:
    """Compute the same with `torch.func.vmap` over some cells of a row at a time."""
    names = [name for name, _ in network.named_parameters()]

    def cell(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        parameters = {
            name: start + row * along_a + column * along_b
            for name, start, along_a, along_b in zip(names, origin, u, v, strict=True)
        }
        return torch.mean((torch.func.functional_call(network, parameters, x) - y) ** 2)

    over_row = torch.func.vmap(cell, (None, 0), chunk_size=8)
    rows = [over_row(row, torch.from_numpy(b)) for row in torch.from_numpy(a)]
    return torch.stack(rows).numpy()
