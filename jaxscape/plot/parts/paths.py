"""Training paths as they are drawn over a landscape, and checks that they belong to it.

Plain NumPy, no plotly.
"""

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.plot.parts.downsample import evenly_spaced
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents, Projection, Trajectory

# After Okabe and Ito's colors for color-blind readers; neighbors also differ in lightness, and
# none is close to a color of Viridis.
PATH_COLORS = ("#ff4b1f", "#ffffff", "#f3a5d0", "#ffb000", "#9fd8ff", "#d55e00")
# With more notes, a single one counts the points of all paths: a small figure has few lines.
_MAX_NOTES = 3
# Relative to the length of an axis. Rounding to float32 may move coordinates out of the grid.
EDGE_TOL = 1e-6
_MISMATCH_TOL = 0.05
"""Largest RMS difference of a path's losses from the surface, relative to the path's loss range."""
_ROUNDING_TOL = 16
"""Largest difference between two computations of a loss by rounding, in units of its precision."""


class DrawnPath(NamedTuple):
    """A training path, prepared for drawing over a landscape."""

    name: str
    label: str
    """The legend entry: the name, and the coordinates of the start and the end."""
    color: str
    polyline: np.ndarray
    """(K, 3) a, b and loss along the path, clipped at the grid's edge; NaN between pieces."""
    points: np.ndarray
    """(P, 4) a, b, loss and epoch of the recorded points within the grid; for a projection
    (P, 5), with the distance to the plane."""
    ends: tuple[tuple[np.ndarray, str, str], ...]
    """Start and end: position (3,), marker symbol, hover text."""
    on_surface: np.ndarray
    """(K, 3) the polyline on the surface below a path that leaves the plane; otherwise (0, 3)."""
    epochs: np.ndarray
    """(K,) the epoch at each point of `polyline`; NaN between pieces."""
    symbol: str = "circle"
    """Marker symbol of the points."""
    dash: str | None = None


def drawn_paths(
    landscape: Landscape, paths: tuple[Trajectory | Projection, ...]
) -> tuple[list[DrawnPath], list[str]]:
    """Prepare paths for drawing over a landscape.

    Returns:
        The drawn paths, and notes that count the points outside of the grid.

    Raises:
        TypeError: A path is neither a `Trajectory` nor a `Projection`.
        ValueError: A path's parameters are not named like the landscape's axes, or the path was
            projected onto another plane.
    """
    drawn, outside_counts = [], []
    check_paths(paths)
    # Read a memory-mapped grid once: each crossing of the edge looks up a few cells.
    landscape = replace(landscape, loss=np.asarray(landscape.loss))
    for k, (name, path) in enumerate(zip(unique_names(paths), paths, strict=True)):
        drawn_path, outside = _drawn_path(landscape, path, name, PATH_COLORS[k % len(PATH_COLORS)])
        if k >= len(PATH_COLORS):
            # The colors repeat, with other symbols and dashes.
            drawn_path = drawn_path._replace(symbol="square", dash="dash")
        drawn.append(drawn_path)
        outside_counts.append((name, outside, outside + len(drawn_path.points)))
    return drawn, _count_notes(outside_counts, "lie outside the grid")


def check_paths(paths: Sequence[Any]) -> None:
    """Check that each path is a `Trajectory` or a `Projection`."""
    for path in paths:
        if not isinstance(path, Trajectory | Projection):
            hint = ""
            if isinstance(path, Mapping | list | tuple):
                # `descend` returns a mapping for several optimizers.
                unpacked = "*paths.values()" if isinstance(path, Mapping) else "*paths"
                hint = f"; pass several paths as {unpacked}"
            raise TypeError(
                f"paths: expected Trajectory or Projection objects, got {type(path).__name__}{hint}"
            )


def unique_names(paths: Sequence[Trajectory | Projection]) -> list[str]:
    """Return a different name for each path; the legend shows and hides paths by these names.

    Names are escaped, because plotly reads tags in texts as markup.
    """
    escaped = [
        html.escape(path.name or ("descent" if len(paths) == 1 else f"descent {k + 1}"), False)
        for k, path in enumerate(paths)
    ]
    return [
        name if escaped.count(name) == 1 else f"{name} ({escaped[: k + 1].count(name)})"
        for k, name in enumerate(escaped)
    ]


