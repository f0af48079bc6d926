"""The split of a loss equals the loss itself, and its shared part is computed once for all cells.

The maximum over windows is bitwise that of JAX's operation, and so are its derivatives.
"""

import functools
import itertools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.grid import cost
from jaxscape.grid.affine import split, window_max
from jaxscape.grid.cost import TileLimits

POINTS = [(0.0, 0.0), (0.7, -1.3), (-2.1, 0.4)]
PLENTY, LIMITS = 2**30, TileLimits(4096, 2**19, 2**30)


def make(sizes=(11, 9, 4), n=13, dtype=None):
    """Return layers of weights and biases, and data (x, labels)."""
    generator = np.random.default_rng(3)
    layers = [
        {"w": jnp.asarray(generator.normal(size=s), dtype), "b": jnp.asarray(q, dtype)}
        for s, q in (((i, o), generator.normal(size=(1, o))) for i, o in itertools.pairwise(sizes))
    ]
    x = jnp.asarray(generator.normal(size=(n, sizes[0])), dtype)
    return layers, (x, jnp.asarray(generator.integers(0, sizes[-1], n)))


def direction(layers, moves=lambda k, name: True, seed=0):
    """Return a random direction; `moves(layer, name)` is False for a structural zero."""
    generator = np.random.default_rng(seed)
    return [
        {
            name: jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype)
            if moves(k, name)
            else None
            for name, leaf in layer.items()
        }
        for k, layer in enumerate(layers)
    ]


def logits(layers, x):
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def cross_entropy(layers, data):
    x, y = data
    return optax.softmax_cross_entropy_with_integer_labels(logits(layers, x), y).mean()


def in_a_scan(layers, data):
    def step(total, sample):
        return total + cross_entropy(layers, (sample[0][None], sample[1][None])), None

    return jax.lax.scan(step, 0.0 * data[0][0, 0], data)[0]


def decayed(layers, data):
    return cross_entropy(layers, data) + 0.1 * sum(jnp.sum(w["w"] ** 2) for w in layers)


def weight_normalized(layers, data):
    scaled = [
        {"w": p["w"] / jnp.linalg.norm(p["w"], axis=0, keepdims=True), "b": p["b"]} for p in layers
    ]
    return cross_entropy(scaled, data)


def with_linear_parts(layers, data):
    x, _ = data
    w = layers[0]["w"].T.reshape(9, 11).T[:, ::-1]
    hidden = (2 * (x @ w) - 3 * layers[0]["b"] + 1).reshape(13, 3, 3).transpose(0, 2, 1)
    gate = (x @ layers[0]["w"]).sum(axis=1)
    hidden = (x[:, :1, None] - hidden / 7).reshape(13, 9) - layers[0]["b"]
    return jnp.sum(jnp.tanh(hidden) * gate[:, None]) + jnp.sum(gate * x[:, 0])


def under_jit_remat_and_cond(layers, data):
    hidden = jax.jit(lambda layer, x: x @ layer["w"] + layer["b"])(layers[0], data[0])
    hidden = jax.checkpoint(jnp.sin)(hidden)
    out = jax.lax.cond(hidden[0, 0] > 0, lambda h: h * 2, lambda h: -h, hidden)
    return jnp.mean(out @ layers[1]["w"])


def linear_without_an_end(layers, data):
    return jnp.sum(data[0] @ layers[0]["w"])


def without_parameters(layers, data):
    return jnp.sum(data[0] @ data[0].T)


def products_of_moving_weights(layers, data):
    return jnp.sum(layers[0]["w"] @ layers[1]["w"]) + jnp.sum(layers[0]["w"].T @ layers[0]["w"])


