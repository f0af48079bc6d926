"""Datasets read from CSV and `.npz` files."""

import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxscape._util.checks import check_choice, check_count
from jaxscape._util.files import read_npz_array
from jaxscape.data.dataset import Dataset


def read_dataset(
    path: str | os.PathLike,
    x: str | int = "x",
    y: str | int = "y",
    *,
    delimiter: str = ",",
    decimal: str = ".",
) -> Dataset:
    """Read two columns of a CSV file, or two arrays of an `.npz` file.

    Args:
        path: a file whose name ends in `.csv` or `.npz`.
        x: the name of the column, or array, of inputs; or the number of the column, from 0, in a
            CSV file without a header line.
        y: the name or the number of the targets, like `x`.
        delimiter: the character between the values of a CSV file, such as `";"` or a tab.
        decimal: the decimal mark in a CSV file, `"."` or `","`.

    Returns:
        The dataset, in the order of the file.

    Raises:
        TypeError: One of `x` and `y` is a name and the other a number; or an array does not consist
            of real numbers.
        ValueError: The file does not exist or has another format; a column is missing or exists
            twice; a line of a CSV file has more or fewer values than the first one, or a quote that
            is not closed; a value is not a finite number; or `delimiter` or `decimal` cannot be
            used. The message names the line or the index of the value.

    Example:
        >>> _ = Path("points.csv").write_text("time,height\\n0,1.5\\n1,2.5\\n")
        >>> jxs.data.read_dataset("points.csv", x="time", y="height")
        Dataset(2 samples, x: float32[2], y: float32[2])
        >>> _ = Path("semicolons.csv").write_text("0;1,5\\n1;2,5\\n")
        >>> jxs.data.read_dataset("semicolons.csv", 0, 1, delimiter=";", decimal=",").y
        Array([1.5, 2.5], dtype=float32)
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: expected an existing file, got {str(path)!r}")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".npz"):
        raise ValueError(f"path: expected a file ending in .csv or .npz, got {path.name!r}")
    columns = {
        argument: column if isinstance(column, str) else check_count(argument, column, 0)
        for argument, column in (("x", x), ("y", y))
    }
    if isinstance(x, str) != isinstance(y, str):
        raise TypeError(f"x, y: expected two names or two numbers of columns, got {x!r} and {y!r}")
    if suffix == ".npz":
        return Dataset(*_read_npz(path, columns))
    check_choice("decimal", decimal, (".", ","))
    is_character = isinstance(delimiter, str) and len(delimiter) == 1
    if not is_character or delimiter.isalnum() or delimiter in f'{decimal}+-_"\r\n':
        raise ValueError(
            "delimiter: expected one character that is not part of a number, a quote or a line "
            f"break, got {delimiter!r}"
        )
    return Dataset(*_read_csv(path, columns, delimiter, decimal))


def _check_columns(path: Path, names: list[str], columns: dict[str, Any], note: str = "") -> None:
    for argument, column in columns.items():
        if names.count(column) != 1:
            got = f"{column!r}, which exists twice" if column in names else f"{column!r}{note}"
            raise ValueError(f"{argument}: expected one of {names} of {path.name}, got {got}")


def _read_csv(
    path: Path, columns: dict[str, Any], delimiter: str, decimal: str
) -> list[list[float]]:
    rows = _csv_rows(path, delimiter)
    values: dict[str, list[float]] = {argument: [] for argument in columns}
    width = None
    if isinstance(columns["x"], str):
        _, header = next(rows, (1, []))
        width, header = len(header), [name.strip() for name in header]
        note = f"; give numbers if there is no header line, or another delimiter than {delimiter!r}"
        _check_columns(path, header, columns, note)
        columns = {argument: header.index(name) for argument, name in columns.items()}
    for line, row in rows:
        place = f"in line {line} of {path.name}"
        if len(row) != (width := width or len(row)):
            raise ValueError(f"path: expected {width} values {place}, as before, got {len(row)}")
        for argument, column in columns.items():
            if column >= width:
                raise ValueError(f"{argument}: expected a number below {width}, got {column}")
            try:
                values[argument].append(_number(row[column], decimal))
            except ValueError:
                raise ValueError(
                    f"{argument}: expected a finite number {place}, got {row[column]!r}"
                ) from None
    return list(values.values())


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, and the number of its first line."""
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"path: expected a CSV text file, got {path.name!r} (line {line}: {error})"
        ) from None


def _number(text: str, decimal: str) -> float:
    """Convert the text of a finite number, without separators of thousands, to a float."""
    # `float` accepts 1_000.
    if "_" in text or (decimal != "." and "." in text):
        raise ValueError
    number = float(text.replace(decimal, "."))
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_npz(path: Path, columns: dict[str, Any]) -> list[np.ndarray]:
    with path.open("rb") as opened:
        # zipfile, zlib and NumPy raise different exceptions for a file that is not .npz.
        try:
            file = np.load(opened, allow_pickle=False)
        except Exception as error:
            raise ValueError(f"path: expected an .npz file, got {path.name!r} ({error})") from error
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError(f"path: expected an .npz file, got {path.name!r}, a single array")
        _check_columns(path, file.files, columns)
        try:
            return [read_npz_array(file, name) for name in columns.values()]
        except Exception as error:
            raise ValueError(
                f"path: expected an undamaged file, got {path.name!r} ({error})"
            ) from error
