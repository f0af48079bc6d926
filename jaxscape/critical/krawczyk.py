"""Prove with the Krawczyk operator that a box holds no root of the gradient, or exactly one.

The Krawczyk operator (Krawczyk 1969; Neumaier 1990, Interval Methods for Systems of Equations,
chapter 5) tests single boxes. A branch-and-bound search bisects a box until every part is decided.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxscape._util.blocks import run_blocks
from jaxscape.critical.interval import Interval

BATCH_SIZE = 128
"""The number of boxes that are examined at once."""
_MIN_WIDTH = 1e-9
"""The width of a box, as a fraction of the whole, below which it is not bisected."""

DerivativeBounds = Callable[[Interval], tuple[Interval, Interval]]
"""Boxes (n, 2) -> bounds on the gradient, (n, 2), and on the Hessian, (n, 2, 2), over them."""


class Proof(NamedTuple):
    """The result of a search."""

    undecided: np.ndarray
    """(u, 2, 2) lower and upper ends of boxes that may hold a root."""
    new_roots: np.ndarray
    """(s, 2) approximations of roots that are proved to exist and are not among the known ones."""
    examined: int
    """The number of boxes examined."""


def in_batches(bounds: DerivativeBounds, size: int) -> DerivativeBounds:
    """Extend bounds for batches of `size` boxes to any number of boxes."""

    def for_all(boxes: Interval) -> tuple[Interval, Interval]:
        count = len(boxes.low)
        parts = []

        def one_batch(start: int) -> tuple[Interval, Interval]:
            part = [end[start : start + size] for end in boxes]
            padding = ((0, size - len(part[0])), (0, 0))
            return bounds(Interval(*(np.pad(end, padding, mode="edge") for end in part)))

        def keep(start: int, part: tuple[Interval, Interval]) -> int:
            parts.append(part)
            return min(size, count - start)

        run_blocks(
            range(0, count, size),
            one_batch,
            keep,
            total=count,
            unit="boxes",
            threads=0,
            interrupted=lambda: None,
        )
        return tuple(
            Interval(*(np.concatenate([p[k][end] for p in parts])[:count] for end in (0, 1)))
            for k in (0, 1)
        )  # type: ignore[return-value]

    return for_all


def uniqueness_radii(
    bounds: DerivativeBounds, points: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    """Find the largest boxes around roots of the gradient that are proved to hold exactly one root.

    Args:
        bounds: bounds on gradient and Hessian.
        points: (n, 2) the roots, rounded to float64.
        widths: (2,) the shape of the boxes. Half sides of 2^-k times the widths are tried for k
            from 1 to 40.

    Returns:
        (n,) half of the boxes' sides in units of `widths`; 0 if nothing is proved.
    """
    sizes = 2.0 ** -np.arange(1.0, 41)
    n, k = len(points), len(sizes)
    if not n:
        return np.zeros(0)
    half = np.broadcast_to(sizes[None, :, None] * widths, (n, k, 2)).reshape(-1, 2)
    centers = np.repeat(points, k, axis=0)
    at_points, _ = bounds(Interval(points, points))
    gradient, hessian = bounds(Interval(centers - half, centers + half))
    at_centers = Interval(*(np.repeat(end, k, axis=0) for end in at_points))
    # Slightly larger half sides, which cover the box despite rounding.
    reach = half * (1 + 1e-12) + 4 * np.finfo(float).eps * abs(centers)
    shift, spread, ratio = _krawczyk(at_centers, hessian, reach)
    exists = (abs(shift) + spread < half * (1 - 1e-12)).all(axis=1)
    # Across a kink the bounds on the Hessian may be finite although they are not valid. Those on
    # the gradient are infinite there.
    smooth = np.isfinite(gradient.low).all(axis=1) & np.isfinite(gradient.high).all(axis=1)
    exists &= smooth
    unique = (smooth & (ratio < 1)).reshape(n, k)
    # A ratio below 1 proves that the box holds at most one root. This box or a smaller one proves
    # that there is one.
    largest = np.argmax(unique, axis=1)
    inside = np.array([exists.reshape(n, k)[i, largest[i] :].any() for i in range(n)])
    return np.where(unique.any(axis=1) & inside, sizes[largest], 0.0)


def _krawczyk(
    gradient: Interval, hessian: Interval, half: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apply the Krawczyk operator to boxes, with the inverse Y of the Hessian's midpoint.

    Args:
        gradient: (n, 2) bounds on the gradient at the centers.
        hessian: (n, 2, 2) bounds on the Hessian over the boxes.
        half: (n, 2) half sides of the boxes.

    Returns:
        The shift of the image's center from the box's center, (n, 2); the half sides of the image,
        (n, 2); and the largest row sum of |1 - Y·H|, with the sides as units, (n,).
    """
    with np.errstate(all="ignore"):
        # Scale each box by a power of two, which is exact: the products of the entries of a tiny
        # Hessian vanish.
        _, exponents = np.frexp(np.maximum(abs(hessian.low), abs(hessian.high)).max(axis=(1, 2)))
        gradient = Interval(*(np.ldexp(end, -exponents[:, None]) for end in gradient))
        hessian = Interval(*(np.ldexp(end, -exponents[:, None, None]) for end in hessian))
        middle = (hessian.low + hessian.high) / 2
        (p, q), (r, s) = middle[:, 0].T, middle[:, 1].T
        inverse = np.array([[s, -q], [-r, p]]).transpose(2, 0, 1) / (p * s - q * r)[:, None, None]
        rounding = 1e-14 * abs(inverse) @ abs(middle)
        radius = np.maximum(hessian.high - middle, middle - hessian.low) * (1 + 1e-12)
        error = abs(np.eye(2) - inverse @ middle) + rounding + abs(inverse) @ radius
        spread = (error @ half[:, :, None])[:, :, 0] * (1 + 1e-12)
        center = (gradient.low + gradient.high) / 2
        width = np.maximum(gradient.high - center, center - gradient.low)
        shift = -(inverse @ center[:, :, None])[:, :, 0]
        spread += (abs(inverse) @ (width + 1e-14 * abs(center))[:, :, None])[:, :, 0]
        ratio = ((error @ half[:, :, None])[:, :, 0] / half).max(axis=1)
    finite = np.isfinite(shift).all(axis=1) & np.isfinite(spread).all(axis=1)
    return (
        np.where(finite[:, None], shift, 0),
        np.where(finite[:, None], spread, np.inf),
        np.where(finite, ratio, np.inf),
    )


