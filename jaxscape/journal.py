"""Rows of losses in a file, and the journal that says which of them are written."""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

WHOLE, PART = "loss.npy", "loss.partial.npy"
"""What the file of losses is called: when all of its rows are there, and until then."""


class Destination:
    """A folder that rows are written to, which one call at a time holds."""

    def __init__(self, folder: Path, shape: tuple[int, int], dtype: np.dtype):
        self._folder, self._shape, self._dtype = folder, shape, dtype

    def missing(self) -> list[range]:
        """The stretches of rows that are not written yet; the others' checksums are compared.

        Raises:
            ValueError: rows that are not what was written.
        """
        return gaps(rows_done(self._folder, self._shape, self._dtype), self._shape[0])

    def write(self, rows: range, losses: np.ndarray) -> None:
        """Write some rows, and then that they are written.

        Raises:
            OSError: a disk that is full, say; what was written before is kept.
        """
        losses = np.ascontiguousarray(losses, self._dtype)
        path = losses_file(self._folder)
        # Not through a memory map, where a full disk would end the process without a word.
        with destination_errors(self._folder), path.open("r+b") as file:
            _, start = _header(path)
            file.seek(start + rows.start * self._shape[1] * self._dtype.itemsize)
            file.write(losses.data)
            file.flush()
            os.fsync(file.fileno())
        # The end of line comes first: it also ends a line that a kill has cut off.
        line = "\n" + json.dumps([rows.start, rows.stop, zlib.crc32(losses.data)])
        journal = self._folder / f"done.{jax.process_index()}.jsonl"
        with destination_errors(self._folder), journal.open("a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Give the file of losses its final name, if all of its rows are written."""
        part = self._folder / PART
        done = rows_done(self._folder, self._shape, self._dtype, compare=False)
        if part.is_file() and not gaps(done, self._shape[0]):
            os.replace(part, self._folder / WHOLE)


def gaps(done: list[range], n: int) -> list[range]:
    """The stretches of n rows that are not among those done, which are in order."""
    edges = [0, *(edge for rows in done for edge in (rows.start, rows.stop)), n]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [range(start, stop) for start, stop in pairs if start < stop]


def losses_file(folder: Path) -> Path:
    """The file of losses, under the name it has by now."""
    return folder / (WHOLE if (folder / WHOLE).is_file() else PART)


def _header(path: Path) -> tuple[tuple, int]:
    """The shape, order and dtype that a .npy file says, and where its numbers begin."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file), file.tell()


def rows_done(
    folder: Path, shape: tuple[int, ...], dtype: np.dtype, compare: bool = True
) -> list[range]:
    """The rows that the journals name, in order, those that touch joined."""
    path = losses_file(folder)
    row_bytes = shape[1] * dtype.itemsize
    try:
        said, start = _header(path)
    except Exception as error:
        raise ValueError(f"path: {str(path)!r} is damaged: {error}") from error
    # Checksums are those of the numbers, and not of what the file says of them.
    if said != (shape, False, dtype):
        raise ValueError(
            f"path: {str(path)!r} is damaged: it says to hold {said[2].str} of shape "
            f"{said[0]}, and was written as {dtype.str} of shape {shape}"
        )
    size = path.stat().st_size - start
    if size != shape[0] * row_bytes:
        raise ValueError(
            f"path: {str(path)!r} is damaged: expected {shape[0] * row_bytes:,} bytes of losses, "
            f"got {size:,}"
        )
    joined: list[range] = []
    with path.open("rb") as file:
        for first, end, checksum in sorted(_journal(folder, shape[0])):
            file.seek(start + first * row_bytes)
            if compare and zlib.crc32(file.read((end - first) * row_bytes)) != checksum:
                raise ValueError(
                    f"path: rows {first} to {end - 1} in {str(path)!r} are not as they were "
                    f"written; to have them computed again, delete the line [{first}, {end}, ...] "
                    f"from {str(folder / 'done.*.jsonl')!r}"
                )
            if joined and joined[-1].stop >= first:
                first, end = joined[-1].start, max(end, joined.pop().stop)
            joined.append(range(first, end))
    return joined


def _journal(folder: Path, n: int) -> Iterator[tuple[int, int, int]]:
    """First row, end and checksum of every band of n rows that is written."""
    for path in folder.glob("done.*.jsonl"):
        for line in path.read_text(errors="replace").splitlines():
            # Rows whose line was cut off by a kill, or is altered, count as not written.
            with contextlib.suppress(ValueError, TypeError):
                start, stop, checksum = map(int, json.loads(line))
                if 0 <= start < stop <= n:
                    yield start, stop, checksum


@contextlib.contextmanager
def destination_errors(folder: Path) -> Iterator[None]:
    """Say of an error of the system that it is about the destination, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"destination: cannot write to {str(folder)!r}: {error.strerror}; what was written "
            "before is kept, and the same call goes on from there",
        ) from error
