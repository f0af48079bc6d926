"""Other packages for loss landscapes, for `benchmarks.grid`.

    pip install loss-landscape-3d landscaper && pip install 'numpy>=2'

The second command is needed because a requirement of landscaper pins NumPy 1, which JAX does not
support. The functions used here work with NumPy 2.
"""

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.torch_grids import Network

Tensors = Sequence[torch.Tensor]


def surfaces(
    network: Network,
    origin: Tensors,
    u: Tensors,
    v: Tensors,
    n: int,
    x: torch.Tensor,
    y: torch.Tensor,
) -> Iterator[tuple[str, Callable[[], np.ndarray], bool]]:
    """Yield (name, call for n × n cells, whether all cells are comparable) of installed packages.

    The coordinates of a cell are its indices minus n // 2, as in landscaper, and the directions
    must be scaled by `landscaper_step`.
    """
    mean_squared_error = torch.nn.MSELoss()
    for name in ("loss_landscape_3d.calculator", "landscaper.compute"):
        try:
            module = importlib.import_module(name)
        except ImportError as missing:
            print(f"skipped: {name.partition('.')[0]} ({missing})")
            continue
        if name.startswith("loss"):
            yield (
                "loss-landscape-3d",
                _loss_landscape_3d(module, network, origin, u, v, n, x, y),
                True,
            )
            continue

        def landscaper(compute=module.compute_loss_landscape) -> np.ndarray:
            with torch.no_grad():
                for parameter, start in zip(network.parameters(), origin, strict=True):
                    parameter.copy_(start)
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                losses, _ = compute(
                    network,
                    (x, y),
                    [list(u), list(v)],
                    lambda model, data: mean_squared_error(model(data[0]), data[1]).item(),
                    steps=n,
                    distance=1.0,
                    dim=2,
                    device="cpu",
                )
            return losses

        # landscaper adds noise to the highest cell.
        yield "landscaper", landscaper, False


def _loss_landscape_3d(
    module: ModuleType,
    network: Network,
    origin: Tensors,
    u: Tensors,
    v: Tensors,
    n: int,
    x: torch.Tensor,
    y: torch.Tensor,
) -> Callable[[], np.ndarray]:
    keys = [key for key, _ in network.named_parameters()]
    states = [dict(zip(keys, tensors, strict=True)) for tensors in (u, v, origin)]
    # One batch of all samples is the fastest for this package.
    samples = DataLoader(TensorDataset(x, y), len(x))
    calculator = module.LossLandscapeCalculator(network, samples, torch.nn.MSELoss())
    steps = np.arange(n, dtype=np.float32) - n // 2
    return lambda: calculator.calculate(steps, steps, *states)


def landscaper_step(direction: list[np.ndarray], origin: list[np.ndarray], n: int) -> list:
    """Scale a direction as landscaper does at distance 1, to the step between neighboring cells."""
    scaled = [d * np.sqrt(d.size) / np.linalg.norm(d) for d in direction]
    norms = [np.sqrt(sum(np.sum(d**2) for d in leaves)) for leaves in (origin, scaled)]
    return [np.float32(d * norms[0] / (n / 2) / norms[1]) for d in scaled]
