"""Which cells of a landscape with too many are drawn: none that stands out is lost."""

from typing import NamedTuple

import numpy as np

from jaxscape.results.landscape import Landscape

# A few rows at a time: the losses may be a memory map larger than memory.
_CELLS_AT_ONCE = 2**24


class Blocks(NamedTuple):
    """A landscape cut into blocks of cells, one of which is drawn for each."""

    size: tuple[int, int]
    """How many rows and columns a block has; those at the end may have fewer."""
    axes: tuple[np.ndarray, np.ndarray]
    """(m1,) and (m2,) int: the middle row and column of each, at the border the border's."""
    rows: np.ndarray
    columns: np.ndarray
    """(m1, m2) int: the cell of each block that is drawn."""

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """The index of those cells."""
        return self.rows, self.columns

    def note(self, what: str) -> str:
        """What to note of them: `what` with how many there are along each axis."""
        return what.format(*self.rows.shape) + ", all peaks and pits kept"


def for_surface(
    landscape: Landscape, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The landscape as a surface that a browser can turn, holes as NaN.

    Returns:
        Coordinates and losses: axes (n1,), (n2,) and losses (n1, n2) as they are, or of each
        block of cells the one to draw, all three (m1, m2); and what to note.
    """
    a, b, loss = _arrays(landscape)
    if max(landscape.shape) <= most:
        return a, b, _with_holes(loss), []
    found = choose_cells(loss, most)
    return (
        a[found.rows],
        b[found.columns],
        _with_holes(loss[found.cells]),
        [found.note("drawn {} × {}")],
    )


def for_image(
    landscape: Landscape, most: int, what: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The landscape as an image on even axes, holes as NaN: cells are at most half a block away.

    Returns:
        Axes (m1,) and (m2,), losses (m1, m2), and what to note, in which the image is called
        `what`.
    """
    a, b, loss = _arrays(landscape)
    if max(landscape.shape) <= most:
        return a, b, _with_holes(loss), []
    found = choose_cells(loss, most)
    on_axes = (values[index] for values, index in zip((a, b), found.axes, strict=True))
    return *on_axes, _with_holes(loss[found.cells]), [found.note(what + " of {} × {} cells")]


def _arrays(landscape: Landscape) -> tuple[np.ndarray, ...]:
    return tuple(map(np.asarray, (landscape.a.values, landscape.b.values, landscape.loss)))


def _with_holes(loss: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(loss), loss, np.nan)


def choose_cells(loss: np.ndarray, most: int) -> Blocks:
    """Blocks of losses, (n1, n2), at most so many along an axis.

    Of most blocks the middle cell, so that the mesh is even, and at the border the border's.

    Of a block whose lowest (highest) cell is below (above) those of all blocks around it, that
    cell: no valley bottom or peak is lost.
    """
    size = tuple(-(-n // most) for n in loss.shape)
    axes = []
    for n, k in zip(loss.shape, size, strict=True):
        index = np.clip(np.arange(-(-n // k)) * k + k // 2, 0, n - 1)
        # So that it reaches the edge.
        index[0], index[-1] = 0, n - 1
        axes.append(index)
    rows, columns = (index.copy() for index in np.meshgrid(*axes, indexing="ij"))
    for sign in (1, -1):
        lowest, within = _lowest(loss, size, sign)
        around = np.pad(lowest, 1, constant_values=np.inf)
        m1, m2 = lowest.shape
        neighbors = [
            around[1 + di : 1 + di + m1, 1 + dj : 1 + dj + m2]
            for di in (-1, 0, 1)
            for dj in (-1, 0, 1)
            if (di, dj) != (0, 0)
        ]
        stands_out = lowest < np.min(neighbors, axis=0)
        inside = np.unravel_index(within, size)
        for index, offset, k in zip((rows, columns), inside, size, strict=True):
            start = (index // k) * k
            index[stands_out] = (start + offset)[stands_out]
    return Blocks((size[0], size[1]), (axes[0], axes[1]), rows, columns)


def _lowest(loss: np.ndarray, size: tuple[int, ...], sign: int) -> tuple[np.ndarray, np.ndarray]:
    """(m1, m2) the lowest finite value of each block, of sign · loss, and where in it that is."""
    n1, n2 = loss.shape
    blocks = -(-n2 // size[1])
    step = size[0] * max(1, _CELLS_AT_ONCE // (n2 * size[0]))
    values, places = [], []
    for start in range(0, n1, step):
        part = np.asarray(loss[start : start + step])
        part = np.where(np.isfinite(part), sign * part, np.inf)
        missing = [(0, -len(part) % size[0]), (0, -n2 % size[1])]
        part = np.pad(part, missing, constant_values=np.inf)
        part = part.reshape(-1, size[0], blocks, size[1]).swapaxes(1, 2)
        part = part.reshape(-1, blocks, size[0] * size[1])
        values.append(part.min(axis=2))
        places.append(part.argmin(axis=2))
    return np.concatenate(values), np.concatenate(places)
