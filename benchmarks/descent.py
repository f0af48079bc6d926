"""Benchmark of the article's descent, once and 4,096 times, against loops in PyTorch and numba.

    python -m benchmarks.descent [--runs 4096] [--json FILE]

All values are compared with a float64 NumPy reference before anything is timed.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxscape as jxs
from benchmarks.article import ARTICLE, NUMBA, reference, spread
from benchmarks.timing import (
    Contender,
    compare,
    machine,
    machine_line,
    optional,
    table,
    write_json,
)
from jaxscape.article import BATCH_SIZE, EPOCHS, START

RATE = 0.01
# The largest allowed errors of weights and losses, relative to the larger of the value and 1.
TOLERANCE = 2e-4
JITTED, SCAN = "JAX, a loop of jitted steps", "JAX, a scan by hand"
BASELINES = {"× PyTorch": ARTICLE, "× numba": NUMBA}
LEGEND = """\
As in benchmarks.article. A single run records weights and test error after every epoch; of many
runs, the last weights are compared. "a scan by hand" only trains; descend also detects divergence
and records path lengths, losses and the last gradient.
* extrapolated from the runs under "timed"."""

_SGD = optax.sgd(RATE)


def trained(w1: Any, w2: Any, train: jxs.Dataset) -> Iterator[np.ndarray]:
    """Yield the (2, ...) weights before the first epoch and after each one, in float64."""
    x, y = np.asarray(train.x, float), np.asarray(train.y, float)
    w1, w2 = np.asarray(w1, float), np.asarray(w2, float)
    yield np.stack([w1, w2])
    for _ in range(EPOCHS):
        for k in range(0, len(x), BATCH_SIZE):
            inputs, targets = x[k : k + BATCH_SIZE], y[k : k + BATCH_SIZE]
            hidden = np.tanh(w1[..., None] * inputs)
            slope = 2 * (w2[..., None] * hidden - targets)
            w1, w2 = (
                w1 - RATE * np.mean(slope * w2[..., None] * (1 - hidden**2) * inputs, axis=-1),
                w2 - RATE * np.mean(slope * hidden, axis=-1),
            )
        yield np.stack([w1, w2])


def worst(expected: np.ndarray) -> Callable[[Any], float]:
    """Return a function for the largest error, relative to the larger of the value and 1."""
    scale = np.maximum(np.abs(expected), 1)
    return lambda found: float(np.max(np.abs(np.asarray(found, float) - expected) / scale))


@jax.jit
def _step(weights: jxs.Weights, memory: Any, batch: jxs.Dataset) -> tuple[jxs.Weights, Any]:
    gradient = jax.grad(jxs.squared_error)(weights, batch)
    update, memory = _SGD.update(gradient, memory)
    return cast(jxs.Weights, optax.apply_updates(weights, update)), memory


_steps = jax.jit(jax.vmap(_step, in_axes=(0, 0, None)))
_error = jax.jit(jxs.squared_error)


def one_run(train: jxs.Dataset, test: jxs.Dataset) -> Iterator[Contender]:
    """Yield the contenders for the article's descent from (−1, −1).

    The test error averages over batches, as in the article.
    """
    test = jxs.data.weigh_batches_equally(test, BATCH_SIZE)
    path = np.array(list(trained(*START, train)))
    errors = [reference(np.square, point[:1], point[1:], test).item() for point in path]
    error = worst(np.column_stack([path, errors]))
    points = [np.asarray(leaf) for leaf in jax.tree.leaves((train, test))]
    start = jxs.Weights(np.float32(START.w1), np.float32(START.w2))

    def contender(name: str, run: Callable[[], Any], compiles: bool = False) -> Contender:
        return Contender(name, run, error, TOLERANCE, EPOCHS, run if compiles else None)

    if torch_loops := optional("benchmarks.torch_loops", ARTICLE):
        sets = [torch_loops.batches(*points[k : k + 2], BATCH_SIZE) for k in (0, 2)]
        yield contender(ARTICLE, lambda: torch_loops.descent(START, *sets, EPOCHS, RATE))

    batches = list(jxs.data.batches(train, BATCH_SIZE))

    def steps() -> np.ndarray:
        weights, memory, rows = start, _SGD.init(start), []
        for _ in range(EPOCHS):
            rows.append([*weights, _error(weights, test)])
            for batch in batches:
                weights, memory = _step(weights, memory, batch)
        return np.array([*rows, [*weights, _error(weights, test)]])

    yield contender(JITTED, steps, compiles=True)
    if numba_loops := optional("benchmarks.numba_loops", NUMBA):
        yield contender(
            NUMBA,
            lambda: numba_loops.descent(*start, *points, BATCH_SIZE, EPOCHS, RATE),
            compiles=True,
        )

    def library() -> np.ndarray:
        found = jxs.descend(
            jxs.squared_error,
            start,
            train,
            optimizer=_SGD,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            evaluate=test,
        )
        return np.column_stack(jax.tree.leaves((found.params, found.evaluation_loss)))

    yield contender("jaxscape descend", library, compiles=True)


def many_runs(train: jxs.Dataset, runs: int) -> Iterator[Contender]:
    """Yield the contenders for many descents from starts within 0.2 of the article's.

    At this learning rate, descents from farther away are chaotic: a rounding error grows to half a
    unit within some epochs, so there is no value to compare with.
    """
    generator = np.random.default_rng(0)
    w1, w2 = generator.uniform(-1.2, -0.8, (2, runs)).astype(np.float32)
    # Evenly spaced runs, few enough to train quickly in float64 and in PyTorch.
    some, few = spread(runs, 64), spread(runs, 2)
    *_, last = trained(w1[some], w2[some], train)
    *_, least = trained(w1[few], w2[few], train)
    error, starts = worst(last.T), jxs.Weights(w1, w2)

    def contender(name: str, run: Callable[[], Any]) -> Contender:
        return Contender(name, run, lambda found: error(found[some]), TOLERANCE, runs, run)

    if torch_loops := optional("benchmarks.torch_loops", ARTICLE):
        loader = torch_loops.batches(np.asarray(train.x), np.asarray(train.y), BATCH_SIZE)

        def loops() -> np.ndarray:
            pairs = [(float(w1[k]), float(w2[k])) for k in few]
            return np.array([torch_loops.train(pair, loader, EPOCHS, RATE) for pair in pairs])

        yield Contender(ARTICLE, loops, worst(least.T), TOLERANCE, len(few))

    batches = list(jxs.data.batches(train, BATCH_SIZE))

    def steps() -> np.ndarray:
        weights, memory = starts, jax.vmap(_SGD.init)(starts)
        for _ in range(EPOCHS):
            for batch in batches:
                weights, memory = _steps(weights, memory, batch)
        return np.stack(weights, axis=1)

    yield contender(JITTED, steps)
    if numba_loops := optional("benchmarks.numba_loops", NUMBA):
        x, y = np.asarray(train.x), np.asarray(train.y)
        yield contender(NUMBA, lambda: numba_loops.descents(w1, w2, x, y, BATCH_SIZE, EPOCHS, RATE))
    full = len(train) // BATCH_SIZE
    whole = jax.tree.map(
        lambda leaf: leaf[: full * BATCH_SIZE].reshape(full, BATCH_SIZE),
        jxs.Dataset(train.x, train.y),
    )
    rest = batches[full:]

    @jax.jit
    @jax.vmap
    def scan(weights: jxs.Weights) -> jax.Array:
        def step(carry: Any, batch: Any) -> tuple[Any, None]:
            return _step(*carry, batch), None

        def epoch(carry: Any, _: Any) -> tuple[Any, None]:
            carry, _ = jax.lax.scan(step, carry, whole)
            for batch in rest:
                carry, _ = step(carry, batch)
            return carry, None

        (weights, _), _ = jax.lax.scan(epoch, (weights, _SGD.init(weights)), None, EPOCHS)
        return jnp.stack(weights)

    yield contender(SCAN, lambda: scan(starts))

    def library(record: Any) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            found = jxs.descend(
                jxs.squared_error,
                starts,
                train,
                runs=runs,
                optimizer=_SGD,
                epochs=EPOCHS,
                batch_size=BATCH_SIZE,
                record=record,
            )
            return np.stack(found.final_params, axis=1)

        return run

    yield contender("jaxscape, the ends", library("end"))
    yield contender("jaxscape, every epoch", library("epoch"))


def main() -> None:
    """Print a table for each case and optionally write all timings as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.descent", description=__doc__)
    parser.add_argument("--runs", type=int, default=4096, metavar="R")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    here = machine()
    print(machine_line(here), LEGEND, sep="\n")
    train, test = jxs.article.data()
    cases = {}

    def report(case: str, contenders: Iterator[Contender], unit: str, whole: int, points: int):
        print(f"\n{case}", flush=True)
        cases[case] = compare(list(contenders), whole)
        print(table(cases[case], unit, points, BASELINES), flush=True)

    course = f"{EPOCHS} epochs, batches of {BATCH_SIZE}, {len(train):,} points"
    report(f"one descent, {course}", one_run(train, test), "epoch", EPOCHS, len(train))
    runs = arguments.runs
    report(f"{runs:,} descents, {course}", many_runs(train, runs), "run", runs, EPOCHS * len(train))
    if arguments.json:
        write_json(arguments.json, here, cases)


if __name__ == "__main__":
    main()
