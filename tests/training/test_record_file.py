"""Recorded points as rows of bytes, in memory and in files, complete or cut off."""

import gc
import mmap
import resource
import tempfile

import numpy as np
import pytest

from jaxscape.training import record_file
from jaxscape.training.record_file import Rows
from jaxscape.training.recorder import Recorder
from tests.training.helpers import ROW, assert_holds, make_points, record_points


def is_mapped(array):
    """Return whether an array is, or is based on, a memory map."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array is not None


def make_rows(count, file=None):
    """Return rows of two arrays whose numbers are those of the row."""
    rows = Rows(file)
    rows.open()
    for k in range(count):
        arrays = {"a": np.full((2, 3), k, np.float32), "b": np.array(k / 2)}
        rows.append(arrays, epoch=k)
    return rows


@pytest.mark.parametrize("on_disk", [False, True])
def test_arrays_are_returned_with_an_axis_of_rows(on_disk, tmp_path):
    file = tmp_path / "rows" if on_disk else None
    rows = make_rows(4, file)
    arrays = rows.arrays(3)
    np.testing.assert_array_equal(arrays["a"], np.repeat(np.arange(3.0), 6).reshape(3, 2, 3))
    assert arrays["a"].dtype == np.float32
    np.testing.assert_array_equal(arrays["b"], [0, 0.5, 1])
    assert is_mapped(arrays["a"]) == on_disk
    assert [end.epoch for end in rows.ends] == [0, 1, 2, 3]
    rows.drop_last()
    assert len(rows) == 3
    assert rows.location == (f"in {str(file)!r}" if on_disk else "in memory")


def test_the_first_row_that_is_not_finite_is_known_from_the_file(tmp_path):
    rows = make_rows(2, tmp_path / "rows")
    for value in (1.0, np.nan, np.inf):
        rows.append({"a": np.full((2, 3), value, np.float32), "b": np.array(0.0)}, epoch=3)
    assert rows.first_nonfinite == 3
    assert Rows(tmp_path / "rows").first_nonfinite == 3


def test_points_beyond_the_memory_limit_go_to_a_temporary_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(record_file, "_MAX_BYTES_IN_MEMORY", 3 * ROW)
    record = record_points(None, 3)
    assert "in memory" in repr(record)
    early = record.path()
    record(make_points(4)[3])
    assert "in a temporary file" in repr(record)
    record = record_points(None, 7)
    assert repr(record) == "Recorder(7 points of 24 numbers, in a temporary file)"
    path = record.path()
    assert is_mapped(path["w"])
    with pytest.raises(ValueError, match="read-only"):
        path["w"][0] = 0
    record(make_points(8)[-1])
    assert_holds(record.path(), make_points(8))
    # Paths stay valid without their recorder, and no file is left.
    del record
    gc.collect()
    assert_holds(path, make_points(7))
    assert_holds(early, make_points(3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 100, 319, 320, 321])
def test_a_row_that_was_cut_off_is_ignored(tmp_path, cut):
    """A file of four rows ends within the last row, at its start, or before it."""
    file = tmp_path / "run.params"
    record_points(file, 4)
    size = file.stat().st_size
    assert record_file._row_layout(Recorder(file)._rows.leaves)[1] == ROW
    with file.open("r+b") as handle:
        handle.truncate(size - cut)
    left = 3 if cut <= ROW else 2
    record = Recorder(file)
    assert len(record) == left
    for params in make_points(6)[left:]:
        record(params)
    assert_holds(record.path(make_points(6)[0]), make_points(6))
    assert (file.stat().st_size - record._rows._rows_start) % ROW == 0


def test_a_file_cut_off_before_its_first_row_is_written_again(tmp_path):
    file = tmp_path / "run.params"
    record_points(file, 1)
    header = file.read_bytes().split(b"\n")[0]
    for size in (0, 5, len(header) // 2, len(header)):
        file.write_bytes(header[:size])
        assert len(Recorder(file)) == 0
        record_points(file, 2)
        assert_holds(Recorder(file).path(make_points(1)[0]), make_points(2))


def test_a_full_disk_raises_an_error_and_keeps_the_points(tmp_path):
    """A size limit stands for the full disk; recording continues when there is space again."""
    file = tmp_path / "run.params"
    record = record_points(file, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, hard))
    try:
        with pytest.raises(OSError, match=r"file: cannot write to .*the 3 points recorded before"):
            record(make_points(4)[3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.stat().st_size % ROW != 0
    assert len(record) == len(Recorder(file)) == 3
    for params in make_points(5)[3:]:
        record(params)
    assert_holds(record.path(), make_points(5))
    assert len(Recorder(file)) == 5


def test_a_kill_while_deleted_rows_are_overwritten_leaves_no_mixed_row(tmp_path):
    """The status of a row is written last; until then the row is invalid."""
    file = tmp_path / "run.params"
    record = record_points(file, 4)
    record.rewind(0)
    start = record._rows._rows_start
    del record
    other = record_points(tmp_path / "other", 2, seed=1)
    del other
    row = (tmp_path / "other").read_bytes()[start + ROW :]
    for written in (1, 200, ROW - 8):
        with file.open("r+b") as handle:
            handle.seek(start + ROW)
            handle.write(row[:written])
        assert len(Recorder(file)) == 1
    with file.open("r+b") as handle:
        handle.seek(start + ROW)
        handle.write(row)
    assert_holds(
        Recorder(file).path(make_points(1)[0]), [make_points(1)[0], make_points(2, seed=1)[1]]
    )


def test_one_recorder_at_a_time_writes_to_a_file(tmp_path):
    file = tmp_path / "run.params"
    first, second = Recorder(file), Recorder(file)
    first(make_points(1)[0])
    with pytest.raises(OSError, match="another recorder writes to"):
        second(make_points(1)[0])
    with pytest.raises(OSError, match="another recorder writes to"):
        second.rewind(0)
    first(make_points(2)[1])
    del first
    gc.collect()
    # It has not read the rows of the first recorder yet.
    assert len(second) == 0
    second(make_points(3)[2])
    assert len(second) == 3
    np.testing.assert_array_equal(second.epoch, [0, 1, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some other file\n", "was not written by a recorder"),
        (b'{"jaxscape": "something else"}\n', "was not written by a recorder"),
        (b'{"jaxscape": "recorder", "schema": 1, "leaves": [["w", "float33", []]]}\n', "damaged"),
        (b'{"jaxscape": "recorder", "schema": 1}\n', "is damaged: 'leaves'"),
        (b'{"jaxscape": "recorder", "schema": 99}\n', "a newer jaxscape .schema 99"),
    ],
)
def test_other_files_raise_an_error_and_are_left_unchanged(content, message, tmp_path):
    file = tmp_path / "run.params"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Recorder(file)
    assert file.read_bytes() == content


def test_folders_and_missing_folders_raise_an_error(tmp_path):
    with pytest.raises(ValueError, match="file: expected a folder that exists"):
        Recorder(tmp_path / "nowhere" / "run.params")
    with pytest.raises(ValueError, match="file: expected a file, got the folder"):
        Recorder(tmp_path)
