"""Benchmark of derivatives, stationary points and persistence against direct methods.

    python -m benchmarks.surface [--size 512] [--scan 1000000] [--json FILE]

All values are compared with float64 references before anything is timed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxscape as jxs
from benchmarks.article import spread
from benchmarks.timing import Contender, compare, machine, machine_line, optional, table, write_json

# The largest allowed errors of derivatives, relative to the largest value of each.
FLOAT32, DIFFERENCES = 2e-4, 1e-5
CALLS, NESTED = "a jitted call a cell", "nested vmap by hand"
SCAN, GUDHI, PLAIN = "NumPy, dense scan of w1", "gudhi, cubical complex", "Python, union and find"
LEGEND = """\
As in benchmarks.article. The scan finds sign changes between its values and proves nothing. gudhi
computes the pairs of minima and of maxima; jaxscape also labels the basins.
* extrapolated from the part under "timed"."""


def truth(w1: np.ndarray, w2: np.ndarray, data: jxs.Dataset) -> np.ndarray:
    """Return the (rows, columns, 5) gradients and Hessian entries in float64, from formulas."""
    x, y = (np.asarray(values, float) for values in (data.x, data.y))
    rows = []
    for a in w1:
        h = np.tanh(a * x)
        slope = x * (1 - h * h)
        bend = -2 * x * h * slope
        q, q1, q2 = np.mean([h * h, 2 * h * slope, 2 * (slope**2 + h * bend)], axis=1)
        m, m1, m2 = np.mean([y * h, y * slope, y * bend], axis=1)
        b = w2
        rows.append(
            [
                b * (b * q1 - 2 * m1),
                2 * (b * q - m),
                b * (b * q2 - 2 * m2),
                2 * (b * q1 - m1),
                np.full_like(b, 2 * q),
            ]
        )
    return np.stack(rows).transpose(0, 2, 1)


def derivatives(n: int, data: jxs.Dataset) -> Iterator[Contender]:
    """Yield the contenders for gradients and Hessians on n × n cells of the article's square."""
    axis = np.linspace(-2, 1.95, n).astype(np.float32)
    some = spread(n, 4)
    expected = truth(axis[some].astype(float), axis.astype(float), data)
    scale = abs(expected).max(axis=(0, 1))

    def worst(found: Any) -> float:
        return float((abs(np.asarray(found, float) - expected) / scale).max())

    def entries(gradient: Any, hessian: Any) -> np.ndarray:
        parts = (
            *(gradient[..., 0], gradient[..., 1]),
            *(hessian[..., 0, 0], hessian[..., 0, 1], hessian[..., 1, 1]),
        )
        return np.stack([np.asarray(part) for part in parts], axis=-1)

    x, y = (np.asarray(values, float) for values in (data.x, data.y))

    def differences() -> np.ndarray:
        step, found = 1e-4, []
        for a in axis[some].astype(float):
            b = axis.astype(float)[:, None]
            loss = np.array(
                [
                    [np.mean(((b + j * step) * np.tanh((a + i * step) * x) - y) ** 2, axis=1)
                     for j in (-1, 0, 1)]
                    for i in (-1, 0, 1)
                ]
            )  # fmt: skip
            along_a, along_b = (loss[2, 1] - loss[0, 1]), (loss[1, 2] - loss[1, 0])
            cross = loss[2, 2] - loss[2, 0] - loss[0, 2] + loss[0, 0]
            found.append(
                [
                    along_a / (2 * step),
                    along_b / (2 * step),
                    (loss[2, 1] - 2 * loss[1, 1] + loss[0, 1]) / step**2,
                    cross / (4 * step**2),
                    (loss[1, 2] - 2 * loss[1, 1] + loss[1, 0]) / step**2,
                ]
            )
        return np.stack(found).transpose(0, 2, 1)

    yield Contender("NumPy, differences a row", differences, worst, DIFFERENCES, 4 * n)

    def value(point: jax.Array, data: jxs.Dataset) -> jax.Array:
        return jxs.squared_error(jxs.Weights(point[0], point[1]), data)

    one = jax.jit(
        lambda point, data: (jax.grad(value)(point, data), jax.hessian(value)(point, data))
    )

    def calls() -> np.ndarray:
        cells = [one(np.array([a, b]), data) for a in axis[some[:1]] for b in axis]
        gradient, hessian = (np.stack(part) for part in zip(*cells, strict=True))
        return entries(gradient.reshape(1, n, 2), hessian.reshape(1, n, 2, 2))

    def worst_of_one(found: Any) -> float:
        return float((abs(np.asarray(found, float) - expected[:1]) / scale).max())

    yield Contender(CALLS, calls, worst_of_one, FLOAT32, n, calls)
    nested = jax.jit(
        jax.vmap(jax.vmap(lambda a, b, data: one(jnp.stack([a, b]), data), (None, 0, None)),
                 (0, None, None))
    )  # fmt: skip
    # All rows in one call would take gigabytes.
    yield Contender(
        NESTED,
        lambda: entries(*nested(axis[some], axis, data)),
        worst,
        FLOAT32,
        4 * n,
        lambda: nested(axis[some], axis, data),
    )
    for method in ("dense", "exact"):

        def library(method: Any = method) -> Any:
            found = jxs.derivatives(jxs.squared_error, data, method=method, w1=axis, w2=axis)
            return found.gradient, found.hessian

        yield Contender(
            f"jaxscape, {method}",
            library,
            lambda found: worst(entries(*(np.asarray(part)[some] for part in found))),
            FLOAT32,
            n * n,
            library,
        )


