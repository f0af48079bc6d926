"""Recorded points as rows of bytes: in memory, in a temporary file, or in a named file.

A file begins with a header, one line of JSON, and continues with rows of equal length. A row holds
the arrays of one point and ends with two float64 numbers: the epoch and a status, which is written
last. So a row that is cut off because the process was killed has no valid status.
"""

import contextlib
import json
import math
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxscape._util.files import check_target_file, lock, open_for_update, write_at

SCHEMA = 1
"""The version of the file format that this library writes, and the newest that it reads."""

# The largest number of bytes of rows in memory. With more, all rows move to a temporary file.
_MAX_BYTES_IN_MEMORY = 2**30
# The first bytes of every file.
_MAGIC = b'{"jaxscape": "recorder", '
# Every array of a row begins at a multiple of this many bytes, and so does the next row.
_ALIGNMENT = 64
# The values of a row's status.
_INVALID, _FINITE, _NONFINITE = 0.0, 1.0, 2.0


class Leaf(NamedTuple):
    """The dtype and the shape of one array in a row."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class RowEnd(NamedTuple):
    """The end of a row."""

    epoch: float
    status: float


class Rows:
    """Rows with arrays of the same names, dtypes and shapes, each with an epoch.

    Args:
        file: the file of the rows, which may exist; None for memory, and a temporary file beyond
            1 GiB.

    Raises:
        ValueError: The file was not written by a recorder, was written by a newer jaxscape, or is
            damaged; its folder does not exist.
    """

    leaves: dict[str, Leaf]
    """The arrays of a row by name; empty before the first row."""
    ends: list[RowEnd]
    """The ends of all rows."""

    def __init__(self, file: Path | None):
        self.file, self.leaves, self.ends = file, {}, []
        self._in_memory: list[np.ndarray] = []
        self._handle: Any = None
        self._rows_start = 0
        if file is not None:
            check_target_file(file, "file")
            self._read(file)

    def open(self) -> None:
        """Open a named file for writing and lock it for the lifetime of this object.

        Raises:
            OSError: Another recorder writes to the file, or it cannot be written.
        """
        if self.file is None or self._handle is not None:
            return
        with self._errors():
            handle = open_for_update(self.file)
        weakref.finalize(self, handle.close)
        try:
            lock(handle, f"file: another recorder writes to {str(self.file)!r}")
        except OSError:
            handle.close()
            raise
        # The file may have changed since it was read.
        self._read(self.file)
        self._handle = handle

    def append(self, arrays: Mapping[str, np.ndarray], epoch: float) -> None:
        """Append a row. A named file must be open.

        Args:
            arrays: arrays with the names, dtypes and shapes of the first row's.
            epoch: the row's epoch.

        Raises:
            OSError: The row cannot be written, for instance because the disk is full. The rows
                before it are kept.
        """
        if not self.leaves:
            leaves = {name: Leaf(array.dtype, array.shape) for name, array in arrays.items()}
            if self.file is not None:
                header = _header(leaves)
                self._write(self._handle, 0, header)
                self._rows_start = len(header)
            self.leaves = leaves
        slices, size = _row_layout(self.leaves)
        row = np.zeros(size, np.uint8)
        for name, piece in slices.items():
            row[piece].view(arrays[name].dtype)[...] = arrays[name].ravel()
        finite = all(np.isfinite(array).all() for array in arrays.values())
        end = RowEnd(epoch, _FINITE if finite else _NONFINITE)
        row[-16:].view(np.float64)[...] = end
        if self._handle is None and (len(self) + 1) * size > _MAX_BYTES_IN_MEMORY:
            self._move_to_file(size)
        if self._handle is None:
            self._in_memory.append(row)
        else:
            self._write(self._handle, self._rows_start + len(self) * size, row)
        self.ends.append(end)

    def drop_last(self) -> None:
        """Delete the last row. In a file it is only marked invalid, because arrays may map it."""
        if self._handle is None:
            self._in_memory.pop()
        else:
            end = self._rows_start + len(self) * _row_layout(self.leaves)[1]
            self._write(self._handle, end - 8, np.float64(_INVALID).tobytes())
        self.ends.pop()

    def arrays(self, count: int) -> dict[str, np.ndarray]:
        """Return the arrays of the first `count` ≥ 1 rows, each with a leading axis of rows.

        The arrays are memory maps if the rows are in a file.
        """
        table = self._table(count)
        slices, _ = _row_layout(self.leaves)
        return {
            name: table[:, slices[name]].view(leaf.dtype).reshape(count, *leaf.shape)
            for name, leaf in self.leaves.items()
        }

    @property
    def first_nonfinite(self) -> int | None:
        """The index of the first row with NaN or infinite numbers; None if there is none."""
        return next((k for k, end in enumerate(self.ends) if end.status == _NONFINITE), None)

    @property
    def location(self) -> str:
        """A phrase for the location of the rows, such as "in memory"."""
        if self.file is not None:
            return f"in {str(self.file)!r}"
        return "in memory" if self._handle is None else "in a temporary file"

    def __len__(self) -> int:
        return len(self.ends)

    def _table(self, count: int) -> np.ndarray:
        """Return the first rows as bytes, (count, size)."""
        if self._in_memory:
            return np.stack(self._in_memory[:count])
        size = _row_layout(self.leaves)[1]
        source: Any = self._handle if self.file is None else self.file
        return np.asarray(np.memmap(source, np.uint8, "r", self._rows_start, (count, size)))

    def _read(self, file: Path) -> None:
        """Read the layout of a file's rows and the ends of all rows up to the first invalid one."""
        self.leaves, self._rows_start = _read_header(file)
        count = 0
        if self.leaves:
            count = (file.stat().st_size - self._rows_start) // _row_layout(self.leaves)[1]
        ends = self._table(count)[:, -16:].view(np.float64) if count else np.empty((0, 2))
        invalid = np.flatnonzero(ends[:, 1] == _INVALID)
        valid = ends[: invalid[0]] if invalid.size else ends
        self.ends = [RowEnd(float(epoch), float(status)) for epoch, status in valid]

    def _move_to_file(self, size: int) -> None:
        with self._errors():
            handle = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        weakref.finalize(self, handle.close)
        for k, row in enumerate(self._in_memory):
            self._write(handle, k * size, row)
        self._handle, self._in_memory = handle, []

    def _write(self, handle: Any, start: int, values: bytes | np.ndarray) -> None:
        with self._errors():
            write_at(handle, start, values)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Add the file and the number of recorded points to an operating system error."""
        try:
            yield
        except OSError as error:
            target = tempfile.gettempdir() if self.file is None else str(self.file)
            raise OSError(
                error.errno,
                f"file: cannot write to {target!r}: {error.strerror}; the {len(self)} points "
                "recorded before are kept",
            ) from error


def _row_layout(leaves: Mapping[str, Leaf]) -> tuple[dict[str, slice], int]:
    """Return the bytes of every array in a row, and the size of a row in bytes."""
    start, slices = 0, {}
    for name, leaf in leaves.items():
        slices[name] = slice(start, start + leaf.nbytes)
        start += math.ceil(leaf.nbytes / _ALIGNMENT) * _ALIGNMENT
    return slices, start + _ALIGNMENT


def _header(leaves: Mapping[str, Leaf]) -> bytes:
    described = [[name, leaf.dtype.name, leaf.shape] for name, leaf in leaves.items()]
    text = _MAGIC + f'"schema": {SCHEMA}, "leaves": {json.dumps(described)}}}'.encode()
    return text + b" " * (-(len(text) + 1) % _ALIGNMENT) + b"\n"


def _read_header(file: Path) -> tuple[dict[str, Leaf], int]:
    """Return the arrays of a row and the offset of the first row in bytes.

    There are no arrays if the file is missing, empty or cut off within its header.
    """
    if not file.exists():
        return {}, 0
    with file.open("rb") as handle:
        start = handle.read(len(_MAGIC))
        if not _MAGIC.startswith(start):
            raise ValueError(f"file: {str(file)!r} was not written by a recorder")
        line = start + handle.readline()
    # The process was killed while it wrote the header, before any row.
    if not line.endswith(b"\n"):
        return {}, 0
    try:
        header = json.loads(line)
        schema = header["schema"]
        if schema <= SCHEMA:
            leaves = {name: Leaf(np.dtype(d), tuple(s)) for name, d, s in header["leaves"]}
            return leaves, len(line)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"file: {str(file)!r} is damaged: {error}") from error
    raise ValueError(
        f"file: {str(file)!r} was written by a newer jaxscape (schema {schema}, this one reads up "
        f"to {SCHEMA}): update jaxscape"
    )
