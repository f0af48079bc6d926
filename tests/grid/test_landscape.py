"""The grid against a loop, whatever the shape, the dtype, the loss and the strategy."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxscape as jxs
from jaxscape.grid import strategies
from jaxscape.grid.cost import Limits
from jaxscape.grid.strategies import dense
from jaxscape.planes.plane import weight_plane
from tests import reference

# Float32 keeps 6e-8 of each error and of each partial sum: over thousands of samples, summed in
# blocks, a few of those remain. A running sum would miss this bound.
DENSE_FLOAT32 = 2e-6
DENSE_FLOAT64 = 1e-13
AXES = {"w1": (-2.1, 1.7, 23), "w2": (-1.3, 2.9, 17)}
LOSSES = {
    "squared": jxs.squared_error,
    "absolute": jxs.absolute_error,
    "huber": jxs.huber(1.5),
    "log_cosh": jxs.log_cosh,
}


def make_data(n=2995, weighted=False, dtype=np.float32):
    generator = np.random.default_rng(n)
    x = generator.normal(0.3, 2.0, n).astype(dtype)
    y = (np.sin(x) + 0.4 * x + generator.normal(0, 0.5, n)).astype(dtype)
    weight = generator.uniform(0, 2, n).astype(dtype) if weighted else None
    return jxs.Dataset(x, y, weight)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 7, 8, 9, 200, 2995])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_dense_equals_a_float64_loop(name, weighted, n):
    data = make_data(n, weighted)
    surface = jxs.landscape(LOSSES[name], data, method="dense", **AXES)
    truth = reference.surface(surface, data, reference.ERRORS[name])
    assert surface.loss.shape == (23, 17)
    assert surface.loss.dtype == jnp.float32
    if n >= 200:
        assert reference.relative_error(surface, truth) < DENSE_FLOAT32
    else:  # a mean of few errors can be tiny against the targets it was subtracted from
        np.testing.assert_allclose(surface.loss, truth, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_dense_in_float64(name, x64):
    data = make_data(300, weighted=True, dtype=np.float64)
    surface = jxs.landscape(LOSSES[name], data, method="dense", **AXES)
    assert surface.loss.dtype == surface.a.values.dtype == jnp.float64
    truth = reference.surface(surface, data, reference.ERRORS[name])
    assert reference.relative_error(surface, truth) < DENSE_FLOAT64


def test_a_running_sum_in_float32_would_miss_the_bound():
    """The twin of the bound above: sums of sums are what keeps it."""
    data = make_data(200_000)
    # Large enough a grid that every cell has one running sum, with no lanes beside it.
    axes = {"w1": (1, 2, 180), "w2": (-2, 2, 190)}
    surface = jxs.landscape(jxs.squared_error, data, method="dense", **axes)
    hidden = np.tanh(np.float32(1) * np.asarray(data.x))
    w2 = np.asarray(surface.b.values)
    truth = [reference.loss_at(1.0, float(b), data) for b in w2]
    running = [
        np.cumsum((b * hidden - np.asarray(data.y)) ** 2, dtype=np.float32)[-1] / len(data)
        for b in w2
    ]
    assert np.max(abs(running / np.array(truth) - 1)) > 10 * DENSE_FLOAT32
    assert np.max(abs(reference.numbers(surface.loss[0]) / truth - 1)) < DENSE_FLOAT32


@pytest.mark.parametrize(
    ("ours", "theirs"), [(jnp.sin, np.sin), (jax.nn.relu, lambda z: z * (z > 0))]
)
@pytest.mark.parametrize("method", ["dense", "exact"])
def test_any_activation(ours, theirs, method):
    data = make_data()
    loss = jxs.squared_error.of(jxs.TwoWeightNetwork(ours))
    surface = jxs.landscape(loss, data, method=method, **AXES)
    truth = reference.surface(surface, data, activation=theirs)
    assert reference.relative_error(surface, truth) < 5e-6


def test_a_plain_function_is_a_loss():
    data = make_data()

    def mean_cube(weights, data):
        return jnp.mean(jnp.abs(weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y) ** 3)

    surface = jxs.landscape(mean_cube, data, **AXES)
    truth = reference.surface(surface, data, lambda r: abs(r) ** 3)
    assert surface.method == "dense"
    assert surface.loss_name == "mean cube"
    assert reference.relative_error(surface, truth) < DENSE_FLOAT32


def test_orientation_on_a_plane_of_any_pytree():
    """loss[i, j] belongs to (a[i], b[j]), for n1 ≠ n2 and a function of no symmetry."""
    origin = {"w": jnp.array([1.0, -2.0]), "bias": 0.5}
    plane = jxs.Plane(
        origin,
        {"w": jnp.array([0.5, 1.0]), "bias": None},
        {"w": jnp.array([-1.0, 0.25]), "bias": 2.0},
    )

    def loss(params, data):
        return params["w"][0] * data + params["w"][1] ** 3 - jnp.exp(params["bias"])

    surface = jxs.landscape(loss, jnp.float32(1.5), plane, a=(-1, 2, 5), b=(-0.5, 0.25, 3))
    for i, a in enumerate(np.linspace(-1, 2, 5)):
        for j, b in enumerate(np.linspace(-0.5, 0.25, 3)):
            truth = 1.5 * (1 + a / 2 - b) + (-2 + a + b / 4) ** 3 - np.exp(0.5 + 2 * b)
            np.testing.assert_allclose(surface.loss[i, j], truth, rtol=1e-5, atol=1e-5)


@given(
    w1=st.lists(st.floats(0.015625, 30, width=32), min_size=1, max_size=3, unique=True),
    w2=st.lists(st.floats(0.015625, 30, width=32), min_size=1, max_size=3, unique=True),
)
@settings(max_examples=25, deadline=None)
def test_turning_both_weights_leaves_the_loss(w1, w2):
    """L(w) = L(-w), exactly: tanh is odd in every bit."""
    axes = {
        name: np.array(sorted({v * sign for v in w for sign in (1, -1)}))
        for name, w in (("w1", w1), ("w2", w2))
    }
    surface = jxs.landscape(jxs.absolute_error, make_data(50), **axes)
    np.testing.assert_array_equal(surface.loss, np.asarray(surface.loss)[::-1, ::-1])


def sizes_of(jaxpr, primitive):
    """The output sizes of a primitive anywhere in a jaxpr."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == primitive:
            yield equation.outvars[0].aval.size
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from sizes_of(inner, primitive)


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_tanh_is_evaluated_once_a_row(method):
    """The structural zero at work: no tanh is as large as rows × columns × samples."""
    data = make_data(320)

    def cells(data):
        return jxs.landscape(jxs.squared_error, data, method=method, **AXES).loss

    tanhs = list(sizes_of(jax.make_jaxpr(cells)(data).jaxpr, "tanh"))
    assert tanhs
    assert max(tanhs) <= 23 * 320


