"""Basins against descents in float64, one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.training import basins
from jaxscape.training.basins import Basins
from tests.training.helpers import interrupt_after

NONE = np.zeros(1)


def plane_of(*names):
    """Return the plane of two named numbers."""
    first, second = ({name: 1.0 if name == one else None for name in names} for one in names)
    return jxs.Plane(dict.fromkeys(names, 0.0), first, second, names)


def himmelblau(p, _):
    return (p["x"] ** 2 + p["y"] - 11) ** 2 + (p["x"] + p["y"] ** 2 - 7) ** 2


def himmelblau_gradient(x, y):
    f, g = x**2 + y - 11, x + y**2 - 7
    return np.array([4 * x * f + 2 * g, 2 * f + 4 * y * g])


# The minima of Himmelblau's function, rounded from 40 digits.
HIMMELBLAU = np.array(
    [[3, 2], [3.58442834033, -1.84812652696], [-2.80511808695, 3.13131251825],
     [-3.77931025338, -3.28318599129]]
)  # fmt: skip


def double_well(p, _):
    return (p["x"] ** 2 - 1) ** 2 + 0.3 * p["x"] + 0.5 * p["y"] ** 2 * (1.2 + p["x"])


def double_well_gradient(x, y):
    return np.array([4 * x * (x**2 - 1) + 0.3 + 0.5 * y**2, y * (1.2 + x)])


def descend_one(gradient, start, rate, tolerance=1e-4, most=100_000):
    """Return the end of gradient descent in float64, None if it diverges, and its steps."""
    point = np.array(start)
    for step in range(most):
        slope = gradient(*point)
        if not np.isfinite(slope).all():
            return None, step
        if np.linalg.norm(slope) <= tolerance:
            return point, step
        point = point - rate * slope
    raise AssertionError("still going")


@pytest.mark.parametrize(
    ("loss", "gradient", "rate", "x", "y"),
    [
        (himmelblau, himmelblau_gradient, 0.01, (-5.0, 4.7, 23), (-4.5, 5.2, 17)),
        (double_well, double_well_gradient, 0.05, (-1.9, 2.1, 19), (-1.3, 1.1, 12)),
    ],
)
def test_labels_and_steps_equal_those_of_single_descents(loss, gradient, rate, x, y, x64):
    found = jxs.basins(loss, NONE, plane_of("x", "y"), optimizer=optax.sgd(rate), x=x, y=y)
    assert found.shape == (x[2], y[2])
    limits = np.array([[limit.params["x"], limit.params["y"]] for limit in found.limits])
    for i, a in enumerate(np.linspace(*x)):
        for j, b in enumerate(np.linspace(*y)):
            end, steps = descend_one(gradient, (a, b), rate)
            nearest = np.linalg.norm(limits - end, axis=1).argmin()
            assert found.label[i, j] == nearest, (a, b)
            assert abs(found.steps[i, j] - steps) <= 1
    assert sum(limit.starts for limit in found.limits) == found.label.size


def test_limits_are_the_known_minima_with_their_curvature(x64):
    found = jxs.basins(
        himmelblau,
        NONE,
        plane_of("x", "y"),
        optimizer=optax.sgd(0.01),
        x=(-5, 5, 20),
        y=(-5, 5, 21),
    )
    assert [limit.kind for limit in found.limits] == ["minimum"] * 4
    at = np.array([[limit.params["x"], limit.params["y"]] for limit in found.limits])
    np.testing.assert_allclose(
        at[np.lexsort(at.T)], HIMMELBLAU[np.lexsort(HIMMELBLAU.T)], rtol=1e-10
    )
    first = at[:, 0].round(3).tolist().index(3.0)
    np.testing.assert_allclose(found.limits[first].eigenvalues, [25.7157288, 82.2842712], rtol=1e-8)
    assert "4 limits" in repr(found)


NINE = np.linspace(-2, 2, 9)
STUDENT = jxs.Dataset(NINE, 0.8 * np.tanh(1.5 * NINE))


def test_basins_of_the_symmetric_network_are_symmetric():
    """(w1, w2) and (-w1, -w2) are the same network; only the origin ends at the saddle."""
    found = jxs.basins(
        jxs.squared_error, STUDENT, optimizer=optax.sgd(0.3), w1=(-3, 3, 41), w2=(-2, 2, 33)
    )
    assert [limit.kind for limit in found.limits] == ["minimum", "minimum", "saddle"]
    turned = found.label[::-1, ::-1]
    np.testing.assert_array_equal(turned, np.array([1, 0, 2])[found.label])
    np.testing.assert_array_equal(found.steps, found.steps[::-1, ::-1])
    np.testing.assert_allclose(found.limits[0].params, [-1.5, -0.8], rtol=1e-4)
    np.testing.assert_allclose(found.limits[1].params, [1.5, 0.8], rtol=1e-4)
    np.testing.assert_allclose(found.limits[1].eigenvalues, [0.0185951047, 1.42593454], rtol=1e-3)
    saddle = found.limits[2]
    assert saddle.starts == 1
    assert found.label[20, 16] == 2
    np.testing.assert_allclose(saddle.eigenvalues, [-1.66395428, 1.66395428], rtol=1e-4)
    assert saddle.loss == pytest.approx(0.450755782648, rel=1e-5)


def test_a_flat_direction_does_not_join_minima_of_different_losses(x64):
    """The smallest curvatures are 8e-5 and 9e-5, so gradients of 1e-4 reach from end to end."""

    def loss(p, _):
        return 1e-5 * ((p["x"] ** 2 - 1) ** 2 + 0.3 * p["x"]) + p["y"] ** 2

    found = jxs.basins(
        loss,
        NONE,
        plane_of("x", "y"),
        optimizer=optax.adam(0.02),
        x=(-1.9, 2.1, 12),
        y=(-1, 1.2, 4),
    )
    assert [limit.kind for limit in found.limits] == ["minimum", "minimum"]
    np.testing.assert_array_equal(found.label, np.repeat([[0], [1]], 6, axis=0) * [[1] * 4])
    assert found.limits[0].loss < -3e-6 < 2e-6 < found.limits[1].loss


def test_mirrored_starts_end_at_mirrored_minima_with_a_small_curvature(x64):
    """The teacher's smallest curvature is 8e-5, and its minima are 6 apart."""
    data = jxs.data.teacher_student(jax.random.key(0), n=200, teacher=jxs.Weights(3.0, 0.1))
    found = jxs.basins(
        jxs.squared_error, data, optimizer=optax.adam(0.05), w1=(-9, 9, 9), w2=(-2, 2, 8)
    )
    minima = [k for k, limit in enumerate(found.limits) if limit.kind == "minimum"]
    assert len(minima) == 2
    for i, j in np.argwhere(np.isin(found.label, minima)):
        assert found.label[i, j] != found.label[-1 - i, -1 - j]


