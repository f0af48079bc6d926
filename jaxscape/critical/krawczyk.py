"""Proofs by bounds: where a gradient cannot vanish, and how far around a root there is no other.

Krawczyk's operator (Krawczyk 1969; Neumaier 1990, Interval Methods for Systems of Equations,
chapter 5) in a search that halves boxes until each is proved to be one or the other.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxscape._util.progress import bar
from jaxscape.critical.interval import Interval

AT_ONCE = 128
"""Boxes whose bounds are computed at once."""
_NARROWEST = 1e-9
"""Of a box, beside the whole: one that is smaller and still undecided is left so."""

Bounds = Callable[[Interval], tuple[Interval, Interval]]
"""Boxes (n, 2) -> bounds of the gradient (n, 2) and of the Hessian (n, 2, 2) over them."""


class Proof(NamedTuple):
    """What a search came to."""

    undecided: np.ndarray
    """(u, 2, 2) lower and upper ends of boxes that may hold a root."""
    suspected: np.ndarray
    """(s, 2) where a root is that was not among those known."""
    looked_at: int
    """How many boxes it took."""


def in_parts(bounds: Bounds) -> Bounds:
    """Bounds of any number of boxes from those of `AT_ONCE`."""

    def whole(boxes: Interval) -> tuple[Interval, Interval]:
        count = len(boxes.low)
        parts = []
        for start in range(0, count, AT_ONCE):
            part = [end[start : start + AT_ONCE] for end in boxes]
            missing = ((0, AT_ONCE - len(part[0])), (0, 0))
            parts.append(bounds(Interval(*(np.pad(end, missing, mode="edge") for end in part))))
        return tuple(
            Interval(*(np.concatenate([p[k][end] for p in parts])[:count] for end in (0, 1)))
            for k in (0, 1)
        )  # type: ignore[return-value]

    return whole


def unique_around(bounds: Bounds, points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Around roots of the gradient, the largest boxes proved to hold exactly one root.

    Args:
        bounds: of gradient and Hessian.
        points: (n, 2) roots as float64 has them.
        widths: (2,) the shape of the boxes: those whose sides go as 2^-k of these are tried.

    Returns:
        (n,) half of the boxes' sides in units of the widths; 0 where nothing is proved.
    """
    sizes = 2.0 ** -np.arange(1.0, 41)
    n, k = len(points), len(sizes)
    if not n:
        return np.zeros(0)
    half = np.broadcast_to(sizes[None, :, None] * widths, (n, k, 2)).reshape(-1, 2)
    centers = np.repeat(points, k, axis=0)
    slope, _ = bounds(Interval(points, points))
    around, hessian = bounds(Interval(centers - half, centers + half))
    slopes = Interval(*(np.repeat(end, k, axis=0) for end in slope))
    # The widths of the box as it is after rounding.
    reach = half * (1 + 1e-12) + 4 * np.finfo(float).eps * abs(centers)
    start, spread, ratio = _krawczyk(slopes, hessian, reach)
    holds = (abs(start) + spread < half * (1 - 1e-12)).all(axis=1)
    # Across a kink the Hessian's bounds may be finite and say nothing; the gradient's are not.
    smooth = np.isfinite(around.low).all(axis=1) & np.isfinite(around.high).all(axis=1)
    holds &= smooth
    alone = (smooth & (ratio < 1)).reshape(n, k)
    # In a box with ratio below 1 there is one root at most, and a smaller one holds one at least.
    first = np.argmax(alone, axis=1)
    inside = np.array([holds.reshape(n, k)[i, first[i] :].any() for i in range(n)])
    return np.where(alone.any(axis=1) & inside, sizes[first], 0.0)


