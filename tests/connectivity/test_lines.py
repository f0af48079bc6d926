"""The loss along lines, compared with a loop over points in float64."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.connectivity.lines import Lines, interpolate, lines, random_directions
from tests.connectivity.helpers import (
    KEY,
    ROUNDING,
    make_data,
    make_directions,
    make_mlp,
    make_params,
    mlp_loss,
    model_loss,
    model_loss_in_numpy,
)
from tests.grid.helpers import interrupt_after, set_block_size

T = np.array([-1.5, -0.25, 0.0, 0.5, 2.0])


@pytest.mark.parametrize("count", [1, 3])
def test_the_losses_are_those_of_a_loop_over_points(x64, count):
    params, directions, data = make_params(2), make_directions(count), make_data()
    result = lines(model_loss, data, params, directions, T)
    assert result.loss.shape == (count, 5)
    assert result.loss.dtype == np.float64
    np.testing.assert_array_equal(result.t, T)
    for k in range(count):
        for j, t in enumerate(T):
            point = params | {
                "w": params["w"] + t * directions["w"][k],
                "v": [params["v"][0] + t * directions["v"][0][k]],
            }
            np.testing.assert_allclose(
                result.loss[k, j], model_loss_in_numpy(point, data), rtol=1e-12
            )
    assert len(result) == count
    assert result.name == ("3 directions" if count == 3 else "1 direction")
    assert result.loss_name == "model loss"


def test_float32_losses_are_float64_losses_to_rounding():
    directions = make_directions(3, dtype=np.float32)
    data = make_data(dtype=np.float32)
    result = lines(model_loss, data, make_params(2, np.float32), directions, (-1, 2, 4))
    assert result.loss.dtype == np.float32
    with jax.enable_x64(True):
        truth = lines(model_loss, make_data(), make_params(2), make_directions(3), (-1, 2, 4))
    np.testing.assert_allclose(result.loss, truth.loss, rtol=20 * ROUNDING)


def test_a_python_float_gets_the_dtype_of_the_data(x64):
    def square(p, data):
        return jnp.mean((p["a"] - data) ** 2)

    for dtype in (np.float32, np.float64):
        result = lines(square, np.ones(3, dtype), {"a": 0.5}, {"a": np.ones(1, dtype)}, (0, 0.5, 2))
        assert result.loss.dtype == dtype
        np.testing.assert_array_equal(result.loss, [[0.25, 0]])


def test_interpolation_between_two_equinox_models():
    first, second, x = make_mlp(0), make_mlp(1), np.random.default_rng(0).normal(0, 1, (9, 3))

    @eqx.filter_jit
    def loss_between(t):
        point = jax.tree.map(
            lambda a, b: (1 - t) * a + t * b if eqx.is_inexact_array(a) else a, first, second
        )
        return mlp_loss(point, x)

    result = interpolate(mlp_loss, x, first, second, (-0.5, 1.5, 5))
    for j, t in enumerate(np.asarray(result.t)):
        np.testing.assert_allclose(result.loss[0, j], loss_between(t), rtol=20 * ROUNDING)
    assert result.loss[0, 0] > result.loss[0, 1]


@pytest.mark.parametrize(
    ("t", "ends"),
    [
        (None, [0, 1]),
        ((-0.7, 1.4, 22), [0, 1]),
        ((-0.1, 1.1, 13), [0, 1]),
        (np.linspace(-0.1, 1.1, 13, dtype=np.float32), [0, 1]),
        ((-0.5, 1.5, 100), []),
        ((0.3, 0.7, 3), []),
        ((0, 0.7, 3), [0]),
        (np.arange(-1, 3), [0, 1]),
        # These are not rounding errors.
        (np.array([-1e-7, 2e-7, 1.0]), [1]),
        (np.array([-1e-5, 1 + 1e-5]), []),
        (np.array([0, 1e-7, 1.0]), [0, 1]),
    ],
)
def test_the_values_of_t_are_those_given_with_exact_ends(x64, t, ends):
    first, second, data = make_params(3), make_params(4), make_data()
    arguments = () if t is None else (t,)
    result = interpolate(model_loss, data, first, second, *arguments)
    given = t if isinstance(t, np.ndarray) else np.linspace(*(t or (-0.5, 1.5, 101)))
    np.testing.assert_allclose(result.t, given, rtol=0, atol=1e-15 + 1e-8 * (given.dtype == "f4"))
    assert [end for end in (0, 1) if end in result.t] == ends
    for end, solution in ((0, first), (1, second)):
        for loss in result.loss[0, np.flatnonzero(np.asarray(result.t) == end)]:
            np.testing.assert_allclose(loss, model_loss_in_numpy(solution, data), rtol=1e-12)


def test_leaves_that_are_not_floating_are_taken_from_the_first(x64):
    first = make_params(3)
    second = make_params(4) | {"name": "another", "counts": np.arange(9), "depth": 100}
    result = interpolate(
        model_loss, make_data(), first, second | {"key": jax.random.key(0)}, (0, 1, 3)
    )
    ends = [
        model_loss_in_numpy(first | {n: p[n] for n in ("w", "b", "v")}, make_data())
        for p in (first, second)
    ]
    np.testing.assert_allclose(result.loss[0, ::2], ends, rtol=1e-12)


def test_calls_of_equal_shapes_compile_nothing(compilations):
    """Another loss compiles."""

    def call(seed, count, loss=model_loss):
        params, directions = (
            make_params(seed, np.float32),
            make_directions(count, seed, np.float32),
        )
        data = {name: seed * x for name, x in make_data(dtype=np.float32).items()}
        lines(loss, data, params, directions, (-1, seed, 6))
        interpolate(loss, data, params, make_params(seed + 9, np.float32), (-seed, 2.5, 6))

    for count in (1, 3):
        call(2, count)
        compilations.clear()
        call(3, count)
        assert not compilations
    call(3, 3, lambda p, data: 2 * model_loss(p, data))
    assert compilations


def test_lines_and_interpolations_can_be_transformed():
    """The gradient of the loss halfway with respect to the ends is half that at the point."""

    def halfway(first, second):
        return interpolate(lambda p, _: jnp.sum(p**3), None, first, second, (0, 1, 3)).loss[0, 1]

    first, second = np.float32([1, 2]), np.float32([3, -1])
    np.testing.assert_allclose(
        jax.jit(jax.grad(halfway))(first, second), 1.5 * np.array([4.0, 0.25]), rtol=ROUNDING
    )
    compiled = jax.jit(lambda d: lines(lambda p, _: jnp.sum(p), None, first, d, (0, 1, 2)))
    result = compiled(np.ones((3, 2), np.float32))
    assert repr(result).startswith("Lines(3 directions: 2 values of t from 0 to 1")


def test_the_loss_over_a_stream_is_that_of_all_its_batches():
    params, directions = make_params(2, np.float32), make_directions(3, dtype=np.float32)
    data = make_data(8, np.float32)
    batches = [jax.tree.map(lambda leaf, k=k: leaf[k : k + 3], data) for k in (0, 3, 6)]
    for count in (1, 3):
        some = jax.tree.map(lambda leaf, n=count: leaf[:n], directions)
        whole = lines(model_loss, data, params, some, (-1, 1, 4))
        streamed = lines(model_loss, jxs.Stream(batches), params, some, (-1, 1, 4))
        np.testing.assert_allclose(streamed.loss, whole.loss, rtol=10 * ROUNDING)


def test_a_loss_with_several_scalars_gives_a_dictionary():
    def both(p, _):
        return {"square": jnp.sum(p**2), "sum": jnp.sum(p)}

    result = lines(both, None, np.zeros(2, np.float32), np.eye(2, dtype=np.float32), (0, 2, 3))
    np.testing.assert_array_equal(result["square"].loss, [[0, 1, 4]] * 2)
    np.testing.assert_array_equal(result["sum"].loss, [[0, 1, 2]] * 2)
    assert result["sum"].loss_name == "sum"
    result = interpolate(both, None, np.float32(0), np.float32(2), (0, 1, 3))
    np.testing.assert_array_equal(result["square"].loss, [[0, 1, 4]])


def double_well(x, height):
    """Two minima, at -1 and 1, with a rise of `height` between them, on a slope."""
    return height * (x**2 - 1) ** 2 + 0.5 * x


def test_the_barrier_is_the_rise_above_the_line_between_the_ends(x64):
    result = interpolate(double_well, 3.0, -1.0, 1.0, (-0.5, 1.5, 41))
    assert result.barrier == pytest.approx(3, rel=1e-12)
    assert "lowest at t = 0, barrier 3" in repr(result)


def test_a_dip_and_losses_beyond_the_ends_are_not_a_barrier(x64):
    assert interpolate(double_well, -3.0, -1.0, 1.0, (-0.5, 1.5, 41)).barrier == 0
    loss, t = np.array([[0, 1, 2, 9.0], [0, 4, 2, 9]]), np.array([0, 0.5, 1, 2])
    both = Lines(loss, t, "loss", "two")
    assert both.barrier == 3
    assert "barrier" not in repr(both)


@pytest.mark.parametrize(
    ("loss", "barrier"),
    [
        ([1, np.inf, 2], np.inf),
        ([1, -np.inf, 2], 0),
        ([1, np.nan, np.inf, 2], np.nan),
        ([np.inf, 1, 2], np.nan),
        ([1, 1, np.inf], np.nan),
        ([np.inf, np.inf, np.inf], np.nan),
    ],
)
def test_a_barrier_is_infinite_between_finite_ends_and_otherwise_unknown(loss, barrier):
    t = np.linspace(0, 1, len(loss))
    found = Lines(np.array([loss, np.zeros(len(loss))], float), t, "loss", "two").barrier
    np.testing.assert_equal(found, barrier)


@pytest.mark.parametrize("name", ["accuracy", "test accuracy", "loss", "inaccuracy"])
def test_the_barrier_of_an_accuracy_is_its_fall(x64, name):
    def measure(x, _):
        return {name: 0.9 - 0.5 * (x**2 - 1) ** 2 + 0.1 * x}

    found = interpolate(measure, None, -1.0, 1.0, (0, 1, 11))[name]
    is_accuracy = name in ("accuracy", "test accuracy")
    assert found.higher_is_better == is_accuracy
    assert found.barrier == pytest.approx(0.5 if is_accuracy else 0, abs=1e-12)
    head = (
        f"{name} from 0.4 to 1, highest at t = 1" if is_accuracy else "loss from 0.4 to 1, lowest"
    )
    assert head in repr(found)
    turned = dataclasses.replace(found, higher_is_better=not is_accuracy)
    assert turned.barrier == pytest.approx(0 if is_accuracy else 0.5, abs=1e-12)


def test_a_function_named_accuracy_gives_lines_where_higher_is_better():
    def test_accuracy(x, data):
        return 1 - data * x**2

    assert interpolate(test_accuracy, 1.0, -1.0, 1.0, (0, 1, 3)).higher_is_better


def test_a_barrier_needs_0_and_1_and_losses_that_are_numbers():
    with pytest.raises(ValueError, match="t: expected 0 and 1 among the values.*from 0.1 to 0.5"):
        _ = Lines(np.ones((1, 2)), np.array([0.1, 0.5]), "loss", "one").barrier
    hole = Lines(np.array([[0, np.nan, 2]]), np.array([0, 0.5, 1]), "loss", "one", True)
    assert np.isnan(hole.barrier)
    assert repr(hole).endswith("barrier nan, 1 not finite")


def test_mean_and_quantiles_are_those_over_the_lines():
    losses = np.random.default_rng(0).normal(0, 1, (9, 4)).astype(np.float32)
    result = Lines(losses, np.arange(4), "loss", "9 directions")
    np.testing.assert_allclose(result.mean, losses.astype(float).mean(axis=0), rtol=1e-6)
    assert result.mean.dtype == np.float32
    ordered = np.sort(losses.astype(float), axis=0)
    np.testing.assert_allclose(result.quantiles(0.5), ordered[4], rtol=1e-6)
    low, high = result.quantiles((0.1, 0.9))
    np.testing.assert_allclose(low, 0.2 * ordered[0] + 0.8 * ordered[1], rtol=1e-5)
    np.testing.assert_allclose(high, 0.8 * ordered[7] + 0.2 * ordered[8], rtol=1e-5)
    for bad in (1.5, [-0.1, 0.5], np.nan):
        with pytest.raises(ValueError, match="q: expected numbers between 0 and 1"):
            result.quantiles(bad)


def test_mean_and_quantiles_keep_infinite_losses_and_nan():
    losses = np.array([[1, 1, np.nan], [2, np.inf, 2], [3, np.inf, 3]])
    result = Lines(losses, np.arange(3), "loss", "3 directions")
    np.testing.assert_array_equal(result.mean, [2, np.inf, np.nan])
    np.testing.assert_array_equal(result.quantiles(0.75), [2.5, np.inf, np.nan])
    np.testing.assert_array_equal(result.quantiles(0), [1, 1, np.nan])
    assert repr(result).endswith("lowest at t = 0, 3 not finite")
    nothing = Lines(np.full((1, 2), np.nan), np.arange(2), "loss", "one")
    assert repr(nothing).endswith("no finite loss")


@pytest.mark.parametrize("count", [1, 12])
def test_ctrl_c_returns_what_is_done(monkeypatch, count):
    """Many lines return the first of them, and a single line returns its beginning."""
    params, directions = make_params(2, np.float32), make_directions(count, dtype=np.float32)
    data = make_data(dtype=np.float32)
    whole = lines(model_loss, data, params, directions, (-1, 2, 40))
    set_block_size(monkeypatch, 3, workers=1)
    interrupt_after(monkeypatch, 2)
    with pytest.warns(jxs.InterruptedWarning, match="interrupted: the first 6 of"):
        part = lines(model_loss, data, params, directions, (-1, 2, 40))
    assert part.loss.shape == ((6, 40) if count == 12 else (1, 6))
    assert part.name == ("6 directions" if count == 12 else "1 direction")
    done, n = part.loss.shape
    np.testing.assert_array_equal(part.t, whole.t[:n])
    np.testing.assert_allclose(part.loss, whole.loss[:done, :n], rtol=ROUNDING)


@pytest.mark.parametrize("normalize", ["filter", "layer", None])
def test_random_directions_are_normalized_like_those_of_a_plane(normalize):
    params = make_params(2, np.float32)
    directions = random_directions(KEY, params, 5, normalize=normalize)
    assert directions["w"].shape == (5, 2, 4)
    others = [directions[name] for name in directions if name != "w"]
    assert others == [None] * 4 + [None, None, [None] * 2]
    steps = np.asarray(directions["w"])
    if normalize is not None:
        axes = {"filter": 1, "layer": (1, 2)}[normalize]
        truth = np.linalg.norm(params["w"], axis=0 if normalize == "filter" else None)
        lengths = np.linalg.norm(steps, axis=axes)
        np.testing.assert_allclose(lengths, np.broadcast_to(truth, lengths.shape), rtol=1e-5)
    assert len(set(steps[:, 0, 0].tolist())) == 5


def test_random_directions_move_the_chosen_leaves():
    params = make_params(2, np.float32)
    assert random_directions(KEY, params, 2, include_vectors=True)["b"].shape == (2, 4)
    only = random_directions(KEY, params, 2, include_vectors=True, leaves=lambda path: "v" in path)
    assert only["w"] is None
    assert only["v"][0].shape == (2, 4)
    data = make_data(dtype=np.float32)
    assert lines(model_loss, data, params, only, (0, 1, 2)).loss.shape == (2, 2)


def test_bad_arguments_are_refused():
    params, good = make_params(2, np.float32), make_directions(3, dtype=np.float32)
    other, data = make_params(4, np.float32), make_data()
    with pytest.raises(ValueError, match="directions: expected the structure of params"):
        lines(model_loss, data, params, {"w": good["w"]})
    with pytest.raises(ValueError, match="second: expected parameters that differ from the first"):
        interpolate(model_loss, data, params, params)
    hole = params | {"b": np.array([0, np.nan, 0, 0], np.float32)}
    with pytest.raises(ValueError, match=r"params\['b'\]: expected finite numbers"):
        lines(model_loss, data, hole, good)
    for t, message in (
        ((1, -1, 5), "t: expected finite lo < hi, got 1 and -1"),
        ((0, 1, 1), "t: expected at least 2 values, got 1"),
        ([0, 1, 3], "t: expected a tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            lines(model_loss, data, params, good, t)
        with pytest.raises(ValueError, match=message):
            interpolate(model_loss, data, params, other, t)
    for call in (
        lambda loss: lines(loss, data, params, good),
        lambda loss: interpolate(loss, data, params, other),
    ):
        with pytest.raises(TypeError, match="loss: expected a function of"):
            call(3)
        with pytest.raises(
            TypeError, match=r"loss: expected a scalar, got an array of shape \(4,\)"
        ):
            call(lambda p, _: p["b"])


def test_bad_arguments_of_random_directions_are_refused():
    params = make_params(2, np.float32)
    with pytest.raises(TypeError, match="key: expected a JAX random key"):
        random_directions(0, params, 3)
    with pytest.raises(TypeError, match="count: expected a whole number, got 2.0"):
        random_directions(KEY, params, 2.0)
    with pytest.raises(ValueError, match="count: expected 1 or more, got 0"):
        random_directions(KEY, params, 0)
    with pytest.raises(ValueError, match="normalize: expected 'filter', 'layer' or None"):
        random_directions(KEY, params, 2, normalize="all")
    with pytest.raises(ValueError, match="params, leaves: expected at least one leaf that moves"):
        random_directions(KEY, {"b": np.ones(3)}, 2)
