"""Compute the loss, its gradient and its Hessian in a plane's two coordinates, on a grid."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxscape._util import thumbnails
from jaxscape._util.checks import check_choice, check_type
from jaxscape._util.devices import cache_bytes, default_device, in_full_precision
from jaxscape._util.pytree import is_traced
from jaxscape._util.warnings import NonFiniteWarning, warn
from jaxscape.data.dataset import Dataset
from jaxscape.grid.axes import AxisValues, make_axes
from jaxscape.grid.cost import TileLimits, grid_cost
from jaxscape.grid.parabola import Parabola, parabolas, why_not_exact
from jaxscape.losses.checks import (
    ScalarLoss,
    check_is_function,
    loss_name,
    mean_over_samples,
    scalar,
)
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import STATIC, Array, Axis, Landscape, Mark

# The bytes of the loss's intermediate values in a tile; those of the derivatives take about as many
# again. With 3,000 samples, a tile has some hundred cells, the fastest of 16 to 4096 on two cores.
_TILE_BYTES = 2**23
# With a single row, XLA's reduction over samples was four times slower.
_MIN_ROWS = 2
# With these limits, no array is shared between cells.
_NOTHING_SHARED = TileLimits(0, 0, 0)
# The most predictions that the exact method computes at once.
_MAX_PREDICTIONS = 2**18


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Derivatives:
    """A loss and its derivatives on a grid; entry [i, j] is at `(a.values[i], b.values[j])`.

    Example:
        >>> bowl = jxs.Function(lambda w1, w2: w1**2 + 3 * w2**2)
        >>> found = jxs.derivatives(bowl, None, w1=(-1, 1, 5), w2=(-1, 1, 3))
        >>> found.gradient[0, 0], found.eigenvalues[0, 0]
        (Array([-2., -6.], dtype=float32), Array([2., 6.], dtype=float32))
    """

    loss: Array
    """(n1, n2) float, the loss."""
    gradient: Array
    """(n1, n2, 2) the first derivatives in a and in b."""
    hessian: Array
    """(n1, n2, 2, 2) the second derivatives, exactly symmetric."""
    eigenvalues: Array
    """(n1, n2, 2) the eigenvalues of the Hessian in increasing order; NaN if it is not finite."""
    eigenvectors: Array
    """(n1, n2, 2, 2) the unit eigenvectors. Column k of each matrix is that of eigenvalue k."""
    a: Axis
    """n1 values of the first coordinate."""
    b: Axis
    """n2 values of the second coordinate."""
    loss_name: str = field(metadata=STATIC)
    """The name of the loss."""
    method: str = field(metadata=STATIC)
    """The method, `"dense"` or `"exact"`."""
    marks: tuple[Mark, ...] = field(default=(), metadata=STATIC)
    """The plane's marks, which figures show."""

    @property
    def landscape(self) -> Landscape:
        """The loss without its derivatives."""
        return Landscape(self.loss, self.a, self.b, self.loss_name, self.method, self.marks)

    @property
    def gradient_norm(self) -> jax.Array:
        """The Euclidean norm of the gradient, (n1, n2)."""
        return jnp.hypot(self.gradient[..., 0], self.gradient[..., 1])

    @property
    def laplacian(self) -> Array:
        """The trace of the Hessian, (n1, n2), which is the sum of the eigenvalues."""
        return self.hessian[..., 0, 0] + self.hessian[..., 1, 1]

    @property
    def condition_number(self) -> jax.Array:
        """The largest |eigenvalue| over the smallest, (n1, n2); infinite if one is 0."""
        size = jnp.abs(self.eigenvalues)
        small, large = size.min(axis=-1), size.max(axis=-1)
        return jnp.where(small == 0, jnp.inf, large / jnp.where(small == 0, 1, small))

    def __repr__(self) -> str:
        n1, n2 = f"{self.a.name}: {len(self.a)}", f"{self.b.name}: {len(self.b)}"
        return f"Derivatives({n1} × {n2}, {self.method}, {self.loss.dtype})"

    def _repr_html_(self) -> str:
        """Show the losses as colors in a notebook, and the text."""
        return self.landscape._repr_html_() + thumbnails.text(self)


