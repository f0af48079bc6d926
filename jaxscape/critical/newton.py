"""Newton's method in float64 from all cells of a box in which a gradient can vanish.

Whether a loss is twice differentiable, by how far its derivatives explain its differences.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import in_full_precision
from jaxscape.critical import winding
from jaxscape.critical.points import Box, CriticalPoint, Unsearchable, kind_of, on_boundary
from jaxscape.losses.checks import scalar
from jaxscape.planes.plane import Plane

# Rounds of Newton's method, and steps in each; where it has converged or got lost, no more follow.
_ROUNDS, _STEPS = 5, 20
_AT_ONCE = 256
# Steps in units of the box. Degenerate points are approached by a fixed part a step only.
_EXACT, _CONVERGED = 1e-13, 1e-5
# Two points nearer than this, beside the box, are one; degenerate ones are found less sharply.
_SAME, _SAME_DEGENERATE = 1e-7, 1e-3
# Gradients below this, beside the largest in the box, are rounding.
_NOISE = 1e-13
# Of a Hessian beside the largest gradient: a smaller one may be that of a point nearby.
_FAINT = 1e-9
# How much more than at the nodes around it a Hessian may be within a cell.
_MARGIN = 1.5
# Where in a cell Newton's method starts, in units of the cell; no symmetry of a loss is theirs.
_OFFSETS = np.array([(0, 0), (0.31, 0.12), (-0.14, 0.37), (-0.33, -0.21), (0.17, -0.36)])


class Values(NamedTuple):
    """At points (n, 2)."""

    loss: np.ndarray
    """(n,)"""
    gradient: np.ndarray
    """(n, 2)"""
    hessian: np.ndarray
    """(n, 2, 2)"""


class Problem(NamedTuple):
    """A loss over a box of a plane; everything in float64, to be used under `jax.enable_x64`."""

    loss: Callable
    plane: Plane
    data: Any
    box: Box

    @property
    def low(self) -> np.ndarray:
        """(2,) the lower ends of the box."""
        return np.array(self.box)[:, 0]

    @property
    def widths(self) -> np.ndarray:
        """(2,) the sides of the box."""
        return np.array(self.box)[:, 1] - self.low

    def at(self, points: np.ndarray) -> Values:
        """The loss and its derivatives at points, (n, 2)."""
        found = _at(self.loss, self.plane, self.data, _filled(points))
        return Values(*(np.asarray(values)[: len(points)] for values in found))

    def slope(self, points: np.ndarray) -> np.ndarray:
        """The gradient in units of the box: loss over its whole side."""
        return self.at(points).gradient * self.widths

    def roots(self, starts: np.ndarray) -> np.ndarray:
        """Where Newton's method converges within the box, (r, 2), from starts (n, 2)."""
        found, high = [], self.low + self.widths
        left, slack = starts, 1e-12 * self.widths
        for _ in range(_ROUNDS):
            if not len(left):
                break
            given = (self.loss, self.plane, self.data, _filled(left), self.widths)
            ends, last = (np.asarray(part)[: len(left)] for part in _newton(*given))
            inside = ((ends >= self.low - slack) & (ends <= high + slack)).all(axis=1)
            near = (abs(ends - (self.low + high) / 2) <= 1.5 * self.widths).all(axis=1)
            done = last < _EXACT
            found.append(ends[inside & done])
            left, last = ends[near & ~done], last[near & ~done]
            inside = inside[near & ~done]
        if len(left):
            found.append(left[inside & (last < _CONVERGED)])
        return np.clip(np.concatenate([starts[:0], *found]), self.low, high)


def derivatives(loss: Callable, plane: Plane, data: Any, point: jax.Array) -> tuple:
    """Loss, gradient (2,) and Hessian (2, 2) in the plane's coordinates at one point, (2,)."""

    def value(a: jax.Array, b: jax.Array) -> jax.Array:
        return scalar(loss(plane.at(a, b), data))

    def slope(a: jax.Array, b: jax.Array) -> tuple:
        here, gradient = jax.value_and_grad(value, (0, 1))(a, b)
        return jnp.stack(gradient), (here, jnp.stack(gradient))

    columns, (here, gradient) = jax.jacfwd(slope, (0, 1), has_aux=True)(point[0], point[1])
    return here, gradient, jnp.stack(columns, axis=1)


