"""All roots of a function of one positive variable, isolated by bisection and certified.

The function is known through enclosures: intervals that hold its value at a point, or its
derivative with respect to the logarithm of the variable over a subinterval. Subintervals on which
it cannot vanish are dropped. Those on which it is monotone hold one root or none, by the signs at
their ends. All others are bisected.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxscape._util.warnings import InterruptedWarning, warn

Interval = tuple[np.ndarray, np.ndarray]
"""The lower and upper ends of k intervals, each (k,)."""
Values = Callable[[np.ndarray], Interval]
"""Points (k,) -> enclosures of the function at the points."""
Derivatives = Callable[[np.ndarray, np.ndarray], Interval]
"""Lower and upper ends of subintervals, each (k,) -> enclosures of the derivative over them."""

_MIN_WIDTH = 1e-12
"""The relative width below which a subinterval is not bisected."""
_BISECTIONS = 60
"""The number of bisections that locate a root."""
_WIDENING = 4.0
"""The factor by which an undecided subinterval is widened, to find a root at its end."""


class Roots(NamedTuple):
    """The roots of a function on an interval, with their proofs."""

    root: np.ndarray
    """(r,) in increasing order."""
    bracket: np.ndarray
    """(r, 2) ends of a subinterval over which the function changes sign."""
    isolating: np.ndarray
    """(r, 2) ends of a subinterval on which the function is monotone, so that it holds no other
    root."""
    slope: np.ndarray
    """(r,) the sign of the derivative at the root, +1 or -1."""
    undecided: np.ndarray
    """(u, 2) ends of subintervals that may hold further roots; the rest is proved to hold none."""
    examined: int
    """The number of subintervals examined."""
    interrupted: bool = False
    """Whether Ctrl-C left the rest undecided."""


_NO_NUMBER, _NO_PAIR = np.zeros(0), np.zeros((0, 2))
NONE = Roots(_NO_NUMBER, _NO_PAIR, _NO_PAIR, _NO_NUMBER, _NO_PAIR, 0)
"""No roots, and nothing undecided."""


def isolate(
    values: Values,
    derivatives: Derivatives,
    low: float,
    high: float,
    max_subintervals: int,
    batch_size: int,
    progress: Any,
) -> Roots:
    """Isolate all roots between two positive numbers.

    Args:
        values: enclosures of the function at points.
        derivatives: enclosures of its derivative, with respect to the logarithm of the variable,
            over subintervals. The function may be multiplied by any function without a root, if
            `derivatives` belongs to the same product.
        low: the lower end of the search.
        high: the upper end of the search.
        max_subintervals: the number of subintervals after which the rest is left undecided.
        batch_size: the number of subintervals examined in one call.
        progress: a progress bar, which counts the subintervals examined. It is the caller's,
            because one bar covers several calls.

    Returns:
        The certified roots and the undecided subintervals.

    Warns:
        InterruptedWarning: Ctrl-C stopped the search; the rest is undecided.
    """
    # The factor moves the ends away from round numbers: a root at an end takes longer to decide.
    parts = max(2, int(8 * np.log(high / low)))
    ends = np.geomspace(low, high, parts + 1)
    ends[1:-1] *= 1.000_123_4
    todo = list(itertools.pairwise(ends))
    monotone: list[tuple[float, float, int]] = []
    undecided: list[tuple[float, float]] = []
    examined, interrupted = 0, False
    try:
        while todo and examined < max_subintervals:
            # `todo` keeps the batch until it is examined, in case of Ctrl-C.
            batch = todo[-batch_size:]
            p, q = np.array(batch).T
            may_vanish, sign = _examine(values, derivatives, p, q)
            halves = []
            for k in np.flatnonzero(may_vanish):
                if sign[k]:
                    monotone.append((p[k], q[k], int(sign[k])))
                elif q[k] / p[k] - 1 <= _MIN_WIDTH:
                    undecided.append((p[k], q[k]))
                else:
                    middle = np.sqrt(p[k] * q[k])
                    halves += [(p[k], middle), (middle, q[k])]
            todo = todo[:-batch_size] + halves
            examined += len(batch)
            progress.update(len(batch))
    except KeyboardInterrupt:
        interrupted = True
        warn("interrupted: not all of the box was searched", InterruptedWarning)
    more, undecided = _widen(values, derivatives, undecided + todo, low, high)
    roots = _refine(values, monotone + more, undecided, examined)
    return roots._replace(interrupted=interrupted)


def concatenate(parts: list[Roots]) -> Roots:
    """Concatenate the roots of adjacent intervals, given in increasing order."""
    return Roots(
        np.concatenate([part.root for part in parts]),
        np.concatenate([part.bracket for part in parts]),
        np.concatenate([part.isolating for part in parts]),
        np.concatenate([part.slope for part in parts]),
        np.concatenate([part.undecided for part in parts]),
        sum(part.examined for part in parts),
        any(part.interrupted for part in parts),
    )


def _examine(
    values: Values, derivatives: Derivatives, p: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Examine the subintervals from p to q, each (k,).

    Returns:
        Whether the function may vanish on each, (k,), and the sign of its derivative if it is
        proved to have exactly one root there, (k,); 0 otherwise.
    """
    middle = np.sqrt(p * q)
    low, high = derivatives(p, q)
    steepest = np.maximum(abs(low), abs(high))
    reach = np.maximum(np.log(q / middle), np.log(middle / p)) * (1 + 1e-9)
    at_least, at_most = values(middle)
    may_vanish = ~((at_least > steepest * reach) | (at_most < -steepest * reach))
    sign = np.zeros(len(p))
    monotone = np.flatnonzero(may_vanish & ((low > 0) | (high < 0)))
    if len(monotone):
        at_p, at_q = (_sign(values, end[monotone]) for end in (p, q))
        may_vanish[monotone] = ~(at_p * at_q > 0)
        sign[monotone] = np.where(at_p * at_q < 0, at_q, 0)
    return may_vanish, sign