def test_valleys_to_infinity_are_separate_limits():
    """With the targets of a step function, the loss decreases to infinity on two sides."""
    step = jxs.Dataset(NINE, np.sign(NINE))
    arguments = {"optimizer": optax.sgd(0.5), "w1": (-4, 4, 16), "w2": (-2, 2, 14)}
    found = jxs.basins(jxs.squared_error, step, tolerance=1e-3, **arguments)
    assert [limit.kind for limit in found.limits] == ["valley", "valley"]
    for limit in found.limits:
        assert limit.params.w1 * limit.params.w2 > 3
        assert limit.eigenvalues[0] < 0.01 * limit.eigenvalues[1]
    np.testing.assert_array_equal(found.label[::-1, ::-1], 1 - found.label)
    # The targets of a network have their minimum at finite weights.
    finite = jxs.basins(jxs.squared_error, STUDENT, **arguments)
    assert {limit.kind for limit in finite.limits} == {"minimum"}


def test_each_branch_of_a_flat_valley_is_one_limit():
    """(1 - xy)² is 0 along both branches of a hyperbola, so no minimum is isolated."""

    def product(p, _):
        return (1 - p["x"] * p["y"]) ** 2

    found = jxs.basins(
        product,
        NONE,
        plane_of("x", "y"),
        optimizer=optax.sgd(0.05),
        x=(-1.5, 1.6, 24),
        y=(-1.5, 1.7, 21),
    )
    kinds = [limit.kind for limit in found.limits]
    assert kinds == ["valley", "valley"]
    for limit in found.limits:
        assert limit.params["x"] * limit.params["y"] == pytest.approx(1, abs=1e-3)

    def decayed(p, _):
        return product(p, _) + 0.1 * (p["x"] ** 2 + p["y"] ** 2)

    # Weight decay leaves two isolated minima.
    found = jxs.basins(
        decayed,
        NONE,
        plane_of("x", "y"),
        optimizer=optax.sgd(0.05),
        x=(-1.5, 1.6, 24),
        y=(-1.5, 1.7, 21),
    )
    assert [limit.kind for limit in found.limits] == ["minimum", "minimum"]
    np.testing.assert_allclose(list(found.limits[1].params.values()), 0.948683298051, rtol=1e-4)
    np.testing.assert_allclose(found.limits[1].eigenvalues, [0.4, 3.6], rtol=1e-4)


