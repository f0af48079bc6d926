"""Grids in a folder lose no written row, and no partial row block passes for a complete one."""

import json
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape._util import files
from jaxscape.grid import destination
from jaxscape.results import landscape
from tests.grid.helpers import AXES, computed_blocks

ROOT = Path(__file__).parents[2]

SMALL = 20_000
"""A budget that divides these 37 rows into several blocks."""


def make_data(n=500, shift=0.0):
    generator = np.random.default_rng(n)
    x = generator.normal(0.3, 2.0, n).astype(np.float32)
    return jxs.Dataset(x, (np.sin(x) + 0.4 * x + shift).astype(np.float32))


def compute(folder, data=None, loss=jxs.absolute_error, **changes):
    options = {"memory": SMALL, "destination": folder} | AXES | changes
    return jxs.landscape(loss, make_data() if data is None else data, **options)


def journal(folder):
    """Return the first row, the end and the checksum of each written row block."""
    lines = (folder / "done.0.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line]


def test_a_destination_holds_the_same_grid_as_memory(tmp_path):
    surface = compute(tmp_path / "grid")
    whole = jxs.landscape(jxs.absolute_error, make_data(), **AXES)
    assert isinstance(surface.loss, np.memmap)
    assert not surface.loss.flags.writeable
    np.testing.assert_allclose(surface.loss, whole.loss, rtol=1e-6)
    # Other tools read .npy files too.
    np.testing.assert_array_equal(np.load(tmp_path / "grid" / "loss.npy"), surface.loss)
    np.testing.assert_array_equal(np.load(tmp_path / "grid" / "a.npy"), whole.a.values)
    np.testing.assert_array_equal(np.load(tmp_path / "grid" / "b.npy"), whole.b.values)
    assert len(journal(tmp_path / "grid")) > 2


def test_missing_rows_are_those_between_the_written_ones():
    written = [range(2, 5), range(7, 9)]
    assert destination.missing_rows(written, 12) == [range(2), range(5, 7), range(9, 12)]
    assert destination.missing_rows([], 3) == [range(3)]
    assert destination.missing_rows([range(3)], 3) == []


def test_a_destination_keeps_units_and_marks(tmp_path):
    def compute_on_plane(folder, units=("distance", ""), marks=((0.5, 1.5, "first"),)):
        plane = jxs.Plane([1.0, 2.0], [1.0, None], [None, 1.0], units=units, marks=marks)
        return jxs.landscape(
            lambda p, _: p[0] ** 2 * p[1], None, plane, destination=folder, a=(0, 1, 3), b=(0, 2, 4)
        )

    for surface in (compute_on_plane(tmp_path / "grid"), destination.load(tmp_path / "grid")):
        assert (surface.a.unit, surface.b.unit) == ("distance", "")
        assert surface.marks == ((0.5, 1.5, "first"),)
        assert surface.marks[0].name == "first"
    # A folder of an earlier version has neither; the same call continues it.
    path = tmp_path / "grid" / "landscape.json"
    header = json.loads(path.read_text())
    del header["units"], header["marks"], header["checksum"]
    path.write_text(json.dumps(header))
    old = destination.load(tmp_path / "grid")
    assert (old.a.title, old.marks) == ("a", ())
    assert compute_on_plane(tmp_path / "grid").marks[0].name == "first"
    # Another call replaces both, and nothing else.
    begun = json.loads(path.read_text())
    later = compute_on_plane(tmp_path / "grid", ("", "steps"), ((1, 2, "other"),))
    for surface in (later, destination.load(tmp_path / "grid")):
        assert (surface.a.unit, surface.b.unit) == ("", "steps")
        assert surface.marks == ((1, 2, "other"),)
    now = json.loads(path.read_text())
    assert {name for name in now if now[name] != begun[name]} == {"units", "marks", "checksum"}


def test_a_complete_destination_is_read_and_not_computed_again(tmp_path, monkeypatch):
    first = compute(tmp_path / "grid")
    seen = computed_blocks(monkeypatch)
    again = compute(tmp_path / "grid", memory=None)
    assert seen == []
    np.testing.assert_array_equal(first.loss, again.loss)


def test_the_archive_opens_a_destination(tmp_path):
    surface = compute(tmp_path / "grid")
    archive = jxs.archive.load(tmp_path / "grid")
    assert archive.paths == ()
    assert repr(archive.landscape) == repr(surface)
    assert archive.landscape.loss_name == "absolute error"


def interrupt_write(monkeypatch, count):
    """Press Ctrl-C before row block number `count` is written."""
    original = destination.Destination.write

    def write(self, rows, losses):
        nonlocal count
        count -= 1
        if count < 0:
            signal.raise_signal(signal.SIGINT)
        original(self, rows, losses)

    monkeypatch.setattr(destination.Destination, "write", write)


def test_ctrl_c_keeps_the_rows_and_the_same_call_continues(tmp_path, monkeypatch):
    folder = tmp_path / "grid"
    with monkeypatch.context() as patched:
        interrupt_write(patched, 2)
        with pytest.warns(jxs.InterruptedWarning, match="rows are done") as caught:
            part = compute(folder)
    assert 0 < len(part.a) < 37
    assert f"the first {len(part.a)} of 37 rows are done" in str(caught[0].message)
    assert not (folder / "loss.npy").exists()
    assert len(jxs.archive.load(folder).landscape.a) == len(part.a)
    seen = computed_blocks(monkeypatch)
    # Another budget gives other row blocks, and only the missing rows are computed.
    surface = compute(folder, memory=2 * SMALL)
    assert seen[0].start == len(part.a)
    whole = jxs.landscape(jxs.absolute_error, make_data(), **AXES)
    np.testing.assert_allclose(surface.loss, whole.loss, rtol=1e-6)


PROGRAM = """
import os, signal, sys
import numpy as np
import jaxscape as jxs
from jaxscape.grid import destination as store

sys.path.insert(0, {tests!r})
from tests.grid.test_destination import compute

write, count = store.Destination.write, 0

def killed(self, rows, losses):
    global count
    count += 1
    if count == 3:
        # In the middle of a row block: its bytes are written, its line is cut off.
        write_line, store.json.dumps = store.json.dumps, lambda _: "[0, 5"
        write(self, rows, losses)
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, rows, losses)

store.Destination.write = killed
compute(store.Path({folder!r}))
"""


def test_a_kill_loses_only_the_row_block_in_progress(tmp_path, monkeypatch):
    folder = tmp_path / "grid"
    program = PROGRAM.format(tests=str(ROOT), folder=str(folder))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    lines = (folder / "done.0.jsonl").read_text().splitlines()
    assert len([line for line in lines if line.endswith("]")]) == 2
    assert lines[-1] == "[0, 5"
    written = json.loads(lines[2])[1]
    seen = computed_blocks(monkeypatch)
    surface = compute(folder)
    assert seen[0].start == written
    whole = jxs.landscape(jxs.absolute_error, make_data(), **AXES)
    np.testing.assert_allclose(surface.loss, whole.loss, rtol=1e-6)


def test_losses_of_zero_below_zero_and_nan_do_not_count_as_missing(tmp_path, monkeypatch):
    def loss(weights, data):
        kinds = jnp.array([0.0, -1.0, jnp.nan]) * jnp.mean(data.x) / jnp.mean(data.x)
        return kinds[jnp.int32(weights.w1)]

    axes = {"w1": np.array([0.0, 1.0, 2.0]), "w2": (0, 1, 4)}
    for _ in range(2):
        with pytest.warns(jxs.NonFiniteWarning, match="4 of 12 cells"):
            surface = compute(tmp_path / "grid", loss=loss, **axes)
        np.testing.assert_array_equal(surface.loss[:, 0], [0, -1, np.nan])
        seen = computed_blocks(monkeypatch)
    assert seen == []


def other_loss(weights, data):
    return jxs.absolute_error(weights, data) * 1.0001


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"loss": other_loss}, "loss"),
        ({"loss": jxs.huber(0.5)}, "loss"),
        ({"data": make_data(shift=1e-3)}, "data"),
        ({"data": make_data(501)}, "loss, data"),
        ({"w1": (-2.1, 1.701, 37)}, "axis w1"),
        ({"w2": (-1.3, 2.9, 24)}, "axis w2"),
        (
            {
                "plane": jxs.Plane(
                    jxs.Weights(0.0, 0.5),
                    jxs.Weights(1.0, None),
                    jxs.Weights(None, 1.0),
                    ("w1", "w2"),
                )
            },
            "plane",
        ),
    ],
)
def test_another_grid_is_refused_with_the_difference(tmp_path, changes, named):
    compute(tmp_path / "grid")
    before = {path.name: path.read_bytes() for path in (tmp_path / "grid").iterdir()}
    with pytest.raises(ValueError, match=rf"was begun with another {named}; give another folder"):
        compute(tmp_path / "grid", **changes)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "grid").iterdir()}


