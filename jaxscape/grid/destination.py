"""Write a grid to a folder row block by row block, and continue it after any interruption.

The folder holds `loss.npy` (named `loss.partial.npy` until all rows are written), the axes `a.npy`
and `b.npy`, a description of the grid in `landscape.json`, and one journal `done.*.jsonl` per
process. A journal has one line per written row block: its first row, its end and its checksum.
"""

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util.devices import synchronized
from jaxscape._util.digest import digest
from jaxscape._util.files import (
    append_line,
    checksum,
    flush_to_disk,
    is_draft_of,
    lock,
    replacing,
    write_at,
)
from jaxscape.results.landscape import Axis, Landscape, Mark, check_marks, check_units

SCHEMA = 1
"""The version that this library writes, and the newest that it reads."""

_COMPLETE, _PARTIAL = "loss.npy", "loss.partial.npy"
_HEADER, _LOCK = "landscape.json", "lock"
_JOURNALS = "done.*.jsonl"
_CHECKSUM = "checksum"
# The header's fields and their types, except units, marks and checksum, which folders of earlier
# versions lack.
_FIELDS: dict[str, Any] = {
    "jax": str,
    "loss_name": str,
    "method": str,
    "names": [str, str],
    "shape": [int, int],
    "dtype": str,
    "identity": dict,
}


class Header(NamedTuple):
    """The grid's axes, names and digests, as stored in `landscape.json`."""

    a: Axis
    """The first coordinate."""
    b: Axis
    """The second coordinate."""
    loss_name: str
    """The name of the loss."""
    method: str
    """The strategy: "dense" or "exact"."""
    marks: tuple[Mark, ...]
    """The plane's marks."""
    identity: Mapping[str, str]
    """Digests of the loss, the plane and the data."""


class Destination:
    """An open folder, to which one call at a time writes rows."""

    def __init__(self, folder: Path, shape: tuple[int, int], dtype: np.dtype):
        self._folder, self._shape, self._dtype = folder, shape, dtype

    def missing(self) -> list[range]:
        """Verify the row ranges that are written, and return those that are missing.

        Raises:
            ValueError: Written rows were altered.
        """
        written = _written_rows(self._folder, self._shape, self._dtype)
        return missing_rows(written, self._shape[0])

    def rows_in_order(self) -> int:
        """Return the number of rows before the first that is missing, without verifying them."""
        written = _written_rows(self._folder, self._shape, self._dtype, verify=False)
        return _first_missing(written, self._shape[0])

    def write(self, rows: range, losses: np.ndarray) -> None:
        """Write a row block, then its line in the journal.

        Raises:
            OSError: The disk is full, for instance; earlier row blocks are kept.
        """
        losses = np.ascontiguousarray(losses, self._dtype)
        path = _losses_file(self._folder)
        with _destination_errors(self._folder), path.open("r+b") as file:
            _, start = _npy_header(path)
            write_at(file, start + rows.start * self._shape[1] * self._dtype.itemsize, losses)
            flush_to_disk(file)
        line = json.dumps([rows.start, rows.stop, checksum(losses)])
        with _destination_errors(self._folder):
            append_line(self._folder / f"done.{jax.process_index()}.jsonl", line)

    def finish(self) -> None:
        """Give the file of losses its final name if all rows are written."""
        partial = self._folder / _PARTIAL
        if partial.is_file() and self.rows_in_order() == self._shape[0]:
            partial.replace(self._folder / _COMPLETE)


def missing_rows(written: list[range], n: int) -> list[range]:
    """Return the ranges of n rows that are not written.

    Args:
        written: the row ranges that are written, in order and without overlap.
        n: the number of rows.
    """
    edges = [0, *(edge for rows in written for edge in (rows.start, rows.stop)), n]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [range(start, stop) for start, stop in pairs if start < stop]


def _first_missing(written: list[range], n: int) -> int:
    missing = missing_rows(written, n)
    return missing[0].start if missing else n


