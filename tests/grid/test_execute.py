"""Grids in row blocks, threads and processes have the same values as in one piece."""

import itertools
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.grid import execute
from jaxscape.grid import plan as plan_module
from jaxscape.grid.cost import TileLimits
from jaxscape.grid.parabola import Parabola
from jaxscape.grid.plan import Plan, Problem, make_plan
from jaxscape.planes.plane import weight_plane
from tests import reference
from tests.grid.helpers import (
    AXES,
    REORDERED,
    interrupt_after,
    make_data,
    make_problem,
    mean_cube,
    network,
    network_plane,
)


def compute_in_blocks(rows, problem, workers=1, limits=None):
    """Return the losses of a grid that is computed in blocks of `rows` rows."""
    limits = limits or TileLimits(4096, 2**19, 2**30)
    losses = np.full((len(problem.a), len(problem.b)), np.nan, np.float32)

    def keep(block, part):
        assert np.isnan(losses[block.start : block.stop]).all()
        losses[block.start : block.stop] = part

    plan = Plan(rows, workers, limits, None)
    assert execute.compute_row_blocks(plan, problem, [range(len(problem.a))], keep, lambda: None)
    return losses


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rows", [1, 5, 36, 37])
@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error, mean_cube])
def test_row_blocks_equal_the_whole_grid(loss, rows, workers):
    data = make_data()
    problem = make_problem(loss, data)
    whole = jxs.landscape(loss, data, w1=problem.a, w2=problem.b)
    losses = compute_in_blocks(rows, problem, workers)
    np.testing.assert_allclose(losses, whole.loss, rtol=REORDERED)


@pytest.mark.parametrize("cells", [1, 2, 7, 64, 4096])
@pytest.mark.parametrize("loss", [mean_cube, jxs.squared_error.of(network)])
def test_tiles_equal_a_loop_over_cells(loss, cells):
    data = make_data(40)
    plane = weight_plane() if loss is mean_cube else network_plane()
    problem = make_problem(loss, data, plane, 13, 11)
    losses = compute_in_blocks(13, problem, limits=TileLimits(cells, 2**19, 2**30))
    cell = jax.jit(lambda a, b: loss(plane.at(a, b), data))
    truth = [[cell(a, b) for b in problem.b] for a in problem.a]
    np.testing.assert_allclose(losses, truth, rtol=REORDERED)


def test_tiles_in_float64(x64):
    data = make_data(60, np.float64)
    surface = jxs.landscape(mean_cube, data, memory=60_000, **AXES)
    truth = reference.surface(surface, data, lambda r: abs(r) ** 3)
    assert surface.loss.dtype == np.float64
    assert reference.relative_error(surface, truth) < 1e-13


def test_threads_keep_the_precision_of_the_call(x64):
    """In JAX, x64 is a setting of each thread."""
    data = make_data(60, np.float64)
    problem = Problem(
        "dense", mean_cube, weight_plane(), np.linspace(-1, 2, 9), np.linspace(-1, 1, 5), data
    )
    parts = []
    plan = Plan(2, 3, TileLimits(4096, 2**19, 2**30), None)
    execute.compute_row_blocks(
        plan, problem, [range(9)], lambda _, part: parts.append(part), lambda: None
    )
    truth = [
        [reference.loss_at(a, b, data, lambda r: abs(r) ** 3) for b in problem.b] for a in problem.a
    ]
    np.testing.assert_allclose(np.concatenate(parts), truth, rtol=1e-13)


def test_row_ranges_are_cut_into_blocks():
    assert execute.cut([range(2, 9), range(11, 12), range(20, 26)], 3) == [
        *(range(2, 5), range(5, 8), range(8, 9)),
        range(11, 12),
        *(range(20, 23), range(23, 26)),
    ]
    assert execute.cut([], 3) == []


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 11])
def test_processes_divide_the_rows_evenly(monkeypatch, processes):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    row_ranges = [range(1, 4), range(5, 6), range(8, 14)]
    owned = [execute.own_row_ranges(row_ranges, process) for process in range(processes)]
    rows = [[row for own in ranges for row in own] for ranges in owned]
    assert list(itertools.chain(*rows)) == [row for rows in row_ranges for row in rows]
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_ctrl_c_returns_the_rows_that_are_done(monkeypatch):
    data = make_data(500)
    whole = jxs.landscape(jxs.absolute_error, data, **AXES)
    interrupt_after(monkeypatch, 2)
    message = r"the first \d+ of 37 rows are done, up to w1"
    with pytest.warns(jxs.InterruptedWarning, match=message) as caught:
        part = jxs.landscape(jxs.absolute_error, data, memory=20_000, **AXES)
    assert caught[0].filename == __file__
    rows = len(part.a)
    assert 0 < rows < 37
    assert f"the first {rows} of" in str(caught[0].message)
    assert part.shape == part.loss.shape == (rows, 23)
    np.testing.assert_array_equal(part.a.values, whole.a.values[:rows])
    np.testing.assert_allclose(part.loss, whole.loss[:rows], rtol=REORDERED)
    assert threading.active_count() < 50


