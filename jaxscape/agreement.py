"""Whether paths, and what was found, belong on a landscape, as far as the losses of both tell."""

import numpy as np

from jaxscape.results import Landscape
from jaxscape.trajectory import Projection

_APART = 0.05
"""Of the losses that a path goes through: one that is so far off a surface is worth a note."""


def note(landscape: Landscape, places: np.ndarray, loss: np.ndarray, name: str) -> str:
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
