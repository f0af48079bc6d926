"""Replace, write, lock and verify files, with the same behavior on every operating system."""

import contextlib
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

# Windows locks single bytes, which other handles then cannot read or write. This byte lies after
# the header of every locked file; its offset must fit into 31 bits.
_LOCKED_BYTE = 2**31 - 2


def check_target_file(file: Path, name: str = "path") -> None:
    """Check that a file can be created or replaced.

    Args:
        file: the file.
        name: the argument that error messages name.

    Raises:
        ValueError: The file's folder does not exist, or the file is a folder.
    """
    if not file.absolute().parent.is_dir():
        raise ValueError(f"{name}: expected a folder that exists, got {str(file.parent)!r}")
    if file.is_dir():
        raise ValueError(f"{name}: expected a file, got the folder {str(file)!r}")


def check_target_folder(folder: Path, name: str = "path") -> None:
    """Check that a folder exists or can be created.

    Args:
        folder: the folder.
        name: the argument that error messages name.

    Raises:
        ValueError: The folder's parent does not exist, or the folder is a file.
    """
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"{name}: expected a folder whose parent exists, got {str(folder)!r}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{name}: expected a folder, got the file {str(folder)!r}")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a draft, which replaces the file `path` atomically when the `with` block ends.

    After an error or a kill, the file is unchanged. A kill may leave the draft, see `is_draft_of`.

    Raises:
        ValueError: The file's folder does not exist, or the file is a folder.

    Example:
        >>> with replacing("notes.txt") as file:
        ...     _ = file.write(b"complete")
        >>> Path("notes.txt").read_text()
        'complete'
    """
    path = Path(path)
    check_target_file(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def is_draft_of(draft: str, name: str) -> bool:
    """Return whether `replacing` uses `draft` as the name of a draft of the file `name`."""
    return draft.startswith(f".{name}.") and draft.endswith(".draft")


def open_for_update(file: Path) -> IO[bytes]:
    """Open a file for reading and writing, unbuffered; create it if it does not exist."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(file, flags, 0o666), "r+b", buffering=0)


def write_at(file: IO[bytes], start: int, values: bytes | np.ndarray) -> None:
    """Write bytes, or the bytes of a contiguous array, to an open file, starting at byte `start`.

    Raises:
        OSError: The bytes cannot be written, for instance because the disk is full. (A write
            through a memory map would end the process instead.)
    """
    remaining = _bytes_of(values)
    file.seek(start)
    while remaining:
        remaining = remaining[file.write(remaining) :]


def _bytes_of(values: bytes | np.ndarray) -> memoryview:
    return memoryview(values) if isinstance(values, bytes) else values.reshape(-1).view("u1").data


def flush_to_disk(file: IO[Any]) -> None:
    """Wait until everything written to an open file is on disk."""
    file.flush()
    os.fsync(file.fileno())


def append_line(file: Path, line: str) -> None:
    """Append a line to a text file, and wait until it is on disk.

    The line break comes before the line, so it also ends a line that a kill has cut off.

    Raises:
        OSError: The line cannot be written.
    """
    with file.open("ab") as opened:
        opened.write(f"\n{line}".encode())
        flush_to_disk(opened)


def checksum(values: bytes | np.ndarray) -> int:
    """Return the CRC-32 checksum of bytes or of a contiguous array."""
    return zlib.crc32(_bytes_of(values))


def read_npz_array(npz: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """Read an array of an open `.npz` file to the end of its member, which verifies the checksum.

    `npz[name]` stops after the number of bytes in the member's header. If a flipped bit makes that
    number smaller, the checksum is not compared.

    Raises:
        Exception: The member is damaged, holds Python objects, or exists twice; zipfile, zlib and
            NumPy raise exceptions of many types.
    """
    if npz.files.count(name) > 1:
        raise ValueError(f"it contains {name!r} twice")
    opened: Any = npz.zip  # None only after `close`
    with opened.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError(f"{name!r} has more bytes than numbers")
    return array


def lock(file: IO[Any], message: str) -> None:
    """Lock an open file without waiting, until it is closed or the process ends.

    Args:
        file: a file that is open for writing.
        message: the error message if the lock is held.

    Raises:
        OSError: The same file is locked by another process, or through another open file of this
            process; or the operating system reports another error, whose message is kept.
    """
    if sys.platform == "win32":
        import msvcrt

        descriptor = file.fileno()
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise OSError(message) from error
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
    else:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(message) from error
