"""Grids cut into tiles and bands: equal values, in bounded memory, however they are cut."""

import re
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape._util import devices, progress
from jaxscape.grid import cost, execute, strategies
from jaxscape.grid import plan as plan_module
from jaxscape.grid.cost import TileLimits
from jaxscape.grid.parabola import Parabola
from jaxscape.planes.plane import weight_plane
from tests import reference
from tests.grid.helpers import AXES, interrupt_after, make_data, mean_cube

# The same float32 sums, taken in another order where tiles are cut otherwise.
REORDERED = 1e-6


def network_plane(sizes=(1, 7, 5, 1), early=True, late=True):
    def layers(key):
        keys = jax.random.split(key, len(sizes))
        return [
            jax.random.normal(k, (i, o))
            for k, i, o in zip(keys, sizes[:-1], sizes[1:], strict=False)
        ]

    origin, u, v = (layers(jax.random.key(k)) for k in range(3))
    if not early:
        v = [None, None, v[2]]
    if not late:
        u = [u[0], None, None]
    return jxs.Plane(origin, u, v)


def network(params, x):
    hidden = x[:, None]
    for weight in params[:-1]:
        hidden = jnp.tanh(hidden @ weight)
    return (hidden @ params[-1])[:, 0]


def problem(loss, data, plane=None, n1=37, n2=23):
    plane = plane or weight_plane()
    a, b = (np.linspace(-1.5, 2, n, dtype=np.float32) for n in (n1, n2))
    method = "exact" if loss is jxs.squared_error else "dense"
    return plan_module.Problem(method, loss, plane, a, b, data)


def cut_into(rows, task, workers=1, limits=None):
    """The grid, computed in bands of some rows."""
    limits = limits or TileLimits(4096, 2**19, 2**30)
    losses = np.full((len(task.a), len(task.b)), np.nan, np.float32)

    def keep(done, part):
        assert np.isnan(losses[done.start : done.stop]).all()
        losses[done.start : done.stop] = part

    plan = plan_module.Plan(rows, workers, limits, None)
    assert execute.compute_row_blocks(plan, task, [range(len(task.a))], keep, lambda: None)
    return losses


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rows", [1, 5, 36, 37])
@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error, mean_cube])
def test_bands_equal_the_whole(loss, rows, workers):
    data = make_data()
    task = problem(loss, data)
    whole = jxs.landscape(loss, data, w1=task.a, w2=task.b)
    np.testing.assert_allclose(cut_into(rows, task, workers), whole.loss, rtol=REORDERED)


@pytest.mark.parametrize("limit", [1, 2, 7, 64, 4096])
@pytest.mark.parametrize("loss", [mean_cube, jxs.squared_error.of(network)])
def test_tiles_equal_a_loop_over_cells(loss, limit):
    data = make_data(40)
    plane = weight_plane() if loss is mean_cube else network_plane()
    task = problem(loss, data, plane, 13, 11)
    losses = cut_into(13, task, limits=TileLimits(limit, 2**19, 2**30))
    cell = jax.jit(lambda a, b: loss(plane.at(a, b), data))
    truth = [[cell(a, b) for b in task.b] for a in task.a]
    np.testing.assert_allclose(losses, truth, rtol=REORDERED)


def test_tiles_in_float64(x64):
    data = make_data(60, np.float64)
    surface = jxs.landscape(mean_cube, data, memory=60_000, **AXES)
    truth = reference.surface(surface, data, lambda r: abs(r) ** 3)
    assert surface.loss.dtype == np.float64
    assert reference.relative_error(surface, truth) < 1e-13


