"""The loss along lines, against a loop over points in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.connectivity.along import point_on_curve
from jaxscape.connectivity.lines import Lines, interpolate, lines, random_directions
from tests.grid.helpers import interrupt_after, set_block_size
from tests.grid.test_landscape import sizes_of

# What float32 sums in another order differ by, relatively.
ROUNDING = 2e-6
KEY = jax.random.key(7)
AT = np.array([-1.5, -0.25, 0.0, 0.5, 2.0])


def model(seed, dtype=np.float64):
    """Parameters beside everything else that a model may hold."""
    generator = np.random.default_rng(seed)
    return {
        "w": generator.normal(0, 1, (2, 4)).astype(dtype),
        "b": generator.normal(0, 1, 4).astype(dtype),
        "v": [generator.normal(0, 1, 4).astype(dtype), None],
        "activation": jnp.tanh,
        "name": "two layers",
        "depth": 2,
        "counts": np.arange(3),
        "key": KEY,
    }


def make_data(n=7, dtype=np.float64):
    generator = np.random.default_rng(0)
    return {"x": generator.normal(0, 1, (n, 2)).astype(dtype), "y": np.arange(n).astype(dtype)}


def loss(p, data):
    """What it computes depends on leaves of every kind."""
    hidden = p["activation"](data["x"] @ p["w"] + p["b"][None])
    shift = jax.random.uniform(p["key"], (), np.float32) + p["counts"].sum() + p["depth"]
    return jnp.mean((hidden @ p["v"][0] - data["y"]) ** 2) + shift


def by_hand(p, data):
    """The same in NumPy."""
    hidden = np.tanh(data["x"] @ p["w"] + p["b"])
    shift = float(jax.random.uniform(KEY, (), np.float32)) + 5
    return np.mean((hidden @ p["v"][0] - data["y"]) ** 2) + shift


def stacked(count, seed=1, dtype=np.float64):
    """Directions that leave the biases alone."""
    generator = np.random.default_rng(seed)
    still = dict.fromkeys(("activation", "name", "depth", "counts", "key", "b"))
    return still | {
        "w": generator.normal(0, 1, (count, 2, 4)).astype(dtype),
        "v": [generator.normal(0, 1, (count, 4)).astype(dtype), None],
    }


@pytest.mark.parametrize("count", [1, 3])
def test_every_loss_is_that_of_its_point(x64, count):
    params, directions, data = model(2), stacked(count), make_data()
    found = lines(loss, data, params, directions, AT)
    assert found.loss.shape == (count, 5)
    assert found.loss.dtype == np.float64
    np.testing.assert_array_equal(found.t, AT)
    for k in range(count):
        for j, t in enumerate(AT):
            point = params | {
                "w": params["w"] + t * directions["w"][k],
                "v": [params["v"][0] + t * directions["v"][0][k]],
            }
            np.testing.assert_allclose(found.loss[k, j], by_hand(point, data), rtol=1e-12)
    assert len(found) == count
    assert found.name == ("3 directions" if count == 3 else "1 direction")
    assert found.loss_name == "loss"


def test_float32_is_float64_rounded():
    params, directions = model(2, np.float32), stacked(3, dtype=np.float32)
    found = lines(loss, make_data(dtype=np.float32), params, directions, (-1, 2, 4))
    assert found.loss.dtype == np.float32
    with jax.enable_x64(True):
        truth = lines(loss, make_data(), model(2), stacked(3), (-1, 2, 4))
    np.testing.assert_allclose(found.loss, truth.loss, rtol=20 * ROUNDING)


def test_parameters_keep_their_dtype():
    """Of 300 directions in bfloat16, which has no number 257, each is followed by its own loss."""
    steps = jnp.linspace(1, 2, 300).astype(jnp.bfloat16)[:, None]
    seen = []

    def first(p, _):
        seen.append(p.dtype)
        return p[0].astype(jnp.float32)

    zero, one = jnp.zeros(1, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)
    found = lines(first, None, zero, steps, (0, 1, 2))
    # Of values of t that bfloat16 does not have either.
    assert interpolate(first, None, zero, one, (0, 1, 1001)).loss.shape == (1, 1001)
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(found.loss[:, 1], steps[:, 0].astype(np.float32))


def test_a_python_float_follows_the_data(x64):
    def square(p, data):
        return jnp.mean((p["a"] - data) ** 2)

    for dtype in (np.float32, np.float64):
        found = lines(square, np.ones(3, dtype), {"a": 0.5}, {"a": np.ones(1, dtype)}, (0, 0.5, 2))
        assert found.loss.dtype == dtype
        np.testing.assert_array_equal(found.loss, [[0.25, 0]])


def mlp(seed):
    return eqx.nn.MLP(3, 1, 5, 2, key=jax.random.key(seed))


def error(model, x):
    return jnp.mean((jax.vmap(model)(x)[:, 0] - x[:, 0]) ** 2)


def between(first, second, t):
    """Any model's parameters between two, as one would write it for Equinox."""
    return jax.tree.map(
        lambda a, b: (1 - t) * a + t * b if eqx.is_inexact_array(a) else a, first, second
    )


