"""Sharpness, gradients and angles along a path, compared with closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs

SGD = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
ONES = np.ones(3, np.float32)


def quartic(x, _):
    return x**4 - x


def test_a_function_of_one_number_matches_its_derivatives(x64):
    path = jxs.descend(
        quartic, 1.5, np.ones(3), optimizer=SGD, epochs=5, hyperparameters={"learning_rate": 0.05}
    )
    stability = jxs.curvature.edge_of_stability(quartic, path, np.ones(3))
    x = np.asarray(path.params)
    np.testing.assert_allclose(stability.sharpness, 12 * x**2, rtol=1e-12)
    np.testing.assert_allclose(stability.gradient_norm, abs(4 * x**3 - 1), rtol=1e-12)
    np.testing.assert_allclose(stability.threshold, 40)
    np.testing.assert_array_equal(stability.step, np.arange(6))
    np.testing.assert_allclose(stability.angle[:-1], 0, atol=1e-5)
    assert np.isnan(stability.angle[-1])
    np.testing.assert_allclose(stability.sharpness_error, 2.2e-16 * stability.sharpness, rtol=0.1)


def test_gradient_descent_diverges_if_the_sharpness_exceeds_the_threshold():
    """The curvatures of 2x² and 2.05x² are 4 and 4.1, and the threshold is 2 / 0.49 = 4.08."""
    for curvature, below in ((4.0, True), (4.1, False)):

        def loss(x, _, curvature=curvature):
            return curvature / 2 * x**2

        path = jxs.descend(
            loss, 1.0, ONES, optimizer=SGD, epochs=9, hyperparameters={"learning_rate": 0.49}
        )
        stability = jxs.curvature.edge_of_stability(loss, path, ONES)
        assert (stability.sharpness[0] < stability.threshold[0]) == below
        assert (stability.gradient_norm[-1] < stability.gradient_norm[0]) == below


@pytest.mark.parametrize(
    ("momentum", "nesterov", "factor"),
    [(0.9, False, 3.8), (0.5, False, 3), (0.9, True, 3.8 / 2.8), (0.5, True, 1.5)],
)
def test_momentum_changes_the_threshold(tmp_path, momentum, nesterov, factor):
    """Runs of one optimizer may differ in momentum; archives keep the threshold."""
    optimizer = optax.inject_hyperparams(optax.sgd)(
        learning_rate=0.1, momentum=0.1, nesterov=nesterov
    )
    values = {"learning_rate": 0.15, "momentum": [momentum, 0.0]}
    runs = jxs.descend(quartic, 1.5, ONES, optimizer=optimizer, epochs=3, hyperparameters=values)
    for path, expected in zip(runs, (factor, 2), strict=True):
        stability = jxs.curvature.edge_of_stability(quartic, path, ONES)
        np.testing.assert_allclose(stability.threshold, expected / 0.15, rtol=1e-5)
        assert stability.threshold_name == f"{expected:.4g} / learning rate"
        assert f", {expected:.4g} / learning rate {expected / 0.15:.5g}" in repr(stability)
    axes = jxs.Axis(np.arange(2.0), "a"), jxs.Axis(np.arange(2.0), "b")
    surface = jxs.Landscape(np.ones((2, 2)), *axes, loss_name="loss", method="dense")
    jxs.archive.save(tmp_path / "a.npz", surface, runs[0])
    [loaded] = jxs.archive.load(tmp_path / "a.npz").paths
    assert loaded.stability_factor == runs[0].stability_factor


@pytest.mark.parametrize("optimizer", [optax.adamw, optax.rmsprop, optax.sign_sgd])
def test_optimizers_without_a_known_bound_have_no_threshold(optimizer):
    optimizer = optax.inject_hyperparams(optimizer)(learning_rate=0.1)
    path = jxs.descend(quartic, 1.5, ONES, optimizer=optimizer, epochs=2)
    assert path.learning_rate is not None
    stability = jxs.curvature.edge_of_stability(quartic, path, ONES)
    assert stability.threshold is None
    assert "learning rate" not in repr(stability)


SCALES = np.array([100.0, 1.0, 0.01])


def bowl(p, _):
    return jnp.sum(SCALES * p["x"] ** 2) / 2 + jnp.sum(p["x"][1:] ** 4) / 10


def adam_path(optimizer=optax.adam, learning_rate=0.01, epochs=40, record="step", **arguments):
    optimizer = optax.inject_hyperparams(optimizer)(learning_rate=learning_rate, **arguments)
    start = {"x": np.array([1.0, -0.7, 0.4])}
    return jxs.descend(bowl, start, np.ones(1), optimizer=optimizer, epochs=epochs, record=record)


@pytest.mark.parametrize("b1", [0.9, 0.5])
def test_the_preconditioned_sharpness_of_adam_is_that_of_a_plain_loop(x64, b1):
    rate = optax.linear_schedule(0.02, 0.01, 40)
    path = adam_path(learning_rate=rate, b1=b1, b2=0.95, eps=1e-3)
    stability = jxs.curvature.edge_of_stability(bowl, path, np.ones(1))
    gradient = jax.jit(jax.grad(lambda x: bowl({"x": x}, None)))
    hessian = jax.jit(jax.hessian(lambda x: bowl({"x": x}, None)))
    m, v = np.zeros(3), np.zeros(3)
    for t, x in enumerate(np.asarray(path.params["x"]), 1):
        m = b1 * m + (1 - b1) * np.asarray(gradient(x))
        v = 0.95 * v + 0.05 * np.asarray(gradient(x)) ** 2
        p = (1 - b1**t) * (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        largest = np.linalg.eigvals(np.asarray(hessian(x)) / p[:, None]).real.max()
        assert stability.preconditioned_sharpness[t - 1] == pytest.approx(largest, rel=1e-9)
    factor = 2 * (1 + b1) / (1 - b1)
    np.testing.assert_allclose(
        stability.preconditioned_threshold, factor / np.asarray(path.learning_rate)
    )
    assert stability.threshold is None
    assert stability.threshold_name == f"{factor:.4g} / learning rate"
    first = stability.preconditioned_sharpness[0]
    assert f"preconditioned sharpness from {first:.6g}" in repr(stability)


@pytest.mark.parametrize(("fraction", "below"), [(0.98, True), (1.02, False)])
def test_adam_diverges_if_the_preconditioned_sharpness_exceeds_its_threshold(x64, fraction, below):
    """A large eps makes the preconditioner constant after the first steps."""
    adam = optax.inject_hyperparams(optax.adam)(learning_rate=fraction * 0.38e6, eps=1e6)

    def loss(x, _):
        return 50 * x**2

    path = jxs.descend(loss, 1e-30, np.ones(1), optimizer=adam, epochs=160, record="step")
    stability = jxs.curvature.edge_of_stability(loss, path, np.ones(1))
    excess = stability.preconditioned_sharpness - stability.preconditioned_threshold
    assert (excess[100] < 0) == below
    size = np.abs(path.params)
    assert (size[140:160].max() < size[100:120].max()) == below


@pytest.mark.parametrize(
    "path",
    [
        {"optimizer": optax.nadam},
        {"optimizer": optax.adamax},
        {"optimizer": optax.adamw},
        {"record": 2},
        {"b1": optax.linear_schedule(0.5, 0.9, 40)},
    ],
)
def test_other_paths_have_no_preconditioned_sharpness(x64, path):
    stability = jxs.curvature.edge_of_stability(bowl, adam_path(**path), np.ones(1))
    assert stability.preconditioned_sharpness is None
    assert stability.preconditioned_threshold is None


def valley(p, _):
    """A quadratic whose Hessian has the diagonal `CURVATURES`."""
    return jnp.sum(CURVATURES[: p.size] * p**2) / 2


CURVATURES = np.linspace(-3, 7.3, 200, dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 64, 65, 200])
def test_the_error_of_the_sharpness_is_within_its_bound(size):
    """Up to 64 parameters the whole Hessian is computed, and the bound is that of rounding."""
    truth = float(CURVATURES[size - 1])
    path = jxs.descend(
        valley,
        jnp.ones(size),
        ONES,
        optimizer=SGD,
        epochs=1,
        hyperparameters={"learning_rate": 0.0},
    )
    stability = jxs.curvature.edge_of_stability(valley, path, ONES)
    error = np.abs(stability.sharpness - truth)
    assert (error <= stability.sharpness_error + 1e-4).all()
    assert (stability.sharpness_error < 0.02 * abs(truth)).all()
    rounding = np.sqrt(size) * 1.2e-7 * np.abs(CURVATURES[:size]).max()
    assert (stability.sharpness_error > 0.9 * rounding).all()
    assert (stability.sharpness_error > 2 * rounding).all() == (size == 200)


def test_the_sharpness_of_a_concave_loss_is_negative():
    """The sharpness is the largest eigenvalue, not the one of largest magnitude."""

    def loss(p, _):
        return -jnp.sum(CURVATURES[100:] * p**2)

    path = jxs.descend(loss, np.ones(100, np.float32), ONES, optimizer=SGD, epochs=1)
    stability = jxs.curvature.edge_of_stability(loss, path, ONES)
    np.testing.assert_allclose(stability.sharpness, -2 * float(CURVATURES[100]), rtol=2e-2)


def test_angles_are_those_between_steps_and_the_negative_gradient():
    """On x² + y², one step is at a right angle, one goes uphill, and one has length 0."""
    path = jxs.Trajectory(
        params={"x": np.array([1.0, 1.0, 2.0, 2.0], np.float32),
                "y": np.array([0.0, 1.0, 2.0, 2.0], np.float32)},
        step=np.arange(4),
        training_loss=np.zeros(4, np.float32),
        evaluation_loss=None,
        diverged_step=np.array(-1),
        steps_per_epoch=1,
    )  # fmt: skip
    stability = jxs.curvature.edge_of_stability(lambda p, _: p["x"] ** 2 + p["y"] ** 2, path, ONES)
    np.testing.assert_allclose(stability.angle[:2], [90, 180], rtol=1e-4)
    assert np.isnan(stability.angle[2:]).all()
    assert stability.threshold is None


@pytest.mark.slow
def test_the_sharpness_of_a_network_is_that_of_its_whole_hessian(x64):
    data = jxs.Dataset(np.linspace(-2, 2, 31), np.sin(np.linspace(-2, 2, 31)))
    generator = np.random.default_rng(1)
    params = {"w": generator.normal(0, 1, 40), "v": generator.normal(0, 0.5, 40)}

    def loss(p, data):
        return jnp.mean((jnp.tanh(data.x[:, None] * p["w"][None]) @ p["v"] - data.y) ** 2)

    path = jxs.descend(loss, params, data, optimizer=SGD, epochs=2)
    stability = jxs.curvature.edge_of_stability(loss, path, data)
    for k in range(3):
        flat, unravel = jax.flatten_util.ravel_pytree(
            jax.tree.map(lambda leaf, k=k: leaf[k], path.params)
        )
        hessian = jax.jit(jax.hessian(lambda flat, u=unravel: loss(u(flat), data)))(flat)
        assert stability.sharpness[k] == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-8)


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="path: expected a Trajectory, got int"):
        jxs.curvature.edge_of_stability(quartic, 3, ONES)
    path = jxs.descend(quartic, 1.5, ONES, optimizer=SGD, epochs=1)
    with pytest.raises(TypeError, match="loss: expected a scalar"):
        jxs.curvature.edge_of_stability(lambda x, d: x * d, path, ONES)
    with pytest.raises(TypeError, match=r"data: expected arrays, got Stream\(1 batches\)"):
        jxs.curvature.edge_of_stability(quartic, path, jxs.Stream([ONES]))


@pytest.mark.parametrize("size", [3, 80])
def test_a_sharpness_that_is_not_finite_is_reported(size):
    """The square root has no second derivative at 0."""

    def loss(p, _):
        return jnp.sum(jnp.sqrt(jnp.abs(p)) ** 4)

    path = jxs.Trajectory(
        params=np.stack([np.ones(size, np.float32), np.zeros(size, np.float32)]),
        step=np.array([0, 7]),
        training_loss=np.zeros(2, np.float32),
        evaluation_loss=None,
        diverged_step=np.array(-1),
        steps_per_epoch=1,
    )
    with pytest.warns(jxs.NonFiniteWarning, match="at 1 of 2 points, the first at step 7: nan"):
        stability = jxs.curvature.edge_of_stability(loss, path, ONES)
    assert np.isfinite(stability.sharpness).tolist() == [True, False]


@pytest.mark.parametrize("size", [3, 80])
def test_the_sharpness_does_not_depend_on_the_unit_of_the_loss(size):
    path = jxs.descend(
        valley, np.ones(size, np.float32), ONES, optimizer=SGD, epochs=1
    )  # fmt: skip
    unit, tiny = (
        jxs.curvature.edge_of_stability(lambda p, d, s=s: s * valley(p, d), path, ONES)
        for s in (1.0, 1e-30)
    )
    for name in ("sharpness", "sharpness_error", "gradient_norm"):
        np.testing.assert_allclose(getattr(tiny, name) / 1e-30, getattr(unit, name), rtol=1e-3)
    np.testing.assert_allclose(tiny.angle, unit.angle, atol=0.1)


def test_leaves_of_size_0_do_not_matter():
    path = jxs.descend(
        lambda p, _: quartic(p["x"], _) + jnp.sum(p["none"]),
        {"x": np.float32(1.5), "none": np.zeros((0, 3), np.float32)},
        ONES,
        optimizer=SGD,
        epochs=1,
    )
    stability = jxs.curvature.edge_of_stability(lambda p, _: quartic(p["x"], _), path, ONES)
    np.testing.assert_allclose(stability.sharpness, 12 * path.params["x"] ** 2, rtol=1e-5)