def test_threads_keep_the_precision_of_the_call(x64):
    """Each thread has a precision of its own, which is not the caller's."""
    data = make_data(60, np.float64)
    task = plan_module.Problem(
        "dense", mean_cube, weight_plane(), np.linspace(-1, 2, 9), np.linspace(-1, 1, 5), data
    )
    parts = []
    plan = plan_module.Plan(2, 3, TileLimits(4096, 2**19, 2**30), None)
    execute.compute_row_blocks(
        plan, task, [range(9)], lambda rows, part: parts.append(part), lambda: None
    )
    truth = [[reference.loss_at(a, b, data, lambda r: abs(r) ** 3) for b in task.b] for a in task.a]
    np.testing.assert_allclose(np.concatenate(parts), truth, rtol=1e-13)


@pytest.mark.parametrize(
    ("chosen", "expected"), [(None, "HIGHEST"), ("tensorfloat32", "HIGH"), ("bfloat16", "DEFAULT")]
)
def test_products_are_rounded_to_tf32_only_where_that_was_asked_for(chosen, expected):
    """GPUs round float32 products unless they are told not to; processors never do."""
    loss, data = jxs.squared_error.of(network), make_data(40)
    axes = np.zeros(2, np.float32), np.zeros(3, np.float32)
    with jax.default_matmul_precision(chosen):
        lowered = strategies.dense.lower(
            loss, None, TileLimits(0, 0, 0), network_plane(), *axes, data
        )
    written = re.findall(r"dot_general .* precision = \[(\w+), (\w+)\]", lowered.as_text())
    assert set(written) == {(expected, expected)}


def test_what_is_done_once_a_row_is_told_from_what_is_done_in_every_cell():
    """By hand: a network of 40 samples with 1-7-5-1 neurons, changed in places only."""
    axes = np.zeros(2, np.float32), np.zeros(3, np.float32)
    loss, data = jxs.squared_error.of(network), make_data(40)

    def products(**kind):
        nothing_shared = TileLimits(0, 0, 0)
        share = cost.grid_cost(nothing_shared, loss, network_plane(**kind), *axes, data)
        return tuple(part.product_bytes for part in share[:3])

    sizes = [(1, 7), (7, 5), (5, 1)]
    # The inputs are the same for all; the first product reads them but makes its own output.
    inputs, outputs = 40 * np.array([0, 7, 5]), 40 * np.array([7, 5, 1])
    every = 4 * (inputs + [i * o for i, o in sizes] + outputs)
    row, column, cell = products()
    assert (row, column, cell) == (0, 0, every.sum())
    row, column, cell = products(early=False, late=False)
    # The first layer is a row's, the second product too; the last has a row's input, a column's
    # weights, and a cell's output.
    assert cell == 4 * 40
    assert row > cell
    assert row + column + cell == pytest.approx(every.sum(), rel=0.1)


@pytest.mark.parametrize(
    ("limits", "check"),
    [
        (TileLimits(64, 2**40, 2**40), lambda count, size: size <= 64),
        (TileLimits(4096, 20_000, 2**40), lambda count, size: count.product_bytes <= 20_000),
        (TileLimits(4096, 2**40, 100_000), lambda count, size: count.bytes <= 100_000),
    ],
)
def test_a_tile_keeps_its_limits_and_fills_them(limits, check):
    axes = np.zeros(2, np.float32), np.zeros(3, np.float32)
    loss, data = jxs.squared_error.of(network), make_data(40)
    share = cost.grid_cost(limits, loss, network_plane(), *axes, data)
    rows, columns = cost.tile_shape(limits, share, 200, 300)
    assert check(share.of_cells(rows, columns), rows * columns)
    assert not check(share.of_cells(4 * rows, 4 * columns), 16 * rows * columns)


def test_a_tile_is_long_where_the_shared_work_is():
    """Early layers once a row ask for many columns, and the other way round."""
    axes = np.zeros(2, np.float32), np.zeros(2, np.float32)
    loss, data = jxs.squared_error.of(network), make_data(400)
    limits = TileLimits(32, 2**40, 2**40)
    plane = network_plane(early=False, late=False)
    rows, columns = cost.tile_shape(
        limits, cost.grid_cost(limits, loss, plane, *axes, data), 64, 64
    )
    assert (rows, columns) == (1, 32)
    turned = jxs.Plane(plane.origin, plane.v, plane.u)
    rows, columns = cost.tile_shape(
        limits, cost.grid_cost(limits, loss, turned, *axes, data), 64, 64
    )
    assert (rows, columns) == (32, 1)