def test_explicit_zeros_would_evaluate_it_in_every_cell():
    """The twin: an array of zeros in place of `None` hides from `vmap` what is constant."""
    plane = jxs.Plane(
        jxs.Weights(0.0, 0.0), jxs.Weights(1.0, 0.0), jxs.Weights(0.0, 1.0), names=("w1", "w2")
    )

    def loss(weights, data):
        # Its root: a mean would be added up sample by sample.
        error = jnp.square(weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y)
        return jnp.sqrt(jnp.mean(error))

    data = make_data(320)

    def cells(plane):
        return jxs.landscape(loss, data, plane, **AXES).loss

    assert max(sizes_of(jax.make_jaxpr(cells)(plane).jaxpr, "tanh")) == 23 * 17 * 320


def test_dense_temporaries_are_far_below_rows_times_columns_times_samples():

    limits = Limits(cells=4096, cache=2**19, memory=2**28)
    axis = jax.ShapeDtypeStruct((1024,), jnp.float32)
    for loss in (jxs.squared_error, lambda w, d: jxs.absolute_error(w, d)):
        compiled = dense.lower(
            loss, None, limits, weight_plane(), axis, axis, make_data(3000)
        ).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 256e6


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_new_data_of_the_same_shape_compiles_nothing(method):

    strategy = getattr(strategies, method)
    jxs.landscape(jxs.squared_error, make_data(100), method=method, **AXES)
    before = strategy._cache_size()
    for shift in (1.0, 2.0):
        data = make_data(100)
        moved = jxs.Dataset(data.x + shift, data.y)
        axes = {"w1": (-1 - shift, 3, 23), "w2": (0, shift, 17)}
        jxs.landscape(jxs.squared_error, moved, method=method, **axes)
        jxs.landscape(
            jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.tanh)), moved, method=method, **axes
        )
    assert strategy._cache_size() == before
    jxs.landscape(jxs.squared_error, make_data(101), method=method, **AXES)
    assert strategy._cache_size() == before + 1


