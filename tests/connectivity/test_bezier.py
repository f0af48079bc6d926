"""Bézier curves between solutions: their points, their training and their losses."""

import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape._util.pytree import split_arrays
from jaxscape.connectivity.bezier import Curve, _Task, bezier, train
from jaxscape.connectivity.lines import interpolate
from tests.connectivity.helpers import (
    ROUNDING,
    make_data,
    make_mlp,
    make_params,
    mlp_loss,
    model_loss,
)

bezier_module = importlib.import_module("jaxscape.connectivity.bezier")

KEY = jax.random.key(0)
SGD = optax.sgd(1.0)
# Two points on a circle of radius 1, 127 degrees apart. The straight line between them comes within
# 0.45 of the center.
ENDS = {"x": 1.0, "y": 0.0}, {"x": -0.6, "y": 0.8}


def ring(p, _):
    """A loss that is 0 on the circle of radius 1."""
    return (p["x"] ** 2 + p["y"] ** 2 - 1) ** 2


def test_a_curve_follows_a_curved_valley(x64):
    """No parabola follows the arc exactly; the best ones miss it by a few hundredths."""
    curve = bezier(ring, None, *ENDS, KEY, steps=1500)
    straight = interpolate(ring, None, *ENDS, (0, 1, 101))
    assert straight.barrier == pytest.approx(0.64, abs=1e-9)
    losses = curve.losses(ring, None)
    assert losses.name == "Bézier curve"
    assert losses.loss.max() < 0.01 * straight.loss.max()
    assert losses.barrier < 0.01 * straight.barrier
    assert curve.history.shape == (1500,)
    assert np.mean(curve.history[-200:]) < 0.02 * np.mean(curve.history[:5])
    # The control point is close to the intersection of the tangents at the two ends.
    tangent = {"x": 1.0, "y": 2.0}
    for name, value in tangent.items():
        assert abs(curve.control[name] - value) < 0.6


def test_the_trained_control_point_minimizes_the_expected_loss(x64):
    """No step of 0.02 along an axis lowers the mean loss along the curve, by quadrature."""
    rates = optax.adam(optax.cosine_decay_schedule(0.05, 4000))
    curve = bezier(ring, None, *ENDS, KEY, steps=4000, optimizer=rates)
    trained = expected(ring, None, curve)
    for name in ("x", "y"):
        for step in (-0.02, 0.02):
            moved = Curve(*ENDS, curve.control | {name: curve.control[name] + step}, np.zeros(1))
            assert expected(ring, None, moved) > trained


