"""Descents against loops written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.training.run import run_all
from tests import reference

START = jxs.Weights(-0.4, 1.3)


def make_data(n=107, dtype=np.float32):
    generator = np.random.default_rng(n)
    x = generator.normal(0.3, 2.0, n)
    y = np.sin(x) + 0.4 * x + generator.normal(0, 0.5, n)
    return jxs.Dataset(x.astype(dtype), y.astype(dtype))


@pytest.mark.parametrize("batch_size", [None, 1, 10, 53, 107])
def test_sgd_equals_a_float64_loop(batch_size, x64):
    """Full batches, single samples, a short last batch of 7, of 1, and none."""
    data = make_data(dtype=np.float64)
    path = jxs.descend(
        jxs.squared_error, START, data, optimizer=optax.sgd(0.05), epochs=6, batch_size=batch_size
    )
    truth = reference.sgd(START, data, 0.05, 6, batch_size or 107)
    np.testing.assert_allclose(np.stack(path.params, axis=1), truth, rtol=1e-11)
    assert path.params.w1.dtype == jnp.float64
    losses = [reference.loss_at(*weights, data) for weights in truth]
    np.testing.assert_allclose(path.training_loss, losses, rtol=1e-11)
    assert path.evaluation_loss is None
    np.testing.assert_array_equal(path.epoch, np.arange(7))
    assert not path.diverged


def test_every_step_is_recorded_on_request():
    data, test = make_data(), make_data(31)
    arguments = {"optimizer": optax.adam(0.02), "epochs": 3, "batch_size": 10, "evaluate": test}
    coarse = jxs.descend(jxs.huber(), START, data, **arguments)
    fine = jxs.descend(jxs.huber(), START, data, record="step", **arguments)
    assert (len(coarse), len(fine), fine.steps_per_epoch) == (4, 34, 11)
    np.testing.assert_array_equal(fine.step, np.arange(34))
    np.testing.assert_allclose(fine.epoch[[11, 22]], [1, 2])
    np.testing.assert_allclose(fine.params.w2[::11], coarse.params.w2, rtol=1e-6)
    np.testing.assert_allclose(fine.evaluation_loss[::11], coarse.evaluation_loss, rtol=1e-6)
    truth = reference.loss_at(*map(float, jax.tree.map(lambda w: w[5], fine.params)), test)
    plain = jxs.squared_error(jax.tree.map(lambda w: w[5], fine.params), test)
    assert plain == pytest.approx(truth, rel=1e-5)
    assert fine.loss is fine.evaluation_loss


def loop(loss, params, data, optimizer, epochs, batch_size, key=None):
    """The same training, one optax step after the other."""
    memory, visited = optimizer.init(params), [params]
    for epoch in range(epochs):
        shuffle = None if key is None else jax.random.fold_in(key, epoch)
        for batch in jxs.data.batches(data, batch_size, shuffle):
            value, gradient = jax.value_and_grad(loss)(params, batch)
            update, memory = optax.with_extra_args_support(optimizer).update(
                gradient,
                memory,
                params,
                value=value,
                grad=gradient,
                value_fn=lambda params, batch=batch: loss(params, batch),
            )
            params = optax.apply_updates(params, update)
        visited.append(params)
    return visited


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.02, momentum=0.9, nesterov=True),
        optax.adamw(0.05),
        optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(optax.cosine_decay_schedule(0.1, 9))),
        optax.lbfgs(),
    ],
    ids=["nesterov", "adamw", "clipped, scheduled", "lbfgs"],
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_any_optimizer_equals_a_loop_of_its_steps(optimizer, shuffled):
    data = make_data(23)
    key = jax.random.key(7) if shuffled else None
    start = jxs.Weights(jnp.float32(-0.4), jnp.float32(1.3))
    path = jxs.descend(
        jxs.squared_error, start, data, optimizer=optimizer, epochs=2, batch_size=9, key=key
    )
    visited = loop(jxs.squared_error, start, data, optimizer, 2, 9, key)
    np.testing.assert_allclose(path.params, np.array(visited).T, rtol=2e-4)


def test_shuffling_changes_the_way_and_repeats_with_its_key():
    data = make_data()

    def way(key):
        return np.asarray(
            jxs.descend(
                jxs.squared_error,
                START,
                data,
                optimizer=SGD,
                epochs=2,
                batch_size=10,
                key=key,
            ).params.w1
        )

    np.testing.assert_array_equal(way(jax.random.key(1)), way(jax.random.key(1)))
    assert way(jax.random.key(1))[1] != way(jax.random.key(2))[1]
    assert way(None)[1] != way(jax.random.key(1))[1]


SGD = optax.sgd(0.05)


@pytest.mark.parametrize(("rate", "converges"), [(0.49, True), (0.51, False)])
def test_gradient_descent_on_a_quadratic_follows_its_closed_form(rate, converges, x64):
    """Curvature 4: x_t = (1 - 4 rate)^t x_0, which falls below the rate 2/4 and grows above it."""

    def loss(x, samples):
        return 2 * x**2 * jnp.mean(samples)

    path = jxs.descend(loss, 1.0, np.ones(3), optimizer=optax.sgd(rate), epochs=100)
    np.testing.assert_allclose(path.params, (1 - 4 * rate) ** np.arange(101), rtol=1e-9)
    assert (abs(path.params[-1]) < 0.02) == converges


def test_a_run_that_leaves_the_finite_numbers_says_when():
    """With rate 1 and curvature 2e3, x grows 1999 times a step: past 3e38 in float32 at step 12."""

    def loss(x, samples):
        return 1e3 * jnp.square(x) * jnp.mean(samples)

    path = jxs.descend(
        loss, 1.0, np.ones(4, np.float32), optimizer=optax.sgd(1.0), epochs=10, batch_size=2,
        record="step",
    )  # fmt: skip
    truth = (-1999.0) ** np.arange(21)
    overflow = int(np.argmax(1e3 * truth**2 > np.finfo(np.float32).max))
    assert path.diverged
    # The batch loss at point k is what step k + 1 sees.
    assert int(path.diverged_step) == overflow + 1
    kept = path.until_divergence()
    assert len(kept) == overflow + 1
    np.testing.assert_allclose(kept.params, truth[: overflow + 1], rtol=1e-4)
    assert len(path) == 21
    assert f"diverged at step {overflow + 1}" in repr(path)
    assert jxs.descend(
        loss, 1.0, np.ones(4, np.float32), optimizer=optax.sgd(1e-4), epochs=10
    ).until_divergence().diverged_step == -1  # fmt: skip


def test_parameters_may_be_any_pytree_and_data_too():
    data = {"inputs": jnp.linspace(-1, 1, 12).reshape(12, 1), "targets": jnp.ones((12, 2))}
    params = {"w": jnp.ones((1, 2)), "layers": [jnp.zeros(2)]}

    def loss(params, data):
        prediction = data["inputs"] @ params["w"] + params["layers"][0][None]
        return jnp.mean((prediction - data["targets"]) ** 2)

    path = jxs.descend(loss, params, data, optimizer=SGD, epochs=60, batch_size=5)
    assert path.params["w"].shape == (61, 1, 2)
    assert path.loss[-1] < 0.01 * path.loss[0]


def test_a_second_descent_compiles_nothing():

    def run(data, start):
        return jxs.descend(jxs.squared_error, start, data, optimizer=SGD, epochs=2, batch_size=5)

    run(make_data(20), START)
    before = run_all._cache_size()
    data = make_data(20)
    run(jxs.Dataset(data.x + 1, data.y), jxs.Weights(0.1, 0.2))
    assert run_all._cache_size() == before


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
def test_bad_arguments_are_refused(change, error, message):
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
