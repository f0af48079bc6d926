"""Choose the cells of a large grid to draw, without losing minima or maxima."""

from typing import NamedTuple

import numpy as np

from jaxscape.results.landscape import Landscape

# The number of losses read at a time, because they may be a memory map larger than memory.
_CELLS_PER_READ = 2**24


class Blocks(NamedTuple):
    """A grid divided into blocks of cells, and the cell to draw of each block."""

    size: tuple[int, int]
    """Rows and columns of a block; the last blocks may have fewer."""
    axes: tuple[np.ndarray, np.ndarray]
    """(m1,) and (m2,) int, the middle row and column of each block; the first and last are those
    of the grid."""
    rows: np.ndarray
    """(m1, m2) int, the row of the cell that is drawn for each block."""
    columns: np.ndarray
    """(m1, m2) int, the column of the cell that is drawn for each block."""

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """The index of the drawn cells in the grid."""
        return self.rows, self.columns

    def note(self, name: str) -> str:
        """Return a figure's note with the number of cells of the drawn surface or image, `name`."""
        m1, m2 = self.rows.shape
        return f"{name} of {m1} × {m2} cells, all minima and maxima kept"


def for_surface(
    landscape: Landscape, max_values: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Downsample a landscape for a 3-D surface, in which each cell has its own coordinates.

    Args:
        landscape: the landscape.
        max_values: the largest number of values along an axis.

    Returns:
        Two coordinates, the losses, and the notes. If the grid is small enough, the coordinates are
        its axes, (n1,) and (n2,), and the losses are (n1, n2). Otherwise all three are those of the
        drawn cells, (m1, m2). Losses that are not finite are NaN.
    """
    a, b, loss = _arrays(landscape)
    if max(landscape.shape) <= max_values:
        return a, b, _with_holes(loss), []
    blocks = choose_cells(loss, max_values)
    return (
        a[blocks.rows],
        b[blocks.columns],
        _with_holes(loss[blocks.cells]),
        [blocks.note("surface")],
    )


def for_image(
    landscape: Landscape, max_values: int, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Downsample a landscape for an image, which has one coordinate for each row and column.

    A cell is drawn at most half a block from its own coordinates.

    Args:
        landscape: the landscape.
        max_values: the largest number of values along an axis.
        name: the image's name in the note.

    Returns:
        The axes, (m1,) and (m2,), the losses, (m1, m2), with NaN for losses that are not finite,
        and the notes.
    """
    a, b, loss = _arrays(landscape)
    if max(landscape.shape) <= max_values:
        return a, b, _with_holes(loss), []
    blocks = choose_cells(loss, max_values)
    axes = (values[index] for values, index in zip((a, b), blocks.axes, strict=True))
    return *axes, _with_holes(loss[blocks.cells]), [blocks.note(name)]


def _arrays(landscape: Landscape) -> tuple[np.ndarray, ...]:
    return tuple(map(np.asarray, (landscape.a.values, landscape.b.values, landscape.loss)))


def _with_holes(loss: np.ndarray) -> np.ndarray:
    """Return the losses with NaN for those that are not finite, which plotly leaves out."""
    return np.where(np.isfinite(loss), loss, np.nan)


def choose_cells(loss: np.ndarray, max_values: int) -> Blocks:
    """Divide losses into blocks and choose the cell to draw of each.

    It is the block's lowest (highest) cell if that is below (above) all cells of the neighboring
    blocks, so that no minimum or maximum is lost. Otherwise it is the middle cell, which makes an
    even mesh, or at the grid's edge a cell on the edge.

    Args:
        loss: (n1, n2).
        max_values: the largest number of blocks along an axis.
    """
    size = tuple(-(-n // max_values) for n in loss.shape)
    axes = []
    for n, k in zip(loss.shape, size, strict=True):
        index = np.clip(np.arange(-(-n // k)) * k + k // 2, 0, n - 1)
        # The mesh reaches the grid's edge.
        index[0], index[-1] = 0, n - 1
        axes.append(index)
    rows, columns = (index.copy() for index in np.meshgrid(*axes, indexing="ij"))
    for sign in (1, -1):
        lowest, offsets = _block_minima(loss, size, sign)
        around = np.pad(lowest, 1, constant_values=np.inf)
        m1, m2 = lowest.shape
        neighbors = [
            around[1 + di : 1 + di + m1, 1 + dj : 1 + dj + m2]
            for di in (-1, 0, 1)
            for dj in (-1, 0, 1)
            if (di, dj) != (0, 0)
        ]
        stands_out = lowest < np.min(neighbors, axis=0)
        row_and_column = np.unravel_index(offsets, size)
        for index, offset, k in zip((rows, columns), row_and_column, size, strict=True):
            start = (index // k) * k
            index[stands_out] = (start + offset)[stands_out]
    return Blocks((size[0], size[1]), (axes[0], axes[1]), rows, columns)


def _block_minima(
    loss: np.ndarray, size: tuple[int, ...], sign: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest finite sign · loss of each block and its index in the block, (m1, m2)."""
    n1, n2 = loss.shape
    blocks = -(-n2 // size[1])
    step = size[0] * max(1, _CELLS_PER_READ // (n2 * size[0]))
    values, indices = [], []
    for start in range(0, n1, step):
        part = np.asarray(loss[start : start + step])
        part = np.where(np.isfinite(part), sign * part, np.inf)
        padding = [(0, -len(part) % size[0]), (0, -n2 % size[1])]
        part = np.pad(part, padding, constant_values=np.inf)
        part = part.reshape(-1, size[0], blocks, size[1]).swapaxes(1, 2)
        part = part.reshape(-1, blocks, size[0] * size[1])
        values.append(part.min(axis=2))
        indices.append(part.argmin(axis=2))
    return np.concatenate(values), np.concatenate(indices)


def evenly_spaced(count: int, max_count: int) -> np.ndarray:
    """Return at most `max_count` indices below `count`, evenly spaced from first to last."""
    return np.linspace(0, count - 1, min(count, max_count)).round().astype(int)
