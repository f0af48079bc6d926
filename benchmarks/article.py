"""Benchmark of the article's test surface against loops in PyTorch, NumPy, JAX and numba.

    python -m benchmarks.article [--sizes 80 1024] [--json FILE]

All values are compared with a float64 NumPy reference before anything is timed.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxscape as jxs
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
from jaxscape.article import BATCH_SIZE

Surface = Callable[[np.ndarray, np.ndarray], Any]

# The largest allowed relative errors.
PLAIN, FASTMATH, PARABOLA = 2e-6, 5e-6, 2e-5
# The number of cells, in whole rows, that are compared and on which slow loops are timed.
CELLS = 16_384
ARTICLE_ROWS, ARTICLE_COLUMNS = 8, 5

ARTICLE = "PyTorch, the article's loop"
NUMBA, NUMBA_PARABOLA = "numba loop", "numba parabola"
BASELINES = {"× article's": ARTICLE, "× numba": NUMBA}
LEGEND = """\
Times are those of warm calls. "compile s": the first call minus the second; numba compiles once for
all sizes, JAX once for each. "× numba": the speedup over that row. Points/s count every cell, even
those that a parabola gives. "rel. error": the largest error relative to float64. numba uses a
rational tanh, which it can vectorize, unlike np.tanh.
* extrapolated from the cells under "timed", which are spread over the grid, in whole rows except
  for the article's loop."""


def spread(n: int, k: int) -> np.ndarray:
    """Return k of n indices, evenly spaced from the first to the last; all n if k is larger."""
    return np.linspace(0, n - 1, min(n, k)).round().astype(int)


def reference(error: Callable, w1: np.ndarray, w2: np.ndarray, data: jxs.Dataset) -> np.ndarray:
    """Compute the weighted mean error of every cell in float64."""
    x, y, a, b = (np.asarray(values, float) for values in (data.x, data.y, w1, w2))
    weight = np.ones(len(x)) if data.sample_weight is None else np.asarray(data.sample_weight)
    weight = weight / weight.sum(dtype=float)
    return np.array([error(np.outer(b, np.tanh(row * x)) - y) @ weight for row in a])


def numpy_cells(w1: np.ndarray, w2: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute each cell with one NumPy expression."""
    return np.array([[np.mean((b * np.tanh(a * x) - y) ** 2) for b in w2] for a in w1])


def numpy_rows(w1: np.ndarray, w2: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute each row with one NumPy expression; the whole grid would not fit in memory."""
    return np.array([np.mean((np.outer(w2, np.tanh(a * x)) - y) ** 2, axis=1) for a in w1])


def jitted_cells(w1: np.ndarray, w2: np.ndarray, data: jxs.Dataset) -> np.ndarray:
    """Compute each cell with one compiled call."""
    return np.array([[float(_jitted(jxs.Weights(a, b), data)) for b in w2] for a in w1])


_jitted = jax.jit(jxs.squared_error)


def landscape(loss: Callable, data: jxs.Dataset, method: Any) -> Surface:
    """Return a call of the library."""
    return lambda w1, w2: jxs.landscape(loss, data, method=method, w1=w1, w2=w2).loss


def on_grid(n: int, error: Callable, data: jxs.Dataset) -> Callable[..., Contender]:
    """Return a function that makes contenders for the mean error on n × n cells of the square."""
    axis = np.linspace(-2, 1.95, n).astype(np.float32)
    some = spread(n, CELLS // n)
    expected = reference(error, axis[some], axis, data)

    def contender(
        name: str, surface: Surface, tolerance: float, *, part: bool = False, compiles: bool = False
    ) -> Contender:
        rows = some if part else np.arange(n)

        def run() -> Any:
            return surface(axis[rows], axis)

        def worst(losses: Any) -> float:
            return relative_error(losses if part else losses[some], expected)

        return Contender(name, run, worst, tolerance, rows.size * n, run if compiles else None)

    return contender


def article_loop(n: int, test: jxs.Dataset) -> Iterator[Contender]:
    """Yield the article's own loop, timed on a few cells."""
    if loops := optional("benchmarks.torch_loops", ARTICLE):
        axis = np.linspace(-2, 1.95, n).astype(np.float32)
        w1, w2 = axis[spread(n, ARTICLE_ROWS)], axis[spread(n, ARTICLE_COLUMNS)]
        expected = reference(np.square, w1, w2, jxs.data.weigh_batches_equally(test, BATCH_SIZE))
        points = loops.batches(np.asarray(test.x), np.asarray(test.y), BATCH_SIZE)
        yield Contender(
            ARTICLE,
            lambda: loops.surface(w1, w2, points),
            lambda losses: relative_error(losses, expected),
            PLAIN,
            w1.size * w2.size,
        )


def squared_error(n: int, test: jxs.Dataset) -> Iterator[Contender]:
    """Yield the contenders for the mean squared error on n × n cells."""
    yield from article_loop(n, test)
    x, y = np.asarray(test.x), np.asarray(test.y)
    contender = on_grid(n, np.square, test)
    yield contender("NumPy loop", lambda a, b: numpy_cells(a, b, x, y), PLAIN, part=True)
    yield contender("NumPy, a row at once", lambda a, b: numpy_rows(a, b, x, y), PLAIN, part=True)
    jitted = contender(
        "JAX, a jitted call a cell", lambda a, b: jitted_cells(a, b, test), PLAIN, part=True
    )
    one = np.ones(1, np.float32)
    yield jitted._replace(compiles=lambda: jitted_cells(one, one, test))
    if loops := optional("benchmarks.numba_loops", NUMBA, NUMBA_PARABOLA):
        dense = loops.squared_error
        yield contender(NUMBA, lambda a, b: dense(a, b, x, y), FASTMATH, compiles=True)
        yield contender(
            NUMBA_PARABOLA, lambda a, b: loops.parabola(a, b, x, y), PARABOLA, compiles=True
        )
    squared = jxs.squared_error
    yield contender("jaxscape dense", landscape(squared, test, "dense"), PLAIN, compiles=True)
    yield contender("jaxscape exact", landscape(squared, test, "exact"), PARABOLA, compiles=True)


def absolute_error(n: int, test: jxs.Dataset) -> Iterator[Contender]:
    """Yield the contenders for the mean absolute error on n × n cells."""
    x, y = np.asarray(test.x), np.asarray(test.y)
    contender = on_grid(n, np.abs, test)
    if loops := optional("benchmarks.numba_loops", NUMBA):
        dense = loops.absolute_error
        yield contender(NUMBA, lambda a, b: dense(a, b, x, y), FASTMATH, compiles=True)
    absolute = jxs.absolute_error
    yield contender("jaxscape dense", landscape(absolute, test, "dense"), PLAIN, compiles=True)


def main() -> None:
    """Print a table for each case and optionally write all timings as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.article", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[80, 1024], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    here = machine()
    print(machine_line(here), LEGEND, sep="\n")
    _, test = jxs.article.data()
    cases = {}

    for n in arguments.sizes:
        for name, surface in (("squared", squared_error), ("absolute", absolute_error)):
            case = f"mean {name} error, {n} × {n} cells, {len(test):,} points"
            print(f"\n{case}", flush=True)
            cases[case] = compare(list(surface(n, test)), n * n)
            print(table(cases[case], "cell", len(test), BASELINES), flush=True)
    if arguments.json:
        write_json(arguments.json, here, cases)


if __name__ == "__main__":
    main()
