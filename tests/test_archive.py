"""Archives return what was saved, and other files raise errors that say what is wrong."""

import json
import os
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import jaxscape as jxs
from jaxscape.results.landscape import Mark


def make_landscape(loss):
    n1, n2 = np.shape(loss)
    axes = jxs.Axis(np.arange(n1) / 3, "w1", "distance"), jxs.Axis(np.arange(n2) ** 2.0, "b ∂")
    marks = (Mark(0.0, 1.5, "first"), Mark(-0.1, 2.0, "→"))
    return jxs.Landscape(
        np.asarray(loss), *axes, loss_name="squared error", method="dense", marks=marks
    )


def make_path(params, evaluation=None):
    length = len(jax.tree.leaves(params)[0])
    return jxs.Trajectory(
        params=params,
        step=np.arange(length),
        training_loss=np.ones(length, np.float32),
        evaluation_loss=evaluation,
        diverged_step=np.int32(-1),
        steps_per_epoch=7,
    )


def assert_same(loaded, saved):
    assert jax.tree.structure(loaded) == jax.tree.structure(saved)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(saved), strict=True):
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_array_equal(ours, theirs)


@given(
    loss=arrays.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.sampled_from([(2, 5), (4, 3)]),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    )
)
@settings(max_examples=30, deadline=None)
def test_a_loaded_landscape_equals_the_saved_one_bit_for_bit(tmp_path_factory, loss):
    path = tmp_path_factory.mktemp("archive") / "surface.npz"
    landscape = make_landscape(loss)
    jxs.archive.save(path, landscape)
    loaded = jxs.archive.load(path)
    assert_same(loaded.landscape, landscape)
    assert loaded.paths == ()


def test_loaded_paths_equal_the_saved_ones(tmp_path):
    data = jxs.data.noisy_sine(jax.random.key(0))
    surface = jxs.landscape(jxs.squared_error, data, w1=(-1, 2, 5), w2=(0, 2, 4))
    path = jxs.descend(
        jxs.squared_error, jxs.Weights(1.0, 1.0), data, optimizer=optax.sgd(0.1), epochs=3,
        evaluate=data,
    )  # fmt: skip
    nested = make_path({"layers": [np.ones((3, 2)), (np.zeros(3), None)], "b": np.arange(3)})
    jxs.archive.save(tmp_path / "all.npz", surface, path, nested)
    loaded = jxs.archive.load(tmp_path / "all.npz")
    assert_same(loaded.landscape, surface)
    assert_same(loaded.paths[0], path)
    assert isinstance(loaded.paths[0].params, jxs.Weights)
    assert_same(loaded.paths[1], nested)
    assert repr(loaded.landscape) == repr(surface)


def test_parameters_with_the_same_dotted_name_are_saved_separately(tmp_path):
    path = make_path({"a": {"b": np.zeros(3)}, "a.b": np.ones(3)})
    jxs.archive.save(tmp_path / "a.npz", make_landscape(np.ones((2, 2))), path)
    assert_same(jxs.archive.load(tmp_path / "a.npz").paths[0], path)


def test_float64_losses_are_loaded_without_x64(tmp_path):
    jxs.archive.save(tmp_path / "a.npz", make_landscape(np.full((2, 3), 0.1)))
    assert jxs.archive.load(tmp_path / "a.npz").landscape.loss[0, 0] == np.float64(0.1)


@pytest.mark.parametrize("kind", ["object", "bfloat16"])
def test_parameters_that_npz_cannot_hold_raise_an_error(tmp_path, kind):
    odd = {"object": {"f": jnp.tanh}, "bfloat16": {"w": jnp.ones(3, jnp.bfloat16)}}[kind]
    path = make_path({"w": np.ones(3)})
    path = jxs.Trajectory(**(vars(path) | {"params": odd}))
    with pytest.raises(TypeError, match=r"path0.params.[fw]: expected"):
        jxs.archive.save(tmp_path / "a.npz", make_landscape(np.ones((2, 2))), path)
    assert list(tmp_path.iterdir()) == []


def rewrite(path, change):
    """Change the header of an archive."""
    with np.load(path) as file:
        content = dict(file)
    header = json.loads(str(content["jaxscape"]))
    change(header, content)
    content["jaxscape"] = np.array(json.dumps(header))
    np.savez(path, **content)


