"""Trajectories, stacks of runs and projections: derived values and representations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs


def make_descents(diverged_step=(-1, -1, -1, -1, -1), name=""):
    """Return 5 runs of 4 points each, one every second step, with 4 steps per epoch."""
    generator = np.random.default_rng(5)
    w1, w2, loss = generator.normal(size=(3, 5, 4))
    return jxs.Descents(
        params=jxs.Weights(w1, w2),
        step=2 * np.arange(4),
        training_loss=loss,
        evaluation_loss=None,
        diverged_step=np.array(diverged_step),
        step_size=np.abs(w1),
        path_length=np.cumsum(np.abs(w1), axis=1),
        learning_rate=None,
        gradient_norm=np.arange(5.0),
        steps_per_epoch=4,
        name=name,
    )


def test_a_run_is_selected_by_its_index():
    runs = make_descents()
    assert len(runs) == 5
    assert [len(run) for run in runs] == [4] * 5
    for index in (0, 3, -1):
        run = runs[index]
        np.testing.assert_array_equal(run.params.w2, runs.params.w2[index])
        np.testing.assert_array_equal(run.loss, runs.loss[index])
        assert run.gradient_norm == runs.gradient_norm[index]
        assert run.name == f"run {index % 5}"
    assert dataclasses.replace(runs, name="Adam")[2].name == "Adam 2"
    with pytest.raises(IndexError, match="run: expected -5 to 4, got 5"):
        runs[5]


def test_the_median_is_elementwise_over_the_runs_that_did_not_diverge():
    runs = make_descents()
    np.testing.assert_array_equal(runs.median.params.w1, np.median(runs.params.w1, axis=0))
    np.testing.assert_array_equal(runs.median.loss, np.median(runs.loss, axis=0))
    assert runs.median.name == "median of 5 runs"
    some = make_descents((-1, 3, -1, -1, 6), name="Adam")
    np.testing.assert_array_equal(some.median.loss, np.median(some.loss[[0, 2, 3]], axis=0))
    assert some.median.name == "Adam, median of 3 runs"
    assert not some.median.diverged
    every = make_descents((1, 3, 1, 1, 6))
    np.testing.assert_array_equal(every.median.loss, np.median(every.loss, axis=0))


def test_epochs_and_steps():
    runs = make_descents((-1, 3, -1, -1, 6))
    np.testing.assert_array_equal(runs.epoch, [0, 0.5, 1, 1.5])
    np.testing.assert_array_equal(runs.steps_taken, [6, 3, 6, 6, 6])
    np.testing.assert_array_equal(runs.diverged, [False, True, False, False, True])
    assert runs[1].steps_taken == 3
    assert "5 runs, 4 points, 6 steps, 2 diverged" in repr(runs)
    assert runs[4].final_params == jax.tree.map(lambda leaf: leaf[4], runs.final_params)


def test_a_diverged_path_is_cut_before_the_divergence():
    runs = make_descents((-1, 3, -1, -1, 6))
    cut = runs[1].until_divergence()
    assert len(cut) == 2
    np.testing.assert_array_equal(cut.step, [0, 2])
    np.testing.assert_array_equal(cut.params.w1, runs.params.w1[1, :2])
    assert cut.gradient_norm == 1
    assert runs[0].until_divergence().step is runs.step
    assert "diverged at step 3" in repr(runs[1])
    assert "finite throughout" in repr(runs[0])


def test_the_evaluation_loss_takes_precedence():
    path = make_descents()[0]
    assert path.loss is path.training_loss
    path = dataclasses.replace(path, evaluation_loss=np.ones(4))
    assert path.loss is path.evaluation_loss


def test_results_can_be_traced_and_printed():
    def shape(runs):
        assert repr(runs) == "Descents(5 runs, 4 points, traced)"
        assert repr(runs[0]) == "Trajectory(run 0, 4 points, traced)"
        return jnp.sum(runs.loss)

    jax.eval_shape(shape, make_descents())


def test_a_coordinate_is_the_scalar_parameter_of_its_name():
    runs = make_descents()
    np.testing.assert_array_equal(runs.coordinate("w2"), runs.params.w2)
    np.testing.assert_array_equal(runs[1].coordinate("w2"), runs.params.w2[1])
    with pytest.raises(ValueError, match="paths: expected parameters with a number 'a' at every"):
        runs.coordinate("a")
    layers = dataclasses.replace(runs[0], params={"w1": np.ones((4, 3))})
    with pytest.raises(ValueError, match=r"got shapes \{'w1': \(4, 3\)\}; jxs.project"):
        layers.coordinate("w1")


def test_a_projection_has_the_coordinates_of_its_plane():
    projection = jxs.Projection(
        coordinates=np.array([[1.0, 2.0], [3.0, 4.0]]),
        distance=np.array([0.25, 0.5]),
        loss=np.array([4.0, 2.0]),
        surface_loss=np.array([3.0, 0.0]),
        epoch=np.array([0.0, 1.0]),
        explained=0.875,
        names=("p", "q"),
        name="",
    )
    np.testing.assert_array_equal(projection.coordinate("q"), [2, 4])
    with pytest.raises(ValueError, match="a coordinate 'a', .* got one on p and q"):
        projection.coordinate("a")
    assert repr(projection) == (
        "Projection(2 points on p and q)\n  loss from 4 to 2, 87.5% of its variance in the plane, "
        "off it by up to 0.5"
    )
