"""Files are replaced in one step, written whole, locked, and verified."""

import errno
import os
import subprocess
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest

from jaxscape._util import files
from jaxscape._util.files import (
    append_line,
    check_target_file,
    check_target_folder,
    checksum,
    is_draft_of,
    lock,
    open_for_update,
    read_npz_array,
    replacing,
    write_at,
)


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
        [draft] = {entry.name for entry in tmp_path.iterdir()} - {"notes.txt"}
        assert is_draft_of(draft, "notes.txt")
        assert not is_draft_of(draft, "other.txt")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_an_error_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half" * (1 // 0))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_only_possible_places_are_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for name in ("file", "new"):
        check_target_file(Path(name))
    for name in ("folder", "new"):
        check_target_folder(Path(name))
    with pytest.raises(ValueError, match="path: expected a folder that exists, got 'no'"):
        check_target_file(Path("no/file"))
    with pytest.raises(ValueError, match="plot: expected a file, got the folder 'folder'"):
        check_target_file(Path("folder"), "plot")
    with pytest.raises(ValueError, match="path: expected a folder whose parent exists, got 'no/f"):
        check_target_folder(Path("no/folder"))
    with pytest.raises(ValueError, match="grid: expected a folder, got the file 'file'"):
        check_target_folder(Path("file"), "grid")


def test_opening_for_update_keeps_the_content(tmp_path):
    path = tmp_path / "numbers"
    for content in (b"ab", b"cdef"):
        with open_for_update(path) as file:
            write_at(file, 0, content)
    with open_for_update(path) as file:
        write_at(file, 3, b"x")
        file.seek(0)
        assert file.read() == b"cdex"


def test_arrays_are_written_from_an_offset(tmp_path):
    path, values = tmp_path / "numbers", np.float16([[1.5, -2.0, 3.0], [0.0, np.nan, 7.0]])
    path.write_bytes(b"header__")
    with path.open("r+b") as file:
        write_at(file, 8, values)
    assert path.read_bytes() == b"header__" + values.tobytes()


def test_a_partial_write_is_continued():
    written = []

    class Slow:
        """Takes three bytes a call, as a raw file may."""

        def seek(self, start):
            written.append(start)

        def write(self, values):
            written.append(bytes(values[:3]))
            return len(values[:3])

    write_at(Slow(), 5, b"12345678")
    assert written == [5, b"123", b"456", b"78"]


def test_lines_are_appended_after_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"[0, 3]\n[3, ")
    append_line(path, "[3, 5]")
    append_line(path, "[5, 6]")
    assert path.read_bytes() == b"[0, 3]\n[3, \n[3, 5]\n[5, 6]"


def test_the_checksum_is_that_of_the_bytes():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert checksum(values) == checksum(values.tobytes()) == zlib.crc32(values.tobytes())
    assert checksum(values) != checksum(-values)


def test_an_array_of_an_npz_file_is_read_to_its_end(tmp_path):
    path, values = tmp_path / "a.npz", np.arange(3000.0).reshape(30, 100)
    np.savez(path, values=values, objects=np.array([None]))
    with np.load(path) as npz:
        np.testing.assert_array_equal(read_npz_array(npz, "values"), values)
        with pytest.raises(KeyError, match="other.npy"):
            read_npz_array(npz, "other")
        with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
            read_npz_array(npz, "objects")
    shorter = path.read_bytes().replace(b"(30, 100)", b"(20, 100)")
    path.write_bytes(shorter)
    with np.load(path) as npz:
        assert npz["values"].shape == (20, 100)
        with pytest.raises(ValueError, match="'values' has more bytes than numbers"):
            read_npz_array(npz, "values")


def test_one_open_file_at_a_time_holds_the_lock(tmp_path):
    path = tmp_path / "lock"
    first, second = open_for_update(path), open_for_update(path)
    lock(first, "not raised")
    with pytest.raises(OSError, match="^the file is taken$"):
        lock(second, "the file is taken")
    first.close()
    lock(second, "not raised")
    second.close()


def test_a_lock_keeps_other_processes_out_and_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    program = """
import sys
from pathlib import Path
from jaxscape._util.files import lock, open_for_update
file = open_for_update(Path(sys.argv[1]))
lock(file, "taken")
print("locked", flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with open_for_update(path) as file:
        try:
            assert other.stdout.readline().strip() == b"locked"
            with pytest.raises(OSError, match="taken"):
                lock(file, "taken")
        finally:
            other.kill()
            other.communicate()
        lock(file, "taken")


@pytest.fixture
def windows(monkeypatch):
    """A stand-in for Windows' locks: bytes of a file, each held through one descriptor."""
    held = {}

    def locking(descriptor, mode, count):
        assert mode == fake.LK_NBLCK
        status = os.fstat(descriptor)
        start = os.lseek(descriptor, 0, os.SEEK_CUR)
        # The C runtime has no longer offsets.
        assert start + count < 2**31
        for byte in range(start, start + count):
            if held.setdefault((status.st_dev, status.st_ino, byte), descriptor) != descriptor:
                raise OSError(errno.EACCES, "Permission denied")

    fake = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setattr(files.sys, "platform", "win32")
    return held


def test_locks_of_windows_behave_the_same(windows, tmp_path):
    path = tmp_path / "lock"
    path.write_bytes(b"a header")
    with open_for_update(path) as first, open_for_update(path) as second:
        assert first.read(3) == b"a h"
        lock(first, "not raised")
        assert first.read() == b"eader"
        with pytest.raises(OSError, match="^the file is taken$") as caught:
            lock(second, "the file is taken")
        assert type(caught.value) is OSError
        assert second.read() == b"a header"
    # A locked byte cannot be read through another handle, so it is far behind the header.
    [(_, _, byte)] = windows
    assert byte > 2**30


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_other_errors_of_a_lock_are_not_taken_for_a_held_lock(platform, tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    fake = types.SimpleNamespace(LK_NBLCK=2, locking=failing, LOCK_EX=2, LOCK_NB=4, flock=failing)
    for name in ("msvcrt", "fcntl"):
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr(files.sys, "platform", platform)
    with (
        open_for_update(tmp_path / "lock") as file,
        pytest.raises(OSError, match="No locks available"),
    ):
        lock(file, "taken")
