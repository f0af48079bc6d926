"""Datasets: their arrays, splits, batches and weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.data.dataset import sample_count, take
from tests import reference


def test_floating_dtypes_are_kept_and_whole_numbers_become_floats():
    assert jxs.Dataset(np.float16([1, 2]), np.float32([1, 2])).x.dtype == jnp.float16
    data = jxs.Dataset([1, 2], [True, False])
    assert data.x.dtype == data.y.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i4", ">u8", "longdouble"])
def test_arrays_of_any_byte_order_and_width_are_converted(dtype):
    values = np.array([3, 1.5, -256.25] if np.dtype(dtype).kind == "f" else [3, 1, 256])
    data = jxs.Dataset(values.astype(dtype), [1, 2, 3], abs(values).astype(dtype))
    assert data.x.dtype == (np.float16 if dtype == ">f2" else np.float32)
    np.testing.assert_array_equal(data.x, values)
    with pytest.raises(ValueError, match="x: expected finite float32 .* index 0: inf"):
        jxs.Dataset(np.array([1e300], ">f8"), [1])


def test_float64_is_kept_if_jax_enables_it(x64):
    assert jxs.Dataset(np.float64([0.1]), [1]).x[0] == 0.1


def test_a_dataset_is_a_pytree():
    data = jxs.Dataset([1.0, 2.0], [3.0, 4.0])
    doubled = jax.tree.map(lambda leaf: 2 * leaf, data)
    np.testing.assert_array_equal(doubled.y, [6, 8])
    assert doubled.sample_weight is None
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(data)]
    assert paths == [".x", ".y"]
    assert jax.jit(lambda data: data.x.sum())(data) == 3
    assert jax.vmap(lambda data: data.x)(data).shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], []), ValueError, r"x: expected at least one sample, got shape \(0,\)"),
        ((1.0, [1.0]), ValueError, r"x: expected at least one sample, got shape \(\)"),
        (([1.0, 2.0], [1.0]), ValueError, "y: expected as many samples as x, 2, got 1"),
        (([1.0, np.nan, np.inf], [1, 2, 3]), ValueError, "x: .* 2 that are not, .* index 1: nan"),
        (([1.0, 2.0], [1.0, -np.inf]), ValueError, "y: expected finite .* index 1: -inf"),
        (([[1.0], [np.nan]], [1, 2]), ValueError, r"x: .* index \(1, 0\): nan"),
        (([1e300, 1.0], [1, 2]), ValueError, "x: expected finite float32 .* index 0: inf"),
        ((["a", "b"], [1, 2]), TypeError, "x: expected real numbers, got dtype <U1"),
        (([1j, 2j], [1, 2]), TypeError, "x: expected real numbers, got dtype complex"),
        (([[1], [1, 2]], [1, 2]), ValueError, "x: expected an array, got ragged"),
        (([1.0], [1.0], [1.0, 2.0]), ValueError, r"sample_weight: expected shape \(1,\), got"),
        (([1.0], [1.0], [-1.0]), ValueError, "sample_weight: expected non-negative"),
        (([1.0, 2.0], [1.0, 2.0], [0, 0]), ValueError, "sample_weight: .* not all zero"),
        (([1.0], [1.0], [np.nan]), ValueError, "sample_weight: expected finite"),
    ],
)
def test_bad_arrays_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        jxs.Dataset(*arguments)


def pairs(*datasets):
    return sorted((float(x), float(y)) for d in datasets for x, y in zip(d.x, d.y, strict=True))


def test_a_split_keeps_every_sample_once_and_depends_on_its_key():
    data = jxs.Dataset(np.arange(11.0), 2 * np.arange(11.0), np.arange(1.0, 12.0))
    train, test = jxs.data.split(data, 0.25, jax.random.key(3))
    assert (len(train), len(test)) == (8, 3)
    assert pairs(train, test) == pairs(data)
    np.testing.assert_array_equal(test.sample_weight, test.x + 1)
    again, _ = jxs.data.split(data, 0.25, jax.random.key(3))
    other, _ = jxs.data.split(data, 0.25, jax.random.key(4))
    np.testing.assert_array_equal(train.x, again.x)
    assert (train.x != other.x).any()


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), 0.01, 0.99])
def test_a_split_that_leaves_a_set_empty_is_refused(fraction):
    with pytest.raises(ValueError, match="test_fraction: expected"):
        jxs.data.split(jxs.Dataset(np.arange(5), np.arange(5)), fraction, jax.random.key(0))


def test_batches_hold_every_sample_in_order_or_shuffled():
    data = jxs.Dataset(np.arange(10.0), -np.arange(10.0))
    ordered = list(jxs.data.batches(data, 4))
    np.testing.assert_array_equal(np.concatenate([b.x for b in ordered]), data.x)
    assert [len(batch) for batch in ordered] == [4, 4, 2]
    shuffled = list(jxs.data.batches(data, 4, jax.random.key(0)))
    assert pairs(*shuffled) == pairs(data)
    assert (np.concatenate([b.x for b in shuffled]) != data.x).any()


def test_a_split_whose_weights_are_all_zero_in_a_set_is_refused():
    data = jxs.Dataset(np.arange(4.0), np.arange(4.0), [0.0, 0.0, 0.0, 2.0])
    with pytest.raises(ValueError, match="key: expected a positive sample weight in both sets"):
        jxs.data.split(data, 0.5, jax.random.key(0))
    data = jxs.Dataset(np.arange(4.0), np.arange(4.0), [0.0, 0.0, 1.0, 2.0])
    refused = 0
    for seed in range(8):
        try:
            parts = jxs.data.split(data, 0.5, jax.random.key(seed))
        except ValueError:
            refused += 1
        else:
            assert all(part.sample_weight.any() for part in parts)
    assert 0 < refused < 8


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-1, ValueError), (11, ValueError), (2.0, TypeError)]
)
def test_a_bad_batch_size_is_refused_at_once(size, error):
    data = jxs.Dataset(np.arange(10.0), np.arange(10.0))
    for function in (jxs.data.batches, jxs.data.weigh_batches_equally):
        with pytest.raises(error, match="batch_size: expected"):
            function(data, size)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_the_weighted_mean_is_the_mean_of_the_batch_means(batch_size):
    generator = np.random.default_rng(0)
    data = jxs.Dataset(*generator.normal(0, 1, (2, 10)).astype(np.float32))
    weighted = jxs.data.weigh_batches_equally(data, batch_size)
    weights = jxs.Weights(0.7, -0.4)
    means = [reference.loss_at(*weights, batch) for batch in jxs.data.batches(data, batch_size)]
    assert jxs.squared_error(weights, weighted) == pytest.approx(np.mean(means), rel=1e-6)
    with pytest.raises(ValueError, match="data: expected samples without weights"):
        jxs.data.weigh_batches_equally(weighted, batch_size)


def test_a_seed_is_not_a_key():
    data = jxs.Dataset(np.arange(5), np.arange(5))
    for call in (lambda: jxs.data.split(data, 0.5, 3), lambda: jxs.data.batches(data, 2, 3)):
        with pytest.raises(TypeError, match=r"key: expected .* jax.random.key\(0\), got 3"):
            call()


def test_the_sample_count_is_the_common_length():
    assert sample_count("data", {"x": np.ones((3, 2)), "y": np.ones(3)}) == 3
    for data in ({"x": np.ones(3), "y": np.ones(4)}, np.float32(1), np.ones((0, 2)), {}):
        with pytest.raises(ValueError, match="data: expected arrays that share their first axis"):
            sample_count("data", data)


def test_samples_are_taken_from_every_array():
    data = jxs.Dataset(np.arange(5), -np.arange(5), np.arange(1, 6))
    some = take(data, np.array([3, 0]))
    np.testing.assert_array_equal(some.x, [3, 0])
    np.testing.assert_array_equal(some.y, [-3, 0])
    np.testing.assert_array_equal(some.sample_weight, [4, 1])
    assert take({"x": np.arange(5)}, slice(1, 3))["x"].tolist() == [1, 2]
