"""Newton's method in float64, started in each cell of a box in which the gradient may vanish.

This module also tests whether a loss is twice differentiable: it compares differences of losses and
gradients with their derivatives.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.blocks import run_blocks
from jaxscape._util.devices import in_full_precision
from jaxscape.critical import winding
from jaxscape.critical.points import Box, CriticalPoint, Kind, Unsearchable, kind_of, on_boundary
from jaxscape.losses.checks import scalar
from jaxscape.planes.plane import Plane

Smoothness = Literal["smooth", "Hessian jumps", "gradient jumps"]
"""The smoothness of a loss. A loss that jumps counts as one whose gradient jumps."""

# Rounds of Newton's method, and steps in each. Only points that have neither converged nor left the
# box go on to the next round.
_ROUNDS, _STEPS = 5, 20
_BATCH_SIZE = 256
# Points in a call of a compiled function. The progress bar advances after each.
_BLOCK_SIZE = 4 * _BATCH_SIZE
# Tolerances of the last step, in units of the box: converged up to rounding, and converged roughly.
# Steps toward a degenerate point shrink by a constant factor only.
_EXACT_TOL, _CONVERGED_TOL = 1e-13, 1e-5
# Points closer than this, in units of the box, are the same. Degenerate points are located less
# accurately.
_SAME_TOL, _SAME_DEGENERATE_TOL = 1e-7, 1e-3
# Gradients below this fraction of the largest one in the box are rounding errors.
_NOISE_TOL = 1e-13
# A Hessian below this fraction of the largest gradient or Hessian may belong to a degenerate point
# nearby.
_FAINT_TOL = 1e-9
# Assumed bound on the Hessian inside a cell, relative to the largest one at the nodes around it.
_MARGIN = 1.5
_MAX_EXPONENT = 930
"""The largest power of two that a derivative may reach, in units of the box; 2^930 is 1e280."""
# Starts of Newton's method in a cell, in units of the cell. They avoid the symmetries of a loss.
_OFFSETS = np.array([(0, 0), (0.31, 0.12), (-0.14, 0.37), (-0.33, -0.21), (0.17, -0.36)])


class Values(NamedTuple):
    """The loss and its derivatives at n points."""

    loss: np.ndarray
    """(n,)"""
    gradient: np.ndarray
    """(n, 2)"""
    hessian: np.ndarray
    """(n, 2, 2)"""


class Problem(NamedTuple):
    """A loss over a box of a plane, all in float64; use it under `jax.enable_x64`."""

    loss: Callable
    plane: Plane
    data: Any
    box: Box
    scale: float = 1.0
    """A power of two by which Newton's method multiplies the loss, so that squares of second
    derivatives neither vanish nor overflow."""

    @property
    def low(self) -> np.ndarray:
        """The lower ends of the box, (2,)."""
        return np.array(self.box)[:, 0]

    @property
    def widths(self) -> np.ndarray:
        """The side lengths of the box, (2,)."""
        return np.array(self.box)[:, 1] - self.low

    def evaluate(self, points: np.ndarray) -> Values:
        """Compute the loss and its derivatives at points, (n, 2)."""
        return Values(
            *_in_blocks(lambda block: _evaluate(self.loss, self.plane, self.data, block), points)
        )

    def scaled_gradient(self, points: np.ndarray) -> np.ndarray:
        """Compute the gradient at points, (n, 2), with the sides of the box as units."""
        return self.evaluate(points).gradient * self.widths

    def roots(self, starts: np.ndarray) -> np.ndarray:
        """Return the roots in the box, (r, 2), that Newton's method finds from starts, (n, 2)."""
        roots, high = [], self.low + self.widths
        remaining, tolerance = starts, 1e-12 * self.widths
        for _ in range(_ROUNDS):
            if not len(remaining):
                break
            ends, step = _in_blocks(self._iterate, remaining)
            inside = ((ends >= self.low - tolerance) & (ends <= high + tolerance)).all(axis=1)
            near = (abs(ends - (self.low + high) / 2) <= 1.5 * self.widths).all(axis=1)
            done = step < _EXACT_TOL
            roots.append(ends[inside & done])
            remaining, step = ends[near & ~done], step[near & ~done]
            inside = inside[near & ~done]
        if len(remaining):
            roots.append(remaining[inside & (step < _CONVERGED_TOL)])
        return np.clip(np.concatenate([starts[:0], *roots]), self.low, high)

    def _iterate(self, points: np.ndarray) -> tuple:
        return _newton(self.loss, self.plane, self.data, points, self.widths, self.scale)


