"""Rows of losses in a file, and the journal that says which of them are written.

A grid on disk: rows written as they are computed, in a folder that other tools can read.

The folder holds `loss.npy` (`loss.partial.npy` until all rows are there), the axes `a.npy` and
`b.npy`, what was computed in `landscape.json`, and for each process a `done.*.jsonl` with one line
for every band of rows that is written: its first row, its end and its checksum.
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

from jaxscape._util.devices import together
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
from jaxscape.results.landscape import Axis, Landscape, Mark

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
        with destination_errors(self._folder), path.open("r+b") as file:
            _, start = _header(path)
            write_at(file, start + rows.start * self._shape[1] * self._dtype.itemsize, losses)
            flush_to_disk(file)
        line = json.dumps([rows.start, rows.stop, checksum(losses)])
        with destination_errors(self._folder):
            append_line(self._folder / f"done.{jax.process_index()}.jsonl", line)

    def finish(self) -> None:
        """Give the file of losses its final name, if all of its rows are written."""
        part = self._folder / PART
        done = rows_done(self._folder, self._shape, self._dtype, compare=False)
        if part.is_file() and not gaps(done, self._shape[0]):
            part.replace(self._folder / WHOLE)


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
        for first, end, written in sorted(_journal(folder, shape[0])):
            file.seek(start + first * row_bytes)
            if compare and checksum(file.read((end - first) * row_bytes)) != written:
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
                start, stop, written = map(int, json.loads(line))
                if 0 <= start < stop <= n:
                    yield start, stop, written


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


SCHEMA = 1
"""The version this library writes, and the newest it reads."""

_HEADER, _LOCK = "landscape.json", "lock"
# Folders of earlier versions hold neither units nor marks.
_ALWAYS = {"jax", "loss_name", "method", "names", "shape", "dtype", "identity"}


class Header(NamedTuple):
    """What is computed."""

    a: Axis
    b: Axis
    loss_name: str
    method: str
    marks: tuple[Mark, ...]
    identity: Mapping[str, str]


@contextlib.contextmanager
def open_destination(folder: Path, header: Header) -> Iterator[Destination]:
    """Begin a grid in a folder, or go on with the same one, and keep others out meanwhile.

    The units and marks in the folder are those of the last call that began or went on.

    Of several processes that share the folder, the first keeps the others of the world out.

    Raises:
        ValueError: a folder that holds something else, or a grid that differs (it is said in
            what); a dtype that `.npy` lacks.
        OSError: another process that writes there, too little space, or a place that cannot be
            written to.
    """
    a, b = header.a, header.b
    dtype = np.dtype(a.values.dtype)
    if dtype.kind != "f":
        raise ValueError(f"destination: expected float16, 32 or 64, got {dtype}, which .npy lacks")
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
    begun = False
    with contextlib.ExitStack() as held:
        with together("destination"):
            if jax.process_index() == 0:
                _refuse_something_else(folder)
                held.enter_context(_locked(folder))
                begun = jax.process_count() == 1 and not (folder / _HEADER).is_file()
                _begin(folder, content, a, b, dtype)
        with together("destination"):
            _refuse_another(folder, content)
            if jax.process_index() == 0:
                _say_anew(folder, content)
        place = Destination(folder, (len(a), len(b)), dtype)
        try:
            yield place
        except ValueError:
            # What was refused before a row was kept leaves the folder free for another call.
            if begun and sum(map(len, place.missing())) == len(a):
                for name in (_HEADER, PART, "a.npy", "b.npy"):
                    (folder / name).unlink(missing_ok=True)
                for journal in folder.glob("done.*.jsonl"):
                    journal.unlink()
            raise


def _refuse_something_else(folder: Path) -> None:
    if not folder.is_dir() or (folder / _HEADER).is_file():
        return
    names = {path.name for path in folder.iterdir()} - {_LOCK, PART}
    if (folder / PART).is_file():
        # Begun, and killed before the header was there.
        names = {name for name in names - {"a.npy", "b.npy"} if not is_draft_of(name, _HEADER)}
    if names:
        raise ValueError(
            f"destination: expected an empty folder or one of jaxscape's, got {str(folder)!r} with "
            f"{', '.join(sorted(names)[:3])}"
        )


def _begin(folder: Path, content: Mapping[str, Any], a: Axis, b: Axis, dtype: np.dtype) -> None:
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
    with destination_errors(folder):
        with (folder / PART).open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": dtype.str, "fortran_order": False, "shape": shape}
            )
            file.truncate(file.tell() + needed)
        for name, axis in (("a", a), ("b", b)):
            np.save(folder / f"{name}.npy", np.asarray(axis.values))
        # Last: a folder with this file is complete but for its rows.
        _write_header(folder, content)


def _write_header(folder: Path, content: Mapping[str, Any]) -> None:
    with replacing(folder / _HEADER) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def _say_anew(folder: Path, content: Mapping[str, Any]) -> None:
    """What figures say is the last call's: a folder is not known by it."""
    there = _read_header(folder)
    said = {name: json.loads(json.dumps(content[name])) for name in ("units", "marks")}
    if said.items() <= there.items():
        return
    with destination_errors(folder):
        _write_header(folder, there | said)


