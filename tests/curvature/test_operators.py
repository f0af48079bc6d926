"""Products of Hessians and Gauss–Newton matrices with vectors, compared with whole matrices."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxscape as jxs
from jaxscape._util.progress import bar
from jaxscape.curvature import operators
from jaxscape.curvature.operators import make_operator
from jaxscape.losses.composed import ComposedLoss
from tests.curvature.helpers import cross_entropy

# The rounding of sums in another order, in float64 and in float32.
ROUNDING, ROUNDING_32 = 1e-12, 2e-6


def network(sizes, seed=0, dtype=float):
    generator = np.random.default_rng(seed)
    return [
        {
            "w": generator.normal(0, a**-0.5, (a, b)).astype(dtype),
            "b": generator.normal(0, 0.3, b).astype(dtype),
        }
        for a, b in itertools.pairwise(sizes)
    ]


def predict(params, x):
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"][None])
    return x @ params[-1]["w"] + params[-1]["b"][None]


def logits(params, data):
    return predict(params, data["x"])


CLASSIFIER = ComposedLoss(logits, cross_entropy)
REGRESSION = jxs.squared_error.of(predict)


def labeled(n=23, dtype=float):
    generator = np.random.default_rng(1)
    return {"x": generator.normal(0, 1, (n, 4)).astype(dtype), "label": np.arange(n) % 3}


def weighted():
    generator = np.random.default_rng(2)
    return jxs.Dataset(
        generator.normal(0, 1, (17, 4)), generator.normal(0, 1, (17, 3)), np.arange(1.0, 18)
    )


def multiply(operator, vectors):
    with bar(None, "products") as progress:
        return operator.times(np.asarray(vectors, float), progress)


def dense(operator):
    return multiply(operator, np.eye(operator.size))


def hessian(loss, params, data):
    flat, unravel = ravel_pytree(params)
    return jax.jit(jax.hessian(lambda flat: loss(unravel(flat), data)))(flat)


@functools.partial(jax.jit, static_argnums=0)
def gauss_newton(loss, params, data):
    """Compute Jᵀ·H·J from whole matrices."""
    flat, unravel = ravel_pytree(params)
    outputs = loss.predict(params, data)
    jacobian = jax.jacobian(lambda flat: loss.predict(unravel(flat), data).ravel())(flat)
    inner = jax.hessian(lambda o: loss.output_loss(o.reshape(outputs.shape), data))(outputs.ravel())
    return jacobian.T @ inner @ jacobian


@pytest.mark.parametrize(
    ("loss", "data"), [(CLASSIFIER, labeled), (REGRESSION, weighted)], ids=["classes", "weights"]
)
def test_hessian_products_are_those_of_the_whole_hessian(x64, loss, data):
    params, data = network((4, 6, 3)), data()
    operator = make_operator(loss, data, params, "hessian")
    whole = np.asarray(hessian(loss, params, data))
    assert operator.size == len(whole) == 51
    vectors = np.random.default_rng(3).normal(size=(5, 51))
    np.testing.assert_allclose(multiply(operator, vectors), vectors @ whole, atol=ROUNDING)
    np.testing.assert_allclose(multiply(operator, vectors[:1]), vectors[:1] @ whole, atol=ROUNDING)


def test_gauss_newton_products_are_those_of_the_whole_matrix(x64):
    params, data = network((4, 6, 3)), labeled()
    whole = np.asarray(gauss_newton(CLASSIFIER, params, data))
    operator = make_operator(CLASSIFIER, data, params, "gauss-newton")
    np.testing.assert_allclose(dense(operator), whole, atol=ROUNDING)
    assert np.linalg.eigvalsh(whole)[0] > -ROUNDING


def test_the_gauss_newton_matrix_of_a_pointwise_loss_uses_its_sample_weights(x64):
    params, data = network((4, 6, 3)), weighted()
    composed = ComposedLoss(
        lambda params, data: predict(params, data.x),
        lambda outputs, data: (
            jnp.sum(data.sample_weight[:, None] * (outputs - data.y) ** 2)
            / (3 * jnp.sum(data.sample_weight))
        ),
    )
    product = dense(make_operator(REGRESSION, data, params, "gauss-newton"))
    np.testing.assert_allclose(product, gauss_newton(composed, params, data), atol=ROUNDING)


@pytest.mark.parametrize("loss", [CLASSIFIER, REGRESSION], ids=["classes", "regression"])
def test_the_two_matrices_are_equal_for_a_linear_model_only(x64, loss):
    """A model with a hidden layer is not linear in its parameters, and its matrices differ."""
    data = labeled() if loss is CLASSIFIER else weighted()
    for sizes, equal in (((4, 3), True), ((4, 6, 3), False)):
        both = [
            dense(make_operator(loss, data, network(sizes), kind))
            for kind in ("hessian", "gauss-newton")
        ]
        assert np.allclose(*both, atol=ROUNDING) == equal
        assert (np.abs(both[0] - both[1]).max() > 0.01) != equal


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_the_matrix_over_a_stream_is_that_of_all_data(x64, curvature):
    params, data = network((4, 6, 3)), labeled()
    stream = jxs.Stream(
        [jax.tree.map(lambda leaf, s=s: leaf[s], data) for s in (slice(0, 10), slice(10, 23))]
    )
    whole, parts = (dense(make_operator(CLASSIFIER, d, params, curvature)) for d in (data, stream))
    np.testing.assert_allclose(parts, whole, atol=ROUNDING)
    # With equal weights for batches of different sizes it is a different matrix.
    equal = jxs.Stream(stream._source, weight=lambda _: 1)
    other = dense(make_operator(CLASSIFIER, equal, params, curvature))
    assert np.abs(other - whole).max() > 1e3 * ROUNDING


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("features", [10, 80])
def test_a_stream_with_other_samples_in_a_later_pass_is_refused(curvature, features):
    """80 parameters need several passes; over 10, the only pass is compared with an extra one."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(123, features)).astype(np.float32)
    data, key = jxs.Dataset(x, x[:, 0]), jax.random.key(0)
    loss, params = jxs.squared_error.of(lambda w, x: x @ w), jnp.ones(features)
    compute = {
        "trace": lambda data: (
            jxs.curvature.hessian_trace(
                loss, data, params, key, samples=10, curvature=curvature
            ).value
        ),
        "pairs": lambda data: (
            jxs.curvature.eigenpairs(loss, data, params, 2, key, curvature=curvature).values
        ),
        "density": lambda data: (
            jxs.curvature.spectral_density(
                loss, data, params, key, probes=2, steps=12, curvature=curvature
            ).nodes
        ),
    }

    def stream(end):
        def source():
            order = generator.permutation(123)[:end]
            for start in range(0, end, 30):
                yield jxs.Dataset(x[order[start : start + 30]], x[order[start : start + 30], 0])

        return jxs.Stream(source)

    for function in compute.values():
        np.testing.assert_allclose(function(stream(123)), function(data), rtol=1e-3, atol=1e-4)
        with pytest.raises(ValueError, match="data: expected the same samples in every pass"):
            function(stream(120))


