"""What of paths is drawn over a landscape: plain NumPy, no plotly.

Whether paths, and what was found, belong on a landscape, as far as the losses of both tell.
"""

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents, Projection, Trajectory

# After Okabe and Ito's colors for the color-blind, in an order in which neighbors differ in
# lightness as well; none is near Viridis.
PATH_COLORS = ("#ff4b1f", "#ffffff", "#f3a5d0", "#ffb000", "#9fd8ff", "#d55e00")
# One for each of more paths would leave a small figure no room.
_MOST_NOTES = 3


class DrawnPath(NamedTuple):
    """A path as it is drawn."""

    name: str
    label: str
    """The legend's words: the name, and where it starts and ends."""
    color: str
    polyline: np.ndarray
    """(K, 3) a, b and loss along it, cut at the grid's edge; NaN between its pieces."""
    points: np.ndarray
    """(P, 4) a, b, loss and epoch of the recorded points within the grid; of a projection (P, 5),
    and how far they are off the plane."""
    ends: tuple[tuple[np.ndarray, str, str], ...]
    """Where it starts and ends: position (3,), marker symbol, what its hover says."""
    on_surface: np.ndarray
    """(K, 3) the way on the surface under a path that leaves the plane; (0, 3) if it does not."""
    epochs: np.ndarray
    """(K,) the epoch at each point of `way`; NaN between its pieces."""
    symbol: str = "circle"
    """Of its points."""
    dash: str | None = None


def marks_on_grid(landscape: Landscape) -> tuple[list[str], np.ndarray]:
    """The names of the marks within the grid, and where they are, (M, 3): a, b and loss.

    The loss is that of the surface as it is drawn: between nodes it is interpolated.
    """
    names, places = [], []
    for mark in landscape.marks:
        loss = _drawn(landscape, mark.a, mark.b)
        if loss is not None:
            names.append(mark.name)
            places.append((mark.a, mark.b, loss))
    return names, np.array(places).reshape(-1, 3)


def _drawn(landscape: Landscape, *place: float) -> float | None:
    """The loss of the surface as it is drawn at (a, b), interpolated; None beyond the grid."""
    corner, parts = [], []
    for value, axis in zip(place, (landscape.a, landscape.b), strict=True):
        values = np.asarray(axis.values, float)
        # A node in float32 may be a rounding off.
        slack = 1e-6 * ((values[-1] - values[0]) or abs(values[0]))
        if not values[0] - slack <= value <= values[-1] + slack:
            return None
        k = max(min(int(np.searchsorted(values, value, "right")) - 1, len(values) - 2), 0)
        corner.append(k)
        # Between two nodes, or on the only one.
        near = values[k : k + 2]
        part = np.clip((value - near[0]) / np.ptp(near), 0, 1) if len(near) > 1 else 0.0
        parts.append([1 - part, part][: len(near)])
    i, j = corner
    loss = np.asarray(landscape.loss[i : i + 2, j : j + 2], float)
    of_rows, of_columns = parts
    share = np.outer(of_rows, of_columns)
    # On a node its neighbors do not count, whatever they are.
    counts = share > 0
    return float(share[counts] @ loss[counts])


def drawn_paths(
    landscape: Landscape, paths: tuple[Trajectory | Projection, ...]
) -> tuple[list[DrawnPath], list[str]]:
    """The paths as they are drawn over the landscape, and what to note about them.

    Raises:
        ValueError: a path whose parameters are not named as the landscape's axes, or that was
            projected on another plane.
    """
    drawn, beyond = [], []
    check_paths(paths)
    # Where paths cross the edge, cells are read a few at a time.
    landscape = replace(landscape, loss=np.asarray(landscape.loss))
    for k, (name, path) in enumerate(zip(unique_names(paths), paths, strict=True)):
        line, out = _line(landscape, path, name, PATH_COLORS[k % len(PATH_COLORS)])
        if k >= len(PATH_COLORS):
            # Colors come again, with another line.
            line = line._replace(symbol="square", dash="dash")
        drawn.append(line)
        beyond.append((name, out, out + len(line.points)))
    return drawn, _counted(beyond, "lie beyond the grid")


