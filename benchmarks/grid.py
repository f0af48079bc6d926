"""Benchmark of grids of many sizes against other implementations and the hardware's limits.

    python -m benchmarks.grid [--full] [--json FILE]

All values are compared with a reference before anything is timed. The floor is the least time that
this machine needs, from rates measured in the same run. For the exact strategy it counts one tanh
per row and sample and the writing of the cells; for the dense strategy two multiply-adds per cell
and sample; for planes through networks the matrix products.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxscape as jxs
from benchmarks import article
from benchmarks.article import FASTMATH, NUMBA, NUMBA_PARABOLA, PARABOLA, PLAIN, reference, spread
from benchmarks.timing import (
    Contender,
    compare,
    machine,
    machine_line,
    optional,
    relative_error,
    table,
    write_json,
)

# The most cells times points on which a contender is timed; of a larger grid, evenly spaced rows.
WORK, SLOW_WORK = 1e10, 2e8
# float32 sums of products in another order differ by this much.
PLANE = 1e-4
TORCH_LOOP = "PyTorch loop"
BASELINES = {"× numba": NUMBA, "× parabola": NUMBA_PARABOLA, "× loop": TORCH_LOOP}
LEGEND = """\
As in benchmarks.article. "of floor": the least time that this machine needs, divided by the median.
"peak MB": the rise of the peak resident memory during a call."""


class Rates(NamedTuple):
    """The rates of this machine, each the best of several runs."""

    tanh: float
    """tanh per second in float32."""
    multiply_adds: float
    """Multiply-adds per second in a float32 matrix product."""


def fastest(run: Callable[[], Any], repeats: int = 7) -> float:
    """Return the seconds of the fastest of several calls, after one that compiles."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(run())
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def measured_rates() -> Rates:
    """Measure the rates of JAX's default device."""
    # 40 nested tanh on values that stay in the cache, which no compiler removes.
    repeated = jax.jit(lambda x: jax.lax.fori_loop(0, 40, lambda _, x: jnp.tanh(x) + 0.1, x))
    # The highest precision keeps a GPU from rounding to TF32.
    product = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))

    def seconds(function: Callable, shape: tuple[int, ...]) -> float:
        values = jnp.ones(shape)
        return fastest(lambda: function(values))

    tanh = max(40 * n / seconds(repeated, (n,)) for n in (2**16, 2**18, 2**20))
    multiply_adds = max(n**3 / seconds(product, (n, n)) for n in (1024, 2048))
    return Rates(tanh, multiply_adds)


def seconds_to_write(n: int) -> float:
    """Return the least time for writing n × n float32 cells."""
    fill = jax.jit(lambda value: jnp.full((n, n), value))
    return fastest(lambda: fill(jnp.float32(1)))


def squared_error(n: int, data: jxs.Dataset, rates: Rates, full: bool) -> Iterator[Contender]:
    """Yield the contenders for the mean squared error on n × n cells."""
    x, y = np.asarray(data.x), np.asarray(data.y)
    contender = on_grid(n, np.square, data)
    if full and n <= 1024 and len(x) <= 3000:
        if len(x) >= article.BATCH_SIZE:
            yield from article.article_loop(n, data)
        # A call per cell has a fixed cost, even for few points.
        by_cell = min(SLOW_WORK, article.CELLS * len(x))
        yield contender("NumPy loop", lambda a, b: article.numpy_cells(a, b, x, y), by_cell)
        yield contender(
            "JAX, a jitted call a cell", lambda a, b: article.jitted_cells(a, b, data), by_cell
        )
        yield contender(
            "NumPy, a row at once", lambda a, b: article.numpy_rows(a, b, x, y), SLOW_WORK
        )
        if torch_grids := optional("benchmarks.torch_grids", "PyTorch vmap", "PyTorch compiled"):
            yield contender("PyTorch vmap", lambda a, b: torch_grids.vmapped(a, b, x, y), SLOW_WORK)
            if not torch_grids.can_compile():
                print("skipped: PyTorch compiled (no C++ compiler)")
            else:
                yield contender(
                    "PyTorch compiled",
                    lambda a, b: torch_grids.compiled(a, b, x, y),
                    SLOW_WORK,
                    compiles=True,
                )
    if loops := optional("benchmarks.numba_loops", NUMBA, NUMBA_PARABOLA):
        dense = loops.squared_error
        yield contender(NUMBA, lambda a, b: dense(a, b, x, y), WORK, FASTMATH, compiles=True)
        yield contender(
            NUMBA_PARABOLA,
            lambda a, b: loops.parabola(a, b, x, y),
            tolerance=PARABOLA,
            compiles=True,
        )
    points = n * n * len(x)
    yield contender(
        "jaxscape dense",
        article.landscape(jxs.squared_error, data, "dense"),
        WORK,
        compiles=True,
        floor=2 * points / rates.multiply_adds,
    )
    yield contender(
        "jaxscape exact",
        article.landscape(jxs.squared_error, data, "exact"),
        tolerance=PARABOLA,
        compiles=True,
        floor=n * len(x) / rates.tanh + seconds_to_write(n),
    )


