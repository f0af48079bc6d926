"""The plane: coordinates to parameters, how its directions are chosen, and its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.plane import weight_plane

ORIGIN = {"w": jnp.array([1.0, -2.0]), "bias": 0.5, "frozen": None}


def test_a_point_of_the_plane():
    u = {"w": jnp.array([0.5, 1.0]), "bias": None, "frozen": None}
    v = {"w": jnp.array([-1.0, 0.25]), "bias": 2.0, "frozen": None}
    point = jxs.Plane(ORIGIN, u, v).at(2.0, -3.0)
    np.testing.assert_allclose(point["w"], [1 + 1 + 3, -2 + 2 - 0.75])
    assert point["bias"] == 0.5 - 6
    assert point["frozen"] is None


def test_what_no_direction_touches_is_the_origins_own():
    frozen = jnp.arange(3.0)
    plane = jxs.Plane([frozen, 1.0, 2.0], [None, 1.0, None], [None, None, 1.0])
    assert plane.at(1.0, 1.0)[0] is frozen


def test_the_coordinates_of_the_weight_plane_are_the_weights():
    assert weight_plane().at(0.25, -3.0) == jxs.Weights(0.25, -3.0)


@pytest.mark.parametrize(
    ("u", "message"),
    [
        ({"w": jnp.ones(2)}, "plane.u: expected the origin's structure"),
        ({"w": None, "bias": None, "frozen": None}, "plane.u: expected a direction, got None for"),
        (
            {"w": jnp.ones(3), "bias": None, "frozen": None},
            r"plane.u\['w'\]: expected the origin's shape \(2,\), got \(3,\)",
        ),
    ],
)
def test_directions_that_do_not_fit_are_refused(u, message):
    v = {"w": None, "bias": 1.0, "frozen": None}
    with pytest.raises(ValueError, match=message):
        jxs.landscape(lambda p, d: 0.0, None, jxs.Plane(ORIGIN, u, v), a=(0, 1, 2), b=(0, 1, 3))


def test_leaves_that_are_no_floating_numbers_stay_as_they_are(compilations):
    key = jax.random.key(3)
    origin = {"w": jnp.ones((2, 3)), "act": jnp.tanh, "n": jnp.arange(2), "k": key, "kind": "mlp"}
    plane = jxs.Plane.random(jax.random.key(0), origin | {"depth": 7})
    point = plane.at(0.5, 2.0)
    assert point["act"] is jnp.tanh
    assert point["kind"] == "mlp"
    assert point["depth"] == 7
    assert point["n"] is origin["n"]
    assert point["k"] is key
    expected = 1 + 0.5 * np.asarray(plane.u["w"]) + 2 * np.asarray(plane.v["w"])
    np.testing.assert_allclose(point["w"], expected, rtol=1e-6)

    def loss(params, data):
        assert params["kind"] == "mlp"  # static under jit, so that it can be looked at
        noise = jax.random.normal(params["k"], (1, 3))
        return jnp.mean(params["act"](data @ params["w"] + params["n"].sum() + noise))

    x = jnp.linspace(-1, 1, 8).reshape(4, 2)
    surface = jxs.landscape(loss, x, plane, a=(-1, 1, 5), b=(-1, 1, 7))
    np.testing.assert_allclose(surface.loss[2, 3], loss(origin, x), rtol=1e-5)
    np.testing.assert_allclose(surface.loss[4, 1], loss(plane.at(1.0, -2 / 3), x), rtol=1e-5)
    # Another plane of the same model compiles nothing.
    moved = jxs.Plane.random(jax.random.key(1), origin | {"depth": 7})
    jax.block_until_ready(moved.u["w"])
    before = len(compilations)
    jxs.landscape(loss, x, moved, a=(-1, 1, 5), b=(-1, 1, 7))
    assert len(compilations) == before


def filter_normalised(steps, weights, axis):
    """Written from Li et al. 2018, section 4: each filter scaled by its own norm."""
    steps, weights = (np.moveaxis(np.array(x, float), axis, 0) for x in (steps, weights))
    for step, weight in zip(steps, weights, strict=True):
        step *= np.sqrt(np.sum(weight**2)) / np.sqrt(np.sum(step**2))
    return np.moveaxis(steps, 0, axis)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 5, 4)])
@pytest.mark.parametrize("axis", [0, -1])
def test_filters_are_as_long_as_the_parameters_own(shape, axis):
    params = {"w": jax.random.normal(jax.random.key(1), shape) * 3, "b": jnp.arange(1.0, 4.0)}
    plain = jxs.Plane.random(jax.random.key(0), params, normalise=None)
    plane = jxs.Plane.random(jax.random.key(0), params, output_axis=axis)
    for name in "uv":
        raw, scaled = getattr(plain, name), getattr(plane, name)
        expected = filter_normalised(raw["w"], params["w"], axis)
        np.testing.assert_allclose(scaled["w"], expected, rtol=1e-5)
        assert scaled["b"] is None
    other = filter_normalised(plain.u["w"], params["w"], -1 - axis)
    assert np.abs(np.asarray(plane.u["w"]) - other).max() > 0.1


def test_layers_and_vectors_are_scaled_as_a_whole():
    params = {"w": 2 * jnp.ones((3, 4)), "b": jnp.arange(1.0, 4.0), "frozen": jnp.ones((2, 2))}
    plane = jxs.Plane.random(
        jax.random.key(0), params, normalise="layer", vectors=True, leaves=lambda p: "froz" not in p
    )
    for direction in (plane.u, plane.v):
        assert direction["frozen"] is None
        for name in "wb":
            lengths = (np.linalg.norm(tree[name]) for tree in (direction, params))
            np.testing.assert_allclose(next(lengths), next(lengths), rtol=1e-6)
        # The rows are not scaled one by one.
        assert np.ptp(np.linalg.norm(direction["w"], axis=0)) > 0.1


def test_three_solutions_lie_at_the_corners(x64):
    keys = jax.random.split(jax.random.key(0), 3)
    solutions = [{"w": jax.random.normal(key, (4, 3)), "f": jnp.tanh} for key in keys]
    plane = jxs.Plane.through(*solutions)

    def loss(params, data):
        return jnp.sum(params["f"](params["w"]) ** 2)

    surface = jxs.landscape(loss, None, plane, a=(0, 1, 3), b=(0, 1, 2))
    for solution, (i, j) in zip(solutions, [(0, 0), (2, 0), (0, 1)], strict=True):
        np.testing.assert_allclose(surface.loss[i, j], loss(solution, None), rtol=1e-12)
    assert abs(surface.loss[2, 1] / loss(solutions[1], None) - 1) > 0.01
    square = plane.orthonormal()
    u, v = np.asarray(square.u["w"]), np.asarray(square.v["w"])
    np.testing.assert_allclose([(u * u).sum(), (v * v).sum(), (u * v).sum()], [1, 1, 0], atol=1e-12)
    a, b, distance = square.coordinates(solutions[2])
    np.testing.assert_allclose(square.at(a, b)["w"], solutions[2]["w"], rtol=1e-12)
    assert distance < 1e-12


def test_structural_zeros_stay_in_an_orthonormal_plane():
    apart = jxs.Plane([1.0, 2.0, 3.0], [2.0, None, None], [None, 3.0, None]).orthonormal()
    assert apart.u[1] is apart.v[0] is apart.v[2] is None
    oblique = jxs.Plane([1.0, 2.0, 3.0], [2.0, None, None], [1.0, 3.0, None]).orthonormal()
    assert oblique.v[0] is not None
    assert oblique.v[2] is None


def test_principal_directions_are_those_of_the_covariance(x64):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 5)) * [5, 0.1, 3, 1, 0.2] + 7
    path = {"w": jnp.asarray(points[:, :3]), "b": jnp.asarray(points[:, 3:]), "n": jnp.arange(9)}
    plane = jxs.Plane.principal(path)
    _, vectors = np.linalg.eigh(np.cov(points.T))
    for direction, expected in ((plane.u, vectors[:, -1]), (plane.v, vectors[:, -2])):
        found = np.concatenate([direction["w"], direction["b"]])
        assert direction["n"] is None
        np.testing.assert_allclose(abs(found @ expected), 1, rtol=1e-10)
    np.testing.assert_array_equal(plane.origin["w"], points[-1, :3])


def test_coordinates_are_the_nearest_point_of_an_oblique_plane(x64):
    rng = np.random.default_rng(1)
    origin, u, v, away = rng.normal(size=(4, 6))
    plane = jxs.Plane(*(jnp.asarray(x) for x in (origin, u, v)))
    (a, b), *_ = np.linalg.lstsq(np.stack([u, v], axis=1), away, rcond=None)
    found = plane.coordinates(jnp.asarray(origin + away))
    np.testing.assert_allclose(found, [a, b, np.linalg.norm(away - a * u - b * v)], rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: jxs.Plane([1.0, 2], [1.0, None], [None, 1.0]),
            TypeError,
            r"plane.v\[1\]: expected",
        ),
        (lambda: jxs.Plane([1.0, 2.0], [0.0, None], [None, 1.0]), ValueError, "u: .*got zeros"),
        (lambda: jxs.Plane([1.0, 2.0], [1.0, 3.0], [-2.0, -6.0]), ValueError, "the same line"),
        (
            lambda: jxs.Plane([1.0, np.inf], [1.0, None], [None, 1.0]),
            ValueError,
            r"plane.origin\[1\]: expected finite",
        ),
        (
            lambda: jxs.Plane([1.0, 2.0], [np.nan, None], [None, 1.0]),
            ValueError,
            r"plane.u\[0\]: expected finite",
        ),
        (lambda: jxs.Plane.random(0, jnp.ones((2, 2))), TypeError, "key: expected"),
        (
            lambda: jxs.Plane.random(jax.random.key(0), jnp.ones((2, 2)), normalise="row"),
            ValueError,
            "normalise: expected 'filter', 'layer' or None, got 'row'",
        ),
        (
            lambda: jxs.Plane.random(jax.random.key(0), {"b": jnp.ones(3)}),
            ValueError,
            "expected a leaf that moves",
        ),
        (
            lambda: jxs.Plane.through([1.0], [1.0, 2.0], [2.0]),
            ValueError,
            "second: expected the first's structure",
        ),
        (
            lambda: jxs.Plane.through([jnp.ones(2)], [2 * jnp.ones(2)], [jnp.ones(3)]),
            ValueError,
            r"third\[0\]: expected the first's shape \(2,\), got \(3,\)",
        ),
        (
            lambda: jxs.Plane.principal(jnp.linspace(0, 1, 12).reshape(4, 3)),
            ValueError,
            "expected one that leaves a line",
        ),
        (lambda: jxs.Plane.principal(jnp.ones((2, 3))), ValueError, "3 points or more"),
        (
            lambda: jxs.Plane.principal({"w": jnp.full((4, 3), jnp.nan)}),
            ValueError,
            r"path\['w'\]: expected finite",
        ),
    ],
)
def test_what_makes_no_plane_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_directions_that_are_almost_collinear_are_a_plane():
    """Three roundings apart is enough; the test above shows where it stops."""
    plane = jxs.Plane([1.0, 2.0], [1.0, 3.0], [1.0, 3.0 + 1e-6])
    assert plane.names == ("a", "b")
