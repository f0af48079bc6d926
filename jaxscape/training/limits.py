"""The limits that descents reach: stationary points, told apart by curvature, and valleys."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import in_full_precision
from jaxscape.losses.checks import scalar

_MOST_PARAMETERS = 64
_NEWTON_STEPS = 30
# A stop is this many times nearer to its limit than where the tolerance would be reached, if the
# loss were a quadratic; it is not quite.
_SLACK = 4
# Stops that Newton's method leads nowhere, before all that are left are taken for valleys.
_MOST_FAILURES = 64
_STOPS_AT_ONCE = 1024


class Limit(NamedTuple):
    """Where descents end."""

    kind: str
    """"minimum", "saddle", "maximum", "valley", "diverged" or "unfinished"."""
    params: Any
    """The stationary point; of a valley the lowest stop, and None of the last two kinds."""
    loss: float
    """The loss there; NaN of the last two kinds."""
    eigenvalues: np.ndarray | None
    """(p,) of the Hessian there, in increasing order; None of the last two kinds."""
    starts: int
    """How many starts end here."""


class _Structure(NamedTuple):
    """How the numbers of a point, (p,), make parameters."""

    tree: Any
    shapes: tuple[tuple[int, ...], ...]

    def __call__(self, point: Any) -> Any:
        ends = list(itertools.accumulate(map(math.prod, self.shapes), initial=0))
        leaves = [
            point[start:end].reshape(shape)
            for (start, end), shape in zip(itertools.pairwise(ends), self.shapes, strict=True)
        ]
        return jax.tree.unflatten(self.tree, leaves)


def check_size(params: Any) -> None:
    """Refuse more parameters than a Hessian of is taken at every stop."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    if size > _MOST_PARAMETERS:
        raise ValueError(
            f"plane: expected at most {_MOST_PARAMETERS} parameters, to tell limits apart by "
            f"their curvature, got {size}"
        )


def tell_apart(
    loss: Callable,
    data: Any,
    starts: Any,
    params: Any,
    *,
    stopped: np.ndarray,
    diverged: np.ndarray,
    tolerance: float,
) -> tuple[tuple[Limit, ...], np.ndarray, np.ndarray]:
    """Limits, and which of them each descent reached.

    Args:
        loss: (params, data) -> scalar.
        data: what the loss takes.
        starts: where descents began, each leaf with a leading axis of n.
        params: where they ended, likewise.
        stopped: (n,) bool: the gradient is within the tolerance there.
        diverged: (n,) bool.
        tolerance: the norm of the gradient at which descents stop.

    Returns:
        The limits, the index of each descent's, (n,), and the losses at the ends, (n,).
    """
    count, leaves = len(stopped), jax.tree.leaves(params)
    structure = _Structure(jax.tree.structure(params), tuple(leaf.shape[1:] for leaf in leaves))
    begun, points = (
        np.concatenate([np.reshape(leaf, (count, -1)) for leaf in jax.tree.leaves(tree)], axis=1)
        for tree in (starts, params)
    )
    losses, lengths, curved = map(np.asarray, _at_stops(loss, structure, points, data))
    label = np.full(count, -1, np.int32)
    found: list[Limit] = []
    places: list[tuple] = []

    def add(kind: str, members: np.ndarray, point: np.ndarray, eigenvalues: np.ndarray) -> None:
        value = float(_loss(loss, structure, point, data))
        found.append(Limit(kind, structure(point), value, eigenvalues, int(members.sum())))
        places.append(tuple(point.tolist()))
        label[members] = len(found) - 1

    epsilon = np.finfo(points.dtype).eps
    failures = 0
    # Where Newton's step is shortest the stationary point is nearest.
    for k in np.argsort(np.where(stopped & curved, lengths, np.inf), kind="stable"):
        if not (stopped[k] & curved[k]) or failures > _MOST_FAILURES:
            break
        if label[k] >= 0:
            continue
        point, eigenvalues, length = map(np.asarray, _newton(loss, structure, points[k], data))
        least = np.abs(eigenvalues).min()
        near = _SLACK * tolerance / max(least, np.finfo(least.dtype).tiny) + np.sqrt(epsilon) * (
            1 + np.linalg.norm(point)
        )
        distance = np.full(count, np.inf)
        distance[stopped] = np.linalg.norm(points[stopped] - point, axis=1)
        converged = length <= np.sqrt(epsilon) * (1 + np.linalg.norm(point))
        if not (converged and _is_curved(eigenvalues) and distance[k] <= near):
            failures += 1
            continue
        signs = eigenvalues > 0
        kind = "minimum" if signs.all() else "maximum" if not signs.any() else "saddle"
        add(kind, stopped & (label < 0) & (distance <= near), point, eigenvalues)
    left = np.flatnonzero(stopped & (label < 0))
    low, high = begun.min(axis=0), begun.max(axis=0)
    for component in _valleys(points[left], (low + high) / 2, float(np.linalg.norm(high - low))):
        members = np.zeros(count, bool)
        members[left[component]] = True
        lowest = points[np.flatnonzero(members)[np.argmin(losses[members])]]
        _, hessian = _derivatives(loss, structure, lowest, data)
        add("valley", members, lowest, np.linalg.eigvalsh(np.asarray(hessian)))
    # Of equal losses, as symmetric minima have, the one with the smaller parameters comes first.
    order = sorted(range(len(found)), key=lambda k: (found[k].loss, places[k]))
    limits = [found[k] for k in order]
    label = np.append(np.argsort(order), -1).astype(np.int32)[label]
    for kind, members in (("diverged", diverged), ("unfinished", ~stopped & ~diverged)):
        if members.any():
            label[members] = len(limits)
            limits.append(Limit(kind, None, np.nan, None, int(members.sum())))
    return tuple(limits), label, losses


