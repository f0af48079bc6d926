"""The loss with its gradient and Hessian in a plane's two coordinates, at all nodes of a grid."""

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxscape._util import thumbnails
from jaxscape._util.devices import cache_bytes, default_device, in_full_precision
from jaxscape._util.pytree import is_traced
from jaxscape._util.warnings import NonFiniteWarning
from jaxscape.data.dataset import Dataset
from jaxscape.grid import cost
from jaxscape.grid.axes import make_axes
from jaxscape.grid.parabola import Parabola, parabolas, why_not_exact
from jaxscape.losses.checks import check_is_function, loss_name, mean_over_samples, scalar
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import STATIC, Array, Axis, Landscape, Mark

# Intermediate values of the loss in a tile of cells; derivatives take about as much again. With
# 3,000 samples that is some hundred cells: of 16 to 4096, as many were fastest on two cores.
_TILE_BYTES = 2**23
# With one row, XLA reduced over samples four times slower.
_LEAST_ROWS = 2
# Derivatives are taken of the loss as it is written.
_NOTHING_SHARED = cost.TileLimits(0, 0, 0)
# Predictions held at once by the exact method.
_EXACT_BLOCK = 2**18


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Derivatives:
    """A loss and its derivatives on a grid: index [i, j] is at `(a.values[i], b.values[j])`.

    Example:
        >>> bowl = jxs.Function(lambda w1, w2: w1**2 + 3 * w2**2)
        >>> found = jxs.derivatives(bowl, None, w1=(-1, 1, 5), w2=(-1, 1, 3))
        >>> found.gradient[0, 0], found.eigenvalues[0, 0]
        (Array([-2., -6.], dtype=float32), Array([2., 6.], dtype=float32))
    """

    loss: Array
    """(n1, n2) float."""
    gradient: Array
    """(n1, n2, 2) first derivatives, in a and in b."""
    hessian: Array
    """(n1, n2, 2, 2) second derivatives, exactly symmetric."""
    eigenvalues: Array
    """(n1, n2, 2) of the Hessian, the smaller first; NaN where it is not finite."""
    eigenvectors: Array
    """(n1, n2, 2, 2) of length 1: `[..., :, k]` belongs to the k-th eigenvalue."""
    a: Axis
    """n1 values of the first coordinate."""
    b: Axis
    """n2 values of the second coordinate."""
    loss_name: str = field(metadata=STATIC)
    """What was measured, in words."""
    method: str = field(metadata=STATIC)
    """How it was computed: `"dense"` or `"exact"`."""
    marks: tuple[Mark, ...] = field(default=(), metadata=STATIC)
    """The plane's marks, which figures show."""

    @property
    def landscape(self) -> Landscape:
        """The loss alone."""
        return Landscape(self.loss, self.a, self.b, self.loss_name, self.method, self.marks)

    @property
    def gradient_norm(self) -> jax.Array:
        """(n1, n2) the length of the gradient."""
        return jnp.hypot(self.gradient[..., 0], self.gradient[..., 1])

    @property
    def laplacian(self) -> Array:
        """(n1, n2) the sum of the eigenvalues: the trace of the Hessian."""
        return self.hessian[..., 0, 0] + self.hessian[..., 1, 1]

    @property
    def condition_number(self) -> jax.Array:
        """(n1, n2) the largest over the smallest |eigenvalue|; infinite where one is 0."""
        size = jnp.abs(self.eigenvalues)
        small, large = size.min(axis=-1), size.max(axis=-1)
        return jnp.where(small == 0, jnp.inf, large / jnp.where(small == 0, 1, small))

    def __repr__(self) -> str:
        n1, n2 = f"{self.a.name}: {len(self.a)}", f"{self.b.name}: {len(self.b)}"
        return f"Derivatives({n1} × {n2}, {self.method}, {self.loss.dtype})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the losses as colors."""
        return self.landscape._repr_html_() + thumbnails.text(self)


