"""Points on lines and curves, the losses there, and the checks of their arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.connectivity.along import (
    check_directions,
    check_solutions,
    point_on_curve,
    point_on_line,
)
from jaxscape.connectivity.lines import interpolate, lines
from tests.connectivity.helpers import (
    make_data,
    make_directions,
    make_mlp,
    make_params,
    model_loss,
)
from tests.grid.helpers import sizes_of


def test_the_point_on_a_line_is_the_parameters_plus_t_times_the_direction(x64):
    params, directions = make_params(2), make_directions(3)
    for k, t in ((0, -1.5), (2, 0.25)):
        point = point_on_line((params, directions), float(k), t)
        np.testing.assert_allclose(point["w"], params["w"] + t * directions["w"][k], rtol=1e-15)
        np.testing.assert_allclose(
            point["v"][0], params["v"][0] + t * directions["v"][0][k], rtol=1e-15
        )
        assert point["b"] is params["b"]
        assert point["activation"] is jnp.tanh
        assert point["v"][1] is None


def test_a_single_direction_ignores_its_number():
    params, directions = np.float32([1, 2]), np.float32([[3, -1]])
    for number in (0.0, 7.0):
        np.testing.assert_array_equal(point_on_line((params, directions), number, 2.0), [7, 0])


def test_the_ends_of_a_curve_are_exactly_the_solutions():
    """A line from the first solution along the difference misses the second by rounding."""
    first, second = (np.random.default_rng(k).normal(0, 1, 99).astype(np.float32) for k in (0, 1))
    for t, solution in ((0.0, first), (1.0, second), (np.float32(1), second)):
        np.testing.assert_array_equal(point_on_curve((first, second), None, t), solution)
        np.testing.assert_array_equal(point_on_curve((first, first + 1, second), None, t), solution)
    assert (first + np.float32(1) * (second - first) != second).any()


def test_points_keep_the_dtype_of_the_parameters():
    half, single = np.float16([1, 2]), np.float32([3, 4])
    assert point_on_line((half, half[None]), 0.0, np.float32(0.3)).dtype == np.float16
    assert point_on_curve((half, single), None, np.float32(0.3)).dtype == np.float32
    # A Python float has no dtype, and follows t.
    assert point_on_curve((1.0, 2.0), None, jnp.float16(0.3)).dtype == np.float16


def test_losses_of_bfloat16_parameters_are_those_of_300_directions():
    """bfloat16 has no number 257, and few values of t between 0 and 1."""
    steps = jnp.asarray(np.linspace(1, 2, 300)[:, None], jnp.bfloat16)
    seen = []

    def first(p, _):
        seen.append(p.dtype)
        return p[0].astype(jnp.float32)

    zero, one = jnp.zeros(1, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)
    along_lines = lines(first, None, zero, steps, (0, 1, 2))
    assert interpolate(first, None, zero, one, (0, 1, 1001)).loss.shape == (1, 1001)
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(along_lines.loss[:, 1], np.asarray(steps[:, 0], np.float32))


def test_the_losses_of_a_single_line_are_computed_once():
    """Two lines take twice the work."""
    data = make_data(11, np.float32)

    def largest_tanh(count):
        directions = make_directions(count, dtype=np.float32)
        traced = jax.make_jaxpr(
            lambda data: (
                lines(model_loss, data, make_params(2, np.float32), directions, (0, 1, 13)).loss
            )
        )(data)
        return max(sizes_of(traced, "tanh"))

    assert largest_tanh(1) == 13 * 11 * 4
    assert largest_tanh(2) == 2 * 13 * 11 * 4


@pytest.mark.parametrize("count", [1, 2])
def test_losses_that_are_not_finite_are_counted_once(count):
    steps = np.array([[1.0], [2.0]], np.float32)[:count]
    message = {1: "1 of 4 losses are not finite, the first at line 0, t = -1: nan"}
    message[2] = "2 of 8 losses are not finite, the first at line 0, t = -1: nan"
    with pytest.warns(jxs.NonFiniteWarning, match=message[count]) as warned:
        result = lines(
            lambda p, _: jnp.log(p[0]), None, np.full(1, 0.5, np.float32), steps, (-1, 2, 4)
        )
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert np.isnan(result.loss).sum() == {1: 1, 2: 2}[count]


def test_checked_solutions_are_the_moving_leaves_of_the_second():
    first, second = make_params(2), make_params(3)
    moving = check_solutions(first, second | {"depth": 9})
    assert moving["w"] is second["w"]
    assert [moving[name] for name in ("activation", "name", "depth", "counts", "key")] == [None] * 5


def test_bad_solutions_are_refused():
    first, second = make_params(2, np.float32), make_params(3, np.float32)
    for other, message in (
        ({"w": 1.0}, "second: expected the first's structure"),
        (
            second | {"b": np.ones(5)},
            r"second\['b'\]: expected the first's shape \(4,\), got \(5,\)",
        ),
        (second | {"b": np.full(4, np.inf)}, r"second\['b'\]: expected finite numbers"),
        (
            make_params(2, np.float32) | {"depth": 3},
            "second: expected parameters that differ from the first",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            check_solutions(first, other)
    with pytest.raises(TypeError, match=r"second\['b'\]: expected floating numbers.*got int64"):
        check_solutions(first, second | {"b": np.arange(4)})
    with pytest.raises(ValueError, match="first: expected floating numbers, got none"):
        check_solutions({"n": 1}, {"n": 2})
    with pytest.raises(ValueError, match="second: expected the first's structure"):
        check_solutions(make_mlp(0), make_mlp(0, depth=1))


def test_checked_directions_are_counted():
    assert check_directions(make_params(2), make_directions(3)) == 3


def test_bad_directions_are_refused():
    params, good = make_params(2, np.float32), make_directions(3, dtype=np.float32)
    cases = {
        "directions: expected the structure of params": {"w": good["w"]},
        r"directions\['w'\]: expected shape \(D, 2, 4\) for D directions, got \(2, 4\)": good
        | {"w": good["w"][0]},
        r"directions\['b'\]: expected shape \(D, 4\) for D directions, got \(\)": good | {"b": 1.0},
        r"expected one number D in all leaves, got 3 at \['v'\]\[0\], 2 at \['w'\]": good
        | {"w": good["w"][:2]},
        "directions: expected a direction, got None for every leaf": jax.tree.map(
            lambda _: None, good
        ),
        "directions: expected nonzero directions, got zeros at index 1": jax.tree.map(
            lambda leaf: leaf * np.array([1, 0, 2]).reshape((3,) + (1,) * (leaf.ndim - 1)), good
        ),
        r"directions\['w'\]: expected finite numbers": good | {"w": good["w"] * np.inf},
    }
    for message, directions in cases.items():
        with pytest.raises(ValueError, match=message):
            check_directions(params, directions)
    for name, kind in (("counts", "int64"), ("depth", "int"), ("key", "key<fry>"), ("name", "str")):
        with pytest.raises(TypeError, match=rf"directions\['{name}'\]: expected None.*but {kind}"):
            check_directions(params, good | {name: np.ones((3, 3))})