@given(w1=st.floats(-3, 3), w2=st.floats(-3, 3), name=st.sampled_from(sorted(LOSSES)))
@settings(max_examples=25, deadline=None)
def test_gradient_of_the_loss_agrees_with_finite_differences(w1, w2, name):
    step = 1e-6
    with jax.enable_x64(True):
        data = make_data(200, weighted=True, dtype=np.float64)
        gradient = jax.grad(LOSSES[name])(jxs.Weights(w1, w2), data)
    for slope, (d1, d2) in zip(gradient, ((step, 0), (0, step)), strict=True):
        higher = reference.loss_at(w1 + d1, w2 + d2, data, reference.ERRORS[name])
        lower = reference.loss_at(w1 - d1, w2 - d2, data, reference.ERRORS[name])
        # A kink of |r| within a step moves the mean of 200 samples by up to 1e-2 of a slope of 4.
        kinks = 0.05 if name == "absolute" else 1e-6
        assert slope == pytest.approx((higher - lower) / (2 * step), rel=1e-5, abs=kinks)


@given(n1=st.integers(2, 6), n2=st.integers(2, 6), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
@pytest.mark.slow
def test_orientation_on_a_grid_of_any_shape(n1, n2, seed):
    generator = np.random.default_rng(seed)
    w1, w2 = np.sort(generator.normal(0, 2, n1)), np.sort(generator.normal(0, 2, n2))
    data = make_data(40)
    surface = jxs.landscape(jxs.squared_error, data, w1=w1, w2=w2)
    assert surface.loss.shape == (n1, n2)
    assert reference.relative_error(surface, reference.surface(surface, data)) < 1e-5


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_a_landscape_is_differentiable_in_the_data(method):
    """d mean(loss) / d y of a sample is the mean over cells of -2 (prediction - y) / n."""
    data = make_data(37)

    def mean_loss(y):
        return jxs.landscape(
            jxs.squared_error, jxs.Dataset(data.x, y), method=method, **AXES
        ).loss.mean()

    gradient = jax.grad(mean_loss)(data.y)
    w1, w2 = np.meshgrid(np.linspace(-2.1, 1.7, 23), np.linspace(-1.3, 2.9, 17), indexing="ij")
    prediction = w2[..., None] * np.tanh(w1[..., None] * reference.numbers(data.x))
    truth = np.mean(-2 * (prediction - reference.numbers(data.y)) / 37, axis=(0, 1))
    np.testing.assert_allclose(gradient, truth, rtol=1e-4, atol=1e-6)


def test_cells_that_are_not_finite_are_kept_counted_and_named():
    def loss(weights, _):
        # Finite but in the cells w1 > 1 (NaN) and w2 = 2 (infinite).
        return jnp.sqrt(1 - weights.w1) + jnp.where(weights.w2 == 2, jnp.inf, weights.w2)

    with pytest.warns(jxs.NonFiniteWarning, match=r"7 of 15 cells .* w1 = 0, w2 = 2: inf"):
        surface = jxs.landscape(loss, None, w1=(0, 2, 3), w2=(-2, 2, 5))
    expected = np.zeros((3, 5), bool)
    expected[:, 4] = expected[2] = True
    np.testing.assert_array_equal(surface.nonfinite, expected)
    assert np.isposinf(surface.loss[0, 4])
    assert np.isnan(surface.loss[2, 0])
    assert surface.lowest[:2] == (1, 0)
    assert "7 cells not finite" in repr(surface)


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_an_overflow_is_infinite_and_no_nan(method):
    """The padding of the last block must not turn infinity into NaN."""
    data = jxs.Dataset([1.0, 2.0, 3.0], [1e30, 1e30, -1e30])
    with pytest.warns(jxs.NonFiniteWarning, match="6 of 6"):
        surface = jxs.landscape(
            jxs.squared_error, data, method=method, w1=(-2, 2, 2), w2=(-1, 1, 3)
        )
    if method == "dense":
        assert np.isposinf(surface.loss).all()


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({"w1": (0, 1, 3)}, ValueError, "axes: expected w1 and w2, got w1"),
        ({}, ValueError, "axes: expected w1 and w2, got none"),
        ({"a": (0, 1, 3), "w2": (0, 1, 3)}, ValueError, "expected w1 and w2, got a, w2"),
        (
            {"w1": (1, 1, 3), "w2": (0, 1, 3)},
            ValueError,
            "w1: expected finite lo < hi, got 1 and 1",
        ),
        (
            {"w1": (0, 1, 3), "w2": (2, 1, 3)},
            ValueError,
            "w2: expected finite lo < hi, got 2 and 1",
        ),
        ({"w1": (0, np.inf, 3), "w2": (0, 1, 3)}, ValueError, "w1: expected finite"),
        ({"w1": (np.nan, 1, 3), "w2": (0, 1, 3)}, ValueError, "w1: expected finite"),
        ({"w1": (0, 1, 1), "w2": (0, 1, 3)}, ValueError, "w1: expected at least 2 values, got 1"),
        ({"w1": (0, 1, 2.5), "w2": (0, 1, 3)}, TypeError, "w1: expected a whole number n"),
        ({"w1": (0, 1), "w2": (0, 1, 3)}, ValueError, r"w1: expected a tuple \(lo, hi, n\) or"),
        ({"w1": ("0", 1, 3), "w2": (0, 1, 3)}, TypeError, "w1: expected numbers lo and hi"),
        (
            {"w1": np.array([1.0, 1.0, 2.0]), "w2": (0, 1, 3)},
            ValueError,
            "increase in float32, got 1.0 and",
        ),
        (
            {"w1": np.array([2.0, 1.0]), "w2": (0, 1, 3)},
            ValueError,
            "got 2.0 and then 1.0 at index 1",
        ),
        (
            {"w1": np.array([0.0, np.nan]), "w2": (0, 1, 3)},
            ValueError,
            "w1: expected finite float32",
        ),
        ({"w1": np.array([[0.0, 1.0]]), "w2": (0, 1, 3)}, ValueError, "w1: expected .* 1-D array"),
        ({"w1": [-1, 1, 50], "w2": (0, 1, 3)}, ValueError, r"w1: expected .* got \[-1, 1, 50\]"),
        ({"w1": np.array([1j, 2]), "w2": (0, 1, 3)}, ValueError, "w1: expected .* increasing"),
        ({"w1": (1, 1 + 1e-6, 50), "w2": (0, 1, 3)}, ValueError, "w1: .*increase in float32"),
    ],
)
def test_bad_axes_are_refused(axes, error, message):
    with pytest.raises(error, match=message):
        jxs.landscape(jxs.squared_error, make_data(9), **axes)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda w, d: w.w2 * d.x, TypeError, r"loss: expected a scalar, got .* shape \(9,\)"),
        (lambda w, d: (w.w1, w.w2), TypeError, "loss: expected a scalar, got tuple"),
        (lambda w, d: None, TypeError, "loss: expected a scalar, got NoneType"),
        (lambda w, d: jnp.int32(1), TypeError, "loss: expected a floating scalar, got dtype int32"),
        ("squared", TypeError, "loss: expected a function"),
    ],
)
def test_bad_losses_are_refused(loss, error, message):
    with pytest.raises(error, match=message):
        jxs.landscape(loss, make_data(9), w1=(0, 1, 3), w2=(0, 1, 4))


