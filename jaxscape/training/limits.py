"""The limits of descents: stationary points, classified by curvature, and valleys."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import Params
from jaxscape.losses.checks import scalar

_MAX_PARAMETERS = 64
_NEWTON_STEPS = 30
# Safety factor on the gradient that the Hessian at a limit predicts at a stop. The gradient itself
# is within the tolerance, but the loss is only nearly quadratic.
_GRADIENT_FACTOR = 4
# After more failures of Newton's method than this, all other stops are assigned to valleys. After
# as many runs of it that end at known limits, only stops that are near none start another one.
_MAX_FAILURES = 64
_STOPS_AT_ONCE = 1024


class Limit(NamedTuple):
    """A point or region in which descents end."""

    kind: str
    """The kind: "minimum", "saddle", "maximum", "valley", "diverged" or "unfinished"."""
    params: Params
    """The stationary point, or the lowest stop in a valley; None if diverged or unfinished."""
    loss: float
    """The loss at `params`; NaN if diverged or unfinished."""
    eigenvalues: np.ndarray | None
    """(p,) eigenvalues of the Hessian at `params`, increasing; None if diverged or unfinished."""
    starts: int
    """The number of starts that end here."""


class _Structure(NamedTuple):
    """Convert points, (p,), to pytrees of parameters."""

    tree: Any
    shapes: tuple[tuple[int, ...], ...]

    def __call__(self, point: Any) -> Params:
        ends = list(itertools.accumulate(map(math.prod, self.shapes), initial=0))
        leaves = [
            point[start:end].reshape(shape)
            for (start, end), shape in zip(itertools.pairwise(ends), self.shapes, strict=True)
        ]
        return jax.tree.unflatten(self.tree, leaves)


def check_parameter_count(params: Params) -> None:
    """Check that the parameters are few enough to compute a Hessian at every stop."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    if count > _MAX_PARAMETERS:
        raise ValueError(
            f"plane: expected at most {_MAX_PARAMETERS} parameters, because limits are classified "
            f"by their Hessians, got {count}"
        )


def find_limits(
    loss: Callable,
    data: Any,
    starts: Params,
    params: Params,
    *,
    stopped: np.ndarray,
    diverged: np.ndarray,
    tolerance: float,
) -> tuple[tuple[Limit, ...], np.ndarray, np.ndarray]:
    """Find the limits of descents and assign each descent to one.

    Args:
        loss: (params, data) -> scalar.
        data: the data of the loss.
        starts: the starts of the descents, each leaf with a leading axis of n.
        params: the ends of the descents, each leaf with a leading axis of n.
        stopped: (n,) bool, whether the gradient at the end is within the tolerance.
        diverged: (n,) bool.
        tolerance: the norm of the gradient at which descents stop.

    Returns:
        The limits, the index of each descent's limit, (n,), and the losses at the ends, (n,).
    """
    count, leaves = len(stopped), jax.tree.leaves(params)
    structure = _Structure(jax.tree.structure(params), tuple(leaf.shape[1:] for leaf in leaves))
    start_points, points = (
        np.concatenate([np.reshape(leaf, (count, -1)) for leaf in jax.tree.leaves(tree)], axis=1)
        for tree in (starts, params)
    )
    evaluated = _evaluate_stops(loss, structure, points, data)
    losses, gradients, step_lengths, regular = map(np.asarray, evaluated)
    nearest = _NearestPoints(points, gradients, stopped, tolerance)
    stationary: list[tuple[np.ndarray, np.ndarray]] = []
    failures = repeats = 0
    # Stops with a short Newton step are near a stationary point, so they come first.
    for k in np.argsort(np.where(stopped & regular, step_lengths, np.inf), kind="stable"):
        if not (stopped[k] & regular[k]) or failures > _MAX_FAILURES:
            break
        if nearest.is_certain[k] or (nearest.label[k] >= 0 and repeats > _MAX_FAILURES):
            continue
        newton = _newton(loss, structure, points[k], data)
        point, hessian, eigenvalues, step_length = map(np.asarray, newton)
        resolution = nearest.resolution(point)
        if not (
            step_length <= resolution
            and _is_regular(eigenvalues)
            and nearest.is_near(point, hessian)[k]
        ):
            failures += 1
        elif any(np.linalg.norm(point - p) <= 4 * resolution for p, _ in stationary):
            repeats += 1
        else:
            stationary.append((point, eigenvalues))
            nearest.add(point, hessian)

    # A stop with a singular Hessian may lie at a stationary point that Newton's method cannot find.
    assigned = np.where(regular | nearest.is_certain, nearest.label, -1)
    label = np.full(count, -1, np.int32)
    limits: list[Limit] = []
    limit_points: list[tuple[float, ...]] = []

    def add(kind: str, members: np.ndarray, point: np.ndarray, eigenvalues: np.ndarray) -> None:
        value = float(_loss(loss, structure, point, data))
        limits.append(Limit(kind, structure(point), value, eigenvalues, int(members.sum())))
        limit_points.append(tuple(point.tolist()))
        label[members] = len(limits) - 1

    for index, (point, eigenvalues) in enumerate(stationary):
        positive = eigenvalues > 0
        kind = "minimum" if positive.all() else "saddle" if positive.any() else "maximum"
        if (members := assigned == index).any():
            add(kind, members, point, eigenvalues)
    remaining = np.flatnonzero(stopped & (label < 0))
    low, high = start_points.min(axis=0), start_points.max(axis=0)
    diagonal = float(np.linalg.norm(high - low))
    for component in _valleys(points[remaining], (low + high) / 2, diagonal):
        members = np.zeros(count, bool)
        members[remaining[component]] = True
        lowest = points[np.flatnonzero(members)[np.argmin(losses[members])]]
        _, hessian = _derivatives(loss, structure, lowest, data)
        add("valley", members, lowest, np.linalg.eigvalsh(np.asarray(hessian)))
    # Limits of equal loss, such as symmetric minima, are sorted by their parameters.
    order = sorted(range(len(limits)), key=lambda k: (limits[k].loss, limit_points[k]))
    sorted_limits = [limits[k] for k in order]
    label = np.append(np.argsort(order), -1).astype(np.int32)[label]
    for kind, members in (("diverged", diverged), ("unfinished", ~stopped & ~diverged)):
        if members.any():
            label[members] = len(sorted_limits)
            sorted_limits.append(Limit(kind, None, np.nan, None, int(members.sum())))
    return tuple(sorted_limits), label, losses