def test_another_method_is_refused(tmp_path):
    compute(tmp_path / "grid", loss=jxs.squared_error)
    with pytest.raises(ValueError, match="begun with another method"):
        compute(tmp_path / "grid", loss=jxs.squared_error, method="dense")


def test_the_same_loss_written_again_continues(tmp_path):
    """A loss is identified by its computation: in a new process, a lambda is a new object."""
    for _ in range(2):
        compute(tmp_path / "grid", loss=lambda w, d: jnp.mean(jnp.abs(w.w1 * d.x + w.w2)))


@pytest.mark.parametrize("wrapped", [lambda loss: loss, jax.jit, jax.checkpoint])
@pytest.mark.parametrize("in_place", [False, True])
def test_values_that_a_loss_holds_are_part_of_it(tmp_path, wrapped, in_place):
    """So are those of a function that it calls, and constants printed without their values."""

    def around(values):
        return wrapped(lambda w, d: jnp.mean(jnp.abs(w.w1 * d.x + w.w2 - values)))

    jax.config.update("jax_use_simplified_jaxpr_constants", in_place)
    try:
        compute(tmp_path / "grid", loss=around(np.zeros(500, np.float32)))
        with pytest.raises(ValueError, match="another loss"):
            compute(tmp_path / "grid", loss=around(np.full(500, 0.5, np.float32)))
    finally:
        jax.config.update("jax_use_simplified_jaxpr_constants", False)