def test_any_model_of_equinox():
    first, second, x = mlp(0), mlp(1), np.random.default_rng(0).normal(0, 1, (9, 3))
    found = interpolate(error, x, first, second, (-0.5, 1.5, 5))
    for j, t in enumerate(found.t):
        np.testing.assert_allclose(
            found.loss[0, j], error(between(first, second, t), x), rtol=20 * ROUNDING
        )
    assert found.loss[0, 0] > found.loss[0, 1]
    with pytest.raises(ValueError, match="second: expected the first's structure"):
        interpolate(error, x, first, eqx.nn.MLP(3, 1, 5, 1, key=KEY))


def test_the_ends_are_the_solutions_to_the_bit():
    """And the twin: a line from the first along the difference misses the second."""
    first, second = (np.random.default_rng(k).normal(0, 1, 99).astype(np.float32) for k in (0, 1))
    for t, solution in ((0.0, first), (1.0, second), (np.float32(1), second)):
        np.testing.assert_array_equal(point_on_curve((first, second), None, t), solution)
        np.testing.assert_array_equal(point_on_curve((first, first + 1, second), None, t), solution)
    assert (first + np.float32(1) * (second - first) != second).any()


@pytest.mark.parametrize(
    "spec",
    [
        (-0.7, 1.4, 22),
        (-0.1, 1.1, 13),
        (-0.5, 1.5, 21),
        (-0.5, 1.5, 20),
        (0.3, 0.7, 3),
        np.arange(-1, 3),
    ],
)
def test_both_ends_are_among_the_values(spec):
    first, second = (model(k, np.float32) for k in (3, 4))
    data = make_data(dtype=np.float32)
    found = interpolate(loss, data, first, second, spec)
    asked = spec if isinstance(spec, np.ndarray) else np.linspace(*spec)
    missing = {(-0.5, 1.5, 20): 2, (0.3, 0.7, 3): 2}.get(spec if isinstance(spec, tuple) else 0, 0)
    assert len(found.t) == len(asked) + missing
    assert np.abs(np.asarray(found.t)[:, None] - asked).min(axis=0).max() < 1e-6
    for t, solution in ((0, first), (1, second)):
        (at,) = found.loss[0, np.flatnonzero(found.t == t)]
        np.testing.assert_allclose(at, loss(solution, data), rtol=ROUNDING)


def test_leaves_that_are_no_numbers_are_the_firsts(x64):
    first, second = model(3), model(4) | {"name": "another", "counts": np.arange(9), "key": None}
    second["depth"], second["key"] = 100, jax.random.key(0)
    found = interpolate(loss, make_data(), first, second, (0, 1, 3))
    ends = [
        by_hand(first | {n: p[n] for n in ("w", "b", "v")}, make_data()) for p in (first, second)
    ]
    np.testing.assert_allclose(found.loss[0, ::2], ends, rtol=1e-12)


def test_a_single_line_is_computed_once():
    """And the twin: two lines are two."""
    data = make_data(11, np.float32)

    def sizes(count):
        directions = stacked(count, dtype=np.float32)
        traced = jax.make_jaxpr(
            lambda data: lines(loss, data, model(2, np.float32), directions, (0, 1, 13)).loss
        )(data)
        return max(sizes_of(traced.jaxpr, "tanh"))

    assert sizes(1) == 13 * 11 * 4
    assert sizes(2) == 2 * 13 * 11 * 4


