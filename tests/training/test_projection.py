"""Projections of paths onto planes: coordinates, distances, losses, and figures."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.planes import geometry
from jaxscape.plot.parts import paths
from jaxscape.training import projection
from tests.training.helpers import make_data

ROWS, COLUMNS = (-3, 3, 13), (-2, 2, 9)


@pytest.fixture(scope="module")
def network():
    """Return the loss of a 3-4-1 network, its data and a descent on it."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(30, 3)).astype(np.float32)
    data = jxs.Dataset(x, np.sin(2 * x[:, 0]))
    params = {
        "first": generator.normal(size=(3, 4)).astype(np.float32),
        "second": generator.normal(size=4).astype(np.float32),
    }
    loss = jxs.squared_error.of(lambda p, x: jnp.tanh(x @ p["first"]) @ p["second"])
    path = jxs.descend(loss, params, data, optimizer=optax.adam(0.1), epochs=11)
    return loss, data, path


def flat(path, t):
    return np.concatenate([np.asarray(leaf[t], float).ravel() for leaf in jax.tree.leaves(path)])


def test_coordinates_and_distances_against_least_squares(network):
    loss, data, path = network
    start = jax.tree.map(lambda leaf: leaf[0], path.params)
    plane = jxs.Plane.random(jax.random.key(3), start, include_vectors=True)
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
    centered = points - points.mean(axis=0)
    within = basis @ np.linalg.lstsq(basis, centered.T, rcond=None)[0]
    np.testing.assert_allclose(seen.explained, (within**2).sum() / (centered**2).sum(), rtol=1e-9)
    assert seen.distance[0] == 0
    assert seen.surface_loss[0] == seen.loss[0]
    assert seen.distance[-1] > 0.1


def test_the_principal_plane_explains_more_than_a_random_one(network):
    loss, data, path = network
    best = jxs.project(loss, data, jxs.Plane.principal(path), path)
    last = jax.tree.map(lambda leaf: leaf[-1], path.params)
    other = jxs.Plane.random(jax.random.key(0), last, include_vectors=True)
    assert best.explained > 0.8 > jxs.project(loss, data, other, path).explained
    # The plane through points of the path contains their losses.
    points = [jax.tree.map(lambda leaf, t=t: leaf[t], path.params) for t in (0, 5, 11)]
    through = jxs.project(loss, data, jxs.Plane.through(*points), path)
    on = [0, 5, 11]
    np.testing.assert_allclose(through.distance[on], 0, atol=1e-6)
    np.testing.assert_allclose(through.surface_loss[on], through.loss[on], rtol=1e-5)
    assert (through.distance[[3, 8]] > 0.01).all()


def test_a_path_off_the_plane_is_drawn_with_a_dotted_projection(network):
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
    assert "distance to the plane" in points.hovertemplate
    np.testing.assert_allclose(points.customdata[:, 2], seen.distance)
    flat = jxs.plot.contour(surface, seen)
    assert any(t.type == "scatter" and t.line.dash == "dot" for t in flat.data)


def test_a_path_on_the_plane_is_drawn_without_a_projection():
    data = make_data()
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


def test_leaves_that_are_not_parameters_come_from_the_plane():
    """The other leaves of an Equinox model's path, here its activation function, are ignored."""
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    data = jxs.Dataset(x, np.sin(x[:, :1]))
    make = eqx.filter_jit(lambda key: eqx.nn.MLP(3, 1, 5, 1, key=key))
    models = [make(jax.random.key(k)) for k in range(5)]
    loss = jxs.squared_error.of(lambda m, x: jax.vmap(m)(x))
    path = jax.tree.map(lambda *x: np.stack(x) if eqx.is_inexact_array(x[0]) else np.sin, *models)
    plane = jxs.Plane.through(*models[:3])
    seen = jxs.project(loss, data, plane, path)
    np.testing.assert_allclose(seen.loss, [loss(m, data) for m in models], rtol=1e-5)
    np.testing.assert_allclose(seen.distance[:3], 0, atol=1e-6)
    np.testing.assert_allclose(seen.surface_loss[:3], seen.loss[:3], rtol=1e-5)
    assert (seen.distance[3:] > 1).all()
    assert np.abs(seen.surface_loss[3:] / seen.loss[3:] - 1).max() > 0.01