def _refuse_another(folder: Path, content: Mapping[str, Any]) -> None:
    there = _read_header(folder)
    new, old = content["identity"], there["identity"]
    differing = [name for name in new if new[name] != old.get(name)]
    if differing:
        note = ""
        if "loss" in differing and content["jax"] != there["jax"]:
            note = (
                f"; it was begun with jax {there['jax']}, which may write the same loss otherwise"
            )
        raise ValueError(
            f"destination: {str(folder)!r} was begun with another {', '.join(differing)}{note}; "
            "give another folder, or delete this one"
        )


def load(folder: str | os.PathLike, compare: bool = True) -> Landscape:
    """The landscape in a folder, its losses a read-only memory map; unfinished, its first rows.

    Args:
        folder: the destination of a `landscape`.
        compare: whether to compare the checksums of all rows first.

    Raises:
        ValueError: a folder that is not one of jaxscape's, or holds altered rows, or has no row
            yet.
    """
    folder = Path(folder)
    header = _read_header(folder)
    try:
        shape, dtype, names = tuple(header["shape"]), np.dtype(header["dtype"]), header["names"]
        axes = [np.load(folder / f"{name}.npy") for name in ("a", "b")]
        for values, name in zip(axes, names, strict=True):
            if digest("", [values]) != header["identity"][f"axis {name}"]:
                raise ValueError(f"its axis {name} is not the one it began with")
    except Exception as error:
        raise ValueError(f"path: {str(folder)!r} is damaged: {error}") from error
    missing = gaps(rows_done(folder, shape, dtype, compare), shape[0])
    rows = missing[0].start if missing else shape[0]
    if rows == 0:
        raise ValueError(f"path: {str(folder)!r} does not have its first row yet")
    losses = np.load(losses_file(folder), mmap_mode="r")
    units, marks = header.get("units", ("", "")), header.get("marks", ())
    a, b = itertools.starmap(Axis, zip(axes, names, units, strict=True))
    return Landscape(
        losses[:rows],
        replace(a, values=a.values[:rows]),
        b,
        header["loss_name"],
        header["method"],
        tuple(itertools.starmap(Mark, marks)),
    )


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / _HEADER
    if not path.is_file():
        raise ValueError(f"path: {str(folder)!r} was not written by jaxscape: no {_HEADER} in it")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        schema = int(header["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"path: {str(path)!r} is damaged: {error}") from error
    if schema <= SCHEMA and (missing := _ALWAYS - header.keys()):
        raise ValueError(f"path: {str(path)!r} is damaged: no {', '.join(sorted(missing))} in it")
    if schema > SCHEMA:
        raise ValueError(
            f"path: {str(folder)!r} was written by a newer jaxscape (schema {schema}, this one "
            f"reads up to {SCHEMA}): update jaxscape"
        )
    return header


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with destination_errors(folder):
        folder.mkdir(exist_ok=True)
        file = (folder / _LOCK).open("w")
    with file:
        lock(file, f"destination: another process is writing to {str(folder)!r}")
        yield
