"""Benchmark of planes through networks against other packages and PyTorch loops.

    python -m benchmarks.planes [--full] [--sizes n ...] [--json FILE]

Both directions are random, filter-normalized and move all weights. All contenders have the same
weights, directions and data. Before anything is timed, their losses are compared with a float64
NumPy reference, cell by cell, within a relative 1e-4: float32 sums in another order differ.
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
import optax

import jaxscape as jxs
from benchmarks.grid import measured_rates
from benchmarks.timing import (
    Contender,
    compare,
    machine,
    machine_line,
    optional,
    table,
    write_json,
)

Layers = list[tuple[np.ndarray, np.ndarray]]
Surface = Callable[[np.ndarray, np.ndarray], Any]

TOLERANCE = 1e-4
# For the networks below, no number of parts from 5 to 40 was faster.
PARTS = 10
JAXSCAPE, LOOP, IN_PARTS = "jaxscape", "PyTorch loop", f"PyTorch loop, {PARTS} parts"
# The most seconds of a timed call. Slower contenders are timed on evenly spaced cells, jaxscape on
# evenly spaced rows, or on the whole grid if that takes less than a minute.
PART, WHOLE = 1.0, 60.0
# The fraction of these times without --full.
REDUCED = 0.03
# The most cells per side whose reference is computed.
MAX_COMPARED = 11
LEGEND = """\
Times are those of whole grids in warm calls; * extrapolated from the cells under "cells timed",
which are spread over the grid. "× fastest peer": the speedup over the fastest one that is not
jaxscape. "of floor": the time of all cells' multiply-adds at the measured rate of matrix products,
divided by the median; above 1 if cells share computations. "peak MB": the rise of the peak resident
memory. "rel. error": the largest error relative to float64. landscaper walks to each cell from the
middle, a shorter walk on a part of the grid."""


class Case(NamedTuple):
    """A network, the size of its data, and its loss."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    """The shapes of the weights, (height, width, in, out) of convolutions, then (in, out) of dense
    layers."""
    activation: str
    inputs: tuple[int, ...]
    """The shape of a sample."""
    points: int
    classifies: bool
    """Whether the loss is the softmax cross-entropy, and not the mean squared error."""
    biases: bool
    """Whether the directions move the biases, too."""


def dense(*sizes: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a dense network's weights."""
    return tuple(itertools.pairwise(sizes))