def test_diverged_and_unfinished_are_limits():
    arguments = {"x": (-8.0, 8.0, 21), "y": (-8.0, 7.0, 16)}
    found = jxs.basins(
        himmelblau, NONE, plane_of("x", "y"), optimizer=optax.sgd(0.012), **arguments
    )
    kinds = [limit.kind for limit in found.limits]
    assert kinds == ["minimum"] * 4 + ["diverged"]
    assert found.label[0, 0] == 4
    with np.errstate(all="ignore"):
        lost = np.array(
            [[descend_one(himmelblau_gradient, (a, b), 0.012)[0] is None
              for b in np.linspace(*arguments["y"])] for a in np.linspace(*arguments["x"])]
        )  # fmt: skip
    np.testing.assert_array_equal(found.label == 4, lost)
    short = jxs.basins(
        himmelblau, NONE, plane_of("x", "y"), optimizer=optax.sgd(0.001), steps=3, **arguments
    )
    assert [limit.kind for limit in short.limits] == ["unfinished"]
    assert (short.steps == 3).all()
    assert "100 %: unfinished" in repr(short)


def test_descents_leave_the_plane_with_any_optimizer():
    """A network of five numbers, a slanted plane and momentum, against `descend`.

    Swapping or mirroring neurons does not change the network, so four minima have the same loss.
    One start has a neuron of zeros, whose gradient is 0, and ends at a saddle.
    """
    generator = np.random.default_rng(2)
    x = generator.normal(0, 1.5, 40)
    origin = {"w": jnp.array([1.0, -0.5]), "v": jnp.array([0.3, 0.2]), "c": jnp.float32(0.1)}
    u = {"w": jnp.array([1.0, 0.5]), "v": None, "c": jnp.float32(0.2)}
    v = {"w": jnp.array([0.0, -0.5]), "v": jnp.array([1.0, 0.1]), "c": None}

    def loss(p, data):
        prediction = jnp.tanh(data.x[:, None] * p["w"][None]) @ p["v"] + p["c"]
        decay = sum(jnp.sum(leaf**2) for leaf in p.values())
        return jnp.mean((prediction - data.y) ** 2) + 0.1 * decay

    momentum = optax.sgd(0.1, momentum=0.8)
    data = jxs.Dataset(x.astype(np.float32), np.tanh(2 * x).astype(np.float32))
    found = jxs.basins(
        loss,
        data,
        jxs.Plane(origin, u, v),
        optimizer=momentum,
        a=(-2, 2, 5),
        b=(-2, 2, 4),
    )
    kinds = [limit.kind for limit in found.limits]
    assert kinds == ["minimum"] * 4 + ["saddle"]
    assert found.limits[4].starts == 1
    a, b = np.meshgrid(found.a.values, found.b.values, indexing="ij")
    starts = jax.jit(jax.vmap(jxs.Plane(origin, u, v).at))(a.ravel(), b.ravel())
    runs = jxs.descend(loss, starts, data, runs=20, optimizer=momentum, epochs=2000, record="end")
    for run, label in zip(runs, found.label.ravel(), strict=True):
        assert float(run.loss[-1]) == pytest.approx(found.limits[label].loss, rel=1e-4)


