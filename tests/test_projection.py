"""A path seen from a plane: coordinates, distances, losses, and how it is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs

ROWS, COLUMNS = (-3, 3, 13), (-2, 2, 9)


@pytest.fixture(scope="module")
def network():
    """A loss of a 3-4-1 network and a descent on it."""
    x = jax.random.normal(jax.random.key(0), (30, 3))
    data = jxs.Dataset(x, jnp.sin(2 * x[:, 0]))
    keys = jax.random.split(jax.random.key(1))
    params = {
        "first": jax.random.normal(keys[0], (3, 4)),
        "second": jax.random.normal(keys[1], (4,)),
    }
    loss = jxs.squared_error.of(lambda p, x: jnp.tanh(x @ p["first"]) @ p["second"])
    path = jxs.descend(loss, params, data, optimizer=optax.adam(0.1), epochs=11)
    return loss, data, path


def flat(path, t):
    return np.concatenate([np.asarray(leaf[t], float).ravel() for leaf in jax.tree.leaves(path)])


def test_coordinates_and_distances_against_least_squares(network):
    loss, data, path = network
    start = jax.tree.map(lambda leaf: leaf[0], path.params)
    plane = jxs.Plane.random(jax.random.key(3), start, vectors=True)
    seen = jxs.project(loss, data, plane, path)
    u, v, origin = (flat(jax.tree.map(lambda x: x[None], d), 0) for d in (plane.u, plane.v, start))
    basis = np.stack([u, v], axis=1)
    points = np.stack([flat(path.params, t) for t in range(len(path))])
    for t, point in enumerate(points):
        expected, *_ = np.linalg.lstsq(basis, point - origin, rcond=None)
        np.testing.assert_allclose(seen.coordinates[t], expected, atol=1e-12)
        off = np.linalg.norm(point - origin - basis @ expected)
        np.testing.assert_allclose(seen.distance[t], off, atol=1e-12)
        below = loss(plane.at(*np.float32(expected)), data)
        np.testing.assert_allclose(seen.surface_loss[t], below, rtol=1e-5)
    np.testing.assert_allclose(seen.loss, path.loss, rtol=1e-6)
    centred = points - points.mean(axis=0)
    within = basis @ np.linalg.lstsq(basis, centred.T, rcond=None)[0]
    np.testing.assert_allclose(seen.explained, (within**2).sum() / (centred**2).sum(), rtol=1e-9)
    assert seen.distance[0] == 0
    assert seen.surface_loss[0] == seen.loss[0]
    assert seen.distance[-1] > 0.1


def test_principal_plane_explains_most(network):
    loss, data, path = network
    best = jxs.project(loss, data, jxs.Plane.principal(path), path)
    last = jax.tree.map(lambda leaf: leaf[-1], path.params)
    other = jxs.Plane.random(jax.random.key(0), last, vectors=True)
    assert best.explained > 0.8 > jxs.project(loss, data, other, path).explained
    # On the plane through points of the path, their losses are the surface's.
    points = [jax.tree.map(lambda leaf, t=t: leaf[t], path.params) for t in (0, 5, 11)]
    through = jxs.project(loss, data, jxs.Plane.through(*points), path)
    on = [0, 5, 11]
    np.testing.assert_allclose(through.distance[on], 0, atol=1e-6)
    np.testing.assert_allclose(through.surface_loss[on], through.loss[on], rtol=1e-5)
    assert (through.distance[[3, 8]] > 0.01).all()


def test_a_path_off_the_plane_is_drawn_so(network):
    loss, data, path = network
    last = jax.tree.map(lambda leaf: leaf[-1], path.params)
    plane = jxs.Plane.random(jax.random.key(0), last)
    surface = jxs.landscape(loss, data, plane, a=ROWS, b=COLUMNS)
    seen = jxs.project(loss, data, plane, path)
    spatial = jxs.plot.surface(surface, seen)
    dotted = [t for t in spatial.data if t.type == "scatter3d" and t.line.dash == "dot"]
    assert len(dotted) == 1
    kept = np.isfinite(dotted[0].z)
    assert np.abs(np.asarray(dotted[0].z)[kept][0] - seen.surface_loss[0]) < 0.1
    (points,) = [t for t in spatial.data if t.name and "variance" in t.name]
    assert f"{seen.explained:.1%}" in points.name
    assert "off the plane" in points.hovertemplate
    np.testing.assert_allclose(points.customdata[:, 2], seen.distance)
    flat = jxs.plot.contour(surface, seen)
    assert any(t.type == "scatter" and t.line.dash == "dot" for t in flat.data)


def test_a_path_on_the_plane_is_drawn_as_ever():
    data = jxs.teacher_student(jax.random.key(0))
    start = jxs.Weights(1.0, 0.2)
    path = jxs.descend(jxs.squared_error, start, data, optimizer=optax.sgd(0.5), epochs=9)
    plane = jxs.Plane(jxs.Weights(0.0, 0.0), jxs.Weights(1.0, None), jxs.Weights(None, 1.0))
    seen = jxs.project(jxs.squared_error, data, plane, path)
    np.testing.assert_allclose(seen.coordinates[:, 0], path.params.w1, rtol=1e-6)
    surface = jxs.landscape(jxs.squared_error, data, plane, a=ROWS, b=COLUMNS)
    for figure in (jxs.plot.surface(surface, seen), jxs.plot.contour(surface, seen)):
        lines = [t for t in figure.data if t.type.startswith("scatter")]
        assert lines
        assert not any(t.line.dash == "dot" for t in lines)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ({"w": jnp.ones((4, 2))}, "path: expected the plane's structure"),
        ([jnp.ones((4, 3)), jnp.ones(4)], r"path\[0\]: expected shape \(T, 2\), got \(4, 3\)"),
        ([jnp.ones((4, 2)), jnp.ones(3)], "as many in every leaf"),
        ([jnp.full((4, 2), jnp.inf), jnp.ones(4)], r"path\[0\]: expected finite"),
    ],
)
def test_another_path_is_refused(path, message):
    plane = jxs.Plane([jnp.ones(2), 1.0], [jnp.ones(2), None], [None, 1.0])
    with pytest.raises(ValueError, match=message):
        jxs.project(lambda p, d: p[1], None, plane, path)


def test_a_projection_on_other_coordinates_is_refused():
    data = jxs.teacher_student(jax.random.key(0))
    path = [jnp.arange(3.0), jnp.arange(3.0) ** 2]
    plane = jxs.Plane([0.0, 0.0], [1.0, None], [None, 1.0], names=("p", "q"))
    seen = jxs.project(lambda p, d: p[0] + p[1], None, plane, path)
    surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 5), w2=(-2, 2, 7))
    with pytest.raises(ValueError, match="expected a projection on p and q"):
        jxs.plot.contour(surface, seen)
