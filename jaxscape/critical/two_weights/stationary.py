"""All stationary points of the two-weight network with squared error, for any data.

The loss is c - 2·w2·B(w1) + w2²·A(w1). Its stationary points off w2 = 0 lie at w2 = B/A, where the
profile c - B²/A is stationary. Those on w2 = 0 are the roots of B, all of them saddles. The origin
is always stationary, with the eigenvalues ±2·mean(x·y) of the Hessian.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.progress import bar
from jaxscape.critical import winding
from jaxscape.critical.points import (
    Box,
    Completeness,
    CriticalPoint,
    CriticalPoints,
    Kind,
    Limits,
    in_box,
    on_boundary,
)
from jaxscape.critical.two_weights import profile, roots
from jaxscape.critical.two_weights.profile import Samples
from jaxscape.data.dataset import Dataset
from jaxscape.losses.pointwise import PointwiseLoss, square
from jaxscape.losses.two_weights import TwoWeightNetwork
from jaxscape.planes.plane import Plane, weight_plane

# Limits per search and per batch: numbers computed, and subintervals of w1 examined. A search takes
# at most a few seconds.
_MAX_NUMBERS, _BATCH_NUMBERS = 3e8, 2e5
_MAX_SUBINTERVALS, _BATCH_SIZE = 500_000, 2048
# The search begins at w1 = _START / max|x|. While there may be a root below, the start is halved,
# down to _MIN_START / max|x|.
_START, _MIN_START = 0.5, 1e-7
# The search first ends at the box, or at w1 = _FIRST_END / max|x| in a larger one. It goes on until
# there cannot be a root above. Its end is multiplied by _EXTENSION each time, up to
# _MAX_W1 / max|x|.
_FIRST_END, _EXTENSION, _MAX_W1 = 1e4, 4.0, 1e15
_BOUNDARY_POINTS = 512


class _Solution(NamedTuple):
    """The roots of one equation over w1 > 0."""

    roots: roots.Roots
    undecided: np.ndarray
    """(u, 2) ends of subintervals of w1 that may hold further roots."""
    searched_to: float
    """The w1 above which nothing is proved."""


_NO_ROOTS = _Solution(roots.NONE, np.zeros((0, 2)), np.inf)


def applies(loss: Any, data: Any, plane: Plane) -> bool:
    """Return whether the loss is the squared error of w2·tanh(w1·x) over w1 and w2 themselves."""
    if not (isinstance(loss, PointwiseLoss) and isinstance(data, Dataset)):
        return False
    same = weight_plane()
    renamed = Plane(plane.origin, plane.u, plane.v, same.names)
    structure: Any = jax.tree.structure(renamed)
    if structure != jax.tree.structure(same):
        return False
    pairs = zip(jax.tree.leaves(plane), jax.tree.leaves(same), strict=True)
    return (
        loss.error is square
        and loss.predict == TwoWeightNetwork(jnp.tanh)
        and all(np.array_equal(ours, theirs) for ours, theirs in pairs)
    )


def stationary_points(data: Dataset, box: Box, names: tuple[str, str]) -> CriticalPoints:
    """Find all stationary points in a box, isolated and certified, and the limits of the loss.

    Args:
        data: samples of one input and one target.
        box: the box, in w1 and w2.
        names: the names of the weights.
    """
    x, y, weight = _columns(data)
    samples = profile.group_samples(x, y, weight)
    off_axis = on_axis = _NO_ROOTS
    farthest = max(map(abs, box[0]))
    if len(samples.x) and samples.y.any():
        # One bar covers both searches. Each consists of many calls that are too short for a bar of
        # their own, and Ctrl-C in the first search skips the second.
        with bar(None, "intervals") as progress:
            equation: profile.AxisEquation | profile.ProfileEquation
            equation = profile.AxisEquation(samples)
            on_axis = _solve(equation, samples, farthest, _MAX_SUBINTERVALS, progress)
            if len(samples.x) > 1:
                limit = 0 if on_axis.roots.interrupted else _MAX_SUBINTERVALS
                equation = profile.ProfileEquation(samples)
                off_axis = _solve(equation, samples, farthest, limit, progress)
    points = [*_off_axis(samples, off_axis, x, y, weight), *_on_axis(samples, off_axis, on_axis)]
    points += [_mirrored(point) for point in points]
    if len(samples.x):
        points.append(_origin(samples, off_axis, on_axis))
    limits = _limits(samples, points, off_axis, x, y, weight)
    points = [
        point._replace(on_boundary=on_boundary(box, point.a, point.b))
        for point in sorted(points, key=lambda point: (point.loss, point.a, point.b))
        if in_box(box, point.a, point.b)
    ]
    undecided = _undecided_boxes(np.concatenate([off_axis.undecided, on_axis.undecided]), box)
    turns = winding.winding_number(
        lambda positions: _gradient(samples, *positions.T),
        winding.boundary(box),
        _BOUNDARY_POINTS,
    )
    completeness: Completeness = "proved"
    if undecided:
        by_index = sum(point.turns for point in points) == turns
        completeness = "index" if by_index else "incomplete"
    notes = _curve_notes(samples, names)
    return CriticalPoints(tuple(points), names, box, completeness, turns, undecided, notes, limits)


def _columns(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, targets and weights with sum 1, in float64."""
    x, y = (np.asarray(values).astype(float) for values in (data.x, data.y))
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(
            "data: expected x and y of shape (n,), one feature and one target for the two-weight "
            f"network, got {x.shape} and {y.shape}"
        )
    with np.errstate(over="ignore"):
        squares_are_finite = np.isfinite(y * y).all()
    if not (np.isfinite(x).all() and squares_are_finite):
        raise ValueError(
            "data: expected finite x and y, and finite squares of y, got some that are not"
        )
    weight = np.ones(len(x)) if data.sample_weight is None else np.asarray(data.sample_weight)
    weight = weight.astype(float)
    return x, y, weight / weight.sum()