@pytest.mark.parametrize("per_block", [1, 5, 7, 11, 100])
def test_the_size_of_blocks_does_not_change_the_result(
    network, per_block, monkeypatch, compilations
):
    """11 points of 16 numbers, in blocks that divide 11, that do not, and in one block."""
    loss, data, path = network
    path = jax.tree.map(lambda leaf: leaf[:11], path.params)
    plane = jxs.Plane.principal(path)
    whole = jxs.project(loss, data, plane, path)
    monkeypatch.setattr(projection, "_BLOCK_BYTES", per_block * 16 * 4)
    monkeypatch.setattr(geometry, "_MAX_NUMBERS", 12 * 5)
    shapes = []

    def traced_loss(params, data):
        shapes.append(params["first"].shape)
        return loss(params, data)

    parts = jxs.project(traced_loss, data, plane, path)
    # The loss is traced once for the points and once for the surface, for all blocks.
    assert shapes == [(3, 4)] * 2
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-6)
    np.testing.assert_allclose(parts.surface_loss, whole.surface_loss, rtol=1e-6)
    np.testing.assert_allclose(parts.coordinates, whole.coordinates, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(parts.distance, whole.distance, rtol=1e-9, atol=1e-9)
    assert parts.loss.shape == (11,)
    before = len(compilations)
    jxs.project(traced_loss, data, plane, path)
    assert len(compilations) == before


def test_a_stream_gives_the_result_of_all_data(network, monkeypatch):
    """Each batch is loaded once for all points."""
    loss, data, path = network
    plane = jxs.Plane.principal(path)
    whole = jxs.project(loss, data, plane, path)
    loaded = []

    def batches():
        for size in (slice(0, 13), slice(13, 14), slice(14, 30)):
            loaded.append(size)
            yield jxs.Dataset(data.x[size], data.y[size])

    monkeypatch.setattr(projection, "_BLOCK_BYTES", 5 * 16 * 4)
    parts = jxs.project(loss, jxs.Stream(batches), plane, path)
    assert len(loaded) == 3
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-6)
    np.testing.assert_allclose(parts.surface_loss, whole.surface_loss, rtol=1e-6)
    np.testing.assert_array_equal(parts.coordinates, whole.coordinates)
    surface = jxs.landscape(loss, jxs.Stream(batches), plane, a=ROWS, b=COLUMNS)
    assert jxs.plot.contour(surface, parts).data
    # Equal weights do not give it, because the batches differ in size.
    equal = jxs.project(loss, jxs.Stream(batches, weight=lambda _: 1), plane, path)
    assert np.abs(equal.loss / whole.loss - 1).max() > 1e-2


