"""Eigenpairs, traces and densities compared with the eigenvalues of whole matrices."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxscape as jxs
from jaxscape.curvature import lanczos
from jaxscape.curvature.spectrum import Eigenpairs, eigenpairs, hessian_trace, spectral_density
from jaxscape.losses.composed import ComposedLoss
from tests.curvature.helpers import (
    CLASSIFIER,
    KEY,
    cross_entropy,
    logits,
    quadratic,
    with_eigenvalues,
)

# The rounding of sums in another order, relative to the largest eigenvalue.
ROUNDING, ROUNDING_32 = 1e-12, 3e-6


@pytest.fixture
def point(x64):
    """Return a network of 311 parameters, and 40 samples."""
    generator = np.random.default_rng(1)
    params = [
        (generator.normal(0, a**-0.5, (a, b)), generator.normal(0, 0.3, b))
        for a, b in itertools.pairwise((6, 12, 14, 3))
    ]
    data = {"x": generator.normal(0, 1, (40, 6)), "label": generator.integers(0, 3, 40)}
    return params, data


def whole(point, curvature):
    """Return the whole matrix, computed once for all tests."""
    if curvature not in _WHOLE:
        function = {"hessian": hessian, "gauss-newton": gauss_newton}[curvature]
        _WHOLE[curvature] = np.asarray(jax.jit(function)(*point))
    return _WHOLE[curvature]


_WHOLE = {}


def hessian(params, data):
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda flat: CLASSIFIER(unravel(flat), data))(flat)


def gauss_newton(params, data):
    flat, unravel = ravel_pytree(params)
    outputs = logits(params, data)
    jacobian = jax.jacobian(lambda flat: logits(unravel(flat), data).ravel())(flat)
    inner = jax.hessian(lambda o: cross_entropy(o.reshape(outputs.shape), data))(outputs.ravel())
    return jacobian.T @ inner @ jacobian


def flat_rows(vectors, k):
    return np.stack(
        [ravel_pytree(jax.tree.map(lambda leaf, i=i: leaf[i], vectors))[0] for i in range(k)]
    )


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_eigenpairs_of_a_network_are_those_of_the_whole_matrix(point, curvature):
    params, data = point
    values, vectors = np.linalg.eigh(whole(point, curvature))
    size = np.abs(values).max()
    assert len(values) == 84 + 182 + 45
    # The smallest eigenvalues of the Gauss–Newton matrix are many zeros.
    for which in ("largest", "magnitude") + ("smallest",) * (curvature == "hessian"):
        order = np.argsort({"largest": -values, "smallest": values}.get(which, -np.abs(values)))[:4]
        found = eigenpairs(
            CLASSIFIER, data, params, 4, KEY, which=which, curvature=curvature, tolerance=1e-9
        )
        np.testing.assert_allclose(found.values, values[order], atol=ROUNDING * size)
        rows = flat_rows(found.vectors, 4)
        np.testing.assert_allclose(np.abs(np.sum(rows.T * vectors[:, order], 0)), 1, rtol=1e-9)
        assert (found.residual <= 1e-9 * size).all()
        assert found.converged.all()


def test_the_loss_curves_along_a_plane_of_eigenvectors_by_the_eigenvalues(point):
    """The mixed second difference is zero."""
    params, data = point
    loss = jax.jit(CLASSIFIER)
    found = eigenpairs(loss, data, params, 3, KEY)
    plane = found.plane(params, (2, 0))
    step = 1e-3
    at = {
        (a, b): float(loss(plane.at(a * step, b * step), data))
        for a in (-1, 0, 1)
        for b in (-1, 0, 1)
    }
    bends = [at[1, 0] + at[-1, 0] - 2 * at[0, 0], at[0, 1] + at[0, -1] - 2 * at[0, 0]]
    np.testing.assert_allclose(np.array(bends) / step**2, found.values[[2, 0]], rtol=1e-3)
    mixed = (at[1, 1] + at[-1, -1] - at[1, -1] - at[-1, 1]) / (4 * step**2)
    assert abs(mixed) < 1e-4 * found.values[0]
    assert plane.units == tuple(f"eigenvector {k + 1}, λ = {found.values[k]:.4g}" for k in (2, 0))
    lost = found._replace(converged=np.array([True, False, True]))
    assert lost.plane(params).units[1].endswith(", not converged")
    for pairs in ((0, 3), (-1, 0), (1, 1), (0, 1, 0), (2,)):
        with pytest.raises(
            ValueError, match="different indices of two of the 3 eigenpairs that were found"
        ):
            found.plane(params, pairs)


def test_the_residual_bounds_the_error_at_any_tolerance(point):
    params, data = point
    values = np.linalg.eigvalsh(whole(point, "hessian"))
    errors = []
    for tolerance in (1e-1, 1e-2, 1e-9):
        found = eigenpairs(CLASSIFIER, data, params, 5, KEY, tolerance=tolerance)
        error = np.abs(found.values[:, None] - values).min(axis=1)
        assert (error <= found.residual + ROUNDING).all()
        errors.append(found.residual.max())
    assert errors[0] > errors[1] > errors[2]


def test_equal_eigenvalues_are_found_with_their_multiplicity(x64):
    """Their vectors are an orthonormal basis of their eigenspace."""
    values = np.r_[np.linspace(-1, 1, 95), 5, 5, 5, 8, 8]
    matrix = with_eigenvalues(values)
    found = eigenpairs(quadratic, matrix, np.zeros(100), 6, KEY, tolerance=1e-10)
    np.testing.assert_allclose(found.values, [8, 8, 5, 5, 5, 1], rtol=1e-9)
    rows = np.asarray(found.vectors)
    np.testing.assert_allclose(rows @ rows.T, np.eye(6), atol=1e-8)
    np.testing.assert_allclose(rows @ matrix, found.values[:, None] * rows, atol=1e-8)


@pytest.mark.parametrize(
    ("n", "k"), [(3, 1), (3, 2), (3, 3), (64, 5), (70, 69), (70, 70), (70, 35)]
)
def test_all_eigenvalues_of_a_small_matrix_can_be_found(n, k):
    """ARPACK finds at most n - 2 of them; the whole matrix gives all."""
    values = np.linspace(-3, 2, n) ** 3
    matrix = with_eigenvalues(values, np.float32)
    found = eigenpairs(quadratic, matrix, np.zeros(n), k, KEY, which="magnitude")
    expected = values[np.argsort(-np.abs(values))[:k]]
    np.testing.assert_allclose(found.values, expected, atol=27 * ROUNDING_32)
    assert found.vectors.shape == (k, n)
    assert found.converged.all()


def test_a_matrix_of_zeros_has_eigenvalues_zero():
    def line(p, data):
        return jnp.sum(p)

    found = eigenpairs(line, None, np.zeros(100), 3, KEY)
    np.testing.assert_array_equal(found.values, 0)
    assert found.converged.all()
    assert hessian_trace(line, None, np.zeros(100), KEY, samples=12) == (0, 0)
    density = spectral_density(line, None, np.zeros(100), KEY, steps=10)
    assert density.eigenvalues[np.argmax(density.density)] == pytest.approx(0, abs=density.width)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("flat", "k"), [(1, 1), (1, 3), (5, 3), (5, 7)])
def test_flat_directions_are_at_the_end_of_the_spectrum(dtype, flat, k):
    """ARPACK alone misses eigenvalues 0, and finds one of several."""
    values = np.r_[np.zeros(flat), np.linspace(0.01, 1, 90 - flat)]
    with jax.enable_x64(dtype == np.float64):
        for which, sign in (("smallest", 1), ("largest", -1)):
            matrix, start = with_eigenvalues(sign * values, dtype), np.zeros(90, dtype)
            found = eigenpairs(quadratic, matrix, start, k, KEY, which=which)
            np.testing.assert_allclose(sign * found.values, values[:k], atol=1e-6)
            rows = np.asarray(found.vectors)
            np.testing.assert_allclose(rows @ rows.T, np.eye(k), atol=1e-3)
            assert found.converged.all()


def test_equal_rows_of_data_and_one_hot_columns_have_flat_directions():
    """A feature twice, an intercept with all one-hot columns, and an unused parameter."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(300, 90))
    x[:, 7] = x[:, 3]
    x[:, 80:] = np.eye(10)[generator.integers(0, 10, 300)]
    data = jxs.Dataset(x.astype(np.float32), x[:, 1].astype(np.float32))

    def model(p, x):
        return x @ p["w"] + p["intercept"]

    params = {"w": np.zeros(90, np.float32), "intercept": np.float32(0), "unused": np.float32(1)}
    loss = jxs.squared_error.of(model)
    found = eigenpairs(loss, data, params, 4, KEY, which="smallest")
    np.testing.assert_allclose(found.values[:3], 0, atol=1e-6)
    assert found.values[3] > 1e-3
    assert found.converged.all()


