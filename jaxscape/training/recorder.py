"""Record the parameters of a user's own training loop."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxscape._util.checks import check_number
from jaxscape._util.pytree import Params, combine, is_array, is_none, is_traced, partition
from jaxscape.training.record_file import Leaf, Rows


class Recorder:
    """Record the parameters of your own training loop.

    Each call with the parameters keeps a copy of them. `project` takes a recorder as a path, and
    `Plane.principal` takes its `path()`. Up to 1 GiB of points are kept in memory. With more, all
    points go to a temporary file, which is read piece by piece and deleted with the recorder.

    Args:
        file: a file to which each point is written immediately, so that no point is lost if the
            process is killed. An existing file is continued after its last complete point; for
            another run, use another file or delete this one. None for no file.

    Raises:
        ValueError: The file was not written by a recorder, was written by a newer jaxscape, or is
            damaged; its folder does not exist.

    Example:
        >>> record = jxs.Recorder()
        >>> params = {"w": jnp.ones(2)}
        >>> for step in range(30):
        ...     if step % 10 == 0:
        ...         record(params, epoch=step / 5)
        ...     params = {"w": 0.9 * params["w"]}
        >>> record
        Recorder(3 points of 2 numbers, in memory)
        >>> record.path()["w"].shape, record.epoch
        ((3, 2), array([0., 2., 4.]))
    """

    def __init__(self, file: str | os.PathLike | None = None):
        self._rows = Rows(None if file is None else Path(file))
        # The first point's structure, names of recorded leaves and other leaves.
        self._first: tuple[Any, Params, Params] | None = None

    def __call__(self, params: Params, epoch: float | None = None) -> None:
        """Record a point.

        Args:
            params: any pytree, of the same structure, shapes and dtypes in every call. The leaves
                that are not floating numbers (functions, whole numbers, random keys) are kept from
                the first call.
            epoch: the number of completed epochs, for figures; None for 1 more than at the previous
                point, or 0 at the first.

        Raises:
            TypeError: The parameters are traced by JAX, or `epoch` is not a number.
            ValueError: The parameters differ from the first ones in structure, shape or dtype; the
                message names the leaf. `epoch` is less than the last point's.
            OSError: The file cannot be written, or another recorder writes to it.
        """
        moving, names, others = _split(params)
        structure = jax.tree.structure(params, is_leaf=is_none)
        if is_traced(*moving.values()):
            raise TypeError("params: expected arrays, got traced ones; record outside of jit")
        if not moving:
            raise ValueError(f"params: expected floating numbers, got none in {structure}")
        self._rows.open()
        if self._rows.leaves:
            leaves = {name: Leaf(_dtype(leaf), np.shape(leaf)) for name, leaf in moving.items()}
            _check_same_leaves(self._rows.leaves, leaves)
        if self._first is not None and structure != self._first[0]:
            raise ValueError(
                f"params: expected the first record's structure {self._first[0]}, got {structure}"
            )
        epoch = self._next_epoch(epoch)
        # One call copies all leaves from the device.
        values = jax.device_get(moving)
        with np.errstate(over="ignore"):
            arrays = {name: np.asarray(values[name], _dtype(leaf)) for name, leaf in moving.items()}
        if self._first is None:
            # A training step may overwrite arrays that the caller donates, so copy them.
            self._first = structure, names, jax.tree.map(_copy, others)
        self._rows.append(arrays, epoch)

    def path(self, params: Params = None) -> Params:
        """Return the recorded points as a path for `Plane.principal` and `project`.

        Args:
            params: parameters with the recorded structure, which is not stored in a file. They are
                required for an existing file until this recorder has recorded a point. None for the
                structure of the recorded parameters.

        Returns:
            The pytree of parameters, each floating leaf with a leading axis of T points: NumPy
            arrays, or read-only memory maps of a file. After a divergence, only the points before
            it.

        Raises:
            ValueError: There is no finite point, or the parameters are missing or have another
                structure or shape.

        Example:
            >>> params = {"w": jnp.ones(2)}
            >>> jxs.Recorder("run.params")(params)
            >>> jxs.Recorder("run.params").path(params)["w"].shape
            (1, 2)
        """
        first_nonfinite = self._rows.first_nonfinite
        count = len(self) if first_nonfinite is None else first_nonfinite
        if count == 0:
            raise ValueError(f"path: expected a recorder with a finite point, got {self!r}")
        if params is not None:
            moving, names, others = _split(params)
            # The dtypes may differ: only the structure and the shapes are used.
            recorded = self._rows.leaves
            dtypes = {
                name: recorded[name].dtype if name in recorded else _dtype(leaf)
                for name, leaf in moving.items()
            }
            leaves = {name: Leaf(dtypes[name], np.shape(leaf)) for name, leaf in moving.items()}
            _check_same_leaves(recorded, leaves)
        elif self._first is not None:
            _, names, others = self._first
        else:
            raise ValueError(
                "params: expected parameters of the recorded structure, which is not stored with "
                f"the points {self._rows.location}, got None"
            )
        points = self._rows.arrays(count)
        return combine(jax.tree.map(lambda name: points[name], names), others)

    def rewind(self, epoch: float) -> None:
        """Delete the points after an epoch, before a run continues from an older checkpoint.

        Args:
            epoch: the last epoch to keep.

        Raises:
            TypeError: `epoch` is not a number.
            ValueError: `epoch` is not finite.
            OSError: The file cannot be written, or another recorder writes to it.

        Example:
            >>> record = jxs.Recorder()
            >>> for epoch in (0, 0.5, 1, 1.5):
            ...     record({"w": jnp.ones(2)}, epoch)
            >>> record.rewind(1)
            >>> record.epoch
            array([0. , 0.5, 1. ])
        """
        last = _check_epoch(epoch)
        self._rows.open()
        # Delete the last point first, so that no gap is left if the process is killed.
        while len(self) and self._rows.ends[-1].epoch > last:
            self._rows.drop_last()

    @property
    def epoch(self) -> np.ndarray:
        """(T,) float64: the number of completed epochs at each point."""
        return np.array([end.epoch for end in self._rows.ends], float)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        parts = [f"{len(self)} points"]
        if self._rows.leaves:
            numbers = sum(math.prod(leaf.shape) for leaf in self._rows.leaves.values())
            parts[0] += f" of {numbers:,} numbers"
        if self._rows.first_nonfinite is not None:
            parts.append(f"not finite at point {self._rows.first_nonfinite}")
        return f"Recorder({', '.join([*parts, self._rows.location])})"

    def _next_epoch(self, epoch: float | None) -> float:
        """Check that the epoch of the next point does not decrease, and return it."""
        last = self._rows.ends[-1].epoch if len(self) else None
        if epoch is None:
            return 0.0 if last is None else last + 1
        checked = _check_epoch(epoch)
        if last is not None and checked < last:
            raise ValueError(
                f"epoch: expected {last:g} or more, the last point's, got {checked:g}; "
                f"rewind({checked:g}) deletes the later points"
            )
        return checked


def _split(params: Params) -> tuple[dict[str, Any], Params, Params]:
    """Split parameters into recorded leaves by name, a pytree of these names, and other leaves."""
    moving, others = partition(params)
    names = jax.tree_util.tree_map_with_path(
        lambda path, _: f"params{jax.tree_util.keystr(path)}", moving
    )
    by_name = zip(jax.tree.leaves(names), jax.tree.leaves(moving), strict=True)
    return dict(by_name), names, others


def _dtype(leaf: Any) -> np.dtype:
    """Return the dtype in which JAX computes with a leaf."""
    return np.dtype(jax.dtypes.canonicalize_dtype(getattr(leaf, "dtype", float)))


def _copy(leaf: Any) -> Any:
    return leaf.copy() if is_array(leaf) and hasattr(leaf, "copy") else leaf


def _check_same_leaves(recorded: Mapping[str, Leaf], leaves: Mapping[str, Leaf]) -> None:
    nothing = "no floating numbers"
    for name in {**recorded, **leaves}:
        expected, got = recorded.get(name), leaves.get(name)
        if expected != got:
            raise ValueError(
                f"{name}: expected {expected or nothing}, as in the first record, "
                f"got {got or nothing}"
            )


def _check_epoch(epoch: Any) -> float:
    number = check_number("epoch", epoch)
    if not math.isfinite(number):
        raise ValueError(f"epoch: expected a finite number, got {number}")
    return number
