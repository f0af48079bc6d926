"""Maps of the final loss over hyperparameters, against single descents."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from tests.training.helpers import START, make_data

MOMENTUM = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.5)
PLANE = jxs.training.hyperparameter_plane("learning_rate", "momentum")


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_cell_is_the_final_loss_of_a_run(shuffled):
    data, test = make_data(), make_data(31)
    options = {"epochs": 3, "batch_size": 10, "key": jax.random.key(1) if shuffled else None}
    after = jxs.training.FinalLoss(jxs.squared_error, START, MOMENTUM, evaluate=test, **options)
    found = jxs.landscape(after, data, PLANE, learning_rate=(1e-3, 0.05, 5), momentum=(0.0, 0.9, 4))
    assert found.loss_name == "loss after 3 epochs"
    for (i, j), loss in np.ndenumerate(found.loss):
        values = {
            "learning_rate": found.a.values[i],
            "momentum": found.b.values[j],
        }
        alone = jxs.descend(
            jxs.squared_error,
            START,
            data,
            optimizer=MOMENTUM,
            hyperparameters=values,
            evaluate=test,
            record="end",
            **options,
        )
        assert loss == pytest.approx(float(alone.loss[-1]), rel=2e-5)


def test_a_batch_of_zero_weights_changes_no_final_loss():
    data = make_data(24)
    kept = jxs.Dataset(data.x[:16], data.y[:16], np.linspace(1, 2, 16, dtype=np.float32))
    weight = np.append(kept.sample_weight, np.zeros(8, np.float32))
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.0)
    after = jxs.training.FinalLoss(jxs.squared_error, START, sgd, epochs=3, batch_size=8)
    plane = jxs.training.hyperparameter_plane("learning_rate", "momentum")
    axes = {"learning_rate": (0.01, 0.05, 3), "momentum": (0.0, 1e-9, 2)}
    found = jxs.landscape(after, jxs.Dataset(data.x, data.y, weight), plane, **axes)
    truth = jxs.landscape(after, kept, plane, **axes)
    np.testing.assert_allclose(found.loss, truth.loss, rtol=1e-5)


def test_a_quadratic_converges_below_its_critical_rates():
    """2x² has the critical rate 1/2 and 4y² the critical rate 1/4; each has its own rate."""

    def loss(p, samples):
        return (2 * p["x"] ** 2 + 4 * p["y"] ** 2) * jnp.mean(samples)

    layers = optax.inject_hyperparams(
        lambda first, second: optax.partition(
            {"x": optax.sgd(first), "y": optax.sgd(second)}, {"x": "x", "y": "y"}
        )
    )(first=0.1, second=0.1)
    after = jxs.training.FinalLoss(loss, {"x": 1.0, "y": 1.0}, layers, epochs=2000)
    plane = jxs.training.hyperparameter_plane("first", "second")
    with pytest.warns(jxs.NonFiniteWarning):
        found = jxs.landscape(
            after, np.ones(2, np.float32), plane, first=(0.02, 0.7, 16), second=(0.01, 0.4, 13)
        )
    first, second = (np.asarray(axis.values) for axis in (found.a, found.b))
    converges = (first[:, None] < 0.5) & (second < 0.25)
    np.testing.assert_array_equal(np.isfinite(found.loss), converges)
    assert found.loss[converges].max() < 1e-6


def test_the_final_loss_of_a_diverged_run_is_nan():
    """The loss at infinite weights is finite, as that of a saturated network."""

    def loss(x, samples):
        return jnp.mean(samples) * jnp.where(jnp.isinf(x), 0.5, x**4)

    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0, momentum=0.0)
    after = jxs.training.FinalLoss(loss, 2.0, sgd, epochs=2)
    samples = np.ones(2, np.float32)
    assert np.isnan(after({"learning_rate": 1e30, "momentum": 0.0}, samples))
    assert after({"learning_rate": 1e-3, "momentum": 0.0}, samples) < 16


def test_a_deep_zoom_stays_in_float64(x64):
    """Rates that differ by 1e-9 are equal in float32 and have different losses in float64."""
    data = make_data(23, np.float64)
    after = jxs.training.FinalLoss(jxs.squared_error, START, MOMENTUM, epochs=40)
    rates = 0.03 + 1e-9 * np.arange(3)
    found = jxs.landscape(after, data, PLANE, learning_rate=rates, momentum=(0.2, 0.5, 2))
    alone = [
        jxs.descend(
            jxs.squared_error, START, data, optimizer=MOMENTUM, epochs=40,
            hyperparameters={"learning_rate": rate, "momentum": 0.5},
        ).loss[-1]
        for rate in rates
    ]  # fmt: skip
    np.testing.assert_allclose(np.diff(found.loss[:, 1]), np.diff(alone), rtol=1e-3)
    with jax.enable_x64(False), pytest.raises(ValueError, match="values that increase in float32"):
        jxs.landscape(after, make_data(23), PLANE, learning_rate=rates, momentum=(0.2, 0.5, 2))


def test_bad_arguments_raise_an_error():
    data = make_data(23)
    with pytest.raises(TypeError, match="loss: expected a function"):
        jxs.training.FinalLoss(3, START, MOMENTUM, epochs=2)
    after = jxs.training.FinalLoss(jxs.squared_error, START, optax.sgd(0.1), epochs=2)
    with pytest.raises(ValueError, match="got 'learning_rate'; it has none"):
        jxs.landscape(after, data, PLANE, learning_rate=(0.1, 1, 3), momentum=(0, 1, 3))
    after = jxs.training.FinalLoss(jxs.squared_error, START, MOMENTUM, epochs=0)
    with pytest.raises(ValueError, match="epochs: expected 1 or more"):
        jxs.landscape(after, data, PLANE, learning_rate=(0.1, 1, 3), momentum=(0, 1, 3))
    after = jxs.training.FinalLoss(jxs.squared_error, START, MOMENTUM, epochs=2)
    with pytest.raises(ValueError, match=r"'learning_rate'\]: expected 0 or more, got -0.1"):
        jxs.landscape(after, data, PLANE, learning_rate=(-0.1, 1, 3), momentum=(0, 1, 3))
    layers = optax.inject_hyperparams(
        lambda first, second: optax.partition(
            {"a": optax.sgd(first), "b": optax.sgd(second)}, jxs.Weights("a", "b")
        )
    )(first=0.1, second=0.1)
    after = jxs.training.FinalLoss(jxs.squared_error, START, layers, epochs=2)
    plane = jxs.training.hyperparameter_plane("first", "second")
    with pytest.raises(ValueError, match=r"'second'\]: .* at -0.3 got updates that ascend"):
        jxs.landscape(after, data, plane, first=(0, 1, 3), second=(-0.3, 1, 3))
    with pytest.raises(TypeError, match="plane: expected a plane from hyperparameter_plane"):
        jxs.landscape(after, data, w1=(0, 1, 3), w2=(0, 1, 3))
    with pytest.raises(ValueError, match="second: expected another name"):
        jxs.training.hyperparameter_plane("momentum", "momentum")