def test_many_vectors_are_multiplied_in_blocks(x64, monkeypatch):
    params, data, passes = network((4, 6, 3)), labeled(), []

    def source():
        passes.append(0)
        yield data

    vectors = np.random.default_rng(3).normal(size=(10, 51))
    monkeypatch.setattr(operators, "_MAX_ROWS", 4)
    operator = make_operator(CLASSIFIER, jxs.Stream(source), params, "hessian")
    passes.clear()
    product = multiply(operator, vectors)
    assert len(passes) == 1 + 3  # the first pass computes the loss
    whole = np.asarray(hessian(CLASSIFIER, params, data))
    np.testing.assert_allclose(product, vectors @ whole, atol=ROUNDING)


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_float32_products_are_accurate_to_rounding(curvature):
    params, data = network((4, 6, 3), dtype=np.float32), labeled(dtype=np.float32)
    operator = make_operator(CLASSIFIER, data, params, curvature)
    assert operator.dtype == jnp.float32
    truth = hessian if curvature == "hessian" else gauss_newton
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(float), params)
        whole = truth(CLASSIFIER, wide, labeled(dtype=np.float32))
    np.testing.assert_allclose(dense(operator), whole, atol=ROUNDING_32)


def test_leaves_that_are_not_floating_do_not_move(x64):
    """Such leaves are functions, whole numbers and keys, also within an Equinox module."""
    key = jax.random.key(0)
    model = eqx.filter_jit(lambda: eqx.nn.MLP(4, 3, 5, 1, activation=jnp.tanh, key=key))()
    params = {"model": model, "power": 2, "shift": jnp.arange(3), "key": jax.random.key(3)}

    def loss(params, data):
        outputs = jax.vmap(params["model"])(data["x"]) + params["shift"][None]
        noise = jax.random.normal(params["key"], outputs.shape)
        return jnp.mean((outputs + noise) ** params["power"])

    data = labeled()
    moving, still = eqx.partition(params, eqx.is_inexact_array)
    whole = hessian(lambda m, data: loss(eqx.combine(m, still), data), moving, data)
    operator = make_operator(loss, data, params, "hessian")
    assert operator.size == 4 * 5 + 5 + 5 * 3 + 3
    np.testing.assert_allclose(dense(operator), whole, atol=ROUNDING)
    directions = operator.directions(np.arange(2.0 * operator.size).reshape(2, -1))
    assert directions["power"] is None
    assert directions["key"] is None
    assert directions["model"].layers[0].weight.shape == (2, 5, 4)
    for i in range(2):
        flat, _ = ravel_pytree(jax.tree.map(lambda leaf, i=i: leaf[i], directions))
        np.testing.assert_array_equal(flat, np.arange(43) + 43 * i)