def derivatives(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    **axes: Any,
) -> Derivatives:
    """Compute a loss, its gradient and its Hessian at every point of a grid, in one compiled call.

    They are derivatives in the two coordinates, by differentiation and not by differences. Where
    the loss has kinks, as with absolute errors or ReLU, they are those of the smooth piece that a
    point is on, and know nothing of the kinks.

    Args:
        loss: (params, data) -> scalar of a floating dtype, differentiable forward: not by a
            `jax.custom_vjp` alone.
        data: what the loss takes: a `Dataset` or any pytree of arrays.
        plane: where the parameters lie; None for the plane of the two weights.
        method: "dense" differentiates the loss in every cell; "exact" uses that a squared error is
            a parabola in the second coordinate where the prediction is affine in it, which costs
            a few passes over the data a row; "auto" takes "exact" where it holds.
        axes: for each of the plane's two names (lo, hi, n) or an array, as in `landscape`.

    Returns:
        `Derivatives`, in the dtype of the plane and the data.

    Raises:
        TypeError: a loss that is not a function of (params, data) with a floating scalar result.
        ValueError: an axis that is missing, unknown, empty or not increasing; "exact" where it
            does not hold; predictions and targets of unequal shapes.

    Warns:
        NonFiniteWarning: some losses or derivatives are NaN or infinite; they are kept as they
            are.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.derivatives(jxs.squared_error, data, w1=(-3, 3, 41), w2=(-2, 2, 31))
        >>> found
        Derivatives(w1: 41 × w2: 31, exact, float32)
        >>> found.hessian.shape, int((found.eigenvalues[..., 0] < 0).sum()) > 0
        ((41, 31, 2, 2), True)
    """
    if plane is None:
        plane = weight_plane()
    if not isinstance(plane, Plane):
        raise TypeError(f"plane: expected a Plane, got {type(plane).__name__}")
    check_is_function("loss", loss)
    a, b = make_axes(plane, data, axes)
    if method not in ("auto", "dense", "exact"):
        raise ValueError(f"method: expected 'auto', 'dense' or 'exact', got {method!r}")
    if method != "dense":
        objection = why_not_exact(loss, plane, data)
        if objection and method == "exact":
            raise ValueError(f"method: 'exact' does not hold here: {objection}; use 'dense'")
        method = "dense" if objection else "exact"
    arrays, lost, lost_derivatives = _compute(method, loss, plane, a.values, b.values, data)
    if not is_traced(lost, lost_derivatives) and (lost or lost_derivatives):
        warnings.warn(
            f"of {len(a) * len(b)} cells, {lost} have a loss that is not finite, and "
            f"{lost_derivatives} more a gradient or Hessian that is not",
            NonFiniteWarning,
            stacklevel=2,
        )
    return Derivatives(
        **arrays, a=a, b=b, loss_name=loss_name(loss), method=method, marks=plane.marks
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _compute(
    method: str, loss: Any, plane: Plane, a: jax.Array, b: jax.Array, data: Any
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """The arrays of `Derivatives`; how many losses are not finite, and derivatives beside those."""
    value, in_a, in_b, in_aa, in_ab, in_bb = (_exact if method == "exact" else _dense)(
        loss, plane, a, b, data
    )
    eigenvalues, eigenvectors = _eigen(in_aa, in_ab, in_bb)
    gradient = jnp.stack([in_a, in_b], axis=-1)
    hessian = _matrix(in_aa, in_ab, in_ab, in_bb)
    finite = jnp.isfinite(gradient).all(axis=-1) & jnp.isfinite(hessian).all(axis=(-2, -1))
    lost = ~jnp.isfinite(value)
    arrays = {
        "loss": value,
        "gradient": gradient,
        "hessian": hessian,
        "eigenvalues": eigenvalues,
        "eigenvectors": eigenvectors,
    }
    return arrays, lost.sum(), (~lost & ~finite).sum()


def _in_a(function: Callable) -> Callable:
    """(a, b) -> what a function of them returns, and its derivative in a."""
    return lambda a, b: jax.jvp(lambda a: function(a, b), (a,), (jnp.ones_like(a),))


def _in_b(function: Callable) -> Callable:
    return lambda a, b: jax.jvp(lambda b: function(a, b), (b,), (jnp.ones_like(b),))


def _dense(loss: Callable, plane: Plane, a: jax.Array, b: jax.Array, data: Any) -> tuple:
    """Loss, its derivatives in a and b, and in aa, ab and bb, each (n1, n2)."""

    def value(a: jax.Array, b: jax.Array) -> jax.Array:
        return scalar(loss(plane.at(a, b), data))

    def cell(a: jax.Array, b: jax.Array) -> tuple:
        # Forward both times, one coordinate at a time: nothing is kept for a way back, and what
        # does not depend on a coordinate has no derivative in it.
        (here, in_b), (in_a, in_ab) = _in_a(_in_b(value))(a, b)
        _, (_, in_aa) = _in_a(_in_a(value))(a, b)
        _, (_, in_bb) = _in_b(_in_b(value))(a, b)
        return here, in_a, in_b, in_aa, in_ab, in_bb

    tile = jax.vmap(jax.vmap(cell, (None, 0)), (0, None), out_axes=1)
    each = cost.grid_cost(_NOTHING_SHARED, loss, plane, a, b, data).of_cells(1, 1).bytes
    at_once = max(1, _TILE_BYTES // max(1, each))
    columns = min(b.size, max(1, at_once // _LEAST_ROWS))

    def rows(a: jax.Array) -> tuple:
        return jax.tree.map(jnp.transpose, _in_blocks(lambda b: tile(a, b), b, columns))

    return _in_blocks(rows, a, max(1, at_once // columns))


def _exact(loss: PointwiseLoss, plane: Plane, a: jax.Array, b: jax.Array, data: Dataset) -> tuple:
    """As `_dense`, from the moments of each row's residuals and slopes."""

    def row(a: jax.Array, parabola: Parabola) -> tuple:
        # Moments are taken at the row's lowest point, so that nothing cancels near a perfect fit;
        # or at the end of the row nearest to it: far away they would be large, and then cancel.
        lowest = jnp.clip(parabola.lowest / parabola.scale, b[0], b[-1])

        def moments(a: jax.Array) -> tuple[jax.Array, ...]:
            prediction, slope = jax.jvp(
                lambda b: loss.predict(plane.at(a, b), data.x), (lowest,), (jnp.ones_like(lowest),)
            )
            residual = prediction - data.y
            products = residual * residual, residual * slope, slope * slope
            return tuple(mean_over_samples(part, data.sample_weight) for part in products)

        one = jnp.ones_like(a)
        # Of the loss c + 2·m·d + q·d² at a distance d from there.
        ((_, m, q), (c1, m1, q1)), (_, (c2, m2, q2)) = jax.jvp(
            lambda a: jax.jvp(moments, (a,), (one,)), (a,), (one,)
        )
        d = b - lowest
        in_b, in_bb = 2 * (m + q * d), jnp.full_like(b, 2 * q)
        in_a, in_ab = c1 + (2 * m1 + q1 * d) * d, 2 * (m1 + q1 * d)
        return parabola.at(b), in_a, in_b, c2 + (2 * m2 + q2 * d) * d, in_ab, in_bb

    def rows(a: jax.Array) -> tuple:
        cache = cache_bytes(default_device().platform)
        return jax.vmap(row)(a, parabolas(loss.predict, plane, a, data, cache))

    return _in_blocks(rows, a, max(1, _EXACT_BLOCK // data.y.size))


def _in_blocks(function: Callable, values: jax.Array, most: int) -> Any:
    """`function` of all values, (n,) -> (n, ...), of at most so many at a time."""
    n = values.size
    count = math.ceil(n / most)
    size = math.ceil(n / count)
    # The last block is filled up, so that one program serves all.
    padded = jnp.pad(values, (0, count * size - n), mode="edge").reshape(count, size)
    done = jax.lax.map(function, padded)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], done)


def _eigen(p: jax.Array, q: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The eigenvalues, (..., 2), and eigenvectors, (..., 2, 2), of [[p, q], [q, s]].

    After LAPACK's dlaev2: an eigenvalue far smaller than the other has an error of its own size,
    where the determinant does not cancel, and that of a diagonal matrix none.
    """
    finite = jnp.isfinite(p) & jnp.isfinite(q) & jnp.isfinite(s)
    p, q, s = (jnp.where(finite, entry, jnp.nan) for entry in (p, q, s))
    total, difference, twice = p + s, p - s, 2 * q
    spread = jnp.hypot(difference, twice)
    largest = (total + jnp.where(total < 0, -spread, spread)) / 2
    first = jnp.abs(p) > jnp.abs(s)
    more, less = jnp.where(first, p, s), jnp.where(first, s, p)
    divisor = jnp.where(largest == 0, 1, largest)
    # The determinant over the larger one; a quotient comes first, so that no product overflows.
    other = jnp.where(total == 0, -largest, more / divisor * less - q / divisor * q)
    eigenvalues = jnp.stack([jnp.minimum(largest, other), jnp.maximum(largest, other)], axis=-1)

    # Of the larger one: of two multiples of it the one that does not cancel.
    long = spread + jnp.abs(difference)
    x, y = (jnp.where(difference >= 0, *pair) for pair in ((long, twice), (twice, long)))
    length = jnp.hypot(x, y)
    x, y = jnp.where(length == 0, 1, x), jnp.where(length == 0, 0, y)
    length = jnp.where(length == 0, 1, length)
    x, y = x / length, y / length
    return eigenvalues, _matrix(-y, x, x, y)


def _matrix(*entries: jax.Array) -> jax.Array:
    """(..., 2, 2) of its four entries, row by row."""
    return jnp.stack(entries, axis=-1).reshape(*entries[0].shape, 2, 2)
