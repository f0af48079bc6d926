"""Critical points of any smooth loss in a box of a plane: found, classified, counted, proved."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.pytree import in_float64
from jaxscape.critical import krawczyk, newton, winding
from jaxscape.critical.enclosure import Unbounded, enclosure
from jaxscape.critical.interval import Interval
from jaxscape.critical.points import Box, CriticalPoint, CriticalPoints, Unsearchable
from jaxscape.critical.two_weights import stationary
from jaxscape.losses.checks import check_is_function
from jaxscape.losses.function import Function
from jaxscape.planes.plane import Plane, weight_plane

# Nodes along each side of the lattice that candidates come from, and how often it is doubled.
_NODES, _DOUBLINGS = 49, 3
_MOST_EVALUATIONS = 1e8
"""Nodes of a lattice times samples of the data."""
_MUCH = 0.01
"""The share of flat places that is worth a note."""
_AROUND = 512
"""Points along the border of a box, to begin with."""
_MOST_BOXES, _MOST_NUMBERS = 60_000, 5e8
"""Boxes that a proof may take, and numbers that are computed for them: some tens of seconds."""
_PROOFS = 3
"""How often a proof is begun again, as it met roots that were not known."""


def critical_points(
    loss: Callable[[Any, Any], jax.Array],
    data: Any = None,
    plane: Plane | None = None,
    **box: tuple[float, float],
) -> CriticalPoints:
    """Find every point of a box in which the gradient of a loss vanishes, in float64.

    For the squared error of the two-weight network f(x) = w2·tanh(w1·x) the stationary points
    satisfy equations in w1 alone, whose roots are isolated and certified for any data. For other
    losses Newton's method starts from the cells of a lattice in which the gradient can vanish.
    Where bounds are known for all operations of the loss, each point gets a radius in which it is
    the only one (Krawczyk 1969), and boxes are halved until the gradient is proved not to vanish
    in the rest. Otherwise the sum of the points' indices is compared with how often the gradient
    turns along the border (Poincaré and Hopf).

    Args:
        loss: (params, data) -> scalar, twice differentiable; of two numbers `Function(f)`.
        data: what the loss takes; numbers are taken in float64.
        plane: where the parameters lie; None for the plane of the two weights.
        box: for each of the plane's two names (`w1` and `w2` for the two weights) where to look,
            (lo, hi).

    Returns:
        `CriticalPoints`. For the two-weight network its `limits` hold the lowest loss over w2 as
        w1 → 0 (`w1_to_0`) and as w1 → ±∞ (`w1_to_infinity`), the lowest of all (`infimum`) and
        whether it is `attained` (None where that is not proved).

    Raises:
        TypeError: a loss that is no function of (params, data).
        ValueError: a box without interior, or with gradients that are not finite; a loss that
            computes in float32 whatever it is given.

    Warns:
        UserWarning: Ctrl-C; what was not searched is in `undecided`.

    Example:
        >>> def himmelblau(w1, w2):
        ...     return (w1**2 + w2 - 11) ** 2 + (w1 + w2**2 - 7) ** 2
        >>> found = jxs.critical_points(jxs.Function(himmelblau), w1=(-5, 5), w2=(-5, 5))
        >>> len(found.of_kind("minimum")), len(found.of_kind("saddle")), found.completeness
        (4, 4, 'proved')
    """
    check_is_function("loss", loss)
    plane = weight_plane() if plane is None else plane
    if not isinstance(plane, Plane):
        raise TypeError(f"plane: expected a Plane, got {type(plane).__name__}")
    sides = box_of(plane, box)
    if stationary.applies(loss, data, plane):
        return stationary.of_two_weights(data, sides, plane.names)
    with jax.enable_x64(True):
        plane, data = in_float64((plane, data))
        return _in_box(newton.Problem(loss, plane, data, sides))


def box_of(plane: Plane, given: dict[str, Any]) -> Box:
    """The box that was given by name."""
    if set(given) != set(plane.names):
        raise ValueError(
            f"box: expected {plane.names[0]}=(lo, hi) and {plane.names[1]}=(lo, hi), "
            f"got {', '.join(given) or 'none'}"
        )
    sides = []
    for name in plane.names:
        side = given[name]
        if not isinstance(side, tuple) or len(side) != 2:
            raise ValueError(f"{name}: expected a tuple (lo, hi), got {side!r}")
        low, high = map(float, side)
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"{name}: expected finite lo < hi, got {low:g} and {high:g}")
        sides.append((low, high))
    return sides[0], sides[1]


def _in_box(problem: newton.Problem) -> CriticalPoints:
    names, box = problem.plane.names, problem.box
    given = problem.loss, problem.plane, problem.data
    try:
        kind = jax.eval_shape(lambda p: newton.derivatives(*given, p)[0], jnp.zeros(2))
    except TypeError as error:
        if problem.data is not None or isinstance(problem.loss, Function):
            raise
        raise TypeError(
            "loss: expected a function of (params, data); of two numbers f it is Function(f). "
            f"It said: {error}"
        ) from error
    if kind.dtype != jnp.float64:
        raise Unsearchable(
            f"loss: expected a float64 result for float64 parameters and data, got {kind.dtype}; "
            "critical points are told apart in float64, so the loss may not round to less"
        )
    turns: int | None = None
    starts, found = np.zeros((0, 2)), newton.Sorted([], [], ())
    samples = max(
        (np.shape(leaf)[0] for leaf in jax.tree.leaves(problem.data) if np.ndim(leaf)), default=1
    )
    for doubling in range(_DOUBLINGS + 1):
        nodes = ((_NODES - 1) << doubling) + 1
        if doubling and nodes**2 * samples > _MOST_EVALUATIONS:
            break
        lattice = newton.look(problem, nodes)
        if lattice.smoothness == "gradient jumps":
            note = (
                "the loss has kinks or jumps here, of which its gradient and Hessian know nothing"
            )
            return CriticalPoints((), names, box, "incomplete", None, (), (note,), {})
        if not doubling:
            turns = winding.around(problem.slope, winding.border(box), _AROUND)
        starts = np.concatenate([starts, problem.roots(lattice.candidates)])
        found = newton.told_apart(problem, starts, lattice.steepest)
        if turns is None or _sum_of_indices(found.points) == turns:
            break
    notes = list(found.notes)
    if lattice.smoothness == "Hessian jumps":
        notes.append(
            "the Hessian jumps here: of a point where it does, the kind is that of one side"
        )
    if lattice.flat > _MUCH:
        notes.append(f"at {100 * lattice.flat:.2g} % of places the gradient is only rounding")
    points, undecided = found.points, np.array([np.array(box).T])
    try:
        bounds, left = _bounds(problem)
    except Unbounded as error:
        notes.append(f"nothing is proved: no bound is known for the operation {error}")
    else:
        while True:
            points, proof = _proved(problem, bounds, found, left)
            left -= proof.looked_at
            undecided = proof.undecided
            known = newton.told_apart(
                problem, np.concatenate([starts, problem.roots(proof.suspected)]), lattice.steepest
            )
            more = len(known.points) + len(known.flat) - len(found.points) - len(found.flat)
            if more <= 0 or left <= 0:
                break
            found = known
        # Roots that are certain, and that Newton's method does not find.
        undecided = np.concatenate([undecided, np.repeat(proof.suspected[:, None], 2, axis=1)])
    if not len(undecided):
        # What seemed to be a curve, and is disproved.
        notes = [note for note in notes if note not in found.notes]
    points = sorted(points, key=lambda point: (point.loss, point.a, point.b))
    counted = turns is not None and _sum_of_indices(points) == turns
    completeness = "proved" if not len(undecided) else "index" if counted else "incomplete"
    boxes = tuple(
        ((float(low[0]), float(high[0])), (float(low[1]), float(high[1])))
        for low, high in undecided
    )
    return CriticalPoints(tuple(points), names, box, completeness, turns, boxes, tuple(notes), {})


def _sum_of_indices(points: list[CriticalPoint]) -> int:
    return sum(point.turns for point in points)


def _bounds(problem: newton.Problem) -> tuple[krawczyk.Bounds, int]:
    """Bounds of gradient and Hessian over boxes, and how many boxes may be looked at."""

    def one(point: jax.Array) -> tuple:
        return newton.derivatives(problem.loss, problem.plane, problem.data, point)[1:]

    shape = jax.ShapeDtypeStruct((krawczyk.AT_ONCE, 2), jnp.float64)
    enclosed = enclosure(jax.vmap(one), shape)

    def bounds(boxes: Interval) -> tuple[Interval, Interval]:
        gradient, hessian = enclosed(boxes)
        return gradient, hessian

    most = int(_MOST_NUMBERS / enclosed.numbers * krawczyk.AT_ONCE)
    return krawczyk.in_parts(bounds), min(most, _MOST_BOXES)


def _proved(
    problem: newton.Problem, bounds: krawczyk.Bounds, found: newton.Sorted, most: int
) -> tuple[list[CriticalPoint], krawczyk.Proof]:
    """The points with what is proved of each, and what is proved of the rest of the box."""
    points = [*found.points, *found.flat]
    places = np.array([(point.a, point.b) for point in points]).reshape(-1, 2)
    half = krawczyk.unique_around(bounds, places, problem.widths)
    sides = half[:, None] * problem.widths
    known = np.stack([places - sides, places + sides], axis=1)[half > 0]
    low = problem.low
    proof = krawczyk.search(bounds, low, low + problem.widths, known, most)
    hessian = problem.at(places).hessian if len(places) else np.zeros((0, 2, 2))
    kept = [
        # Where a point is alone for certain its Hessian is not singular, whatever its scale.
        newton.by_hessian(point, hessian[k] * np.outer(problem.widths, problem.widths))._replace(
            radius=float(sides[k].min()), certified=True
        )
        if half[k] > 0
        else point
        for k, point in enumerate(points)
        # Of points that are not proved those are left that are not disproved either.
        if half[k] > 0 or (k < len(found.points) and _within(places[k], proof.undecided))
    ]
    return kept, proof


def _within(place: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether a place lies in one of some boxes (n, 2, 2), their borders counted in."""
    return bool(((boxes[:, 0] <= place) & (place <= boxes[:, 1])).all(axis=1).any())