def _solve(
    equation: profile.AxisEquation | profile.ProfileEquation,
    samples: Samples,
    farthest: float,
    limit: int,
    progress: Any,
) -> _Solution:
    """Isolate the roots of an equation from 0 to infinity, or as far as possible.

    Args:
        equation: the equation.
        samples: its samples.
        farthest: the largest |w1| of the box.
        limit: the number of subintervals to examine.
        progress: a progress bar.
    """
    unit = 1 / samples.x[-1]
    low = min(_START * unit, farthest / 2)
    while equation.may_vanish_below(low) and low > _MIN_START * unit:
        low /= 2
    below = [[0.0, low]] if equation.may_vanish_below(low) else []
    count = len(samples.x)
    left = int(min(limit, _MAX_NUMBERS / count))
    batch_size = int(min(_BATCH_SIZE, max(32, _BATCH_NUMBERS / count)))
    start, high = low, min(farthest, _FIRST_END * unit)
    parts: list[roots.Roots] = []
    while True:
        part = roots.isolate(
            equation.values, equation.derivatives, start, high, left, batch_size, progress
        )
        parts.append(part)
        left -= part.examined
        if not equation.may_vanish_above(high):
            searched_to = np.inf
            break
        stopped = left <= 0 or part.interrupted
        if stopped or len(part.undecided) or high > _MAX_W1 * unit:
            searched_to = high
            break
        start, high = high, high * _EXTENSION
    whole = roots.concatenate(parts)
    beyond = [[searched_to, farthest]] if searched_to < farthest else []
    undecided = [*below, *whole.undecided.tolist(), *beyond]
    return _Solution(whole, np.reshape(undecided, (-1, 2)), searched_to)


def _sums(samples: Samples, w1: Any) -> tuple[Any, ...]:
    """Return A, A', A'', B, B', B'' at points (n,), where ' is d/dw1."""
    x, n, y, *_ = samples
    with np.errstate(over="ignore"):
        h = np.tanh(np.multiply.outer(w1, x))
    h1 = x * (1 - h * h)
    h2 = -2 * x * h * h1
    return (
        *(h * h @ n, 2 * (h * h1) @ n, 2 * (h1 * h1 + h * h2) @ n),
        *(h @ y, h1 @ y, h2 @ y),
    )


def _gradient(samples: Samples, w1: Any, w2: Any) -> np.ndarray:
    """Return the gradient, (n, 2), at points (n,)."""
    a, a1, _, b, b1, _ = _sums(samples, w1)
    # In a huge box the gradient may overflow; the winding number is then unknown.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([w2 * (w2 * a1 - 2 * b1), 2 * (w2 * a - b)], axis=-1)


