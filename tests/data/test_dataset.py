"""Data: what is read is what was there, and what cannot be data is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from tests import reference


def test_dtypes_are_kept_and_whole_numbers_become_floats():
    assert jxs.Dataset(np.float16([1, 2]), np.float32([1, 2])).x.dtype == jnp.float16
    data = jxs.Dataset([1, 2], [True, False])
    assert data.x.dtype == data.y.dtype == jnp.float32


def test_float64_is_kept_where_it_is_on(x64):
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
def test_what_is_no_data_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        jxs.Dataset(*arguments)


def test_read_csv(tmp_path):
    path = tmp_path / "points.CSV"
    path.write_text('\ufefft,"y, in m",name\n1,2.5,a\n-3e-1,4,b\n\n', encoding="utf-8")
    data = jxs.data.read_dataset(path, x="t", y="y, in m")
    np.testing.assert_array_equal(data.x, np.float32([1, -0.3]))
    np.testing.assert_array_equal(data.y, np.float32([2.5, 4]))


def test_read_npz(tmp_path):
    np.savez(tmp_path / "points.npz", x=np.arange(3), y=np.float32([1, 2, 3]))
    data = jxs.data.read_dataset(str(tmp_path / "points.npz"))
    np.testing.assert_array_equal(data.x, [0, 1, 2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.csv", None, "path: expected an existing file, got .*no.csv'"),
        ("data.txt", "x,y\n1,2\n", "path: expected a file ending in .csv or .npz, got 'data.txt'"),
        ("a.csv", "x,z\n1,2\n", r"y: expected one of \['x', 'z'\] of a.csv, got 'y'"),
        ("b.csv", "x,y\n1,2\n3,four\n", "y: expected a number in line 3 of b.csv, got 'four'"),
        ("c.csv", "x,y\n1,2\n3\n", "y: expected a number in line 3 of c.csv, got no value"),
        ("d.csv", "x,y\n", r"x: expected at least one sample"),
        ("e.csv", "", r"x: expected one of \[\] of e.csv"),
        ("f.csv", "x,y\n1,nan\n", "y: expected finite"),
        ("g.csv", b"\xff\xfe\x00\x81", "path: expected a CSV text file, got 'g.csv'"),
        ("h.npz", "hello", "path: expected an .npz file, got 'h.npz'"),
        ("i.npz", {"x": [1.0]}, r"y: expected one of \['x'\] of i.npz, got 'y'"),
        (
            "j.npz",
            {"x": [None], "y": [1.0]},
            "path: expected an undamaged file, got 'j.npz' .*[Oo]bject arrays",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, **{key: np.array(value) for key, value in content.items()})
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        jxs.data.read_dataset(path)


def test_a_single_array_and_a_folder_are_no_npz_file(tmp_path):
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="got 'array.npz', a single array"):
        jxs.data.read_dataset(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="expected an existing file"):
        jxs.data.read_dataset(tmp_path)


def pairs(*datasets):
    return sorted((float(x), float(y)) for d in datasets for x, y in zip(d.x, d.y, strict=True))


def test_a_split_keeps_every_sample_once_and_follows_its_key():
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
def test_a_split_that_leaves_a_side_empty_is_refused(fraction):
    with pytest.raises(ValueError, match="test_fraction: expected"):
        jxs.data.split(jxs.Dataset(np.arange(5), np.arange(5)), fraction, jax.random.key(0))


def test_batches_in_order_and_shuffled():
    data = jxs.Dataset(np.arange(10.0), -np.arange(10.0))
    ordered = list(jxs.data.batches(data, 4))
    np.testing.assert_array_equal(np.concatenate([b.x for b in ordered]), data.x)
    assert [len(batch) for batch in ordered] == [4, 4, 2]
    shuffled = list(jxs.data.batches(data, 4, jax.random.key(0)))
    assert pairs(*shuffled) == pairs(data)
    assert (np.concatenate([b.x for b in shuffled]) != data.x).any()


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-1, ValueError), (11, ValueError), (2.0, TypeError)]
)
def test_a_batch_size_that_cannot_be_is_refused_at_once(size, error):
    data = jxs.Dataset(np.arange(10.0), np.arange(10.0))
    for function in (jxs.data.batches, jxs.data.weigh_batches_equally):
        with pytest.raises(error, match="batch_size: expected"):
            function(data, size)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_the_mean_of_batch_means_is_a_weighted_mean(batch_size):
    generator = np.random.default_rng(0)
    data = jxs.Dataset(*generator.normal(0, 1, (2, 10)).astype(np.float32))
    weighted = jxs.data.weigh_batches_equally(data, batch_size)
    weights = jxs.Weights(0.7, -0.4)
    means = [reference.loss_at(*weights, batch) for batch in jxs.data.batches(data, batch_size)]
    assert jxs.squared_error(weights, weighted) == pytest.approx(np.mean(means), rel=1e-6)
    with pytest.raises(ValueError, match="data: expected samples without weights"):
        jxs.data.weigh_batches_equally(weighted, batch_size)


def test_the_noisy_sine():
    data = jxs.data.noisy_sine(jax.random.key(1), n=20_000, noise=0.3)
    assert abs(data.x).max() <= np.float32(np.pi)
    assert jnp.std(data.y - jnp.sin(data.x)) == pytest.approx(0.3, rel=0.03)
    clean = jxs.data.noisy_sine(jax.random.key(1), n=20, noise=0)
    np.testing.assert_array_equal(clean.y, jnp.sin(clean.x))


def test_the_teacher_is_a_minimum_of_its_students_loss():
    teacher = jxs.Weights(-0.6, 2.5)
    data = jxs.data.teacher_student(jax.random.key(1), 500, teacher)
    assert jxs.squared_error(teacher, data) == 0
    gradient = jax.grad(jxs.squared_error)(jxs.Weights(-0.6, 2.5), data)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    noisy = jxs.data.teacher_student(jax.random.key(1), 20_000, teacher, noise=0.5)
    assert jxs.squared_error(teacher, noisy) == pytest.approx(0.25, rel=0.05)


def test_a_seed_is_no_key():
    data = jxs.Dataset(np.arange(5), np.arange(5))
    for call in (
        lambda: jxs.data.noisy_sine(3),
        lambda: jxs.data.teacher_student(3),
        lambda: jxs.data.split(data, 0.5, 3),
        lambda: jxs.data.batches(data, 2, 3),
    ):
        with pytest.raises(TypeError, match=r"key: expected .* jax.random.key\(0\), got 3"):
            call()


@pytest.mark.parametrize("make", [jxs.data.noisy_sine, jxs.data.teacher_student])
def test_impossible_samples_are_refused(make):
    with pytest.raises(ValueError, match="n: expected 1 or more, got 0"):
        make(jax.random.key(0), 0)
    for noise in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="noise: expected a finite standard deviation"):
            make(jax.random.key(0), 5, noise=noise)