def test_two_processes_cannot_write_to_one_destination(tmp_path):
    compute(tmp_path / "grid")
    with (tmp_path / "grid" / "lock").open("w") as other:
        files.lock(other, "not raised")
        with pytest.raises(OSError, match="destination: another process is writing to"):
            compute(tmp_path / "grid")
    compute(tmp_path / "grid")


def test_rows_with_a_flipped_byte_are_refused(tmp_path):
    folder = tmp_path / "grid"
    compute(folder)
    first, end, checksum = journal(folder)[1]
    raw = bytearray((folder / "loss.npy").read_bytes())
    position = len(raw) - 37 * 23 * 4 + (first * 23 + 5) * 4
    raw[position] ^= 1
    (folder / "loss.npy").write_bytes(raw)
    for read in (lambda: compute(folder), lambda: jxs.archive.load(folder)):
        with pytest.raises(ValueError, match=rf"rows {first} to {end - 1} in .* were altered"):
            read()
    assert zlib.crc32(b"") != checksum


@pytest.mark.parametrize(
    ("original", "altered"),
    [(b"<f4", b">f4"), (b"(37, ", b"(33, "), (b"23)", b"63)"), (b"{", b"(")],
)
def test_a_flipped_byte_in_the_header_of_the_losses_is_damage(tmp_path, original, altered):
    """The losses are unchanged, but would be read as other numbers."""
    folder = tmp_path / "grid"
    compute(folder)
    raw = (folder / "loss.npy").read_bytes()
    assert raw[:128].count(original) == 1
    (folder / "loss.npy").write_bytes(raw.replace(original, altered, 1))
    for read in (lambda: compute(folder), lambda: jxs.archive.load(folder)):
        with pytest.raises(ValueError, match=r"path: .*loss.npy' is damaged"):
            read()


@pytest.mark.parametrize("name", ["schema", "jax", "loss_name", "names", "shape", "identity"])
def test_a_flipped_byte_in_a_field_of_the_description_is_damage(tmp_path, name):
    folder = tmp_path / "grid"
    compute(folder)
    path = folder / "landscape.json"
    path.write_text(path.read_text().replace(f'"{name}"', f'"{name[:-1]}_"'))
    for read in (lambda: compute(folder), lambda: jxs.archive.load(folder)):
        with pytest.raises(ValueError, match=rf"landscape.json' is damaged: .*{name}"):
            read()