def absolute_error(n: int, data: jxs.Dataset, rates: Rates) -> Iterator[Contender]:
    """Yield the contenders for the mean absolute error, one of them a loss that a user wrote."""
    x, y = np.asarray(data.x), np.asarray(data.y)
    contender = on_grid(n, np.abs, data)
    floor = 2 * n * n * len(x) / rates.multiply_adds
    if loops := optional("benchmarks.numba_loops", NUMBA):
        dense = loops.absolute_error
        yield contender(NUMBA, lambda a, b: dense(a, b, x, y), WORK, FASTMATH, compiles=True)
    for name, loss in (
        ("jaxscape dense", jxs.absolute_error),
        ("a user's loss", written_by_a_user),
    ):
        yield contender(
            name, article.landscape(loss, data, "dense"), WORK, compiles=True, floor=floor
        )


def written_by_a_user(weights: jxs.Weights, data: jxs.Dataset) -> jax.Array:
    """Compute the mean absolute error as a plain function."""
    return jnp.mean(jnp.abs(weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y))


def on_grid(n: int, error: Callable, data: jxs.Dataset) -> Callable[..., Contender]:
    """Return a function that makes contenders for the mean error on n × n cells of the square."""
    axis = np.linspace(-2, 1.95, n).astype(np.float32)
    compared = spread(n, max(2, int(SLOW_WORK / 20 / n / len(data))))
    expected = reference(error, axis[compared], axis, data)

    def contender(
        name: str,
        surface: article.Surface,
        work: float = np.inf,
        tolerance: float = PLAIN,
        compiles: bool = False,
        floor: float | None = None,
    ) -> Contender:
        timed = max(1.0, work / n / len(data))
        rows = np.arange(n) if timed >= n else spread(n, int(timed))

        def worst(losses: Any) -> float:
            if len(rows) == n:
                return relative_error(np.asarray(losses)[compared], expected)
            return relative_error(surface(axis[compared], axis), expected)

        def run() -> Any:
            return surface(axis[rows] if len(rows) > 1 else axis[:2], axis)

        part = max(2, len(rows)) * n
        return Contender(name, run, worst, tolerance, part, run if compiles else None, floor)

    return contender