LOSSES = [
    cross_entropy,
    in_a_scan,
    decayed,
    weight_normalized,
    with_linear_parts,
    under_jit_remat_and_cond,
    linear_without_an_end,
    without_parameters,
    products_of_moving_weights,
]
MOVES = {
    "all, all": (lambda k, n: True, lambda k, n: True),
    "first, last": (lambda k, n: k == 0, lambda k, n: k == 1),
    "last, first": (lambda k, n: k == 1, lambda k, n: k == 0),
    "last, last": (lambda k, n: k == 1, lambda k, n: k == 1),
    "weights, biases": (lambda k, n: n == "w", lambda k, n: n == "b"),
    "all, last": (lambda k, n: True, lambda k, n: k == 1),
}


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_the_split_equals_the_loss_and_so_does_its_gradient(loss, moves, x64):
    layers, data = make()
    plane = jxs.Plane(
        layers, *(direction(layers, moved, seed) for seed, moved in enumerate(MOVES[moves]))
    )

    @jax.jit
    def both(a, b):
        shared, cell = split(loss, plane, data, jnp.float64, PLENTY)
        assert shared
        functions = (lambda a, b: cell(shared, a, b)), (lambda a, b: loss(plane.at(a, b), data))
        return [jax.value_and_grad(function, (0, 1))(a, b) for function in functions]

    for a, b in POINTS:
        (value, gradient), (expected, expected_gradient) = both(a, b)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


def test_a_grid_equals_a_loop(x64):
    layers, data = make()
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
    found = jxs.landscape(cross_entropy, data, plane, a=(-1, 1.5, 7), b=(-0.5, 1, 4))
    cell = jax.jit(lambda a, b: cross_entropy(plane.at(a, b), data))
    loop = [[cell(a, b) for b in found.b.values] for a in found.a.values]
    np.testing.assert_allclose(found.loss, loop, rtol=1e-12)


def test_convolutions_are_split(x64):
    generator = np.random.default_rng(0)
    params = {
        "first": jnp.asarray(generator.normal(size=(3, 3, 2, 5))),
        "bias": jnp.asarray(generator.normal(size=(1, 1, 1, 5))),
        "second": jnp.asarray(generator.normal(size=(3, 3, 5, 4))),
    }
    x = jnp.asarray(generator.normal(size=(6, 9, 8, 2)))

    def loss(p, x):
        for name in ("first", "second"):
            x = jax.lax.conv_general_dilated(
                x, p[name], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            if name == "first":
                x = jax.nn.relu(x + p["bias"])
                shape = (1, 2, 2, 1)
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, shape, (1, 1, 1, 1), "VALID")
        return jnp.mean(x**2)

    u, v = (
        jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape)), params)
        for _ in range(2)
    )
    plane = jxs.Plane(params, u, v)

    @jax.jit
    def both(a, b):
        shared, cell = split(loss, plane, x, jnp.float64, PLENTY)
        assert [array.shape for array in jax.tree.leaves(shared)] == 3 * [(6, 7, 6, 5)]
        return cell(shared, a, b), loss(plane.at(a, b), x)

    for a, b in POINTS:
        value, expected = both(a, b)
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_the_split_is_bitwise_the_loss_at_the_origin():
    layers, data = make(dtype=jnp.float32)
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
    shared, cell = split(cross_entropy, plane, data, jnp.float32, PLENTY)
    assert shared
    zero = jnp.float32(0)
    assert cell(shared, zero, zero) == cross_entropy(layers, data)


def grid_cost(loss, plane, data, limits=LIMITS):
    axes = np.zeros(2, np.float32), np.zeros(3, np.float32)
    return cost.grid_cost(limits, loss, plane, *axes, data)


def test_the_first_layer_takes_three_products_for_all_cells():
    """Count the bytes read and written by products by hand."""
    layers, data = make(dtype=jnp.float32)
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
    found = grid_cost(cross_entropy, plane, data)
    first = 4 * (13 * 11 + 11 * 9 + 13 * 9)
    second = 4 * (13 * 9 + 9 * 4 + 13 * 4)
    assert found.shared.product_bytes == 3 * first
    assert found.cell.product_bytes == second
    # It is not split if the shared arrays do not fit.
    found = grid_cost(cross_entropy, plane, data, TileLimits(4096, 2**19, 3 * 4 * 13 * 9 - 1))
    inputs = 4 * 13 * 11
    assert (found.shared.product_bytes, found.cell.product_bytes) == (
        inputs,
        first + second - inputs,
    )