def _is_curved(eigenvalues: Any) -> Any:
    """Whether the Hessian is far from singular, beside its rounding."""
    size = jnp.abs(eigenvalues)
    return jnp.min(size) > jnp.sqrt(jnp.finfo(size.dtype).eps) * jnp.max(size)


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _loss(loss: Callable, structure: Callable, point: jax.Array, data: Any) -> jax.Array:
    return scalar(loss(structure(point), data))


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _derivatives(loss: Callable, structure: Callable, point: jax.Array, data: Any) -> tuple:
    def value(point: jax.Array) -> jax.Array:
        return _loss(loss, structure, point, data)

    return jax.grad(value)(point), jax.hessian(value)(point)


def _newton_step(loss: Callable, structure: Callable, point: jax.Array, data: Any) -> tuple:
    """Newton's step, and the eigenvalues of the Hessian."""
    gradient, hessian = _derivatives(loss, structure, point, data)
    eigenvalues, vectors = jnp.linalg.eigh(hessian)
    safe = jnp.where(eigenvalues == 0, 1, eigenvalues)
    step = -vectors @ jnp.where(eigenvalues == 0, 0, (vectors.T @ gradient) / safe)
    return step, eigenvalues


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _at_stops(loss: Callable, structure: Callable, points: jax.Array, data: Any) -> tuple:
    """At every point: the loss, the length of Newton's step, whether the Hessian is curved."""

    def one(point: jax.Array) -> tuple:
        step, eigenvalues = _newton_step(loss, structure, point, data)
        length = jnp.linalg.norm(step)
        return _loss(loss, structure, point, data), length, _is_curved(eigenvalues)

    return jax.lax.map(one, points, batch_size=min(len(points), _STOPS_AT_ONCE))


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _newton(loss: Callable, structure: Callable, point: jax.Array, data: Any) -> tuple:
    """Where Newton's method leads, the eigenvalues there, and the length of the last step."""

    def one(_: Any, state: tuple) -> tuple:
        point, _ = state
        step, _ = _newton_step(loss, structure, point, data)
        return point + step, jnp.linalg.norm(step)

    point, length = jax.lax.fori_loop(0, _NEWTON_STEPS, one, (point, jnp.zeros((), point.dtype)))
    return point, _newton_step(loss, structure, point, data)[1], length


def _valleys(points: np.ndarray, center: np.ndarray, diagonal: float) -> list[np.ndarray]:
    """Indices of the stops of each valley; of stops beyond a diagonal, the direction counts."""
    away = points - center
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    near = away * np.minimum(1, diagonal / np.maximum(distance, np.finfo(float).tiny))
    return _components(near, diagonal / 20)


def _components(points: np.ndarray, reach: float) -> list[np.ndarray]:
    """Indices of points that hang together, by boxes of side `reach` that touch."""
    boxes, box_of = np.unique(np.round(points / reach), axis=0, return_inverse=True)
    left, components = np.ones(len(boxes), bool), []
    while left.any():
        front = np.zeros(len(boxes), bool)
        front[np.argmax(left)] = True
        members = front.copy()
        while front.any():
            edge = boxes[front]
            front = np.zeros(len(boxes), bool)
            for box in edge:
                front |= (np.abs(boxes - box) <= 1).all(axis=1)
            front &= ~members
            members |= front
        left &= ~members
        components.append(np.flatnonzero(members[box_of.reshape(-1)]))
    return components
