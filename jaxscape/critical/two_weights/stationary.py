"""Every stationary point of the two-weight network with squared error, for any data.

The loss is c - 2·w2·B(w1) + w2²·A(w1). Off w2 = 0 its stationary points lie at w2 = B/A, where the
profile c - B²/A is stationary; on w2 = 0 they are the roots of B, all of them saddles; the origin
is stationary always, with eigenvalues ±2·mean(x·y) of the Hessian.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.progress import bar
from jaxscape.critical import winding
from jaxscape.critical.points import Box, CriticalPoint, CriticalPoints, in_box, on_boundary
from jaxscape.critical.two_weights import profile
from jaxscape.critical.two_weights import roots as roots_
from jaxscape.critical.two_weights.profile import Samples
from jaxscape.data.dataset import Dataset
from jaxscape.losses.pointwise import PointwiseLoss, square
from jaxscape.losses.two_weights import TwoWeightNetwork
from jaxscape.planes.plane import Plane, weight_plane

# Stretches of w1 to look at, and how many at once: as many as a few seconds allow.
_MOST_NUMBERS, _NUMBERS_AT_ONCE = 3e8, 2e5
_MOST_STRETCHES, _STRETCHES_AT_ONCE = 500_000, 2048
# Of the inverse of the largest |x|: the search begins here, or nearer to 0 until nothing is below.
_START, _LEAST = 0.5, 1e-7
# How far beyond the box to go, to know what becomes of the loss far away; in factors.
_FARTHER, _FARTHEST = 4.0, 1e15
_AROUND = 512


class _Found(NamedTuple):
    """The roots of one equation over w1 > 0."""

    roots: roots_.Roots
    unknown: np.ndarray
    """(u, 2) stretches of w1 of which it is not proved what they hold."""
    searched_to: float
    """Beyond, up to infinity, nothing is proved."""


def applies(loss: Any, data: Any, plane: Plane) -> bool:
    """Whether this is the squared error of w2·tanh(w1·x), over w1 and w2 themselves."""
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


def of_two_weights(data: Dataset, box: Box, names: tuple[str, str]) -> CriticalPoints:
    """All stationary points in a box, isolated and certified, and the limits far away.

    Args:
        data: samples of one input and one target.
        box: where to look, in w1 and w2.
        names: what the weights are called.
    """
    x, y, weight = _columns(data)
    samples = profile.of_samples(x, y, weight)
    off = on = _Found(roots_.NONE, np.zeros((0, 2)), np.inf)
    farthest = max(map(abs, box[0]))
    if len(samples.x) and samples.y.any():
        with bar(None, "stretches") as progress:
            on = _search(profile.Crossing(samples), samples, farthest, _MOST_STRETCHES, progress)
            if len(samples.x) > 1:
                # Whoever has stopped the one search does not wait for the other.
                most = 0 if on.roots.interrupted else _MOST_STRETCHES
                off = _search(profile.Stationarity(samples), samples, farthest, most, progress)
    points = [*_off_axis(samples, off, x, y, weight), *_on_axis(samples, off, on)]
    points += [_mirrored(point) for point in points]
    if len(samples.x):
        points.append(_origin(samples, off, on))
    limits = _limits(samples, points, off, x, y, weight)
    points = [
        point._replace(on_boundary=on_boundary(box, point.a, point.b))
        for point in sorted(points, key=lambda point: (point.loss, point.a, point.b))
        if in_box(box, point.a, point.b)
    ]
    undecided = _undecided(np.concatenate([off.unknown, on.unknown]), box)
    turns = winding.around(
        lambda places: _gradient(samples, *places.T), winding.border(box), _AROUND
    )
    known = "proved"
    if undecided:
        known = "index" if sum(point.turns for point in points) == turns else "incomplete"
    return CriticalPoints(
        tuple(points), names, box, known, turns, undecided, _curves(samples, names), limits
    )


def _columns(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets and weights that are 1 in sum, in float64."""
    x, y = (np.asarray(values).astype(float) for values in (data.x, data.y))
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(
            "data: the two-weight network takes one feature and one target, so x and y of shape "
            f"(n,); got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("data: expected finite x and y, got some that are not")
    weight = np.ones(len(x)) if data.sample_weight is None else np.asarray(data.sample_weight)
    weight = weight.astype(float)
    return x, y, weight / weight.sum()


def _search(equation: Any, samples: Samples, farthest: float, most: int, progress: Any) -> _Found:
    """The roots of an equation up to `farthest`, and on to infinity if that can be proved."""
    unit = 1 / samples.x[-1]
    low = min(_START * unit, farthest / 2)
    while equation.vanishes_below(low) and low > _LEAST * unit:
        low /= 2
    below = [[0.0, low]] if equation.vanishes_below(low) else []
    count = len(samples.x)
    left = int(min(most, _MOST_NUMBERS / count))
    at_once = int(min(_STRETCHES_AT_ONCE, max(32, _NUMBERS_AT_ONCE / count)))
    high, found = farthest, []
    start = low
    while True:
        functions = equation.values, equation.slopes
        found.append(roots_.isolate(*functions, start, high, left, at_once, progress))
        left -= found[-1].looked_at
        if not equation.vanishes_beyond(high):
            searched_to = np.inf
            break
        stopped = left <= 0 or found[-1].interrupted
        if stopped or len(found[-1].undecided) or high > _FARTHEST * unit:
            searched_to = high
            break
        start, high = high, high * _FARTHER
    joined = roots_.joined(found)
    unknown = [*below, *joined.undecided.tolist()]
    return _Found(joined, np.reshape(unknown, (-1, 2)), searched_to)


def _sums(samples: Samples, w1: Any) -> tuple[Any, ...]:
    """A, B and their first two derivatives in w1, at points (n,)."""
    x, n, y, *_ = samples
    h = np.tanh(np.multiply.outer(w1, x))
    slope = x * (1 - h * h)
    bend = -2 * x * h * slope
    return (
        *(h * h @ n, 2 * (h * slope) @ n, 2 * (slope * slope + h * bend) @ n),
        *(h @ y, slope @ y, bend @ y),
    )


def _gradient(samples: Samples, w1: Any, w2: Any) -> np.ndarray:
    """The gradient at points (n,), (n, 2)."""
    a, a1, _, b, b1, _ = _sums(samples, w1)
    return np.stack([w2 * (w2 * a1 - 2 * b1), 2 * (w2 * a - b)], axis=-1)


def _off_axis(
    samples: Samples, off: _Found, x: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> list[CriticalPoint]:
    """The stationary points with w1 > 0 and w2 not 0."""
    points = []
    for w1, (low, high), slope in zip(
        off.roots.root, off.roots.alone, off.roots.slope, strict=True
    ):
        a, a1, a2, b, b1, b2 = _sums(samples, w1)
        w2 = float(b / a)
        cross = 2 * (w2 * a1 - b1)
        hessian = np.array([[w2 * (w2 * a2 - 2 * b2), cross], [cross, 2 * a]])
        # The second derivative of the profile has the sign of B times that of the equation's slope.
        kind, turns = ("minimum", 1) if b * slope > 0 else ("saddle", -1)
        points.append(
            CriticalPoint(
                a=float(w1),
                b=w2,
                kind=kind,
                loss=float(weight @ (w2 * np.tanh(w1 * x) - y) ** 2),
                eigenvalues=np.linalg.eigvalsh(hessian),
                residual=float(np.hypot(*_gradient(samples, w1, w2))),
                turns=turns,
                radius=float(min(w1 - low, high - w1, abs(w2))),
                certified=True,
                on_boundary=False,
            )
        )
    return points


def _on_axis(samples: Samples, off: _Found, on: _Found) -> list[CriticalPoint]:
    """The stationary points with w1 > 0 and w2 = 0: saddles, of the loss of no prediction."""
    points = []
    for w1, (low, high) in zip(on.roots.root, on.roots.alone, strict=True):
        a, _, _, _, b1, _ = _sums(samples, w1)
        others = np.concatenate([off.roots.bracket, off.unknown]).ravel()
        nearest = min(abs(others - w1), default=np.inf)
        points.append(
            CriticalPoint(
                a=float(w1),
                b=0.0,
                kind="saddle",
                loss=samples.square,
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
    """The same point with both weights' signs turned, which leaves every prediction alone."""
    return point._replace(a=-point.a, b=-point.b + 0.0)


def _origin(samples: Samples, off: _Found, on: _Found) -> CriticalPoint:
    isolated = samples.slope != 0
    nearest = [found.roots.alone.min(initial=np.inf) for found in (off, on)]
    nearest += [found.unknown.min(initial=found.searched_to) for found in (off, on)]
    if len(samples.x) == 1 and isolated:
        # The valley, which lies beyond this on both sides of w2 = 0.
        nearest.append(abs(samples.y[0] / samples.n[0]))
    return CriticalPoint(
        a=0.0,
        b=0.0,
        kind="saddle" if isolated else "degenerate",
        loss=samples.square,
        eigenvalues=2 * abs(samples.slope) * np.array([-1.0, 1.0]),
        residual=0.0,
        turns=-1 if isolated else 0,
        radius=float(min(nearest)) if isolated else 0.0,
        certified=True,
        on_boundary=False,
    )


def _undecided(stretches: np.ndarray, box: Box) -> tuple[Box, ...]:
    """The parts of a box over stretches of |w1|."""
    (left, right), side = box
    both = [*stretches.tolist(), *(-stretches[:, ::-1]).tolist()]
    cut = [(max(low, left), min(high, right)) for low, high in both]
    return tuple((stretch, side) for stretch in sorted(cut) if stretch[0] < stretch[1])


def _curves(samples: Samples, names: tuple[str, str]) -> tuple[str, ...]:
    """Stationary points that are not isolated, in sentences."""
    first, second = names
    if not len(samples.x):
        return ("every input is 0: the loss is the same everywhere",)
    if not samples.y.any():
        return (
            f"targets cancel at every |x|: on {first} = 0 and on {second} = 0 every point is "
            "stationary, and the loss is lowest",
        )
    notes = []
    if len(samples.x) == 1:
        height = samples.y[0] / samples.n[0]
        notes.append(
            f"all inputs are of one size: the curve {second}·tanh({samples.x[0]:.6g}·{first}) = "
            f"{height:.6g} is a valley of minima"
        )
    if not samples.slope:
        notes.append(f"mean(x·y) is 0: every point of {first} = 0 is stationary")
    return tuple(notes)


def _limits(
    samples: Samples,
    points: list[CriticalPoint],
    off: _Found,
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
) -> dict[str, Any]:
    """The lowest loss over w2 at the ends of w1, the lowest of all, and whether it is attained."""

    def lowest(part: np.ndarray) -> float:
        """The lowest mean squared error of a multiple of `part`."""
        norm = weight @ (part * part)
        best = weight @ (part * y) / norm if norm else 0.0
        return float(weight @ (best * part - y) ** 2)

    ends = {"w1_to_0": lowest(x / abs(x).max(initial=1e-300)), "w1_to_infinity": lowest(np.sign(x))}
    level = {point.loss for point in points if point.kind == "minimum"}
    if len(samples.x) < 2 or not samples.y.any():
        # A valley at the height that any w1 reaches.
        level.add(min(ends.values()))
    elif not samples.slope:
        level.add(samples.square)
    reached, far = min(level, default=np.inf), min(ends.values())
    slack = 1e-12 * samples.square
    proved = not len(off.unknown) and np.isinf(off.searched_to)
    attained = None
    if proved and (len(samples.x) < 2 or not samples.y.any() or abs(reached - far) > slack):
        attained = reached <= far + slack
    return {
        **ends,
        "infimum": float(min(reached, far)),
        "attained": attained,
        "searched_to": float(off.searched_to),
    }
