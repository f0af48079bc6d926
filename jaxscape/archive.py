"""Save and load a landscape and its paths in one `.npz` file, without pickle."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util.checks import check_type
from jaxscape._util.files import read_npz_array, replacing
from jaxscape.grid import destination
from jaxscape.losses.two_weights import Weights
from jaxscape.results.landscape import Axis, Landscape, check_marks
from jaxscape.results.trajectory import Trajectory

__all__ = ["SCHEMA", "Archive", "load", "save"]

SCHEMA = 3
"""The schema version of files that `save` writes, and the newest that `load` reads."""

_HEADER = "jaxscape"
"""The name of the array that holds the JSON header."""
_JSON_FIELDS = ("steps_per_epoch", "name")
"""The fields of a path that the header holds as JSON values."""
_OPTIONAL_ARRAYS = (
    "evaluation_loss",
    "step_size",
    "path_length",
    "learning_rate",
    "gradient_norm",
)
"""The arrays of a path that may be None."""
_KINDS = "biuf"
"""The kinds of the dtypes that a file may hold."""


class Archive(NamedTuple):
    """The content of a file: a landscape and its paths, with NumPy arrays."""

    landscape: Landscape
    """The surface."""
    paths: tuple[Trajectory, ...]
    """The training paths saved with it."""


def save(path: str | os.PathLike[str], landscape: Landscape, *paths: Trajectory) -> None:
    """Save a landscape and any number of training paths to an `.npz` file.

    An existing file is replaced in one step once the new one is complete.

    Args:
        path: the file, by convention ending in `.npz`.
        landscape: the surface.
        paths: training paths, whose parameters are `Weights` or nested dicts, lists and tuples of
            arrays.

    Raises:
        TypeError: `landscape` is not a `Landscape`, a path is not a `Trajectory`, or its parameters
            have another type or a dtype that `.npz` cannot hold.
        ValueError: The folder does not exist, or `path` is a folder.

    Example:
        >>> axes = jxs.Axis(np.arange(3.0), "w1"), jxs.Axis(np.arange(4.0), "w2")
        >>> surface = jxs.Landscape(np.ones((3, 4)), *axes, loss_name="loss", method="dense")
        >>> jxs.archive.save("surface.npz", surface)
        >>> jxs.archive.load("surface.npz").landscape.shape
        (3, 4)
    """
    check_type("landscape", landscape, Landscape)
    for trajectory in paths:
        check_type("paths", trajectory, Trajectory)
    arrays: dict[str, np.ndarray] = {}

    def add_array(name: str, values: Any) -> str:
        """Add an array to the file and return its unique name there."""
        array = np.asarray(values)
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"{name}: expected a dtype that .npz can hold, got {array.dtype}")
        # {"a": {"b": …}} and {"a.b": …} give the same name.
        while name in arrays:
            name += "'"
        arrays[name] = array
        return name

    def encode(name: str, tree: Any) -> Any:
        """Add the arrays of a pytree to the file; return the tree as JSON, with their names."""
        if isinstance(tree, Weights):
            return {"Weights": [encode(f"{name}.{k}", v) for k, v in tree._asdict().items()]}
        if isinstance(tree, Mapping) and all(isinstance(k, str) for k in tree):
            return {"dict": {k: encode(f"{name}.{k}", v) for k, v in tree.items()}}
        if type(tree) in (list, tuple):
            items = [encode(f"{name}.{k}", v) for k, v in enumerate(tree)]
            return {type(tree).__name__: items}
        if tree is None:
            return None
        if not hasattr(tree, "dtype"):
            raise TypeError(
                f"{name}: expected Weights, dicts, lists, tuples and arrays, "
                f"got {type(tree).__name__}"
            )
        return add_array(name, tree)

    header = {
        "schema": SCHEMA,
        "landscape": {
            "loss": add_array("loss", landscape.loss),
            "a": [add_array("a", landscape.a.values), landscape.a.name, landscape.a.unit],
            "b": [add_array("b", landscape.b.values), landscape.b.name, landscape.b.unit],
            "loss_name": landscape.loss_name,
            "method": landscape.method,
            "marks": landscape.marks,
        },
        "paths": [
            {
                name: value if name in _JSON_FIELDS else encode(f"path{k}.{name}", value)
                for name, value in vars(trajectory).items()
            }
            for k, trajectory in enumerate(paths)
        ],
    }
    with replacing(path) as file:
        np.savez(file, **{_HEADER: np.array(json.dumps(header))}, **arrays)  # type: ignore[arg-type]


def load(path: str | os.PathLike[str]) -> Archive:
    """Load a file that `save` wrote, or a folder that `landscape` wrote as its `destination`.

    Args:
        path: the file or the folder. The losses of a folder are a read-only memory map of the rows
            before the first missing one; their checksums are verified.

    Returns:
        The landscape and its paths; a folder has none.

    Raises:
        ValueError: The file does not exist, is not a file of this library, was written by a newer
            version, or is damaged; the message says which.

    Example:
        >>> _ = Path("notes.npz").write_text("hello")
        >>> jxs.archive.load("notes.npz")
        Traceback (most recent call last):
        ValueError: path: 'notes.npz' was not written by jaxscape: it is not an .npz file
    """
    path = Path(path)
    if path.is_dir():
        return Archive(destination.load(path), ())
    if not path.is_file():
        raise ValueError(f"path: expected an existing file, got {str(path)!r}")
    # zipfile, zlib, json and NumPy raise exceptions of many types for a damaged file.
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise ValueError(
                f"path: {path.name!r} was not written by jaxscape: it is not an .npz file"
            )
        file.seek(0)
        try:
            stored = np.load(file, allow_pickle=False)
            has_header = _HEADER in stored.files
            header = json.loads(str(read_npz_array(stored, _HEADER))) if has_header else None
        except Exception as error:
            raise ValueError(f"path: {path.name!r} is damaged: {error}") from error
        if not has_header:
            raise ValueError(
                f"path: {path.name!r} was not written by jaxscape: it contains {stored.files}"
            )
        schema = header.get("schema") if isinstance(header, dict) else None
        if type(schema) is not int:
            raise ValueError(
                f"path: {path.name!r} is damaged: expected a dictionary with a whole number as "
                f"its schema, got {json.dumps(header)[:60]}"
            )
        if schema > SCHEMA:
            raise ValueError(
                f"path: {path.name!r} was written by a newer jaxscape (schema {schema}, "
                f"this one reads up to {SCHEMA}): update jaxscape"
            )
        try:
            return _decode(header, {name: read_npz_array(stored, name) for name in stored.files})
        except Exception as error:
            raise ValueError(f"path: {path.name!r} is damaged: {error}") from error


def _decode(header: Any, arrays: dict[str, np.ndarray]) -> Archive:
    """Return the landscape and the paths that a header and its arrays describe."""
    sequences: dict[str, Callable[[list[Any]], Any]] = {
        "Weights": lambda items: Weights(*items),
        "list": list,
        "tuple": tuple,
    }

    def decode(tree: Any) -> Any:
        if tree is None:
            return None
        if isinstance(tree, str):
            return numbers(tree)
        [(kind, items)] = tree.items()
        if kind == "dict":
            return {name: decode(item) for name, item in items.items()}
        return sequences[kind]([decode(item) for item in items])

    def numbers(name: str) -> np.ndarray:
        array = arrays[name]
        if array.dtype.kind not in _KINDS:
            raise ValueError(f"expected numbers as {name!r}, got dtype {array.dtype}")
        return array

    def axis(values: str, name: Any, unit: Any = "") -> Axis:
        return Axis(numbers(values), _text("axis", name), _text("unit", unit))

    fields = dict(header["landscape"])
    # Schemas 1 and 2 have neither units nor marks.
    a, b, marks = axis(*fields.pop("a")), axis(*fields.pop("b")), fields.pop("marks", ())
    loss, loss_name, method = (fields.pop(name) for name in ("loss", "loss_name", "method"))
    if fields:
        raise ValueError(f"it has the unknown fields {', '.join(fields)}")
    landscape = Landscape(
        numbers(loss),
        a,
        b,
        _text("loss_name", loss_name),
        _text("method", method),
        check_marks(marks),
    )
    shapes = a.values.shape, b.values.shape
    has_shape = a.values.ndim == b.values.ndim == 1 and landscape.loss.shape == landscape.shape
    if not has_shape or landscape.loss.size == 0:
        raise ValueError(f"a loss of shape {landscape.loss.shape} on axes of shapes {shapes}")
    paths = [
        Trajectory(
            **{
                name: value if name in _JSON_FIELDS else decode(value)
                for name, value in path.items()
            }
        )
        for path in header["paths"]
    ]
    for trajectory in paths:
        _check_path(trajectory)
    return Archive(landscape, tuple(paths))


def _text(name: str, value: Any) -> str:
    """Return a string of the header; raise an error if it is something else."""
    if not isinstance(value, str):
        raise TypeError(f"expected a string as its {name}, got {value!r}")
    return value


def _check_path(path: Trajectory) -> None:
    """Raise an error if a path's fields have types or shapes that do not belong together."""
    _text("name", path.name)
    if type(path.steps_per_epoch) is not int or path.steps_per_epoch < 1:
        raise ValueError(f"expected 1 step per epoch or more, got {path.steps_per_epoch!r}")
    points = (np.size(path.step),)
    for name in ("step", "training_loss", "diverged_step", *_OPTIONAL_ARRAYS):
        value = getattr(path, name)
        if value is None and name in _OPTIONAL_ARRAYS:
            continue
        shape = () if name in ("diverged_step", "gradient_norm") else points
        if not isinstance(value, np.ndarray) or value.shape != shape:
            raise ValueError(f"expected {name} of shape {shape}, got {value!r}")
    for leaf in jax.tree.leaves(path.params):
        if leaf.shape[:1] != points:
            raise ValueError(f"expected parameters at {points[0]} points, got shape {leaf.shape}")