def _losses_file(folder: Path) -> Path:
    """Return the file of losses under its current name."""
    return folder / (_COMPLETE if (folder / _COMPLETE).is_file() else _PARTIAL)


def _npy_header(path: Path) -> tuple[tuple[tuple[int, ...], bool, np.dtype], int]:
    """Return the shape, the order and the dtype of an .npy file, and the offset of its data."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file), file.tell()


def _written_rows(
    folder: Path, shape: tuple[int, int], dtype: np.dtype, verify: bool = True
) -> list[range]:
    """Return the row ranges in the journals, in order and joined where they touch.

    Args:
        folder: the destination.
        shape: (n1, n2) of the grid.
        dtype: the dtype of the losses.
        verify: whether to compare the checksums of the rows.

    Raises:
        ValueError: The file of losses is damaged, or rows of it were altered.
    """
    path = _losses_file(folder)
    row_bytes = shape[1] * dtype.itemsize
    try:
        header, start = _npy_header(path)
    except Exception as error:
        raise ValueError(f"path: {str(path)!r} is damaged: {error}") from error
    # The checksums cover the losses, not the file's header.
    if header != (shape, False, dtype):
        raise ValueError(
            f"path: {str(path)!r} is damaged: its header has {header[2].str} of shape "
            f"{header[0]}, but the file was written as {dtype.str} of shape {shape}"
        )
    size = path.stat().st_size - start
    if size != shape[0] * row_bytes:
        raise ValueError(
            f"path: {str(path)!r} is damaged: expected {shape[0] * row_bytes:,} bytes of losses, "
            f"got {size:,}"
        )
    joined: list[range] = []
    with path.open("rb") as file:
        for first, end, expected in sorted(_journal_lines(folder, shape[0])):
            file.seek(start + first * row_bytes)
            if verify and checksum(file.read((end - first) * row_bytes)) != expected:
                raise ValueError(
                    f"path: rows {first} to {end - 1} in {str(path)!r} were altered after they "
                    f"were written; to compute them again, delete the line [{first}, {end}, ...] "
                    f"from {str(folder / _JOURNALS)!r}"
                )
            if joined and joined[-1].stop >= first:
                first, end = joined[-1].start, max(end, joined.pop().stop)
            joined.append(range(first, end))
    return joined


def _journal_lines(folder: Path, n: int) -> Iterator[tuple[int, int, int]]:
    """Yield the first row, the end and the checksum of every written block of n rows."""
    for path in folder.glob(_JOURNALS):
        for line in path.read_text(errors="replace").splitlines():
            # Rows whose line is altered, or cut off by a kill, count as missing.
            with contextlib.suppress(ValueError, TypeError):
                start, stop, expected = map(int, json.loads(line))
                if 0 <= start < stop <= n:
                    yield start, stop, expected


@contextlib.contextmanager
def _destination_errors(folder: Path) -> Iterator[None]:
    """Name the destination in errors of the system, and say how to continue."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"destination: cannot write to {str(folder)!r}: {error.strerror}; the rows written "
            "before are kept, and the same call continues from there",
        ) from error


