"""Planes: coordinates to parameters and back, their constructors, marks and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import archive
from jaxscape.planes.plane import weight_plane

KEY = jax.random.key(0)
ORIGIN = {"w": jnp.array([1.0, -2.0]), "bias": 0.5, "frozen": None}


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_a_point_is_the_origin_plus_the_coordinates_times_the_directions():
    u = {"w": jnp.array([0.5, 1.0]), "bias": None, "frozen": None}
    v = {"w": jnp.array([-1.0, 0.25]), "bias": 2.0, "frozen": None}
    point = jxs.Plane(ORIGIN, u, v).at(2.0, -3.0)
    np.testing.assert_allclose(point["w"], [1 + 1 + 3, -2 + 2 - 0.75])
    assert point["bias"] == 0.5 - 6
    assert point["frozen"] is None


def test_leaves_that_do_not_move_are_the_origins_own_arrays():
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
def test_directions_that_do_not_fit_the_origin_are_refused(u, message):
    v = {"w": None, "bias": 1.0, "frozen": None}
    with pytest.raises(ValueError, match=message):
        jxs.landscape(lambda p, d: 0.0, None, jxs.Plane(ORIGIN, u, v), a=(0, 1, 2), b=(0, 1, 3))


def test_leaves_that_are_not_floating_do_not_move(compilations):
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
        assert params["kind"] == "mlp"  # static under jit, so that Python can read it
        noise = jax.random.normal(params["k"], (1, 3))
        return jnp.mean(params["act"](data @ params["w"] + params["n"].sum() + noise))

    x = jnp.linspace(-1, 1, 8).reshape(4, 2)
    surface = jxs.landscape(loss, x, plane, a=(-1, 1, 5), b=(-1, 1, 7))
    np.testing.assert_allclose(surface.loss[2, 3], loss(origin, x), rtol=1e-5)
    np.testing.assert_allclose(surface.loss[4, 1], loss(plane.at(1.0, -2 / 3), x), rtol=1e-5)
    # A second plane of the same model compiles nothing.
    moved = jxs.Plane.random(jax.random.key(1), origin | {"depth": 7})
    jax.block_until_ready(moved.u["w"])
    before = len(compilations)
    jxs.landscape(loss, x, moved, a=(-1, 1, 5), b=(-1, 1, 7))
    assert len(compilations) == before


def test_a_random_plane_has_two_random_directions():
    params = {"w": np.float32([[1, 2], [3, 4], [0, 5]]), "b": np.ones(2, np.float32)}
    options = {"normalize": "layer", "include_vectors": True}
    plane = jxs.Plane.random(KEY, params, **options)
    for key, direction in zip(jax.random.split(KEY), (plane.u, plane.v), strict=True):
        expected = jxs.random_direction(key, params, **options)
        for name in "wb":
            np.testing.assert_array_equal(direction[name], expected[name])
    assert plane.units == ("layer-normalized",) * 2
    assert plane.marks == ((0, 0, "origin"),)
    assert jxs.Plane.random(KEY, params, normalize=None).units == ("random", "random")


def test_a_plane_through_three_solutions_has_them_at_its_corners(x64):
    solutions = [{"w": normal(k, (4, 3)), "f": jnp.tanh} for k in range(3)]
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


def test_an_orthonormal_plane_keeps_structural_zeros():
    apart = jxs.Plane([1.0, 2.0, 3.0], [2.0, None, None], [None, 3.0, None]).orthonormal()
    assert apart.u[1] is apart.v[0] is apart.v[2] is None
    oblique = jxs.Plane([1.0, 2.0, 3.0], [2.0, None, None], [1.0, 3.0, None]).orthonormal()
    assert oblique.v[0] is not None
    assert oblique.v[2] is None


def test_the_principal_plane_is_that_of_the_principal_directions(x64):
    points = np.random.default_rng(0).normal(size=(9, 5)) * [5, 0.1, 3, 1, 0.2] + 7
    frozen = np.stack([np.ones(2)] * 9)
    plane = jxs.Plane.principal({"w": points, "frozen": frozen, "n": np.arange(9)})
    _, vectors = np.linalg.eigh(np.cov(points.T))
    for direction, expected in ((plane.u, vectors[:, -1]), (plane.v, vectors[:, -2])):
        np.testing.assert_allclose(abs(direction["w"] @ expected), 1, rtol=1e-10)
        assert direction["frozen"] is direction["n"] is None
    np.testing.assert_array_equal(plane.origin["w"], points[-1])
    np.testing.assert_array_equal(plane.at(1.0, 2.0)["frozen"], np.ones(2))
    assert plane.units == ("distance", "distance")


def test_coordinates_are_those_of_the_nearest_point_of_an_oblique_plane(x64):
    rng = np.random.default_rng(1)
    origin, u, v, away = rng.normal(size=(4, 6))
    plane = jxs.Plane(*(jnp.asarray(x) for x in (origin, u, v)))
    (a, b), *_ = np.linalg.lstsq(np.stack([u, v], axis=1), away, rcond=None)
    nearest = plane.coordinates(jnp.asarray(origin + away))
    np.testing.assert_allclose(nearest, [a, b, np.linalg.norm(away - a * u - b * v)], rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: jxs.Plane([1.0, 2], [1.0, None], [None, 1.0]),
            TypeError,
            r"plane.v\[1\]: expected",
        ),
        (
            lambda: jxs.Plane([1.0, jnp.ones(2)], [None, jnp.arange(2)], [1.0, None]),
            TypeError,
            r"plane.u\[1\]: expected floating numbers, got int32",
        ),
        (
            lambda: jxs.Plane({"w": {"k": 1.0, "b": 2.0}}, {"w": {"k": 1.0}}, {}),
            ValueError,
            r"plane.u: .* with a leaf \['w'\]\['b'\], got none there",
        ),
        (
            lambda: jxs.Plane({"w": 1.0}, {"w": 1.0}, {"w": 1.0, "b": 2.0}),
            ValueError,
            r"plane.v: .* structure, got an additional leaf \['b'\]",
        ),
        (
            lambda: jxs.Plane({"w": 1.0}, {"w": 1.0}, {"v": 1.0}),
            ValueError,
            r"plane.v: .* with a leaf \['w'\], got \['v'\] there",
        ),
        (
            lambda: jxs.Plane([1.0], [1.0], (2.0,)),
            ValueError,
            r"plane.v: .* PyTreeDef\(\[\*\]\), got PyTreeDef\(\(\*,\)\)",
        ),
        (lambda: jxs.Plane([1.0, 2.0], [0.0, None], [None, 1.0]), ValueError, "u: .*got zeros"),
        (lambda: jxs.Plane([1.0, 2.0], [1.0, 3.0], [-2.0, -6.0]), ValueError, "not parallel"),
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
            lambda: jxs.Plane.random(jax.random.key(0), jnp.ones((2, 2)), normalize="row"),
            ValueError,
            "normalize: expected 'filter', 'layer' or None, got 'row'",
        ),
        (
            lambda: jxs.Plane.random(jax.random.key(0), {"w": jnp.full((3, 2), jnp.nan)}),
            ValueError,
            r"params\['w'\]: expected finite",
        ),
        (
            lambda: jxs.Plane.random(jax.random.key(0), {"b": jnp.ones(3)}),
            ValueError,
            "expected at least one leaf that moves",
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
            "expected points that vary in 2 directions",
        ),
        (lambda: jxs.Plane.principal(jnp.ones((2, 3))), ValueError, "3 points or more"),
        (
            lambda: jxs.Plane.principal({"w": jnp.full((4, 3), jnp.nan)}),
            ValueError,
            r"path\['w'\]: expected finite",
        ),
    ],
)
def test_bad_origins_directions_and_paths_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_almost_parallel_directions_make_a_plane():
    """Three roundings apart is enough; parallel directions are refused above."""
    plane = jxs.Plane([1.0, 2.0], [1.0, 3.0], [1.0, 3.0 + 1e-6])
    assert plane.names == ("a", "b")


def test_a_plane_between_two_solutions_and_along_a_direction(x64):
    first, second, other = (
        {"w": normal(k, (4, 3)), "late": np.ones(2) * k, "f": jnp.tanh} for k in range(3)
    )
    direction = other | {"late": None, "f": None}
    plane = jxs.Plane.between(first, second, direction)
    for name in ("w", "late"):
        np.testing.assert_allclose(plane.at(1.0, 0.0)[name], second[name], rtol=1e-12)
    np.testing.assert_allclose(plane.at(0.0, 2.0)["w"], first["w"] + 2 * other["w"], rtol=1e-12)
    assert plane.v["late"] is None
    across = jxs.Plane.between(first, second, direction, orthogonal=True)
    # The definition: the direction without its component along the line through the two.
    step, square = second["w"] - first["w"], np.sum((second["w"] - first["w"]) ** 2) + 2 * 1.0
    overlap = float(np.sum(other["w"] * step)) / float(square)
    np.testing.assert_allclose(across.v["w"], other["w"] - overlap * step, rtol=1e-12)
    np.testing.assert_allclose(across.v["late"], -overlap * np.ones(2), rtol=1e-12)
    drawn = jxs.Plane.between(first, second, jax.random.key(5))
    own = jxs.random_direction(jax.random.key(5), first)
    np.testing.assert_array_equal(drawn.v["w"], own["w"])
    assert drawn.units == ("first → second", "filter-normalized")
    assert across.units == ("first → second", "orthogonal")


def test_marks_are_at_the_solutions(x64):
    solutions = [{"w": normal(k, (4, 3))} for k in range(3)]
    between = jxs.Plane.between(*solutions[:2], solutions[2])
    for plane in (jxs.Plane.through(*solutions), between):
        for form in (plane, plane.orthonormal()):
            assert len(form.marks) == (3 if plane is not between else 2)
            for (a, b, name), solution in zip(form.marks, solutions, strict=False):
                np.testing.assert_allclose(form.at(a, b)["w"], solution["w"], atol=1e-12)
                assert name in ("first", "second", "third")
    assert plane.orthonormal().units == ("distance", "distance")
    surface = jxs.landscape(
        lambda p, d: jnp.sum(p["w"] ** 2), None, plane, a=(0, 1, 3), b=(0, 1, 2)
    )
    assert surface.marks == plane.marks
    assert (surface.a.title, surface.b.title) == ("a (first → second)", "b")
    assert jxs.Plane.random(jax.random.key(0), solutions[0]).marks == ((0, 0, "origin"),)


def make_plane(**options):
    return jxs.Plane([1.0, 2.0], [1.0, None], [None, 1.0], **options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"units": "mm"}, TypeError),
        ({"units": ("only",)}, TypeError),
        ({"units": ("mm", None)}, TypeError),
        ({"marks": "abc"}, TypeError),
        ({"marks": [(0, 0)]}, TypeError),
        ({"marks": [("x", 0, 0)]}, TypeError),
        ({"marks": [(np.zeros(1), 0, "x")]}, TypeError),
        ({"marks": [(0, np.inf, "x")]}, ValueError),
    ],
)
def test_bad_units_and_marks_are_refused(options, error):
    (name,) = options
    with pytest.raises(error, match=f"{name}: expected .*, got "):
        make_plane(**options)


def test_units_and_marks_become_python_strings_and_floats(tmp_path):
    given = [(np.float32(0.5), jnp.float32(2), np.str_("here")), [1, 0, "there"]]
    plane = make_plane(units=["mm", np.str_("s")], marks=given)
    assert plane.units == ("mm", "s")
    assert plane.marks == ((0.5, 2, "here"), (1, 0, "there"))
    assert {type(part) for mark in plane.marks for part in mark} == {float, str}
    surface = jxs.landscape(lambda p, _: p[0] * p[1], None, plane, a=(0, 1, 3), b=(0, 1, 2))
    archive.save(tmp_path / "marked.npz", surface)
    loaded, *_ = archive.load(tmp_path / "marked.npz")
    assert loaded.marks == plane.marks


def test_other_units_and_marks_compile_nothing(compilations):
    one, other = (
        jxs.Plane([1.0, 2.0], [1.0, None], [None, 1.0], units=(unit, ""), marks=marks)
        for unit, marks in (("x", ()), ("y", [(0.5, 1.0, "here")]))
    )

    def loss(params, _):
        return params[0] ** 2 + params[1]

    first, _ = (jxs.landscape(loss, None, p, a=(0, 1, 3), b=(0, 1, 2)) for p in (one, one))
    compilations.clear()
    surface = jxs.landscape(loss, None, other, a=(0, 1, 3), b=(0, 1, 2))
    assert not compilations
    assert surface.marks == ((0.5, 1.0, "here"),)
    assert (first.a.unit, surface.a.unit) == ("x", "y")


def test_planes_of_a_last_layer_compute_earlier_layers_once():
    """Each of these planes needs one tanh of shape (5, 4) for 3 × 2 cells."""
    generator = np.random.default_rng(0)
    first, second = (
        {"early": jnp.ones((3, 4)), "late": jnp.asarray(generator.normal(size=(4, 2)), jnp.float32)}
        for _ in range(2)
    )
    x = jnp.asarray(generator.normal(size=(5, 3)), jnp.float32)

    def loss(params, x):
        return jnp.mean((jnp.tanh(x @ params["early"]) @ params["late"]) ** 4)

    def late(path):
        return "late" in path

    drawn = jxs.random_direction(jax.random.key(0), first, leaves=late)
    step = {"early": None, "late": second["late"] - first["late"]}
    planes = [
        jxs.Plane.random(jax.random.key(1), first, leaves=late),
        jxs.gradient_plane(loss, x, first, jax.random.key(1), leaves=late),
        jxs.gradient_plane(loss, x, first, drawn, leaves=late),
        jxs.Plane(first, step, drawn).orthonormal(),
        jxs.Plane.between(first, second, drawn, orthogonal=True),
        jxs.Plane.through(first, second, second | {"late": drawn["late"]}),
    ]
    for plane in planes:
        assert plane.u["early"] is plane.v["early"] is None
        assert tanh_shapes(loss, plane, x) == [(5, 4)]
    # A direction of zeros instead of `None` computes it once per cell of a row.
    zeros = {"early": jnp.zeros((3, 4)), "late": drawn["late"]}
    assert tanh_shapes(loss, jxs.Plane(first, step, zeros), x) == [(5, 2, 4)]


def tanh_shapes(loss, plane, x):
    """Return the shape of every tanh in the computation of 3 × 2 cells."""

    def grid(plane, x):
        cell = lambda a, b: loss(plane.at(a, b), x)  # noqa: E731
        return jax.vmap(jax.vmap(cell, (None, 0)), (0, None))(jnp.zeros(3), jnp.zeros(2))

    equations = jax.make_jaxpr(grid)(plane, x).eqns
    return [e.outvars[0].aval.shape for e in equations if e.primitive.name == "tanh"]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: jxs.Plane.between([1.0], {"w": 1.0}, [2.0]),
            ValueError,
            "second: expected the first's structure",
        ),
        (
            lambda: jxs.Plane.between([1.0, 2.0], [2.0, 3.0], [1.0]),
            ValueError,
            "direction: expected the origin's structure",
        ),
        (
            lambda: jxs.Plane.between([1.0, 2.0], [2.0, 3.0], [2.0, 2.0], orthogonal=True),
            ValueError,
            "direction: .*not parallel",
        ),
        (
            lambda: jxs.Plane.between([1.0, 2.0], [1.0, 2.0], [2.0, 2.0]),
            ValueError,
            "second: expected parameters that differ from the first, got equal ones",
        ),
        (
            lambda: jxs.Plane.between({"w": jnp.eye(2)}, {"w": jnp.eye(2)}, jax.random.key(0)),
            ValueError,
            "second: expected parameters that differ from the first",
        ),
        (
            lambda: jxs.Plane.between(jnp.zeros(3), jnp.ones(3), jnp.arange(3)),
            TypeError,
            "direction: expected floating numbers, got int32",
        ),
        (
            lambda: jxs.Plane.through([1.0, 2.0], [1.0, 2.0], [2.0, 2.0]),
            ValueError,
            "second: expected parameters that differ from the first",
        ),
        (
            lambda: jxs.Plane.through([1.0, 2.0], [2.0, 2.0], [1.0, 2.0]),
            ValueError,
            "third: expected parameters that differ from the first",
        ),
        (
            lambda: jxs.Plane.through([1.0, 2.0], [2.0, 3.0], [4.0, 5.0]),
            ValueError,
            "third: expected a point off the line",
        ),
        (
            lambda: jxs.Plane.through([1.0, 2.0], [2.0, 3.0], [4.0, np.nan]),
            ValueError,
            r"third\[1\]: expected finite numbers",
        ),
        (
            lambda: jxs.Plane([1.0, 2.0], [2.0, None], [None, 1.0]).coordinates([np.nan, 1.0]),
            ValueError,
            r"params\[0\]: expected finite numbers",
        ),
        (
            lambda: jxs.Plane.through([1.0, 2.0], [1, 2], [2.0, 2.0]),
            TypeError,
            r"second\[0\]: expected floating numbers",
        ),
    ],
)
def test_bad_solutions_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()
