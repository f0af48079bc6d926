"""Every root of a function of one positive variable, isolated and certified.

What is known of the function are enclosures: intervals that hold its value at a point, and its
derivative with respect to the logarithm of the variable over a stretch. Stretches on which it
cannot vanish are dropped, those on which it is monotone hold a root or none by the signs at their
ends, and all others are halved.
"""

import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Interval = tuple[np.ndarray, np.ndarray]
"""The lower and the upper ends of some intervals, each (k,)."""
Values = Callable[[np.ndarray], Interval]
Slopes = Callable[[np.ndarray, np.ndarray], Interval]

_NARROWEST = 1e-12
"""Of a stretch, relative: one that is narrower and still undecided is left so."""
_HALVINGS = 60
_REACH = 4.0
"""By how many of its own widths an undecided stretch is widened, to find a root at its end."""


class Roots(NamedTuple):
    """What is known of the roots of a function on a stretch."""

    root: np.ndarray
    """(r,) in increasing order."""
    bracket: np.ndarray
    """(r, 2) between which the function changes its sign."""
    alone: np.ndarray
    """(r, 2) a stretch on which it is monotone, so that there is no other root."""
    slope: np.ndarray
    """(r,) the sign of its derivative there, +1 or -1."""
    undecided: np.ndarray
    """(u, 2) stretches that may hold roots or not; of all others it is proved what they hold."""
    looked_at: int
    """How many stretches it took."""
    interrupted: bool = False
    """Whether Ctrl-C left the rest undecided."""


_NO_NUMBER, _NO_PAIR = np.zeros(0), np.zeros((0, 2))
NONE = Roots(_NO_NUMBER, _NO_PAIR, _NO_PAIR, _NO_NUMBER, _NO_PAIR, 0)
"""No roots at all."""


def isolate(
    values: Values,
    slopes: Slopes,
    low: float,
    high: float,
    most: int,
    at_once: int,
    progress: Any,
) -> Roots:
    """All roots between two positive numbers.

    Args:
        values: points (k,) -> enclosures of the function there.
        slopes: lower and upper ends (k,) -> enclosures over each stretch of the derivative with
            respect to the logarithm. Both may be multiplied by any function without a root, as
            long as they belong together.
        low, high: where to search.
        most: how many stretches to look at, before those that are left are called undecided.
        at_once: how many to look at in one call.
        progress: a bar, which moves by the stretches that were looked at.

    Returns:
        The roots, each with its proof, and what could not be decided.

    Warns:
        UserWarning: Ctrl-C; what was not looked at is undecided.
    """
    # Ends that no one would choose: a root on the end of a stretch takes longer to decide.
    parts = max(2, int(8 * np.log(high / low)))
    ends = np.geomspace(low, high, parts + 1)
    ends[1:-1] *= 1.000_123_4
    todo = list(itertools.pairwise(ends))
    found: list[tuple[float, float, int]] = []
    undecided: list[tuple[float, float]] = []
    looked_at, interrupted = 0, False
    try:
        while todo and looked_at < most:
            # Until they are looked at, they are still to do.
            batch = todo[-at_once:]
            p, q = np.array(batch).T
            vanishes, sign = _look(values, slopes, p, q)
            halves = []
            for k in np.flatnonzero(vanishes):
                if sign[k]:
                    found.append((p[k], q[k], int(sign[k])))
                elif q[k] / p[k] - 1 <= _NARROWEST:
                    undecided.append((p[k], q[k]))
                else:
                    middle = np.sqrt(p[k] * q[k])
                    halves += [(p[k], middle), (middle, q[k])]
            todo = todo[:-at_once] + halves
            looked_at += len(batch)
            progress.update(len(batch))
    except KeyboardInterrupt:
        interrupted = True
        warnings.warn("interrupted: not all of the box was searched", stacklevel=2)
    more, undecided = _widened(values, slopes, undecided + todo, low, high)
    known = _roots(values, found + more, undecided, looked_at)
    return known._replace(interrupted=interrupted)