@contextlib.contextmanager
def open_destination(folder: Path, header: Header) -> Iterator[Destination]:
    """Begin a grid in a folder, or continue the same grid, and lock the folder until the end.

    The units and marks in the folder are replaced by those of this call. If several processes of
    `jax.distributed` share the folder, the first one locks it.

    Raises:
        ValueError: The folder contains other files, or a different grid; the message names the
            difference. Or `.npy` files do not support the dtype.
        OSError: Another process writes to the folder, the disk is too small, or the folder cannot
            be written to.
    """
    a, b = header.a, header.b
    dtype = np.dtype(a.values.dtype)
    if dtype.kind != "f":
        raise ValueError(
            f"destination: expected float16, float32 or float64, got {dtype}, which .npy files do "
            "not support"
        )
    content = {
        "schema": SCHEMA,
        "jax": jax.__version__,
        "loss_name": header.loss_name,
        "method": header.method,
        "names": [a.name, b.name],
        "units": [a.unit, b.unit],
        "marks": header.marks,
        "shape": [len(a), len(b)],
        "dtype": str(dtype),
        "identity": {
            **header.identity,
            "method": header.method,
            "dtype": str(dtype),
            **{f"axis {axis.name}": digest("", [axis.values]) for axis in (a, b)},
        },
    }
    is_new = False
    with contextlib.ExitStack() as held:
        with synchronized("destination"):
            if jax.process_index() == 0:
                _check_content(folder)
                held.enter_context(_locked(folder))
                is_new = jax.process_count() == 1 and not (folder / _HEADER).is_file()
                _begin(folder, content, a, b, dtype)
        with synchronized("destination"):
            _check_same_grid(folder, content)
            if jax.process_index() == 0:
                _update_units_and_marks(folder, content)
        destination = Destination(folder, (len(a), len(b)), dtype)
        try:
            yield destination
        except ValueError:
            # If no row was kept before the error, empty the folder for another call.
            if is_new and sum(map(len, destination.missing())) == len(a):
                for name in (_HEADER, _PARTIAL, "a.npy", "b.npy"):
                    (folder / name).unlink(missing_ok=True)
                for journal in folder.glob(_JOURNALS):
                    journal.unlink()
            raise


def _check_content(folder: Path) -> None:
    """Raise an error if the folder contains anything but a grid, complete or not."""
    if not folder.is_dir() or (folder / _HEADER).is_file():
        return
    names = {path.name for path in folder.iterdir()} - {_LOCK, _PARTIAL}
    if (folder / _PARTIAL).is_file():
        # An earlier call was killed before it wrote the header.
        names -= {"a.npy", "b.npy", *(name for name in names if is_draft_of(name, _HEADER))}
    if names:
        raise ValueError(
            f"destination: expected an empty folder or one of jaxscape's, got {str(folder)!r} with "
            f"{', '.join(sorted(names)[:3])}"
        )


def _begin(folder: Path, content: Mapping[str, Any], a: Axis, b: Axis, dtype: np.dtype) -> None:
    """Create all files of a grid, unless the folder has them."""
    if (folder / _HEADER).is_file():
        return
    shape = len(a), len(b)
    needed = shape[0] * shape[1] * dtype.itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"destination: expected {needed:,} bytes of free space for {shape[0]} × {shape[1]} "
            f"losses, got {free:,} at {str(folder)!r}"
        )
    with _destination_errors(folder):
        with (folder / _PARTIAL).open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": dtype.str, "fortran_order": False, "shape": shape}
            )
            file.truncate(file.tell() + needed)
        for name, axis in (("a", a), ("b", b)):
            np.save(folder / f"{name}.npy", np.asarray(axis.values))
        # The header comes last: a folder that has it lacks only rows.
        _write_header(folder, content)


