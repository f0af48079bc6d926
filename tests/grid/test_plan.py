"""Plans keep to the memory budget, divide the rows evenly, and are made once for a shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape._util import devices
from jaxscape.grid import plan as plan_module
from jaxscape.grid import strategies
from jaxscape.grid.plan import Problem, make_plan
from tests import reference
from tests.grid.helpers import (
    AXES,
    REORDERED,
    make_data,
    make_problem,
    mean_cube,
    network,
    network_plane,
)


def plan_of(loss, data, memory=None, **grid):
    return make_plan(make_problem(loss, data, **grid), None, memory, False)


def needed_bytes(plan, problem):
    """Return the bytes of a row block of all the problem's rows, beside its arguments."""
    strategy = getattr(strategies, problem.method)
    compiled = strategy.lower(problem.loss, None, plan.limits, *problem[2:]).compile()
    stats = compiled.memory_analysis()
    return stats.temp_size_in_bytes + stats.output_size_in_bytes


@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error, mean_cube])
@pytest.mark.parametrize("memory", [400_000, 4_000_000, 40_000_000])
def test_row_blocks_fill_the_memory_budget_and_no_more(loss, memory):
    # With few samples, memory and not time limits a row block.
    data = make_data(30)
    plan = plan_of(loss, data, memory, n1=900, n2=700)
    problem = make_problem(loss, data, n1=min(plan.rows, 900), n2=700)
    assert needed_bytes(plan, problem) * plan.workers <= memory
    # Four times the rows would need more than the budget.
    if plan.rows < 900:
        problem = problem._replace(a=np.linspace(-1, 1, 4 * plan.rows, dtype=np.float32))
        assert 2 * needed_bytes(plan, problem) * plan.workers > memory


