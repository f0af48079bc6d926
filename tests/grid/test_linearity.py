"""Functions are proved to be affine in a coordinate only if they are."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback

import jaxscape as jxs
from jaxscape.grid.linearity import is_affine
from tests import test_models as models
from tests.test_models import equinox, flax_nnx, haiku, linen

X = np.linspace(-2, 3, 40, dtype=np.float32)
DATA = jxs.Dataset(X, np.sin(2 * X))
MATRIX = np.arange(6.0).reshape(2, 3) - 2


@jax.custom_jvp
def surrogate(z):
    """A step with the derivative of a smooth function, as in spiking networks."""
    return (z > 0.3) * 1.0


surrogate.defjvp(lambda p, t: (surrogate(p[0]), t[0]))


@jax.custom_vjp
def clipped_gradient(z):
    return z


clipped_gradient.defvjp(lambda z: (z, None), lambda _, g: (jnp.clip(g, -1, 1),))


def straight_through(function):
    return lambda b: b + lax.stop_gradient(function(b) - b)


def halved(b):
    """Halve until below 0.2: the number of steps depends on b."""
    return lax.while_loop(lambda z: z > 0.2, lambda z: z / 2, b)


def kept_if_large(b):
    return lax.cond(b > 0.4, lambda b: b, lambda b: 0.0 * b, b)


def written_and_read(b):
    box = jax.new_ref(jnp.zeros(2))
    box[0] = jnp.round(b)
    return box[0] + 0.0


JUMPS = {
    **{name: getattr(jnp, name) for name in ("sign", "round", "floor", "ceil", "trunc", "abs")},
    "comparison": lambda b: (b > 0.3) * 1.0,
    "mask": lambda b: jnp.where(jnp.abs(b) > 0.4, b, 0.0),
    "integer": lambda b: (4 * b).astype(jnp.int32) / 4,
    "boolean": lambda b: b.astype(bool) * 1.0,
    "bfloat16": lambda b: b.astype(jnp.bfloat16).astype(b.dtype),
    "float16": lambda b: b.astype(jnp.float16) * 1.0,
    "reduced precision": lambda b: lax.reduce_precision(b, 8, 4),
    "products in bfloat16": lambda b: jnp.dot(
        b[None], jnp.ones(1, b.dtype), preferred_element_type=jnp.bfloat16
    ).astype(b.dtype),
    "argmax": lambda b: jnp.argmax(jnp.stack([b, 0 * b + 0.3])) * 1.0,
    "sort": lambda b: jnp.sort(jnp.stack([b, 0.3 + 0 * b]))[0],
    "index": lambda b: jnp.array([0.0, 1.0, 3.0])[jnp.clip(b, 0, 2).astype(int)],
    "remainder": lambda b: b % 0.5,
    "stop_gradient": lambda b: lax.stop_gradient(b) + b,
    "straight-through sign": straight_through(jnp.sign),
    "straight-through round": straight_through(jnp.round),
    "custom_jvp": surrogate,
    "custom_vjp": clipped_gradient,
    "relu": jax.nn.relu,
    "while_loop": halved,
    "cond": kept_if_large,
    "scan": lambda b: lax.scan(lambda c, _: (jnp.round(2 * c), None), b, None, length=2)[0],
    "jit": jax.jit(jnp.round),
    "checkpoint": jax.checkpoint(jnp.round),
    "mutable array": written_and_read,
    "square": lambda b: b * b,
    "quotient": lambda b: 1 / (3 + b),
    "of a product": lambda b: (b * jnp.ones(2)) @ (b * jnp.ones(2)),
}


def lines(b, a):
    """Return functions that are affine in b, of a coordinate a that they may treat anyhow."""
    w = jnp.round(a) + jax.nn.relu(a) * surrogate(a) + clipped_gradient(a)
    vector = jnp.stack([b, w, 2 * b - 1])
    matrix = vector[:, None] * MATRIX[:1]
    image = jnp.pad(matrix[None, :, :, None], [(0, 0), (1, 1), (2, 0), (0, 0)])
    yield -b * w + 3 * b / (1 + w**2)
    yield jnp.where(w < MATRIX, b * MATRIX, 1.0)
    yield jnp.einsum("ij,jk->ki", MATRIX, matrix), (MATRIX @ vector[:, None]) * w
    yield lax.conv_general_dilated(
        image, MATRIX[:, :, None, None], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    yield nn.avg_pool(image, (2, 2)), jnp.mean(image, axis=(1, 2)), jnp.cumsum(vector)[::-1]
    yield vector[jnp.array([2, 0])], vector.at[1].add(b), vector.at[1].set(b), vector[-1]
    yield lax.dynamic_slice(vector, (jnp.argmax(MATRIX[0] * w),), (2,))
    yield jnp.split(jnp.concatenate([vector, vector]), 2), matrix.T.reshape(-1), jnp.unstack(vector)
    yield jnp.fft.irfft(jnp.fft.rfft(vector)), jnp.real(1j * w * b + b), jnp.array(b, copy=True)
    yield jax.jit(lambda b: b + w)(b), jax.checkpoint(lambda b: w * b)(b), b.astype(jnp.float64)
    yield lax.map(lambda x: b * jnp.tanh(w * x) + 1, X), lax.fori_loop(0, 3, lambda _, c: w * c, b)
    yield lax.cond(w > 0, lambda b: b, lambda b: 2 * b, b)
    yield lax.while_loop(lambda c: c[0] < w, lambda c: (c[0] + 1, 2 * c[1] + w), (0.0, b))


@pytest.mark.parametrize("name", JUMPS)
def test_other_functions_are_not_proved_to_be_affine(name):
    jump = JUMPS[name]
    for function in (lambda b: 1 + 2 * jump(b), lambda b: jump(0.5 * b) * jnp.ones((2, 3))):
        assert not is_affine(function, (), jnp.float32(1), jnp.float32)


def test_linear_primitives_keep_a_function_affine(x64):
    """The functions equal their tangents, however they depend on the other coordinate."""

    def functions(a, b):
        return list(lines(b, a))

    one = np.float64(1)

    def along(a):
        start, slope = jax.jvp(lambda b: functions(a, b), (one / 2,), (one,))
        return functions(a, -2.25 * one), jax.tree.map(lambda c, s: c - 2.75 * s, start, slope)

    for k in range(len(jax.eval_shape(functions, one, one))):
        assert is_affine(lambda a, b, k=k: functions(a, b)[k], (one,), one, jnp.float64), k
    for a in (-1.3, 0.4, 2.2):
        for found, tangent in zip(*map(jax.tree.leaves, jax.jit(along)(a * one)), strict=True):
            np.testing.assert_allclose(found, tangent, atol=1e-12)


def test_the_other_arguments_may_pass_through_anything():
    def function(a, b):
        return sum(jnp.sum(jump(a)) for jump in JUMPS.values()) * b

    assert is_affine(function, (jnp.float32(0.7),), jnp.float32(1), jnp.float32)


def test_a_carry_is_affine_only_if_every_step_keeps_it():
    def steps(last):
        """The carried value reaches the rounded one only after three steps."""

        def step(carry, _):
            p, q, r = carry
            return (p, p + 1, last(q)), r

        return lambda b: lax.scan(step, (b, 0.0 * b, 0.0), None, length=4)

    assert is_affine(steps(lambda q: 2 * q), (), jnp.float32(1), jnp.float32)
    assert not is_affine(steps(jnp.round), (), jnp.float32(1), jnp.float32)


def test_conversions_must_keep_the_digits():
    def as_float32(b):
        return b.astype(jnp.float32) * 2

    assert is_affine(as_float32, (), jnp.bfloat16(1), jnp.bfloat16)
    with jax.enable_x64(True):
        assert not is_affine(as_float32, (), np.float64(1), jnp.float64)
        assert is_affine(as_float32, (), np.float64(1), jnp.float32)


def test_products_must_not_round_their_factors():
    def product(precision):
        return lambda b: jnp.dot(b * MATRIX, MATRIX.T, precision=precision)

    for precision, expected in ((None, True), ("highest", True), ("bfloat16", False)):
        assert is_affine(product(precision), (), jnp.float32(1), jnp.float32) == expected
    with jax.default_matmul_precision("tensorfloat32"):
        assert not is_affine(product(None), (), jnp.float32(1), jnp.float32)


def test_a_value_that_is_printed_is_not_proved_to_be_affine():
    def printing(b):
        io_callback(lambda b: None, None, b)
        return b

    assert not is_affine(printing, (), jnp.float32(1), jnp.float32)


ALL_METHODS = (jxs.landscape, jxs.derivatives)
AXES = {"w1": (0.7, 1.9, 3), "w2": (-1.3, 1.6, 7)}


@pytest.mark.parametrize("name", sorted(set(JUMPS) - {"mutable array"}))
def test_auto_is_dense_and_exact_and_valley_refuse(name):
    def predict(p, x):
        return JUMPS[name](p.w2) * jnp.tanh(p.w1 * x)

    loss = jxs.squared_error.of(predict)
    assert jxs.landscape(loss, DATA, **AXES).method == "dense"
    if name != "custom_vjp":  # Forward mode cannot differentiate it.
        assert jxs.derivatives(loss, DATA, **AXES).method == "dense"
    for function in ALL_METHODS:
        with pytest.raises(ValueError, match="'exact' does not hold here: .* not proved to be aff"):
            function(loss, DATA, method="exact", **AXES)
    with pytest.raises(ValueError, match="loss: expected a parabola in w2, but the prediction"):
        jxs.topology.valley(loss, DATA, w1=(0.7, 1.9, 3))


UNARY = [*JUMPS.values(), *4 * [jnp.tanh], *8 * [lambda v: 2 * v - 1, jnp.negative, jnp.sum]]


def random_network(seed, without=None):
    """Return a prediction of random operations, in which w2 may end up linear or not."""
    rng, unaries = np.random.default_rng(seed), [f for f in UNARY if f is not without]
    steps = [(rng.random(4), rng.normal(size=2)) for _ in range(rng.integers(1, 6))]

    def predict(p, x):
        values = [p.w2 * jnp.tanh(p.w1 * x), p.w1 * x, p.w2 + 0.0 * x]
        for (kind, first, second, which), (c, d) in steps:
            a, b = (values[int(u * len(values))] for u in (first, second))
            if kind < 0.5:
                unary = unaries[int(which * len(unaries))]
                # Operations on values that do not fit together are left out.
                try:
                    new = jnp.broadcast_to(unary(a), x.shape)
                except (TypeError, ValueError):
                    continue
                new = new.astype(x.dtype)
            elif kind < 0.8:
                new = c.astype(x.dtype) * a + d.astype(x.dtype) * b
            elif kind < 0.9:
                new = a * jnp.tanh(p.w1 * b)
            else:
                new = jnp.where(x > 0.3 * p.w1, a, b)
            values.append(new)
        return values[-1]

    return predict


@pytest.mark.parametrize("seeds", [range(40), pytest.param(range(40, 700), marks=pytest.mark.slow)])
def test_random_networks_that_are_proved_are_affine(seeds, x64):
    """At 9 values of w2, the prediction equals its tangent; two thirds are not proved."""
    x, proved = np.linspace(-2, 3, 7), 0
    for seed in seeds:
        predict = random_network(seed)

        def along(a, b, predict=predict):
            return predict(jxs.Weights(a, b), x)

        if not is_affine(along, (0.7,), 0.7, jnp.float64):
            continue
        proved += 1
        for a in (-0.8, 1.1):
            start, slope = jax.jvp(lambda b, a=a: along(a, b), (0.45,), (1.0,))
            b = np.linspace(-2.2, 2.1, 9)
            found = jax.vmap(lambda b, a=a: along(a, b))(b)
            tangent = np.asarray(start) + np.outer(b - 0.45, slope)
            np.testing.assert_allclose(found, tangent, rtol=1e-9, atol=1e-9, err_msg=str(seed))
    assert 0.1 * len(seeds) < proved < 0.8 * len(seeds)


@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 80), marks=pytest.mark.slow)])
def test_all_methods_agree_on_random_networks(seeds, x64):
    """In `landscape`, `derivatives` and `valley`; without custom_vjp, which has no forward mode."""
    x = np.linspace(-2, 3, 7)
    data, methods = jxs.Dataset(x, np.sin(x)), set()
    for seed in seeds:
        loss = jxs.squared_error.of(random_network(1000 + seed, without=clipped_gradient))
        axes = {"w1": np.array([-0.8, 1.1]), "w2": np.array([-1.7, -0.3, 0.45, 0.9, 2.1])}
        auto, dense = (jxs.landscape(loss, data, method=m, **axes) for m in ("auto", "dense"))
        methods.add(auto.method)
        np.testing.assert_allclose(auto.loss, dense.loss, rtol=1e-9, atol=1e-12, err_msg=str(seed))
        if auto.method == "dense":
            with pytest.raises(ValueError, match="loss: expected a parabola"):
                jxs.topology.valley(loss, data, w1=axes["w1"])
            continue
        derived, by_cell = (
            jxs.derivatives(loss, data, method=m, **axes) for m in ("auto", "dense")
        )
        for name in ("loss", "gradient", "hessian"):
            parts = getattr(derived, name), getattr(by_cell, name)
            np.testing.assert_allclose(*parts, rtol=1e-8, atol=1e-9, err_msg=str(seed))
        found = jxs.topology.valley(loss, data, w1=axes["w1"])
        for a, b, lowest in zip(axes["w1"], found.b, found.loss, strict=True):
            if np.isfinite(b):
                around = [float(loss(jxs.Weights(a, b + step), data)) for step in (-0.1, 0, 0.1)]
                np.testing.assert_allclose(around[1], lowest, rtol=1e-9, atol=1e-12)
                assert min(around) >= lowest * (1 - 1e-9) - 1e-12
    assert methods == {"dense", "exact"}


@pytest.mark.parametrize(
    ("make", "last"),
    [(linen, "Dense_1"), (flax_nnx, "second"), (equinox, "layers[2]"), (haiku, "linear_1")],
)
def test_the_last_layer_of_a_model_is_proved_to_be_affine(make, last):
    params, loss, _ = make()
    u = jxs.random_direction(jax.random.key(1), params, leaves=lambda path: last not in path)
    v = jxs.random_direction(
        jax.random.key(2), params, leaves=lambda path: last in path, include_vectors=True
    )
    exact, dense = (
        jxs.landscape(
            loss, models.DATA, jxs.Plane(params, u, v), method=method, a=(-1, 1, 3), b=(-1, 2, 4)
        )
        for method in ("auto", "dense")
    )
    assert exact.method == "exact"
    np.testing.assert_allclose(exact.loss, dense.loss, rtol=2e-5)
    swapped = jxs.Plane(params, v, u)
    assert jxs.landscape(loss, models.DATA, swapped, a=(-1, 1, 3), b=(-1, 2, 4)).method == "dense"