@pytest.mark.parametrize("which", ["smallest", "largest"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_multiple_of_the_identity_has_one_eigenvalue(which, sign):
    identity = sign * np.eye(90, dtype=np.float32)
    found = eigenpairs(quadratic, identity, np.zeros(90), 3, KEY, which=which)
    np.testing.assert_allclose(found.values, sign, rtol=1e-6)


def test_eigenvalues_of_all_sizes_are_found_up_to_rounding():
    values = 10 ** np.linspace(-8, 4, 90)
    matrix = with_eigenvalues(values, np.float32)
    found = eigenpairs(quadratic, matrix, np.zeros(90), 2, KEY, which="smallest")
    np.testing.assert_allclose(found.values, values[:2], atol=1e4 * ROUNDING_32)
    assert found.converged.all()


@pytest.mark.parametrize(("scale", "dtype"), [
    (1e-14, np.float32), (1e-30, np.float32), (1e30, np.float32), (1e-200, np.float64),
])  # fmt: skip
def test_eigenpairs_do_not_depend_on_the_unit_of_the_loss(scale, dtype):
    with jax.enable_x64(dtype == np.float64):
        matrix = with_eigenvalues(np.r_[-0.5, np.linspace(0, 1, 89)], dtype)
        for which in ("smallest", "largest"):
            unit, other = (
                eigenpairs(quadratic, s * matrix, np.zeros(90, dtype), 2, KEY, which=which)
                for s in (dtype(1), dtype(scale))
            )
            np.testing.assert_allclose(other.values / scale, unit.values, atol=1e-6)
            assert other.converged.all()
            assert (other.residual > 0).all()


def test_converged_is_decided_by_the_residual():
    """Products in float32 leave residuals that ARPACK's estimates do not show."""
    matrix = with_eigenvalues(np.linspace(-1, 2, 90), np.float32)
    for tolerance, converged in ((1e-10, False), (1e-4, True)):
        found = eigenpairs(quadratic, matrix, np.zeros(90), 3, KEY, tolerance=tolerance)
        assert found.converged.tolist() == [converged] * 3
        rows = np.asarray(found.vectors)
        residual = np.linalg.norm(rows @ matrix - found.values[:, None] * rows, axis=1)
        np.testing.assert_allclose(found.residual, residual, atol=ROUNDING_32)
        np.testing.assert_allclose(found.values, np.linspace(-1, 2, 90)[:-4:-1], atol=2e-4)


def test_eigenpairs_that_do_not_converge_are_nan(monkeypatch, x64):
    monkeypatch.setattr(lanczos, "_MAX_RESTARTS", 1)
    matrix = with_eigenvalues(np.linspace(0, 1, 500))
    arguments = quadratic, matrix, np.zeros(500), 3, KEY
    found = eigenpairs(*arguments, tolerance=1e-12)
    np.testing.assert_allclose(found.values, np.linspace(0, 1, 500)[:-4:-1], rtol=1e-12)
    monkeypatch.setattr(lanczos, "_MAX_DENSE", 499)
    with pytest.warns(jxs.NonFiniteWarning, match="of 3 eigenpairs did not converge and are NaN"):
        found = eigenpairs(*arguments, tolerance=1e-12)
    assert not found.converged.any()
    assert np.isnan(found.values).any()
    assert np.isnan(found.residual[np.isnan(found.values)]).all()


@pytest.mark.parametrize("n", [10, 100])
def test_the_spectrum_of_a_matrix_that_is_not_finite_is_nan(x64, n):
    def steep(p, data):
        return jnp.sum(jnp.exp(p))

    high = np.full(n, 800.0)
    with pytest.warns(jxs.NonFiniteWarning, match="2 of 2 eigenpairs are NaN, because a product"):
        found = eigenpairs(steep, None, high, 2, KEY)
    assert np.isnan(found.values).all()
    assert not found.converged.any()
    with pytest.warns(jxs.NonFiniteWarning, match="the trace is .*, because a product of the Hes"):
        trace = hessian_trace(steep, None, high, KEY, samples=20)
    assert not np.isfinite(trace.value)
    assert np.isnan(trace.error)
    with pytest.warns(jxs.NonFiniteWarning, match="the density is nan, because a product"):
        density = spectral_density(steep, None, high, KEY, steps=20)
    assert np.isnan(density.density).all()


@pytest.mark.parametrize("method", ["hutch++", "hutchinson"])
def test_the_error_of_a_trace_is_its_standard_error(point, method):
    """With a correct standard error, 92 to 95 % of the estimates lie within two of it."""
    params, data = point
    truth = np.trace(whole(point, "hessian"))
    found = np.array(
        [
            hessian_trace(CLASSIFIER, data, params, key, samples=30, method=method)
            for key in jax.random.split(KEY, 150)
        ]
    )
    error = found[:, 0] - truth
    assert 0.86 < np.mean(np.abs(error) <= 2 * found[:, 1]) < 0.99
    # The estimate is unbiased.
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(150)
    assert (found[:, 1] > 0).all()


def test_hutch_plus_plus_is_more_accurate_if_eigenvalues_decay_quickly(x64):
    """If all have the same size it is less accurate: only a third of the samples estimate."""
    ratio = {}
    for name, values in (
        ("decaying", 1 / np.arange(1.0, 121) ** 2),
        ("flat", np.where(np.arange(120) % 2, 1.0, -1.0)),
    ):
        matrix = with_eigenvalues(values)
        spread = [
            np.std(
                [
                    hessian_trace(
                        quadratic, matrix, np.zeros(120), key, samples=30, method=method
                    ).value
                    for key in jax.random.split(KEY, 60)
                ]
            )
            for method in ("hutch++", "hutchinson")
        ]
        ratio[name] = spread[0] / spread[1]
    assert ratio["decaying"] < 0.1
    assert 1.2 < ratio["flat"] < 2.2


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_with_as_many_samples_as_parameters_the_trace_is_exact(point, curvature):
    params, data = point
    found = hessian_trace(CLASSIFIER, data, params, KEY, samples=311, curvature=curvature)
    assert found.error == 0
    assert found.value == pytest.approx(np.trace(whole(point, curvature)), rel=ROUNDING)
    assert hessian_trace(CLASSIFIER, data, params, KEY, samples=310, curvature=curvature).error > 0


def smoothed(values, at, width):
    kernel = np.exp(-(((at[:, None] - values) / width) ** 2) / 2) / width / np.sqrt(2 * np.pi)
    return kernel.mean(axis=1)


@pytest.mark.parametrize("steps", [40, 311])
def test_the_density_is_that_of_all_eigenvalues_to_its_error(point, steps):
    """The error is four standard errors, or rounding with as many steps as parameters."""
    params, data = point
    values = np.linalg.eigvalsh(whole(point, "hessian"))
    found = spectral_density(CLASSIFIER, data, params, KEY, steps=steps)
    at, truth = found.eigenvalues, smoothed(values, found.eigenvalues, found.width)
    assert found.width == pytest.approx((values[-1] - values[0]) / steps, rel=1e-6)
    # The bias of a quadrature of this degree for a kernel of this width is about exp(-8).
    bias = 1e-9 if steps == 311 else 4e-4
    assert (np.abs(found.density - truth) <= 4 * found.error + bias * truth.max()).all()
    assert np.trapezoid(found.density, at) == pytest.approx(1, abs=1e-8)
    assert found.error.any() == (steps == 40)


def test_moments_and_quantiles_of_the_quadrature_are_those_of_the_spectrum(point):
    params, data = point
    values = np.linalg.eigvalsh(whole(point, "hessian"))
    found = spectral_density(CLASSIFIER, data, params, KEY, probes=20, steps=40)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=ROUNDING)
    for power in (1, 2, 3):
        each = np.sum(found.weights * found.nodes**power, axis=1)
        error = each.std(ddof=1) / np.sqrt(20)
        assert abs(each.mean() - np.mean(values**power)) < 3 * error
    for level in np.quantile(values, [0.02, 0.1, 0.9, 0.98]):
        each = np.sum(found.weights * (found.nodes <= level), axis=1)
        assert each.mean() == pytest.approx(np.mean(values <= level), abs=0.03)


def test_the_error_of_a_density_is_the_spread_over_keys(x64):
    matrix = with_eigenvalues(np.random.default_rng(0).normal(size=150))
    found = [
        spectral_density(quadratic, matrix, np.zeros(150), key, probes=6, steps=30, width=0.05)
        for key in jax.random.split(KEY, 40)
    ]
    at = np.linspace(-1.5, 1.5, 7)
    values, errors = (
        np.array([np.interp(at, one.eigenvalues, part(one)) for one in found])
        for part in (lambda one: one.density, lambda one: one.error)
    )
    error = np.sqrt(np.mean(errors**2, axis=0))
    assert 0.8 < np.mean(values.std(axis=0, ddof=1) / error) < 1.25


def test_results_over_a_stream_are_those_of_all_data(point):
    params, data = point
    stream = jxs.Stream(
        [jax.tree.map(lambda leaf, s=s: leaf[s], data) for s in (slice(0, 25), slice(25, 40))]
    )
    of_all, of_parts = (
        (
            eigenpairs(CLASSIFIER, d, params, 2, KEY, tolerance=1e-9).values,
            hessian_trace(CLASSIFIER, d, params, KEY, samples=12),
            spectral_density(CLASSIFIER, d, params, KEY, probes=2, steps=10).density,
        )
        for d in (data, stream)
    )
    for whole_data, parts in zip(of_all, of_parts, strict=True):
        np.testing.assert_allclose(parts, whole_data, rtol=1e-8, atol=1e-8)


def test_the_eigenvalues_of_an_equinox_model_are_those_of_its_whole_hessian():
    key = jax.random.key(2)
    model = eqx.filter_jit(lambda: eqx.nn.MLP(6, 3, 8, 2, activation=jnp.tanh, key=key))()
    generator = np.random.default_rng(1)
    data = {"x": generator.normal(0, 1, (40, 6)), "label": generator.integers(0, 3, 40)}
    data["x"] = data["x"].astype(np.float32)
    loss = ComposedLoss(lambda model, data: jax.vmap(model)(data["x"]), cross_entropy)
    found = eigenpairs(loss, data, model, 3, KEY)
    moving, still = eqx.partition(model, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(moving)
    of_flat = jax.hessian(lambda flat: loss(eqx.combine(unravel(flat), still), data))
    values = np.linalg.eigvalsh(np.asarray(jax.jit(of_flat)(flat), float))
    # The error of a value is the square of its residual, divided by the gap to the next value.
    np.testing.assert_allclose(found.values, values[:-4:-1], atol=1e-5 * values[-1])
    assert found.converged.all()
    assert hessian_trace(loss, data, model, KEY, samples=999).value == pytest.approx(
        values.sum(), rel=1e-4
    )


def test_leaves_selects_the_parameters_of_the_matrix(x64):
    """Batch statistics, for instance, are not trained."""
    rng = np.random.default_rng(2)
    params = {"w": jnp.asarray(rng.normal(size=(4, 3))), "statistics": {"mean": jnp.ones(3)}}

    def loss(params, x):
        return jnp.mean(jnp.tanh(x @ params["w"] - params["statistics"]["mean"][None]) ** 4)

    x = jnp.asarray(rng.normal(size=(20, 4)))
    chosen = {"leaves": lambda path: "statistics" not in path}
    whole = jax.hessian(lambda w: loss(params | {"w": w.reshape(4, 3)}, x))(params["w"].ravel())
    values = np.linalg.eigvalsh(whole)
    found = eigenpairs(loss, x, params, 2, KEY, **chosen)
    np.testing.assert_allclose(found.values, values[:-3:-1], atol=ROUNDING)
    assert found.vectors["statistics"]["mean"] is None
    assert found.plane(params).u["statistics"]["mean"] is None
    total = hessian_trace(loss, x, params, KEY, **chosen)
    np.testing.assert_allclose(total.value, values.sum(), atol=ROUNDING)
    density = spectral_density(loss, x, params, KEY, **chosen)
    np.testing.assert_allclose(density.nodes[0], values, atol=ROUNDING)
    with pytest.raises(ValueError, match="params, leaves: expected floating numbers, got none"):
        hessian_trace(loss, x, params, KEY, leaves=lambda path: False)


def test_the_loss_curves_along_eigenvectors_by_the_eigenvalues():
    """Eigenvectors are directions for lines and planes."""
    matrix = with_eigenvalues(np.r_[np.linspace(-1, 1, 88), 6, 9], np.float32)

    def loss(params, data):
        return quadratic(jnp.concatenate([params["a"].ravel(), params["f"](params["b"])]), data)

    params = {"a": jnp.ones((4, 20)), "b": jnp.ones(10), "f": jnp.negative, "n": 3}
    found = eigenpairs(loss, matrix, params, 3, KEY)
    around = jxs.connectivity.lines(loss, matrix, params, found.vectors, t=(-1, 1, 3)).loss
    bent = around[:, 0] - 2 * around[:, 1] + around[:, 2]
    np.testing.assert_allclose(bent, found.values, rtol=1e-4)
    u, v = (jax.tree.map(lambda leaf, i=i: leaf[i], found.vectors) for i in (0, 1))
    plane = jxs.Plane(params, u, v)
    at_origin = [float(loss(plane.at(*c), matrix)) for c in ((1, 0), (-1, 0), (0, 0))]
    assert at_origin[0] + at_origin[1] - 2 * at_origin[2] == pytest.approx(9, rel=1e-4)


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1e-14, np.float32), (1e-30, np.float32), (1e-200, np.float64)]
)
def test_traces_and_densities_do_not_depend_on_the_unit_of_the_loss(scale, dtype):
    with jax.enable_x64(dtype == np.float64):
        matrix = with_eigenvalues(np.r_[-0.5, np.linspace(0, 1, 89)], dtype)
        start = np.zeros(90, dtype)
        unit, other = (
            (
                *hessian_trace(quadratic, dtype(s) * matrix, start, KEY, samples=30),
                spectral_density(quadratic, dtype(s) * matrix, start, KEY, steps=30),
            )
            for s in (1, scale)
        )
    np.testing.assert_allclose(np.divide(other[:2], scale), unit[:2], rtol=1e-4)
    np.testing.assert_allclose(other[2].density * scale, unit[2].density, atol=1e-3)
    np.testing.assert_allclose(other[2].error * scale, unit[2].error, atol=1e-3)