def test_ctrl_c_before_any_block_is_done_is_raised(monkeypatch):
    def blocks(*_):
        signal.raise_signal(signal.SIGINT)
        yield

    monkeypatch.setattr(execute, "_row_blocks", blocks)
    with pytest.raises(KeyboardInterrupt):
        jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, **AXES)


def test_ctrl_c_is_raised_while_other_processes_wait(monkeypatch):
    problem, kept = make_problem(jxs.absolute_error, make_data(40)), []

    def keep(rows, _):
        if kept:
            raise KeyboardInterrupt
        kept.append(rows)

    plan = Plan(5, 1, TileLimits(4096, 2**19, 2**30), None)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        execute.compute_row_blocks(plan, problem, [range(37)], keep, lambda: "done")
    assert kept == [range(5)]


def test_the_progress_bar_counts_rows_and_is_hidden_outside_of_a_terminal(monkeypatch, capsys):
    import tqdm.auto

    shown = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, **options):
            shown.append((options["total"], options["unit"], options["disable"], options["delay"]))
            super().__init__(**(options | {"disable": True}))

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, **AXES)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, **AXES)
    assert shown == [(37, " rows", True, 1.0), (37, " rows", False, 1.0)]
    assert capsys.readouterr().err == ""


def test_nonfinite_cells_are_counted_over_all_row_blocks():
    def loss(weights, data):
        return jnp.mean(data.x) + jnp.where(weights.w1 > 1, jnp.nan, weights.w2)

    with pytest.warns(jxs.NonFiniteWarning, match=r"161 of 851 cells .* w1 = 1.0\d*, w2 = -1.3: n"):
        surface = jxs.landscape(loss, make_data(500), memory=2_000, **AXES)
    assert isinstance(surface.loss, np.ndarray)
    assert surface.nonfinite_count == np.isnan(surface.loss).sum() == 161


def test_workers_divide_the_parabolas(monkeypatch, x64):
    """The rows, which the number of workers does not divide, equal a loop."""
    monkeypatch.setattr(plan_module, "cores", lambda: 3)
    monkeypatch.setattr(plan_module, "_MIN_PREDICTIONS_PER_THREAD", 37 * 301 // 3)
    problem = make_problem(jxs.squared_error, make_data(301, np.float64))
    problem = problem._replace(a=problem.a.astype(float), b=problem.b.astype(float))
    plan = make_plan(problem, None, None, False)
    assert plan.workers == 3
    assert plan.worker_parabolas is not None
    losses, finite = execute.compute_at_once(plan, problem)
    assert finite
    truth = [
        [reference.loss_at(float(p), float(q), problem.data) for q in problem.b] for p in problem.a
    ]
    np.testing.assert_allclose(losses, truth, rtol=1e-13)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_in_any_row_range_is_raised(failing, error):
    """The failing range is the caller's own or another thread's, while the others still run."""
    go_on = threading.Event()

    def compiled(_, part, __):
        if part[0] == failing:
            go_on.set()
            raise error("no parabola")
        assert go_on.wait(30)

    a = np.arange(6, dtype=np.float32)
    with pytest.raises(error, match="no parabola"):
        execute.exact_in_threads(compiled, 3, weight_plane(), a, a, None)
    # The threads are ready for the next grid.
    sum_up = jax.jit(lambda plane, part, _: Parabola(*[part] * 5))
    losses, _ = execute.exact_in_threads(sum_up, 3, weight_plane(), a, a, None)
    assert losses.shape == (6, 6)


@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error, mean_cube])
def test_a_summary_is_differentiable_in_the_data(loss):
    data = make_data(30)

    @jax.jit
    def lowest_of_a_row(y):
        return jxs.landscape(loss, jxs.Dataset(data.x, y), **AXES).loss[5].min()

    gradient = jax.grad(lowest_of_a_row)(data.y)
    step = 1e-2
    for k in (0, 11, 29):
        up, down = (
            float(lowest_of_a_row(data.y + sign * step * (np.arange(30) == k))) for sign in (1, -1)
        )
        assert gradient[k] == pytest.approx((up - down) / (2 * step), abs=2e-3)


def test_a_summary_is_differentiable_in_a_value_that_the_loss_holds():
    """As in meta-learning, the loss is a closure over a traced hyperparameter."""
    data = make_data(30)

    def mean_loss(ridge):
        def loss(weights, data):
            return jxs.squared_error(weights, data) + ridge * (weights.w1**2 + weights.w2**2)

        return jxs.landscape(loss, data, **AXES).loss.mean()

    w1, w2 = (np.linspace(*AXES[name]) for name in ("w1", "w2"))
    truth = (w1**2).mean() + (w2**2).mean()
    assert jax.grad(mean_loss)(0.1) == pytest.approx(truth, rel=1e-5)


def test_tiles_are_recomputed_for_a_derivative():
    """A gradient over the grid does not store the values of all tiles."""
    data = make_data(3000)

    def mean_loss(y):
        axes = {"w1": (-1, 1, 256), "w2": (-1, 1, 256)}
        return jxs.landscape(mean_cube, jxs.Dataset(data.x, y), **axes).loss.mean()

    stats = jax.jit(jax.grad(mean_loss)).lower(data.y).compile().memory_analysis()
    assert stats.temp_size_in_bytes < 256 * 256 * 3000 * 4 / 3