def joined(parts: list[Roots]) -> Roots:
    """The roots of stretches that follow one another, as those of one."""
    return Roots(
        np.concatenate([part.root for part in parts]),
        np.concatenate([part.bracket for part in parts]),
        np.concatenate([part.alone for part in parts]),
        np.concatenate([part.slope for part in parts]),
        np.concatenate([part.undecided for part in parts]),
        sum(part.looked_at for part in parts),
        any(part.interrupted for part in parts),
    )


def _look(values: Values, slopes: Slopes, p: np.ndarray, q: np.ndarray) -> tuple:
    """Of stretches: whether the function may vanish, and the sign of its slope at its one root.

    The sign is 0 where it is not proved that there is exactly one root.
    """
    middle = np.sqrt(p * q)
    low, high = slopes(p, q)
    steepest = np.maximum(abs(low), abs(high))
    reach = np.maximum(np.log(q / middle), np.log(middle / p)) * (1 + 1e-9)
    least, most = values(middle)
    vanishes = ~((least > steepest * reach) | (most < -steepest * reach))
    sign = np.zeros(len(p))
    monotone = np.flatnonzero(vanishes & ((low > 0) | (high < 0)))
    if len(monotone):
        at_p, at_q = (_sign(values, end[monotone]) for end in (p, q))
        vanishes[monotone] = ~(at_p * at_q > 0)
        sign[monotone] = np.where(at_p * at_q < 0, at_q, 0)
    return vanishes, sign


def _sign(values: Values, points: np.ndarray) -> np.ndarray:
    """+1, -1, or 0 where the enclosure does not tell."""
    low, high = values(points)
    return np.where(low > 0, 1, np.where(high < 0, -1, 0))


def _widened(
    values: Values, slopes: Slopes, undecided: list, low: float, high: float
) -> tuple[list, list]:
    """Roots found by widening what is undecided, and what is left."""
    found, left = [], []
    for p, q in _joined(undecided):
        for power in range(1, 16):
            margin = _REACH**power * max(q - p, _NARROWEST * p)
            if margin > p / 2:
                left.append((p, q))
                break
            wide = np.array([max(low / 2, p - margin)]), np.array([min(high * 2, q + margin)])
            vanishes, sign = _look(values, slopes, *wide)
            if not vanishes[0]:
                break
            if sign[0]:
                found.append((wide[0][0], wide[1][0], int(sign[0])))
                break
        else:
            left.append((p, q))
    return found, left


def _joined(stretches: list) -> list:
    """Stretches that touch put together."""
    joined: list = []
    for p, q in sorted(stretches):
        if joined and p <= joined[-1][1] * (1 + 1e-15):
            joined[-1] = (joined[-1][0], max(q, joined[-1][1]))
        else:
            joined.append((p, q))
    return joined


def _roots(values: Values, found: list, undecided: list, looked_at: int) -> Roots:
    """Narrow each root down as far as the signs are certain, and count none twice."""
    alone = np.array([one[:2] for one in found], float).reshape(-1, 2)
    slope = np.array([one[2] for one in found], int)
    low, high = alone.T
    # Where the sign is certain to be the one at the lower end, or at the upper; and where the
    # middle of the enclosure changes its sign, which no proof needs.
    before = _last(lambda w: _sign(values, w) == -slope, low, high)
    after = _last(lambda w: _sign(values, w) == slope, high, low)
    root = _last(lambda w: sum(values(w)) * slope < 0, low, high)
    bracket = np.stack([before, after], axis=1)
    kept: list[int] = []
    for k in np.argsort(root):
        # A stretch holds one root only: what lies in the stretch of another is that one's.
        last = kept[-1] if kept else None
        if last is None or not (
            _within(bracket[k], alone[last]) or _within(bracket[last], alone[k])
        ):
            kept.append(int(k))
    return Roots(
        root[kept],
        bracket[kept],
        alone[kept],
        slope[kept],
        np.array(undecided, float).reshape(-1, 2),
        looked_at,
    )


def _last(holds: Callable, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The last points from `start` toward `end` at which something holds that holds at `start`."""
    for _ in range(_HALVINGS if len(start) else 0):
        middle = np.sqrt(start * end)
        good = holds(middle)
        start, end = np.where(good, middle, start), np.where(good, end, middle)
    return start


def _within(inner: np.ndarray, outer: np.ndarray) -> bool:
    return bool(outer[0] <= inner[0] and inner[1] <= outer[1])