@pytest.mark.parametrize("n", [5, 90])
def test_leaves_of_size_0_have_no_part_in_the_matrix(n):
    matrix = with_eigenvalues(np.linspace(1, 2, n), np.float32)
    params = {"a": np.zeros((0, 3), np.float32), "b": np.zeros(n, np.float32)}

    def loss(params, matrix):
        return quadratic(params["b"], matrix) + jnp.sum(params["a"])

    found = eigenpairs(loss, matrix, params, 2, KEY)
    assert found.values[0] == pytest.approx(2, rel=1e-5)
    assert found.vectors["a"].shape == (2, 0, 3)
    assert hessian_trace(loss, matrix, params, KEY).value == pytest.approx(1.5 * n, rel=1e-5)
    assert np.isfinite(spectral_density(loss, matrix, params, KEY, steps=9).density).all()


def test_calls_of_equal_shapes_compile_nothing(compilations):
    for seed in (1, 2):
        before = len(compilations)
        matrix = with_eigenvalues(np.linspace(-seed, 2, 90), np.float32)
        key, params = jax.random.key(seed), np.full(90, seed, np.float32)
        eigenpairs(quadratic, matrix, params, 3, key)
        hessian_trace(quadratic, matrix, params, key, samples=30)
        spectral_density(quadratic, matrix, params, key, probes=3, steps=10)
    assert len(compilations) == before > 0