def _counted(counts: Sequence[tuple[str, int, int]], what: str) -> list[str]:
    """How many points of how many something is true of, for each path or, of more, for all."""
    some = [(f"{count} of {whole}", name) for name, count, whole in counts if count]
    if len(some) > _MOST_NOTES:
        count = sum(count for _, count, _ in counts)
        whole = sum(whole for _, count, whole in counts if count)
        some = [(f"{count} of {whole}", f"{len(some)} paths")]
    return [f"{part} points of {name} {what}" for part, name in some]


def _line(
    landscape: Landscape, path: Trajectory | Projection, name: str, color: str
) -> tuple[DrawnPath, int]:
    """The path as it is drawn, and how many of its points lie beyond the grid."""
    axes = (landscape.a, landscape.b)
    seen = path if isinstance(path, Projection) else None
    kept = path.until_divergence() if isinstance(path, Trajectory) else path
    columns = [*(kept.coordinate(axis.name) for axis in axes), kept.loss, kept.epoch]
    if seen is not None:
        columns.append(seen.distance)
    points = np.stack(columns, axis=1).astype(float)
    if seen is not None:
        check_plane(landscape, seen, name)
    box = np.array([[float(axis.values[0]), float(axis.values[-1])] for axis in axes])
    # Half a float32 rounding of slack: a point set on the border is on the grid.
    slack = 1e-6 * (box[:, 1] - box[:, 0])
    inside = ((points[:, :2] >= box[:, 0] - slack) & (points[:, :2] <= box[:, 1] + slack)).all(1)
    way, epochs = _over_grid(landscape, points[:, :4], box)
    end = "end"
    if isinstance(path, Trajectory) and path.diverged:
        end = f"diverged at step {int(path.diverged_step)}, last"
    ends = []
    for index, symbol, label in ((0, "circle", "start"), (-1, "diamond", end)):
        a, b = points[index, :2]
        if inside[index]:
            ends.append((points[index, :3], symbol, f"{label} ({a:.3g}, {b:.3g})"))
        elif len(way):
            ends.append((way[index], symbol, f"{label} beyond the edge ({a:.3g}, {b:.3g})"))
    label = f"{name}: " + (", ".join(text for *_, text in ends) or "beyond the edge")
    below = np.empty((0, 3))
    if seen is not None:
        label += f"<br>{seen.explained:.1%} of its variance in the plane, off it"
        label += f" by up to {seen.distance.max():.3g}"
        if is_off_plane(seen):
            on_surface = np.column_stack([points[:, :2], seen.surface_loss, seen.epoch])
            below, _ = _over_grid(landscape, on_surface, box)
    line = DrawnPath(name, label, color, way, points[inside], tuple(ends), below, epochs)
    return line, int((~inside).sum())