def test_a_grid_with_enough_work_has_a_row_block_for_every_core():
    data, loss, plane = make_data(400), jxs.squared_error.of(network), network_plane()
    many = 40 * plan_module._MIN_OPERATIONS_PER_THREAD // (400 * 9 * 23)
    small, large = (plan_of(loss, data, plane=plane, n1=n1) for n1 in (5, many))
    assert (small.rows, small.workers) == (5, 1)
    assert large.workers == devices.cores()
    assert large.rows <= -(-many // devices.cores())


@pytest.mark.parametrize(
    ("rows", "n", "devices", "workers", "expected"),
    [
        (37, 37, 1, 2, 37),
        (11, 37, 1, 2, 10),
        (1, 37, 1, 2, 1),
        (5, 99, 8, 1, 8),
        (50, 97, 3, 4, 27),
    ],
)
def test_row_blocks_are_of_almost_one_size(rows, n, devices, workers, expected):
    """The size is a multiple of the devices, and several blocks are divided evenly."""
    assert plan_module._even_rows(rows, n, devices, workers) == expected


def test_a_small_budget_changes_the_row_blocks_and_not_the_values():
    data = make_data(500)
    whole = jxs.landscape(jxs.absolute_error, data, **AXES)
    assert plan_of(jxs.absolute_error, data, 20_000).rows < 37
    tight = jxs.landscape(jxs.absolute_error, data, memory=20_000, **AXES)
    np.testing.assert_allclose(tight.loss, whole.loss, rtol=REORDERED)


def test_a_budget_too_small_for_one_row_is_refused_with_the_bytes_it_needs():
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
def test_bad_budgets_are_refused(memory, error, message):
    with pytest.raises(error, match=message):
        jxs.landscape(jxs.absolute_error, make_data(), memory=memory, **AXES)


def test_a_plan_is_made_once_for_a_shape():
    data, misses = make_data(77), plan_module._cached_plan.cache_info().misses
    for shift in (0.0, 1.0):
        moved = jxs.Dataset(data.x + shift, data.y)
        jxs.landscape(jxs.absolute_error, moved, w1=(-1 - shift, 1, 19), w2=(-1, 1, 13))
    assert plan_module._cached_plan.cache_info().misses == misses + 1


def test_measuring_and_computing_all_row_blocks_share_one_compilation(compilations):
    """The last row block is padded, so it has the shape of the others."""
    data = make_data(310)
    jxs.landscape(mean_cube, data, memory=2_000_000, w1=(-1, 1, 67), w2=(-1, 1, 3001))
    first = len(compilations)
    jxs.landscape(mean_cube, data, memory=2_000_000, w1=(-1, 2, 67), w2=(-1, 1, 3001))
    assert len(compilations) == first > 0
    assert plan_of(mean_cube, data, 2_000_000, n1=67, n2=3001).rows < 67


@pytest.mark.slow
@pytest.mark.parametrize("n", [10**6])
def test_a_million_samples_take_bounded_memory_and_keep_their_digits(n):
    data = make_data(n)
    surface = jxs.landscape(jxs.squared_error, data, w1=(-1, 1.5, 5), w2=(-1, 1, 7))
    assert surface.method == "exact"
    assert reference.relative_error(surface, reference.surface(surface, data)) < 1e-5
    problem = make_problem(jxs.squared_error, data, n1=200, n2=7)
    plan = make_plan(problem, None, None, False)
    compiled = strategies.exact.lower(problem.loss, None, plan.limits, *problem[2:]).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10 * data.x.nbytes


@pytest.mark.parametrize(
    ("hidden", "memory", "samples"),
    [(1, None, 2**17), (64, None, 2**14), (64, 10_000_000, 2**12), (1, 8_000_000, 2**14)],
)
def test_wide_networks_and_small_budgets_have_smaller_sample_blocks(
    hidden, memory, samples, monkeypatch
):
    """A block holds the hidden values of each sample, not its prediction alone."""
    monkeypatch.setattr(plan_module, "cores", lambda: 2)

    def wide(params, x):
        return jnp.tanh(jnp.outer(x, params["w"])) @ params["v"]

    ones = np.ones(hidden, np.float32)
    plane = jxs.Plane({"w": 0 * ones, "v": ones}, {"w": ones, "v": None}, {"w": None, "v": ones})
    x = np.random.default_rng(3).normal(0, 1, 200_000).astype(np.float32)
    problem = make_problem(jxs.squared_error.of(wide), jxs.Dataset(x, np.sin(x)), plane, 3, 4)
    problem = problem._replace(method="exact")
    plan = make_plan(problem, None, memory, False)
    assert plan.limits.samples == samples
    compiled = strategies.exact.lower(problem.loss, None, plan.limits, *problem[2:]).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < (memory or 2**25)
    surface = jxs.landscape(
        problem.loss, problem.data, plane, a=problem.a, b=problem.b, memory=memory
    )
    rows = [np.tanh(a * x.astype(float)) for a in surface.a.values.astype(float)]
    scale = hidden * (1 + surface.b.values.astype(float))
    truth = [[np.mean((s * row - np.sin(x.astype(float))) ** 2) for s in scale] for row in rows]
    np.testing.assert_allclose(surface.loss, truth, rtol=1e-5)


def test_few_predictions_are_not_divided_among_workers(monkeypatch):
    monkeypatch.setattr(plan_module, "cores", lambda: 3)
    monkeypatch.setattr(plan_module, "_MIN_PREDICTIONS_PER_THREAD", 37 * 301 // 3)
    assert plan_of(jxs.squared_error, make_data(301)).worker_parabolas is not None
    assert plan_of(jxs.squared_error, make_data(300)).worker_parabolas is None


def test_a_loss_that_holds_a_traced_value_stays_in_its_thread(monkeypatch):
    monkeypatch.setattr(plan_module, "_MIN_PREDICTIONS_PER_THREAD", 1)
    data, axes = make_data(50), {"w1": (-1, 1, 5), "w2": (-2, 1, 4)}

    def mean_loss(factor):
        predict = lambda weights, x: factor * weights.w2 * jnp.tanh(weights.w1 * x)  # noqa: E731
        loss = jxs.squared_error.of(predict)
        return jnp.mean(jxs.landscape(loss, data, method="exact", **axes).loss)

    np.testing.assert_allclose(jax.jit(mean_loss)(1.0), mean_loss(1.0), rtol=1e-6)


def test_a_tight_budget_gives_up_the_arrays_that_cells_share(monkeypatch):
    """The rest of a cell needs more than half of the budget, and would fit alone."""
    monkeypatch.setattr(plan_module, "cores", lambda: 1)
    kernel, x = np.ones((4, 1, 3, 3), np.float32), np.ones((1, 1, 252, 252), np.float32)
    other = kernel.copy()
    other[0] = 0
    plane = jxs.Plane(kernel, 2 * kernel, other)

    def loss(kernel, x):
        values = jnp.tanh(jax.lax.conv(x, kernel, (1, 1), "VALID"))
        return jnp.max(jnp.sort(jnp.concatenate([k * values for k in range(7)])))

    axis = np.linspace(-1, 1, 3, dtype=np.float32)
    problem = Problem("dense", loss, plane, axis, axis, x)
    # A convolution needs 1 MB, and the sorted array 7 MB.
    ample, tight = (make_plan(problem, None, int(mb * 10**6), False) for mb in (100, 8.5))
    assert ample.limits.bytes > 0
    assert tight.limits.bytes == tight.limits.shared_bytes == 0