def test_no_flipped_bit_in_the_description_changes_what_is_loaded(tmp_path):
    plane = jxs.Plane([1.0, 2.0], [1.0, None], [None, 1.0], marks=((0.5, 1.5, "first ∂"),))

    def compute_on_plane():
        return jxs.landscape(
            lambda p, _: p[0] * p[1], None, plane, destination=tmp_path / "grid", a=(0, 1, 3),
            b=(0, 2, 4),
        )  # fmt: skip

    whole, path = compute_on_plane(), tmp_path / "grid" / "landscape.json"
    saved, refused = path.read_bytes(), 0
    for k in range(len(saved)):
        for bit in range(8):
            path.write_bytes(saved[:k] + bytes([saved[k] ^ 1 << bit]) + saved[k + 1 :])
            try:
                loaded = destination.load(tmp_path / "grid")
            except ValueError:
                refused += 1
            else:
                assert repr(loaded) == repr(whole)
                assert loaded.marks == whole.marks
                assert (loaded.a.title, loaded.b.title) == (whole.a.title, whole.b.title)
    assert refused > 6 * len(saved)
    path.write_bytes(saved.replace(b"first", b"fiRst"))
    with pytest.raises(ValueError, match=r"landscape.json' is damaged: it was altered after"):
        compute_on_plane()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema", "1"),
        ("schema", float("inf")),
        ("loss_name", 3),
        ("names", ["a"]),
        ("shape", [3.0, 4]),
        ("dtype", 4),
        ("dtype", "float31"),
        ("identity", ["a"]),
        ("units", [1, 2]),
        ("marks", 3),
        ("marks", [[0.0, "1", "first"]]),
    ],
)
def test_a_rebuilt_description_with_a_field_of_another_type_is_damaged(tmp_path, name, value):
    folder = tmp_path / "grid"
    compute(folder)
    path = folder / "landscape.json"
    header = json.loads(path.read_text()) | {name: value}
    del header["checksum"]
    path.write_text(json.dumps(header))
    with pytest.raises(ValueError, match="path: .* is damaged: "):
        jxs.archive.load(folder)
    if value != "float31":  # the dtype of the call is used
        with pytest.raises(ValueError, match="path: .* is damaged: "):
            compute(folder)
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"is damaged: expected a dictionary .* got \[1, 2\]"):
        jxs.archive.load(folder)


@pytest.mark.parametrize("line", ["[5, 2, 7]", "[0, 99, 7]", "7", "[0, [5], 7]"])
def test_rows_with_a_damaged_journal_line_are_computed_again(tmp_path, line):
    folder = tmp_path / "grid"
    truth = np.array(compute(folder).loss)
    lines = (folder / "done.0.jsonl").read_text().splitlines()
    (folder / "done.0.jsonl").write_text("\n".join([line, *lines[2:]]))
    assert not np.array_equal(journal(folder)[0], json.loads(lines[1]))
    np.testing.assert_array_equal(compute(folder).loss, truth)


def test_following_the_message_about_altered_rows_repairs_them(tmp_path):
    folder = tmp_path / "grid"
    truth = np.array(compute(folder).loss)
    first, end, _ = journal(folder)[1]
    raw = bytearray((folder / "loss.npy").read_bytes())
    raw[len(raw) - 37 * 23 * 4 + first * 23 * 4] ^= 1
    (folder / "loss.npy").write_bytes(raw)
    lines = (folder / "done.0.jsonl").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"[{first}, {end},")]
    (folder / "done.0.jsonl").write_text("\n".join(kept))
    np.testing.assert_array_equal(compute(folder).loss, truth)


@pytest.mark.parametrize("name", ["loss.npy", "landscape.json", "a.npy"])
def test_a_file_cut_short_is_damaged(tmp_path, name):
    folder = tmp_path / "grid"
    compute(folder)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is damaged"):
        jxs.archive.load(folder)
    if name != "a.npy":
        with pytest.raises(ValueError, match="is damaged"):
            compute(folder)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("thesis")
    with pytest.raises(ValueError, match=r"expected an empty folder or .* with thesis.tex"):
        compute(tmp_path)
    with pytest.raises(ValueError, match="was not written by jaxscape"):
        jxs.archive.load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "thesis"


