"""Curvature, gradients and angles along a path, against what is known."""

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


def test_a_function_of_one_number_by_hand(x64):
    path = jxs.descend(
        quartic, 1.5, np.ones(3), optimizer=SGD, epochs=5, hyperparameters={"learning_rate": 0.05}
    )
    found = jxs.curvature.edge_of_stability(quartic, path, np.ones(3))
    x = np.asarray(path.params)
    np.testing.assert_allclose(found.sharpness, 12 * x**2, rtol=1e-12)
    np.testing.assert_allclose(found.gradient_norm, abs(4 * x**3 - 1), rtol=1e-12)
    np.testing.assert_allclose(found.threshold, 40)
    np.testing.assert_array_equal(found.step, np.arange(6))
    np.testing.assert_allclose(found.angle[:-1], 0, atol=1e-5)
    assert np.isnan(found.angle[-1])
    assert not found.sharpness_error.any()


def test_gradient_descent_diverges_where_sharpness_is_over_the_threshold():
    """On 2x² and 2.05x²: curvatures 4 and 4.1 about the threshold 2 / 0.49 = 4.08."""
    for curvature, below in ((4.0, True), (4.1, False)):

        def loss(x, _, curvature=curvature):
            return curvature / 2 * x**2

        path = jxs.descend(
            loss, 1.0, ONES, optimizer=SGD, epochs=9, hyperparameters={"learning_rate": 0.49}
        )
        found = jxs.curvature.edge_of_stability(loss, path, ONES)
        assert (found.sharpness[0] < found.threshold[0]) == below
        assert (found.gradient_norm[-1] < found.gradient_norm[0]) == below


def valley(p, _):
    """Curvatures 1, 2, …, along axes turned by an orthogonal matrix."""
    return jnp.sum(CURVATURES[: p.size] * (TURN[: p.size, : p.size] @ p) ** 2) / 2


CURVATURES = jnp.asarray(np.linspace(-3, 7.3, 200), jnp.float32)
TURN = jnp.eye(200)


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 64, 65, 200])
def test_the_largest_eigenvalue_of_many_parameters(size):
    """The whole Hessian up to 64 parameters, Lanczos's method beyond, and its bound holds."""
    truth = float(CURVATURES[size - 1])
    path = jxs.descend(
        valley,
        jnp.ones(size),
        ONES,
        optimizer=SGD,
        epochs=1,
        hyperparameters={"learning_rate": 0.0},
    )
    found = jxs.curvature.edge_of_stability(valley, path, ONES)
    error = np.abs(found.sharpness - truth)
    assert (error <= found.sharpness_error + 1e-4).all()
    assert (found.sharpness_error < 0.02 * abs(truth)).all()
    assert (found.sharpness_error > 0).all() == (size > 64)


def test_negative_curvature_everywhere_is_found_as_such():
    """The largest eigenvalue, not the largest in size."""
    path = jxs.descend(
        lambda p, _: -jnp.sum(CURVATURES[100:] * p**2),
        jnp.ones(100),
        ONES,
        optimizer=SGD,
        epochs=1,
    )
    found = jxs.curvature.edge_of_stability(
        lambda p, _: -jnp.sum(CURVATURES[100:] * p**2), path, ONES
    )
    np.testing.assert_allclose(found.sharpness, -2 * float(CURVATURES[100]), rtol=2e-2)


def test_angles_of_other_steps_than_the_gradients():
    """A path at right angles to the gradient of x² + y², one against it, and one that stays."""
    path = jxs.Trajectory(
        params={"x": np.array([1.0, 1.0, 2.0, 2.0], np.float32),
                "y": np.array([0.0, 1.0, 2.0, 2.0], np.float32)},
        step=np.arange(4),
        training_loss=np.zeros(4, np.float32),
        evaluation_loss=None,
        diverged_step=np.array(-1),
        steps_per_epoch=1,
    )  # fmt: skip
    found = jxs.curvature.edge_of_stability(lambda p, _: p["x"] ** 2 + p["y"] ** 2, path, ONES)
    np.testing.assert_allclose(found.angle[:2], [90, 180], rtol=1e-4)
    assert np.isnan(found.angle[2:]).all()
    assert found.threshold is None


@pytest.mark.slow
def test_a_real_networks_sharpness_equals_its_hessians(x64):
    data = jxs.Dataset(np.linspace(-2, 2, 31), np.sin(np.linspace(-2, 2, 31)))
    generator = np.random.default_rng(1)
    params = {"w": generator.normal(0, 1, 40), "v": generator.normal(0, 0.5, 40)}

    def loss(p, data):
        return jnp.mean((jnp.tanh(data.x[:, None] * p["w"][None]) @ p["v"] - data.y) ** 2)

    path = jxs.descend(loss, params, data, optimizer=SGD, epochs=2)
    found = jxs.curvature.edge_of_stability(loss, path, data)
    for k in range(3):
        flat, unravel = jax.flatten_util.ravel_pytree(
            jax.tree.map(lambda leaf, k=k: leaf[k], path.params)
        )
        hessian = jax.hessian(lambda flat, u=unravel: loss(u(flat), data))(flat)
        assert found.sharpness[k] == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-8)


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="path: expected a Trajectory, got int"):
        jxs.curvature.edge_of_stability(quartic, 3, ONES)
    path = jxs.descend(quartic, 1.5, ONES, optimizer=SGD, epochs=1)
    with pytest.raises(TypeError, match="loss: expected a scalar"):
        jxs.curvature.edge_of_stability(lambda x, d: x * d, path, ONES)
    with pytest.raises(TypeError, match=r"data: expected arrays, got Stream\(1 batches\)"):
        jxs.curvature.edge_of_stability(quartic, path, jxs.Stream([ONES]))