def test_other_numbers_compile_nothing(compilations):
    """Nor does the second of two equal calls; another loss does."""

    def call(seed, count, function=loss):
        params, directions = model(seed, np.float32), stacked(count, seed, np.float32)
        data = {name: seed * x for name, x in make_data(dtype=np.float32).items()}
        lines(function, data, params, directions, (-1, seed, 6))
        interpolate(function, data, params, model(seed + 9, np.float32), (-seed, 2.5, 6))

    for count in (1, 3):
        call(2, count)
        compilations.clear()
        call(3, count)
        assert not compilations
    call(3, 3, lambda p, data: 2 * loss(p, data))
    assert compilations


def test_under_a_transformation():
    """The gradient of a loss half way, by the ends: half of that by the point."""

    def half_way(first, second):
        return interpolate(lambda p, _: jnp.sum(p**3), None, first, second, (0, 1, 3)).loss[0, 1]

    first, second = jnp.array([1.0, 2.0]), jnp.array([3.0, -1.0])
    np.testing.assert_allclose(
        jax.jit(jax.grad(half_way))(first, second), 1.5 * np.array([4.0, 0.25]), rtol=ROUNDING
    )
    along = jax.jit(lambda d: lines(lambda p, _: jnp.sum(p), None, first, d, (0, 1, 2)))
    assert repr(along(jnp.ones((3, 2)))).startswith("Lines(3 directions: 2 values of t from 0 to 1")


def test_a_stream_is_all_of_its_batches():
    params, directions = model(2, np.float32), stacked(3, dtype=np.float32)
    data = make_data(8, np.float32)
    parts = [jax.tree.map(lambda leaf, k=k: leaf[k : k + 3], data) for k in (0, 3, 6)]
    for count in (1, 3):
        chosen = jax.tree.map(lambda leaf, n=count: leaf[:n], directions)
        whole = lines(loss, data, params, chosen, (-1, 1, 4))
        found = lines(loss, jxs.Stream(parts), params, chosen, (-1, 1, 4))
        np.testing.assert_allclose(found.loss, whole.loss, rtol=10 * ROUNDING)


def test_several_scalars_from_one_pass():
    def both(p, _):
        return {"square": jnp.sum(p**2), "sum": jnp.sum(p)}

    found = lines(both, None, np.zeros(2, np.float32), np.eye(2, dtype=np.float32), (0, 2, 3))
    np.testing.assert_array_equal(found["square"].loss, [[0, 1, 4]] * 2)
    np.testing.assert_array_equal(found["sum"].loss, [[0, 1, 2]] * 2)
    assert found["sum"].loss_name == "sum"
    found = interpolate(both, None, np.float32(0), np.float32(2), (0, 1, 3))
    np.testing.assert_array_equal(found["square"].loss, [[0, 1, 4]])


def well(x, height):
    """Two minima, at -1 and 1, with a rise of `height` between them, on a slope."""
    return height * (x**2 - 1) ** 2 + 0.5 * x


def test_the_barrier_is_the_rise_above_the_line_between_the_ends(x64):
    found = interpolate(well, 3.0, -1.0, 1.0, (-0.5, 1.5, 41))
    assert found.barrier == pytest.approx(3, rel=1e-12)
    assert "lowest at t = 0, barrier 3" in repr(found)
    # A valley between the ends is no barrier, and what lies beyond them does not count.
    assert interpolate(well, -3.0, -1.0, 1.0, (-0.5, 1.5, 41)).barrier == 0
    both = Lines(np.array([[0, 1, 2, 9.0], [0, 4, 2, 9]]), np.array([0, 0.5, 1, 2]), "loss", "two")
    assert both.barrier == 3
    assert "barrier" not in repr(both)
    with pytest.raises(ValueError, match="t: expected 0 and 1 among the values.*from 0.1 to 0.5"):
        _ = Lines(np.ones((1, 2)), np.array([0.1, 0.5]), "loss", "one").barrier
    hole = Lines(np.array([[0, np.inf, 2]]), np.array([0, 0.5, 1]), "loss", "one", True)
    assert np.isnan(hole.barrier)
    assert repr(hole).endswith("barrier nan, 1 not finite")


