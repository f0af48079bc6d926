"""The exact strategy equals the loss if each row is a parabola, and raises an error otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxscape as jxs
from jaxscape.grid import plan
from jaxscape.grid.parabola import parabola, parabolas, quadratic_losses
from jaxscape.planes.plane import weight_plane
from tests import reference

# Relative to the loss plus a millionth of its range. The remaining error is the rounding of float32
# predictions, 1e-7 of the targets, which the dense strategy has as well.
EXACT_FLOAT32 = 2e-5


def noiseless(teacher, n=3000):
    """Return samples of a two-weight network, so that the lowest loss is zero."""
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    # XLA's tanh, which differs from NumPy's in the last digit.
    w1, w2 = np.float32(teacher)
    return jxs.Dataset(x, w2 * jnp.tanh(w1 * x))


def error_to_range(surface, truth):
    return np.max(np.abs(reference.numbers(surface.loss) - truth) / (truth + 1e-6 * np.ptp(truth)))


@pytest.mark.parametrize("teacher", [(1.5, 0.8), (-0.7, 1.9), (3.0, -1.3)])
@pytest.mark.parametrize("n", [200, 3000])
def test_exact_keeps_its_digits_where_the_loss_reaches_zero(teacher, n):
    """Without noise the loss reaches zero, where c - 2mb + qb² would cancel."""
    data = noiseless(teacher, n)
    w1, w2 = map(abs, teacher)
    axes = {"w1": (-2 * w1, 2 * w1, 41), "w2": (-2 * w2, 2 * w2, 33)}
    surface = jxs.landscape(jxs.squared_error, data, method="exact", **axes)
    truth = reference.surface(surface, data)
    assert truth.min() < 1e-12 * truth.max()
    assert error_to_range(surface, truth) < EXACT_FLOAT32


def test_the_rounding_error_of_the_lowest_point_is_needed():
    """Finely sampled rows through the minimum keep the bound only with the correction.

    Whether a lowest point happens to be a float32 depends on its sums, so several are tested.
    """
    corrected, uncorrected = [], []
    for teacher in [(1.5, 0.8), (3.0, 1.3), (2.2, 1.7), (0.5, 1.6), (1.7, 1.45)]:
        data = jxs.data.teacher_student(jax.random.key(0), 3000, teacher)
        row = parabola(jxs.TwoWeightNetwork(), weight_plane(), jnp.float32(teacher[0]), data)
        b = np.linspace(-2, 2, 4001, dtype=np.float32)
        truth = np.array([reference.loss_at(teacher[0], float(w2), data) for w2 in b])
        allowed = truth + 1e-6 * np.ptp(truth)
        rounded = row._replace(correction=jnp.float32(0))
        for errors, kept in ((corrected, row), (uncorrected, rounded)):
            errors.append(np.max(abs(reference.numbers(kept.at(b)) - truth) / allowed))
    assert max(corrected) < 0.25 * EXACT_FLOAT32
    assert max(uncorrected) > EXACT_FLOAT32


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("n", "samples"),
    [(n, None) for n in (4097, 9000, 131072, 131073, 300000)] + [(9000, 4096), (300000, 4096)],
)
def test_blocks_of_samples_equal_a_loop(n, samples, weighted, monkeypatch):
    """More samples than one block holds, with and without a remainder."""
    generator = np.random.default_rng(n)
    x = generator.normal(0, 2, n).astype(np.float32)
    # The largest slopes come last, so that the scale grows from block to block.
    x = x[np.argsort(abs(x))]
    weight = generator.uniform(0, 2, n).astype(np.float32) if weighted else None
    data = jxs.Dataset(x, np.sin(x) + 0.3 * x, weight)
    axes = {"w1": np.array([-1.5, -1e-4, 1e-20, 0.3, 2.0]), "w2": (-2, 1.5, 7)}
    if samples:
        limits = plan.limits_for
        fewer = lambda *given: limits(*given)._replace(samples=samples)  # noqa: E731
        monkeypatch.setattr(plan, "limits_for", fewer)
        plan._cached_plan.cache_clear()
    surface = jxs.landscape(jxs.squared_error, data, method="exact", **axes)
    if samples:
        plan._cached_plan.cache_clear()
    assert reference.relative_error(surface, reference.surface(surface, data)) < 2e-6


def test_the_expanded_parabola_loses_digits_where_the_loss_reaches_zero():
    """The twin: c - 2mb + qb², from the same three moments, misses the bound in float32."""
    data = noiseless((1.5, 0.8))
    surface = jxs.landscape(
        jxs.squared_error, data, w1=(1.4, 1.6, 41), w2=(0.7, 0.9, 33), method="exact"
    )
    truth = reference.surface(surface, data)
    x, y = np.asarray(data.x), np.asarray(data.y)
    h = np.tanh(np.asarray(surface.a.values)[:, None] * x)
    c, m, q = np.mean(y * y), np.mean(h * y, axis=1)[:, None], np.mean(h * h, axis=1)[:, None]
    b = np.asarray(surface.b.values)
    expanded = c - 2 * m * b + q * b * b
    scale = truth + 1e-6 * np.ptp(truth)
    assert expanded.dtype == np.float32
    assert np.max(np.abs(expanded - truth) / scale) > 10 * error_to_range(surface, truth)


@pytest.mark.parametrize("weighted", [False, True])
def test_exact_equals_a_float64_loop(weighted, x64):
    generator = np.random.default_rng(3)
    x, y = generator.normal(1, 4.5, 301), generator.normal(2, 9, 301)
    data = jxs.Dataset(x, y, generator.uniform(0, 3, 301) if weighted else None)
    surface = jxs.landscape(jxs.squared_error, data, w1=(-2, 1.9, 23), w2=(-7, 3, 17))
    assert surface.method == "exact"
    assert reference.relative_error(surface, reference.surface(surface, data)) < 1e-13


@given(
    seed=st.integers(0, 2**31),
    n=st.sampled_from([1, 2, 60]),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
    shape=st.sampled_from([(2, 5), (7, 3)]),
)
@settings(max_examples=40, deadline=None)
def test_exact_equals_dense(seed, n, size, shape):
    generator = np.random.default_rng(seed)
    data = jxs.Dataset(*(size * generator.normal(0, 1, (2, n))).astype(np.float32))
    axes = {"w1": (-1.5, 2.0, shape[0]), "w2": (-3.0, 1.0, shape[1])}
    exact, dense = (
        jxs.landscape(jxs.squared_error, data, method=method, **axes).loss
        for method in ("exact", "dense")
    )
    np.testing.assert_allclose(exact, dense, rtol=2e-5, atol=1e-6 * float(dense.max()))


@pytest.mark.parametrize("w1", [0.0, 1e-30, 1e-20, 1e-10, -1e-38])
def test_rows_near_w1_zero(w1):
    """At w1 = 0 the row is flat. Near it, squares of the slope underflow unless they are scaled."""
    data = jxs.Dataset([1.0, -2.0, 3.0, 0.5], [2.0, -1.0, 4.0, 0.0])
    row = parabola(jxs.TwoWeightNetwork(), weight_plane(), jnp.float32(w1), data)
    b = np.array([-2.0, 0.0, 1.0, 100.0], np.float32)
    truth = [reference.loss_at(w1, float(w2), data) for w2 in b]
    np.testing.assert_allclose(row.at(b), truth, rtol=1e-6)
    if abs(w1) > 1e-37:  # The lowest point, far away along w2, is that of a straight line.
        np.testing.assert_allclose(
            row.floor, np.mean((reference.numbers(data.y) - LINE) ** 2), rtol=1e-6
        )


@pytest.mark.parametrize("others", [[], [0.5, -2.0]])
@pytest.mark.parametrize("w1", [0.0, 1e-20, 1e-6, 3e-6, 2e25, np.nan])
def test_a_row_that_needs_scaled_slopes_gets_them(w1, others):
    """Alone and in a block with other rows. Predictions are linear in w1, so slopes can be huge."""

    def linear(weights, x):
        return weights.w2 * weights.w1 * x

    data = jxs.Dataset(jnp.float32(X), jnp.float32(Y))
    w1s = [*others, w1, 0.25]
    rows = parabolas(linear, weight_plane(), jnp.float32(w1s), data, 2**19)
    for k, a in enumerate(np.float32(w1s).tolist()):
        lowest = (X @ Y) / (a * (X @ X)) if a else 1.0
        at = np.array([0.7 * lowest, 0.0, lowest], np.float32)
        truth = [np.mean((float(b) * a * X - Y) ** 2) for b in at]
        found = jax.tree.map(lambda leaf, k=k: leaf[k], rows).at(at)
        np.testing.assert_allclose(found, truth, rtol=1e-6)


@pytest.mark.parametrize("w1", [1e-25, 2e25])
def test_unscaled_slopes_underflow_or_overflow(w1):
    """The twin: the row is flat, or not finite."""
    data = jxs.Dataset(jnp.float32(X), jnp.float32(Y))
    row = parabola(lambda w, x: w.w2 * w.w1 * x, weight_plane(), jnp.float32(w1), data, False)
    b = jnp.float32((X @ Y) / (X @ X) / w1)
    truth = np.mean((X * (X @ Y) / (X @ X) - Y) ** 2)
    assert not abs(row.at(b) - truth) < 0.1 * truth


@pytest.mark.slow
def test_derivatives_where_some_rows_need_scaled_slopes():
    """Under `vmap` both branches are computed; the one not used must not make the result NaN."""
    data = jxs.Dataset(jnp.float32(X), jnp.float32(Y))

    def floors(w1, y):
        rows = parabolas(
            jxs.TwoWeightNetwork(), weight_plane(), w1[None], jxs.Dataset(data.x, y), 2**19
        )
        return rows.floor[0]

    gradient = jax.grad(floors, argnums=(0, 1))
    w1 = jnp.float32([1e-20, 1e-12, 0.3])
    together = jax.vmap(gradient, (0, None))(w1, data.y)
    for k, a in enumerate(w1):
        np.testing.assert_allclose(together[1][k], gradient(a, data.y)[1], rtol=1e-5)
    # In w1 the floor is flat there, so that its derivative is rounding; but it is not NaN.
    assert np.isfinite(together[0]).all()
    slopes = np.tanh(0.3 * X)
    residual = Y - slopes * (slopes @ Y) / (slopes @ slopes)
    np.testing.assert_allclose(together[1][2], 2 * residual / len(X), rtol=1e-4)


X = np.array([1.0, -2.0, 3.0, 0.5])
Y = np.array([2.0, -1.0, 4.0, 0.0])
LINE = X * (X @ Y) / (X @ X)


def deep(params, x):
    return (
        params["v"] @ jnp.tanh(params["w"][:, None] * x[None, :] + params["c"][:, None])
        + params["d"]
    )


def deep_plane(first, second):
    """Return a plane of a network with five hidden neurons, along the named leaves."""
    generator = np.random.default_rng(5)
    origin = {name: jnp.asarray(generator.normal(0, 1, 5), jnp.float32) for name in "wcv"}
    origin["d"] = jnp.float32(0.3)

    def direction(names):
        return {
            name: jnp.asarray(generator.normal(0, 1, leaf.shape), jnp.float32)
            if name in names
            else None
            for name, leaf in origin.items()
        }

    return jxs.Plane(origin, direction(first), direction(second))


def sines(n=50):
    x = np.linspace(-2, 3, n, dtype=np.float32)
    return jxs.Dataset(x, np.sin(2 * x))


@pytest.mark.parametrize(("first", "second"), [("w", "v"), ("wcv", "d"), ("vwc", "vd"), ("v", "v")])
@pytest.mark.parametrize("wrapped", [False, True])
def test_exact_holds_for_any_last_layer(first, second, wrapped):
    model = jax.jit(deep) if wrapped else deep
    plane, loss = deep_plane(first, second), jxs.squared_error.of(model)
    axes = {"a": (-1, 1.5, 7), "b": (-2, 1, 9)}
    if first == "v":  # Both directions move one leaf, in which the prediction is affine.
        assert jxs.landscape(loss, sines(), plane, **axes).method == "exact"
    exact = jxs.landscape(loss, sines(), plane, method="exact", **axes)
    dense = jxs.landscape(loss, sines(), plane, method="dense", **axes)
    np.testing.assert_allclose(exact.loss, dense.loss, rtol=2e-5)


@pytest.mark.parametrize(("first", "second"), [("v", "w"), ("w", "c"), ("v", "cv"), ("w", "wcvd")])
@pytest.mark.parametrize("wrapped", [False, True])
def test_exact_raises_and_auto_is_dense_before_the_last_layer(first, second, wrapped):
    model = jax.jit(deep) if wrapped else deep
    plane, loss = deep_plane(first, second), jxs.squared_error.of(model)
    axes = {"a": (-1, 1.5, 7), "b": (-2, 1, 9)}
    with pytest.raises(
        ValueError, match="method: 'exact' .* not proved to be affine in b, the second"
    ):
        jxs.landscape(loss, sines(), plane, method="exact", **axes)
    assert jxs.landscape(loss, sines(), plane, **axes).method == "dense"


def test_a_parabola_before_the_last_layer_is_far_from_the_loss():
    """The twin of the errors above."""
    plane = deep_plane("v", "w")
    row = parabola(deep, plane, jnp.float32(0.5), sines())
    loss = jxs.squared_error.of(deep)(plane.at(0.5, 2.0), sines())
    assert abs(row.at(2.0) / loss - 1) > 0.1


def test_exact_raises_for_losses_other_than_the_squared_error():
    data = sines()
    for loss in (jxs.absolute_error, jxs.huber()):
        with pytest.raises(ValueError, match="holds for squared_error"):
            jxs.landscape(loss, data, w1=(0, 1, 3), w2=(0, 1, 4), method="exact")
        assert jxs.landscape(loss, data, w1=(0, 1, 3), w2=(0, 1, 4)).method == "dense"
    with pytest.raises(ValueError, match="method: expected 'auto', 'dense' or 'exact', got 'fast'"):
        jxs.landscape(jxs.squared_error, data, w1=(0, 1, 3), w2=(0, 1, 4), method="fast")


def test_exact_equals_numpy_for_several_outputs_with_sample_weights():
    generator = np.random.default_rng(8)
    x, y = generator.normal(0, 1, (40, 3)), generator.normal(0, 1, (40, 2))
    weight = generator.uniform(0, 1, 40)
    data = jxs.Dataset(*(array.astype(np.float32) for array in (x, y, weight)))

    def model(params, x):
        return jnp.tanh(x @ params["w"]) @ params["v"]

    w, v, dw, dv = (generator.normal(0, 1, s) for s in ((3, 4), (4, 2), (3, 4), (4, 2)))
    plane = jxs.Plane(
        {"w": jnp.float32(w), "v": jnp.float32(v)},
        {"w": jnp.float32(dw), "v": None},
        {"w": None, "v": jnp.float32(dv)},
    )
    surface = jxs.landscape(jxs.squared_error.of(model), data, plane, a=(-1, 1, 5), b=(-1, 2, 4))
    assert surface.method == "exact"
    for i, a in enumerate(np.linspace(-1, 1, 5)):
        for j, b in enumerate(np.linspace(-1, 2, 4)):
            errors = (np.tanh(x @ (w + a * dw)) @ (v + b * dv) - y) ** 2
            truth = np.average(errors.mean(axis=1), weights=weight)
            assert surface.loss[i, j] == pytest.approx(truth, rel=1e-5)


AXES = {"a": (-1, 1.5, 7), "b": (-2, 1, 9)}

# Losses without a proof: a parabola is fitted to each row and compared with the loss.
SIZES = {"w": (3, 6), "c": (1, 6), "v": (6, 2), "d": (1, 2)}


def make(dtype=np.float32):
    generator = np.random.default_rng(5)
    params, data = (
        {name: jnp.asarray(generator.normal(size=size), dtype) for name, size in sizes.items()}
        for sizes in (SIZES, {"x": (31, 3), "y": (31, 2)})
    )
    return params, data


def layer_plane(first, second, dtype=np.float32):
    generator, (params, _) = np.random.default_rng(6), make(dtype)
    u, v = (
        {
            name: jnp.asarray(generator.normal(size=leaf.shape), dtype) if name in names else None
            for name, leaf in params.items()
        }
        for names in (first, second)
    )
    return jxs.Plane(params, u, v)


def predict(params, x):
    return jnp.tanh(x @ params["w"] + params["c"]) @ params["v"] + params["d"]


def squares(params, data):
    return jnp.mean((predict(params, data["x"]) - data["y"]) ** 2)


def decayed(params, data):
    """A parabola with its lowest point elsewhere."""
    return squares(params, data) / 2 + 0.1 * sum(jnp.sum(p**2) for p in params.values())


def linear_in_the_prediction(params, data):
    return jnp.mean(predict(params, data["x"]) * data["y"])


def downward(params, data):
    return 3 - decayed(params, data)


@pytest.mark.parametrize("loss", [squares, decayed, linear_in_the_prediction, downward])
def test_a_fitted_parabola_equals_a_loop(loss, x64):
    first = "wc" if loss is linear_in_the_prediction else "wcv"
    plane = layer_plane(first, "vd", np.float64)
    _, data = make(np.float64)
    surface = jxs.landscape(loss, data, plane, method="exact", **AXES)
    assert surface.method == "exact"
    cell = jax.jit(lambda a, b: loss(plane.at(a, b), data))
    loop = [[cell(a, b) for b in surface.b.values] for a in surface.a.values]
    np.testing.assert_allclose(surface.loss, loop, rtol=1e-12, atol=1e-13)
    assert jxs.landscape(loss, data, plane, **AXES).method == "dense"


@pytest.mark.parametrize("teacher", [(1.5, 0.8), (-0.7, 1.9)])
def test_a_fitted_parabola_keeps_its_digits_where_the_loss_reaches_zero(teacher):
    data = noiseless(teacher)
    w1, w2 = map(abs, teacher)
    axes = {"w1": (-2 * w1, 2 * w1, 41), "w2": (-2 * w2, 2 * w2, 33)}
    surface = jxs.landscape(lambda w, d: jxs.squared_error(w, d), data, method="exact", **axes)
    truth = reference.surface(surface, data)
    assert truth.min() < 1e-12 * truth.max()
    assert error_to_range(surface, truth) < EXACT_FLOAT32


def test_fits_are_the_same_for_streams_row_blocks_and_destinations(tmp_path):
    plane, (_, data) = layer_plane("wc", "vd"), make()
    batches = [jax.tree.map(lambda x, k=k: x[k], data) for k in (slice(0, 20), slice(20, 31))]
    whole = jxs.landscape(squares, data, plane, **AXES)
    for source, options in (
        (jxs.Stream(batches), {}),
        (data, {"memory": 6000}),
        (data, {"destination": tmp_path / "grid"}),
    ):
        found = jxs.landscape(squares, source, plane, method="exact", **options, **AXES)
        np.testing.assert_allclose(found.loss, whole.loss, rtol=1e-5)


def test_nonfinite_cells_of_a_fitted_row_stay_nonfinite():
    plane, (_, data) = layer_plane("wc", "vd"), make()

    def loss(params, data):
        """NaN in rows with a > 0.5, infinite in the row a = -1."""
        a = (params["c"] - plane.origin["c"])[0, 0] / plane.u["c"][0, 0]
        value = jnp.where(a > 0.5, jnp.nan, squares(params, data))
        return jnp.where(a < -0.9, jnp.inf, value)

    with pytest.warns(jxs.NonFiniteWarning):
        found = jxs.landscape(loss, data, plane, method="exact", **AXES)
    with pytest.warns(jxs.NonFiniteWarning):
        dense = jxs.landscape(loss, data, plane, **AXES)
    np.testing.assert_array_equal(found.nonfinite, dense.nonfinite)
    assert found.nonfinite.any(axis=1).tolist() == [True, False, False, False] + 3 * [True]


def cross_entropy(params, data):
    labels = jnp.argmax(data["y"], axis=1)
    return optax.softmax_cross_entropy_with_integer_labels(
        predict(params, data["x"]), labels
    ).mean()


def capped(params, data):
    """A parabola in every column of the grid except for the last."""
    plane = layer_plane("wc", "vd")
    b = (params["d"] - plane.origin["d"])[0, 0] / plane.v["d"][0, 0]
    return squares(params, data) * jnp.where(b > 0.99, 0.99, 1.0)


NO_PARABOLAS = [
    (squares, ("v", "w")),
    (squares, ("w", "wcvd")),
    (cross_entropy, ("wc", "vd")),
    (capped, ("wc", "vd")),
    (lambda p, d: jnp.abs(squares(p, d) - 3.0), ("wc", "vd")),
]


NOT_A_PARABOLA = "'exact' does not hold here: at a = .*, b = .* the loss is .* on the parabola"


@pytest.mark.parametrize(("loss", "along"), NO_PARABOLAS)
def test_rows_that_are_not_parabolas_raise_an_error(loss, along):
    plane, (_, data) = layer_plane(*along), make()
    with pytest.raises(ValueError, match=NOT_A_PARABOLA):
        jxs.landscape(loss, data, plane, method="exact", **AXES)


@pytest.mark.parametrize(("loss", "along"), NO_PARABOLAS[-2:])
def test_rows_that_are_not_parabolas_are_not_written(loss, along, tmp_path):
    plane, (_, data) = layer_plane(*along), make()
    for options in ({"memory": 6000}, {"destination": tmp_path / "grid"}):
        with pytest.raises(ValueError, match=NOT_A_PARABOLA):
            jxs.landscape(loss, data, plane, method="exact", **options, **AXES)
    # No row of the wrong surface is on disk, and the folder can be used as the message says.
    with pytest.raises(ValueError, match="was not written by jaxscape"):
        jxs.archive.load(tmp_path / "grid")
    dense = jxs.landscape(loss, data, plane, destination=tmp_path / "grid", **AXES)
    assert dense.method == "dense"


@pytest.mark.parametrize(("loss", "along"), NO_PARABOLAS[:3])
def test_parabolas_that_are_refused_are_far_from_the_loss(loss, along):
    """The twin of the errors above."""
    plane, (_, data) = layer_plane(*along), make()
    dense = jxs.landscape(loss, data, plane, **AXES)
    fitted, check = jax.jit(quadratic_losses, static_argnums=0)(
        loss, plane, dense.a.values, dense.b.values, data
    )
    assert np.abs(fitted / dense.loss - 1).max() > 0.05
    assert check.wrong.mean() > 0.8


def test_exact_raises_if_the_fit_cannot_be_compared():
    plane, (_, data) = layer_plane("wc", "vd"), make()

    def several(params, data):
        return {"loss": squares(params, data)}

    with pytest.raises(ValueError, match="'exact' does not hold here: the loss returns several"):
        jxs.landscape(several, data, plane, method="exact", **AXES)
    with pytest.raises(ValueError, match="could not be checked under a transformation"):
        jax.jit(lambda d: jxs.landscape(squares, d, plane, method="exact", **AXES).loss)(data)

    def with_a_held_value(scale):
        def scaled(params, data):
            return scale * squares(params, data)

        return jxs.landscape(scaled, data, plane, method="exact", **AXES).loss

    with pytest.raises(ValueError, match="could not be checked under a transformation"):
        jax.jit(with_a_held_value)(2.0)


def test_exact_raises_if_the_loss_cannot_be_differentiated():
    """JAX raises TypeError in forward mode; an error of the loss itself passes as it is."""

    @jax.custom_vjp
    def clipped(z):
        return z

    clipped.defvjp(lambda z: (z, None), lambda _, g: (jnp.clip(g, -1, 1),))
    axes = {"w1": (-1, 1, 3), "w2": (-1, 1, 3)}
    with pytest.raises(
        ValueError, match="'exact' does not hold here: JAX cannot differentiate .* along w2"
    ):
        jxs.landscape(lambda w, _: clipped(w.w2) ** 2, None, method="exact", **axes)
    with pytest.raises(TypeError, match="loss: expected a scalar"):
        jxs.landscape(lambda w, _: jnp.ones(2) * w.w2, None, method="exact", **axes)


def test_the_products_of_a_row_do_not_depend_on_its_number_of_cells():
    plane, (_, data) = layer_plane("wc", "vd"), make()

    def products(n):
        grid = jnp.linspace(-1, 1, 5), jnp.linspace(-2, 1, n)
        text = str(jax.make_jaxpr(lambda a, b: quadratic_losses(squares, plane, a, b, data))(*grid))
        return text.count("dot_general[")

    assert products(9) == products(900)


def function_of_w2(height, shape, offset):
    return lambda weights, _: offset + height * shape(weights.w2)


@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("shape", [lambda b: jnp.abs(b - 0.1), lambda b: jnp.sin(3 * b)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_offset_does_not_hide_a_wrong_fit(offset, shape, dtype, request):
    if dtype is np.float64:
        request.getfixturevalue("x64")
    axes = {"w1": (-1, 1, 3), "w2": (-1, 1, 6)}
    with pytest.raises(ValueError, match="'exact' does not hold here"):
        jxs.landscape(function_of_w2(0.01, shape, offset), None, method="exact", **axes)
    bowl = function_of_w2(0.01, lambda b: (b - 0.1) ** 2, offset)
    found = jxs.landscape(bowl, None, method="exact", **axes)
    assert found.loss.dtype == dtype
    truth = offset + 0.01 * (np.asarray(found.b.values, np.float64) - 0.1) ** 2
    loss = np.asarray(found.loss, np.float64)
    np.testing.assert_allclose(loss - truth, 0, atol=40 * np.finfo(dtype).eps * (offset + 1))


def test_a_parabola_near_a_perfect_fit_is_accepted():
    """Its predictions are rounded, so that the loss has only half of its digits."""
    plane, (params, data) = layer_plane("wc", "vd"), make()
    data["y"] = predict(params, data["x"])
    axes = {"a": (-1e-4, 1e-4, 5), "b": (-1e-4, 1e-4, 7)}
    dense = jxs.landscape(squares, data, plane, **axes).loss
    found = jxs.landscape(squares, data, plane, method="exact", **axes).loss
    assert np.abs(found - dense).max() / dense.max() < 1e-2
