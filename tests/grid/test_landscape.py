"""Landscapes equal a loop over cells, for every shape, dtype, loss and strategy."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxscape as jxs
from tests import reference

# float32 rounds each error and each partial sum by 6e-8. Over thousands of samples that are summed
# in blocks, a few of these add up. A running sum is less accurate than this bound.
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
    else:  # a mean of few errors can be tiny beside the targets
        np.testing.assert_allclose(surface.loss, truth, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_dense_in_float64(name, x64):
    data = make_data(300, weighted=True, dtype=np.float64)
    surface = jxs.landscape(LOSSES[name], data, method="dense", **AXES)
    assert surface.loss.dtype == surface.a.values.dtype == jnp.float64
    truth = reference.surface(surface, data, reference.ERRORS[name])
    assert reference.relative_error(surface, truth) < DENSE_FLOAT64


def test_a_running_sum_in_float32_misses_the_bound():
    """The counterpart of the bound above: only sums of partial sums keep it."""
    data = make_data(200_000)
    # The grid is so large that every cell has a single running sum, without vector lanes.
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


def test_the_orientation_is_right_on_a_plane_of_any_pytree():
    """loss[i, j] is at (a[i], b[j]); the grid is not square, and the loss has no symmetry."""
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
def test_flipping_the_signs_of_both_weights_leaves_the_loss(w1, w2):
    """L(w) = L(-w) holds exactly, because tanh is odd in every bit."""
    axes = {
        name: np.array(sorted({v * sign for v in w for sign in (1, -1)}))
        for name, w in (("w1", w1), ("w2", w2))
    }
    surface = jxs.landscape(jxs.absolute_error, make_data(50), **axes)
    np.testing.assert_array_equal(surface.loss, np.asarray(surface.loss)[::-1, ::-1])


@given(w1=st.floats(-3, 3), w2=st.floats(-3, 3), name=st.sampled_from(sorted(LOSSES)))
@settings(max_examples=25, deadline=None)
def test_the_gradient_of_a_loss_equals_finite_differences(w1, w2, name):
    step = 1e-6
    with jax.enable_x64(True):
        data = make_data(200, weighted=True, dtype=np.float64)
        gradient = jax.grad(LOSSES[name])(jxs.Weights(w1, w2), data)
    for slope, (d1, d2) in zip(gradient, ((step, 0), (0, step)), strict=True):
        higher = reference.loss_at(w1 + d1, w2 + d2, data, reference.ERRORS[name])
        lower = reference.loss_at(w1 - d1, w2 - d2, data, reference.ERRORS[name])
        # A kink of |r| inside a step changes the mean of 200 samples by 1e-2 of a slope of 4.
        kinks = 0.05 if name == "absolute" else 1e-6
        assert slope == pytest.approx((higher - lower) / (2 * step), rel=1e-5, abs=kinks)


@given(n1=st.integers(2, 6), n2=st.integers(2, 6), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
@pytest.mark.slow
def test_the_orientation_is_right_on_a_grid_of_any_shape(n1, n2, seed):
    generator = np.random.default_rng(seed)
    w1, w2 = np.sort(generator.normal(0, 2, n1)), np.sort(generator.normal(0, 2, n2))
    data = make_data(40)
    surface = jxs.landscape(jxs.squared_error, data, w1=w1, w2=w2)
    assert surface.loss.shape == (n1, n2)
    assert reference.relative_error(surface, reference.surface(surface, data)) < 1e-5


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_a_landscape_is_differentiable_in_the_data(method):
    """d mean(loss) / dy of a sample is the mean over all cells of -2 (prediction - y) / n."""
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


def test_nonfinite_cells_are_kept_and_counted_and_the_first_is_named():
    def loss(weights, _):
        # NaN where w1 > 1, infinite where w2 = 2.
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
def test_an_overflow_is_infinite_and_not_nan(method):
    """The padding of the last block does not turn infinity into NaN."""
    data = jxs.Dataset([1.0, 2.0, 3.0], [1e30, 1e30, -1e30])
    with pytest.warns(jxs.NonFiniteWarning, match="6 of 6"):
        surface = jxs.landscape(
            jxs.squared_error, data, method=method, w1=(-2, 2, 2), w2=(-1, 1, 3)
        )
    if method == "dense":
        assert np.isposinf(surface.loss).all()


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
def test_targets_and_predictions_of_different_shapes_are_refused(method):
    """The article's program has this fault: (n,) and (n, 1)."""
    data = jxs.Dataset(np.ones(5), np.ones((5, 1)))
    with pytest.raises(ValueError, match=r"data: expected targets y .* \(5,\), got \(5, 1\)"):
        jxs.landscape(jxs.squared_error, data, w1=(0, 1, 3), w2=(0, 1, 4), method=method)