def search(
    bounds: DerivativeBounds, low: np.ndarray, high: np.ndarray, known: np.ndarray, max_boxes: int
) -> Proof:
    """Bisect a box until the gradient is proved not to vanish outside of the known roots' boxes.

    Args:
        bounds: bounds on gradient and Hessian.
        low: (2,) the lower ends of the box.
        high: (2,) the upper ends of the box.
        known: (m, 2, 2) lower and upper ends of boxes that are proved to hold exactly one root.
        max_boxes: the number of boxes after which the rest is left undecided.

    Returns:
        The undecided boxes, and the roots found that are not known.

    Warns:
        InterruptedWarning: Ctrl-C stopped the search; the rest is undecided.
    """
    todo = np.array([[low, high]])
    examined = 0
    new_roots: list[np.ndarray] = []
    undecided: list[np.ndarray] = []

    def batches() -> Iterator[np.ndarray]:
        while len(todo) and examined < max_boxes:
            yield todo[-BATCH_SIZE:]

    def prune(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _prune(bounds, boxes, known)

    def keep(boxes: np.ndarray, result: tuple[np.ndarray, np.ndarray]) -> int:
        nonlocal todo, examined
        left, roots = result
        relative = (left[:, 1] - left[:, 0]) / (high - low)
        small = relative.max(axis=1) <= _MIN_WIDTH
        new_roots.extend(roots)
        undecided.extend(left[small])
        examined += len(boxes)
        todo = np.concatenate([todo[: -len(boxes)], _bisect(left[~small], relative[~small])])
        return len(boxes)

    complete = run_blocks(
        batches(),
        prune,
        keep,
        total=None,
        unit="boxes",
        threads=0,
        interrupted=lambda: "not all of the box was searched",
    )
    return Proof(
        np.concatenate([np.reshape(undecided, (-1, 2, 2)), todo]),
        np.reshape(new_roots, (-1, 2)),
        examined if complete else max_boxes,
    )


def _prune(
    bounds: DerivativeBounds, boxes: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Drop the boxes that are decided.

    Returns:
        The boxes that are left, (k, 2, 2), and the roots found that are not known, (s, 2).
    """
    for ends in known:
        boxes = boxes[~((boxes[:, 0] >= ends[0]) & (boxes[:, 1] <= ends[1])).all(axis=1)]
    if not len(boxes):
        return boxes, np.zeros((0, 2))
    low, high = boxes[:, 0], boxes[:, 1]
    gradient, hessian = bounds(Interval(low, high))
    may_vanish = ((gradient.low <= 0) & (gradient.high >= 0)).all(axis=1)
    boxes, low, high = boxes[may_vanish], low[may_vanish], high[may_vanish]
    if not len(boxes):
        return boxes, np.zeros((0, 2))
    gradient = Interval(gradient.low[may_vanish], gradient.high[may_vanish])
    hessian = Interval(hessian.low[may_vanish], hessian.high[may_vanish])
    middle = (low + high) / 2
    half = np.maximum(high - middle, middle - low)
    # The mean value theorem does not hold across a kink, where the bounds are infinite.
    smooth = np.isfinite(gradient.low).all(axis=1) & np.isfinite(gradient.high).all(axis=1)
    at_middle, _ = bounds(Interval(middle, middle))
    with np.errstate(all="ignore"):
        size = np.maximum(abs(hessian.low), abs(hessian.high))
        reach = (size @ half[:, :, None])[:, :, 0] * (1 + 1e-12)
        no_root = ((at_middle.low > reach) | (at_middle.high < -reach)).any(axis=1)
    shift, spread, _ = _krawczyk(at_middle, hessian, half)
    with np.errstate(all="ignore"):
        image_outside = (abs(shift) - spread > half * (1 + 1e-12)).any(axis=1)
        image_inside = (abs(shift) + spread < half * (1 - 1e-12)).all(axis=1)
    excluded = smooth & (no_root | image_outside)
    has_root = smooth & image_inside & ~excluded
    # The root of a box that touches a known root's box may be the known one.
    for ends in known:
        has_root &= ~((middle + half >= ends[0]) & (middle - half <= ends[1])).all(axis=1)
    return boxes[~excluded & ~has_root], (middle + shift)[has_root]


def _bisect(boxes: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Bisect boxes across their longer sides, a little off the middle, where roots often lie."""
    side = relative.argmax(axis=1)
    rows = np.arange(len(boxes))
    low, high = boxes[rows, 0, side], boxes[rows, 1, side]
    cut = low + 0.4873 * (high - low)
    first, second = boxes.copy(), boxes.copy()
    first[rows, 1, side], second[rows, 0, side] = cut, cut
    return np.concatenate([first, second])