def plan_of(loss, data, memory, n1=37, n2=23, plane=None, written=False):
    return plan_module.make_plan(problem(loss, data, plane, n1, n2), None, memory, written)


@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error, mean_cube])
@pytest.mark.parametrize("memory", [400_000, 4_000_000, 40_000_000])
def test_a_band_takes_no_more_than_the_budget(loss, memory):
    # Few samples, so that memory and not time is what limits a band.
    plan = plan_of(loss, make_data(30), memory, 900, 700)
    strategy = strategies.exact if loss is jxs.squared_error else strategies.dense
    task = problem(loss, make_data(30), None, min(plan.rows, 900), 700)
    compiled = strategy.lower(loss, None, plan.limits, *task[2:]).compile()
    stats = compiled.memory_analysis()
    needed = stats.temp_size_in_bytes + stats.output_size_in_bytes
    assert needed * plan.workers <= memory
    # Nor does it take far less: with four times the rows it would be over.
    if plan.rows < 900:
        task = task._replace(a=np.linspace(-1, 1, 4 * plan.rows, dtype=np.float32))
        compiled = strategy.lower(loss, None, plan.limits, *task[2:]).compile()
        stats = compiled.memory_analysis()
        needed = stats.temp_size_in_bytes + stats.output_size_in_bytes
        assert 2 * needed * plan.workers > memory


def test_every_core_has_a_band_of_a_grid_worth_it():
    """A network's grid on two cores: two bands, but for the smallest; equal values either way."""
    data, loss, plane = make_data(400), jxs.squared_error.of(network), network_plane()
    many = 40 * plan_module._MIN_OPERATIONS_PER_THREAD // (400 * 9 * 23)
    small, large = (plan_of(loss, data, None, n1, plane=plane) for n1 in (5, many))
    assert (small.rows, small.workers) == (5, 1)
    assert large.workers == devices.cores()
    assert large.rows <= -(-many // devices.cores())


def test_a_small_budget_changes_the_bands_and_not_the_values():
    data = make_data(500)
    whole = jxs.landscape(jxs.absolute_error, data, **AXES)
    task = problem(jxs.absolute_error, data)
    assert plan_module.make_plan(task, None, 20_000, False).rows < 37
    tight = jxs.landscape(jxs.absolute_error, data, memory=20_000, **AXES)
    np.testing.assert_allclose(tight.loss, whole.loss, rtol=REORDERED)


def test_a_budget_too_small_for_one_row_is_refused_with_its_need():
    message = r"memory: expected at least [\d,]+ bytes, which one row of 23 cells needs, got 100"
    with pytest.raises(ValueError, match=message):
        jxs.landscape(jxs.absolute_error, make_data(), memory=100, **AXES)


@pytest.mark.parametrize(
    ("memory", "error", "message"),
    [
        (1e9, TypeError, "memory: expected a whole number of bytes, got 1000000000.0"),
        (True, TypeError, "memory: expected a whole number of bytes, got True"),
        (0, ValueError, "memory: expected at least 1 byte, got 0"),
    ],
)
def test_what_is_no_budget_is_refused(memory, error, message):
    with pytest.raises(error, match=message):
        jxs.landscape(jxs.absolute_error, make_data(), memory=memory, **AXES)


def test_a_result_larger_than_memory_asks_for_a_destination():
    with pytest.raises(ValueError, match=r"w1, w2: expected a result .* give a destination"):
        jxs.landscape(jxs.squared_error, make_data(), w1=(-1, 1, 2**20), w2=(-1, 1, 2**20))


def test_a_plan_is_made_once_for_a_shape():
    data, misses = make_data(77), plan_module._cached_plan.cache_info().misses
    for shift in (0.0, 1.0):
        moved = jxs.Dataset(data.x + shift, data.y)
        jxs.landscape(jxs.absolute_error, moved, w1=(-1 - shift, 1, 19), w2=(-1, 1, 13))
    assert plan_module._cached_plan.cache_info().misses == misses + 1


def test_a_band_is_compiled_once_for_measuring_and_for_all_bands(compilations):
    """The last band is filled up, and what was compiled to be measured is what runs."""
    data = make_data(310)
    jxs.landscape(mean_cube, data, memory=2_000_000, w1=(-1, 1, 67), w2=(-1, 1, 3001))
    first = len(compilations)
    jxs.landscape(mean_cube, data, memory=2_000_000, w1=(-1, 2, 67), w2=(-1, 1, 3001))
    assert len(compilations) == first > 0
    assert (
        plan_module.make_plan(problem(mean_cube, data, None, 67, 3001), None, 2_000_000, False).rows
        < 67
    )


def test_ctrl_c_returns_the_rows_that_are_done(monkeypatch):
    data = make_data(500)
    whole = jxs.landscape(jxs.absolute_error, data, **AXES)
    interrupt_after(monkeypatch, 2)
    with pytest.warns(jxs.InterruptedWarning, match=r"the first \d+ of 37 rows are done, up to w1"):
        part = jxs.landscape(jxs.absolute_error, data, memory=20_000, **AXES)
    rows = len(part.a)
    assert 0 < rows < 37
    assert part.shape == part.loss.shape == (rows, 23)
    np.testing.assert_array_equal(part.a.values, whole.a.values[:rows])
    np.testing.assert_allclose(part.loss, whole.loss[:rows], rtol=REORDERED)
    assert threading.active_count() < 50


def test_ctrl_c_before_anything_is_done_is_ctrl_c(monkeypatch):
    def blocks(*_):
        signal.raise_signal(signal.SIGINT)
        yield

    monkeypatch.setattr(execute, "_row_blocks", blocks)
    with pytest.raises(KeyboardInterrupt):
        jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, **AXES)