def test_logits_on_a_plane_of_the_last_layer_are_products_per_row():
    layers, data = make(dtype=jnp.float32)
    plane = jxs.Plane(layers, *(direction(layers, moved) for moved in MOVES["first, last"]))
    found = grid_cost(cross_entropy, plane, data)
    assert found.cell.product_bytes == found.column.product_bytes == 0
    assert found.row.product_bytes > 0


def classifier_of_linen():
    model = nn.Sequential([nn.Dense(9), nn.relu, nn.Dense(4)])
    params = jax.jit(model.init)(jax.random.key(0), jnp.ones((13, 11)))
    return params, model.apply, {}, ("layers_0", "layers_2")


def classifier_of_equinox():
    model = eqx.filter_jit(eqx.nn.MLP)(11, 4, 9, 1, key=jax.random.key(0))
    names = (".layers[0]", ".layers[1]")
    return model, lambda m, x: jax.vmap(m)(x), {"output_axis": 0}, names


@pytest.mark.parametrize("model", [classifier_of_linen, classifier_of_equinox])
def test_logits_of_a_real_model_are_two_products_per_row(model):
    """The hidden layer is shared, each row computes x @ W and x @ V, and cells no product."""
    params, apply, more, names = model()
    u, v = (
        jxs.random_direction(jax.random.key(k), params, leaves=lambda p, n=n: n in p, **more)
        for k, n in enumerate(names)
    )
    plane, (_, data) = jxs.Plane(params, u, v), make(dtype=jnp.float32)

    def loss(params, data):
        x, y = data
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()

    found = grid_cost(loss, plane, data)
    assert found.cell.product_bytes == found.column.product_bytes == 0
    # Shared: x @ W and x @ U, and W and V of the last layer. Per row: its hidden values times both.
    assert found.shared.product_bytes == 2 * 4 * (13 * 11 + 11 * 9 + 13 * 9) + 2 * 4 * 9 * 4
    assert found.row.product_bytes == 2 * 4 * (13 * 9 + 13 * 4)
    axes = {"a": (-1, 1, 3), "b": (-1, 2, 4)}
    surface = jxs.landscape(loss, data, plane, **axes)
    for i, j in ((0, 3), (2, 1)):
        at = plane.at(surface.a.values[i], surface.b.values[j])
        np.testing.assert_allclose(surface.loss[i, j], loss(at, data), rtol=2e-5)


def test_frozen_layers_are_computed_once_for_all_cells():
    layers, data = make((11, 30, 30, 4), dtype=jnp.float32)
    last = direction(layers, lambda k, n: k == 2), direction(layers, lambda k, n: k == 2, 1)
    found = grid_cost(cross_entropy, jxs.Plane(layers, *last), data)
    assert found.cell.product_bytes == found.row.product_bytes == found.column.product_bytes == 0
    assert found.shared.product_bytes > 0


def test_products_of_few_multiply_adds_are_not_split():
    layers, data = make((7, 9, 4), dtype=jnp.float32)
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
    inputs = 4 * 13 * 7
    assert grid_cost(cross_entropy, plane, data).shared.product_bytes == inputs
    layers, data = make((8, 9, 4), dtype=jnp.float32)
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
    assert grid_cost(cross_entropy, plane, data).shared.product_bytes > 3 * inputs


def test_beyond_the_cache_only_long_products_and_convolutions_are_split():
    """Products of 63 and of 64 multiply-adds per value, and a convolution of nine."""

    def convolution(kernel, x):
        return jnp.mean(jnp.tanh(jax.lax.conv(x, kernel, (1, 1), "VALID")))

    for size, kept, parts in ((63, (PLENTY,), 3), (63, (0, PLENTY), 0), (64, (0, PLENTY), 3)):
        layers, data = make((size, 9, 4), dtype=jnp.float32)
        plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
        found = jax.tree.leaves(split(cross_entropy, plane, data, jnp.float32, *kept)[0])
        assert [array.shape for array in found].count((13, 9)) == parts
    kernel, x = jnp.ones((5, 1, 3, 3)), jnp.ones((2, 1, 7, 6))
    plane = jxs.Plane(kernel, 2 * kernel, kernel.at[0].set(0))
    found = split(convolution, plane, x, jnp.float32, 0, PLENTY)[0]
    assert [array.shape for array in jax.tree.leaves(found)] == 3 * [(2, 5, 5, 4)]
    assert split(convolution, plane, x, jnp.float32, 0)[0] == ()