def derivatives(
    loss: ScalarLoss,
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    **axes: AxisValues,
) -> Derivatives:
    """Compute the loss, its gradient and its Hessian on a grid of a plane, in one compiled call.

    The derivatives are with respect to the two coordinates, by automatic differentiation. If the
    loss has kinks, as with absolute errors and ReLU, the derivatives are those of the smooth piece
    that contains the point; the kinks contribute nothing.

    Args:
        loss: (params, data) -> scalar of a floating dtype. It must be differentiable in forward
            mode, which a function with a `jax.custom_vjp` is not.
        data: the second argument of the loss, a `Dataset` or any pytree of arrays.
        plane: maps the two coordinates to parameters; None for the plane of the two weights.
        method: "dense" differentiates the loss in every cell. "exact" takes a few passes over the
            data per row: a squared error is a parabola in the second coordinate if the prediction
            is affine in it. "auto" uses "exact" if that is proved, and "dense" otherwise.
        axes: the values of both coordinates, by the plane's names: (lo, hi, n) or an array, as in
            `landscape`.

    Returns:
        The `Derivatives`, in the dtype of the plane and the data.

    Raises:
        TypeError: `loss` is not a function of (params, data) that returns a floating scalar.
        ValueError: An axis is missing, unknown, too short or not increasing. "exact" does not hold
            for the loss. The predictions and the targets differ in shape.

    Warns:
        NonFiniteWarning: Some losses or derivatives are NaN or infinite; they are kept.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.derivatives(jxs.squared_error, data, w1=(-3, 3, 41), w2=(-2, 2, 31))
        >>> found
        Derivatives(w1: 41 × w2: 31, exact, float32)
        >>> found.hessian.shape, int((found.eigenvalues[..., 0] < 0).sum()) > 0
        ((41, 31, 2, 2), True)
    """
    plane = weight_plane() if plane is None else plane
    check_type("plane", plane, Plane)
    check_is_function("loss", loss)
    a, b = make_axes(plane, data, axes)
    check_choice("method", method, ("auto", "dense", "exact"))
    if method != "dense":
        objection = why_not_exact(loss, plane, data)
        if objection and method == "exact":
            raise ValueError(f"method: 'exact' does not hold here: {objection}; use 'dense'")
        method = "dense" if objection else "exact"
    arrays, bad_losses, bad_derivatives = _compute(method, loss, plane, a.values, b.values, data)
    if not is_traced(bad_losses, bad_derivatives) and (bad_losses or bad_derivatives):
        warn(
            f"of {len(a) * len(b)} cells, {bad_losses} have a loss that is not finite, and "
            f"{bad_derivatives} others a gradient or Hessian that is not finite",
            NonFiniteWarning,
        )
    return Derivatives(
        **arrays, a=a, b=b, loss_name=loss_name(loss), method=method, marks=plane.marks
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _compute(
    method: str, loss: Any, plane: Plane, a: jax.Array, b: jax.Array, data: Any
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Compute the arrays of `Derivatives`.

    Returns:
        The arrays by name; the number of cells whose loss is not finite; and the number of other
        cells whose gradient or Hessian is not.
    """
    differentiate = _exact_derivatives if method == "exact" else _dense_derivatives
    value, in_a, in_b, in_aa, in_ab, in_bb = differentiate(loss, plane, a, b, data)
    eigenvalues, eigenvectors = _eigenpairs(in_aa, in_ab, in_bb)
    gradient = jnp.stack([in_a, in_b], axis=-1)
    hessian = _matrix(in_aa, in_ab, in_ab, in_bb)
    finite = jnp.isfinite(gradient).all(axis=-1) & jnp.isfinite(hessian).all(axis=(-2, -1))
    bad_loss = ~jnp.isfinite(value)
    arrays = {
        "loss": value,
        "gradient": gradient,
        "hessian": hessian,
        "eigenvalues": eigenvalues,
        "eigenvectors": eigenvectors,
    }
    return arrays, bad_loss.sum(), (~bad_loss & ~finite).sum()


def _with_derivative_in_a(function: Callable) -> Callable:
    """Return (a, b) -> the function's value, and its derivative in a."""
    return lambda a, b: jax.jvp(lambda a: function(a, b), (a,), (jnp.ones_like(a),))


def _with_derivative_in_b(function: Callable) -> Callable:
    """Return (a, b) -> the function's value, and its derivative in b."""
    return lambda a, b: jax.jvp(lambda b: function(a, b), (b,), (jnp.ones_like(b),))


def _dense_derivatives(
    loss: Callable, plane: Plane, a: jax.Array, b: jax.Array, data: Any
) -> tuple[jax.Array, ...]:
    """Differentiate the loss in every cell.

    Returns:
        The loss and its derivatives in a, b, aa, ab and bb, each (n1, n2).
    """

    def value(a: jax.Array, b: jax.Array) -> jax.Array:
        return scalar(loss(plane.at(a, b), data))

    def cell(a: jax.Array, b: jax.Array) -> tuple:
        # Forward mode twice, one coordinate at a time: it stores no intermediate values, and it
        # skips values that do not depend on the coordinate.
        in_a, in_b = _with_derivative_in_a, _with_derivative_in_b
        (at_point, d_b), (d_a, d_ab) = in_a(in_b(value))(a, b)
        _, (_, d_aa) = in_a(in_a(value))(a, b)
        _, (_, d_bb) = in_b(in_b(value))(a, b)
        return at_point, d_a, d_b, d_aa, d_ab, d_bb

    tile = jax.vmap(jax.vmap(cell, (None, 0)), (0, None), out_axes=1)
    cell_bytes = grid_cost(_NOTHING_SHARED, loss, plane, a, b, data).of_cells(1, 1).bytes
    cells = max(1, _TILE_BYTES // max(1, cell_bytes))
    columns = min(b.size, max(1, cells // _MIN_ROWS))

    def rows(a: jax.Array) -> tuple:
        return jax.tree.map(jnp.transpose, _map_blocks(lambda b: tile(a, b), b, columns))

    return _map_blocks(rows, a, max(1, cells // columns))


def _exact_derivatives(
    loss: PointwiseLoss, plane: Plane, a: jax.Array, b: jax.Array, data: Dataset
) -> tuple[jax.Array, ...]:
    """Compute the same as `_dense_derivatives` from moments of each row's residuals and slopes."""

    def row(a: jax.Array, parabola: Parabola) -> tuple:
        # Take the moments at the row's minimum, so that nothing cancels near a perfect fit. If the
        # minimum is outside the row, take the nearest end: moments far away are large and cancel.
        center = jnp.clip(parabola.lowest / parabola.scale, b[0], b[-1])

        def moments(a: jax.Array) -> tuple[jax.Array, ...]:
            prediction, slope = jax.jvp(
                lambda b: loss.predict(plane.at(a, b), data.x), (center,), (jnp.ones_like(center),)
            )
            residual = prediction - data.y
            products = residual * residual, residual * slope, slope * slope
            return tuple(mean_over_samples(part, data.sample_weight) for part in products)

        one = jnp.ones_like(a)
        # The loss at distance d from the center is c + 2·m·d + q·d². The digits in c1, m1, q1 and
        # c2, m2, q2 are the order of the derivative in a.
        ((_, m, q), (c1, m1, q1)), (_, (c2, m2, q2)) = jax.jvp(
            lambda a: jax.jvp(moments, (a,), (one,)), (a,), (one,)
        )
        d = b - center
        d_b, d_bb = 2 * (m + q * d), jnp.full_like(b, 2 * q)
        d_a, d_ab = c1 + (2 * m1 + q1 * d) * d, 2 * (m1 + q1 * d)
        return parabola.at(b), d_a, d_b, c2 + (2 * m2 + q2 * d) * d, d_ab, d_bb

    def rows(a: jax.Array) -> tuple:
        cache = cache_bytes(default_device().platform)
        return jax.vmap(row)(a, parabolas(loss.predict, plane, a, data, cache))

    return _map_blocks(rows, a, max(1, _MAX_PREDICTIONS // data.y.size))


def _map_blocks(function: Callable, values: jax.Array, max_size: int) -> Any:
    """Apply a function (n,) -> (n, ...) to blocks of at most `max_size` values."""
    n = values.size
    count = math.ceil(n / max_size)
    size = math.ceil(n / count)
    # Pad the last block with its last value, so that all blocks use one compiled program.
    padded = jnp.pad(values, (0, count * size - n), mode="edge").reshape(count, size)
    blocks = jax.lax.map(function, padded)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], blocks)


def _eigenpairs(p: jax.Array, q: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the eigenvalues, (..., 2), and eigenvectors, (..., 2, 2), of [[p, q], [q, s]].

    The algorithm is LAPACK's dlaev2. If the determinant does not cancel, even an eigenvalue that is
    far smaller than the other has a small relative error; those of a diagonal matrix are exact.
    """
    finite = jnp.isfinite(p) & jnp.isfinite(q) & jnp.isfinite(s)
    p, q, s = (jnp.where(finite, entry, jnp.nan) for entry in (p, q, s))
    total, difference, twice = p + s, p - s, 2 * q
    spread = jnp.hypot(difference, twice)
    largest = (total + jnp.where(total < 0, -spread, spread)) / 2
    p_is_larger = jnp.abs(p) > jnp.abs(s)
    larger, smaller = jnp.where(p_is_larger, p, s), jnp.where(p_is_larger, s, p)
    divisor = jnp.where(largest == 0, 1, largest)
    # The determinant divided by the larger eigenvalue; dividing first avoids overflow.
    other = jnp.where(total == 0, -largest, larger / divisor * smaller - q / divisor * q)
    eigenvalues = jnp.stack([jnp.minimum(largest, other), jnp.maximum(largest, other)], axis=-1)

    # The eigenvector of the larger eigenvalue, in the one of two forms that does not cancel.
    longer = spread + jnp.abs(difference)
    x, y = (jnp.where(difference >= 0, *pair) for pair in ((longer, twice), (twice, longer)))
    length = jnp.hypot(x, y)
    x, y = jnp.where(length == 0, 1, x), jnp.where(length == 0, 0, y)
    length = jnp.where(length == 0, 1, length)
    x, y = x / length, y / length
    return eigenvalues, _matrix(-y, x, x, y)


def _matrix(*entries: jax.Array) -> jax.Array:
    """Return the matrix (..., 2, 2) of four entries, row by row."""
    return jnp.stack(entries, axis=-1).reshape(*entries[0].shape, 2, 2)
