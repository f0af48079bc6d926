"""Other packages for loss landscapes, for `benchmarks.planes`.

    pip install loss-landscape-3d landscaper && pip install 'numpy>=2'
    pip install --no-deps loss-landscapes

The second command is needed because a requirement of landscaper pins NumPy 1, which JAX does not
support. The functions used here work with NumPy 2.
"""

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.torch_planes import Problem


class Peer(NamedTuple):
    """A package applied to one plane."""

    name: str
    surface: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Maps two axes to losses. Each has the same odd number of equally spaced values around 0."""
    comparable: Callable[[np.ndarray], np.ndarray]
    """Maps the expected losses to an (n, n) mask of the cells that the package has right."""


def peers(on: Problem) -> Iterator[Peer]:
    """Yield the installed packages."""
    for name, module, make in (
        ("loss-landscape-3d", "loss_landscape_3d.calculator", _loss_landscape_3d),
        ("landscaper", "landscaper.compute", _landscaper),
        ("loss-landscapes", "loss_landscapes", _loss_landscapes),
    ):
        try:
            package = importlib.import_module(module)
        except ImportError as missing:
            print(f"skipped: {name} ({missing})")
            continue
        yield Peer(name, *make(package, on))


def _all(expected: np.ndarray) -> np.ndarray:
    return np.ones(expected.shape, bool)


def _loss_landscape_3d(module: ModuleType, on: Problem) -> tuple[Callable, Callable]:
    # One batch of all samples is the fastest for this package.
    data = TensorDataset(on.x, on.y)
    samples = DataLoader(data, batch_size=None, sampler=[slice(0, len(on.x))])  # type: ignore
    calculator = module.LossLandscapeCalculator(on.network, samples, on.error)
    u, v, origin = ({"flat": vector} for vector in (on.u, on.v, on.origin))
    return lambda a, b: calculator.calculate(a, b, u, v, origin), _all


def _landscaper(module: ModuleType, on: Problem) -> tuple[Callable, Callable]:
    lengths = [float(vector.double().norm()) for vector in (on.origin, on.u, on.v)]
    if not np.isclose(lengths[1], lengths[2], rtol=1e-5):
        raise ValueError(f"directions: expected equal lengths, got {lengths[1:]}")

    def error(network: torch.nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
        return on.error(network(data[0]), data[1]).item()

    def surface(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        on.network.flat.copy_(on.origin)
        # landscaper scales directions: n/2 steps have the norm of the origin times `distance`.
        distance = float(a[-1] - a[0]) / (len(a) - 1) * lengths[1] * len(a) / 2 / lengths[0]
        silence = io.StringIO()
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            losses, _ = module.compute_loss_landscape(
                on.network,
                (on.x, on.y),
                [[on.u], [on.v]],
                error,
                steps=len(a),
                distance=distance,
                dim=2,
                device="cpu",
            )
        return losses

    # landscaper adds noise to the highest cell.
    return surface, lambda expected: expected < expected.max()


def _loss_landscapes(module: ModuleType, on: Problem) -> tuple[Callable, Callable]:
    metrics = importlib.import_module("loss_landscapes.metrics")
    metric = metrics.Loss(on.error, on.x, on.y)

    class Point(torch.nn.Module):
        """Parameters that the package reads."""

        def __init__(self, flat: torch.Tensor):
            super().__init__()
            self.flat = torch.nn.Parameter(flat, requires_grad=False)

    def surface(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        n = len(a)
        steps = [float(axis[-1] - axis[0]) / (n - 1) for axis in (a, b)]
        # The package's first cell is one step along the second direction from its start.
        start = on.origin + float(a[0]) * on.u + (float(b[0]) - steps[1]) * on.v
        on.network.flat.copy_(start)
        ends = (Point(start + n * h * d) for h, d in zip(steps, (on.u, on.v), strict=True))
        losses = module.planar_interpolation(on.network, *ends, metric, steps=n)
        # The package visits every other row backward and stores each loss one column too late.
        losses[1::2, :-1] = losses[1::2, 1:]
        return losses

    def comparable(expected: np.ndarray) -> np.ndarray:
        counts = _all(expected)
        counts[1::2, -1] = False
        return counts

    return surface, comparable
