"""Data, grids and interruptions that tests of grids share."""

import signal

import jax.numpy as jnp
import numpy as np

import jaxscape as jxs
from jaxscape.grid import execute
from jaxscape.grid import landscape as landscape_module

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


def computed_blocks(monkeypatch):
    """Return a list that collects the rows of all blocks computed from now on."""
    run_blocks, rows = execute.run_blocks, []

    def run(blocks, compute, keep, **options):
        def keep_and_note(block, result):
            rows.append(block.rows)
            return keep(block, result)

        return run_blocks(blocks, compute, keep_and_note, **options)

    monkeypatch.setattr(execute, "run_blocks", run)
    return rows


def interrupt_after(monkeypatch, count):
    """Press Ctrl-C when `count` row blocks are kept."""
    run_blocks, kept = execute.run_blocks, []

    def run(blocks, compute, keep, **options):
        def keep_and_interrupt(block, result):
            units = keep(block, result)
            kept.append(block)
            if len(kept) == count:
                signal.raise_signal(signal.SIGINT)
            return units

        return run_blocks(blocks, compute, keep_and_interrupt, **options)

    monkeypatch.setattr(execute, "run_blocks", run)


def set_block_size(monkeypatch, rows, **changes):
    """Make every landscape use row blocks of `rows` rows."""
    make_plan = landscape_module.make_plan

    def plan(*arguments, **options):
        return make_plan(*arguments, **options)._replace(rows=rows, **changes)

    monkeypatch.setattr(landscape_module, "make_plan", plan)