@pytest.mark.parametrize("stage", ["a.npy", "b.npy", "landscape.json"])
def test_a_call_killed_while_it_creates_the_files_is_started_again(tmp_path, monkeypatch, stage):
    def stop(path, *_):
        raise SystemExit

    folder = tmp_path / "grid"
    with monkeypatch.context() as patched:
        if stage == "landscape.json":
            patched.setattr(files.os, "replace", stop)
        else:
            save = np.save
            patched.setattr(
                destination.np,
                "save",
                lambda path, x: stop(path) if path.name == stage else save(path, x),
            )
        with pytest.raises(SystemExit):
            compute(folder)
    assert not (folder / "landscape.json").exists()
    # A kill leaves the draft of the description.
    (folder / ".landscape.json.1234.draft").write_text("{")
    whole = jxs.landscape(jxs.absolute_error, make_data(), **AXES)
    np.testing.assert_allclose(compute(folder).loss, whole.loss, rtol=1e-6)


def test_impossible_destinations_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="destination: expected a folder, got the file"):
        compute(tmp_path / "file")
    with pytest.raises(ValueError, match="destination: expected a folder whose parent exists"):
        compute(tmp_path / "no" / "grid")


def test_a_destination_that_cannot_be_written_to_is_an_error():
    with pytest.raises(OSError, match="destination: cannot write to '/proc/grid'"):
        compute("/proc/grid")


def test_too_little_disk_space_is_an_error_before_anything_is_computed(tmp_path, monkeypatch):
    seen = computed_blocks(monkeypatch)
    usage = destination.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(destination.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"expected 3,404 bytes of free space .* got 1,000"):
        compute(tmp_path / "grid")
    assert seen == []


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from tests.grid.test_destination import compute
from jaxscape.grid import destination as store

write, count = store.Destination.write, 0

def limited(self, rows, losses):
    global count
    count += 1
    if count == 3:  # no file may grow any more, like on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    write(self, rows, losses)

store.Destination.write = limited
try:
    compute(store.Path({folder!r}))
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_an_error_and_loses_only_the_row_block_in_progress(tmp_path, monkeypatch):
    folder = tmp_path / "grid"
    program = FULL.format(tests=str(ROOT), folder=str(folder))
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "destination: cannot write to" in ended.stdout
    assert "the rows written before are kept" in ended.stdout
    done = journal(folder)
    assert len(done) == 2
    assert not (folder / "loss.npy").exists()
    seen = computed_blocks(monkeypatch)
    surface = compute(folder)
    assert seen[0].start == done[-1][1]
    whole = jxs.landscape(jxs.absolute_error, make_data(), **AXES)
    np.testing.assert_allclose(surface.loss, whole.loss, rtol=1e-6)


def test_a_newer_schema_is_refused(tmp_path):
    compute(tmp_path / "grid")
    path = tmp_path / "grid" / "landscape.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    with pytest.raises(ValueError, match="written by a newer jaxscape"):
        jxs.archive.load(tmp_path / "grid")


def test_a_dtype_that_npy_files_lack_is_refused(tmp_path):
    data = jxs.Dataset(jnp.ones(9, jnp.bfloat16), jnp.zeros(9, jnp.bfloat16))
    with pytest.raises(ValueError, match="expected float16, float32 or float64, got bfloat16"):
        compute(tmp_path / "grid", data)


def test_random_keys_may_be_part_of_the_data(tmp_path):
    def loss(weights, key):
        return jax.random.normal(key) * weights.w1 + weights.w2

    compute(tmp_path / "grid", jax.random.key(0), loss=loss)
    with pytest.raises(ValueError, match="another data"):
        compute(tmp_path / "grid", jax.random.key(1), loss=loss)


def test_a_summary_reads_a_few_rows_at_a_time(tmp_path, monkeypatch):
    """The losses need not fit in memory."""
    surface = compute(tmp_path / "grid")
    monkeypatch.setattr(landscape, "_CELLS_AT_ONCE", 60)
    whole = np.array(surface.loss)
    again = jxs.archive.load(tmp_path / "grid").landscape
    i, j = np.unravel_index(whole.argmin(), whole.shape)
    assert again.lowest == (i, j, again.a.values[i], again.b.values[j], whole.min())
    assert f"{whole.max():.6g}" in repr(again)
