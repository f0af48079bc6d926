"""The plane of the gradient: its directions, over arrays and over streams."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxscape as jxs

KEY = jax.random.key(0)


def make():
    generator = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(generator.normal(size=(3, 4))),
        "v": jnp.asarray(generator.normal(size=4)),
        "bias": jnp.asarray(0.3),
        "f": jnp.tanh,
        "count": 3,
    }
    return params, (
        jnp.asarray(generator.normal(size=(11, 3))),
        jnp.asarray(generator.normal(size=11)),
    )


def loss(params, data):
    x, y = data
    return jnp.mean((params["f"](x @ params["w"]) @ params["v"] + params["bias"] - y) ** 2)


def by_differences(params, data, step=1e-6):
    """Compute the gradient by central differences."""
    flat, unravel = ravel_pytree({name: params[name] for name in ("w", "v", "bias")})
    steps = step * np.eye(flat.size)
    losses = jax.jit(
        jax.vmap(lambda e: jnp.stack([loss(params | unravel(flat + s * e), data) for s in (1, -1)]))
    )(steps)
    return np.asarray((losses[:, 0] - losses[:, 1]) / (2 * step))


def flattened(direction):
    return ravel_pytree({name: direction[name] for name in ("w", "v", "bias")})[0]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_first_direction_points_uphill_and_the_second_across(streamed, x64):
    params, data = make()
    batches = [jax.tree.map(lambda x, k=k: x[k], data) for k in (slice(0, 7), slice(7, 11))]
    given = jxs.Stream(batches) if streamed else data
    plane = jxs.gradient_plane(loss, given, params, KEY)
    expected = by_differences(params, data)
    u, v = flattened(plane.u), flattened(plane.v)
    np.testing.assert_allclose(u, expected / np.linalg.norm(expected), atol=1e-8)
    np.testing.assert_allclose([u @ u, v @ v, u @ v], [1, 1, 0], atol=1e-14)
    assert plane.u["f"] is plane.v["count"] is None
    surface = jxs.landscape(loss, data, plane, a=(-1e-4, 1e-4, 3), b=(-2e-4, 2e-4, 5))
    np.testing.assert_allclose(surface.loss[1, 2], loss(params, data), rtol=1e-12)
    rise = (surface.loss[2, 2] - surface.loss[0, 2]) / 2e-4
    np.testing.assert_allclose(rise, np.linalg.norm(expected), rtol=1e-6)
    assert abs(surface.loss[1, 3] - surface.loss[1, 1]) < 1e-6 * 2e-4
    assert surface.marks == ((0, 0, "origin"),)


def test_a_given_direction_is_made_orthogonal_to_the_gradient(x64):
    params, data = make()
    other = jxs.random_direction(jax.random.key(4), params)
    plane = jxs.gradient_plane(loss, data, params, other)
    u, v = flattened(plane.u), flattened(plane.v)
    wanted = flattened(other | {"v": jnp.zeros(4), "bias": jnp.zeros(())})
    rest = wanted - (wanted @ u) * u
    np.testing.assert_allclose(v, rest / np.linalg.norm(rest), atol=1e-12)


def test_calls_of_equal_shapes_trace_the_loss_once(x64):
    """Leaves that do not move are arguments of the compiled function, not constants in it."""
    params, (x, y) = make()
    traces = []

    def counted(params, data):
        traces.append(params)
        return loss(params, data)

    planes = [
        jxs.gradient_plane(
            counted,
            (x, y),
            params | {"v": k * params["v"]},
            KEY,
            leaves=lambda path: "v" not in path,
        )
        for k in (1.0, 2.0, 1.0)
    ]
    assert len(traces) == 1
    first, second, third = (plane.u["w"] for plane in planes)
    assert (first == third).all()
    assert np.abs(first - second).max() > 0.01


def test_the_gradient_of_an_equinox_model_is_that_of_equinox():
    model = eqx.filter_jit(lambda: eqx.nn.MLP(3, "scalar", 5, 2, key=KEY))()
    _, (x, y) = make()

    def error(model, data):
        return jnp.mean((jax.vmap(model)(data[0]) - data[1]) ** 2)

    plane = jxs.gradient_plane(error, (x, y), model, KEY)
    gradient = eqx.filter_jit(eqx.filter_grad(error))(model, (x, y))
    ours, theirs = (ravel_pytree(eqx.filter(t, eqx.is_array))[0] for t in (plane.u, gradient))
    np.testing.assert_allclose(ours, theirs / jnp.linalg.norm(theirs), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"loss": lambda p, d: 0.0 * p["bias"]},
            ValueError,
            "expected a finite nonzero gradient, got one of length 0",
        ),
        (
            {"loss": lambda p, d: p["bias"] / 0.0},
            ValueError,
            "finite nonzero gradient, got one of length inf",
        ),
        ({"loss": lambda p, d: p["w"]}, TypeError, r"expected a scalar, got an array of shape"),
        ({"loss": 3}, TypeError, "loss: expected a function"),
        ({"leaves": lambda path: False}, ValueError, "params, leaves: expected a leaf of floating"),
        (
            {"direction": "uphill"},
            ValueError,
            "direction: expected one that is not parallel to the gradient",
        ),
        ({"params": {"w": jnp.full(2, jnp.nan)}}, ValueError, r"params\['w'\]: expected finite"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    params, data = make()
    if change.get("direction") == "uphill":
        change = {"direction": jxs.gradient_plane(loss, data, params, KEY).u}
    given = {"loss": loss, "data": data, "params": params, "direction": KEY} | change
    with pytest.raises(error, match=message):
        jxs.gradient_plane(**given)


@pytest.mark.parametrize(
    ("direction", "error", "message"),
    [
        ({"w": None}, ValueError, "direction: expected the origin's structure"),
        (
            [jnp.ones(2), jnp.ones(3)],
            ValueError,
            r"direction\[0\]: expected None, as `leaves` excludes",
        ),
        ([None, jnp.arange(3)], TypeError, r"direction\[1\]: expected floating numbers, got int32"),
        ([None, jnp.ones(2)], ValueError, r"direction\[1\]: expected the origin's shape"),
        ([None, jnp.zeros(3)], ValueError, "direction: expected a nonzero direction, got zeros"),
        (jnp.arange(3), ValueError, "direction: expected the origin's structure"),
    ],
)
def test_a_bad_direction_is_refused_before_the_data_are_read(direction, error, message):
    def load():
        raise AssertionError("read")

    with pytest.raises(error, match=message):
        jxs.gradient_plane(
            lambda p, d: jnp.mean(p[0] * d),
            jxs.Stream(load),
            [jnp.ones(2), jnp.ones(3)],
            direction,
            leaves=lambda path: path == "[1]",
        )
