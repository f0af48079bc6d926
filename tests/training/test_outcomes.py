"""Labels of runs on functions whose outcomes are known."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from tests.training.helpers import quadratic

SGD = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
ONES = np.ones(4, np.float32)


def runs(rates, loss=quadratic, start=1.0, **options):
    arguments = {"optimizer": SGD, "epochs": 200} | options
    return jxs.descend(
        loss, start, ONES, hyperparameters={"learning_rate": np.array(rates)}, **arguments
    )


@pytest.mark.parametrize("record", ["epoch", "end", 30])
def test_labels_below_at_and_above_the_critical_rate(record):
    """At the critical rate 2/4 the points alternate; slightly above it they diverge slowly."""
    found = jxs.training.outcomes(runs([1e-5, 0.1, 0.45, 0.5, 0.5001, 10.0], record=record))
    expected = ["moving", "converged", "converged", "oscillating", "oscillating", "diverged"]
    assert found.tolist() == expected


def test_a_single_run_has_a_single_label():
    path = jxs.descend(quadratic, 1.0, ONES, optimizer=optax.sgd(0.1), epochs=100)
    assert jxs.training.outcomes(path) == "converged"
    assert jxs.training.outcomes(path, tolerance=1e-30) == "moving"


@pytest.mark.parametrize(("tolerance", "label"), [(3.9, "moving"), (4.1, "converged")])
def test_the_tolerance_is_a_gradient_norm(tolerance, label):
    """At the rate 1e-6 the point stays at x = 1, where the gradient is 4."""
    assert jxs.training.outcomes(runs([1e-6], epochs=1), tolerance=tolerance).tolist() == [label]


def test_alternating_batches_oscillate_and_a_slope_moves():
    """The minima of the batches are alternately near 1 and near -1."""
    samples = np.array([1.0, -1.0], np.float32)
    path = jxs.descend(
        lambda x, batch: jnp.mean((x - batch) ** 2) + 0.2 * x,
        0.0,
        samples,
        optimizer=optax.sgd(0.3),
        epochs=50,
        batch_size=1,
    )
    assert jxs.training.outcomes(path) == "oscillating"
    slope = jxs.descend(lambda x, batch: jnp.mean(batch) * x, 0.0, ONES, optimizer=SGD, epochs=9)
    assert jxs.training.outcomes(slope) == "moving"


def test_runs_that_end_outside_of_the_axes_left_the_grid():
    def loss(params, samples):
        return (params["a"] ** 2 + params["b"]) * jnp.mean(samples)

    axes = jxs.Axis(np.linspace(-1, 1, 3), "a"), jxs.Axis(np.linspace(-2, 1, 4), "b")
    grid = jxs.Landscape(np.zeros((3, 4)), *axes, loss_name="loss", method="dense")
    found = runs([1e-3, 0.1, 1e30], loss, {"a": 0.5, "b": 0.5}, epochs=100)
    assert jxs.training.outcomes(found, within=grid).tolist() == [
        "moving",
        "left the grid",
        "diverged",
    ]
    assert jxs.training.outcomes(found).tolist() == ["moving", "moving", "diverged"]


def test_bad_arguments_raise_an_error():
    path = runs([0.1])
    with pytest.raises(ValueError, match="tolerance: expected a positive finite number, got 0"):
        jxs.training.outcomes(path, tolerance=0)
    with pytest.raises(TypeError, match="descents: expected a Trajectory or Descents, got int"):
        jxs.training.outcomes(3)
    bare = jxs.Trajectory(np.zeros(2), np.arange(2), np.zeros(2), None, np.array(-1), 1)
    with pytest.raises(ValueError, match="descents: expected a result of descend"):
        jxs.training.outcomes(bare)
    axes = jxs.Axis(np.arange(2.0), "a"), jxs.Axis(np.arange(2.0), "b")
    grid = jxs.Landscape(np.zeros((2, 2)), *axes, loss_name="loss", method="dense")
    with pytest.raises(ValueError, match="expected parameters with a number 'a'"):
        jxs.training.outcomes(path, within=grid)


@pytest.mark.parametrize(("length", "label"), [(3.99, "moving"), (4.01, "oscillating")])
def test_oscillating_is_a_net_displacement_below_half_of_the_path_length(length, label):
    """The second half of the steps begins at x = 2 and ends at x = 4."""
    path = jxs.Trajectory(
        params={"x": np.array([0.0, 2.0, 9.0, 4.0])},
        step=np.array([0, 5, 8, 10]),
        training_loss=np.zeros(4),
        evaluation_loss=None,
        diverged_step=np.array(-1),
        steps_per_epoch=1,
        path_length=np.array([0.0, 7.0, 8.0, 7.0 + length]),
        gradient_norm=np.array(1.0),
    )
    assert jxs.training.outcomes(path) == label