def _filled(points: np.ndarray) -> np.ndarray:
    """Points up to a power of two, so that few programs are compiled."""
    size = 1 << max(len(points) - 1, 0).bit_length()
    return np.pad(points, ((0, size - len(points)), (0, 0)), mode="edge")


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _at(loss: Callable, plane: Plane, data: Any, points: jax.Array) -> tuple:
    def one(point: jax.Array) -> tuple:
        return derivatives(loss, plane, data, point)

    return jax.lax.map(one, points, batch_size=min(len(points), _AT_ONCE))


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _newton(loss: Callable, plane: Plane, data: Any, start: jax.Array, widths: jax.Array) -> tuple:
    """Where Newton's method leads from points (n, 2), and its last steps in units of the box."""

    def step(point: jax.Array) -> jax.Array:
        _, gradient, hessian = derivatives(loss, plane, data, point)
        (p, q), (_, s) = hessian * widths[:, None] * widths[None]
        u, v = -gradient * widths
        determinant, size = p * s - q * q, p * p + 2 * q * q + s * s
        # A Hessian of rank one, as along a valley, has a step too: the shortest one.
        regular = abs(determinant) > 1e-14 * size
        safe, whole = jnp.where(regular, determinant, 1), jnp.where(size > 0, size, 1)
        newton = jnp.stack([s * u - q * v, p * v - q * u]) / safe
        shortest = jnp.stack([p * u + q * v, q * u + s * v]) / whole
        found = jnp.where(regular, newton, shortest)
        length = jnp.linalg.norm(found)
        # No further than a quarter of the box.
        return found * jnp.minimum(1, 0.25 / jnp.where(length > 0, length, 1))

    def one(point: jax.Array) -> tuple:
        def body(_: Any, state: tuple) -> tuple:
            move = step(state[0])
            return state[0] + move * widths, jnp.linalg.norm(move)

        return jax.lax.fori_loop(0, _STEPS, body, (point, jnp.inf))

    return jax.lax.map(one, start, batch_size=min(len(start), _AT_ONCE))


class Lattice(NamedTuple):
    """What the nodes of a lattice tell."""

    candidates: np.ndarray
    """(n, 2) points of the cells in which the gradient can vanish."""
    steepest: float
    """The largest gradient found, in units of the box."""
    flat: float
    """The share of nodes at which the gradient is no more than rounding."""
    smoothness: str
    """"smooth", "Hessian jumps" or "gradient jumps"."""


def look(problem: Problem, nodes: int) -> Lattice:
    """Look at a box from a lattice of nodes × nodes.

    Raises:
        Unsearchable: gradients that are not finite.
    """
    low, widths = problem.low, problem.widths
    sides = [
        start + width * np.linspace(0, 1, nodes) for start, width in zip(low, widths, strict=True)
    ]
    points = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    loss, gradient, hessian = problem.at(points)
    known = np.isfinite(gradient).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
    lost = ~(known & np.isfinite(loss))
    if lost.any():
        (a, b), names = points[np.argmax(lost)], problem.plane.names
        raise Unsearchable(
            f"box: expected finite losses, gradients and Hessians, got {int(lost.sum())} of "
            f"{len(points)} that are not, the first at {names[0]} = {a:g}, {names[1]} = {b:g}"
        )
    spacing = widths / (nodes - 1)
    size = abs(hessian).reshape(nodes, nodes, 2, 2)
    reach = _MARGIN * (_largest_around(size) * spacing / 2).sum(axis=3).reshape(-1, 2)
    # Newton's method from one point of a cell may go round in a circle, or far away.
    slopes = np.hypot(*(gradient * widths).T)
    steepest = float(slopes.max())
    flat = slopes <= _NOISE * steepest
    in_flat = _largest_around(slopes.reshape(nodes, nodes)).ravel() <= _NOISE * steepest
    chosen = (abs(gradient) <= reach).all(axis=1) & ~in_flat
    starts = points[chosen] + spacing * _OFFSETS[:, None]
    candidates = np.clip(starts.reshape(-1, 2), low, low + widths)
    found = smoothness(problem.at, points, problem.box, spacing, steepest)
    return Lattice(candidates, steepest, float(flat.mean()), found)


