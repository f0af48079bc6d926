"""Data, grids and interruptions that tests of grids share."""

import contextlib
import itertools
import signal
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

import jaxscape as jxs
from jaxscape._util import blocks
from jaxscape._util.jaxpr import innermost_equations
from jaxscape.grid import execute
from jaxscape.grid import landscape as landscape_module
from jaxscape.grid.plan import Problem
from jaxscape.planes.plane import weight_plane

REORDERED = 1e-6
"""Relative difference of float32 losses whose sums are taken in another order."""

AXES = {"w1": (-2.1, 1.7, 37), "w2": (-1.3, 2.9, 23)}
"""37 rows, which neither 2 nor 4 nor 8 divide."""


def make_data(n=300, dtype=np.float32):
    """Return noise-free data that the two-weight network cannot fit."""
    generator = np.random.default_rng(n)
    x = generator.normal(0.3, 2.0, n).astype(dtype)
    return jxs.Dataset(x, (np.sin(x) + 0.4 * x).astype(dtype))


def mean_cube(weights, data):
    """A loss that is neither a squared error nor known to be a mean over samples."""
    return jnp.mean(jnp.abs(weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y) ** 3)


def network(params, x):
    """Predictions of a network without biases, (n,) -> (n,)."""
    hidden = x[:, None]
    for weight in params[:-1]:
        hidden = jnp.tanh(hidden @ weight)
    return (hidden @ params[-1])[:, 0]


def network_plane(sizes=(1, 7, 5, 1), early=True, late=True):
    """Return a plane of `network`.

    Without `early`, v moves only the last layer; without `late`, u moves only the first.
    """
    generator = np.random.default_rng(sum(sizes))
    origin, u, v = (
        [generator.normal(size=shape).astype(np.float32) for shape in itertools.pairwise(sizes)]
        for _ in range(3)
    )
    if not early:
        v = [None, None, v[2]]
    if not late:
        u = [u[0], None, None]
    return jxs.Plane(origin, u, v)


def make_problem(loss, data, plane=None, n1=37, n2=23):
    """Return a grid from -1.5 to 2 along both axes; the method is exact for `squared_error`."""
    a, b = (np.linspace(-1.5, 2, n, dtype=np.float32) for n in (n1, n2))
    method = "exact" if loss is jxs.squared_error else "dense"
    return Problem(method, loss, plane or weight_plane(), a, b, data)


def sizes_of(jaxpr, primitive):
    """Yield the output sizes of a primitive anywhere in a traced function."""
    for equation, _ in innermost_equations(jaxpr):
        if equation.primitive.name == primitive:
            yield equation.outvars[0].aval.size


def computed_blocks(monkeypatch):
    """Return a list that collects the rows of all blocks computed from now on."""
    run_blocks, rows = execute.run_blocks, []

    def run(row_blocks, compute, keep, **options):
        def keep_and_note(block, result):
            rows.append(block.rows)
            return keep(block, result)

        return run_blocks(row_blocks, compute, keep_and_note, **options)

    monkeypatch.setattr(execute, "run_blocks", run)
    return rows


def interrupt_after(monkeypatch, count):
    """Press Ctrl-C when `count` row blocks are kept.

    The progress bar does it: a function around `run_blocks` would get its warnings.
    """
    kept = []

    @contextlib.contextmanager
    def interrupting_bar(total, unit):
        def update(units):
            kept.append(units)
            if len(kept) == count:
                signal.raise_signal(signal.SIGINT)

        yield SimpleNamespace(update=update if unit == "rows" else lambda units: None)

    monkeypatch.setattr(blocks, "bar", interrupting_bar)


def set_block_size(monkeypatch, rows, **changes):
    """Make every landscape use row blocks of `rows` rows."""
    make_plan = landscape_module.make_plan

    def plan(*arguments, **options):
        return make_plan(*arguments, **options)._replace(rows=rows, **changes)

    monkeypatch.setattr(landscape_module, "make_plan", plan)