def thin(
    paths: Sequence[Trajectory | Projection], max_points: int
) -> tuple[list[Trajectory | Projection], list[str]]:
    """Keep at most `max_points` points of each path, evenly spaced, with the first and the last.

    Diverged runs end at their last finite point.

    Returns:
        The thinned paths, and notes that count the points.
    """
    thinned: list[Trajectory | Projection] = []
    counts = []
    for name, path in zip(unique_names(paths), paths, strict=True):
        if isinstance(path, Trajectory):
            path = path.until_divergence()
        count = len(path.epoch)
        if count > max_points:
            kept = evenly_spaced(count, max_points)
            counts.append((name, max_points, count))
            if isinstance(path, Projection):
                fields = ("coordinates", "distance", "loss", "surface_loss", "epoch")
                path = path._replace(**{field: getattr(path, field)[kept] for field in fields})
            else:
                # Scalars such as `diverged_step` belong to the whole run.
                path = jax.tree.map(lambda leaf, k=kept: leaf[k] if np.ndim(leaf) else leaf, path)
        thinned.append(path)
    return thinned, _count_notes(counts, "are drawn")


def is_off_plane(path: Projection) -> bool:
    """Return whether a path's loss differs from the surface by over 1 % of the path's loss range.

    Such a path is drawn above or below the surface, at its own loss.
    """
    difference = np.abs(path.surface_loss - path.loss)
    rounding = _rounding(path.surface_loss, path.loss)
    return bool((difference > 0.01 * np.ptp(path.loss) + rounding).any())


