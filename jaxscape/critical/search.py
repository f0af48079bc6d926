"""Find the critical points of a smooth loss in a box of a plane, and prove that they are all."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import check_type
from jaxscape._util.jaxpr import constants
from jaxscape._util.percent import percent
from jaxscape._util.pytree import in_float64
from jaxscape.critical import krawczyk, newton, winding
from jaxscape.critical.enclosure import Enclosure, Unbounded, enclosure
from jaxscape.critical.interval import Interval
from jaxscape.critical.points import (
    Box,
    Completeness,
    CriticalPoint,
    CriticalPoints,
    Unsearchable,
)
from jaxscape.critical.two_weights import stationary
from jaxscape.losses.checks import check_is_function
from jaxscape.losses.function import Function
from jaxscape.planes.plane import Plane, weight_plane

# Nodes along each side of the first grid of candidates, and the number of refinements, each of
# which doubles the number of cells along a side.
_NODES, _REFINEMENTS = 49, 3
_MAX_EVALUATIONS = 1e8
"""A grid is refined only up to this number of nodes times samples."""
_MIN_FLAT_FRACTION = 0.01
"""A note reports flat nodes if they are more than this fraction."""
_BOUNDARY_POINTS = 512
"""The initial number of points along the boundary of the box."""
_MAX_BOXES, _MAX_NUMBERS = 60_000, 5e8
"""Limits of a proof: boxes examined, and numbers computed for them. It takes up to a few tens of
seconds."""
_MAX_BATCH_NUMBERS, _BATCH_NUMBERS = 2e7, 2e6
"""The numbers above which a batch of boxes is split, and the numbers in each part, which fit into
the cache."""


def critical_points(
    loss: Callable[[Any, Any], jax.Array],
    data: Any = None,
    plane: Plane | None = None,
    **box: tuple[float, float],
) -> CriticalPoints:
    """Find the critical points of a loss in a box, in float64, and try to prove that they are all.

    For the squared error of the two-weight network f(x) = w2·tanh(w1·x), the critical points are
    roots of equations in w1 alone. These are isolated and certified for any data.

    For other losses, Newton's method starts in the cells of a grid in which the gradient may
    vanish. If interval arithmetic supports all operations of the loss, the Krawczyk operator
    (Krawczyk 1969) proves each point and gives it a radius in which it is the only one, and the box
    is bisected until the gradient is proved not to vanish in the rest. Otherwise the sum of the
    points' indices is compared with the winding number of the gradient along the boundary
    (Poincaré and Hopf).

    Args:
        loss: (params, data) -> scalar, twice differentiable; `Function(f)` for a function of two
            numbers.
        data: the second argument of the loss; its numbers are converted to float64.
        plane: the plane through the parameters; None for the plane of the two weights.
        box: the box, as (lo, hi) for each of the plane's two names (`w1` and `w2` for the two
            weights).

    Returns:
        A `CriticalPoints`. For the two-weight network, its `limits` hold the loss minimized over w2
        as w1 → 0 (`w1_to_0`) and as w1 → ±∞ (`w1_to_infinity`), the infimum over the plane
        (`infimum`), whether it is `attained` (None if that is not proved), and the |w1| up to which
        the search is complete (`searched_to`).

    Raises:
        TypeError: `loss` is not a function of (params, data), or `plane` is not a `Plane`.
        ValueError: The box is empty or is not given by the plane's names, losses or their
            derivatives are not finite in it, or the loss computes in less than float64.

    Warns:
        InterruptedWarning: Ctrl-C stopped the search; `undecided` holds the rest of the box.

    Example:
        >>> def himmelblau(w1, w2):
        ...     return (w1**2 + w2 - 11) ** 2 + (w1 + w2**2 - 7) ** 2
        >>> found = jxs.critical_points(jxs.Function(himmelblau), w1=(-5, 5), w2=(-5, 5))
        >>> len(found.of_kind("minimum")), len(found.of_kind("saddle")), found.completeness
        (4, 4, 'proved')
    """
    check_is_function("loss", loss)
    plane = weight_plane() if plane is None else plane
    check_type("plane", plane, Plane)
    sides = parse_box(plane, box)
    if stationary.applies(loss, data, plane):
        return stationary.stationary_points(data, sides, plane.names)
    with jax.enable_x64(True):
        plane, data = in_float64((plane, data))
        return _search_box(newton.Problem(loss, plane, data, sides))


def parse_box(plane: Plane, box: dict[str, Any]) -> Box:
    """Check a box given by the plane's names and return its sides in the plane's order."""
    if set(box) != set(plane.names):
        raise ValueError(
            f"box: expected {plane.names[0]}=(lo, hi) and {plane.names[1]}=(lo, hi), "
            f"got {', '.join(box) or 'none'}"
        )
    sides = []
    for name in plane.names:
        side = box[name]
        if not isinstance(side, tuple) or len(side) != 2:
            raise ValueError(f"{name}: expected a tuple (lo, hi), got {side!r}")
        low, high = map(float, side)
        if not (np.isfinite([low, high, high - low]).all() and low < high):
            raise ValueError(f"{name}: expected finite lo < hi, got {low:g} and {high:g}")
        sides.append((low, high))
    return sides[0], sides[1]


def _search_box(problem: newton.Problem) -> CriticalPoints:
    names, box = problem.plane.names, problem.box
    _check_loss(problem)
    turns: int | None = None
    starts, found = np.zeros((0, 2)), newton.Classified([], [], ())
    samples = _rows(problem)
    for refinement in range(_REFINEMENTS + 1):
        nodes = ((_NODES - 1) << refinement) + 1
        if refinement and nodes**2 * samples > _MAX_EVALUATIONS:
            break
        grid = newton.sample_grid(problem, nodes)
        if grid.smoothness == "gradient jumps":
            note = "the loss has kinks or jumps in this box, which its derivatives do not show"
            return CriticalPoints((), names, box, "incomplete", None, (), (note,), {})
        if not refinement:
            problem = problem._replace(scale=grid.scale)
            turns = winding.winding_number(
                problem.scaled_gradient, winding.boundary(box), _BOUNDARY_POINTS
            )
        starts = np.concatenate([starts, problem.roots(grid.candidates)])
        found = newton.classify(problem, starts, grid.steepest)
        if turns is None or _sum_of_indices(found.points) == turns:
            break
    notes = list(found.notes)
    if grid.smoothness == "Hessian jumps":
        notes.append(
            "the Hessian jumps in this box: the kind of a point on a jump is that of one side"
        )
    if grid.flat > _MIN_FLAT_FRACTION:
        notes.append(f"the gradient is below rounding errors at {percent(grid.flat)} of the grid")
    points, undecided = found.points, np.array([np.array(box).T])
    try:
        bounds, max_boxes = _derivative_bounds(problem)
    except Unbounded as error:
        notes.append(f"nothing is proved: interval arithmetic does not support {error}")
    else:
        while True:
            points, proof = _prove(problem, bounds, found, max_boxes)
            max_boxes -= proof.examined
            undecided = proof.undecided
            # The proof may find roots that Newton's method missed: classify them and start again.
            retry = newton.classify(
                problem, np.concatenate([starts, problem.roots(proof.new_roots)]), grid.steepest
            )
            more = len(retry.points) + len(retry.flat) - len(found.points) - len(found.flat)
            if more <= 0 or max_boxes <= 0:
                break
            found = retry
        # Add the roots that are proved to exist, but to which Newton's method does not converge.
        undecided = np.concatenate([undecided, np.repeat(proof.new_roots[:, None], 2, axis=1)])
    if not len(undecided):
        # The proof has refuted the curves of stationary points.
        notes = [note for note in notes if note not in found.notes]
    points = sorted(points, key=lambda point: (point.loss, point.a, point.b))
    by_index = turns is not None and _sum_of_indices(points) == turns
    completeness: Completeness = (
        "proved" if not len(undecided) else "index" if by_index else "incomplete"
    )
    boxes = tuple(
        ((float(low[0]), float(high[0])), (float(low[1]), float(high[1])))
        for low, high in undecided
    )
    return CriticalPoints(tuple(points), names, box, completeness, turns, boxes, tuple(notes), {})


def _check_loss(problem: newton.Problem) -> None:
    """Check that the loss takes (params, data) and computes in float64."""
    given = problem.loss, problem.plane, problem.data
    try:
        value = jax.eval_shape(lambda p: newton.derivatives(*given, p)[0], jnp.zeros(2))
    except TypeError as error:
        if problem.data is not None or isinstance(problem.loss, Function):
            raise
        raise TypeError(
            "loss: expected a function of (params, data), got an error from the call: "
            f"{error}; wrap a function f of two numbers as Function(f)"
        ) from error
    if value.dtype != jnp.float64:
        raise Unsearchable(
            f"loss: expected a float64 result for float64 parameters and data, got {value.dtype}; "
            "the search for critical points needs float64 throughout"
        )


def _rows(problem: newton.Problem) -> int:
    """Return the largest first axis of the data and of the arrays in the loss."""
    given = problem.loss, problem.plane, problem.data
    traced = jax.make_jaxpr(lambda p: newton.derivatives(*given, p)[0])(jnp.zeros(2))
    arrays = [*jax.tree.leaves(problem.data), *constants(traced)]
    return max((np.shape(array)[0] for array in arrays if np.ndim(array)), default=1)


def _sum_of_indices(points: list[CriticalPoint]) -> int:
    return sum(point.turns for point in points)


def _derivative_bounds(problem: newton.Problem) -> tuple[krawczyk.DerivativeBounds, int]:
    """Return bounds on gradient and Hessian over boxes, and the number of boxes to examine.

    Raises:
        Unbounded: The loss has an operation that interval arithmetic does not support.
    """

    def at_point(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        return newton.derivatives(problem.loss, problem.plane, problem.data, point)[1:]

    def in_one_call(size: int) -> Enclosure:
        return enclosure(jax.vmap(at_point), jax.ShapeDtypeStruct((size, 2), jnp.float64))

    size, enclosed = krawczyk.BATCH_SIZE, in_one_call(krawczyk.BATCH_SIZE)
    max_boxes = int(_MAX_NUMBERS / enclosed.numbers * size)
    if enclosed.numbers > _MAX_BATCH_NUMBERS:
        size = max(1, int(size * _BATCH_NUMBERS / enclosed.numbers))
        enclosed = in_one_call(size)

    def bounds(boxes: Interval) -> tuple[Interval, Interval]:
        gradient, hessian = enclosed(boxes)
        return gradient, hessian

    return krawczyk.in_batches(bounds, size), min(max_boxes, _MAX_BOXES)


def _prove(
    problem: newton.Problem,
    bounds: krawczyk.DerivativeBounds,
    found: newton.Classified,
    max_boxes: int,
) -> tuple[list[CriticalPoint], krawczyk.Proof]:
    """Certify points where possible, examine the rest of the box, and drop the refuted points.

    Returns:
        The remaining points, and the proof for the box without the certified ones.
    """
    points = [*found.points, *found.flat]
    positions = np.array([(point.a, point.b) for point in points]).reshape(-1, 2)
    radii = krawczyk.uniqueness_radii(bounds, positions, problem.widths)
    half = radii[:, None] * problem.widths
    known = np.stack([positions - half, positions + half], axis=1)[radii > 0]
    low = problem.low
    proof = krawczyk.search(bounds, low, low + problem.widths, known, max_boxes)
    hessian = problem.evaluate(positions).hessian if len(points) else np.zeros((0, 2, 2))
    kept = [
        # The Hessian of a point that is proved to be isolated is nonsingular, whatever its scale.
        newton.with_hessian_kind(
            point, hessian[k] * np.outer(problem.widths, problem.widths)
        )._replace(radius=float(half[k].min()), certified=True)
        if radii[k] > 0
        else point
        for k, point in enumerate(points)
        # Keep a point that is not certified if it is not refuted.
        if radii[k] > 0 or (k < len(found.points) and _in_boxes(positions[k], proof.undecided))
    ]
    return kept, proof


def _in_boxes(position: np.ndarray, boxes: np.ndarray) -> bool:
    """Return whether a position lies in one of the boxes, (n, 2, 2), including their boundaries."""
    return bool(((boxes[:, 0] <= position) & (position <= boxes[:, 1])).all(axis=1).any())