def test_more_than_one_feature_is_refused():
    data = jxs.Dataset(np.ones((5, 2)), np.ones(5))
    with pytest.raises(ValueError, match=r"x: expected inputs of one feature.*\(5, 2\)"):
        jxs.landscape(jxs.squared_error, data, w1=(0, 1, 3), w2=(0, 1, 4))


def test_other_objects_than_planes_and_datasets_are_refused():
    axes = {"w1": (0, 1, 3), "w2": (0, 1, 4)}
    with pytest.raises(TypeError, match="plane: expected a Plane, got str"):
        jxs.landscape(jxs.squared_error, make_data(9), "plane", **axes)
    for data in (None, (np.ones(3), np.ones(3))):
        with pytest.raises(TypeError, match=r"data: expected a Dataset\(x, y\), got"):
            jxs.landscape(jxs.squared_error, data, **axes)


def test_an_axis_may_have_uneven_values():
    data = make_data(20)
    values = np.array([-1.0, -0.9, 0.0, 3.0])
    surface = jxs.landscape(jxs.squared_error, data, w1=values, w2=(0, 1, 3))
    assert reference.relative_error(surface, reference.surface(surface, data)) < 5e-6


def test_a_result_larger_than_memory_asks_for_a_destination():
    with pytest.raises(ValueError, match=r"w1, w2: expected a result .* give a destination"):
        jxs.landscape(jxs.squared_error, make_data(9), w1=(-1, 1, 2**20), w2=(-1, 1, 2**20))


def test_a_landscape_under_a_transformation_takes_no_destination(tmp_path):
    def corner(y):
        data = jxs.Dataset(y, y)
        return jxs.landscape(jxs.absolute_error, data, destination=tmp_path / "d", **AXES).loss[
            0, 0
        ]

    with pytest.raises(ValueError, match="destination, mesh: expected None under a transf"):
        jax.grad(corner)(np.ones(3, np.float32))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method: expected 'auto', 'dense' or 'exact', got 'fas"):
        jxs.landscape(jxs.squared_error, make_data(9), method="fast", **AXES)


def test_a_loss_of_several_scalars_gives_a_landscape_for_each():
    """The same holds under a transformation."""

    def several(weights, data):
        mean = jnp.mean(data.x)
        return {"sum": weights.w1 + weights.w2 + 0 * mean, "product": weights.w1 * weights.w2}

    axes = {"w1": np.array([0.5, 2.0]), "w2": (1, 3, 3)}
    surfaces = jxs.landscape(several, make_data(9), **axes)
    assert list(surfaces) == ["product", "sum"]
    np.testing.assert_allclose(surfaces["product"].loss, np.outer([0.5, 2], [1, 2, 3]))
    np.testing.assert_allclose(surfaces["sum"].loss, np.add.outer([0.5, 2], [1, 2, 3]))
    traced = jax.jit(lambda data: jxs.landscape(several, data, **axes))(make_data(9))
    assert list(traced) == ["product", "sum"]
    np.testing.assert_allclose(traced["product"].loss, surfaces["product"].loss)


def test_a_finite_grid_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jxs.landscape(jxs.squared_error, make_data(9), w1=(0, 1, 3), w2=(0, 1, 4))