def derivatives(
    loss: Callable, plane: Plane, data: Any, point: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute loss, gradient (2,) and Hessian (2, 2) in the plane's coordinates at a point."""

    def value(a: jax.Array, b: jax.Array) -> jax.Array:
        return scalar(loss(plane.at(a, b), data))

    def slope(a: jax.Array, b: jax.Array) -> tuple:
        here, gradient = jax.value_and_grad(value, (0, 1))(a, b)
        return jnp.stack(gradient), (here, jnp.stack(gradient))

    columns, (here, gradient) = jax.jacfwd(slope, (0, 1), has_aux=True)(point[0], point[1])
    return here, gradient, jnp.stack(columns, axis=1)


def _in_blocks(function: Callable[[np.ndarray], tuple], points: np.ndarray) -> list[np.ndarray]:
    """Evaluate a function of n points in blocks, with a progress bar.

    Args:
        function: (n, 2) -> arrays of n rows.
        points: (n, 2).
    """
    parts: list[list[np.ndarray]] = []

    def compute(block: np.ndarray) -> list[np.ndarray]:
        # Pad to a power of two, so that few programs are compiled.
        size = 1 << max(len(block) - 1, 0).bit_length()
        padded = np.pad(block, ((0, size - len(block)), (0, 0)), mode="edge")
        return [np.asarray(values)[: len(block)] for values in function(padded)]

    def keep(block: np.ndarray, part: list[np.ndarray]) -> int:
        parts.append(part)
        return len(block)

    run_blocks(
        (points[k : k + _BLOCK_SIZE] for k in range(0, len(points), _BLOCK_SIZE)),
        compute,
        keep,
        total=len(points),
        unit="points",
        threads=0,
        interrupted=lambda: None,
    )
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _evaluate(loss: Callable, plane: Plane, data: Any, points: jax.Array) -> tuple:
    def one(point: jax.Array) -> tuple:
        return derivatives(loss, plane, data, point)

    return jax.lax.map(one, points, batch_size=min(len(points), _BATCH_SIZE))


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _newton(
    loss: Callable,
    plane: Plane,
    data: Any,
    start: jax.Array,
    widths: jax.Array,
    scale: jax.Array,
) -> tuple:
    """Run Newton's method from points, (n, 2).

    Returns:
        The last iterates, (n, 2), and the lengths of the last steps in units of the box, (n,).
    """

    def step(point: jax.Array) -> jax.Array:
        _, gradient, hessian = derivatives(loss, plane, data, point)
        (p, q), (_, s) = scale * hessian * widths[:, None] * widths[None]
        u, v = scale * -gradient * widths
        determinant, size = p * s - q * q, p * p + 2 * q * q + s * s
        # For a Hessian of rank one, as along a valley, take the shortest solution.
        regular = abs(determinant) > 1e-14 * size
        safe, whole = jnp.where(regular, determinant, 1), jnp.where(size > 0, size, 1)
        newton = jnp.stack([s * u - q * v, p * v - q * u]) / safe
        shortest = jnp.stack([p * u + q * v, q * u + s * v]) / whole
        move = jnp.where(regular, newton, shortest)
        length = jnp.linalg.norm(move)
        # Limit the step to a quarter of the box.
        return move * jnp.minimum(1, 0.25 / jnp.where(length > 0, length, 1))

    def one(point: jax.Array) -> tuple:
        def body(_: Any, state: tuple) -> tuple:
            move = step(state[0])
            return state[0] + move * widths, jnp.linalg.norm(move)

        return jax.lax.fori_loop(0, _STEPS, body, (point, jnp.inf))

    return jax.lax.map(one, start, batch_size=min(len(start), _BATCH_SIZE))


class GridSample(NamedTuple):
    """A summary of a loss's derivatives on a grid over the box."""

    candidates: np.ndarray
    """(n, 2) starts for Newton's method in the cells in which the gradient may vanish."""
    steepest: float
    """The largest norm of the gradient, in units of the box."""
    flat: float
    """The fraction of nodes at which the gradient is below rounding errors."""
    smoothness: Smoothness
    scale: float
    """A power of two that brings the largest derivatives, in units of the box, close to 1."""


def sample_grid(problem: Problem, nodes: int) -> GridSample:
    """Evaluate the loss and its derivatives on a grid of nodes × nodes over the box.

    Raises:
        Unsearchable: Losses, gradients or Hessians are not finite, or too small or large for their
            products.
    """
    low, widths = problem.low, problem.widths
    sides = [
        start + width * np.linspace(0, 1, nodes) for start, width in zip(low, widths, strict=True)
    ]
    points = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    loss, gradient, hessian = problem.evaluate(points)
    finite = np.isfinite(gradient).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
    bad = ~(finite & np.isfinite(loss))
    if bad.any():
        (a, b), names = points[np.argmax(bad)], problem.plane.names
        raise Unsearchable(
            f"box: expected finite losses, gradients and Hessians, got {int(bad.sum())} of "
            f"{len(points)} that are not, the first at {names[0]} = {a:g}, {names[1]} = {b:g}"
        )
    scale = _scale(gradient, hessian, widths)
    spacing = widths / (nodes - 1)
    size = abs(hessian).reshape(nodes, nodes, 2, 2)
    reach = _MARGIN * (_largest_around(size) * spacing / 2).sum(axis=3).reshape(-1, 2)
    norms = np.hypot(*(gradient * widths).T)
    steepest = float(norms.max())
    flat = norms <= _NOISE_TOL * steepest
    in_flat = _largest_around(norms.reshape(nodes, nodes)).ravel() <= _NOISE_TOL * steepest
    selected = (abs(gradient) <= reach).all(axis=1) & ~in_flat
    # From a single start in a cell, Newton's method may cycle or diverge.
    starts = points[selected] + spacing * _OFFSETS[:, None]
    candidates = np.clip(starts.reshape(-1, 2), low, low + widths)
    kind = smoothness(problem.evaluate, points, problem.box, spacing, steepest)
    return GridSample(candidates, steepest, float(flat.mean()), kind, scale)


def _scale(gradient: np.ndarray, hessian: np.ndarray, widths: np.ndarray) -> float:
    """Return the power of two that brings the largest derivative, in units of the box, close to 1.

    Raises:
        Unsearchable: The largest derivative is below 1e-280 or above 1e280.
    """
    largest = [abs(values).max(axis=0) for values in (gradient, hessian)]
    with np.errstate(divide="ignore"):
        sides = np.log2(widths)
        exponent = float(
            max(
                (np.log2(largest[0]) + sides).max(),
                (np.log2(largest[1]) + sides[:, None] + sides).max(),
            )
        )
    if np.isneginf(exponent):
        return 1.0
    if abs(exponent) > _MAX_EXPONENT:
        raise Unsearchable(
            "box: expected derivatives that float64 can hold, got a largest one of 1e"
            f"{exponent * np.log10(2):+.0f} with the sides of the box as units; choose another box "
            "or scale the loss"
        )
    return 2.0 ** -round(exponent)


def _largest_around(values: np.ndarray) -> np.ndarray:
    """Return the maximum over each node and its eight neighbors, (n, n, ...)."""
    n, *_ = values.shape
    padded = np.pad(values, ((1, 1), (1, 1), *[(0, 0)] * (values.ndim - 2)))
    return np.max([padded[i : i + n, j : j + n] for i in range(3) for j in range(3)], axis=0)


class Classified(NamedTuple):
    """The distinct critical points among the limits of Newton's method."""

    points: list[CriticalPoint]
    """Critical points, none of them certified."""
    flat: list[CriticalPoint]
    """Points with a gradient below rounding errors all around: critical only if a proof says so."""
    notes: tuple[str, ...]


def classify(problem: Problem, ends: np.ndarray, steepest: float) -> Classified:
    """Classify the points at which Newton's method ended, (n, 2), each critical point once.

    Args:
        problem: the loss and the box.
        ends: the points.
        steepest: the largest norm of the gradient in the box, in units of the box.
    """
    if not len(ends):
        return Classified([], [], ())
    # Most starts of a cell lead to the same point, up to rounding.
    cells = np.round((ends - problem.low) / problem.widths / _SAME_TOL)
    ends = ends[np.unique(cells, axis=0, return_index=True)[1]]
    ends = ends[np.argsort(np.hypot(*problem.scaled_gradient(ends).T), kind="stable")]
    loss, gradient, hessian = problem.evaluate(ends)
    curved = hessian * problem.widths[:, None] * problem.widths[None]
    scale = max(steepest, float(abs(curved).max()))
    kinds = [kind_of(values) for values in np.linalg.eigvalsh(curved)]
    largest = abs(curved).max(axis=(1, 2))
    degenerate = (np.array(kinds) == "degenerate") | (largest <= _FAINT_TOL * scale)
    # At nondegenerate points Newton's method has converged if the next step is a rounding error.
    safe = np.where(degenerate[:, None, None], np.eye(2), curved)
    step = np.linalg.solve(safe, (gradient * problem.widths)[:, :, None])[:, :, 0]
    points: list[CriticalPoint] = []
    flat: list[CriticalPoint] = []
    not_isolated = []
    scaled = (ends - problem.low) / problem.widths
    sharp = np.flatnonzero(~degenerate & (np.hypot(*step.T) <= _SAME_TOL))
    for k in _distinct(scaled, degenerate):
        is_flat, kind_is_known, index = False, True, _index(curved[k])
        if degenerate[k]:
            # Newton's method may stall between two nondegenerate points close to each other.
            if (np.hypot(*(scaled[sharp] - scaled[k]).T) < 2 * _SAME_DEGENERATE_TOL).any():
                continue
            ring = winding.ellipse(ends[k], _SAME_DEGENERATE_TOL * problem.widths)
            rim = np.hypot(*problem.scaled_gradient(ring(np.linspace(0, 1, 64))).T)
            is_flat = rim.max() <= _NOISE_TOL * scale
            turns = index if is_flat else winding.winding_number(problem.scaled_gradient, ring, 64)
            # The Hessian close to a degenerate point need not be singular, but the signs of its
            # eigenvalues give another index.
            faint = kinds[k] != "degenerate" and largest[k] > _NOISE_TOL * scale and turns == index
            index, kind_is_known = turns, is_flat or faint
        elif k not in sharp:
            continue
        if index is None:
            not_isolated.append(ends[k])
            continue
        a, b = map(float, ends[k])
        eigenvalues = np.linalg.eigvalsh(hessian[k])
        (flat if is_flat else points).append(
            CriticalPoint(
                a=a,
                b=b,
                kind=kinds[k] if kind_is_known else "degenerate",
                loss=float(loss[k]),
                eigenvalues=eigenvalues,
                residual=float(np.hypot(*gradient[k])),
                turns=index,
                radius=0.0,
                certified=False,
                on_boundary=on_boundary(problem.box, a, b),
            )
        )
    notes: tuple[str, ...] = ()
    if not_isolated:
        names, (a, b) = problem.plane.names, not_isolated[0]
        notes = (
            f"some stationary points are not isolated, as along a curve, for instance at "
            f"{names[0]} = {a:.6g}, {names[1]} = {b:.6g}",
        )
    return Classified(points, flat, notes)


def with_hessian_kind(point: CriticalPoint, hessian: np.ndarray) -> CriticalPoint:
    """Set the kind and the index of a point by its nonsingular Hessian, of any scale."""
    size = np.sqrt(abs(hessian).max(axis=1))
    least, greatest = np.sign(np.linalg.eigvalsh(hessian / np.outer(size, size)))
    kind: Kind = "saddle" if least < greatest else "minimum" if least > 0 else "maximum"
    return point._replace(kind=kind, turns=int(least * greatest))


def _index(hessian: np.ndarray) -> int | None:
    """Return the index of a critical point with a nonsingular Hessian."""
    return round(float(np.linalg.slogdet(hessian)[0]))


def _distinct(scaled: np.ndarray, degenerate: np.ndarray) -> list[int]:
    """Return the position of the first of each group of equal points, given in units of the box."""
    kept: list[int] = []
    for k in range(len(scaled)):
        distance = np.hypot(*(scaled[kept] - scaled[k]).T)
        tolerance = np.where(degenerate[kept], _SAME_DEGENERATE_TOL, _SAME_TOL)
        if not (distance <= tolerance).any():
            kept.append(k)
    return kept


# Thresholds between the factors by which the remainder falls when the distance is quartered: 1/64
# if the loss is smooth, 1/16 if its Hessian jumps, 1/4 if its gradient jumps.
_SMOOTH_FACTOR, _JUMP_FACTOR = 1 / 30, 1 / 8


def smoothness(
    evaluate: Callable[[np.ndarray], Values],
    points: np.ndarray,
    box: Box,
    spacing: np.ndarray,
    steepest: float,
) -> Smoothness:
    """Test whether a loss is twice differentiable, by the remainders of Taylor expansions.

    The remainder is the difference of two gradients minus the Hessian times their distance, or the
    difference of two losses minus the gradient times their distance. It falls with the cube of the
    distance where the loss is smooth, with the square where the Hessian jumps along a line, and
    no faster than the distance where the gradient jumps.

    Args:
        evaluate: maps points to `Values`.
        points: (n, 2) the nodes of a grid.
        box: the lower and upper end of each coordinate.
        spacing: (2,) the side lengths of a cell.
        steepest: the largest norm of the gradient, in units of the box.
    """
    start, end = np.array(box).T
    widths = end - start

    def remainder(fraction: float, repeats: int) -> np.ndarray:
        """Return the mean remainders of loss and gradient over steps of a fraction of a cell."""
        total = np.zeros(2)
        # Spread the points evenly over the cells, because all nodes may have the same distance to a
        # straight kink.
        golden = np.array([0.7548776662466927, 0.5698402909980532])
        shifts = np.outer(np.arange(repeats * len(points)), golden) % 1 - 0.5
        spread = np.tile(points, (repeats, 1)) + spacing * shifts
        low, high = start + spacing / 2, end - spacing / 2
        inner = np.clip(spread, low, high)
        _, gradient, hessian = evaluate(inner)
        for k in (0, 1):
            step = np.zeros(2)
            step[k] = fraction * spacing[k]
            ahead, behind = evaluate(inner + step), evaluate(inner - step)
            of_gradient = ahead.gradient - behind.gradient - 2 * step[k] * hessian[:, :, k]
            of_loss = ahead.loss - behind.loss - 2 * step[k] * gradient[:, k]
            total += abs(of_loss).mean(), abs(of_gradient * widths).sum(axis=1).mean()
        return total

    loss, gradient, hessian = evaluate(points)
    # In a small box, differences of values are hardly larger than the effect of rounding the
    # coordinates.
    rounding = 64 * np.finfo(float).eps * abs(points)
    gradient_rounding = (abs(hessian) @ rounding[:, :, None])[:, :, 0] * widths
    noise = np.array(
        [
            1e-10 * np.ptp(loss)
            + 64 * np.finfo(float).eps * abs(loss).max()
            + (abs(gradient) * rounding).sum(axis=1).max(),
            1e-10 * steepest + gradient_rounding.sum(axis=1).max(),
        ]
    )
    far, near = remainder(1 / 2, 1), remainder(1 / 8, 1)
    if (near > np.maximum(_SMOOTH_FACTOR * far, noise)).any():
        # A smooth loss that changes fast within a cell passes the test at smaller distances only.
        far, near = remainder(1 / 8, 4), remainder(1 / 32, 4)
    if near[0] > max(_JUMP_FACTOR * far[0], noise[0]) or near[1] > max(
        _JUMP_FACTOR * far[1], noise[1]
    ):
        return "gradient jumps"
    return "smooth" if near[1] <= max(_SMOOTH_FACTOR * far[1], noise[1]) else "Hessian jumps"