def _krawczyk(
    slope: Interval, hessian: Interval, half: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Krawczyk's operator of boxes, about their middles.

    Returns:
        Bounds on the middle of the image, how far it spreads, both (n, 2), and the largest row sum
        of |1 - Y·H| with the sides as scale, (n,).
    """
    with np.errstate(all="ignore"):
        middle = (hessian.low + hessian.high) / 2
        (p, q), (r, s) = middle[:, 0].T, middle[:, 1].T
        inverse = np.array([[s, -q], [-r, p]]).transpose(2, 0, 1) / (p * s - q * r)[:, None, None]
        rounding = 1e-14 * abs(inverse) @ abs(middle)
        radius = np.maximum(hessian.high - middle, middle - hessian.low) * (1 + 1e-12)
        error = abs(np.eye(2) - inverse @ middle) + rounding + abs(inverse) @ radius
        spread = (error @ half[:, :, None])[:, :, 0] * (1 + 1e-12)
        center = (slope.low + slope.high) / 2
        width = np.maximum(slope.high - center, center - slope.low)
        shift = -(inverse @ center[:, :, None])[:, :, 0]
        spread += (abs(inverse) @ (width + 1e-14 * abs(center))[:, :, None])[:, :, 0]
        ratio = ((error @ half[:, :, None])[:, :, 0] / half).max(axis=1)
    known = np.isfinite(shift).all(axis=1) & np.isfinite(spread).all(axis=1)
    return (
        np.where(known[:, None], shift, 0),
        np.where(known[:, None], spread, np.inf),
        np.where(known, ratio, np.inf),
    )


def search(
    bounds: Bounds, low: np.ndarray, high: np.ndarray, known: np.ndarray, most: int
) -> Proof:
    """Halve a box until the gradient is proved not to vanish outside of the boxes around its roots.

    Args:
        bounds: of gradient and Hessian.
        low, high: (2,) the box.
        known: (m, 2, 2) lower and upper ends of boxes that hold one root each, for certain.
        most: how many boxes to look at, before those that are left are called undecided.

    Returns:
        What is undecided, and where roots were met that are not known.
    """
    todo = np.array([[low, high]])
    done, suspected, undecided = 0, [], []
    try:
        with bar(None, "boxes") as progress:
            while len(todo) and done < most:
                boxes = todo[-AT_ONCE:]
                left, met = _look(bounds, boxes, known)
                done += len(boxes)
                progress.update(len(boxes))
                suspected += list(met)
                relative = (left[:, 1] - left[:, 0]) / (high - low)
                small = relative.max(axis=1) <= _NARROWEST
                undecided += list(left[small])
                todo = np.concatenate([todo[:-AT_ONCE], _halved(left[~small], relative[~small])])
    except KeyboardInterrupt:
        done = most
        warnings.warn("interrupted: not all of the box was searched", stacklevel=2)
    return Proof(
        np.concatenate([np.reshape(undecided, (-1, 2, 2)), todo]),
        np.reshape(suspected, (-1, 2)),
        done,
    )


def _look(bounds: Bounds, boxes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is left of some boxes, (k, 2, 2), and roots met that are not known, (s, 2)."""
    for ends in known:
        boxes = boxes[~((boxes[:, 0] >= ends[0]) & (boxes[:, 1] <= ends[1])).all(axis=1)]
    if not len(boxes):
        return boxes, np.zeros((0, 2))
    low, high = boxes[:, 0], boxes[:, 1]
    slope, hessian = bounds(Interval(low, high))
    may = ((slope.low <= 0) & (slope.high >= 0)).all(axis=1)
    boxes, low, high = boxes[may], low[may], high[may]
    if not len(boxes):
        return boxes, np.zeros((0, 2))
    hessian = Interval(hessian.low[may], hessian.high[may])
    middle = (low + high) / 2
    half = np.maximum(high - middle, middle - low)
    # Beyond a kink the mean value says nothing: there both bounds are infinite.
    smooth = np.isfinite(slope.low[may]).all(axis=1) & np.isfinite(slope.high[may]).all(axis=1)
    at, _ = bounds(Interval(middle, middle))
    with np.errstate(all="ignore"):
        size = np.maximum(abs(hessian.low), abs(hessian.high))
        reach = (size @ half[:, :, None])[:, :, 0] * (1 + 1e-12)
        away = ((at.low > reach) | (at.high < -reach)).any(axis=1)
    shift, spread, _ = _krawczyk(at, hessian, half)
    with np.errstate(all="ignore"):
        apart = (abs(shift) - spread > half * (1 + 1e-12)).any(axis=1)
        certain = (abs(shift) + spread < half * (1 - 1e-12)).all(axis=1)
    gone = smooth & (away | apart)
    met = smooth & certain & ~gone
    # A root that is certain to be in the box and in a known one is that one's.
    for ends in known:
        met &= ~((middle + half >= ends[0]) & (middle - half <= ends[1])).all(axis=1)
    return boxes[~gone & ~met], (middle + shift)[met]


def _halved(boxes: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Boxes cut in two across their longer side, a little off the middle, where roots often lie."""
    side = relative.argmax(axis=1)
    rows = np.arange(len(boxes))
    low, high = boxes[rows, 0, side], boxes[rows, 1, side]
    cut = low + 0.4873 * (high - low)
    first, second = boxes.copy(), boxes.copy()
    first[rows, 1, side], second[rows, 0, side] = cut, cut
    return np.concatenate([first, second])