def test_a_bar_is_shown_in_a_terminal_only(monkeypatch, capsys):
    import tqdm.auto

    shown = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, **options):
            shown.append((options["total"], options["disable"], options["delay"]))
            super().__init__(**(options | {"disable": True}))

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, **AXES)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, **AXES)
    assert shown == [(37, True, 1.0), (37, False, 1.0)]
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_notebook_without_widgets_writes_nothing_that_looks_like_an_error():
    # A process of its own: tqdm looks once for what a notebook has.
    script = f"""
import runpy, sys
from types import SimpleNamespace
sys.modules |= dict.fromkeys(("ipykernel", "ipykernel.zmqshell"), SimpleNamespace())
sys.modules |= {{"IPython": SimpleNamespace(get_ipython=lambda: None), "ipywidgets": None}}
with runpy.run_path({progress.__file__!r})["bar"](7, "rows") as shown:
    shown.refresh()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "0/7" in done.stdout
    assert done.stderr == ""


def test_cells_that_are_not_finite_are_counted_over_all_bands():
    def loss(weights, data):
        return jnp.mean(data.x) + jnp.where(weights.w1 > 1, jnp.nan, weights.w2)

    with pytest.warns(jxs.NonFiniteWarning, match=r"161 of 851 cells .* w1 = 1.0\d*, w2 = -1.3: n"):
        surface = jxs.landscape(loss, make_data(500), memory=2_000, **AXES)
    assert isinstance(surface.loss, np.ndarray)
    assert surface.nonfinite_count == np.isnan(surface.loss).sum() == 161


@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error, mean_cube])
def test_a_summary_is_differentiable_in_the_data(loss):
    data = make_data(30)

    def floor_of_a_row(y):
        return jxs.landscape(loss, jxs.Dataset(data.x, y), **AXES).loss[5].min()

    gradient = jax.grad(floor_of_a_row)(data.y)
    step = 1e-2
    for k in (0, 11, 29):
        up, down = (float(floor_of_a_row(data.y.at[k].add(sign * step))) for sign in (1, -1))
        assert gradient[k] == pytest.approx((up - down) / (2 * step), abs=2e-3)


def test_a_summary_is_differentiable_in_a_hyperparameter_the_loss_holds_on_to():
    """As in meta-learning: the loss is written around a value that is being traced."""
    data = make_data(30)

    def mean_loss(ridge):
        def loss(weights, data):
            return jxs.squared_error(weights, data) + ridge * (weights.w1**2 + weights.w2**2)

        return jxs.landscape(loss, data, **AXES).loss.mean()

    w1, w2 = (np.linspace(*AXES[name]) for name in ("w1", "w2"))
    truth = (w1**2).mean() + (w2**2).mean()
    assert jax.grad(mean_loss)(0.1) == pytest.approx(truth, rel=1e-5)


def test_a_landscape_inside_a_transformation_takes_no_destination(tmp_path):
    def mean_loss(y):
        data = jxs.Dataset(y, y)
        return jxs.landscape(jxs.absolute_error, data, destination=tmp_path / "d", **AXES).loss[
            0, 0
        ]

    with pytest.raises(ValueError, match="destination, mesh: expected None under a transf"):
        jax.grad(mean_loss)(jnp.ones(3))


def test_tiles_are_computed_again_for_a_derivative_and_not_kept():
    """Bytes of a gradient over a grid whose values would take a hundred times as many."""
    data = make_data(3000)

    def mean_loss(y):
        axes = {"w1": (-1, 1, 256), "w2": (-1, 1, 256)}
        return jxs.landscape(mean_cube, jxs.Dataset(data.x, y), **axes).loss.mean()

    stats = jax.jit(jax.grad(mean_loss)).lower(data.y).compile().memory_analysis()
    assert stats.temp_size_in_bytes < 256 * 256 * 3000 * 4 / 3


@pytest.mark.parametrize("n", [10**6])
def test_a_million_points_take_bounded_memory_and_keep_their_digits(n):
    data = make_data(n)
    surface = jxs.landscape(jxs.squared_error, data, w1=(-1, 1.5, 5), w2=(-1, 1, 7))
    assert surface.method == "exact"
    assert reference.relative_error(surface, reference.surface(surface, data)) < 1e-5
    task = problem(jxs.squared_error, data, None, 200, 7)
    plan = plan_module.make_plan(task, None, None, False)
    compiled = strategies.exact.lower(jxs.squared_error, None, plan.limits, *task[2:]).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10 * data.x.nbytes


@pytest.mark.parametrize(
    ("hidden", "memory", "samples"),
    [(1, None, 2**17), (64, None, 2**14), (64, 10_000_000, 2**12), (1, 8_000_000, 2**14)],
)
def test_wide_networks_and_small_budgets_have_smaller_blocks(hidden, memory, samples, monkeypatch):
    """Each sample's hidden values are held at once, and not its prediction alone."""
    monkeypatch.setattr(plan_module, "cores", lambda: 2)

    def wide(params, x):
        return jnp.tanh(jnp.outer(x, params["w"])) @ params["v"]

    ones = jnp.ones(hidden)
    plane = jxs.Plane({"w": 0 * ones, "v": ones}, {"w": ones, "v": None}, {"w": None, "v": ones})
    x = np.random.default_rng(3).normal(0, 1, 200_000).astype(np.float32)
    task = problem(jxs.squared_error.of(wide), jxs.Dataset(x, np.sin(x)), plane, 3, 4)
    task = task._replace(method="exact")
    plan = plan_module.make_plan(task, None, memory, False)
    assert plan.limits.samples == samples
    compiled = strategies.exact.lower(task.loss, None, plan.limits, *task[2:]).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < (memory or 2**25)
    surface = jxs.landscape(task.loss, task.data, plane, a=task.a, b=task.b, memory=memory)
    rows = [np.tanh(a * x.astype(float)) for a in surface.a.values.astype(float)]
    scale = hidden * (1 + surface.b.values.astype(float))
    truth = [[np.mean((s * row - np.sin(x.astype(float))) ** 2) for s in scale] for row in rows]
    np.testing.assert_allclose(surface.loss, truth, rtol=1e-5)


