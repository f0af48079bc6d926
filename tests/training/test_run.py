"""Training inside one scan, and many runs at once, against plain loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.training.run import RunSpec, check_run_spec, recorded_count, recorded_steps, run_all
from tests import reference
from tests.training.helpers import (
    INJECTED,
    RATES,
    REORDERED,
    SGD,
    START,
    STARTS,
    assert_same_run,
    make_data,
    quadratic,
    start_of,
)


@pytest.mark.parametrize("batch_size", [None, 1, 10, 53, 107])
def test_sgd_equals_a_float64_loop(batch_size, x64):
    """Full batches, single samples, and a last batch of 7, of 1 and of full length."""
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


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_a_batch_of_zero_weights_has_gradient_zero(batch_size, x64):
    """A loop that skips such batches takes the same steps."""
    data = make_data(12, np.float64)
    weight = np.array([1.0, 2, 0, 0, 0, 0, 0, 0, 0.5, 3, 0, 1])
    data = jxs.Dataset(data.x, data.y, weight)
    path = jxs.descend(
        jxs.squared_error, START, data, optimizer=optax.sgd(0.05), epochs=4, batch_size=batch_size
    )
    x, y = np.asarray(data.x), np.asarray(data.y)
    w1, w2 = START
    for _ in range(4):
        for k in range(0, 12, batch_size):
            part = slice(k, k + batch_size)
            if weight[part].any():
                h = np.tanh(w1 * x[part])
                slope = 2 * weight[part] * (w2 * h - y[part]) / weight[part].sum()
                step = np.sum(slope * w2 * (1 - h**2) * x[part]), np.sum(slope * h)
                w1, w2 = w1 - 0.05 * step[0], w2 - 0.05 * step[1]
    np.testing.assert_allclose([path.params.w1[-1], path.params.w2[-1]], [w1, w2], rtol=1e-12)
    assert not path.diverged
    single = jxs.descend(
        jxs.squared_error,
        START,
        data,
        optimizer=optax.sgd(0.05),
        epochs=4,
        batch_size=batch_size,
        key=jax.random.key(0),
        record="step",
    )
    assert np.isfinite(single.training_loss).all()


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


@pytest.mark.slow
@pytest.mark.parametrize("stacked", ["starts", "rates", "keys", "all"])
@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_run_among_others_equals_the_run_alone(stacked, batch_size):
    """Starts, learning rates and keys are stacked; 107 samples leave a short last batch of 7."""
    data, test = make_data(), make_data(31)
    keys = jax.random.split(jax.random.key(3), 5)
    many = {"runs": 5} if stacked in ("starts", "all") else {}
    rates = {"learning_rate": RATES if stacked in ("rates", "all") else 0.02}
    shared = {"optimizer": INJECTED, "epochs": 4, "batch_size": batch_size, "evaluate": test}
    runs = jxs.descend(
        jxs.squared_error,
        STARTS if many else start_of(0),
        data,
        key=keys if stacked in ("keys", "all") else None,
        hyperparameters=rates,
        **many,
        **shared,
    )
    assert len(runs) == 5
    assert runs.loss.shape == (5, 5)
    for run in range(5):
        alone = jxs.descend(
            jxs.squared_error,
            start_of(run) if many else start_of(0),
            data,
            key=keys[run] if stacked in ("keys", "all") else None,
            hyperparameters={"learning_rate": RATES[run] if stacked in ("rates", "all") else 0.02},
            **shared,
        )
        assert_same_run(runs[run], alone)
        np.testing.assert_allclose(
            runs[run].learning_rate,
            rates["learning_rate"] if stacked not in ("rates", "all") else RATES[run],
            rtol=1e-6,
        )


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
    assert_same_run(runs[2], alone)


def test_parameters_and_data_may_be_any_pytree():
    data = {"inputs": jnp.linspace(-1, 1, 12).reshape(12, 1), "targets": jnp.ones((12, 2))}
    params = {"w": jnp.ones((1, 2)), "layers": [jnp.zeros(2)]}

    def loss(params, data):
        prediction = data["inputs"] @ params["w"] + params["layers"][0][None]
        return jnp.mean((prediction - data["targets"]) ** 2)

    path = jxs.descend(loss, params, data, optimizer=SGD, epochs=60, batch_size=5)
    assert path.params["w"].shape == (61, 1, 2)
    assert path.loss[-1] < 0.01 * path.loss[0]


def train_in_a_loop(loss, params, data, optimizer, epochs, batch_size, key=None):
    """Train with one optax step after the other."""
    state, visited = jax.jit(optimizer.init)(params), [params]

    @jax.jit
    def step(params, state, batch):
        value, gradient = jax.value_and_grad(loss)(params, batch)
        update, state = optax.with_extra_args_support(optimizer).update(
            gradient, state, params, value=value, grad=gradient, value_fn=lambda p: loss(p, batch)
        )
        return optax.apply_updates(params, update), state

    for epoch in range(epochs):
        shuffle = None if key is None else jax.random.fold_in(key, epoch)
        for batch in jxs.data.batches(data, batch_size, shuffle):
            params, state = step(params, state, batch)
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
    visited = train_in_a_loop(jxs.squared_error, start, data, optimizer, 2, 9, key)
    np.testing.assert_allclose(path.params, np.array(visited).T, rtol=2e-4)


OPTIMIZERS = {
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
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_trains_many_runs(name):
    data = make_data(23)
    arguments = {"optimizer": OPTIMIZERS[name], "epochs": 3, "batch_size": 9}
    runs = jxs.descend(jxs.squared_error, STARTS, data, runs=5, **arguments)
    for run in (0, 3):
        assert_same_run(
            runs[run],
            jxs.descend(jxs.squared_error, start_of(run), data, **arguments),
            rtol=1e-3,
            atol=1e-4,
        )
    # Lion takes steps of a fixed length; the losses of all others are lower by then.
    assert (runs.loss[:, -1] < runs.loss[:, 0]).all() or name == "lion"


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


def descend_33_steps(record):
    arguments = {"optimizer": INJECTED, "epochs": 3, "batch_size": 10}
    return jxs.descend(jxs.huber(), start_of(1), make_data(), record=record, **arguments)


@pytest.fixture(scope="module")
def every_step():
    return descend_33_steps("step")


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
def test_recorded_points_are_a_subset_of_every_step(record, steps, every_step):
    """Every k-th step and the end are recorded, also if 33 steps are not a multiple of k."""
    fine, coarse = every_step, descend_33_steps(record)
    np.testing.assert_array_equal(coarse.step, steps)
    for name in ("training_loss", "step_size", "path_length", "learning_rate"):
        np.testing.assert_allclose(
            getattr(coarse, name), getattr(fine, name)[np.array(steps)], rtol=REORDERED
        )
    np.testing.assert_allclose(coarse.params.w1, fine.params.w1[np.array(steps)], rtol=REORDERED)


def test_step_sizes_are_distances_between_points():
    path = jxs.descend(
        jxs.squared_error,
        start_of(0),
        make_data(),
        optimizer=SGD,
        epochs=2,
        batch_size=10,
        record="step",
    )
    distances = np.hypot(np.diff(path.params.w1), np.diff(path.params.w2))
    np.testing.assert_allclose(path.step_size[1:], distances, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        path.path_length, np.concatenate([[0], np.cumsum(distances)]), rtol=1e-4
    )
    assert path.step_size[0] == 0


def test_a_tiny_step_does_not_underflow():
    """The square of 1e-25 underflows in float32."""
    path = jxs.descend(
        lambda x, _: 1e-25 * x, 0.0, np.ones(3, np.float32), optimizer=optax.sgd(1.0), epochs=1
    )
    np.testing.assert_allclose(path.step_size[1], 1e-25, rtol=1e-6)
    np.testing.assert_allclose(path.gradient_norm, 1e-25, rtol=1e-6)


def test_shuffling_changes_the_path_and_depends_on_the_key_alone():
    data = make_data()

    def path(key):
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

    np.testing.assert_array_equal(path(jax.random.key(1)), path(jax.random.key(1)))
    assert path(jax.random.key(1))[1] != path(jax.random.key(2))[1]
    assert path(None)[1] != path(jax.random.key(1))[1]


@pytest.mark.parametrize(("rate", "converges"), [(0.49, True), (0.51, False)])
def test_gradient_descent_on_a_quadratic_follows_its_closed_form(rate, converges, x64):
    """Curvature 4: x_t = (1 - 4 rate)^t x_0, which decreases for rates below 2/4."""

    path = jxs.descend(quadratic, 1.0, np.ones(3), optimizer=optax.sgd(rate), epochs=100)
    np.testing.assert_allclose(path.params, (1 - 4 * rate) ** np.arange(101), rtol=1e-9)
    assert (abs(path.params[-1]) < 0.02) == converges


def test_the_step_of_a_divergence_is_recorded():
    """With rate 1 and curvature 2e3, each step multiplies x by -1999 until float32 overflows."""

    def loss(x, samples):
        return 1e3 * jnp.square(x) * jnp.mean(samples)

    path = jxs.descend(
        loss, 1.0, np.ones(4, np.float32), optimizer=optax.sgd(1.0), epochs=10, batch_size=2,
        record="step",
    )  # fmt: skip
    truth = (-1999.0) ** np.arange(21)
    overflow = int(np.argmax(1e3 * truth**2 > np.finfo(np.float32).max))
    assert path.diverged
    # Step k + 1 computes the batch loss at point k.
    assert int(path.diverged_step) == overflow + 1
    kept = path.until_divergence()
    assert len(kept) == overflow + 1
    np.testing.assert_allclose(kept.params, truth[: overflow + 1], rtol=1e-4)
    assert len(path) == 21
    assert f"diverged at step {overflow + 1}" in repr(path)
    assert jxs.descend(
        loss, 1.0, np.ones(4, np.float32), optimizer=optax.sgd(1e-4), epochs=10
    ).until_divergence().diverged_step == -1  # fmt: skip


def test_a_diverging_run_does_not_affect_the_others():
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    rates = np.array([0.1, 1e20, 0.49, 0.51, 0.3])
    runs = jxs.descend(
        quadratic,
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
    # (1 - 4e20)² overflows float32 in the batch loss of step 2.
    assert runs.diverged_step[1] == 2
    assert "1 diverged" in repr(runs)
    assert len(runs[1].until_divergence()) == 2
    np.testing.assert_array_equal(runs.steps_taken, [100, 2, 100, 100, 100])
    assert runs[1].steps_taken == 2
    assert runs[4].final_params == runs.final_params[4]


def test_a_second_descent_compiles_nothing():

    def run(data, start):
        return jxs.descend(jxs.squared_error, start, data, optimizer=SGD, epochs=2, batch_size=5)

    run(make_data(20), START)
    before = run_all._cache_size()
    data = make_data(20)
    run(jxs.Dataset(data.x + 1, data.y), jxs.Weights(0.1, 0.2))
    assert run_all._cache_size() == before


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


@pytest.mark.parametrize("samples", [1, 9, 10, 11])
@pytest.mark.parametrize("every", [1, 2, 5, 6, 100])
def test_recorded_steps_are_counted_without_a_list(samples, every):
    spec = RunSpec(epochs=3, batch_size=min(samples, 5), record_every=every)
    total = 3 * len(range(0, samples, spec.batch_size))
    expected = sorted({*range(0, total, every), total})
    assert recorded_steps(spec, samples) == expected
    assert recorded_count(spec, samples) == len(expected)


@pytest.mark.parametrize(
    ("record", "every"), [("step", 1), ("epoch", 3), ("end", 6), (np.int64(4), 4)]
)
def test_points_to_record_become_a_number_of_steps(record, every):
    assert check_run_spec(np.int32(2), 10, record, samples=23) == RunSpec(2, 10, every)
    assert check_run_spec(2, None, "epoch", samples=23) == RunSpec(2, 23, 1)