def through_network(
    sizes: tuple[int, ...], activation: str, samples: int, n: int, rates: Rates
) -> Iterator[Contender]:
    """Yield the contenders for n × n cells of a plane through a dense network."""
    generator = np.random.default_rng(0)

    def layers() -> list[np.ndarray]:
        return [
            generator.normal(0, 1 / np.sqrt(i), shape).astype(np.float32)
            for i, o in itertools.pairwise(sizes)
            for shape in ((i, o), (o,))
        ]

    origin, first, second = layers(), layers(), layers()
    x = generator.normal(size=(samples, sizes[0])).astype(np.float32)
    y = generator.normal(size=(samples, sizes[-1])).astype(np.float32)
    u, v = (
        [
            np.float32(d * np.linalg.norm(o) / np.linalg.norm(d) / n)
            for d, o in zip(leaves, origin, strict=True)
        ]
        for leaves in (first, second)
    )
    peers = optional("benchmarks.peers", "loss-landscape-3d", "landscaper")
    # The grid spans about the norm of the parameters.
    if peers:
        u, v = (peers.landscaper_step(leaves, origin, n) for leaves in (first, second))
    steps = np.arange(n, dtype=np.float32) - n // 2
    act = getattr(jax.nn, activation)

    def predict(params: list, x: jax.Array) -> jax.Array:
        for k in range(0, len(params), 2):
            x = x @ params[k] + params[k + 1]
            x = act(x) if k + 2 < len(params) else x
        return x

    def losses(rows: np.ndarray) -> np.ndarray:
        """Compute rows of the grid in float64 with NumPy."""
        function: Callable = np.tanh if activation == "tanh" else lambda z: np.maximum(z, 0)

        def cell(a: float, b: float) -> float:
            hidden = x.astype(float)
            params = [o + a * p + b * q for o, p, q in zip(origin, u, v, strict=True)]
            for k in range(0, len(params), 2):
                hidden = hidden @ params[k] + params[k + 1]
                hidden = function(hidden) if k + 2 < len(params) else hidden
            return float(np.mean((hidden - y) ** 2))

        return np.array([[cell(float(a), float(b)) for b in steps] for a in steps[rows]])

    expected = losses(np.arange(n))
    # landscaper adds noise to the highest cell.
    all_but_highest = expected < expected.max()

    def contender(
        name: str,
        run: Callable,
        compiles: bool = False,
        floor: float | None = None,
        counted: Any = ...,
    ) -> Contender:
        def worst(found: Any) -> float:
            return float(np.max(np.abs(np.asarray(found, float) / expected - 1)[counted]))

        return Contender(name, run, worst, PLANE, n * n, run if compiles else None, floor)

    if loops := optional("benchmarks.torch_grids", TORCH_LOOP, "PyTorch vmap"):
        import torch

        pairs = list(zip(origin[::2], origin[1::2], strict=True))
        network = loops.Network(pairs, activation)
        tensors = [
            [torch.from_numpy(np.ascontiguousarray(leaf.T)) for leaf in leaves]
            for leaves in (origin, u, v)
        ]
        points = torch.from_numpy(x), torch.from_numpy(y)
        yield contender(TORCH_LOOP, lambda: loops.plane(network, *tensors, steps, steps, *points))
        yield contender(
            "PyTorch vmap", lambda: loops.vmapped_plane(network, *tensors, steps, steps, *points)
        )
        if peers:
            for name, run, all_count in peers.surfaces(network, *tensors, n, *points):
                yield contender(name, run, counted=... if all_count else all_but_highest)

    plane, data = jxs.Plane(origin, u, v), jxs.Dataset(x, y)
    loss = jxs.squared_error.of(predict)
    cell = jax.jit(lambda a, b: loss(plane.at(a, b), data))
    yield contender(
        "JAX, a jitted call a cell",
        lambda: np.array([[float(cell(a, b)) for b in steps] for a in steps]),
        compiles=True,
    )
    products = n * n * samples * sum(i * o for i, o in itertools.pairwise(sizes))
    yield contender(
        "jaxscape dense",
        lambda: jxs.landscape(loss, data, plane, method="dense", a=steps, b=steps).loss,
        compiles=True,
        floor=products / rates.multiply_adds,
    )


def main() -> None:
    """Print a table for each case and optionally write all timings as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all sizes and baselines")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="n", help="cells per side")
    parser.add_argument("--points", type=int, nargs="+", metavar="N", help="points at one size")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    full = arguments.full
    sizes = arguments.sizes or ([2**k for k in range(6, 14)] if full else [64, 256, 1024, 2048])
    points = arguments.points or ([10**k for k in range(2, 7)] if full else [100, 100_000])
    rates, here = measured_rates(), machine()
    here |= {
        "tanh_per_second": rates.tanh,
        "multiply_adds_per_second": rates.multiply_adds,
        "write_bytes_per_second": 4 * 4096**2 / seconds_to_write(4096),
    }
    print(machine_line(here), LEGEND, sep="\n")
    print(
        f"{rates.tanh / 1e9:.2f} G tanh/s, {rates.multiply_adds / 1e9:.0f} G multiply-adds/s in "
        f"matrix products, {here['write_bytes_per_second'] / 1e9:.1f} GB/s into new memory"
    )
    cases = {}

    def report(case: str, contenders: Iterator[Contender], cells: int, samples: int) -> None:
        print(f"\n{case}", flush=True)
        cases[case] = compare(list(contenders), cells)
        print(table(cases[case], "cell", samples, BASELINES), flush=True)
        # Write after every case, so that an interrupted run keeps its timings.
        if arguments.json:
            write_json(arguments.json, here, cases)

    middle = min(sizes, key=lambda n: abs(n - (1024 if full else 256)))
    for n, samples in [*((n, 3000) for n in sizes), *((middle, samples) for samples in points)]:
        data = jxs.data.noisy_sine(jax.random.key(0), n=samples)
        at = f"{n} × {n} cells, {samples:,} points"
        report(f"mean squared error, {at}", squared_error(n, data, rates, full), n * n, samples)
        report(f"mean absolute error, {at}", absolute_error(n, data, rates), n * n, samples)
    n = min(max(sizes), 32 if full else 16)
    for shape, activation in (((1, 64, 64, 1), "tanh"), ((64, 256, 128, 10), "relu")):
        name = "-".join(map(str, shape))
        case = f"plane through a {name} network, {activation}, {n} × {n} cells, 1,000 points"
        report(case, through_network(shape, activation, 1000, n, rates), n * n, 1000)


if __name__ == "__main__":
    main()