def test_products_that_round_to_fewer_digits_are_not_split():
    """The sum of three rounded products is rounded at other points than the product itself."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 40)).astype(np.float32)
    w, u, v = generator.normal(size=(3, 40, 6)).astype(np.float32) * np.float32(
        [[[10]], [[1]], [[1]]]
    )
    plane = jxs.Plane(w, u, v)

    def loss(p, x):
        product = jnp.dot(x, p, preferred_element_type=jnp.bfloat16)
        return jnp.mean(jnp.sin(product.astype(jnp.float32)))

    shared, cell = split(loss, plane, x, jnp.float32, PLENTY)
    assert len(jax.tree.leaves(shared)) == 0
    a, b = np.float32([0.7, -1.3])
    np.testing.assert_allclose(cell(shared, a, b), loss(plane.at(a, b), x), rtol=1e-5)


def test_half_precision_is_not_split():
    """The parts of a product may overflow where the product does not."""
    layers, (x, y) = make(dtype=jnp.float16)
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
    shared, cell = split(cross_entropy, plane, (x, y), jnp.float16, PLENTY)
    assert shared == ()
    a, b = jnp.float16(0.5), jnp.float16(-0.25)
    assert cell(shared, a, b) == cross_entropy(plane.at(a, b), (x, y))


def test_leaves_of_other_types_stay_as_they_are():
    """A half-precision array, a Python float, whole numbers, a key and a function."""
    layers, data = make(dtype=jnp.float32)
    params = {
        "layers": layers,
        "half": jnp.ones((4, 4), jnp.float16),
        "scale": 1.5,
        "count": jnp.arange(3),
        "key": jax.random.key(0),
        "activation": jnp.tanh,
    }

    def loss(p, data):
        value = cross_entropy(p["layers"], data) * p["scale"] + jnp.sum(p["half"]) * p["count"][1]
        return p["activation"](value / 100) + jax.random.uniform(p["key"])

    still = dict.fromkeys(("half", "scale", "count", "key", "activation"))
    u = still | {"layers": direction(layers), "scale": 2.0, "half": jnp.ones((4, 4), jnp.float16)}
    v = still | {"layers": direction(layers, seed=1)}
    plane = jxs.Plane(params, u, v)
    shared, cell = split(loss, plane, data, jnp.float32, PLENTY)
    assert shared
    for a, b in np.float32(POINTS):
        expected = loss(plane.at(a, b), data)
        np.testing.assert_allclose(cell(shared, a, b), expected, rtol=2e-6)


def test_thousands_of_linear_equations_are_split():
    """Each depends on the one before."""
    layers, (x, y) = make((9, 9), dtype=jnp.float32)
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))

    def deep(params, data):
        x, _ = data
        x = x @ params[0]["w"]
        for _ in range(1500):
            x = -x.T.T
        return jnp.mean(x)

    shared, cell = split(deep, plane, (x, y), jnp.float32, PLENTY)
    a, b = np.float32(POINTS[1])
    np.testing.assert_allclose(cell(shared, a, b), deep(plane.at(a, b), (x, y)), rtol=1e-5)


def test_nonfinite_losses_stay_nonfinite():
    layers, (x, y) = make(dtype=jnp.float32)
    plane = jxs.Plane(layers, direction(layers), direction(layers, seed=1))
    with pytest.warns(jxs.NonFiniteWarning):
        found = jxs.landscape(
            cross_entropy, (x.at[3, 2].set(jnp.nan), y), plane, a=(-1, 1, 3), b=(-1, 1, 5)
        )
    assert np.isnan(found.loss).all()


IMAGES = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype(np.float32)
IMAGES[0, 3, 4, 1], IMAGES[1, 0, 0, 2] = np.nan, -np.inf
# Window sizes, strides, padding, and the dilation of the windows and of the array.
WINDOWS = {
    "pooling": ((1, 2, 2, 1), (1, 2, 2, 1), ((0, 0),) * 4, (1,) * 4, (1,) * 4),
    "overlapping": (
        (1, 3, 2, 1),
        (1, 2, 1, 1),
        ((0, 0), (1, 1), (0, 2), (0, 0)),
        (1,) * 4,
        (1,) * 4,
    ),
    "dilated": (
        (1, 2, 3, 2),
        (1, 3, 1, 1),
        ((1, 0), (0, 0), (2, 1), (0, 0)),
        (1, 3, 2, 1),
        (1,) * 4,
    ),
    "whole": ((1, 9, 8, 1), (1, 1, 1, 1), ((0, 0),) * 4, (1,) * 4, (1,) * 4),
    "larger than the array": ((1, 10, 2, 1), (1, 1, 1, 1), ((0, 0),) * 4, (1,) * 4, (1,) * 4),
    "of a dilated array": ((1, 2, 2, 1), (1, 2, 2, 1), ((0, 0),) * 4, (1,) * 4, (1, 2, 1, 1)),
}


def window_params(window, strides, padding, dilation, base):
    names = "window_dimensions", "window_strides", "padding", "window_dilation", "base_dilation"
    return dict(zip(names, (window, strides, padding, dilation, base), strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("case", WINDOWS)
def test_maxima_over_windows_are_those_of_the_operation(case, dtype):
    x = IMAGES if dtype is np.float32 else np.nan_to_num(10 * IMAGES, neginf=-99).astype(dtype)
    given = window_params(*WINDOWS[case])
    np.testing.assert_array_equal(
        window_max(x, **given), jax.lax.reduce_window_max_p.bind(x, **given)
    )


def test_maxima_over_windows_of_booleans():
    """A loss may pool a mask."""
    given = window_params(*WINDOWS["pooling"])
    found = window_max(jnp.asarray(IMAGES > 1), **given)
    np.testing.assert_array_equal(found, jax.lax.reduce_window_max_p.bind(IMAGES, **given) > 1)

    def loss(weights, mask):
        pooled = jax.lax.reduce_window(
            mask, False, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
        return weights.w1 * weights.w2 * jnp.mean(pooled)

    surface = jxs.landscape(loss, jnp.asarray(IMAGES > 1), w1=(1, 2, 3), w2=(1, 3, 2))
    np.testing.assert_allclose(
        surface.loss, np.outer([1, 1.5, 2], [1, 3]) * found.mean(), rtol=1e-6
    )


def test_the_derivative_of_a_maximum_goes_to_the_first_of_equal_values():
    """A maximum of slices would give half of it to each of two."""
    given = window_params(*WINDOWS["pooling"])
    x = jnp.asarray(np.round(np.nan_to_num(IMAGES, neginf=-9.0)))
    weight = jnp.asarray(IMAGES[:, :4, :4] ** 2)

    def gradient(pool):
        return jax.grad(lambda x: jnp.nansum(weight * pool(x)))(x)

    expected = gradient(lambda x: jax.lax.reduce_window_max_p.bind(x, **given))
    np.testing.assert_array_equal(gradient(lambda x: window_max(x, **given)), expected)


def test_pooling_uses_slices():
    """The operation that XLA computes value by value stays only where it is not replaced."""
    for case in WINDOWS:
        pool = functools.partial(window_max, **window_params(*WINDOWS[case]))
        traced = str(jax.make_jaxpr(pool)(IMAGES))
        kept = "reduce_window_max" in traced.replace("jvp_jaxpr", "").split("jvp")[0]
        assert kept == (case in ("whole", "larger than the array", "of a dilated array")), case