def test_mean_and_quantiles():
    generator = np.random.default_rng(0)
    losses = generator.normal(0, 1, (9, 4)).astype(np.float32)
    found = Lines(losses, np.arange(4), "loss", "9 directions")
    np.testing.assert_allclose(found.mean, losses.astype(float).mean(axis=0), rtol=1e-6)
    assert found.mean.dtype == np.float32
    parts = np.sort(losses.astype(float), axis=0)
    np.testing.assert_allclose(found.quantiles(0.5), parts[4], rtol=1e-6)
    low, high = found.quantiles((0.1, 0.9))
    np.testing.assert_allclose(low, 0.2 * parts[0] + 0.8 * parts[1], rtol=1e-5)
    np.testing.assert_allclose(high, 0.8 * parts[7] + 0.2 * parts[8], rtol=1e-5)
    for bad in (1.5, [-0.1, 0.5], np.nan):
        with pytest.raises(ValueError, match="q: expected numbers between 0 and 1"):
            found.quantiles(bad)


def test_what_is_not_finite_stays_so_in_mean_and_quantiles():
    losses = np.array([[1, 1, np.nan], [2, np.inf, 2], [3, np.inf, 3]])
    found = Lines(losses, np.arange(3), "loss", "3 directions")
    np.testing.assert_array_equal(found.mean, [2, np.inf, np.nan])
    np.testing.assert_array_equal(found.quantiles(0.75), [2.5, np.inf, np.nan])
    np.testing.assert_array_equal(found.quantiles(0), [1, 1, np.nan])
    assert repr(found).endswith("lowest at t = 0, 3 not finite")
    nothing = Lines(np.full((1, 2), np.nan), np.arange(2), "loss", "one")
    assert repr(nothing).endswith("no finite loss")


@pytest.mark.parametrize("count", [1, 2])
def test_losses_that_are_not_finite_are_counted_once(count):
    steps = np.array([[1.0], [2.0]], np.float32)[:count]
    first = {1: "1 of 4 losses are not finite, the first at line 0, t = -1: nan"}
    first[2] = "2 of 8 losses are not finite, the first at line 0, t = -1: nan"
    with pytest.warns(jxs.NonFiniteWarning, match=first[count]) as warned:
        found = lines(
            lambda p, _: jnp.log(p[0]), None, np.full(1, 0.5, np.float32), steps, (-1, 2, 4)
        )
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert np.isnan(found.loss).sum() == {1: 1, 2: 2}[count]


@pytest.mark.parametrize("count", [1, 12])
def test_ctrl_c_returns_what_is_done(monkeypatch, count):
    """Of many lines the first, of a single one its beginning."""
    params, directions = model(2, np.float32), stacked(count, dtype=np.float32)
    data = make_data(dtype=np.float32)
    whole = lines(loss, data, params, directions, (-1, 2, 40))
    set_block_size(monkeypatch, 3, workers=1)
    interrupt_after(monkeypatch, 2)
    with pytest.warns(jxs.InterruptedWarning, match="interrupted: the first 6 of"):
        part = lines(loss, data, params, directions, (-1, 2, 40))
    assert part.loss.shape == ((6, 40) if count == 12 else (1, 6))
    assert part.name == ("6 directions" if count == 12 else "1 direction")
    done, n = part.loss.shape
    np.testing.assert_array_equal(part.t, whole.t[:n])
    np.testing.assert_allclose(part.loss, whole.loss[:done, :n], rtol=ROUNDING)


@pytest.mark.parametrize("normalize", ["filter", "layer", None])
def test_random_directions_are_as_long_as_the_parameters(normalize):
    params = model(2, np.float32)
    found = random_directions(KEY, params, 5, normalize=normalize)
    assert found["w"].shape == (5, 2, 4)
    assert [found[name] for name in found if name != "w"] == [None] * 4 + [None, None, [None] * 2]
    axes = {"filter": 1, "layer": (1, 2)}.get(normalize, ())
    long = np.linalg.norm(found["w"], axis=axes) if axes else np.ones(1)
    truth = np.linalg.norm(params["w"], axis=0 if normalize == "filter" else None)
    np.testing.assert_allclose(long, np.broadcast_to(truth, long.shape) if axes else 1, rtol=1e-5)
    assert len({float(step) for step in found["w"][:, 0, 0]}) == 5
    assert random_directions(KEY, params, 2, include_vectors=True)["b"].shape == (2, 4)
    only = random_directions(KEY, params, 2, include_vectors=True, leaves=lambda path: "v" in path)
    assert only["w"] is None
    assert only["v"][0].shape == (2, 4)
    assert lines(loss, make_data(dtype=np.float32), params, found, (0, 1, 2)).loss.shape == (5, 2)


