"""Datasets read from CSV and `.npz` files."""

import csv
import os
from pathlib import Path

import numpy as np

from jaxscape.data.dataset import Dataset


def read_dataset(path: str | os.PathLike, x: str = "x", y: str = "y") -> Dataset:
    """Read two columns of a CSV file with a header line, or two arrays of an `.npz` file.

    Args:
        path: a file whose name ends in `.csv` or `.npz`.
        x: the name of the column, or array, of inputs.
        y: the name of the column, or array, of targets.

    Returns:
        The dataset, in the order of the file.

    Raises:
        ValueError: The file does not exist or has another format, a column is missing, or a value
            is not a finite number. The message names the line or the index of the value.

    Example:
        >>> _ = Path("points.csv").write_text("time,height\\n0,1.5\\n1,2.5\\n")
        >>> jxs.data.read_dataset("points.csv", x="time", y="height")
        Dataset(2 samples, x: float32[2], y: float32[2])
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: expected an existing file, got {str(path)!r}")
    readers = {".csv": _read_csv, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise ValueError(f"path: expected a file ending in .csv or .npz, got {path.name!r}")
    return Dataset(*readers[path.suffix.lower()](path, x, y))


def _check_columns(path: Path, columns: list[str], x: str, y: str) -> None:
    for argument, column in (("x", x), ("y", y)):
        if column not in columns:
            raise ValueError(
                f"{argument}: expected one of {columns} of {path.name}, got {column!r}"
            )


def _read_csv(path: Path, x: str, y: str) -> list[np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            _check_columns(path, header, x, y)
            columns: list[list[float]] = [[], []]
            for row in rows:
                if not row:
                    continue
                for values, name in zip(columns, (x, y), strict=True):
                    column = header.index(name)
                    try:
                        values.append(float(row[column]))
                    except (IndexError, ValueError):
                        got = repr(row[column]) if column < len(row) else "no value"
                        raise ValueError(
                            f"{name}: expected a number in line {rows.line_num} of {path.name}, "
                            f"got {got}"
                        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"path: expected a CSV text file, got {path.name!r} ({error})") from None
    return [np.asarray(values) for values in columns]


def _read_npz(path: Path, x: str, y: str) -> list[np.ndarray]:
    with path.open("rb") as opened:
        # zipfile, zlib and NumPy raise different exceptions for a file that is not .npz.
        try:
            file = np.load(opened, allow_pickle=False)
        except Exception as error:
            raise ValueError(f"path: expected an .npz file, got {path.name!r} ({error})") from error
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError(f"path: expected an .npz file, got {path.name!r}, a single array")
        _check_columns(path, file.files, x, y)
        try:
            return [file[x], file[y]]
        except Exception as error:
            raise ValueError(
                f"path: expected an undamaged file, got {path.name!r} ({error})"
            ) from error