def test_ctrl_c_during_a_pass_over_a_stream_raises():
    passes = []

    def source():
        passes.append(0)
        if len(passes) == 3:
            raise KeyboardInterrupt
        yield with_eigenvalues(np.linspace(-1, 2, 200), np.float32)

    for work, arguments in ((eigenpairs, (3,)), (hessian_trace, ()), (spectral_density, ())):
        passes.clear()
        stream = jxs.Stream(source, weight=lambda _: 1)
        with pytest.raises(KeyboardInterrupt):
            work(quadratic, stream, np.zeros(200), *arguments, KEY)
        assert len(passes) == 3


def test_bad_arguments_are_refused_before_anything_is_computed(compilations):
    matrix, params = jnp.eye(70), jnp.zeros(70)

    def refused(error, match, work, *arguments, data=matrix, params=params, **options):
        with pytest.raises(error, match=match):
            work(quadratic, data, params, *arguments, **options)

    before = len(compilations)
    for k in (0, -1):
        refused(ValueError, f"k: expected 1 or more, got {k}", eigenpairs, k, KEY)
    refused(ValueError, "k: expected 1 to 70, the number of", eigenpairs, 71, KEY)
    refused(TypeError, "k: expected a whole number, got 2.0", eigenpairs, 2.0, KEY)
    refused(ValueError, "tolerance: expected .* got 0", eigenpairs, 2, KEY, tolerance=0)
    refused(ValueError, "which: expected 'largest'.* got 'LM'", eigenpairs, 2, KEY, which="LM")
    refused(ValueError, "samples: expected 6 or more, got 5", hessian_trace, KEY, samples=5)
    refused(ValueError, "2 or more, got 1", hessian_trace, KEY, samples=1, method="hutchinson")
    refused(ValueError, "method: expected 'hutch", hessian_trace, KEY, method="xtrace")
    refused(ValueError, "probes: expected 1 or more", spectral_density, KEY, probes=0)
    refused(ValueError, "steps: expected 2 or more", spectral_density, KEY, steps=1)
    for width in (0, 2, float("nan")):
        refused(ValueError, "width: expected a fraction", spectral_density, KEY, width=width)
    for work, arguments in ((eigenpairs, (2,)), (hessian_trace, ()), (spectral_density, ())):
        refused(TypeError, "key: expected a JAX random key", work, *arguments, 0)
        refused(TypeError, "loss: expected a Poin", work, *arguments, KEY, curvature="gauss-newton")
        refused(ValueError, "data: .* at least one", work, *arguments, KEY, data=jxs.Stream([]))
        bad = np.full(70, np.inf, np.float32)
        refused(ValueError, "params: expected finite", work, *arguments, KEY, params=bad)
    assert len(compilations) == before


def test_results_are_printed_with_their_ranges():
    matrix = with_eigenvalues(np.r_[np.linspace(-1, 1, 88), 6, 9], np.float32)
    density = spectral_density(quadratic, matrix, np.zeros(90), KEY, steps=30)
    assert repr(density).startswith("SpectralDensity(Hessian of quadratic, 90 eigenvalues from -")
    assert "10 probes of 30 steps, width 0.3" in repr(density)
    pairs = Eigenpairs(np.array([9.0, 6]), None, np.zeros(2), np.array([True, False]), "H")
    assert repr(pairs) == "Eigenpairs(2 of the H, from 9 to 6, 1 converged)"