def test_python_floats_are_parameters():
    x = np.random.default_rng(0).normal(size=50).astype(np.float32)
    data = jxs.Dataset(x, np.sin(x))
    operator = make_operator(jxs.squared_error, data, jxs.Weights(1.5, 0.8), "hessian")
    whole = hessian(jxs.squared_error, jxs.Weights(jnp.float32(1.5), jnp.float32(0.8)), data)
    np.testing.assert_allclose(dense(operator), whole, rtol=ROUNDING_32)
    bowl = make_operator(
        jxs.Function(lambda a, b: a**2 + a * b), None, jxs.Weights(1.0, 2.0), "hessian"
    )
    np.testing.assert_array_equal(dense(bowl), [[2, 1], [1, 0]])


def test_calls_of_equal_shapes_compile_nothing(compilations):
    for seed in (0, 1):
        before = len(compilations)
        for curvature in ("hessian", "gauss-newton"):
            params = network((4, 6, 3), seed, np.float32)
            data = jax.tree.map(lambda leaf, s=seed: leaf[s : s + 20], labeled(dtype=np.float32))
            operator = make_operator(ComposedLoss(logits, cross_entropy), data, params, curvature)
            for count in (1, 5 + seed):
                multiply(operator, np.ones((count, 51)))
    assert len(compilations) == before > 0


def test_bad_arguments_are_refused():
    params, data = network((4, 6, 3), dtype=np.float32), labeled(dtype=np.float32)

    def refused(error, match, loss=CLASSIFIER, data=data, params=params, curvature="hessian"):
        with pytest.raises(error, match=match):
            make_operator(loss, data, params, curvature)

    refused(
        ValueError,
        "curvature: expected 'hessian' or 'gauss-newton', got 'fisher'",
        curvature="fisher",
    )
    refused(TypeError, "loss: expected a function", loss=3)
    refused(TypeError, r"loss: expected a scalar, got an array of shape \(23, 3\)", loss=logits)
    refused(
        TypeError,
        "loss: expected a PointwiseLoss or a ComposedLoss for curvature='gauss-newton'",
        loss=lambda params, data: 0.0,
        curvature="gauss-newton",
    )
    refused(
        TypeError,
        "loss.predict: expected floating outputs, got int32",
        loss=ComposedLoss(lambda params, data: data["label"], lambda outputs, data: jnp.float32(0)),
        curvature="gauss-newton",
    )
    refused(ValueError, "data: expected a stream with at least one batch", data=jxs.Stream([]))
    refused(ValueError, "params: expected floating numbers, got none", params={"n": 3})
    params[1]["b"] = np.array([0, np.nan, 0], np.float32)
    refused(ValueError, r"params\[1\]\['b'\]: expected finite numbers", params=params)