def _largest_around(values: np.ndarray) -> np.ndarray:
    """The largest of each node's and its eight neighbors' values, (n, n, ...)."""
    n, *_ = values.shape
    padded = np.pad(values, ((1, 1), (1, 1), *[(0, 0)] * (values.ndim - 2)))
    return np.max([padded[i : i + n, j : j + n] for i in range(3) for j in range(3)], axis=0)


class Sorted(NamedTuple):
    """What the ends of Newton's method are."""

    points: list[CriticalPoint]
    """Critical points, without any proof."""
    flat: list[CriticalPoint]
    """Where all around the gradient is below rounding: critical points only if that is proved."""
    notes: tuple[str, ...]


def told_apart(problem: Problem, ends: np.ndarray, steepest: float) -> Sorted:
    """The critical points that ends of Newton's method are, each once."""
    if not len(ends):
        return Sorted([], [], ())
    # Most starts of a cell lead to the same point, but for rounding.
    cells = np.round((ends - problem.low) / problem.widths / _SAME)
    ends = ends[np.unique(cells, axis=0, return_index=True)[1]]
    ends = ends[np.argsort(np.hypot(*problem.slope(ends).T), kind="stable")]
    loss, gradient, hessian = problem.at(ends)
    curved = hessian * problem.widths[:, None] * problem.widths[None]
    scale = max(steepest, float(abs(curved).max()))
    kinds = [kind_of(values) for values in np.linalg.eigvalsh(curved)]
    largest = abs(curved).max(axis=(1, 2))
    degenerate = (np.array(kinds) == "degenerate") | (largest <= _FAINT * scale)
    # Of others Newton's method converges at once: the next step is rounding.
    safe = np.where(degenerate[:, None, None], np.eye(2), curved)
    step = np.linalg.solve(safe, (gradient * problem.widths)[:, :, None])[:, :, 0]
    points: list[CriticalPoint] = []
    flat: list[CriticalPoint] = []
    along = []
    scaled = (ends - problem.low) / problem.widths
    sharp = np.flatnonzero(~degenerate & (np.hypot(*step.T) <= _SAME))
    for k in _distinct(scaled, degenerate):
        is_flat, known, turns = False, True, _turns_of(curved[k])
        if degenerate[k]:
            # Between points that are told apart, Newton's method may creep.
            if (np.hypot(*(scaled[sharp] - scaled[k]).T) < 2 * _SAME_DEGENERATE).any():
                continue
            ring = winding.circle(ends[k], _SAME_DEGENERATE * problem.widths)
            rim = np.hypot(*problem.slope(ring(np.linspace(0, 1, 64))).T)
            is_flat = rim.max() <= _NOISE * scale
            around = turns if is_flat else winding.around(problem.slope, ring, 64)
            # Beside a degenerate point the Hessian need not be singular, but tells another index.
            faint = kinds[k] != "degenerate" and largest[k] > _NOISE * scale and around == turns
            turns, known = around, is_flat or faint
        elif k not in sharp:
            continue
        if turns is None:
            along.append(ends[k])
            continue
        a, b = map(float, ends[k])
        eigenvalues = np.linalg.eigvalsh(hessian[k])
        (flat if is_flat else points).append(
            CriticalPoint(
                a=a,
                b=b,
                kind=kinds[k] if known else "degenerate",
                loss=float(loss[k]),
                eigenvalues=eigenvalues,
                residual=float(np.hypot(*gradient[k])),
                turns=turns,
                radius=0.0,
                certified=False,
                on_boundary=on_boundary(problem.box, a, b),
            )
        )
    notes: tuple[str, ...] = ()
    if along:
        names, (a, b) = problem.plane.names, along[0]
        notes = (
            f"stationary points that are not isolated, as along a curve, for instance at "
            f"{names[0]} = {a:.6g}, {names[1]} = {b:.6g}",
        )
    return Sorted(points, flat, notes)


