"""Points of many numbers as rows of bytes: in memory, a temporary file, or one with a name."""

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
"""The version this library writes, and the newest it reads."""

# Bytes of rows that are kept in memory; with one more, all go to a temporary file.
_IN_MEMORY = 2**30
# A file begins with this, and its first line is JSON.
_MARK = b'{"jaxscape": "recorder", '
# Every array of a row begins at a multiple of so many bytes, and so does the row's end: two float64
# at the very last, its epoch and what it is. So a row that a kill cuts off is none yet.
_ALIGNED = 64
_NONE, _FINITE, _NOT_FINITE = 0.0, 1.0, 2.0


class Leaf(NamedTuple):
    """An array that every row has."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class Rows:
    """Rows of the same arrays, each with an epoch.

    Args:
        file: where they are written and may be already; None for memory, and a temporary file
            beyond 1 GiB.

    Raises:
        ValueError: a file that no recorder wrote, that a newer jaxscape wrote, or that is damaged;
            one in a folder that is not there.
    """

    leaves: dict[str, Leaf]
    """The arrays of a row by name; none before the first row."""
    ends: list[tuple[float, float]]
    """What stands at the end of every row: its epoch, and what it is."""

    def __init__(self, file: Path | None):
        self.file, self.leaves, self.ends = file, {}, []
        self._kept: list[np.ndarray] = []
        self._handle: Any = None
        self._start = 0
        if file is not None:
            check_target_file(file, "file")
            self._read(file)

    def open(self) -> None:
        """Open a named file to be written to, and keep others out for as long as this lives.

        Raises:
            OSError: another writes there, or the file cannot be written to.
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
        # It may have been written to since it was read.
        self._read(self.file)
        self._handle = handle

    def append(self, arrays: Mapping[str, np.ndarray], epoch: float) -> None:
        """Write a row, of the arrays that the first had; of a file, after `open`.

        Raises:
            OSError: a disk that is full, say; the rows before are kept.
        """
        if not self.leaves:
            leaves = {name: Leaf(array.dtype, array.shape) for name, array in arrays.items()}
            if self.file is not None:
                header = _header(leaves)
                self._put(self._handle, 0, header)
                self._start = len(header)
            self.leaves = leaves
        places, size = _places(self.leaves)
        row = np.zeros(size, np.uint8)
        for name, place in places.items():
            row[place].view(arrays[name].dtype)[...] = arrays[name].ravel()
        finite = all(np.isfinite(array).all() for array in arrays.values())
        end = epoch, _FINITE if finite else _NOT_FINITE
        row[-16:].view(np.float64)[...] = end
        if self._handle is None and (len(self) + 1) * size > _IN_MEMORY:
            self._leave_memory(size)
        if self._handle is None:
            self._kept.append(row)
        else:
            self._put(self._handle, self._start + len(self) * size, row)
        self.ends.append(end)

    def drop_last(self) -> None:
        """Forget the last row. It stays in a file, marked as none: it may be mapped to memory."""
        if self._handle is None:
            self._kept.pop()
        else:
            end = self._start + len(self) * _places(self.leaves)[1]
            self._put(self._handle, end - 8, np.float64(_NONE).tobytes())
        self.ends.pop()

    def arrays(self, count: int) -> dict[str, np.ndarray]:
        """The first `count` ≥ 1 rows' arrays, each with a leading axis; of a file, memory maps."""
        table = self._table(count)
        places, _ = _places(self.leaves)
        return {
            name: table[:, places[name]].view(leaf.dtype).reshape(count, *leaf.shape)
            for name, leaf in self.leaves.items()
        }

    @property
    def first_hole(self) -> int | None:
        """The first row with numbers that are not finite."""
        return next((k for k, (_, what) in enumerate(self.ends) if what == _NOT_FINITE), None)

    @property
    def place(self) -> str:
        """Where the rows are, in words."""
        if self.file is not None:
            return f"in {str(self.file)!r}"
        return "in memory" if self._handle is None else "in a temporary file"

    def __len__(self) -> int:
        return len(self.ends)

    def _table(self, count: int) -> np.ndarray:
        """The first rows, (count, bytes)."""
        if self._kept:
            return np.stack(self._kept[:count])
        size = _places(self.leaves)[1]
        source: Any = self._handle if self.file is None else self.file
        return np.asarray(np.memmap(source, np.uint8, "r", self._start, (count, size)))

    def _read(self, file: Path) -> None:
        """What a file holds: how its rows are made, and those that are whole."""
        self.leaves, self._start = _read_header(file)
        count = 0
        if self.leaves:
            count = (file.stat().st_size - self._start) // _places(self.leaves)[1]
        ends = self._table(count)[:, -16:].view(np.float64) if count else np.empty((0, 2))
        gaps = np.flatnonzero(ends[:, 1] == _NONE)
        whole = ends[: gaps[0]] if gaps.size else ends
        self.ends = [(float(epoch), float(what)) for epoch, what in whole]

    def _leave_memory(self, size: int) -> None:
        with self._errors():
            handle = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        weakref.finalize(self, handle.close)
        for k, row in enumerate(self._kept):
            self._put(handle, k * size, row)
        self._handle, self._kept = handle, []

    def _put(self, handle: Any, start: int, values: bytes | np.ndarray) -> None:
        with self._errors():
            write_at(handle, start, values)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = tempfile.gettempdir() if self.file is None else str(self.file)
            raise OSError(
                error.errno,
                f"file: cannot write to {place!r}: {error.strerror}; the {len(self)} points "
                "recorded before are kept",
            ) from error


def _places(leaves: Mapping[str, Leaf]) -> tuple[dict[str, slice], int]:
    """Where in a row every array is, and how many bytes a row has."""
    start, found = 0, {}
    for name, leaf in leaves.items():
        found[name] = slice(start, start + leaf.nbytes)
        start += math.ceil(leaf.nbytes / _ALIGNED) * _ALIGNED
    return found, start + _ALIGNED


def _header(leaves: Mapping[str, Leaf]) -> bytes:
    described = [[name, leaf.dtype.name, leaf.shape] for name, leaf in leaves.items()]
    text = _MARK + f'"schema": {SCHEMA}, "leaves": {json.dumps(described)}}}'.encode()
    return text + b" " * (-(len(text) + 1) % _ALIGNED) + b"\n"


def _read_header(file: Path) -> tuple[dict[str, Leaf], int]:
    """The arrays of a row, and where the first row begins; none of an empty file."""
    if not file.exists():
        return {}, 0
    with file.open("rb") as handle:
        begin = handle.read(len(_MARK))
        if not _MARK.startswith(begin):
            raise ValueError(f"file: {str(file)!r} was not written by a recorder")
        line = begin + handle.readline()
    # A kill may have cut it off before there was any row.
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