def cases(full: bool) -> list[Case]:
    """Return the cases; without `full`, one of each kind, with a tenth of the larger data sets."""
    part = 1 if full else 10
    wide, deep = dense(784, 128, 10), dense(64, 256, 256, 256, 10)
    images = ((3, 3, 1, 8), (3, 3, 8, 16), (5 * 5 * 16, 10))
    chosen = [
        Case("784-128-10 relu", wide, "relu", (784,), 10_000 // part, True, True),
        Case("784-128-10 relu", wide, "relu", (784,), 10_000 // part, False, False),
        Case("64-256-256-256-10 relu", deep, "relu", (64,), 10_000 // part, True, True),
        Case("CNN 8-16-10 relu", images, "relu", (28, 28, 1), 1_000 // part, True, True),
        Case("64-64-10 relu", dense(64, 64, 10), "relu", (64,), 1_797, True, True),
        Case("1-64-64-1 tanh", dense(1, 64, 64, 1), "tanh", (1,), 1_000, False, True),
    ]
    return chosen if full else [chosen[0], chosen[3], chosen[5]]


class Drawn(NamedTuple):
    """The weights, data and plane of a case."""

    origin: Layers
    x: np.ndarray
    y: np.ndarray
    plane: jxs.Plane


def draw(case: Case) -> Drawn:
    """Draw random weights of realistic size, data and directions."""
    generator = np.random.default_rng(0)

    def normal(deviation: float, shape: tuple[int, ...]) -> np.ndarray:
        return (deviation * generator.normal(size=shape)).astype(np.float32)

    gain = 2.0 if case.activation == "relu" else 1.0
    origin = [
        (normal(np.sqrt(gain / np.prod(shape[:-1])), shape), normal(0.1, shape[-1:]))
        for shape in case.shapes
    ]
    x, outputs = normal(1, (case.points, *case.inputs)), case.shapes[-1][-1]
    y = (
        generator.integers(0, outputs, case.points).astype(np.int32)
        if case.classifies
        else normal(1, (case.points, outputs))
    )
    plane = jxs.Plane.random(jax.random.key(0), origin, include_vectors=case.biases)
    return Drawn(origin, x, y, plane)


def predict(activation: str) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the network as a JAX user would write it."""
    act = getattr(jax.nn, activation)

    def predictions(params: Any, x: jax.Array) -> jax.Array:
        for k, (weight, bias) in enumerate(params):
            if weight.ndim == 4:
                x = jax.lax.conv_general_dilated(
                    x, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                square = (1, 2, 2, 1)
                x = act(x + bias.reshape(1, 1, 1, -1))
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, square, square, "VALID")
                continue
            x = x.reshape(len(x), -1) @ weight + bias.reshape(1, -1)
            x = act(x) if k + 1 < len(params) else x
        return x

    return predictions


def loss_of(case: Case) -> Callable[[Any, Any], jax.Array]:
    """Return the loss of data (x, y) as a JAX user would write it."""
    network = predict(case.activation)

    def cross_entropy(params: Any, data: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = network(params, data[0])
        return optax.softmax_cross_entropy_with_integer_labels(logits, data[1]).mean()

    def squared_error(params: Any, data: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.mean((network(params, data[0]) - data[1]) ** 2)

    return cross_entropy if case.classifies else squared_error


def reference(case: Case, drawn: Drawn, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the loss of every cell in float64 with NumPy."""
    act: Callable = np.tanh if case.activation == "tanh" else lambda z: np.maximum(z, 0)
    u, v = (wide(direction) for direction in (drawn.plane.u, drawn.plane.v))

    def cell(row: float, column: float) -> float:
        x = drawn.x.astype(float)
        for k, layer in enumerate(wide(drawn.origin)):
            weight, bias = (
                leaf + row * along_a + column * along_b
                for leaf, along_a, along_b in zip(layer, u[k], v[k], strict=True)
            )
            if weight.ndim == 4:
                windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[:2], (1, 2))
                x = act(np.tensordot(windows, weight, ((4, 5, 3), (0, 1, 2))) + bias)
                x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
                x = np.maximum(x[:, ::2], x[:, 1::2])
                x = np.maximum(x[:, :, ::2], x[:, :, 1::2])
                continue
            x = x.reshape(len(x), -1) @ weight + bias
            x = act(x) if k + 1 < len(case.shapes) else x
        if not case.classifies:
            return float(np.mean((x - drawn.y) ** 2))
        highest = x.max(axis=1)
        logarithms = highest + np.log(np.exp(x - highest[:, None]).sum(axis=1))
        return float(np.mean(logarithms - x[np.arange(len(x)), drawn.y]))

    return np.array([[cell(float(row), float(column)) for column in b] for row in a])


def wide(layers: Any) -> list[list[Any]]:
    """Return layers in float64, with zeros for leaves that a direction does not move."""
    return [[0.0 if leaf is None else np.asarray(leaf, float) for leaf in pair] for pair in layers]


def multiply_adds(case: Case) -> int:
    """Return the multiply-adds of one forward pass over all samples."""
    total, side = 0, case.inputs[0]
    for shape in case.shapes:
        pixels = 1
        if len(shape) == 4:
            pixels = (side - shape[0] + 1) ** 2
            side = (side - shape[0] + 1) // 2
        total += pixels * int(np.prod(shape))
    return case.points * total


def strides(n: int) -> list[int]:
    """Return the strides that keep both ends and the middle of an odd number n of values."""
    half = n // 2
    return [stride for stride in range(1, half + 1) if half % stride == 0]


def in_torch(case: Case, drawn: Drawn, module: Any) -> Any:
    """Convert the plane, the network and the data to PyTorch."""

    def filled(direction: Any) -> Layers:
        return [
            (weight, np.zeros_like(bias) if along is None else np.asarray(along))
            for weight, (_, bias), along in (
                (np.asarray(step[0]), layer, step[1])
                for step, layer in zip(direction, drawn.origin, strict=True)
            )
        ]

    layers = map(filled, (drawn.origin, drawn.plane.u, drawn.plane.v))
    error = "cross_entropy" if case.classifies else "mse_loss"
    return module.problem(*layers, case.activation, error, drawn.x, drawn.y)


class Implementation(NamedTuple):
    """One implementation of the surface."""

    name: str
    surface: Surface
    """Maps two axes to losses."""
    comparable: Callable[[np.ndarray], np.ndarray]
    """Maps the expected losses to an (n1, n2) mask of the cells that are compared."""
    compiles: bool = False


def implementations(case: Case, drawn: Drawn) -> Iterator[Implementation]:
    """Yield the implementations that are installed."""

    def all_cells(expected: np.ndarray) -> np.ndarray:
        return np.ones(expected.shape, bool)

    if loops := optional("benchmarks.torch_planes", LOOP, IN_PARTS, "PyTorch vmap"):
        on = in_torch(case, drawn, loops)
        yield Implementation(LOOP, lambda a, b: loops.loop(on, a, b), all_cells)
        yield Implementation(IN_PARTS, lambda a, b: loops.loop(on, a, b, parts=PARTS), all_cells)
        yield Implementation("PyTorch vmap", lambda a, b: loops.vmapped(on, a, b), all_cells)
        packages = optional("benchmarks.peers_planes", "other packages")
        for peer in packages.peers(on) if packages else ():
            yield Implementation(*peer)
    loss, plane = loss_of(case), drawn.plane
    data = jax.tree.map(jnp.asarray, (drawn.x, drawn.y))
    cell = jax.jit(lambda plane, a, b, data: loss(plane.at(a, b), data))

    def cells(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([[float(cell(plane, p, q, data)) for q in b] for p in a])

    yield Implementation("JAX, a jitted call a cell", cells, all_cells, compiles=True)
    yield Implementation(
        JAXSCAPE,
        lambda a, b: jxs.landscape(loss, data, plane, a=a, b=b).loss,
        all_cells,
        compiles=True,
    )


def contenders(case: Case, n: int, full: bool, rate: float) -> Iterator[Contender]:
    """Yield a contender for each implementation, on n × n cells or on as many as time allows."""
    drawn, axis = draw(case), np.linspace(-1, 1, n).astype(np.float32)
    compared = next(s for s in strides(n) if n // s < (MAX_COMPARED if full else 4))
    expected = np.full((n, n), np.nan)
    expected[::compared, ::compared] = reference(case, drawn, axis[::compared], axis[::compared])
    floor = n * n * multiply_adds(case) / rate
    for implementation in implementations(case, drawn):
        # jaxscape is timed on whole rows, which use the tiles of the whole grid.
        whole_rows = implementation.name == JAXSCAPE
        stride = timed_stride(implementation.surface, axis, whole_rows, 1.0 if full else REDUCED)
        part = slice(None, None, stride), slice(None, None, 1 if whole_rows else stride)
        yield part_contender(implementation, axis[part[0]], axis[part[1]], expected[part], floor)


def part_contender(
    implementation: Implementation, a: np.ndarray, b: np.ndarray, expected: np.ndarray, floor: float
) -> Contender:
    """Return a contender on some rows and columns; `expected` is NaN in cells without reference."""
    known = ~np.isnan(expected)
    # A package's wrong cells are known for the whole part that it computes.
    counts = known & implementation.comparable(np.where(known, expected, -np.inf))

    def run() -> Any:
        return implementation.surface(a, b)

    def worst(found: Any) -> float:
        return float(np.max(np.abs(np.asarray(found, float)[counts] / expected[counts] - 1)))

    compiles = run if implementation.compiles else None
    return Contender(implementation.name, run, worst, TOLERANCE, a.size * b.size, compiles, floor)


def timed_stride(surface: Surface, axis: np.ndarray, whole_rows: bool, scale: float) -> int:
    """Return the stride of the rows and columns that time allows, from the time of a few cells."""
    few = axis[:: len(axis) // 2]
    across = axis if whole_rows else few
    surface(few, across)
    start = time.perf_counter()
    jax.block_until_ready(surface(few, across))
    per_row = (time.perf_counter() - start) / few.size
    if whole_rows and per_row * axis.size < scale * WHOLE:
        return 1

    def seconds(stride: int) -> float:
        rows = axis[::stride].size
        return rows * per_row * (1 if whole_rows else rows / few.size)

    return next((s for s in strides(len(axis)) if seconds(s) < scale * PART), len(axis) // 2)


def main() -> None:
    """Print a table for each case and optionally write all timings as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planes", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all data and 51 × 51 cells")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="n", help="cells per side, odd")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    sizes = arguments.sizes or [51 if arguments.full else 7]
    if any(n % 2 == 0 or n < 3 for n in sizes):
        parser.error(f"--sizes: expected odd numbers of 3 or more, got {sizes}")
    rates, here = measured_rates(), machine()
    here |= {"multiply_adds_per_second": rates.multiply_adds}
    print(machine_line(here), LEGEND, sep="\n")
    print(f"{rates.multiply_adds / 1e9:.0f} G multiply-adds/s in matrix products")
    timings: dict[str, Any] = {}
    for case, n in itertools.product(cases(arguments.full), sizes):
        loss = "softmax cross-entropy" if case.classifies else "mean squared error"
        moved = "weights and biases" if case.biases else "weights alone"
        title = f"{case.name}, {loss}, {moved}, {n} × {n} cells, {case.points:,} points"
        print(f"\n{title}", flush=True)
        timed = list(contenders(case, n, arguments.full, rates.multiply_adds))
        # Drop the programs compiled for the estimate, so that compilation is timed.
        jax.clear_caches()
        timings[title] = compare(timed, n * n)
        peers = [timing for timing in timings[title] if timing.name != JAXSCAPE]
        fastest = min(peers, key=lambda timing: timing.median).name
        baselines = {"× fastest peer": fastest, "× loop": LOOP}
        print(table(timings[title], "cell", case.points, baselines), flush=True)
        print(f"fastest peer: {fastest}", flush=True)
        # Write after every case, so that an interrupted run keeps its timings.
        if arguments.json:
            write_json(arguments.json, here, timings)


if __name__ == "__main__":
    main()
