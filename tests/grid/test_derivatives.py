"""Gradients, Hessians and their eigenpairs equal finite differences and NumPy's."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.grid import derivatives as derivatives_module
from jaxscape.grid.derivatives import Derivatives, derivatives
from jaxscape.grid.parabola import parabolas
from jaxscape.planes.plane import weight_plane
from tests import reference

# Not square, not symmetric, and without round numbers.
AXES = {"w1": np.array([-1.37, -0.41, -1e-3, 0.0, 0.77, 2.03]), "w2": (-2.3, 1.1, 5)}
# The float32 error relative to the largest entry of the grid; the largest observed was 5e-7.
FLOAT32 = 2e-6
BOTH = pytest.mark.parametrize("method", ["dense", "exact"])


def make_data(n=41, weighted=False):
    generator = np.random.default_rng(n)
    x, y = generator.normal(0.4, 1.5, n), generator.normal(1, 2, n)
    return jxs.Dataset(x, y, generator.uniform(0, 3, n) if weighted else None)


def differences(function, a, b, step=3e-4):
    """Return the gradient and the Hessian by central differences in float64."""
    f = {
        (i, j): function(a + i * step, b + j * step)
        for i, j in itertools.product((-1, 0, 1), repeat=2)
    }
    gradient = [f[1, 0] - f[-1, 0], f[0, 1] - f[0, -1]]
    cross = (f[1, 1] - f[1, -1] - f[-1, 1] + f[-1, -1]) / 4
    hessian = [
        [f[1, 0] - 2 * f[0, 0] + f[-1, 0], cross],
        [cross, f[0, 1] - 2 * f[0, 0] + f[0, -1]],
    ]
    return np.array(gradient) / (2 * step), np.array(hessian) / step**2


def assert_is_derivative(found, function):
    for i, a in enumerate(np.asarray(found.a.values)):
        for j, b in enumerate(np.asarray(found.b.values)):
            gradient, hessian = differences(function, a, b)
            np.testing.assert_allclose(found.loss[i, j], function(a, b), rtol=1e-12)
            np.testing.assert_allclose(found.gradient[i, j], gradient, rtol=2e-6, atol=2e-6)
            np.testing.assert_allclose(found.hessian[i, j], hessian, rtol=2e-6, atol=2e-5)


@BOTH
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_equal_central_differences(method, weighted, x64):
    data = make_data(weighted=weighted)
    found = derivatives(jxs.squared_error, data, method=method, **AXES)
    assert found.method == method
    assert found.loss.dtype == found.hessian.dtype == jnp.float64
    assert found.gradient.shape == (6, 5, 2)
    assert found.hessian.shape == (6, 5, 2, 2)
    assert_is_derivative(found, lambda w1, w2: reference.loss_at(w1, w2, data))
    np.testing.assert_array_equal(found.hessian, found.hessian.swapaxes(2, 3))


@pytest.mark.parametrize("weighted", [False, True])
def test_both_methods_agree(weighted, x64):
    data = make_data(700, weighted)
    dense, exact = (
        derivatives(jxs.squared_error, data, method=method, **AXES) for method in ("dense", "exact")
    )
    for name in ("loss", "gradient", "hessian", "eigenvalues"):
        one, other = getattr(dense, name), getattr(exact, name)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * float(abs(one).max()))


def test_all_fields_of_a_function_of_two_numbers(x64):
    """The function is 3a²b + e^b, whose derivatives are known, on 4 × 3 values."""
    cubic = jxs.Function(lambda a, b: 3 * a**2 * b + jnp.exp(b))
    found = derivatives(cubic, None, w1=(-1.0, 2.0, 4), w2=(0.5, 1.5, 3))
    a, b = np.meshgrid(found.a.values, found.b.values, indexing="ij")
    np.testing.assert_allclose(found.gradient[..., 0], 6 * a * b)
    np.testing.assert_allclose(found.gradient[..., 1], 3 * a**2 + np.exp(b))
    np.testing.assert_allclose(found.hessian[..., 0, 0], 6 * b)
    np.testing.assert_allclose(found.hessian[..., 0, 1], 6 * a)
    np.testing.assert_allclose(found.hessian[..., 1, 1], np.exp(b))
    np.testing.assert_allclose(found.laplacian, 6 * b + np.exp(b))
    np.testing.assert_allclose(found.laplacian, found.eigenvalues.sum(axis=-1))
    np.testing.assert_allclose(found.gradient_norm, np.linalg.norm(found.gradient, axis=-1))
    np.testing.assert_allclose(found.condition_number, np.linalg.cond(found.hessian), rtol=1e-10)
    assert found.method == found.landscape.method == "dense"
    np.testing.assert_allclose(found.landscape.loss, 3 * a**2 * b + np.exp(b))
    assert (found.landscape.a, found.landscape.b) == (found.a, found.b)


def deep(params, x):
    hidden = jnp.tanh(jnp.outer(x, params["w"]) + jnp.expand_dims(params["c"], 0))
    return hidden @ params["v"]


def deep_plane(first, second):
    """Return a plane through four hidden neurons whose directions move the named leaves only."""
    generator = np.random.default_rng(7)
    origin = {name: generator.normal(0, 1, 4) for name in "wcv"}

    def direction(names):
        return {k: generator.normal(0, 1, 4) if k in names else None for k in origin}

    return jxs.Plane(origin, direction(first), direction(second))


@pytest.mark.parametrize(
    ("first", "second", "method"),
    [("w", "v", "exact"), ("wcv", "v", "exact"), ("v", "w", "dense"), ("wv", "cv", "dense")],
)
def test_derivatives_on_a_plane_of_a_model(first, second, method, x64):
    """Directions have structural zeros; some predictions are not affine in b."""
    data, plane = make_data(23), deep_plane(first, second)
    loss = jxs.squared_error.of(deep)
    found = derivatives(loss, data, plane, a=(-0.9, 1.3, 4), b=(-1.1, 0.7, 3))
    assert found.method == method

    def slow(a, b):
        w, c, v = (
            sum(np.asarray(x) * k for x, k in zip(leaf, (1, a, b), strict=True) if x is not None)
            for leaf in ((plane.origin[n], plane.u[n], plane.v[n]) for n in "wcv")
        )
        prediction = np.tanh(np.outer(data.x, w) + c) @ v
        return np.mean((prediction - np.asarray(data.y)) ** 2)

    assert_is_derivative(found, slow)


def test_exact_is_refused_where_it_does_not_hold():
    data, plane = make_data(23), deep_plane("v", "w")
    axes = {"a": (-1, 1, 3), "b": (-1, 1, 4)}
    message = "method: 'exact' .* not proved to be affine in b, the second"
    with pytest.raises(ValueError, match=message):
        derivatives(jxs.squared_error.of(deep), data, plane, method="exact", **axes)
    with pytest.raises(ValueError, match="holds for squared_error"):
        derivatives(jxs.huber(), data, method="exact", **AXES)


def test_where_exact_is_refused_it_is_wrong():
    """The counterpart of the refusal: there the closed form is far from the derivatives."""
    data, plane = make_data(23), deep_plane("v", "w")
    given = jxs.squared_error.of(deep), plane, jnp.linspace(-1, 1, 3), jnp.linspace(-1, 1, 4), data
    exact, dense = (
        derivatives_module._exact_derivatives(*given),
        derivatives_module._dense_derivatives(*given),
    )
    assert np.max(abs(exact[4] - dense[4])) > 0.1 * np.max(abs(dense[4]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [41, 3000])
@BOTH
def test_float32_derivatives_are_within_the_tolerance(n, weighted, method):
    data = make_data(n, weighted)
    found = derivatives(jxs.squared_error, data, method=method, **AXES)
    assert found.hessian.dtype == np.float32
    assert_near(found, truth(data, found), FLOAT32)


def truth(data, found):
    """Return the derivatives in float64 from the same rounded inputs."""
    axes = {axis.name: reference.numbers(axis.values) for axis in (found.a, found.b)}
    with jax.enable_x64(True):
        data = jax.tree.map(reference.numbers, data)
        return derivatives(jxs.squared_error, data, method="dense", **axes)


def assert_near(found, true, tolerance):
    for name in ("loss", "gradient", "hessian", "eigenvalues"):
        expected = reference.numbers(getattr(true, name))
        error = abs(reference.numbers(getattr(found, name)) - expected).max()
        assert error < tolerance * abs(expected).max(), name


@pytest.mark.slow
def test_the_gradient_keeps_its_digits_near_a_perfect_fit(monkeypatch):
    """It vanishes with the residuals. Moments at w2 = 0, the counterpart, cancel there."""
    axes = jnp.float32(1.5) + jnp.linspace(-2e-3, 2e-3, 5), jnp.float32([0, 0.799, 0.8, 0.801])

    def error(data):
        in_a = derivatives_module._exact_derivatives(
            jxs.squared_error, weight_plane(), *axes, data
        )[1]
        with jax.enable_x64(True):
            wide = jax.tree.map(reference.numbers, (*axes, data))
            dense = derivatives_module._dense_derivatives(jxs.squared_error, weight_plane(), *wide)
            expected = reference.numbers(dense[1])
        return np.max(abs(reference.numbers(in_a) - expected)[:, 1:] / abs(expected[:, 1:]).max())

    several = [jxs.data.teacher_student(jax.random.key(k), 3000) for k in range(4)]
    kept = max(map(error, several))

    def at_zero(*given):
        rows = parabolas(*given)
        return rows._replace(lowest=jnp.zeros_like(rows.lowest))

    monkeypatch.setattr(derivatives_module, "parabolas", at_zero)
    assert kept < 1e-5 < max(map(error, several)) / 3


@BOTH
def test_derivatives_at_and_near_a_slope_of_zero(method):
    """At w1 = 0 the prediction is 0 for every w2; near it, squares of slopes underflow."""
    data = jxs.Dataset([1.0, -2.0, 3.0, 0.5], [2.0, -1.0, 4.0, 0.0])
    x, y = reference.numbers(data.x), reference.numbers(data.y)
    w2 = np.float32([-1.5, 0.25, 3.0])
    found = derivatives(
        jxs.squared_error, data, method=method, w1=np.float32([0, 1e-20, 1e-5]), w2=w2
    )
    for row in (0, 1):
        np.testing.assert_allclose(found.loss[row], np.mean(y * y), rtol=1e-6)
        slope = -2 * np.mean(x * y)
        np.testing.assert_allclose(found.gradient[row, :, 0], w2 * slope, rtol=1e-6)
        np.testing.assert_allclose(found.gradient[row, :, 1], [0, slope * 1e-20][row], rtol=1e-5)
        curved = 2 * w2.astype(float) ** 2 * np.mean(x * x)
        np.testing.assert_allclose(found.hessian[row, :, 0, 0], curved, rtol=1e-5)
        np.testing.assert_allclose(found.hessian[row, :, 0, 1], slope, rtol=1e-6)
        np.testing.assert_allclose(found.hessian[row, :, 1, 1], 0, atol=1e-36)


def random_matrices():
    generator = np.random.default_rng(4)
    plain = generator.normal(0, 1, (200, 2, 2))
    graded = plain * np.exp(generator.uniform(-20, 20, (200, 1, 1)))
    return [plain + plain.swapaxes(1, 2), graded + graded.swapaxes(1, 2)]


def turned(values, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(values) @ turn.T
    return (matrix + matrix.T) / 2


def test_eigenvalues_and_vectors_equal_eigh(x64):
    special = [
        *(turned(v, t) for v in [(1, 1 + 1e-10), (1, 1e-10), (-1, 1e-10), (-1, 1), (-3, -2)]
          for t in (0, 0.1, np.pi / 4, 1.5, 2.9)),
        np.diag([2.0, 3.0]), np.diag([3.0, -2.0]), np.zeros((2, 2)), np.eye(2), np.ones((2, 2)),
        np.array([[0.0, 5], [5, 0]]), np.array([[1e200, 3], [3, 1]]), np.full((2, 2), 1e-200),
    ]  # fmt: skip
    h = np.concatenate([*random_matrices(), special])
    values, vectors = map(
        np.asarray, derivatives_module._eigenpairs(h[:, 0, 0], h[:, 0, 1], h[:, 1, 1])
    )
    size = abs(h).max(axis=(1, 2))
    np.testing.assert_array_less(
        abs(values - np.linalg.eigvalsh(h)).max(axis=1), 1e-15 * size + 1e-300
    )
    assert (values[:, 0] <= values[:, 1]).all()
    np.testing.assert_allclose(
        vectors.swapaxes(1, 2) @ vectors, np.tile(np.eye(2), (len(h), 1, 1)), atol=1e-15
    )
    rest = h @ vectors - vectors * values[:, None, :]
    assert (abs(rest).max(axis=(1, 2)) <= 2e-15 * size).all()


def test_a_small_eigenvalue_has_an_error_of_its_own_size(x64):
    """The determinant does not cancel.

    The difference of mean and radius, and eigh, have an error of 1e-16 of the larger eigenvalue.
    """
    q = 3e-9
    values, _ = derivatives_module._eigenpairs(*map(jnp.array, (1.0, q, 1e-10)))
    # Solve the quadratic equation with more digits than float64.
    p, s = np.longdouble(1), np.longdouble(1e-10)
    exact = (p * s - np.longdouble(q) ** 2) / ((p + s + np.hypot(p - s, 2 * np.longdouble(q))) / 2)
    assert abs(float(values[0]) / float(exact) - 1) < 1e-15
    assert abs((1 + 1e-10) / 2 - np.hypot((1 - 1e-10) / 2, q) - float(exact)) > 1e-9 * float(exact)


def test_the_eigenvalues_of_a_diagonal_matrix_are_its_entries():
    p, s = np.random.default_rng(0).normal(0, 9, (2, 300)).astype(np.float32)
    values, vectors = derivatives_module._eigenpairs(p, np.zeros_like(p), s)
    np.testing.assert_allclose(values, np.sort([p, s], axis=0).T, rtol=3e-7)
    assert set(np.unique(abs(np.asarray(vectors)))) == {0, 1}


def test_nonfinite_values_are_kept_and_counted(x64):
    def holes(a, b):
        """√a is NaN below 0, and at 0 its derivatives are infinite."""
        return jnp.sqrt(a) + b**2

    with pytest.warns(jxs.NonFiniteWarning, match="of 12 cells, 3 .* loss .*, and 3 others a grad"):
        found = derivatives(jxs.Function(holes), None, w1=(-1.0, 2.0, 4), w2=(0.0, 1.0, 3))
    for name in ("eigenvalues", "eigenvectors", "condition_number"):
        values = getattr(found, name)
        assert np.isnan(values[:2]).all(), name
        assert np.isfinite(values[2:]).all(), name
    assert np.isnan(found.loss[0]).all()
    assert np.isposinf(found.gradient[1, :, 0]).all()


def test_a_singular_hessian_has_an_infinite_condition_number():
    found = derivatives(
        jxs.Function(lambda a, b: a**2 + b), None, w1=(0.0, 1.0, 3), w2=(0.0, 1.0, 2)
    )
    assert np.isposinf(found.condition_number).all()


def test_kinks_do_not_contribute():
    """|prediction - target| is linear in w2 between two kinks."""
    found = derivatives(jxs.absolute_error, make_data(), **AXES)
    np.testing.assert_array_equal(found.hessian[..., 1, 1], 0)


def test_other_data_of_the_same_shape_compile_nothing(compilations):
    for method in ("dense", "exact"):
        derivatives(jxs.squared_error, make_data(37), method=method, w1=(-1, 1, 7), w2=(-1, 2, 6))
        first = len(compilations)
        other = jxs.Dataset(make_data(37).y, make_data(37).x)
        derivatives(jxs.squared_error, other, method=method, w1=(-2, 1, 7), w2=(0, 3, 6))
        assert len(compilations) == first > 0


@BOTH
def test_derivatives_need_far_less_memory_than_cells_times_samples(method):
    data = make_data(3000)
    axis = jax.ShapeDtypeStruct((512,), np.float32)
    given = method, jxs.squared_error, weight_plane(), axis, axis, data
    stats = derivatives_module._compute.lower(*given).compile().memory_analysis()
    assert stats.temp_size_in_bytes < 2**25 < 512 * 512 * 3000 * 4 / 64


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 3), (7, 65), (131, 2)])
def test_tiles_need_not_divide_the_grid(shape, monkeypatch):
    """A tile has some hundred cells at this size, and the padding of blocks is cut off."""
    monkeypatch.setattr(derivatives_module, "_TILE_BYTES", 2**17)
    monkeypatch.setattr(derivatives_module, "_MAX_PREDICTIONS", 300)
    data = make_data(50)
    axes = {"w1": (-1.2, 1.9, shape[0]), "w2": (-3, 1, shape[1])}
    found = derivatives(jxs.squared_error, data, method="dense", **axes)
    assert found.hessian.shape == (*shape, 2, 2)
    assert_near(found, derivatives(jxs.squared_error, data, method="exact", **axes), 1e-5)


def test_derivatives_go_through_transformations():
    """The gradient of a curvature with respect to a target equals a difference."""
    data = make_data(11)

    def sharpest(y):
        found = derivatives(jxs.squared_error, jxs.Dataset(data.x, y), w1=(-1, 1, 3), w2=(-2, 1, 4))
        assert isinstance(jax.tree.map(lambda leaf: leaf, found), Derivatives)
        return found.hessian[0, 1, 0, 0]

    y = jnp.asarray(data.y)
    step = jnp.zeros(11).at[3].set(0.5)
    rise = (sharpest(y + step) - sharpest(y - step)) / 1.0
    np.testing.assert_allclose(jax.jit(jax.grad(sharpest))(y)[3], rise, rtol=1e-4)


def test_bad_arguments_are_refused():
    data = make_data()
    with pytest.raises(TypeError, match="plane: expected a Plane, got str"):
        derivatives(jxs.squared_error, data, "plane", **AXES)
    with pytest.raises(TypeError, match="loss: expected a function"):
        derivatives(3, data, **AXES)
    with pytest.raises(TypeError, match="loss: expected a scalar, got an array of shape"):
        derivatives(lambda w, d: w.w1 * d.x, data, **AXES)
    with pytest.raises(ValueError, match="axes: expected w1 and w2, got w1"):
        derivatives(jxs.squared_error, data, w1=(0, 1, 3))
    with pytest.raises(ValueError, match="method: expected 'auto', 'dense' or 'exact', got 'fast'"):
        derivatives(jxs.squared_error, data, method="fast", **AXES)
    column = jxs.Dataset(data.x, np.ones((41, 1)))
    for method in ("dense", "exact"):
        with pytest.raises(ValueError, match="data: expected targets y of the predictions' shape"):
            derivatives(jxs.squared_error, column, method=method, **AXES)