def _sign(values: Values, points: np.ndarray) -> np.ndarray:
    """Return the sign at each point, +1 or -1; 0 if the enclosure holds 0."""
    low, high = values(points)
    return np.where(low > 0, 1, np.where(high < 0, -1, 0))


def _widen(
    values: Values, derivatives: Derivatives, undecided: list, low: float, high: float
) -> tuple[list, list]:
    """Widen undecided subintervals until each is decided or too wide.

    Returns:
        The monotone subintervals with a root, as (lower end, upper end, sign of the derivative),
        and the subintervals that are still undecided.
    """
    monotone, left = [], []
    for p, q in _merge_adjacent(undecided):
        for power in range(1, 16):
            margin = _WIDENING**power * max(q - p, _MIN_WIDTH * p)
            if margin > p / 2:
                left.append((p, q))
                break
            wide = np.array([max(low / 2, p - margin)]), np.array([min(high * 2, q + margin)])
            may_vanish, sign = _examine(values, derivatives, *wide)
            if not may_vanish[0]:
                break
            if sign[0]:
                monotone.append((wide[0][0], wide[1][0], int(sign[0])))
                break
        else:
            left.append((p, q))
    return monotone, left


def _merge_adjacent(subintervals: list) -> list:
    """Merge subintervals that touch."""
    merged: list = []
    for p, q in sorted(subintervals):
        if merged and p <= merged[-1][1] * (1 + 1e-15):
            merged[-1] = (merged[-1][0], max(q, merged[-1][1]))
        else:
            merged.append((p, q))
    return merged


def _refine(values: Values, monotone: list, undecided: list, examined: int) -> Roots:
    """Bracket each root as tightly as the signs are certain, and drop duplicates."""
    isolating = np.array([subinterval[:2] for subinterval in monotone], float).reshape(-1, 2)
    slope = np.array([subinterval[2] for subinterval in monotone], int)
    low, high = isolating.T
    # The bracket's ends are the closest points with a certain sign. The root is placed where the
    # middle of the enclosure changes sign; the proof does not depend on its position.
    before = _last_point(lambda w: _sign(values, w) == -slope, low, high)
    after = _last_point(lambda w: _sign(values, w) == slope, high, low)
    root = _last_point(lambda w: sum(values(w)) * slope < 0, low, high)
    bracket = np.stack([before, after], axis=1)
    kept: list[int] = []
    for k in np.argsort(root):
        # An isolating subinterval holds one root: a bracket inside it is a duplicate.
        last = kept[-1] if kept else None
        if last is None or not (
            _contains(isolating[last], bracket[k]) or _contains(isolating[k], bracket[last])
        ):
            kept.append(int(k))
    return Roots(
        root[kept],
        bracket[kept],
        isolating[kept],
        slope[kept],
        np.array(undecided, float).reshape(-1, 2),
        examined,
    )


def _last_point(holds: Callable, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Bisect for the last points from `start` toward `end` at which a condition holds."""
    for _ in range(_BISECTIONS if len(start) else 0):
        middle = np.sqrt(start * end)
        good = holds(middle)
        start, end = np.where(good, middle, start), np.where(good, end, middle)
    return start


def _contains(outer: np.ndarray, inner: np.ndarray) -> bool:
    return bool(outer[0] <= inner[0] and inner[1] <= outer[1])