def _rounding(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the largest difference by rounding between losses that are equal in exact arithmetic.

    Args:
        first: (...) losses.
        second: (...) the same losses, computed another time and possibly in another precision.

    Returns:
        (...) float64, 0 where a loss is not finite.
    """
    epsilon = max(float(jnp.finfo(losses.dtype).eps) for losses in (first, second))
    size = np.maximum(np.abs(np.asarray(first, float)), np.abs(np.asarray(second, float)))
    return np.where(np.isfinite(size), _ROUNDING_TOL * epsilon * size, 0)


def marks_on_grid(landscape: Landscape) -> tuple[list[str], np.ndarray]:
    """Return the names and positions, (M, 3), of the marks within the grid.

    A position is a, b and the loss of the drawn surface, which is interpolated between nodes.
    """
    names, positions = [], []
    for mark in landscape.marks:
        loss = _interpolate_loss(landscape, mark.a, mark.b)
        if loss is not None:
            names.append(mark.name)
            positions.append((mark.a, mark.b, loss))
    return names, np.array(positions).reshape(-1, 3)


def clip_polyline(polyline: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Clip a polyline to a rectangle.

    Args:
        polyline: (K, columns), the two coordinates first; the other columns are interpolated.
        box: (2, 2), low and high of each coordinate.

    Returns:
        The pieces within the rectangle, with a row of NaN between them.
    """
    pieces: list[np.ndarray] = []
    for p, q in itertools.pairwise(polyline):
        # Liang and Barsky (1984): the range of t for which p + t (q - p) is within all sides.
        first, last = 0.0, 1.0
        for k in (0, 1):
            with np.errstate(divide="ignore", invalid="ignore"):
                sides = np.sort((box[k] - p[k]) / (q[k] - p[k]))
            if p[k] == q[k]:
                sides = np.array([-np.inf, np.inf] if box[k, 0] <= p[k] <= box[k, 1] else [2, -1])
            first, last = max(first, sides[0]), min(last, sides[1])
        if first > last:
            continue
        # Points inside are kept exactly: p + (q - p) may differ in the last digit.
        start = p if first == 0 else p + first * (q - p)
        end = q if last == 1 else p + last * (q - p)
        if not pieces or not np.array_equal(pieces[-1], start):
            pieces += [np.full(polyline.shape[1], np.nan)] * bool(pieces) + [start]
        pieces.append(end)
    return np.array(pieces).reshape(-1, polyline.shape[1])


def mismatch_notes(
    landscape: Landscape, paths: Sequence[Trajectory | Projection | Descents]
) -> list[str]:
    """Return notes on the paths whose losses differ from the landscape below them.

    `Descents` are skipped: their median is not a path over a surface.
    """
    single = [path for path in paths if isinstance(path, Trajectory | Projection)]
    notes = []
    for name, path in zip(unique_names(single), single, strict=True):
        finite = path.until_divergence() if isinstance(path, Trajectory) else path
        loss = finite.surface_loss if isinstance(finite, Projection) else finite.loss
        coordinates = np.stack(
            [finite.coordinate(axis.name) for axis in (landscape.a, landscape.b)], axis=1
        )
        if note := mismatch_note(landscape, coordinates, np.asarray(loss), name):
            notes.append(note)
    if len(notes) > _MAX_NOTES:
        return [
            f"losses of {len(notes)} paths differ from the surface: another loss, data or plane?"
        ]
    return notes


def mismatch_note(
    landscape: Landscape, coordinates: np.ndarray, loss: np.ndarray, name: str
) -> str:
    """Return a note if losses differ from the landscape at their coordinates, or an empty string.

    Between nodes, a difference counts only beyond twice the distance between linear and cubic
    interpolation, because a coarse grid does not determine the surface better. Differences that may
    come from rounding do not count. Each cell counts once, because most points of a descent lie
    near its end, where all losses are low.

    Args:
        landscape: the surface.
        coordinates: (T, 2).
        loss: (T,) the losses there.
        name: the name of the path or overlay in the note.
    """
    if min(landscape.shape) < 4:
        return ""
    inside, first, linear, cubic = np.isfinite(loss), [], [], []
    for coordinate, axis in zip(coordinates.T, (landscape.a, landscape.b), strict=True):
        values = np.asarray(axis.values, float)
        inside &= (coordinate >= values[0]) & (coordinate <= values[-1])
        first.append(np.clip(np.searchsorted(values, coordinate) - 2, 0, len(values) - 4))
        nodes = values[first[-1][:, None] + np.arange(4)]
        linear.append(_linear_weights(coordinate, nodes))
        cubic.append(_cubic_weights(coordinate, nodes))
    rows, columns = (start[:, None] + np.arange(4) for start in first)
    stored = np.asarray(landscape.loss)[rows[:, :, None], columns[:, None, :]]
    around = stored.astype(float)
    inside &= np.isfinite(around).all(axis=(1, 2))
    if not inside.any():
        return ""
    rounding = _rounding(stored, loss[:, None, None]).max(axis=(1, 2))[inside]
    by_lines, by_cubics = (
        np.einsum("tij,ti,tj->t", around[inside], weights_a[inside], weights_b[inside])
        for weights_a, weights_b in (linear, cubic)
    )
    known = loss[inside].astype(float)
    difference = (abs(known - by_lines) - 2 * abs(by_cubics - by_lines)).clip(0)
    _, cell = np.unique(np.stack(first, axis=1)[inside], axis=0, return_inverse=True)
    cell = cell.ravel()
    beyond_rounding = np.where(difference > rounding, difference, 0)
    cell_means = np.bincount(cell, beyond_rounding) / np.bincount(cell)
    assert landscape.highest is not None
    assert landscape.lowest is not None
    # Smaller differences cannot be seen in the figure.
    visible = 1e-4 * (landscape.highest - landscape.lowest.loss)
    if np.sqrt(np.mean(cell_means**2)) <= _MISMATCH_TOL * np.ptp(known) + visible:
        return ""
    return (
        f"losses of {name} differ from the surface by up to {difference.max():.3g}: another loss, "
        "data or plane?"
    )


def check_plane(landscape: Landscape, path: Projection, name: str) -> None:
    """Check by its losses that a path was projected onto the landscape's plane.

    The loss at a point should lie in the range of the 4 × 4 cells around it, extended by its length
    on both sides, up to rounding. If more than half do not, the path belongs to another plane or
    loss.

    Raises:
        ValueError: The path was projected onto another plane.
    """
    coordinates, cells = path.coordinates, []
    inside = np.isfinite(path.surface_loss)
    for coordinate, axis in zip(coordinates.T, (landscape.a, landscape.b), strict=True):
        values = np.asarray(axis.values, float)
        inside &= (coordinate >= values[0]) & (coordinate <= values[-1])
        first = np.searchsorted(values, coordinate)[:, None] + np.arange(-2, 2)
        cells.append(np.clip(first, 0, len(values) - 1))
    rows, columns = cells
    stored = np.asarray(landscape.loss)[rows[:, :, None], columns[:, None, :]]
    stored = stored.reshape(len(rows), -1)
    rounding = _rounding(stored, path.surface_loss[:, None]).max(axis=1)
    around = stored.astype(float)
    inside &= np.isfinite(around).all(axis=1)
    if not inside.any():
        return
    low, high = around[inside].min(axis=1), around[inside].max(axis=1)
    assert landscape.highest is not None
    assert landscape.lowest is not None
    tolerance = high - low + 1e-3 * (landscape.highest - landscape.lowest.loss) + rounding[inside]
    loss = path.surface_loss[inside]
    wrong = (loss < low - tolerance) | (loss > high + tolerance)
    if 2 * wrong.sum() > len(wrong):
        k = int(np.argmax(wrong))
        a, b = coordinates[inside][k]
        raise ValueError(
            f"paths: expected a projection onto the landscape's plane, got {name!r}, whose loss "
            f"differs from the landscape at {wrong.sum()} of {len(wrong)} points within the grid: "
            f"at ({a:.3g}, {b:.3g}) it is {loss[k]:.4g}, and the landscape is between "
            f"{low[k]:.4g} and {high[k]:.4g}"
        )


def _drawn_path(
    landscape: Landscape, path: Trajectory | Projection, name: str, color: str
) -> tuple[DrawnPath, int]:
    """Return the path as it is drawn, and the number of its points outside of the grid."""
    axes = (landscape.a, landscape.b)
    projection = path if isinstance(path, Projection) else None
    finite = path.until_divergence() if isinstance(path, Trajectory) else path
    columns = [*(finite.coordinate(axis.name) for axis in axes), finite.loss, finite.epoch]
    if projection is not None:
        columns.append(projection.distance)
    points = np.stack(columns, axis=1).astype(float)
    if projection is not None:
        check_plane(landscape, projection, name)
    box = np.array([[float(axis.values[0]), float(axis.values[-1])] for axis in axes])
    tolerance = EDGE_TOL * (box[:, 1] - box[:, 0])
    inside = (
        (points[:, :2] >= box[:, 0] - tolerance) & (points[:, :2] <= box[:, 1] + tolerance)
    ).all(1)
    polyline, epochs = _clip_at_edge(landscape, points[:, :4], box)
    last = "end"
    if isinstance(path, Trajectory) and path.diverged:
        last = f"diverged at step {int(path.diverged_step)}, last"
    ends = []
    for index, symbol, text in ((0, "circle", "start"), (-1, "diamond", last)):
        a, b = points[index, :2]
        if inside[index]:
            ends.append((points[index, :3], symbol, f"{text} ({a:.3g}, {b:.3g})"))
        elif len(polyline):
            ends.append((polyline[index], symbol, f"{text} outside the grid ({a:.3g}, {b:.3g})"))
    label = f"{name}: " + (", ".join(text for *_, text in ends) or "outside the grid")
    on_surface = np.empty((0, 3))
    if projection is not None:
        label += f"<br>{projection.explained:.1%} of its variance in the plane"
        label += f", distance up to {projection.distance.max():.3g}"
        if is_off_plane(projection):
            below = np.column_stack([points[:, :2], projection.surface_loss, projection.epoch])
            on_surface, _ = _clip_at_edge(landscape, below, box)
    drawn = DrawnPath(name, label, color, polyline, points[inside], tuple(ends), on_surface, epochs)
    return drawn, int((~inside).sum())


def _clip_at_edge(
    landscape: Landscape, points: np.ndarray, box: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clip a path, (T, 4) a, b, loss and epoch, at the grid's edge.

    At the edge, the path is as high above the surface as at the neighboring recorded point. If the
    next point is far away, an interpolated loss could be far above all cells.

    Returns:
        The polyline, (K, 3), and its epochs, (K,).
    """
    clipped = clip_polyline(points, box)
    known = set(map(tuple, points))
    is_recorded = [tuple(row) in known for row in clipped]
    for k in np.flatnonzero(np.isfinite(clipped[:, 3])):
        if is_recorded[k]:
            continue
        surface = _interpolate_loss(landscape, *clipped[k, :2])
        neighbors = [j for j in (k - 1, k + 1) if 0 <= j < len(clipped) and is_recorded[j]]
        above = 0.0
        if neighbors:
            a, b, loss, _ = clipped[neighbors[0]]
            below = _interpolate_loss(landscape, a, b)
            above = loss - below if below is not None and np.isfinite(below) else 0.0
        clipped[k, 2] = np.nan if surface is None else surface + above
    return clipped[:, :3], clipped[:, 3]


def _interpolate_loss(landscape: Landscape, *coordinates: float) -> float | None:
    """Return the loss of the drawn surface at (a, b), or None outside of the grid."""
    corner, weights = [], []
    for value, axis in zip(coordinates, (landscape.a, landscape.b), strict=True):
        values = np.asarray(axis.values, float)
        tolerance = EDGE_TOL * ((values[-1] - values[0]) or abs(values[0]))
        if not values[0] - tolerance <= value <= values[-1] + tolerance:
            return None
        k = max(min(int(np.searchsorted(values, value, "right")) - 1, len(values) - 2), 0)
        corner.append(k)
        # Two nodes, or the only one.
        nodes = values[k : k + 2]
        t = np.clip((value - nodes[0]) / np.ptp(nodes), 0, 1) if len(nodes) > 1 else 0.0
        weights.append([1 - t, t][: len(nodes)])
    i, j = corner
    loss = np.asarray(landscape.loss[i : i + 2, j : j + 2], float)
    weights_a, weights_b = weights
    weight = np.outer(weights_a, weights_b)
    # A neighbor of weight 0 may be NaN or infinite.
    used = weight > 0
    return float(weight[used] @ loss[used])


def _linear_weights(coordinate: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the weights of four nodes, (T, 4), for linear interpolation at coordinates (T,)."""
    k = np.clip((nodes <= coordinate[:, None]).sum(axis=1) - 1, 0, 2)[:, None]
    left, right = (np.take_along_axis(nodes, k + step, axis=1) for step in (0, 1))
    t = (coordinate[:, None] - left) / (right - left)
    number = np.arange(4)
    return np.where(number == k, 1 - t, 0) + np.where(number == k + 1, t, 0)


def _cubic_weights(coordinate: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the weights of four nodes, (T, 4), for Lagrange's cubic at coordinates (T,)."""
    weights = np.ones(nodes.shape)
    for k in range(4):
        for other in {0, 1, 2, 3} - {k}:
            node = nodes[:, other]
            weights[:, k] *= (coordinate - node) / (nodes[:, k] - node)
    return weights


def _count_notes(counts: Sequence[tuple[str, int, int]], statement: str) -> list[str]:
    """Return notes such as "2 of 9 points of SGD are drawn", or a single one for many paths.

    Args:
        counts: name, number of points that the statement holds for, number of points.
        statement: the end of the sentence.
    """
    texts = [(f"{count} of {total}", name) for name, count, total in counts if count]
    if len(texts) > _MAX_NOTES:
        count = sum(count for _, count, _ in counts)
        total = sum(total for _, count, total in counts if count)
        texts = [(f"{count} of {total}", f"{len(texts)} paths")]
    return [f"{part} points of {name} {statement}" for part, name in texts]
