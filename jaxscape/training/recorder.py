"""The parameters that a training loop of the user's own passes through."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxscape._util.pytree import is_array, is_none, is_parameter, is_traced
from jaxscape.training.record_file import Leaf, Rows

# Among the leaves that are not recorded, where one is.
_RECORDED = object()


class Recorder:
    """The parameters that training passes through, recorded in a loop of your own.

    Called with the parameters, it keeps a copy of them. `project` takes it as a path, and
    `path()` is what `Plane.principal` takes. Up to 1 GiB of points are in memory; more are in a
    temporary file, which goes with the recorder, and are read from there piece by piece.

    Args:
        file: where the points are written instead, each as it comes, so that they outlive a kill.
            A file that is there already is gone on with, after its last whole point; for another
            run give another file, or delete this one.

    Raises:
        ValueError: a file that no recorder wrote, that a newer jaxscape wrote, or that is damaged;
            one in a folder that is not there.

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
        # Of the first parameters: their structure, and the leaves that are not recorded.
        self._first: tuple[Any, list[Any]] | None = None

    def __call__(self, params: Any, epoch: float | None = None) -> None:
        """Record a point.

        Args:
            params: any pytree, the same at each call but for its numbers. What are not floating
                numbers (functions, whole numbers, random keys) are the first call's.
            epoch: epochs of training done, for figures; None for one more than the last point's,
                from 0.

        Raises:
            TypeError: parameters that JAX traces; an epoch that is no number.
            ValueError: parameters of another structure, shape or dtype than the first, by the
                leaf's path; an epoch before the last point's.
            OSError: a file that cannot be written to, or that another recorder writes to.
        """
        moving, structure, others = _split(params)
        if is_traced(*moving.values()):
            raise TypeError("params: expected arrays, got traced ones; record outside of jit")
        if not moving:
            raise ValueError(f"params: expected floating numbers, got none in {structure}")
        self._rows.open()
        if self._rows.leaves:
            leaves = {name: Leaf(_dtype(x), np.shape(x)) for name, x in moving.items()}
            _check_same(self._rows.leaves, leaves)
        if self._first is not None and structure != self._first[0]:
            raise ValueError(
                f"params: expected the first record's structure {self._first[0]}, got {structure}"
            )
        epoch = self._checked(epoch)
        # All leaves are copied from the device at once.
        values = jax.device_get(moving)
        with np.errstate(over="ignore"):
            arrays = {name: np.asarray(values[name], _dtype(x)) for name, x in moving.items()}
        if self._first is None:
            # Copies: a loop may give the arrays' memory to its next step.
            self._first = structure, [_copied(leaf) for leaf in others]
        self._rows.append(arrays, epoch)

    def path(self, params: Any = None) -> Any:
        """The points in order, as `Plane.principal` and `project` take a path.

        Args:
            params: parameters of the recorded structure, for a file that was opened to be read and
                is not recorded to; None for those recorded.

        Returns:
            The parameters' pytree, each floating leaf with a leading axis of T points: NumPy's
            arrays, from a file read-only memory maps. Of a run that left the finite numbers, the
            points before.

        Raises:
            ValueError: no finite point; parameters of another structure or shape.

        Example:
            >>> params = {"w": jnp.ones(2)}
            >>> jxs.Recorder("run.params")(params)
            >>> jxs.Recorder("run.params").path(params)["w"].shape
            (1, 2)
        """
        hole = self._rows.first_hole
        count = len(self) if hole is None else hole
        if count == 0:
            raise ValueError(f"path: expected a recorder with a finite point, got {self!r}")
        if params is not None:
            moving, structure, others = _split(params)
            # Of whatever dtype: only the structure is taken.
            shapes = {
                name: Leaf(self._rows.leaves.get(name, Leaf(_dtype(x), ())).dtype, np.shape(x))
                for name, x in moving.items()
            }
            _check_same(self._rows.leaves, shapes)
        elif self._first is not None:
            structure, others = self._first
            moving = self._rows.leaves
        else:
            raise ValueError(
                "params: expected parameters of the recorded structure, as there are only their "
                f"numbers {self._rows.place}, got None"
            )
        points = self._rows.arrays(count)
        names = iter(moving)
        leaves = [points[next(names)] if leaf is _RECORDED else leaf for leaf in others]
        return jax.tree.unflatten(structure, leaves)

    def rewind(self, epoch: float) -> None:
        """Forget the points of later epochs, as a run needs that goes on from an older checkpoint.

        Args:
            epoch: the last that is kept.

        Raises:
            TypeError, ValueError: an epoch that is no finite number.
            OSError: as when a point is recorded.

        Example:
            >>> record = jxs.Recorder()
            >>> for epoch in (0, 0.5, 1, 1.5):
            ...     record({"w": jnp.ones(2)}, epoch)
            >>> record.rewind(1)
            >>> record.epoch
            array([0. , 0.5, 1. ])
        """
        last = _number(epoch)
        self._rows.open()
        # From the last to the first, so that a kill leaves no gap.
        while len(self) and self._rows.ends[-1][0] > last:
            self._rows.drop_last()

    @property
    def epoch(self) -> np.ndarray:
        """Epochs of training done, (T,) float64, of all points."""
        return np.array([epoch for epoch, _ in self._rows.ends], float)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        parts = [f"{len(self)} points"]
        if self._rows.leaves:
            numbers = sum(math.prod(leaf.shape) for leaf in self._rows.leaves.values())
            parts[0] += f" of {numbers:,} numbers"
        if self._rows.first_hole is not None:
            parts.append(f"not finite at point {self._rows.first_hole}")
        return f"Recorder({', '.join([*parts, self._rows.place])})"

    def _checked(self, epoch: Any) -> float:
        last = self._rows.ends[-1][0] if len(self) else None
        if epoch is None:
            return 0.0 if last is None else last + 1
        found = _number(epoch)
        if last is not None and found < last:
            raise ValueError(
                f"epoch: expected {last:g} or more, as the last point's, got {found:g}; "
                f"rewind({found:g}) forgets the later ones"
            )
        return found


def _split(params: Any) -> tuple[dict[str, Any], Any, list[Any]]:
    """The leaves that are recorded, by path, the structure, and the leaves that are not."""
    paths, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)
    moving = {
        f"params{jax.tree_util.keystr(path)}": leaf for path, leaf in paths if is_parameter(leaf)
    }
    return moving, structure, [_RECORDED if is_parameter(leaf) else leaf for _, leaf in paths]


def _dtype(leaf: Any) -> np.dtype:
    """The dtype in which JAX computes with a leaf."""
    return np.dtype(jax.dtypes.canonicalize_dtype(getattr(leaf, "dtype", float)))


def _copied(leaf: Any) -> Any:
    return leaf.copy() if is_array(leaf) and hasattr(leaf, "copy") else leaf


def _check_same(there: Mapping[str, Leaf], here: Mapping[str, Leaf]) -> None:
    nothing = "no floating numbers"
    for name in {**there, **here}:
        was, now = there.get(name), here.get(name)
        if was != now:
            raise ValueError(
                f"{name}: expected {was or nothing}, as in the first record, got {now or nothing}"
            )


def _number(epoch: Any) -> float:
    if isinstance(epoch, bool) or not hasattr(epoch, "__float__"):
        raise TypeError(f"epoch: expected a number, got {epoch!r}")
    if not math.isfinite(epoch):
        raise ValueError(f"epoch: expected a finite number, got {float(epoch)}")
    return float(epoch)