def stationary_points(values: int, data: jxs.Dataset) -> Iterator[Contender]:
    """Yield the contenders for all stationary points of the two-weight network in 0 < w1 ≤ 200."""
    x, y = (np.asarray(values, float) for values in (data.x, data.y))
    found = jxs.critical_points(jxs.squared_error, data, w1=(1e-9, 200.0), w2=(-1e9, 1e9))
    expected = np.sort([point.a for point in found.points])

    def scan(count: int) -> np.ndarray:
        signs = []
        w1 = np.geomspace(2e-3, 200, count)
        for start in range(0, count, 256):
            z = w1[start : start + 256, None] * x
            h = np.tanh(z)
            with np.errstate(over="ignore"):
                kappa = 2 * z / np.sinh(2 * z)
            a, b = (h * h).mean(axis=1), (h * y).mean(axis=1)
            a1, b1 = (h * h * kappa).mean(axis=1), (h * y * kappa).mean(axis=1)
            signs.append(np.sign([a1 * b - a * b1, b]))
        turned = np.nonzero(np.diff(np.concatenate(signs, axis=1), axis=1))[1]
        return np.sort(np.sqrt(w1[turned] * w1[turned + 1]))

    part = min(values, 20_000)

    def worst(roots: np.ndarray) -> float:
        if len(roots) != len(expected):
            return np.inf
        return float((abs(roots / expected - 1)).max())

    yield Contender(SCAN, lambda: scan(part), worst, 2 * np.log(1e5) / part, part)

    def library() -> np.ndarray:
        found = jxs.critical_points(jxs.squared_error, data, w1=(1e-9, 200.0), w2=(-1e9, 1e9))
        assert found.completeness == "proved"
        return np.sort([point.a for point in found.points])

    yield Contender("jaxscape, with proof", library, worst, 1e-12, values)