def _over_grid(
    landscape: Landscape, points: np.ndarray, box: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A path, (T, 4) a, b, loss and epoch, cut at the grid's edge: its way (K, 3) and epochs (K,).

    At the edge it is as far above the surface as at the recorded point beside it there: on a
    straight line to where it went, which may be far away, it would stand high above all cells.
    """
    way = clip_polyline(points, box)
    known = set(map(tuple, points))
    recorded = [tuple(row) in known for row in way]
    for k in np.flatnonzero(np.isfinite(way[:, 3])):
        if recorded[k]:
            continue
        loss = _drawn(landscape, *way[k, :2])
        beside = [j for j in (k - 1, k + 1) if 0 <= j < len(way) and recorded[j]]
        above = 0.0
        if beside:
            a, b, own, _ = way[beside[0]]
            under = _drawn(landscape, a, b)
            above = own - under if under is not None and np.isfinite(under) else 0.0
        way[k, 2] = np.nan if loss is None else loss + above
    return way[:, :3], way[:, 3]


def mismatch_notes(
    landscape: Landscape, paths: Sequence[Trajectory | Projection | Descents]
) -> list[str]:
    """What to note of paths whose losses are not those of the landscape where they pass."""
    # The median of many descents is no path over any surface.
    single = [path for path in paths if isinstance(path, Trajectory | Projection)]
    notes = []
    for name, path in zip(unique_names(single), single, strict=True):
        kept = path.until_divergence() if isinstance(path, Trajectory) else path
        loss = kept.surface_loss if isinstance(kept, Projection) else kept.loss
        coordinates = [kept.coordinate(axis.name) for axis in (landscape.a, landscape.b)]
        if note := mismatch_note(landscape, np.stack(coordinates, axis=1), np.asarray(loss), name):
            notes.append(note)
    if len(notes) > _MOST_NOTES:
        return [f"losses of {len(notes)} paths are off the surface: another loss, data or plane?"]
    return notes


def check_paths(paths: Sequence[Any]) -> None:
    """Refuse what is no path."""
    for path in paths:
        if not isinstance(path, Trajectory | Projection):
            hint = ""
            if isinstance(path, Mapping | list | tuple):
                # What `descend` returns for several optimizers, and what is made of them.
                several = "*paths.values()" if isinstance(path, Mapping) else "*paths"
                hint = f"; of several in one, give {several}"
            raise TypeError(f"paths: expected Trajectory objects, got {type(path).__name__}{hint}")


def unique_names(paths: Sequence[Trajectory | Projection]) -> list[str]:
    """What paths are called, each otherwise: the legend switches them by these names.

    A figure would take a name with a tag for markup.
    """
    called = [
        html.escape(path.name or ("descent" if len(paths) == 1 else f"descent {k + 1}"), False)
        for k, path in enumerate(paths)
    ]
    return [
        name if called.count(name) == 1 else f"{name} ({called[: k + 1].count(name)})"
        for k, name in enumerate(called)
    ]


def thin(
    paths: Sequence[Trajectory | Projection], most: int
) -> tuple[list[Trajectory | Projection], list[str]]:
    """At most so many points of each path, spread evenly from its first to its last; what to note.

    Of a run that diverged, those before it did.
    """
    shorter: list[Trajectory | Projection] = []
    drawn = []
    for name, path in zip(unique_names(paths), paths, strict=True):
        if isinstance(path, Trajectory):
            path = path.until_divergence()
        count = len(path.epoch)
        if count > most:
            kept = np.linspace(0, count - 1, most).round().astype(int)
            drawn.append((name, most, count))
            if isinstance(path, Projection):
                fields = ("coordinates", "distance", "loss", "surface_loss", "epoch")
                path = path._replace(**{field: getattr(path, field)[kept] for field in fields})
            else:
                # Arrays of one number each, such as `diverged_step`, belong to the whole run.
                path = jax.tree.map(lambda leaf, k=kept: leaf[k] if np.ndim(leaf) else leaf, path)
        shorter.append(path)
    return shorter, _counted(drawn, "are drawn")


def is_off_plane(path: Projection) -> bool:
    """Whether a path leaves the plane by more than a hundredth of the loss that it goes through.

    Then its points hang above or below the surface, and are drawn so.
    """
    apart = np.abs(path.surface_loss - path.loss).max()
    return bool(apart > 0.01 * np.ptp(path.loss))


def clip_polyline(way: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The parts of a polyline within `box`, (2, 2) of low and high; NaN between parts.

    The polyline, (K, columns), has its two coordinates first; all that follows is interpolated.
    """
    pieces: list[np.ndarray] = []
    for p, q in itertools.pairwise(way):
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
        # The points themselves where they are inside: p + (q - p) may differ in the last digit.
        start = p if first == 0 else p + first * (q - p)
        end = q if last == 1 else p + last * (q - p)
        if not pieces or not np.array_equal(pieces[-1], start):
            pieces += [np.full(way.shape[1], np.nan)] * bool(pieces) + [start]
        pieces.append(end)
    return np.array(pieces).reshape(-1, way.shape[1])


_APART = 0.05
"""Of the losses that a path goes through: one that is so far off a surface is worth a note."""


def mismatch_note(landscape: Landscape, places: np.ndarray, loss: np.ndarray, name: str) -> str:
    """What to say of a path whose losses are not the landscape's; nothing if they are.

    How far a loss is off the surface is told between nodes by straight lines, less twice what
    cubics between the same nodes differ from these: where a grid is coarse, that much is unknown.
    Each cell counts once: of most descents most points are at their end, where all losses are low.

    Args:
        landscape: the surface.
        places: (T, 2) the path's coordinates.
        loss: (T,) its losses there.
        name: what it is called.
    """
    loss = np.asarray(loss, float)
    if min(landscape.shape) < 4:
        return ""
    inside, first, straight, cubic = np.isfinite(loss), [], [], []
    for place, axis in zip(places.T, (landscape.a, landscape.b), strict=True):
        values = np.asarray(axis.values, float)
        inside &= (place >= values[0]) & (place <= values[-1])
        first.append(np.clip(np.searchsorted(values, place) - 2, 0, len(values) - 4))
        nodes = values[first[-1][:, None] + np.arange(4)]
        straight.append(_straight(place, nodes))
        cubic.append(_cubic(place, nodes))
    rows, columns = (start[:, None] + np.arange(4) for start in first)
    around = np.asarray(landscape.loss)[rows[:, :, None], columns[:, None, :]].astype(float)
    inside &= np.isfinite(around).all(axis=(1, 2))
    if not inside.any():
        return ""
    simple, smooth = (
        np.einsum("tij,ti,tj->t", around[inside], of_a[inside], of_b[inside])
        for of_a, of_b in (straight, cubic)
    )
    theirs = loss[inside]
    off = (abs(theirs - simple) - 2 * abs(smooth - simple)).clip(0)
    _, cell = np.unique(np.stack(first, axis=1)[inside], axis=0, return_inverse=True)
    cell = cell.ravel()
    each = np.bincount(cell, off) / np.bincount(cell)
    assert landscape.highest is not None
    assert landscape.lowest is not None
    # Not less than can be seen.
    slack = 1e-4 * (landscape.highest - landscape.lowest.loss)
    if np.sqrt(np.mean(each**2)) <= _APART * np.ptp(theirs) + slack:
        return ""
    return (
        f"losses of {name} are off the surface by up to {off.max():.3g}: another loss, data or "
        "plane?"
    )


def _straight(place: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """What each of four nodes, (T, 4), counts between the two beside a place, (T,)."""
    k = np.clip((nodes <= place[:, None]).sum(axis=1) - 1, 0, 2)[:, None]
    left, right = (np.take_along_axis(nodes, k + step, axis=1) for step in (0, 1))
    part = (place[:, None] - left) / (right - left)
    number = np.arange(4)
    return np.where(number == k, 1 - part, 0) + np.where(number == k + 1, part, 0)


def _cubic(place: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """What each of four nodes, (T, 4), counts for the cubic through all, after Lagrange."""
    weights = np.ones(nodes.shape)
    for k in range(4):
        for other in {0, 1, 2, 3} - {k}:
            there = nodes[:, other]
            weights[:, k] *= (place - there) / (nodes[:, k] - there)
    return weights


def check_plane(landscape: Landscape, path: Projection, name: str) -> None:
    """Refuse a path that was projected on another plane, as far as losses tell.

    Those of the cells around a point, and as much again as they differ, hold the loss there, if
    cells show the surface at all: a path with more than half of its points elsewhere is one of
    another plane, or another loss.
    """
    places, cells = path.coordinates, []
    inside = np.isfinite(path.surface_loss)
    for place, axis in zip(places.T, (landscape.a, landscape.b), strict=True):
        values = np.asarray(axis.values, float)
        inside &= (place >= values[0]) & (place <= values[-1])
        first = np.searchsorted(values, place)[:, None] + np.arange(-2, 2)
        cells.append(np.clip(first, 0, len(values) - 1))
    rows, columns = cells
    around = np.asarray(landscape.loss)[rows[:, :, None], columns[:, None, :]]
    around = around.reshape(len(rows), -1).astype(float)
    inside &= np.isfinite(around).all(axis=1)
    if not inside.any():
        return
    low, high = around[inside].min(axis=1), around[inside].max(axis=1)
    assert landscape.highest is not None
    assert landscape.lowest is not None
    slack = high - low + 1e-3 * (landscape.highest - landscape.lowest.loss)
    theirs = path.surface_loss[inside]
    apart = (theirs < low - slack) | (theirs > high + slack)
    if 2 * apart.sum() > len(apart):
        k = int(np.argmax(apart))
        a, b = places[inside][k]
        raise ValueError(
            f"paths: expected a projection on the landscape's plane, got {name!r}, of whose "
            f"{len(apart)} points over the grid {apart.sum()} are on a surface of other losses, "
            f"as {theirs[k]:.4g} at ({a:.3g}, {b:.3g}), where the landscape has {low[k]:.4g} to "
            f"{high[k]:.4g}"
        )
