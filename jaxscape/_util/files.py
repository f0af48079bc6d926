"""Save and load a landscape and its paths: one `.npz` file, no pickle, with a schema version."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def check_place(path: Path, name: str = "path") -> None:
    """Refuse a path at which no file can be written: a folder, or one in a folder not there."""
    if not path.parent.is_dir():
        raise ValueError(f"{name}: expected a folder that exists, got {str(path.parent)!r}")
    if path.is_dir():
        raise ValueError(f"{name}: expected a file, got the folder {str(path)!r}")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a file whose contents take the place of `path` only when all are written.

    Raises:
        ValueError: a folder that is not there, or a folder where the file should be.

    Example:
        >>> with replacing("notes.txt") as file:
        ...     _ = file.write(b"whole")
        >>> Path("notes.txt").read_text()
        'whole'
    """
    path = Path(path)
    check_place(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