def by_hessian(point: CriticalPoint, hessian: np.ndarray) -> CriticalPoint:
    """A point with the kind and the index of a Hessian, of any scale, that is not singular."""
    size = np.sqrt(abs(hessian).max(axis=1))
    least, greatest = np.sign(np.linalg.eigvalsh(hessian / np.outer(size, size)))
    kind = "saddle" if least < greatest else "minimum" if least > 0 else "maximum"
    return point._replace(kind=kind, turns=int(least * greatest))


def _turns_of(hessian: np.ndarray) -> int | None:
    """The index of a critical point whose Hessian is not singular."""
    return round(float(np.sign(np.linalg.det(hessian))))


def _distinct(scaled: np.ndarray, degenerate: np.ndarray) -> list[int]:
    """Of points in units of the box, the first of each that are the same."""
    kept: list[int] = []
    for k in range(len(scaled)):
        distance = np.hypot(*(scaled[kept] - scaled[k]).T)
        if not (distance <= np.where(degenerate[kept], _SAME_DEGENERATE, _SAME)).any():
            kept.append(k)
    return kept


# How a rest falls from one distance to a quarter of it: by 64 where the loss is smooth, by 16 where
# its Hessian jumps, by 4 where its gradient does.
_SMOOTH, _STEADY = 1 / 30, 1 / 8


def smoothness(
    at: Callable, points: np.ndarray, box: Any, spacing: np.ndarray, steepest: float
) -> str:
    """ "smooth", "Hessian jumps", or "gradient jumps", as it does where the loss itself does.

    Of a smooth loss the difference of two gradients is the Hessian times their distance, but for a
    rest, and that of two losses the gradient times it. The rest falls with the cube of the distance
    where the loss is smooth, with its square where the Hessian jumps along a line, and no faster
    than the distance where the gradient does.
    """

    start, end = np.array(box).T
    widths = end - start

    def rest(part: float, places: int) -> np.ndarray:
        """The mean rests of loss and gradient over this part of a cell, to each side."""
        total = np.zeros(2)
        # Spread evenly over the cells: nodes are all at one distance from a straight kink.
        golden = np.array([0.7548776662466927, 0.5698402909980532])
        shifts = np.outer(np.arange(places * len(points)), golden) % 1 - 0.5
        spread = np.tile(points, (places, 1)) + spacing * shifts
        low, high = start + spacing / 2, end - spacing / 2
        inner = np.clip(spread, low, high)
        _, gradient, hessian = at(inner)
        for k in (0, 1):
            step = np.zeros(2)
            step[k] = part * spacing[k]
            ahead, behind = at(inner + step), at(inner - step)
            left = ahead.gradient - behind.gradient - 2 * step[k] * hessian[:, :, k]
            jump = ahead.loss - behind.loss - 2 * step[k] * gradient[:, k]
            total += abs(jump).mean(), abs(left * widths).sum(axis=1).mean()
        return total

    loss, gradient, hessian = at(points)
    # In a small box values differ by little more than the rounding of the coordinates makes.
    blur = 64 * np.finfo(float).eps * abs(points)
    shaken = (abs(hessian) @ blur[:, :, None])[:, :, 0] * widths
    noise = np.array(
        [
            1e-10 * np.ptp(loss)
            + 64 * np.finfo(float).eps * abs(loss).max()
            + (abs(gradient) * blur).sum(axis=1).max(),
            1e-10 * steepest + shaken.sum(axis=1).max(),
        ]
    )
    far, near = rest(1 / 2, 1), rest(1 / 8, 1)
    if (near > np.maximum(_SMOOTH * far, noise)).any():
        # What turns fast within a cell looks like kinks, but not from nearer.
        far, near = rest(1 / 8, 4), rest(1 / 32, 4)
    if near[0] > max(_STEADY * far[0], noise[0]) or near[1] > max(_STEADY * far[1], noise[1]):
        return "gradient jumps"
    return "smooth" if near[1] <= max(_SMOOTH * far[1], noise[1]) else "Hessian jumps"
