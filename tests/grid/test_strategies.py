"""The compiled strategies equal a loop over cells, whatever the tile, and are compiled once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxscape as jxs
from jaxscape.grid import strategies
from jaxscape.grid.cost import TileLimits
from jaxscape.grid.strategies import dense, exact
from jaxscape.planes.plane import weight_plane
from tests.grid.helpers import AXES, make_data, mean_cube, network, network_plane, sizes_of

A, B = np.linspace(-1.5, 2, 7), np.linspace(-2, 1, 5)
PLENTY = TileLimits(4096, 2**19, 2**30)


def loop(loss, plane, data):
    cell = jax.jit(lambda a, b: loss(plane.at(a, b), data))
    return np.array([[cell(a, b) for b in B] for a in A])


def squares_and_height(weights, data):
    """Return two scalars by name, in another order than the alphabet's."""
    error = weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y
    return {"squares": jnp.sqrt(jnp.mean(error**2)), "height": jnp.max(error)}


@pytest.mark.parametrize("cells", [1, 6, 4096])
def test_dense_computes_several_scalars_in_tiles_of_any_size(cells, x64):
    data, plane = make_data(30, np.float64), weight_plane()
    losses, finite = dense(
        squares_and_height, None, TileLimits(cells, 2**19, 2**30), plane, A, B, data
    )
    assert losses.shape == (7, 5, 2)
    assert finite.all()
    for k, name in enumerate(("height", "squares")):
        expected = loop(lambda w, d, name=name: squares_and_height(w, d)[name], plane, data)
        np.testing.assert_allclose(losses[..., k], expected, rtol=1e-13)


@pytest.mark.parametrize("strategy", [dense, exact])
@pytest.mark.parametrize(
    "loss", [jxs.squared_error, lambda weights, data: jxs.squared_error(weights, data)]
)
def test_rows_are_the_same_on_a_mesh(strategy, loss, x64):
    data, plane = make_data(30, np.float64), weight_plane()
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    expected = loop(loss, plane, data)
    for devices in (None, mesh):
        losses, finite, *check = strategy(loss, devices, PLENTY, plane, A, B, data)
        np.testing.assert_allclose(losses, expected, rtol=1e-12)
        assert finite.tolist() == 7 * [True]
        proved = isinstance(loss, jxs.PointwiseLoss)
        assert check in ([], [None]) or (not proved and not check[0].wrong.any())


@pytest.mark.parametrize("strategy", [dense, exact])
def test_rows_with_a_nonfinite_cell_are_marked(strategy):
    def loss(weights, _):
        """NaN in the third row, infinite in the fifth."""
        value = weights.w1 + weights.w2**2
        value = jnp.where(weights.w1 == np.float32(A[2]), jnp.nan, value)
        return jnp.where(weights.w1 == np.float32(A[4]), jnp.inf, value)

    a, b = np.float32(A), np.float32(B)
    losses, finite, *_ = strategy(loss, None, PLENTY, weight_plane(), a, b, None)
    assert finite.tolist() == [True, True, False, True, False, True, True]
    np.testing.assert_array_equal(np.isfinite(losses).all(axis=1), finite)


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_tanh_is_evaluated_once_per_row(method):
    """A structural zero at work: no tanh is as large as rows × columns × samples."""

    def losses(data):
        return jxs.landscape(jxs.squared_error, data, method=method, **AXES).loss

    tanhs = list(sizes_of(jax.make_jaxpr(losses)(make_data(320)), "tanh"))
    assert tanhs
    assert max(tanhs) <= 37 * 320


def test_explicit_zeros_evaluate_tanh_in_every_cell():
    """The twin: an array of zeros in place of `None` hides from `vmap` that a leaf is constant."""
    plane = jxs.Plane(
        jxs.Weights(0.0, 0.0), jxs.Weights(1.0, 0.0), jxs.Weights(0.0, 1.0), names=("w1", "w2")
    )

    def root(weights, data):
        # A root, since a mean would be summed sample by sample.
        error = jnp.square(weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y)
        return jnp.sqrt(jnp.mean(error))

    def losses(plane):
        return jxs.landscape(root, make_data(320), plane, **AXES).loss

    assert max(sizes_of(jax.make_jaxpr(losses)(plane), "tanh")) == 37 * 23 * 320


@pytest.mark.parametrize(
    "loss", [jxs.squared_error, lambda weights, data: jxs.absolute_error(weights, data)]
)
def test_dense_stores_far_less_than_rows_times_columns_times_samples(loss):
    limits = TileLimits(cells=4096, cache_bytes=2**19, bytes=2**28)
    axis = jax.ShapeDtypeStruct((1024,), jnp.float32)
    lowered = dense.lower(loss, None, limits, weight_plane(), axis, axis, make_data(3000))
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 256e6


@pytest.mark.parametrize("method", ["dense", "exact"])
def test_new_data_of_the_same_shape_compiles_nothing(method):
    jax.clear_caches()
    strategy = getattr(strategies, method)
    data = make_data(100)
    jxs.landscape(jxs.squared_error, data, method=method, **AXES)
    before = strategy._cache_size()
    for shift in (1.0, 2.0):
        moved = jxs.Dataset(data.x + shift, data.y)
        axes = {"w1": (-1 - shift, 3, 37), "w2": (0, shift, 23)}
        jxs.landscape(jxs.squared_error, moved, method=method, **axes)
        same = jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.tanh))
        jxs.landscape(same, moved, method=method, **axes)
    assert strategy._cache_size() == before
    jxs.landscape(jxs.squared_error, make_data(101), method=method, **AXES)
    assert strategy._cache_size() == before + 1


@pytest.mark.parametrize(
    ("precision", "expected"),
    [(None, "HIGHEST"), ("tensorfloat32", "HIGH"), ("bfloat16", "DEFAULT")],
)
def test_products_are_rounded_to_tf32_only_if_the_caller_asks_for_it(precision, expected):
    """GPUs round float32 products by default; CPUs never do."""
    loss, data = jxs.squared_error.of(network), make_data(40)
    with jax.default_matmul_precision(precision):
        lowered = dense.lower(
            loss, None, TileLimits(0, 0, 0), network_plane(), np.float32(A), np.float32(B), data
        )
    written = re.findall(r"dot_general .* precision = \[(\w+), (\w+)\]", lowered.as_text())
    assert set(written) == {(expected, expected)}


@pytest.mark.parametrize("strategy", [dense, exact])
def test_strategies_lower_for_a_gpu(strategy):
    """No strategy depends on the platform, also not through a custom call of the CPU."""
    for loss in (jxs.squared_error, mean_cube):
        arguments = weight_plane(), np.float32(A), np.float32(B), make_data(30)
        call = jax.jit(lambda *arguments, loss=loss: strategy(loss, None, PLENTY, *arguments)[:2])
        exported = jax.export.export(call, platforms=["cuda"])(*arguments)
        assert exported.platforms == ("cuda",)