def persistent_pairs(n: int) -> Iterator[Contender]:
    """Yield the contenders for the persistence of a noisy surface of n × n cells."""

    def noisy(n: int) -> jxs.Landscape:
        axis = np.linspace(-3, 3, n)
        wave = np.sin(3 * axis)[:, None] * np.cos(2 * axis) + 0.1 * axis**2
        loss = wave + 0.01 * np.random.default_rng(0).normal(size=(n, n))
        return jxs.Landscape(loss, jxs.Axis(axis, "w1"), jxs.Axis(axis, "w2"), "waves", "dense")

    def plain(surface: jxs.Landscape) -> np.ndarray:
        """Return the depths of all minima but the lowest, cell by cell."""
        loss = np.asarray(surface.loss)
        n1, n2 = loss.shape
        root: dict[int, int] = {}
        depths, flat = [], loss.ravel()

        def find(k: int) -> int:
            while root[k] != k:
                root[k] = k = root[root[k]]
            return k

        rank = np.empty(flat.size, int)
        order = np.argsort(flat, kind="stable")
        rank[order] = np.arange(flat.size)
        for k in order.tolist():
            i, j = divmod(k, n2)
            near = {
                find(u * n2 + v)
                for u in range(max(i - 1, 0), min(i + 2, n1))
                for v in range(max(j - 1, 0), min(j + 2, n2))
                if u * n2 + v in root
            }
            lowest, *others = sorted(near, key=lambda one: rank[one]) or [k]
            root[k] = lowest
            for other in others:
                root[other] = lowest
                depths.append(flat[k] - flat[other])
        return np.sort(depths)

    surface, small = noisy(n), noisy(min(n, 128))
    expected, expected_small = plain(surface), plain(small)

    def worst(depths: np.ndarray, expected: np.ndarray = expected) -> float:
        return float(abs(depths - expected).max()) if len(depths) == len(expected) else np.inf

    yield Contender(
        PLAIN, lambda: plain(small), lambda d: worst(d, expected_small), 1e-15, small.loss.size
    )
    if gudhi := optional("gudhi", GUDHI):

        def cubes() -> np.ndarray:
            complex_ = gudhi.CubicalComplex(top_dimensional_cells=np.asarray(surface.loss))
            complex_.compute_persistence()
            born, dead = complex_.persistence_intervals_in_dimension(0).T
            return np.sort((dead - born)[np.isfinite(dead) & (dead > born)])

        yield Contender(GUDHI, cubes, worst, 1e-15, surface.loss.size)

    def library() -> np.ndarray:
        found = jxs.topology.persistence(surface)
        return np.sort([m.persistence for m in found.minima if np.isfinite(m.persistence)])

    yield Contender("jaxscape persistence", library, worst, 1e-15, surface.loss.size)


def main() -> None:
    """Print a table for each case and optionally write all timings as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surface", description=__doc__)
    parser.add_argument("--size", type=int, default=512, metavar="N")
    parser.add_argument("--scan", type=int, default=1_000_000, metavar="M")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    here = machine()
    print(machine_line(here), LEGEND, sep="\n")
    _, test = jxs.article.data()
    cases = {}
    for case, contenders, unit, whole, points, baselines in (
        (
            f"gradient and Hessian, {arguments.size} × {arguments.size} cells",
            derivatives(arguments.size, test),
            "cell",
            arguments.size**2,
            len(test),
            {"× nested": NESTED},
        ),
        (
            f"stationary points, 0 < w1 ≤ 200, {arguments.scan:,} values scanned",
            stationary_points(arguments.scan, test),
            "value",
            arguments.scan,
            len(test),
            {"× scan": SCAN},
        ),
        (
            f"persistence, {2 * arguments.size} × {2 * arguments.size} cells",
            persistent_pairs(2 * arguments.size),
            "cell",
            4 * arguments.size**2,
            1,
            {"× Python": PLAIN, "× gudhi": GUDHI},
        ),
    ):
        print(f"\n{case}", flush=True)
        cases[case] = compare(list(contenders), whole)
        print(table(cases[case], unit, points, baselines), flush=True)
    if arguments.json:
        write_json(arguments.json, here, cases)


if __name__ == "__main__":
    main()
