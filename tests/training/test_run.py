"""Many descents at once, against the same descents one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape._util import blocks
from jaxscape.training import descend
from tests import reference
from tests.training.test_descend import make_data

# A batch adds the same numbers in another order.
REORDERED = 2e-6

SGD = optax.sgd(0.05)
INJECTED = optax.inject_hyperparams(optax.sgd)(learning_rate=0.05, momentum=0.5)
LAYERS = optax.inject_hyperparams(
    lambda first, second: optax.partition(
        {"first": optax.sgd(first), "second": optax.sgd(second)}, jxs.Weights("first", "second")
    )
)(first=0.1, second=0.1)
STARTS = jxs.Weights(
    np.array([-0.4, 1.2, 0.3, -2.0, 0.9], np.float32),
    np.array([1.3, 0.1, -0.8, 0.5, 1.1], np.float32),
)
RATES = np.array([0.01, 0.03, 0.002, 0.05, 0.02])


def start(run):
    return jax.tree.map(lambda leaf: leaf[run], STARTS)


def same(one, other, rtol=REORDERED, atol=1e-6):
    for name, value in vars(one).items():
        if name in ("name", "steps_per_epoch", "gradient_norm"):
            continue
        for u, v in zip(jax.tree.leaves(value), jax.tree.leaves(getattr(other, name)), strict=True):
            np.testing.assert_allclose(u, v, rtol=rtol, atol=atol, err_msg=name)
    scale = max(1.0, float(other.loss[0]))
    np.testing.assert_allclose(one.gradient_norm, other.gradient_norm, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["starts", "rates", "keys", "all"])
@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_run_among_others_is_the_run_alone(of, batch_size):
    """Stacks of starts, of learning rates, of orders; 107 samples, a short last batch of 7."""
    data, test = make_data(), make_data(31)
    keys = jax.random.split(jax.random.key(3), 5)
    many = {"runs": 5} if of in ("starts", "all") else {}
    rates = {"learning_rate": RATES if of in ("rates", "all") else 0.02}
    shared = {"optimizer": INJECTED, "epochs": 4, "batch_size": batch_size, "evaluate": test}
    runs = jxs.descend(
        jxs.squared_error,
        STARTS if many else start(0),
        data,
        key=keys if of in ("keys", "all") else None,
        hyperparameters=rates,
        **many,
        **shared,
    )
    assert len(runs) == 5
    assert runs.loss.shape == (5, 5)
    for run in range(5):
        alone = jxs.descend(
            jxs.squared_error,
            start(run) if many else start(0),
            data,
            key=keys[run] if of in ("keys", "all") else None,
            hyperparameters={"learning_rate": RATES[run] if of in ("rates", "all") else 0.02},
            **shared,
        )
        same(runs[run], alone)
        np.testing.assert_allclose(
            runs[run].learning_rate,
            rates["learning_rate"] if of not in ("rates", "all") else RATES[run],
            rtol=1e-6,
        )


def test_stacked_starts_equal_float64_loops(x64):
    data = make_data(dtype=np.float64)
    starts = jax.tree.map(lambda leaf: leaf.astype(np.float64), STARTS)
    runs = jxs.descend(
        jxs.squared_error, starts, data, runs=5, optimizer=SGD, epochs=3, batch_size=10
    )
    for run in range(5):
        truth = reference.sgd([float(w[run]) for w in starts], data, 0.05, 3, 10)
        np.testing.assert_allclose(np.stack(runs[run].params, axis=1), truth, rtol=1e-11)
    assert runs.params.w1.dtype == np.float64


def test_parameters_of_any_shape_are_stacked_along_their_first_axis():
    data = {"x": np.linspace(-1, 1, 12, dtype=np.float32), "y": np.ones(12, np.float32)}
    params = {
        "w": np.linspace(-1, 1, 3 * 4, dtype=np.float32).reshape(3, 4),
        "b": np.zeros(3, np.float32),
    }

    def loss(params, data):
        prediction = jnp.tanh(data["x"][:, None] * params["w"][None]).sum(1) + params["b"]
        return jnp.mean((prediction - data["y"]) ** 2)

    runs = jxs.descend(loss, params, data, runs=3, optimizer=SGD, epochs=5)
    assert runs.params["w"].shape == (3, 6, 4)
    assert runs.final_params["w"].shape == (3, 4)
    alone = jxs.descend(
        loss, jax.tree.map(lambda leaf: leaf[2], params), data, optimizer=SGD, epochs=5
    )
    same(runs[2], alone)


@pytest.mark.parametrize(
    ("record", "steps"),
    [
        ("end", [0, 33]),
        ("epoch", [0, 11, 22, 33]),
        (7, [0, 7, 14, 21, 28, 33]),
        (11, [0, 11, 22, 33]),
        (100, [0, 33]),
        (1, list(range(34))),
    ],
)
def test_what_is_recorded_is_part_of_every_step(record, steps):
    """Every k-th step and the end, also where k does not divide the 33 steps."""
    data = make_data()
    arguments = {"optimizer": INJECTED, "epochs": 3, "batch_size": 10}
    fine = jxs.descend(jxs.huber(), start(1), data, record="step", **arguments)
    coarse = jxs.descend(jxs.huber(), start(1), data, record=record, **arguments)
    np.testing.assert_array_equal(coarse.step, steps)
    for name in ("training_loss", "step_size", "path_length", "learning_rate"):
        np.testing.assert_allclose(
            getattr(coarse, name), getattr(fine, name)[np.array(steps)], rtol=REORDERED
        )
    np.testing.assert_allclose(coarse.params.w1, fine.params.w1[np.array(steps)], rtol=REORDERED)


def test_steps_are_as_long_as_the_points_lie_apart():
    path = jxs.descend(
        jxs.squared_error,
        start(0),
        make_data(),
        optimizer=SGD,
        epochs=2,
        batch_size=10,
        record="step",
    )
    apart = np.hypot(np.diff(path.params.w1), np.diff(path.params.w2))
    np.testing.assert_allclose(path.step_size[1:], apart, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(path.path_length, np.concatenate([[0], np.cumsum(apart)]), rtol=1e-4)
    assert path.step_size[0] == 0


def test_a_tiny_step_is_a_step():
    """Its square underflows in float32."""
    path = jxs.descend(
        lambda x, _: 1e-25 * x, 0.0, np.ones(3, np.float32), optimizer=optax.sgd(1.0), epochs=1
    )
    np.testing.assert_allclose(path.step_size[1], 1e-25, rtol=1e-6)
    np.testing.assert_allclose(path.gradient_norm, 1e-25, rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "truth"),
    [
        (
            optax.inject_hyperparams(optax.sgd)(optax.exponential_decay(0.1, 5, 0.5)),
            lambda t: 0.1 * 0.5 ** (t / 5),
        ),
        (
            optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.adam)(0.03)),
            lambda t: 0.03 + 0 * t,
        ),
        (optax.sgd(0.1), None),
    ],
)
def test_the_learning_rate_is_recorded_as_it_was_applied(optimizer, truth):
    path = jxs.descend(jxs.squared_error, start(0), make_data(), optimizer=optimizer, epochs=12)
    if truth is None:
        assert path.learning_rate is None
    else:
        # The first step is numbered 0; the start shows the rate that it will take.
        np.testing.assert_allclose(
            path.learning_rate, truth(np.maximum(np.arange(13) - 1, 0)), rtol=1e-5
        )


def test_a_line_search_tells_its_step():
    path = jxs.descend(jxs.squared_error, start(0), make_data(), optimizer=optax.lbfgs(), epochs=5)
    assert path.learning_rate.shape == (6,)
    assert np.isfinite(path.learning_rate).all()


def test_optimizers_side_by_side():
    data = make_data()
    optimizers = {"SGD": SGD, "Adam": optax.adam(0.1), "injected": INJECTED}
    paths = jxs.descend(jxs.squared_error, start(0), data, optimizer=optimizers, epochs=4)
    assert list(paths) == ["SGD", "Adam", "injected"]
    for name, optimizer in optimizers.items():
        assert paths[name].name == name
        same(
            paths[name],
            jxs.descend(jxs.squared_error, start(0), data, optimizer=optimizer, epochs=4),
        )
    surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 11), w2=(-2, 2, 9))
    drawn = jxs.plot.contour(surface, *paths.values()).data
    entries = [trace.name.split(":")[0] for trace in drawn if trace.hovertemplate and trace.name]
    assert [entry for entry in entries if entry in optimizers] == list(optimizers)


LION_AND_OTHERS = {
    "momentum": optax.sgd(0.02, momentum=0.9),
    "nesterov": optax.sgd(0.02, momentum=0.9, nesterov=True),
    "rmsprop": optax.rmsprop(0.01),
    "adam": optax.adam(0.05),
    "adamw": optax.adamw(0.05),
    "lion": optax.lion(0.01),
    "lbfgs": optax.lbfgs(),
    "clipped": optax.chain(
        optax.clip_by_global_norm(0.1), optax.sgd(optax.cosine_decay_schedule(0.1, 9))
    ),
    "sam": optax.contrib.sam(
        optax.sgd(0.05), optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    ),
    "opaque sam": optax.contrib.sam(
        optax.sgd(0.05), optax.chain(optax.contrib.normalize(), optax.sgd(0.05)), opaque_mode=True
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LION_AND_OTHERS)
def test_any_optimizer_runs_in_a_batch(name):
    data = make_data(23)
    arguments = {"optimizer": LION_AND_OTHERS[name], "epochs": 3, "batch_size": 9}
    runs = jxs.descend(jxs.squared_error, STARTS, data, runs=5, **arguments)
    for run in (0, 3):
        same(
            runs[run],
            jxs.descend(jxs.squared_error, start(run), data, **arguments),
            rtol=1e-3,
            atol=1e-4,
        )
    # Lion moves by a fixed length; all others have come closer by then.
    assert (runs.loss[:, -1] < runs.loss[:, 0]).all() or name == "lion"


def test_sam_may_climb_for_many_steps_before_it_comes_back():
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.01))
    path = jxs.descend(
        jxs.squared_error,
        start(0),
        make_data(23),
        optimizer=optax.contrib.sam(optax.sgd(0.05), ascent, sync_period=12),
        epochs=24,
        record=12,
    )
    assert path.loss[2] < path.loss[1] < path.loss[0]


def test_numbers_that_may_be_negative_are_taken_as_they_are():
    """The logarithm of a rate; and a momentum, which does not make descent climb."""
    log = optax.inject_hyperparams(lambda log, m: optax.sgd(10.0**log, m))(log=-1.0, m=0.0)
    runs = jxs.descend(
        lambda x, _: x,
        0.0,
        np.ones(2, np.float32),
        optimizer=log,
        epochs=1,
        hyperparameters={"log": [-1, -2, 1], "m": -0.5},
    )
    np.testing.assert_allclose(runs.final_params, [-0.1, -0.01, -10], rtol=1e-6)


@pytest.mark.parametrize("rates", [[0.1, 0.5, 2.5], [1, 3, 2]])
def test_a_learning_rate_of_one_does_not_make_the_others_whole_numbers(rates):
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=1)
    runs = jxs.descend(
        lambda x, _: x,
        0.0,
        np.ones(2, np.float32),
        optimizer=sgd,
        epochs=1,
        hyperparameters={"learning_rate": jnp.array(rates, jnp.bfloat16)},
    )
    given = np.array(jnp.array(rates, jnp.bfloat16), float)
    np.testing.assert_allclose(runs.final_params, -given, rtol=1e-6)
    np.testing.assert_allclose(runs.learning_rate[:, 1], given, rtol=1e-6)


def test_sam_takes_the_gradient_at_the_worst_point_near_by(x64):
    """Foret et al. (2021), equations 2 and 3, by hand on a function of one number."""
    rho, rate = 0.3, 0.05
    optimizer = optax.contrib.sam(
        optax.sgd(rate), optax.chain(optax.contrib.normalize(), optax.sgd(rho)), opaque_mode=True
    )
    path = jxs.descend(lambda x, _: x**4 - x, 1.5, np.ones(2), optimizer=optimizer, epochs=6)
    x = 1.5
    for point in path.params[1:]:
        worst = x + rho * np.sign(4 * x**3 - 1)
        x = x - rate * (4 * worst**3 - 1)
        np.testing.assert_allclose(point, x, rtol=1e-12)


def test_a_diverging_run_spoils_no_other():
    def loss(x, samples):
        return 2 * x**2 * jnp.mean(samples)

    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    rates = np.array([0.1, 1e20, 0.49, 0.51, 0.3])
    runs = jxs.descend(
        loss,
        1.0,
        np.ones(3, np.float32),
        optimizer=sgd,
        epochs=100,
        hyperparameters={"learning_rate": rates},
    )
    np.testing.assert_array_equal(runs.diverged, [False, True, False, False, False])
    for run in (0, 2, 3, 4):
        np.testing.assert_allclose(
            runs.params[run], (1 - 4 * rates[run]) ** np.arange(101), rtol=1e-3, atol=1e-30
        )
    # 1 - 4e20 squared is beyond float32: lost when the batch loss first sees it.
    assert runs.diverged_step[1] == 2
    assert "1 diverged" in repr(runs)
    assert len(runs[1].until_divergence()) == 2
    np.testing.assert_array_equal(runs.steps_taken, [100, 2, 100, 100, 100])
    assert runs[1].steps_taken == 2
    assert runs[4].final_params == runs.final_params[4]


@pytest.mark.parametrize("memory", [None, 3_000])
def test_blocks_of_runs_equal_all_at_once(memory, monkeypatch):
    """Seven runs in blocks of three, the last with one; and as many as the memory allows."""
    data = make_data()
    many = {
        "w1": np.linspace(-1, 1, 7, dtype=np.float32),
        "w2": np.linspace(2, 1, 7, dtype=np.float32),
    }

    def loss(params, data):
        return jxs.squared_error(jxs.Weights(**params), data)

    arguments = {"runs": 7, "optimizer": SGD, "epochs": 3, "batch_size": 10}
    whole = jxs.descend(loss, many, data, **arguments)
    monkeypatch.setattr(descend, "_MAX_BLOCK_RUNS", 7 if memory else 3)
    same_runs = jxs.descend(loss, many, data, memory=memory, **arguments)
    np.testing.assert_allclose(same_runs.params["w1"], whole.params["w1"], rtol=REORDERED)
    np.testing.assert_allclose(same_runs.loss, whole.loss, rtol=REORDERED)


def test_a_history_beyond_the_memory_is_refused_with_its_size():
    arguments = {"runs": 5, "optimizer": SGD, "epochs": 1000, "record": "step"}
    message = r"5 runs × 1,001 points × 7 numbers = 140,140 bytes; record fewer"
    with pytest.raises(ValueError, match=message):
        jxs.descend(jxs.squared_error, STARTS, make_data(), memory=140_139, **arguments)
    # More points than could be counted out one by one.
    with pytest.raises(ValueError, match=r"5 runs × 2,000,000,001 points × 7 numbers"):
        jxs.descend(
            jxs.squared_error, STARTS, make_data(), **(arguments | {"epochs": 2_000_000_000})
        )
    short = jxs.descend(
        jxs.squared_error, STARTS, make_data(), memory=140_139, **(arguments | {"record": "end"})
    )
    assert short.params.w1.shape == (5, 2)


def interrupt_after(runs, monkeypatch):
    """Ctrl-C once so many runs are done, of all optimizers together, in blocks of two."""
    done = 0

    class Bar:
        def __init__(self, total, unit):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, n):
            nonlocal done
            done += n
            if done >= runs:
                raise KeyboardInterrupt

    monkeypatch.setattr(descend, "_MAX_BLOCK_RUNS", 2)
    monkeypatch.setattr(blocks, "bar", Bar)


def test_interrupted_runs_that_are_done_are_returned(monkeypatch):
    interrupt_after(4, monkeypatch)
    with pytest.warns(jxs.InterruptedWarning, match="the first 4 of 5 runs are done"):
        runs = jxs.descend(jxs.squared_error, STARTS, make_data(), runs=5, optimizer=SGD, epochs=2)
    assert len(runs) == 4
    same(runs[3], jxs.descend(jxs.squared_error, start(3), make_data(), optimizer=SGD, epochs=2))


def test_after_an_interrupted_optimizer_no_other_begins(monkeypatch):
    interrupt_after(7, monkeypatch)
    optimizers = {"first": SGD, "second": SGD, "third": SGD}
    arguments = {"runs": 5, "optimizer": optimizers, "epochs": 1}
    with pytest.warns(jxs.InterruptedWarning, match="the first 2 of 5 runs are done"):
        found = jxs.descend(jxs.squared_error, STARTS, make_data(), **arguments)
    assert {name: len(runs) for name, runs in found.items()} == {"first": 5, "second": 2}


def test_an_optimizer_that_is_interrupted_at_once_loses_no_other(monkeypatch):
    in_blocks = descend._run_in_blocks

    def interrupted(task, *rest):
        if task.optimizer is INJECTED:
            raise KeyboardInterrupt
        return in_blocks(task, *rest)

    monkeypatch.setattr(descend, "_run_in_blocks", interrupted)
    optimizers = {"first": SGD, "second": INJECTED, "third": SGD}
    arguments = {"runs": 5, "optimizer": optimizers, "epochs": 1}
    with pytest.warns(jxs.InterruptedWarning, match="first of first, second, third are done"):
        found = jxs.descend(jxs.squared_error, STARTS, make_data(), **arguments)
    assert list(found) == ["first"]
    with pytest.raises(KeyboardInterrupt):
        jxs.descend(jxs.squared_error, STARTS, make_data(), **(arguments | {"optimizer": INJECTED}))


def test_other_values_compile_nothing(compilations):
    def run(data, starts, rates):
        return jxs.descend(
            jxs.squared_error,
            starts,
            data,
            runs=5,
            optimizer=INJECTED,
            epochs=2,
            hyperparameters={"learning_rate": rates},
        )

    run(make_data(19), STARTS, RATES)
    data = make_data(19)
    data = jxs.Dataset(data.x + 1, data.y)
    first = len(compilations)
    run(data, jax.tree.map(lambda leaf: leaf + 1, STARTS), RATES / 2)
    assert len(compilations) == first > 0


def test_each_optimizer_is_one_program_however_many_blocks(monkeypatch):
    """Traced once each: three blocks of two runs, then one of five others."""
    traced = []

    def loss(x, data):
        traced.append(x)
        return jnp.mean((x - data) ** 2)

    def run(starts):
        traced.clear()
        optimizers = {"SGD": SGD, "injected": INJECTED}
        arguments = {"runs": 5, "optimizer": optimizers, "epochs": 2}
        jxs.descend(loss, starts, np.ones(3, np.float32), **arguments)
        return len(traced)

    starts = np.arange(5, dtype=np.float32)
    monkeypatch.setattr(descend, "_MAX_BLOCK_RUNS", 2)
    first = run(starts)
    assert run(starts + 1) == 0
    monkeypatch.setattr(descend, "_MAX_BLOCK_RUNS", 5)
    assert run(starts) == first > 0


def test_median_and_single_runs():
    runs = jxs.descend(jxs.squared_error, STARTS, make_data(), runs=5, optimizer=SGD, epochs=4)
    assert [len(run) for run in runs] == [5] * 5
    np.testing.assert_allclose(runs.median.params.w1, np.median(runs.params.w1, axis=0))
    np.testing.assert_allclose(runs.median.loss, np.median(runs.loss, axis=0))
    assert runs.median.name == "median of 5 runs"
    named = dataclasses.replace(runs, name="Adam")
    assert named.median.name == "Adam, median of 5 runs"
    assert runs[-1].params.w2[0] == STARTS.w2[4]
    with pytest.raises(IndexError, match="run: expected -5 to 4, got 5"):
        runs[5]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"runs": 4},
            ValueError,
            r"params.w1: expected a first axis of 4, the runs, got shape \(5,\)",
        ),
        (
            {"runs": 5, "key": jax.random.split(jax.random.key(0), 3)},
            ValueError,
            "stacks of one length, 1 or more, got runs of 5, key of 3",
        ),
        (
            {"runs": 5, "hyperparameters": {"learning_rate": np.ones(2)}},
            ValueError,
            "runs of 5, hyperparameters.'learning_rate'. of 2",
        ),
        ({"hyperparameters": {"learning_rate": []}}, ValueError, "of 0"),
        ({"runs": 5.0}, TypeError, "runs: expected a whole number, got 5.0"),
        (
            {"hyperparameters": {"learning_rate": [0.1, -0.1]}},
            ValueError,
            "'learning_rate'.: expected 0 or more, got -0.1",
        ),
        (
            {"hyperparameters": {"learning_rate": [0.1, np.nan]}},
            ValueError,
            "expected finite numbers, got nan",
        ),
        (
            {"hyperparameters": [("learning_rate", 0.1)]},
            TypeError,
            "hyperparameters: expected a mapping of names to numbers",
        ),
        (
            {"optimizer": LAYERS, "hyperparameters": {"first": [0.1, -0.2], "second": 0.3}},
            ValueError,
            r"hyperparameters\['first'\]: expected values with which the optimizer descends, "
            "at -0.2 got updates along",
        ),
        (
            {"epochs": 2**30, "batch_size": 10},
            ValueError,
            "at most 2,147,483,647 steps, got 1,073,741,824 epochs of 3 steps",
        ),
        ({"memory": "1 GB"}, TypeError, "memory: expected a whole number of bytes, got '1 GB'"),
        ({"memory": 0}, ValueError, "memory: expected at least 1 byte, got 0"),
        ({"optimizer": {1: SGD}}, TypeError, r"optimizer: expected names .* got \[1\]"),
        ({"hyperparameters": {"learning_rate": "fast"}}, TypeError, "expected numbers, got 'fast'"),
        (
            {"hyperparameters": {"learning_rate": np.ones((2, 2))}},
            ValueError,
            r"got shape \(2, 2\)",
        ),
        (
            {"hyperparameters": {"beta": 0.1}},
            ValueError,
            r"got 'beta'; it has \['learning_rate', 'momentum'\]",
        ),
        (
            {"hyperparameters": {"beta": 0.1}, "optimizer": {"plain": SGD}},
            ValueError,
            r"gave the optimizer\['plain'\], got 'beta'; it has none",
        ),
        (
            {
                "hyperparameters": {"learning_rate": 0.1},
                "optimizer": optax.inject_hyperparams(optax.sgd)(optax.constant_schedule(0.1)),
            },
            ValueError,
            "'learning_rate' follows a schedule",
        ),
        ({"optimizer": {}}, ValueError, "optimizer: expected at least one"),
        (
            {"optimizer": {"good": SGD, "bad": optax.sgd(-0.1)}},
            ValueError,
            r"optimizer\['bad'\]: expected a finite learning rate of 0 or more, got updates along",
        ),
        (
            {"optimizer": {"good": SGD, "bad": 0.1}},
            TypeError,
            r"optimizer\['bad'\]: expected an optax",
        ),
        ({"record": 0}, ValueError, "record: expected 1 or more, got 0"),
        ({"record": 1.5}, TypeError, "record: expected a whole number, got 1.5"),
        (
            {"key": jax.random.split(jax.random.key(0), (2, 2))},
            ValueError,
            "key: expected one key or a stack",
        ),
    ],
)
def test_bad_stacks_are_refused_before_anything_is_computed(change, error, message, monkeypatch):
    monkeypatch.setattr(descend, "run_all", None)
    arguments = {"optimizer": INJECTED, "epochs": 2} | change
    params = STARTS if "runs" in change else start(0)
    with pytest.raises(error, match=message):
        jxs.descend(jxs.squared_error, params, make_data(23), **arguments)