@pytest.mark.parametrize("streamed", [False, True])
def test_several_scalars_are_several_projections(network, streamed):
    loss, data, path = network

    def scores(params, data):
        return {"loss": loss(params, data), "first": params["second"][0], "b": jnp.float16(2)}

    plane = jxs.Plane.principal(path)
    cut = [slice(0, 11), slice(11, 30)]
    source = jxs.Stream([jxs.Dataset(data.x[k], data.y[k]) for k in cut]) if streamed else data
    found = jxs.project(scores, source, plane, path)
    assert sorted(found) == ["b", "first", "loss"]
    whole = jxs.project(loss, data, plane, path)
    np.testing.assert_allclose(found["loss"].loss, whole.loss, rtol=1e-6)
    np.testing.assert_allclose(found["loss"].surface_loss, whole.surface_loss, rtol=1e-6)
    np.testing.assert_allclose(found["first"].loss, path.params["second"][:, 0], rtol=1e-6)
    below = [plane.at(*ab)["second"][0] for ab in np.float32(whole.coordinates)]
    np.testing.assert_allclose(found["first"].surface_loss, below, rtol=1e-5, atol=1e-6)
    for seen in found.values():
        np.testing.assert_array_equal(seen.coordinates, whole.coordinates)
        assert seen.explained == whole.explained
    np.testing.assert_array_equal(found["b"].loss, np.full(12, 2.0))
    surface = jxs.landscape(scores, data, plane, a=ROWS, b=COLUMNS)["loss"]
    assert jxs.plot.surface(surface, found["loss"]).data


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda p, d: {}, "got an empty dictionary"),
        (lambda p, d: {"x": p[0]}, r"expected a scalar, got an array of shape \(2,\)"),
        (lambda p, d: p[0], r"expected a scalar, got an array of shape \(2,\)"),
        (lambda p, d: jnp.int32(1), "expected a floating scalar, got dtype int32"),
    ],
)
def test_a_loss_without_scalars_raises_an_error(loss, message):
    plane = jxs.Plane([jnp.ones(2), 1.0], [jnp.ones(2), None], [None, 1.0])
    with pytest.raises(TypeError, match=message):
        jxs.project(loss, None, plane, [jnp.ones((4, 2)), jnp.ones(4)])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ({"w": jnp.ones((4, 2))}, "path: expected the plane's structure"),
        ([jnp.ones((4, 3)), jnp.ones(4)], r"path\[0\]: expected shape \(T, 2\), got \(4, 3\)"),
        ([jnp.ones((4, 2)), jnp.ones(3)], "expected the same number of points"),
        ([jnp.full((4, 2), jnp.inf), jnp.ones(4)], r"path\[0\]: expected finite"),
    ],
)
def test_a_path_that_does_not_fit_the_plane_raises_an_error(path, message):
    plane = jxs.Plane([jnp.ones(2), 1.0], [jnp.ones(2), None], [None, 1.0])
    with pytest.raises(ValueError, match=message):
        jxs.project(lambda p, d: p[1], None, plane, path)


def test_a_projection_onto_other_coordinates_is_not_drawn():
    data = make_data()
    path = [jnp.arange(3.0), jnp.arange(3.0) ** 2]
    plane = jxs.Plane([0.0, 0.0], [1.0, None], [None, 1.0], names=("p", "q"))
    seen = jxs.project(lambda p, d: p[0] + p[1], None, plane, path)
    surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 5), w2=(-2, 2, 7))
    with pytest.raises(ValueError, match="a coordinate 'w1', .* got one on p and q"):
        jxs.plot.contour(surface, seen)


def test_a_path_with_another_loss_than_the_surface_is_noted():
    """Also on a coarse grid, whose interpolation is poor. Other data of one kind are not noted."""
    data, other = (jxs.data.teacher_student(jax.random.key(k)) for k in (0, 1))
    start, optimizer = jxs.Weights(-2.0, 2.5), optax.sgd(0.1)
    path = jxs.descend(jxs.squared_error, start, data, optimizer=optimizer, epochs=60)
    for n in (13, 31):
        grid = {"w1": (-3, 3, n), "w2": (-3, 3, n - 2)}
        for given in (data, other):
            own = jxs.landscape(jxs.squared_error, given, **grid)
            assert jxs.plot.contour(own, path).layout.meta["notes"] == []
        wrong = jxs.landscape(jxs.absolute_error, data, **grid)
        hole = np.asarray(wrong.loss).copy()
        hole[0] = np.nan
        for surface in (wrong, dataclasses.replace(wrong, loss=hole)):
            [note] = paths.mismatch_notes(surface, [path])
            assert "losses of descent differ from the surface by up to " in note
            assert 3 < float(note.split("up to ")[1].split(":")[0]) < 5
            assert note in jxs.plot.surface(surface, path).layout.meta["notes"]


def test_a_projection_onto_another_plane_through_its_end_is_noted(network):
    loss, data, path = network
    end = jax.tree.map(lambda x: x[-1], path.params)
    plane = jxs.Plane.principal(path)
    seen = jxs.project(loss, data, plane, path)
    random = jxs.Plane.random(jax.random.key(1), end)
    surfaces = [jxs.landscape(loss, data, p, a=ROWS, b=COLUMNS) for p in (plane, random)]
    assert paths.mismatch_notes(surfaces[0], [seen]) == []
    assert "another loss, data or plane" in paths.mismatch_notes(surfaces[1], [seen])[0]
