"""The parabola: exact where it holds, and refused where it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxscape as jxs
from jaxscape.grid import plan
from jaxscape.grid.parabola import parabola, parabolas
from jaxscape.planes.plane import weight_plane
from tests import reference

# Relative to the loss plus a millionth of its range. What is left is the rounding of float32
# predictions, 1e-7 of the targets, which dense cells have as well.
EXACT_FLOAT32 = 2e-5


def error_to_range(surface, truth):
    return np.max(np.abs(reference.numbers(surface.loss) - truth) / (truth + 1e-6 * np.ptp(truth)))


@pytest.mark.parametrize("teacher", [(1.5, 0.8), (-0.7, 1.9), (3.0, -1.3)])
@pytest.mark.parametrize("n", [200, 3000])
def test_exact_keeps_its_digits_where_the_loss_reaches_zero(teacher, n):
    """On noiseless data the loss falls to zero, where c - 2mb + qb² would cancel."""
    data = jxs.data.teacher_student(jax.random.key(n), n, jxs.Weights(*teacher))
    w1, w2 = map(abs, teacher)
    axes = {"w1": (-2 * w1, 2 * w1, 41), "w2": (-2 * w2, 2 * w2, 33)}
    surface = jxs.landscape(jxs.squared_error, data, method="exact", **axes)
    truth = reference.surface(surface, data)
    assert truth.min() < 1e-12 * truth.max()
    assert error_to_range(surface, truth) < EXACT_FLOAT32


def test_what_rounding_cuts_off_the_lowest_point_is_needed():
    """Finely sampled rows through the minimum: all within the bound; without it, some are not.

    Whether a lowest point happens to be a float32 depends on its sums, so there are several.
    """
    with_it, without_it = [], []
    for teacher in [(1.5, 0.8), (3.0, 1.3), (2.2, 1.7), (0.5, 1.6), (1.7, 1.45)]:
        data = jxs.data.teacher_student(jax.random.key(0), 3000, jxs.Weights(*teacher))
        row = parabola(jxs.TwoWeightNetwork(), weight_plane(), jnp.float32(teacher[0]), data)
        b = np.linspace(-2, 2, 4001, dtype=np.float32)
        truth = np.array([reference.loss_at(teacher[0], float(w2), data) for w2 in b])
        allowed = truth + 1e-6 * np.ptp(truth)
        rounded = row._replace(correction=jnp.float32(0))
        for errors, kept in ((with_it, row), (without_it, rounded)):
            errors.append(np.max(abs(reference.numbers(kept.at(b)) - truth) / allowed))
    assert max(with_it) < 0.25 * EXACT_FLOAT32
    assert max(without_it) > EXACT_FLOAT32


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("n", "samples"),
    [(n, None) for n in (4097, 9000, 131072, 131073, 300000)] + [(9000, 4096), (300000, 4096)],
)
def test_blocks_of_samples_equal_a_loop(n, samples, weighted, monkeypatch):
    """More samples than are gone through at once: with and without some left over."""
    generator = np.random.default_rng(n)
    x = generator.normal(0, 2, n).astype(np.float32)
    # The largest slopes come last, so that the scale grows on the way.
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


def test_the_expanded_parabola_would_not():
    """The twin: the same three moments, expanded, lose the bound in float32."""
    data = jxs.data.teacher_student(jax.random.key(0), 3000)
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
def test_rows_next_to_w1_zero(w1):
    """At w1 = 0 the row is flat; just beside it squares of the slope underflow unless scaled."""
    data = jxs.Dataset([1.0, -2.0, 3.0, 0.5], [2.0, -1.0, 4.0, 0.0])
    row = parabola(jxs.TwoWeightNetwork(), weight_plane(), jnp.float32(w1), data)
    b = np.array([-2.0, 0.0, 1.0, 100.0], np.float32)
    truth = [reference.loss_at(w1, float(w2), data) for w2 in b]
    np.testing.assert_allclose(row.at(b), truth, rtol=1e-6)
    if abs(w1) > 1e-37:  # the true lowest point, far away along w2, is the line's
        np.testing.assert_allclose(
            row.floor, np.mean((reference.numbers(data.y) - LINE) ** 2), rtol=1e-6
        )


@pytest.mark.parametrize("others", [[], [0.5, -2.0]])
@pytest.mark.parametrize("w1", [0.0, 1e-20, 1e-6, 3e-6, 2e25, np.nan])
def test_a_row_that_needs_scaled_slopes_gets_them(w1, others):
    """Alone and among rows that do not; predictions linear in w1, so that slopes can be huge."""

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
def test_unscaled_slopes_would_not_do(w1):
    """The twin: their squares underflow, and the row is flat; or overflow, and it is not finite."""
    data = jxs.Dataset(jnp.float32(X), jnp.float32(Y))
    row = parabola(lambda w, x: w.w2 * w.w1 * x, weight_plane(), jnp.float32(w1), data, False)
    b = jnp.float32((X @ Y) / (X @ X) / w1)
    truth = np.mean((X * (X @ Y) / (X @ X) - Y) ** 2)
    assert not abs(row.at(b) - truth) < 0.1 * truth


@pytest.mark.slow
def test_derivatives_where_some_rows_need_scaled_slopes():
    """Under `vmap` both ways are computed and one is chosen: the other must not make NaN of it."""
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
    # In w1 the floor is flat there, and what is left is rounding; but no NaN.
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
    """A plane through a network of five hidden neurons, along the named leaves."""
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
    if first == "v":  # both directions in one leaf: the second is affine, the first as well
        assert jxs.landscape(loss, sines(), plane, **axes).method == "exact"
    exact = jxs.landscape(loss, sines(), plane, method="exact", **axes)
    dense = jxs.landscape(loss, sines(), plane, method="dense", **axes)
    np.testing.assert_allclose(exact.loss, dense.loss, rtol=2e-5)


@pytest.mark.parametrize(("first", "second"), [("v", "w"), ("w", "c"), ("v", "cv"), ("w", "wcvd")])
@pytest.mark.parametrize("wrapped", [False, True])
def test_exact_is_refused_and_dense_chosen_beyond_the_last_layer(first, second, wrapped):
    model = jax.jit(deep) if wrapped else deep
    plane, loss = deep_plane(first, second), jxs.squared_error.of(model)
    axes = {"a": (-1, 1.5, 7), "b": (-2, 1, 9)}
    with pytest.raises(ValueError, match="method: 'exact' .* not affine in b, the second"):
        jxs.landscape(loss, sines(), plane, method="exact", **axes)
    assert jxs.landscape(loss, sines(), plane, **axes).method == "dense"


def test_it_is_not_exact_where_it_is_refused():
    """The twin of the refusals: the parabola through such a row is far from its loss."""
    plane = deep_plane("v", "w")
    row = parabola(deep, plane, jnp.float32(0.5), sines())
    loss = jxs.squared_error.of(deep)(plane.at(0.5, 2.0), sines())
    assert abs(row.at(2.0) / loss - 1) > 0.1


def test_exact_is_refused_for_other_errors():
    data = sines()
    for loss in (jxs.absolute_error, jxs.huber()):
        with pytest.raises(ValueError, match="holds for squared_error"):
            jxs.landscape(loss, data, w1=(0, 1, 3), w2=(0, 1, 4), method="exact")
        assert jxs.landscape(loss, data, w1=(0, 1, 3), w2=(0, 1, 4)).method == "dense"
    with pytest.raises(ValueError, match="method: expected 'auto', 'dense' or 'exact', got 'fast'"):
        jxs.landscape(jxs.squared_error, data, w1=(0, 1, 3), w2=(0, 1, 4), method="fast")


def test_several_outputs_and_their_weights():
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