class _NearestPoints:
    """The nearest stationary point of each stop, in terms of the gradient.

    Near a stationary point p* with Hessian H, the gradient at p is H (p - p*). Distances alone
    would not do: along a direction of small curvature, the gradient is small far from p*, also at
    other stationary points.
    """

    def __init__(
        self, points: np.ndarray, gradients: np.ndarray, stopped: np.ndarray, tolerance: float
    ) -> None:
        self._points, self._gradients, self._stopped = points, gradients, stopped
        self._tolerance = tolerance
        count = len(points)
        self.label = np.full(count, -1)
        """(n,) int: the number of the nearest stationary point; -1 if none is near."""
        self.is_certain = np.zeros(count, bool)
        """(n,) bool: whether the gradient agrees with that of the nearest stationary point."""
        self._error = np.full(count, np.inf)
        self._added = 0

    def resolution(self, point: np.ndarray) -> float:
        """Return the distance below which points cannot be distinguished from `point`."""
        return float(np.sqrt(np.finfo(self._points.dtype).eps) * (1 + np.linalg.norm(point)))

    def is_near(self, point: np.ndarray, hessian: np.ndarray) -> np.ndarray:
        """Return whether each stop may belong to a stationary point, (n,) bool."""
        return self._compare(point, hessian)[0]

    def add(self, point: np.ndarray, hessian: np.ndarray) -> None:
        """Assign stops to a stationary point if their gradient agrees with it best."""
        near, certain, error = self._compare(point, hessian)
        better = near & (error < self._error)
        self.label[better] = self._added
        self.is_certain[better] = certain[better]
        self._error[better] = error[better]
        self._added += 1

    def _compare(
        self, point: np.ndarray, hessian: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return, (n,), whether stops are near and certain, and the errors of their gradients.

        The gradient at a stop near the point is at most `tolerance`, up to a safety factor, and
        does not point to the other side. It is certain if it also agrees within a factor of 2.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            offset = self._points - point
            predicted = offset @ hessian
            size = np.linalg.norm(predicted, axis=1)
            error = np.linalg.norm(self._gradients - predicted, axis=1)
            same_side = np.sum(self._gradients * predicted, axis=1) >= 0
            at_point = np.linalg.norm(offset, axis=1) <= self.resolution(point)
            near = at_point | (same_side & (size <= _GRADIENT_FACTOR * self._tolerance))
            certain = at_point | (near & (error <= size / 2))
        return self._stopped & near, self._stopped & certain, error


def _is_regular(eigenvalues: Any) -> jax.Array:
    """Return whether a Hessian with these eigenvalues is not singular up to rounding, () bool."""
    size = jnp.abs(eigenvalues)
    return jnp.min(size) > jnp.sqrt(jnp.finfo(size.dtype).eps) * jnp.max(size)


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _loss(loss: Callable, structure: _Structure, point: jax.Array, data: Any) -> jax.Array:
    return scalar(loss(structure(point), data))


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _derivatives(
    loss: Callable, structure: _Structure, point: jax.Array, data: Any
) -> tuple[jax.Array, jax.Array]:
    """Return the gradient, (p,), and the Hessian, (p, p)."""

    def value(point: jax.Array) -> jax.Array:
        return _loss(loss, structure, point, data)

    return jax.grad(value)(point), jax.hessian(value)(point)


def _newton_step(gradient: jax.Array, hessian: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return Newton's step, (p,), and the eigenvalues of the Hessian, (p,)."""
    eigenvalues, vectors = jnp.linalg.eigh(hessian)
    divisors = jnp.where(eigenvalues == 0, 1, eigenvalues)
    step = -vectors @ jnp.where(eigenvalues == 0, 0, (vectors.T @ gradient) / divisors)
    return step, eigenvalues


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _evaluate_stops(
    loss: Callable, structure: _Structure, points: jax.Array, data: Any
) -> tuple[jax.Array, ...]:
    """Evaluate the loss at n stops.

    Returns:
        The losses, (n,), the gradients, (n, p), the lengths of Newton's step, (n,), and whether the
        Hessians are regular, (n,).
    """

    def evaluate(point: jax.Array) -> tuple[jax.Array, ...]:
        gradient, hessian = _derivatives(loss, structure, point, data)
        step, eigenvalues = _newton_step(gradient, hessian)
        value = _loss(loss, structure, point, data)
        return value, gradient, jnp.linalg.norm(step), _is_regular(eigenvalues)

    return jax.lax.map(evaluate, points, batch_size=min(len(points), _STOPS_AT_ONCE))


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _newton(
    loss: Callable, structure: _Structure, point: jax.Array, data: Any
) -> tuple[jax.Array, ...]:
    """Run Newton's method.

    Returns:
        The end, (p,), the Hessian and its eigenvalues there, and the length of the last step.
    """

    def advance(_: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        point, _ = state
        step, _ = _newton_step(*_derivatives(loss, structure, point, data))
        return point + step, jnp.linalg.norm(step)

    start = point, jnp.zeros((), point.dtype)
    point, length = jax.lax.fori_loop(0, _NEWTON_STEPS, advance, start)
    gradient, hessian = _derivatives(loss, structure, point, data)
    return point, hessian, _newton_step(gradient, hessian)[1], length


def _valleys(points: np.ndarray, center: np.ndarray, diagonal: float) -> list[np.ndarray]:
    """Group the stops in valleys into connected components.

    Stops farther than a diagonal of the grid from its center are moved back to that distance, so
    that only their direction counts.

    Returns:
        The indices of the stops of each valley.
    """
    offsets = points - center
    distance = np.linalg.norm(offsets, axis=1, keepdims=True)
    near = offsets * np.minimum(1, diagonal / np.maximum(distance, np.finfo(float).tiny))
    return _connected_components(near, diagonal / 20)


def _connected_components(points: np.ndarray, side: float) -> list[np.ndarray]:
    """Group points into connected components, by boxes of the given side that touch.

    Returns:
        The indices of the points of each component.
    """
    boxes, box_of_point = np.unique(np.round(points / side), axis=0, return_inverse=True)
    remaining, components = np.ones(len(boxes), bool), []
    while remaining.any():
        front = np.zeros(len(boxes), bool)
        front[np.argmax(remaining)] = True
        members = front.copy()
        while front.any():
            edge = boxes[front]
            front = np.zeros(len(boxes), bool)
            for box in edge:
                front |= (np.abs(boxes - box) <= 1).all(axis=1)
            front &= ~members
            members |= front
        remaining &= ~members
        components.append(np.flatnonzero(members[box_of_point.reshape(-1)]))
    return components
