"""Save and load a landscape and its paths: one `.npz` file, no pickle, with a schema version."""

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxscape._util.files import replacing
from jaxscape.grid import destination
from jaxscape.losses.two_weights import Weights
from jaxscape.results.landscape import Axis, Landscape, Mark
from jaxscape.results.trajectory import Trajectory

__all__ = ["SCHEMA", "Archive", "load", "save"]

SCHEMA = 3
"""The version this library writes, and the newest it reads."""

_MARK = "jaxscape"
_PLAIN = ("steps_per_epoch", "name")
"""Fields of a path that JSON holds as they are."""


class Archive(NamedTuple):
    """What a file holds: a landscape and the paths saved with it, their arrays NumPy's."""

    landscape: Landscape
    """The surface."""
    paths: tuple[Trajectory, ...]
    """The descents that were saved with it."""


def save(path: str | os.PathLike, landscape: Landscape, *paths: Trajectory) -> None:
    """Save a landscape and any number of descents.

    An existing file is replaced in one step, when the new one is complete.

    Args:
        path: the file to write, by convention ending in `.npz`.
        landscape: the surface.
        paths: descents, their parameters `Weights` or nested dicts, lists and tuples of arrays.

    Raises:
        TypeError: parameters of another kind, or arrays of a dtype that `.npz` cannot hold.
        ValueError: a folder that is not there.

    Example:
        >>> axes = jxs.Axis(np.arange(3.0), "w1"), jxs.Axis(np.arange(4.0), "w2")
        >>> surface = jxs.Landscape(np.ones((3, 4)), *axes, loss_name="loss", method="dense")
        >>> jxs.archive.save("surface.npz", surface)
        >>> jxs.archive.load("surface.npz").landscape.shape
        (3, 4)
    """
    expected = [(landscape, Landscape), *((trajectory, Trajectory) for trajectory in paths)]
    for given, kind in expected:
        if not isinstance(given, kind):
            raise TypeError(f"save: expected a {kind.__name__}, got {type(given).__name__}")
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, values: Any) -> str:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected numbers that NumPy can save, got {array.dtype}")
        # {"a": {"b": …}} and {"a.b": …} would be kept under one name.
        while name in arrays:
            name += "'"
        arrays[name] = array
        return name

    def describe(name: str, tree: Any) -> Any:
        """The tree with each array replaced by the name it is kept under."""
        if isinstance(tree, Weights):
            return {"Weights": [describe(f"{name}.{k}", v) for k, v in tree._asdict().items()]}
        if isinstance(tree, Mapping) and all(isinstance(k, str) for k in tree):
            return {"dict": {k: describe(f"{name}.{k}", v) for k, v in tree.items()}}
        if type(tree) in (list, tuple):
            items = [describe(f"{name}.{k}", v) for k, v in enumerate(tree)]
            return {type(tree).__name__: items}
        if tree is None:
            return None
        if not hasattr(tree, "dtype"):
            raise TypeError(
                f"{name}: expected Weights, dicts, lists, tuples and arrays, "
                f"got {type(tree).__name__}"
            )
        return keep(name, tree)

    header = {
        "schema": SCHEMA,
        "landscape": {
            "loss": keep("loss", landscape.loss),
            "a": [keep("a", landscape.a.values), landscape.a.name, landscape.a.unit],
            "b": [keep("b", landscape.b.values), landscape.b.name, landscape.b.unit],
            "loss_name": landscape.loss_name,
            "method": landscape.method,
            "marks": landscape.marks,
        },
        "paths": [
            {
                name: value if name in _PLAIN else describe(f"path{k}.{name}", value)
                for name, value in vars(trajectory).items()
            }
            for k, trajectory in enumerate(paths)
        ],
    }
    with replacing(path) as file:
        np.savez(file, **{_MARK: np.array(json.dumps(header))}, **arrays)  # type: ignore[arg-type]


def load(path: str | os.PathLike) -> Archive:
    """Load what `save` wrote, or what `landscape` wrote to a destination.

    Args:
        path: the file; or the folder, from which the losses come as a read-only memory map, their
            checksums compared, and as far as the first row that is missing.

    Returns:
        The landscape and the tuple of its paths, none for a destination.

    Raises:
        ValueError: a file that is not there, is not of this library, was written by a newer
            version of it, or is damaged; the message says which.

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
        raise ValueError(f"path: expected a file, got {str(path)!r}, which is not one")
    # zipfile, zlib, json and NumPy each have their own exceptions for a damaged file, and all of
    # them mean the same here; none is swallowed.
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise ValueError(
                f"path: {path.name!r} was not written by jaxscape: it is not an .npz file"
            )
        file.seek(0)
        try:
            stored = np.load(file, allow_pickle=False)
            header = json.loads(str(stored[_MARK])) if _MARK in stored.files else None
        except Exception as error:
            raise ValueError(f"path: {path.name!r} is damaged: {error}") from error
        if header is None:
            raise ValueError(
                f"path: {path.name!r} was not written by jaxscape: it holds {stored.files}"
            )
        schema = header.get("schema", 0)
        if schema > SCHEMA:
            raise ValueError(
                f"path: {path.name!r} was written by a newer jaxscape (schema {schema}, "
                f"this one reads up to {SCHEMA}): update jaxscape"
            )
        try:
            return _restore(header, {name: stored[name] for name in stored.files})
        except Exception as error:
            raise ValueError(f"path: {path.name!r} is damaged: {error}") from error


def _restore(header: Any, arrays: dict[str, np.ndarray]) -> Archive:
    def rebuild(described: Any) -> Any:
        if described is None:
            return None
        if isinstance(described, str):
            return arrays[described]
        [(kind, items)] = described.items()
        if kind == "dict":
            return {name: rebuild(item) for name, item in items.items()}
        rebuilt = [rebuild(item) for item in items]
        return (
            Weights(*rebuilt)
            if kind == "Weights"
            else {"list": list, "tuple": tuple}[kind](rebuilt)
        )

    saved = dict(header["landscape"])
    # The second schema knew neither units nor marks.
    axes = {name: Axis(arrays[saved[name][0]], *saved[name][1:]) for name in ("a", "b")}
    marks = tuple(itertools.starmap(Mark, saved.get("marks", ())))
    known = axes | {"loss": arrays[saved["loss"]], "marks": marks}
    landscape = Landscape(**(saved | known))
    if landscape.loss.shape != landscape.shape:
        raise ValueError(f"a loss of shape {landscape.loss.shape} on axes of {landscape.shape}")
    paths = (
        Trajectory(
            **{name: value if name in _PLAIN else rebuild(value) for name, value in path.items()}
        )
        for path in header["paths"]
    )
    return Archive(landscape, tuple(paths))