def _off_axis(
    samples: Samples, off_axis: _Solution, x: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> list[CriticalPoint]:
    """Return the stationary points with w1 > 0 and w2 ≠ 0."""
    points = []
    for w1, (low, high), slope in zip(
        off_axis.roots.root, off_axis.roots.isolating, off_axis.roots.slope, strict=True
    ):
        a, a1, a2, b, b1, b2 = _sums(samples, w1)
        w2 = float(b / a)
        cross = 2 * (w2 * a1 - b1)
        hessian = np.array([[w2 * (w2 * a2 - 2 * b2), cross], [cross, 2 * a]])
        # The second derivative of the profile has the sign of B times that of E'.
        kind: Kind = "minimum" if b * slope > 0 else "saddle"
        points.append(
            CriticalPoint(
                a=float(w1),
                b=w2,
                kind=kind,
                loss=float(weight @ (w2 * np.tanh(w1 * x) - y) ** 2),
                eigenvalues=np.linalg.eigvalsh(hessian),
                residual=float(np.hypot(*_gradient(samples, w1, w2))),
                turns=1 if kind == "minimum" else -1,
                radius=float(min(w1 - low, high - w1, abs(w2))),
                certified=True,
                on_boundary=False,
            )
        )
    return points


def _on_axis(samples: Samples, off_axis: _Solution, on_axis: _Solution) -> list[CriticalPoint]:
    """Return the stationary points with w1 > 0 and w2 = 0, all of them saddles."""
    points = []
    for w1, (low, high) in zip(on_axis.roots.root, on_axis.roots.isolating, strict=True):
        a, _, _, _, b1, _ = _sums(samples, w1)
        others = np.concatenate([off_axis.roots.bracket, off_axis.undecided]).ravel()
        nearest = min(abs(others - w1), default=np.inf)
        points.append(
            CriticalPoint(
                a=float(w1),
                b=0.0,
                kind="saddle",
                loss=samples.mean_square,
                eigenvalues=np.linalg.eigvalsh(np.array([[0.0, -2 * b1], [-2 * b1, 2 * a]])),
                residual=float(np.hypot(*_gradient(samples, w1, 0.0))),
                turns=-1,
                radius=float(min(w1 - low, high - w1, nearest)),
                certified=True,
                on_boundary=False,
            )
        )
    return points


def _mirrored(point: CriticalPoint) -> CriticalPoint:
    """Return the point with the signs of both weights reversed, which has the same predictions."""
    return point._replace(a=-point.a, b=-point.b + 0.0)


def _origin(samples: Samples, off_axis: _Solution, on_axis: _Solution) -> CriticalPoint:
    isolated = samples.mean_xy != 0
    nearest = [solution.roots.isolating.min(initial=np.inf) for solution in (off_axis, on_axis)]
    nearest += [
        solution.undecided.min(initial=solution.searched_to) for solution in (off_axis, on_axis)
    ]
    if len(samples.x) == 1 and isolated:
        # The valley of minima keeps at least this distance from w2 = 0.
        nearest.append(abs(samples.y[0] / samples.n[0]))
    return CriticalPoint(
        a=0.0,
        b=0.0,
        kind="saddle" if isolated else "degenerate",
        loss=samples.mean_square,
        eigenvalues=2 * abs(samples.mean_xy) * np.array([-1.0, 1.0]),
        residual=0.0,
        turns=-1 if isolated else 0,
        radius=float(min(nearest)) if isolated else 0.0,
        certified=True,
        on_boundary=False,
    )


def _undecided_boxes(subintervals: np.ndarray, box: Box) -> tuple[Box, ...]:
    """Return the parts of a box over subintervals of |w1|."""
    (left, right), side = box
    both = [*subintervals.tolist(), *(-subintervals[:, ::-1]).tolist()]
    clipped = sorted((max(low, left), min(high, right)) for low, high in both)
    return tuple(((low, high), side) for low, high in clipped if low < high)


def _curve_notes(samples: Samples, names: tuple[str, str]) -> tuple[str, ...]:
    """Describe the curves of stationary points in sentences."""
    first, second = names
    if not len(samples.x):
        return ("every input is 0: the loss is the same everywhere",)
    if not samples.y.any():
        return (
            f"the targets cancel at every |x|: on {first} = 0 and on {second} = 0 every point is "
            "a global minimum",
        )
    notes = []
    if len(samples.x) == 1:
        height = samples.y[0] / samples.n[0]
        notes.append(
            f"all inputs have one absolute value: the curve {second}·tanh({samples.x[0]:.6g}·"
            f"{first}) = {height:.6g} is a valley of minima"
        )
    if not samples.mean_xy:
        notes.append(f"mean(x·y) is 0: every point of {first} = 0 is stationary")
    return tuple(notes)


def _limits(
    samples: Samples,
    points: list[CriticalPoint],
    off_axis: _Solution,
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
) -> Limits:
    """Return the limits of the profile, the infimum of the loss, and whether it is attained."""

    def lowest_error(output: np.ndarray) -> float:
        """Return the lowest mean squared error of a multiple of an output."""
        norm = weight @ (output * output)
        best = weight @ (output * y) / norm if norm else 0.0
        return float(weight @ (best * output - y) ** 2)

    at_0 = lowest_error(x / abs(x).max(initial=1e-300))
    at_infinity = lowest_error(np.sign(x))
    limit = min(at_0, at_infinity)
    levels = {point.loss for point in points if point.kind == "minimum"}
    if len(samples.x) < 2 or not samples.y.any():
        # The profile is constant: every w1 attains the limits.
        levels.add(limit)
    elif not samples.mean_xy:
        levels.add(samples.mean_square)
    reached = min(levels, default=np.inf)
    tolerance = 1e-12 * samples.mean_square
    proved = not len(off_axis.undecided) and np.isinf(off_axis.searched_to)
    attained = None
    if proved and (len(samples.x) < 2 or not samples.y.any() or abs(reached - limit) > tolerance):
        attained = reached <= limit + tolerance
    return {
        "w1_to_0": at_0,
        "w1_to_infinity": at_infinity,
        "infimum": float(min(reached, limit)),
        "attained": attained,
        "searched_to": float(off_axis.searched_to),
    }
