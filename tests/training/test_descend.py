"""`descend`: blocks of runs, interruptions, several optimizers, memory and bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.training import descend
from tests.training.helpers import (
    INJECTED,
    REORDERED,
    SGD,
    START,
    STARTS,
    assert_same_run,
    interrupt_after,
    make_data,
    start_of,
)

LAYERS = optax.inject_hyperparams(
    lambda first, second: optax.partition(
        {"first": optax.sgd(first), "second": optax.sgd(second)}, jxs.Weights("first", "second")
    )
)(first=0.1, second=0.1)


def test_several_optimizers_return_a_dict_of_paths():
    data = make_data()
    optimizers = {"SGD": SGD, "Adam": optax.adam(0.1), "injected": INJECTED}
    paths = jxs.descend(jxs.squared_error, start_of(0), data, optimizer=optimizers, epochs=4)
    assert list(paths) == ["SGD", "Adam", "injected"]
    for name, optimizer in optimizers.items():
        assert paths[name].name == name
        assert_same_run(
            paths[name],
            jxs.descend(jxs.squared_error, start_of(0), data, optimizer=optimizer, epochs=4),
        )
    surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 11), w2=(-2, 2, 9))
    drawn = jxs.plot.contour(surface, *paths.values()).data
    entries = [trace.name.split(":")[0] for trace in drawn if trace.hovertemplate and trace.name]
    assert [entry for entry in entries if entry in optimizers] == list(optimizers)


@pytest.mark.parametrize("memory", [None, 3_000])
def test_blocks_of_runs_equal_all_at_once(memory, monkeypatch):
    """Seven runs in blocks of three, the last with one run; and in blocks that fit `memory`."""
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


def test_each_optimizer_is_compiled_once_for_all_blocks(monkeypatch):
    """Three blocks of two runs, and then one block of five runs."""
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


def test_recorded_points_that_exceed_the_memory_raise_an_error():
    arguments = {"runs": 5, "optimizer": SGD, "epochs": 1000, "record": "step"}
    message = r"5 runs × 1,001 points × 7 numbers = 140,140 bytes; record fewer"
    with pytest.raises(ValueError, match=message):
        jxs.descend(jxs.squared_error, STARTS, make_data(), memory=140_139, **arguments)
    # The error comes before a list of all points is made.
    with pytest.raises(ValueError, match=r"5 runs × 2,000,000,001 points × 7 numbers"):
        jxs.descend(
            jxs.squared_error, STARTS, make_data(), **(arguments | {"epochs": 2_000_000_000})
        )
    short = jxs.descend(
        jxs.squared_error, STARTS, make_data(), memory=140_139, **(arguments | {"record": "end"})
    )
    assert short.params.w1.shape == (5, 2)


def test_after_an_interruption_the_finished_runs_are_returned(monkeypatch):
    monkeypatch.setattr(descend, "_MAX_BLOCK_RUNS", 2)
    interrupt_after(monkeypatch, 4)
    with pytest.warns(jxs.InterruptedWarning, match="the first 4 of 5 runs are done"):
        runs = jxs.descend(jxs.squared_error, STARTS, make_data(), runs=5, optimizer=SGD, epochs=2)
    assert len(runs) == 4
    assert_same_run(
        runs[3], jxs.descend(jxs.squared_error, start_of(3), make_data(), optimizer=SGD, epochs=2)
    )


def test_no_optimizer_starts_after_an_interruption(monkeypatch):
    monkeypatch.setattr(descend, "_MAX_BLOCK_RUNS", 2)
    interrupt_after(monkeypatch, 7)
    optimizers = {"first": SGD, "second": SGD, "third": SGD}
    arguments = {"runs": 5, "optimizer": optimizers, "epochs": 1}
    with pytest.warns(jxs.InterruptedWarning, match="the first 2 of 5 runs are done"):
        found = jxs.descend(jxs.squared_error, STARTS, make_data(), **arguments)
    assert {name: len(runs) for name, runs in found.items()} == {"first": 5, "second": 2}


def test_an_optimizer_interrupted_in_its_first_block_keeps_the_others(monkeypatch):
    in_blocks = descend._run_in_blocks

    def interrupted(task, *rest):
        if task.optimizer is INJECTED:
            raise KeyboardInterrupt
        return in_blocks(task, *rest)

    monkeypatch.setattr(descend, "_run_in_blocks", interrupted)
    optimizers = {"first": SGD, "second": INJECTED, "third": SGD}
    arguments = {"runs": 5, "optimizer": optimizers, "epochs": 1}
    with pytest.warns(jxs.InterruptedWarning, match="results of first, not of second, third"):
        found = jxs.descend(jxs.squared_error, STARTS, make_data(), **arguments)
    assert list(found) == ["first"]
    with pytest.raises(KeyboardInterrupt):
        jxs.descend(jxs.squared_error, STARTS, make_data(), **(arguments | {"optimizer": INJECTED}))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs: expected 1 or more, got 0"),
        ({"epochs": 2.0}, TypeError, "epochs: expected a whole number, got 2.0"),
        ({"batch_size": 24}, ValueError, "batch_size: expected 1 to 23, .* got 24"),
        ({"batch_size": 0}, ValueError, "batch_size: expected 1 or more, got 0"),
        ({"optimizer": 0.01}, TypeError, "optimizer: expected an optax gradient transformation"),
        ({"optimizer": optax.sgd(np.nan)}, ValueError, "optimizer: expected a finite learning"),
        ({"optimizer": optax.adam(np.inf)}, ValueError, "optimizer: expected a finite learning"),
        ({"params": jxs.Weights(np.nan, 1.0)}, ValueError, r"params.w1: expected finite numbers"),
        ({"params": jxs.Weights(1.0, "a")}, TypeError, r"params.w2: expected floating numbers"),
        ({"params": jxs.Weights(1.0, jnp.tanh)}, TypeError, r"got .*; train the floating leaves"),
        ({"params": jxs.Weights(1.0, np.int32(1))}, TypeError, "params.w2: .* got dtype int32"),
        ({"params": {}}, ValueError, "params: expected at least one array or number"),
        ({"key": 3}, TypeError, r"key: expected a JAX random key .* got 3"),
        ({"train": (np.ones(3), np.ones(3))}, TypeError, "data: expected a Dataset"),
        (
            {"record": "batch"},
            ValueError,
            "record: expected 'epoch', 'step', 'end' or a number, got 'batch'",
        ),
        ({"loss": lambda w, d: w.w1 * d.x}, TypeError, r"loss: expected a scalar, got .*\(23,\)"),
        ({"loss": lambda w, d: (w.w1,)}, TypeError, "loss: expected a scalar, got tuple"),
        ({"train": {"x": np.ones(3), "y": np.ones(4)}}, ValueError, "train: .* share their first"),
        ({"train": {}}, ValueError, "train: expected arrays that share"),
        ({"evaluate": {"x": np.ones(3), "y": np.ones(4)}}, ValueError, "evaluate: .* share"),
    ],
)
def test_bad_arguments_raise_an_error(change, error, message):
    arguments = {
        "loss": jxs.squared_error,
        "params": START,
        "train": make_data(23),
        "optimizer": SGD,
        "epochs": 2,
    } | change
    positional = [arguments.pop(name) for name in ("loss", "params", "train")]
    with pytest.raises(error, match=message):
        jxs.descend(*positional, **arguments)


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
            "at -0.2 got updates that ascend along",
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
            "'learning_rate', which follows a schedule",
        ),
        ({"optimizer": {}}, ValueError, "optimizer: expected at least one"),
        (
            {"optimizer": {"good": SGD, "bad": optax.sgd(-0.1)}},
            ValueError,
            r"optimizer\['bad'\]: expected a finite learning rate of 0 or more, got updates",
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
def test_bad_stacks_raise_an_error_before_anything_is_computed(change, error, message, monkeypatch):
    monkeypatch.setattr(descend, "run_all", None)
    arguments = {"optimizer": INJECTED, "epochs": 2} | change
    params = STARTS if "runs" in change else start_of(0)
    with pytest.raises(error, match=message):
        jxs.descend(jxs.squared_error, params, make_data(23), **arguments)
