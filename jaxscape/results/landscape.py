"""Loss grids as frozen pytrees: `Axis`, `Landscape`, and the marks on its plane.

The orientation is the same everywhere: `loss[i, j]` is the loss at `(a.values[i], b.values[j])`.
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.pytree import is_traced

Array = jax.Array | np.ndarray
"""A result computed by one call on one device has JAX arrays. A result assembled from several calls
or loaded from a file has NumPy arrays, which keep float64 without x64."""

# The cells that a pass over the losses reads at a time, 64 MiB of float32.
_CELLS_AT_ONCE = 2**24

STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Axis:
    """The values of one coordinate of a grid, in increasing order.

    Example:
        >>> jxs.Axis(np.linspace(-2, 2, 5), "w1")
        Axis(w1: 5 values from -2 to 2)
    """

    values: Array
    """(n,) float, strictly increasing."""
    name: str = field(metadata=STATIC)
    """The coordinate's name in figures and messages."""
    unit: str = field(default="", metadata=STATIC)
    """The coordinate's unit for figures, such as `"filter-normalized"`; empty if unknown."""

    @property
    def title(self) -> str:
        """The axis title in figures: the name and the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def __repr__(self) -> str:
        if is_traced(self.values):
            return f"Axis({self.name}: {len(self)} traced values)"
        return (
            f"Axis({self.name}: {len(self)} values from {self.values[0]:g} to {self.values[-1]:g})"
        )


class Cell(NamedTuple):
    """One cell of a landscape: its grid indices, its coordinates on the plane, and its loss."""

    i: int
    j: int
    a: float
    b: float
    loss: float


class _Extent(NamedTuple):
    lowest: Cell | None
    highest: float
    nonfinite_count: int
    first_nonfinite: Cell | None


class Mark(NamedTuple):
    """A named point on a plane, such as a solution that the plane passes through."""

    a: float
    b: float
    name: str


def check_marks(marks: Any) -> tuple[Mark, ...]:
    """Convert a user's marks, each (a, b, name), to `Mark`s of Python floats and strings.

    Raises:
        TypeError: A mark is not two numbers and a string.
        ValueError: A coordinate is not finite.
    """

    def convert(mark: Any) -> Mark:
        match mark:
            case (a, b, str(name)) if _is_number(a) and _is_number(b):
                if not (math.isfinite(a) and math.isfinite(b)):
                    raise ValueError(f"marks: expected finite a and b, got {mark!r}")
                return Mark(float(a), float(b), str(name))
        raise TypeError(f"marks: expected (a, b, name), two numbers and a string, got {mark!r}")

    if isinstance(marks, str) or not isinstance(marks, Iterable):
        raise TypeError(f"marks: expected a sequence of (a, b, name), got {marks!r}")
    return tuple(map(convert, marks))


def check_units(units: Any) -> tuple[str, str]:
    """Return two units as a tuple of strings.

    Raises:
        TypeError: `units` is not two strings.
    """
    match units:
        case (str(first), str(second)):
            return str(first), str(second)
    raise TypeError(f"units: expected two strings, got {units!r}")


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and np.ndim(value) == 0


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Landscape:
    """A loss on a grid of a plane; `loss[i, j]` is the loss at `(a.values[i], b.values[j])`.

    Example:
        >>> axis = jxs.Axis(np.arange(3.0), "w1"), jxs.Axis(np.arange(4.0), "w2")
        >>> jxs.Landscape(np.arange(12.0).reshape(3, 4), *axis, loss_name="loss", method="dense")
        Landscape(w1: 3 × w2: 4, dense, float64)
          loss from 0 to 11, lowest at w1 = 0, w2 = 0 (on the edge)
    """

    loss: Array
    """(n1, n2) float. NaN and infinite losses are kept as computed."""
    a: Axis
    """n1 values of the first coordinate, one for each row of `loss`."""
    b: Axis
    """n2 values of the second coordinate, one for each column of `loss`."""
    loss_name: str = field(metadata=STATIC)
    """The name of the loss in figures, such as `"squared error"`."""
    method: str = field(metadata=STATIC)
    """The method, `"dense"` (every cell evaluated) or `"exact"` (one parabola per row)."""
    marks: tuple[Mark, ...] = field(default=(), metadata=STATIC)
    """The plane's marks, which figures draw."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n1, n2)."""
        return (len(self.a), len(self.b))

    @property
    def nonfinite(self) -> np.ndarray:
        """(n1, n2) bool: the cells whose loss is NaN or infinite."""
        return ~np.isfinite(self.loss)

    @functools.cached_property
    def _extent(self) -> _Extent:
        """The range of the finite losses, and the nonfinite cells.

        One pass reads a few rows at a time, because the losses may be a memory map larger than
        memory.
        """
        lowest, highest = None, -np.inf
        first_nonfinite, nonfinite = None, 0
        losses = np.asarray(self.loss)
        step = max(1, _CELLS_AT_ONCE // len(self.b))
        for start in range(0, len(self.a), step):
            loss = losses[start : start + step]
            finite = np.isfinite(loss)
            if not finite.all():
                first_nonfinite = first_nonfinite or self._cell(start, loss, int(np.argmin(finite)))
                nonfinite += int(finite.size - finite.sum())
            if finite.any():
                cell = self._cell(start, loss, int(np.argmin(np.where(finite, loss, np.inf))))
                lowest = cell if lowest is None or cell.loss < lowest.loss else lowest
                highest = max(highest, float(np.where(finite, loss, -np.inf).max()))
        return _Extent(lowest, highest, nonfinite, first_nonfinite)

    def _cell(self, start: int, loss: np.ndarray, k: int) -> Cell:
        """Return the k-th cell of a block of losses whose first row is row `start` of the grid."""
        i, j = divmod(k, loss.shape[1])
        a, b = self.a.values[start + i], self.b.values[j]
        return Cell(start + i, j, float(a), float(b), float(loss[i, j]))

    @property
    def lowest(self) -> Cell | None:
        """The first cell with the lowest finite loss; None if no loss is finite."""
        return self._extent.lowest

    @property
    def highest(self) -> float | None:
        """The highest finite loss; None if no loss is finite."""
        return None if self.lowest is None else self._extent.highest

    @property
    def first_nonfinite(self) -> Cell | None:
        """The first cell, row by row, whose loss is NaN or infinite; None if all are finite."""
        return self._extent.first_nonfinite

    @property
    def nonfinite_count(self) -> int:
        """The number of cells whose loss is NaN or infinite."""
        return self._extent.nonfinite_count

    @property
    def lowest_is_on_edge(self) -> bool:
        """Whether the lowest cell is on the edge, so that the loss may fall beyond the grid."""
        cell = self.lowest
        return cell is not None and (
            cell.i in (0, self.shape[0] - 1) or cell.j in (0, self.shape[1] - 1)
        )

    def __repr__(self) -> str:
        (n1, n2), a, b = self.shape, self.a.name, self.b.name
        head = f"Landscape({a}: {n1} × {b}: {n2}, {self.method}, {self.loss.dtype})"
        if is_traced(self.loss):
            return head + " traced"
        cell = self.lowest
        if cell is None:
            return head + "\n  no finite loss"
        highest, nonfinite = self._extent.highest, self._extent.nonfinite_count
        edge = "on the edge" if self.lowest_is_on_edge else "inside"
        return (
            f"{head}\n  loss from {cell.loss:.6g} to {highest:.6g}, "
            f"lowest at {a} = {cell.a:.6g}, {b} = {cell.b:.6g} ({edge})"
            + (f", {nonfinite} cells not finite" if nonfinite else "")
        )

    def _repr_html_(self) -> str:
        """Show the losses as colors and the lowest cell as a dot in a notebook."""
        text = thumbnails.text(self)
        if is_traced(self.loss) or self.lowest is None:
            return text
        a, b = np.asarray(self.a.values, float), np.asarray(self.b.values, float)
        names, ends = (self.a.name, self.b.name), (self.lowest.loss, self._extent.highest)
        lowest = (self.lowest.a, self.lowest.b)
        return thumbnails.surface(np.asarray(self.loss), a, b, names, ends, lowest) + text