def test_workers_share_the_parabolas(monkeypatch, x64):
    """Rows that do not divide by the workers: equal to a loop, and to one worker's."""
    monkeypatch.setattr(plan_module, "cores", lambda: 3)
    monkeypatch.setattr(plan_module, "_MIN_PREDICTIONS_PER_THREAD", 37 * 301 // 3)
    task = problem(jxs.squared_error, make_data(301, np.float64))
    task = task._replace(a=task.a.astype(float), b=task.b.astype(float))
    plan = plan_module.make_plan(task, None, None, False)
    assert plan.workers == 3
    assert plan.worker_parabolas is not None
    losses, finite = execute.compute_at_once(plan, task)
    assert finite
    truth = [[reference.loss_at(float(p), float(q), task.data) for q in task.b] for p in task.a]
    np.testing.assert_allclose(losses, truth, rtol=1e-13)
    # With a sample less, it is not worth a thread.
    fewer = task._replace(data=make_data(300, np.float64))
    assert plan_module.make_plan(fewer, None, None, False).worker_parabolas is None


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", [0, 2])
def test_what_a_share_raises_comes_out(failing, error):
    """From the caller's own share or another thread's, while the others are still at work."""
    go_on = threading.Event()

    def compiled(_, part, __):
        if part[0] == failing:
            go_on.set()
            raise error("no parabola")
        assert go_on.wait(30)

    a = np.arange(6, dtype=np.float32)
    with pytest.raises(error, match="no parabola"):
        execute.exact_in_threads(compiled, 3, weight_plane(), a, a, None)
    # The threads are there for the next grid.
    sum_up = jax.jit(lambda plane, part, _: Parabola(*[part] * 5))
    losses, _ = execute.exact_in_threads(sum_up, 3, weight_plane(), a, a, None)
    assert losses.shape == (6, 6)


def test_a_loss_that_holds_a_traced_value_stays_in_its_thread(monkeypatch):
    monkeypatch.setattr(plan_module, "_MIN_PREDICTIONS_PER_THREAD", 1)
    data, axes = make_data(50), {"w1": (-1, 1, 5), "w2": (-2, 1, 4)}

    def mean_loss(factor):
        predict = lambda weights, x: factor * weights.w2 * jnp.tanh(weights.w1 * x)  # noqa: E731
        loss = jxs.squared_error.of(predict)
        return jnp.mean(jxs.landscape(loss, data, method="exact", **axes).loss)

    np.testing.assert_allclose(jax.jit(mean_loss)(1.0), mean_loss(1.0), rtol=1e-6)


def test_what_cells_share_is_given_up_for_the_budget(monkeypatch):
    """Where the rest of a cell takes more than half of it, and would fit alone."""
    monkeypatch.setattr(plan_module, "cores", lambda: 1)
    kernel, x = jnp.ones((4, 1, 3, 3)), jnp.ones((1, 1, 252, 252))
    plane = jxs.Plane(kernel, 2 * kernel, kernel.at[0].set(0))

    def loss(kernel, x):
        found = jnp.tanh(jax.lax.conv(x, kernel, (1, 1), "VALID"))
        return jnp.max(jnp.sort(jnp.concatenate([k * found for k in range(7)])))

    axis = np.linspace(-1, 1, 3, dtype=np.float32)
    task = plan_module.Problem("dense", loss, plane, axis, axis, x)
    # A product takes 1 MB, and what is sorted 7 MB.
    ample, tight = (plan_module.make_plan(task, None, int(mb * 10**6), False) for mb in (100, 8.5))
    assert ample.limits.bytes > 0
    assert tight.limits.bytes == tight.limits.shared_bytes == 0