def test_files_of_schema_1_are_loaded(tmp_path):
    """Their paths have points and losses only."""
    path, descent = tmp_path / "a.npz", make_path({"w1": np.arange(3.0), "w2": np.arange(3.0)})
    jxs.archive.save(path, make_landscape(np.ones((2, 3))), descent)
    later = ("step_size", "path_length", "learning_rate", "gradient_norm", "name")

    def age(header, _):
        header["schema"] = 1
        for name in later:
            del header["paths"][0][name]

    rewrite(path, age)
    assert_same(jxs.archive.load(path).paths[0], descent)


def test_files_of_schema_2_are_loaded(tmp_path):
    """Their landscapes have neither units nor marks."""
    path, landscape = tmp_path / "a.npz", make_landscape(np.ones((2, 3)))
    jxs.archive.save(path, landscape)

    def age(header, _):
        header["schema"] = 2
        del header["landscape"]["marks"]
        for name in "ab":
            del header["landscape"][name][2]

    rewrite(path, age)
    loaded = jxs.archive.load(path).landscape
    assert (loaded.marks, loaded.a.unit, loaded.a.name) == ((), "", "w1")
    np.testing.assert_array_equal(loaded.loss, landscape.loss)


def test_a_loaded_descent_has_all_its_records(tmp_path):
    data = jxs.Dataset(np.linspace(-1, 1, 9), np.linspace(0, 1, 9))
    optimizers = {"named": optax.inject_hyperparams(optax.sgd)(0.1)}
    found = jxs.descend(
        jxs.squared_error, jxs.Weights(1.0, 1.0), data, optimizer=optimizers, epochs=2
    )
    jxs.archive.save(tmp_path / "a.npz", make_landscape(np.ones((2, 3))), found["named"])
    loaded = jxs.archive.load(tmp_path / "a.npz").paths[0]
    assert loaded.name == "named"
    assert_same(loaded, found["named"])
    np.testing.assert_allclose(loaded.learning_rate, 0.1, rtol=1e-6)


def test_foreign_damaged_and_newer_files_raise_different_errors(tmp_path):
    path = tmp_path / "a.npz"

    def fresh():
        jxs.archive.save(path, make_landscape(np.arange(600.0).reshape(20, 30)))

    def refused(message):
        with pytest.raises(ValueError, match=message):
            jxs.archive.load(path)

    refused("path: expected an existing file, got .*a.npz'")
    for junk in (b"", b"hello", b"\x93NUMPY"):
        path.write_bytes(junk)
        refused("'a.npz' was not written by jaxscape: it is not an .npz file")
    np.savez(path, x=np.ones(3))
    refused(r"'a.npz' was not written by jaxscape: it contains \['x'\]")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "<a/>")
    refused("'a.npz' was not written by jaxscape: it contains")
    fresh()
    rewrite(path, lambda header, _: header.update(schema=4))
    refused("'a.npz' was written by a newer jaxscape .schema 4, this one reads up to 3.: update")
    fresh()
    rewrite(path, lambda _, content: content.pop("loss"))
    refused("'a.npz' is damaged")
    fresh()
    rewrite(path, lambda _, content: content.update(loss=np.ones((2, 2))))
    refused("'a.npz' is damaged: a loss of shape")
    fresh()
    rewrite(path, lambda header, _: header.pop("paths"))
    refused("'a.npz' is damaged")
    fresh()
    whole = path.read_bytes()
    for end in (10, 1000, len(whole) - 1):
        path.write_bytes(whole[:end])
        refused("'a.npz' is damaged")


def test_a_flipped_bit_in_the_losses_is_detected(tmp_path):
    path = tmp_path / "a.npz"
    jxs.archive.save(path, make_landscape(np.arange(12.0).reshape(3, 4) + 0.5))
    whole = path.read_bytes()
    start = whole.index((np.arange(12.0) + 0.5).tobytes())
    for k in range(start, start + 12 * 8, 5):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :])
        with pytest.raises(ValueError, match="'a.npz' is damaged"):
            jxs.archive.load(path)


def test_no_flipped_bit_outside_of_the_numbers_changes_what_is_loaded(tmp_path):
    """A bit in the header of a member larger than 4 KiB could make it shorter without an error."""
    path, whole = tmp_path / "a.npz", make_landscape(np.arange(3000.0).reshape(50, 60) + 0.5)
    jxs.archive.save(path, whole)
    saved = path.read_bytes()
    start = saved.index(np.asarray(whole.loss).tobytes())
    end = start + whole.loss.nbytes
    header = range(saved.index(b"\x93NUMPY", saved.index(b"loss.npy")), start)
    others = [k for k in range(len(saved)) if not start <= k < end and k not in header]
    refused = 0
    for k in [*header, *others[::23]]:
        for bit in range(8):
            path.write_bytes(saved[:k] + bytes([saved[k] ^ 1 << bit]) + saved[k + 1 :])
            try:
                loaded = jxs.archive.load(path)
            except ValueError:
                refused += 1
            else:
                assert k not in header
                assert_same(loaded.landscape, whole)
    assert refused > 8 * len(header)