def test_bad_directions_are_refused():
    params, good, data = model(2, np.float32), stacked(3, dtype=np.float32), make_data()
    cases = {
        "directions: expected the structure of params": {"w": good["w"]},
        r"directions\['w'\]: expected shape \(D, 2, 4\) of D directions, got \(2, 4\)": good
        | {"w": good["w"][0]},
        r"directions\['b'\]: expected shape \(D, 4\) of D directions, got \(\)": good | {"b": 1.0},
        r"expected the same number in every leaf, got 3 at \['v'\]\[0\], 2 at \['w'\]": good
        | {"w": good["w"][:2]},
        "directions: expected a direction, got None for every leaf": jax.tree.map(
            lambda _: None, good
        ),
        "directions: expected directions, got zeros for number 1": jax.tree.map(
            lambda leaf: leaf * np.array([1, 0, 2]).reshape((3,) + (1,) * (leaf.ndim - 1)), good
        ),
        r"directions\['w'\]: expected finite numbers": good | {"w": good["w"] * np.inf},
    }
    for message, directions in cases.items():
        with pytest.raises(ValueError, match=message):
            lines(loss, data, params, directions)
    for name, kind in (("counts", "int64"), ("depth", "int"), ("key", "key<fry>"), ("name", "str")):
        with pytest.raises(TypeError, match=rf"directions\['{name}'\]: expected None.*but {kind}"):
            lines(loss, data, params, good | {name: np.ones((3, 3))})


def test_other_bad_arguments_are_refused():
    params, good, data = model(2, np.float32), stacked(3, dtype=np.float32), make_data()
    hole = params | {"b": np.array([0, np.nan, 0, 0], np.float32)}
    with pytest.raises(ValueError, match=r"params\['b'\]: expected finite numbers"):
        lines(loss, data, hole, good)
    for t, message in (
        ((1, -1, 5), "t: expected finite lo < hi, got 1 and -1"),
        ((0, 1, 1), "t: expected at least 2 values, got 1"),
        ([0, 1, 3], "t: expected a tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            lines(loss, data, params, good, t)
        with pytest.raises(ValueError, match=message):
            interpolate(loss, data, params, model(4, np.float32), t)
    for call in (
        lambda loss: lines(loss, data, params, good),
        lambda loss: interpolate(loss, data, params, model(4, np.float32)),
    ):
        with pytest.raises(TypeError, match="loss: expected a function of"):
            call(3)
        with pytest.raises(
            TypeError, match=r"loss: expected a scalar, got an array of shape \(4,\)"
        ):
            call(lambda p, _: p["b"])
    with pytest.raises(TypeError, match="key: expected a JAX random key"):
        random_directions(0, params, 3)
    with pytest.raises(TypeError, match="count: expected a whole number, got 2.0"):
        random_directions(KEY, params, 2.0)
    with pytest.raises(ValueError, match="count: expected 1 or more, got 0"):
        random_directions(KEY, params, 0)
    with pytest.raises(ValueError, match="normalize: expected 'filter', 'layer' or None"):
        random_directions(KEY, params, 2, normalize="all")
    with pytest.raises(ValueError, match="params, leaves: expected a leaf that moves"):
        random_directions(KEY, {"b": np.ones(3)}, 2)


def test_bad_solutions_are_refused():
    first, data = model(2, np.float32), make_data()
    second = model(3, np.float32)
    for other, message in (
        ({"w": 1.0}, "second: expected the first's structure"),
        (
            second | {"b": np.ones(5)},
            r"second\['b'\]: expected the first's shape \(4,\), got \(5,\)",
        ),
        (second | {"b": np.full(4, np.inf)}, r"second\['b'\]: expected finite numbers"),
        (model(2, np.float32) | {"depth": 3}, "second: expected other parameters than the first's"),
    ):
        with pytest.raises(ValueError, match=message):
            interpolate(loss, data, first, other)
    with pytest.raises(TypeError, match=r"second\['b'\]: expected floating numbers.*got int64"):
        interpolate(loss, data, first, second | {"b": np.arange(4)})
    with pytest.raises(ValueError, match="first: expected floating numbers, got none"):
        interpolate(loss, data, {"n": 1}, {"n": 2})