def test_the_size_of_blocks_does_not_change_the_result(monkeypatch):
    arguments = {"optimizer": optax.adam(0.1), "w1": (-3, 3, 13), "w2": (-2, 2, 9)}
    whole = jxs.basins(jxs.squared_error, STUDENT, **arguments)
    monkeypatch.setattr(basins, "_BLOCK_STARTS", 10)
    parts = jxs.basins(jxs.squared_error, STUDENT, **arguments)
    np.testing.assert_array_equal(parts.label, whole.label)
    np.testing.assert_allclose(parts.steps, whole.steps, atol=3)


def test_interrupted_descents_are_unfinished(monkeypatch):
    interrupt_after(monkeypatch, 1)
    monkeypatch.setattr(basins, "_BLOCK_STARTS", 5)
    with pytest.warns(jxs.InterruptedWarning, match="descents are unfinished"):
        found = jxs.basins(
            jxs.squared_error, STUDENT, optimizer=optax.sgd(0.3), w1=(-3, 3, 9), w2=(-2, 2, 8)
        )
    kinds = {limit.kind for limit in found.limits}
    assert "unfinished" in kinds
    assert kinds & {"minimum", "saddle"}


def test_another_call_compiles_nothing(compilations):
    def run(y):
        data = jxs.Dataset(NINE, y)
        first = len(compilations)
        found = jxs.basins(jxs.squared_error, data, optimizer=SGD, w1=(-3, 3, 9), w2=(-2, 2, 8))
        assert isinstance(found, Basins)
        return len(compilations) - first

    assert run(STUDENT.y) > 0
    assert run(1.1 * STUDENT.y) == 0


SGD = optax.sgd(0.3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps: expected 1 or more, got 0"),
        ({"steps": 1.5}, TypeError, "steps: expected a whole number, got 1.5"),
        ({"tolerance": 0.0}, ValueError, "tolerance: expected a positive finite number, got 0.0"),
        ({"tolerance": np.nan}, ValueError, "tolerance: .* got nan"),
        ({"optimizer": 0.1}, TypeError, "optimizer: expected an optax gradient transformation"),
        ({"optimizer": optax.sgd(-0.1)}, ValueError, "optimizer: expected a finite learning rate"),
        ({"w1": (2, -2, 9)}, ValueError, "w1: expected finite lo < hi"),
        ({"w3": (2, -2, 9)}, ValueError, "axes: expected w1 and w2, got w1, w2, w3"),
        ({"plane": 3}, TypeError, "plane: expected a Plane, got int"),
        ({"loss": 3}, TypeError, "loss: expected a function"),
    ],
)
def test_bad_arguments_raise_an_error(change, error, message):
    arguments = {"optimizer": SGD, "w1": (-1, 1, 4), "w2": (-1, 1, 3)} | change
    loss = arguments.pop("loss", jxs.squared_error)
    with pytest.raises(error, match=message):
        jxs.basins(loss, STUDENT, **arguments)


def test_too_many_parameters_raise_an_error():
    origin = jnp.zeros(65)
    plane = jxs.Plane(origin, origin + 1, jnp.eye(65)[0])
    with pytest.raises(ValueError, match="plane: expected at most 64 parameters, .* got 65"):
        jxs.basins(lambda p, _: jnp.sum(p**2), NONE, plane, optimizer=SGD, a=(0, 1, 3), b=(0, 1, 3))