@pytest.mark.parametrize("method", ["auto", "dense", "exact"])
def test_targets_of_another_shape_than_the_predictions_are_refused(method):
    """The article's own fault: (n,) against (n, 1)."""
    data = jxs.Dataset(np.ones(5), np.ones((5, 1)))
    with pytest.raises(ValueError, match=r"data: expected targets y .* \(5,\), got \(5, 1\)"):
        jxs.landscape(jxs.squared_error, data, w1=(0, 1, 3), w2=(0, 1, 4), method=method)


def test_more_than_one_feature_is_refused():
    data = jxs.Dataset(np.ones((5, 2)), np.ones(5))
    with pytest.raises(ValueError, match=r"x: the two-weight network takes one feature.*\(5, 2\)"):
        jxs.landscape(jxs.squared_error, data, w1=(0, 1, 3), w2=(0, 1, 4))


def test_what_is_no_plane_and_no_dataset_is_refused():
    axes = {"w1": (0, 1, 3), "w2": (0, 1, 4)}
    with pytest.raises(TypeError, match="plane: expected a Plane, got str"):
        jxs.landscape(jxs.squared_error, make_data(9), "plane", **axes)
    for data in (None, (np.ones(3), np.ones(3))):
        with pytest.raises(TypeError, match=r"data: expected a Dataset\(x, y\), got"):
            jxs.landscape(jxs.squared_error, data, **axes)


def test_ends_may_be_numbers_of_any_library():
    axes = {"w1": (jnp.float32(-1), np.float64(1), np.int64(3)), "w2": (0, 1, jnp.int32(4))}
    assert jxs.landscape(jxs.squared_error, make_data(9), **axes).shape == (3, 4)


def test_an_axis_may_be_an_array_of_uneven_values():
    data = make_data(20)
    values = np.array([-1.0, -0.9, 0.0, 3.0])
    surface = jxs.landscape(jxs.squared_error, data, w1=values, w2=(0, 1, 3))
    np.testing.assert_array_equal(surface.a.values, values.astype(np.float32))
    assert reference.relative_error(surface, reference.surface(surface, data)) < 5e-6


def test_a_finite_grid_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jxs.landscape(jxs.squared_error, make_data(9), w1=(0, 1, 3), w2=(0, 1, 4))