def _write_header(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `landscape.json`, with the checksum of all other fields."""
    stored = {**content, _CHECKSUM: _checksum_of_header(content)}
    with replacing(folder / _HEADER) as file:
        file.write((json.dumps(stored, indent=2) + "\n").encode())


def _checksum_of_header(content: Mapping[str, Any]) -> int:
    others = {name: value for name, value in content.items() if name != _CHECKSUM}
    return checksum(json.dumps(others, sort_keys=True).encode())


def _update_units_and_marks(folder: Path, content: Mapping[str, Any]) -> None:
    """Store the units and marks of this call, which are not part of the grid's identity."""
    stored = _read_header(folder)
    new = {name: json.loads(json.dumps(content[name])) for name in ("units", "marks")}
    if new.items() <= stored.items():
        return
    with _destination_errors(folder):
        _write_header(folder, stored | new)


def _check_same_grid(folder: Path, content: Mapping[str, Any]) -> None:
    """Raise an error if the folder was begun with another grid."""
    stored = _read_header(folder)
    new, old = content["identity"], stored["identity"]
    differing = [name for name in new if new[name] != old.get(name)]
    if differing:
        note = ""
        if "loss" in differing and content["jax"] != stored["jax"]:
            note = (
                f"; it was begun with jax {stored['jax']}, which may trace the same loss "
                "differently"
            )
        raise ValueError(
            f"destination: {str(folder)!r} was begun with another {', '.join(differing)}{note}; "
            "give another folder, or delete this one"
        )


def load(folder: str | os.PathLike, verify: bool = True) -> Landscape:
    """Load the landscape in a folder, or the rows before the first gap if it is not complete.

    Args:
        folder: the destination of a `landscape`.
        verify: whether to compare the checksums of all rows first.

    Returns:
        The landscape, its losses a read-only memory map.

    Raises:
        ValueError: The folder was not written by jaxscape, is damaged, or lacks its first row; or
            rows were altered.
    """
    folder = Path(folder)
    header = _read_header(folder)
    try:
        (n1, n2), dtype, names = header["shape"], np.dtype(header["dtype"]), header["names"]
        axes = [np.load(folder / f"{name}.npy") for name in ("a", "b")]
        for values, name in zip(axes, names, strict=True):
            if digest("", [values]) != header["identity"][f"axis {name}"]:
                raise ValueError(f"its axis {name} was altered")
    except Exception as error:
        raise ValueError(f"path: {str(folder)!r} is damaged: {error}") from error
    rows = _first_missing(_written_rows(folder, (n1, n2), dtype, verify), n1)
    if rows == 0:
        raise ValueError(f"path: {str(folder)!r} does not contain the first row yet")
    losses = np.load(_losses_file(folder), mmap_mode="r")
    units, marks = header.get("units", ("", "")), header.get("marks", ())
    a, b = itertools.starmap(Axis, zip(axes, names, units, strict=True))
    return Landscape(
        losses[:rows],
        replace(a, values=a.values[:rows]),
        b,
        header["loss_name"],
        header["method"],
        check_marks(marks),
    )


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / _HEADER
    if not path.is_file():
        raise ValueError(f"path: {str(folder)!r} was not written by jaxscape: it has no {_HEADER}")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"path: {str(path)!r} is damaged: {error}") from error
    schema = header.get("schema") if isinstance(header, dict) else None
    if type(schema) is not int:
        raise ValueError(
            f"path: {str(path)!r} is damaged: expected a dictionary with a whole number as its "
            f"schema, got {json.dumps(header)[:60]}"
        )
    if schema > SCHEMA:
        raise ValueError(
            f"path: {str(folder)!r} was written by a newer jaxscape (schema {schema}, this one "
            f"reads up to {SCHEMA}): update jaxscape"
        )
    if missing := _FIELDS.keys() - header.keys():
        raise ValueError(f"path: {str(path)!r} is damaged: it has no {', '.join(sorted(missing))}")
    if header.get(_CHECKSUM, expected := _checksum_of_header(header)) != expected:
        raise ValueError(f"path: {str(path)!r} is damaged: it was altered after it was written")
    try:
        for name, kind in _FIELDS.items():
            value = header[name]
            if kind != ([*map(type, value)] if isinstance(value, list) else type(value)):
                raise TypeError(f"its field {name} is {value!r}")
        check_units(header.get("units", ("", "")))
        check_marks(header.get("marks", ()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"path: {str(path)!r} is damaged: {error}") from error
    return header


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder and lock it; the system unlocks it when the process ends."""
    with _destination_errors(folder):
        folder.mkdir(exist_ok=True)
        file = (folder / _LOCK).open("w")
    with file:
        lock(file, f"destination: another process is writing to {str(folder)!r}")
        yield