def expected(loss, data, curve):
    """Compute the mean loss along a curve by Gauss–Legendre quadrature with 30 nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(30)
    values = [loss(curve.at((1 + x) / 2), data) for x in nodes]
    return float(np.dot(weights, np.array(values)) / 2)


def quartic(p, data):
    """A loss without symmetries, the mean over samples."""
    return jnp.mean((jnp.sum(jnp.array([1.0, 2.0, 0.5]) * p["w"] ** 3) * data - p["b"]) ** 2)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_mean_step_is_the_gradient_of_the_expected_loss(x64, batch_size):
    """The mean of 20,000 single steps agrees with central differences to 4 standard errors."""
    samples = np.array([0.3, 1.0, -0.5, 0.8, 2.0])
    first = {"w": np.array([1.0, 0.2, -0.4]), "b": np.float64(0.5)}
    second = {"w": np.array([-0.3, 1.1, 0.9]), "b": np.float64(-0.7)}
    still, count = {"w": 0.0, "b": 0.0}, 20_000
    arrays, static = split_arrays(dict.fromkeys(still))
    task = _Task(quartic, SGD, 1, batch_size, static)
    control, _ = jax.jit(jax.vmap(lambda key: train(task, (first, second), arrays, samples, key)))(
        jax.random.split(KEY, count)
    )
    start = jax.tree.map(lambda a, b: (a + b) / 2, first, second)

    def mean_at(name, k, step):
        value = np.array(start[name], float)
        value[k] += step
        return expected(quartic, samples, Curve(first, second, start | {name: value}, np.zeros(1)))

    for name in ("w", "b"):
        for k in np.ndindex(np.shape(start[name])):
            truth = (mean_at(name, k, 1e-4) - mean_at(name, k, -1e-4)) / 2e-4
            steps = start[name][k] - np.asarray(control[name])[(slice(None), *k)]
            error = 4 * steps.std() / np.sqrt(count)
            assert error < 0.06 * max(abs(truth), 0.5)
            assert abs(steps.mean() - truth) < error


def test_history_holds_the_loss_before_each_step():
    """At learning rate 0 the curve stays the straight line, and the history holds its losses."""
    still = bezier(ring, None, *ENDS, KEY, steps=300, optimizer=optax.sgd(0.0))
    np.testing.assert_allclose([still.control["x"], still.control["y"]], [0.2, 0.4], rtol=1e-6)
    # On the straight line the loss is 0.64·(1 - u²)², with u from -1 to 1 along it.
    u = np.sqrt(1 - np.sqrt(np.asarray(still.history, float) / (0.64 + 1e-6)))
    # t is uniform on 0 to 1, and so is |u|.
    np.testing.assert_allclose(np.quantile(u, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.08)


def test_each_step_draws_a_batch_with_replacement():
    samples = np.array([1.0, 10, 100, 1000], np.float32)

    def mean(p, data):
        return jnp.mean(data) + 0 * p["x"]

    options = {"steps": 400, "optimizer": optax.sgd(0.0)}
    seen = np.asarray(bezier(mean, samples, *ENDS, KEY, batch_size=2, **options).history)
    pairs = {(p + q) / 2 for p in samples.tolist() for q in samples.tolist()}
    assert {round(float(value), 3) for value in seen} == pairs
    # Four standard errors of the mean of 400 means of two samples.
    assert abs(seen.mean() - samples.mean()) < 4 * samples.std() / np.sqrt(800)
    all_data = bezier(mean, samples, *ENDS, KEY, **options).history
    np.testing.assert_allclose(all_data, samples.mean(), rtol=ROUNDING)


def test_a_batch_of_zero_weights_has_gradient_zero():
    data = jxs.Dataset([1.0, 2.0, -1.0, 0.5], [1.0, 1.5, 2.0, 0.0], [0.0, 1.0, 0.0, 0.0])
    ends = jxs.Weights(1.0, 1.0), jxs.Weights(-1.0, -1.0)
    options = {"optimizer": optax.sgd(0.1), "batch_size": 1, "steps": 60}
    curve = bezier(jxs.squared_error, data, *ends, KEY, **options)
    assert 5 < np.count_nonzero(curve.history) < 30
    assert np.isfinite(curve.history).all()
    assert np.isfinite(curve.control).all()


def test_the_ends_of_a_curve_are_exactly_the_solutions():
    first, second, control = (make_params(k, np.float32) for k in (3, 4, 5))
    curve = Curve(first, second | {"name": "other", "depth": 9}, control, np.zeros(1))
    for t, solution in ((0, first), (1, second), (0.0, first), (1.0, second)):
        point = curve.at(t)
        for name in ("w", "b"):
            np.testing.assert_array_equal(point[name], solution[name])
            assert point[name].dtype == np.float32
        assert (point["name"], point["depth"]) == ("two layers", 2)
        assert point["activation"] is jnp.tanh
        assert point["v"][1] is None


def test_a_curve_follows_its_formula_and_lies_in_the_plane_of_its_control_points(x64):
    first, second, control = (
        {"w": np.random.default_rng(k).normal(0, 1, (3, 2)), "n": 4} for k in range(3)
    )
    curve = Curve(first, second, control, np.zeros(1))
    times = np.linspace(-0.2, 1.1, 7)
    for t in times:
        truth = (1 - t) ** 2 * first["w"] + 2 * t * (1 - t) * control["w"] + t**2 * second["w"]
        np.testing.assert_allclose(curve.at(t)["w"], truth, rtol=1e-12)
    points = curve.at(times)
    assert points["n"] == 4
    assert points["w"].shape == (7, 3, 2)
    np.testing.assert_allclose(points["w"][3], curve.at(times[3])["w"], rtol=1e-12)
    plane = jxs.Plane.through(curve.first, curve.second, curve.control)
    for t in times:
        a, b, distance = plane.coordinates(curve.at(t))
        np.testing.assert_allclose((a, b), (t**2, 2 * t * (1 - t)), atol=1e-9)
        assert distance < 1e-9


def test_a_curve_between_equinox_models_has_a_lower_loss_than_the_line():
    first, second = make_mlp(0), make_mlp(1)
    x = np.random.default_rng(0).normal(0, 1, (9, 3)).astype(np.float32)
    curve = bezier(mlp_loss, x, first, second, KEY, steps=200, batch_size=4)
    losses = curve.losses(mlp_loss, x, (0, 1, 6))
    loss_at = eqx.filter_jit(lambda t: mlp_loss(curve.at(t), x))
    for j, t in enumerate(np.asarray(losses.t)):
        np.testing.assert_allclose(losses.loss[0, j], loss_at(t), rtol=20 * ROUNDING)
    assert eqx.tree_equal(
        eqx.filter(curve.at(1.0), eqx.is_inexact_array), eqx.filter(second, eqx.is_inexact_array)
    )
    assert losses.mean[3] < interpolate(mlp_loss, x, first, second, (0, 1, 6)).mean[3]


def test_the_loss_uses_leaves_that_are_not_floating():
    data = make_data(dtype=np.float32)
    first, second = (make_params(k, np.float32) for k in (3, 4))
    curve = bezier(model_loss, data, first, second, KEY, steps=2, optimizer=optax.sgd(0.0))
    straight = interpolate(model_loss, data, first, second, (0, 1, 101))
    np.testing.assert_allclose(
        curve.losses(model_loss, data).loss, straight.loss, rtol=20 * ROUNDING
    )
    assert straight.loss.min() < min(curve.history)
    assert max(curve.history) < straight.loss.max()


def test_an_optimizer_with_a_line_search_trains_python_floats():
    curve = bezier(ring, None, *ENDS, KEY, steps=50, optimizer=optax.lbfgs())
    assert np.isfinite(curve.history).all()
    assert curve.losses(ring, None).barrier < 0.32


def test_calls_of_equal_shapes_compile_nothing(compilations):
    data, keys = make_data(dtype=np.float32), jax.random.split(KEY, 2)
    first, second = keys[0], keys[1]

    def call(seed, key, steps):
        curve = bezier(
            model_loss,
            {name: seed * x for name, x in data.items()},
            make_params(seed, np.float32),
            make_params(seed + 5, np.float32),
            key,
            steps=steps,
            batch_size=3,
        )
        curve.losses(model_loss, data, (0, seed, 5))

    call(1, first, 4)
    compilations.clear()
    call(2, second, 4)
    assert not compilations
    call(2, second, 5)
    assert compilations


def interrupt_training(monkeypatch, block):
    """Raise KeyboardInterrupt in a block of steps; return a list of the earlier blocks' ends."""
    ends, original = [], bezier_module.advance

    def advance(*arguments):
        if len(ends) == block:
            raise KeyboardInterrupt
        ends.append(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(bezier_module, "advance", advance)
    return ends


def test_ctrl_c_keeps_the_steps_that_are_done(monkeypatch):
    whole = bezier(ring, None, *ENDS, KEY, steps=300)
    ends = interrupt_training(monkeypatch, 3)
    with pytest.warns(jxs.InterruptedWarning, match="the first .* of 300 training steps are done"):
        part = bezier(ring, None, *ENDS, KEY, steps=300)
    done = ends[-1]
    assert 3 <= done < 300
    np.testing.assert_array_equal(part.history, whole.history[:done])
    assert part.control["x"] not in (whole.control["x"], 0.2)
    # One block of that many steps gives exactly the same control point.
    monkeypatch.undo()
    arrays, static = split_arrays(dict.fromkeys(ENDS[0]))
    task = _Task(ring, bezier_module._ADAM, 300, None, static)
    points = jax.tree.map(jnp.float32, ENDS)
    state = bezier_module.start(task, points, arrays, None)
    keys = jax.random.split(KEY, 300)
    state = bezier_module.advance(task, points, arrays, None, keys, state, 0, done)
    assert part.control == state.control
    assert f"trained in {done} steps" in repr(part)


def test_ctrl_c_before_the_first_step_raises(monkeypatch):
    interrupt_training(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        bezier(ring, None, *ENDS, KEY, steps=300)


def test_a_curve_that_diverged_says_so_and_has_no_losses():
    curve = bezier(ring, None, *ENDS, KEY, steps=30, optimizer=optax.sgd(50.0))
    assert "not finite from step" in repr(curve)
    with pytest.raises(ValueError, match=r"control\['x'\]: expected finite numbers"):
        curve.losses(ring, None)
    assert repr(bezier(ring, None, *ENDS, KEY, steps=2)).startswith(
        "Curve(control point trained in 2 steps, sampled loss from 0."
    )


def test_bad_arguments_are_refused():
    data = np.ones(5, np.float32)
    for options, message in (
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"batch_size": 6}, "batch_size: expected 1 to 5"),
    ):
        with pytest.raises(ValueError, match=message):
            bezier(ring, data, *ENDS, KEY, **options)
    for options, message in (
        ({"steps": 2.5}, "steps: expected a whole number, got 2.5"),
        ({"optimizer": 0.1}, "optimizer: expected an optax gradient transformation"),
    ):
        with pytest.raises(TypeError, match=message):
            bezier(ring, data, *ENDS, KEY, **options)
    with pytest.raises(ValueError, match="optimizer: expected a finite learning rate"):
        bezier(ring, data, *ENDS, KEY, optimizer=optax.sgd(-1.0))
    with pytest.raises(TypeError, match="key: expected a JAX random key such as"):
        bezier(ring, data, *ENDS, 0)
    with pytest.raises(TypeError, match="loss: expected a function"):
        bezier(3, data, *ENDS, KEY)
    with pytest.raises(TypeError, match=r"loss: expected a scalar, got an array of shape \(5,\)"):
        bezier(lambda p, data: p["x"] * data, data, *ENDS, KEY)
    with pytest.raises(TypeError, match="data: expected arrays to draw batches of, got Stream"):
        bezier(ring, jxs.Stream([data]), *ENDS, KEY)
    with pytest.raises(ValueError, match="second: expected the first's structure"):
        bezier(ring, data, ENDS[0], {"x": 1.0}, KEY)
    with pytest.raises(ValueError, match="second: expected parameters that differ from the first"):
        bezier(ring, data, ENDS[0], ENDS[0], KEY)
    with pytest.raises(ValueError, match=r"first\['y'\]: expected finite numbers"):
        bezier(ring, data, {"x": 1.0, "y": np.nan}, ENDS[1], KEY)