@pytest.mark.parametrize(
    "change",
    [
        lambda header, _: header["landscape"].update(marks=[[0.0, "1.5", "first"]]),
        lambda header, _: header["landscape"].update(marks=3),
        lambda header, _: header["landscape"].update(marks=[[0.0, 1.0]]),
        lambda header, _: header["landscape"].update(loss_name=3),
        lambda header, _: header["landscape"].update(method=None),
        lambda header, _: header["landscape"].update(a=["a", ["w1"], ""]),
        lambda header, _: header["landscape"].update(b=["b", "w2", 7]),
        lambda header, _: header["landscape"].update(other=7),
        lambda header, _: header.update(landscape=[1, 2]),
        lambda header, _: header.update(schema="3"),
        lambda header, _: header.update(schema=None),
        lambda header, _: header.update(schema=2.5),
        lambda header, _: header.update(paths={"a": 1}),
        lambda header, _: header["paths"][0].update(step=None),
        lambda header, _: header["paths"][0].update(training_loss={"list": ["path0.step"]}),
        lambda header, _: header["paths"][0].update(steps_per_epoch="7"),
        lambda header, _: header["paths"][0].update(name=None),
        lambda _, content: content.update(a=np.ones((50, 1))),
        lambda _, content: content.update(a=np.array("w1")),
        lambda _, content: content.update(a=np.ones(()), loss=np.ones(3)),
        lambda _, content: content.update(a=np.ones(0), loss=np.ones((0, 3))),
        lambda _, content: content.update(loss=np.full((2, 3), "x")),
        lambda _, content: content.update({"path0.step": np.int32(0)}),
        lambda _, content: content.update({"path0.params.w": np.ones(2)}),
    ],
)
def test_a_rebuilt_file_with_fields_of_other_types_is_damaged(tmp_path, change):
    path = tmp_path / "a.npz"
    jxs.archive.save(path, make_landscape(np.ones((2, 3))), make_path({"w": np.ones(3)}))
    rewrite(path, change)
    with pytest.raises(ValueError, match="path: 'a.npz' is damaged: "):
        jxs.archive.load(path)


@pytest.mark.parametrize("header", ["[1, 2]", "3", "null", '"text"', "{", '{"schema": true}'])
def test_a_header_that_is_not_a_dictionary_with_a_schema_is_damaged(tmp_path, header):
    np.savez(tmp_path / "a.npz", jaxscape=np.array(header), loss=np.ones(3))
    with pytest.raises(ValueError, match="path: 'a.npz' is damaged: "):
        jxs.archive.load(tmp_path / "a.npz")


def test_a_file_that_contains_an_array_twice_is_damaged(tmp_path):
    path = tmp_path / "a.npz"
    jxs.archive.save(path, make_landscape(np.ones((2, 3))))
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("loss.npy", file.read("loss.npy"))
    with pytest.raises(ValueError, match="'a.npz' is damaged: it contains 'loss' twice"):
        jxs.archive.load(path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    old = make_landscape(np.ones((2, 3)))
    jxs.archive.save(path, old)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        jxs.archive.save(path, make_landscape(np.zeros((2, 3))))
    monkeypatch.undo()
    assert_same(jxs.archive.load(path).landscape, old)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_objects_of_the_wrong_type_raise_errors(tmp_path):
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got ndarray"):
        jxs.archive.save(tmp_path / "a.npz", np.ones(3))
    with pytest.raises(TypeError, match="paths: expected a Trajectory, got Landscape"):
        jxs.archive.save(tmp_path / "a.npz", *[make_landscape(np.ones((2, 3)))] * 2)


def test_a_missing_folder_and_a_folder_as_file_raise_errors(tmp_path):
    landscape = make_landscape(np.ones((2, 3)))
    with pytest.raises(ValueError, match="path: expected a folder that exists"):
        jxs.archive.save(tmp_path / "no" / "a.npz", landscape)
    with pytest.raises(ValueError, match="path: expected a file, got the folder"):
        jxs.archive.save(tmp_path, landscape)
