"""Random directions, their normalization and angles, and the checks of directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.planes.directions import (
    are_parallel,
    check_direction,
    check_plane,
    direction_between,
    dot,
    is_key,
    orthogonal_part,
    orthonormalize,
)

KEY = jax.random.key(0)


def normal(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def filter_normalized(steps, weights, axis):
    """Scale each filter to the norm of its weights, as in Li et al. 2018, section 4."""
    steps, weights = (np.moveaxis(np.array(x, float), axis, 0) for x in (steps, weights))
    for step, weight in zip(steps, weights, strict=True):
        step *= np.sqrt(np.sum(weight**2)) / np.sqrt(np.sum(step**2))
    return np.moveaxis(steps, 0, axis)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 5, 4)])
@pytest.mark.parametrize("axis", [0, -1])
def test_filters_have_the_norms_of_the_parameters_filters(shape, axis):
    params = {"w": normal(1, shape) * 3, "b": np.float32([1, 2, 3])}
    plain = jxs.random_direction(KEY, params, normalize=None)
    scaled = jxs.random_direction(KEY, params, output_axis=axis)
    expected = filter_normalized(plain["w"], params["w"], axis)
    np.testing.assert_allclose(scaled["w"], expected, rtol=1e-5)
    assert scaled["b"] is None
    other = filter_normalized(plain["w"], params["w"], -1 - axis)
    assert np.abs(np.asarray(scaled["w"]) - other).max() > 0.1


def test_filters_of_stacked_layers_are_scaled_per_layer():
    params = {
        "layers": normal(1, (3, 5, 4)) * np.float32([[[1]], [[9]], [[0]]]),
        "last": normal(2, (4, 2)),
    }
    stacked = jxs.random_direction(
        KEY, params, output_axis=lambda path: (0, -1) if "layers" in path else -1
    )
    plain = jxs.random_direction(KEY, params)
    for layer in range(3):
        lengths = np.linalg.norm(params["layers"][layer], axis=0)
        steps = np.asarray(stacked["layers"][layer])
        np.testing.assert_allclose(np.linalg.norm(steps, axis=0), lengths, rtol=1e-5)
    np.testing.assert_array_equal(stacked["last"], plain["last"])


@pytest.mark.parametrize("axis", [2, -3, (0, 5), "last", 0.5, True])
def test_an_axis_that_a_leaf_does_not_have_is_refused(axis):
    message = r"output_axis: expected axes of params\['w'\], whose shape is \(3, 2\), got"
    with pytest.raises(ValueError, match=message):
        jxs.random_direction(KEY, {"w": np.ones((3, 2), np.float32)}, output_axis=axis)


@pytest.mark.parametrize("normalize", ["filter", "layer"])
def test_norms_in_half_precision_do_not_overflow(normalize):
    params = {"w": np.full((40_000, 2), 0.5, np.float16)}
    direction = jxs.random_direction(KEY, params, normalize=normalize)
    length = np.linalg.norm(np.asarray(direction["w"], float))
    np.testing.assert_allclose(length, np.sqrt(80_000 * 0.25), rtol=1e-3)


def test_layers_and_vectors_are_scaled_as_a_whole():
    params = {
        "w": np.full((3, 4), 2, np.float32),
        "b": np.float32([1, 2, 3]),
        "frozen": np.ones((2, 2), np.float32),
    }
    direction = jxs.random_direction(
        KEY,
        params,
        normalize="layer",
        include_vectors=True,
        leaves=lambda path: "froz" not in path,
    )
    assert direction["frozen"] is None
    for name in "wb":
        lengths = (np.linalg.norm(tree[name]) for tree in (direction, params))
        np.testing.assert_allclose(next(lengths), next(lengths), rtol=1e-6)
    # The columns are not scaled separately.
    assert np.ptp(np.linalg.norm(direction["w"], axis=0)) > 0.1


def test_keys_of_both_kinds_are_recognized():
    assert is_key(jax.random.key(0))
    assert is_key(jax.random.PRNGKey(0))
    for other in (0, np.zeros(2, np.uint32), jnp.zeros(3), {"w": jnp.ones(2)}):
        assert not is_key(other)


def test_the_direction_between_solutions_is_their_difference():
    first = {"w": np.float32([1, 2]), "same": np.float32([3]), "f": jnp.tanh, "n": 1}
    other = {"w": np.float32([4, 0]), "same": np.float32([3]), "f": jnp.sin, "n": 2}
    direction = direction_between("other", first, other)
    np.testing.assert_array_equal(direction["w"], [3, -2])
    assert direction["same"] is direction["f"] is direction["n"] is None
    with pytest.raises(ValueError, match="other: expected parameters that differ from the first"):
        direction_between("other", first, first | {"n": 2})


def test_the_inner_product_is_over_the_leaves_that_both_move(x64):
    u = {"a": np.float32([1, 2]), "b": np.float32([3]), "c": None}
    v = {"a": np.float32([4, -1]), "b": None, "c": np.float32([5])}
    assert dot(u, v) == 2
    assert dot({"a": None}, {"a": None}) == 0
    # Computed in float64: 1e-4 of 1e8 is lost in float32.
    assert dot([np.float32([1e4, 0.01])], [np.float32([1e4, 0.01])]) > 1e8


def test_orthonormal_directions_span_the_same_plane(x64):
    u, v = ({"w": normal(k, (4, 3), float), "b": normal(k + 5, 2, float)} for k in (0, 1))
    p, q = orthonormalize(u, v)
    np.testing.assert_allclose([dot(p, p), dot(q, q), dot(p, q)], [1, 1, 0], atol=1e-14)
    np.testing.assert_allclose(dot(p, u), np.sqrt(dot(u, u)), rtol=1e-14)
    rebuilt = dot(v, p) * np.asarray(p["w"]) + dot(v, q) * np.asarray(q["w"])
    np.testing.assert_allclose(rebuilt, v["w"], rtol=1e-12)


def test_the_orthogonal_part_removes_the_component_along_u(x64):
    u, v = [np.array([3.0, 4.0]), None], [np.array([1.0, 2.0]), np.array([5.0])]
    part = orthogonal_part(u, v)
    np.testing.assert_allclose(part[0], [1 - 11 / 25 * 3, 2 - 11 / 25 * 4], rtol=1e-14)
    assert part[1] is v[1]
    assert orthogonal_part([None, np.ones(1)], u) is u


def test_parallel_directions_are_recognized_to_rounding():
    one = [np.float32([1, 3])]
    for factor in (1, -2.5, 1e-30, 1e30):
        assert are_parallel(one, [np.float32(factor) * one[0]])
    assert not are_parallel(one, [np.float32([1, 3 + 1e-5])])
    assert not are_parallel([np.float32([1]), None], [None, np.float32([1])])


@pytest.mark.parametrize(
    ("direction", "error", "message"),
    [
        ({"w": jnp.ones(2)}, ValueError, "d: expected the origin's structure"),
        ({"w": None, "b": None, "n": None}, ValueError, "d: expected a direction, got None for"),
        (
            {"w": np.ones(3, np.float32), "b": None, "n": None},
            ValueError,
            r"d\['w'\]: expected the origin's shape \(2,\), got \(3,\)",
        ),
        ({"w": None, "b": None, "n": 1.0}, TypeError, r"d\['n'\]: expected None, .* but int"),
        ({"w": None, "b": 1, "n": None}, TypeError, r"d\['b'\]: expected floating .* got int"),
        (
            {"w": None, "b": 0.0, "n": None},
            ValueError,
            "d: expected a nonzero direction, got zeros",
        ),
        ({"w": None, "b": np.nan, "n": None}, ValueError, r"d\['b'\]: expected finite numbers"),
    ],
)
def test_bad_directions_are_refused(direction, error, message):
    origin = {"w": np.float32([1, -2]), "b": 0.5, "n": 3}
    check_direction("d", origin, {"w": None, "b": 1.0, "n": None})
    with pytest.raises(error, match=message):
        check_direction("d", origin, direction)


def test_parallel_directions_do_not_make_a_plane():
    check_plane([1.0, 2.0], [1.0, 3.0], [1.0, 3.0 + 1e-6])
    with pytest.raises(ValueError, match="plane.v: expected a direction that is not parallel to"):
        check_plane([1.0, 2.0], [1.0, 3.0], [-2.0, -6.0])
