"""Losses that are a parabola in the second coordinate along every row of a grid.

If the prediction is affine in the second coordinate, the squared error of row a is
floor + curvature·(b - lowest)². Its three numbers take a few passes over the data, and every cell
of the row follows from them.

For any other loss, a parabola is fitted to each row and compared with the loss itself.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import in_full_precision
from jaxscape._util.jaxpr import NO_FORWARD_MODE, abstract, innermost_equations
from jaxscape._util.pytree import is_parameter
from jaxscape.data.dataset import Dataset
from jaxscape.grid.axes import computed_dtype
from jaxscape.grid.linearity import is_affine
from jaxscape.grid.separate_samples import treats_samples_separately
from jaxscape.losses.checks import check_same_shape, scalar, weight_divisor
from jaxscape.losses.pointwise import PointwiseLoss, square
from jaxscape.losses.two_weights import TwoWeightNetwork
from jaxscape.planes.plane import Plane

MAX_SAMPLE_BLOCK = 2**17
"""The most samples that are processed at once; more samples are divided into blocks."""
# With fewer samples, the fixed cost of a step matters.
_MIN_SAMPLE_BLOCK = 2**12
# The most bytes of a block of samples, as if each value were stored, relative to the cache. With
# networks of 1 to 256 hidden values, no other block size was much faster.
_BLOCK_PER_CACHE = 32
CACHE_FRACTION = 1 / 6
"""The most bytes of a row block's predictions, relative to the cache; all intermediate values then
fit in it."""
# The same for the two-weight network, of which only the predictions are stored. XLA divides the
# operations on such large blocks among threads, which pays off from about three megabytes on.
_CACHE_FRACTION_TWO_WEIGHTS = 6
# A mean square of slopes below this may have lost digits to underflow.
_MIN_MEAN_SQUARE = 1e-12


class Parabola(NamedTuple):
    """The mean squared error along one row: floor + curvature·(scale·b - lowest - correction)²."""

    floor: jax.Array
    """The lowest error of the row."""
    curvature: jax.Array
    """The mean square of the prediction's scaled slope in b; 0 if it does not depend on b."""
    scale: jax.Array
    """The smallest power of two above the largest |slope| of a prediction in b; 1 if slopes are not
    scaled."""
    lowest: jax.Array
    """The value of scale·b at the lowest error, rounded."""
    correction: jax.Array
    """The rounding error of `lowest`."""

    def at(self, b: jax.Array) -> jax.Array:
        """Return the mean squared error at b."""
        # Near `lowest`, subtracting it is exact. The small correction must be subtracted after it.
        distance = (self.scale * b - self.lowest) - self.correction
        return self.floor + self.curvature * distance * distance


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def parabolas(
    predict: Callable,
    plane: Plane,
    a: jax.Array,
    data: Dataset,
    cache: int,
    samples: int = MAX_SAMPLE_BLOCK,
    cache_fraction: float | None = None,
) -> Parabola:
    """Compute the parabolas of rows, one block of rows after another.

    Args:
        predict: as in `parabola`.
        plane: as in `parabola`.
        a: (rows,) the first coordinates.
        data: as in `parabola`.
        cache: the bytes of the cache.
        samples: the most samples that are processed at once. Blocks are used only if predictions
            are proved to treat every sample separately, and all samples are processed at once
            otherwise.
        cache_fraction: the most bytes of a block's predictions, relative to the cache; None for a
            fraction that suits `predict`.

    Returns:
        A parabola of arrays, (rows,), of the prediction's dtype.
    """

    samples = proved_block_size(predict, plane, data, a.dtype, samples)

    def block(a: jax.Array) -> Parabola:
        return _block_parabolas(predict, plane, a, data, samples)

    if cache_fraction is None:
        two_weights = isinstance(predict, TwoWeightNetwork)
        cache_fraction = _CACHE_FRACTION_TWO_WEIGHTS if two_weights else CACHE_FRACTION
    outputs = data.y.size // len(data)
    row_bytes = outputs * min(len(data), samples) * a.dtype.itemsize
    # On a CPU, sums over a single row are slower than sums over two at once.
    max_rows = max(2, int(cache_fraction * cache) // row_bytes)
    size = math.ceil(a.size / math.ceil(a.size / max_rows))
    whole = a.size // size * size
    blocks = jax.lax.map(block, a[:whole].reshape(-1, size))
    done = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), blocks)
    if whole == a.size:
        return done
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), done, block(a[whole:]))


@functools.partial(jax.jit, static_argnums=2)
def evaluate_parabolas(
    parts: Sequence[Parabola], b: jax.Array, n: int
) -> tuple[jax.Array, jax.Array]:
    """Evaluate the parabolas of rows in every cell.

    Args:
        parts: parabolas of consecutive rows, n of them or more.
        b: (n2,) the second coordinates.
        n: the number of rows to evaluate.

    Returns:
        The losses, (n, n2), and whether each row is finite, (n,).
    """
    rows = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:n], *parts)
    cells = jax.vmap(lambda row: row.at(b))(rows)
    # A parabola with finite ends is finite in between: the rounded distance from its lowest point
    # increases to both sides. So the other cells need no check.
    ends = jax.vmap(lambda row: row.at(b[jnp.array([0, -1])]))(rows)
    return cells, jnp.isfinite(ends).all(axis=1)


def _block_parabolas(
    predict: Callable, plane: Plane, a: jax.Array, data: Dataset, samples: int
) -> Parabola:
    """Compute the parabolas of a row block, with scaled slopes if one of its rows needs them."""

    def of_rows(a: jax.Array, scaled: bool) -> Parabola:
        return jax.vmap(lambda a: parabola(predict, plane, a, data, scaled, samples))(a)

    plain = of_rows(a, False)
    safe = jnp.all((plain.curvature > _MIN_MEAN_SQUARE) & jnp.isfinite(plain.curvature))
    return jax.lax.cond(safe, lambda _: plain, lambda a: of_rows(a, True), a)


def parabola(
    predict: Callable,
    plane: Plane,
    a: jax.Array,
    data: Dataset,
    scaled: bool = True,
    samples: int = MAX_SAMPLE_BLOCK,
) -> Parabola:
    """Compute the parabola of row a.

    Args:
        predict: (params, x) -> predictions, affine in the plane's second coordinate.
        plane: the plane through the parameters.
        a: () the first coordinate.
        data: n samples.
        scaled: whether slopes are scaled before they are squared. It takes two more passes over
            them, and is needed if their squares would underflow or overflow.
        samples: the most samples that are processed at once. If they are fewer than n, `predict`
            must treat every sample separately.

    Returns:
        A parabola of scalars, of the prediction's dtype.
    """
    # NumPy scalars are constants of the program: XLA removes multiplications by 1.
    zero, one = a.dtype.type(0), a.dtype.type(1)

    def line(samples: Dataset) -> tuple[jax.Array, jax.Array]:
        """Return the residuals at b = 0 and the slopes in b."""
        start, slope = jax.jvp(lambda b: predict(plane.at(a, b), samples.x), (zero,), (one,))
        check_same_shape(start, samples.y)
        return start - samples.y, slope

    def add_moments(total: tuple, samples: Dataset) -> tuple:
        scale, squares, products = total
        residual, slope = line(samples)
        if not scaled:
            squares = squares + _sum(slope * slope, samples)
            return scale, squares, products + _sum(residual * slope, samples)
        # Slopes are scaled to at most 1. With w1 = 1e-20 their squares would underflow in float32,
        # and the parabola would be flat although the loss is not. Powers of two do not round.
        steepest = jax.lax.stop_gradient(jnp.max(jnp.abs(slope)))
        larger = jnp.maximum(scale, jnp.ldexp(jnp.ones_like(steepest), jnp.frexp(steepest)[1]))
        slope, shrunk = slope / larger, scale / larger
        squares = shrunk * shrunk * squares + _sum(slope * slope, samples)
        return larger, squares, shrunk * products + _sum(residual * slope, samples)

    has_weights = data.sample_weight is not None
    n = weight_divisor(_sum(jnp.ones_like(data.y), data)) if has_weights else data.y.size
    scale, squares, products = _fold_samples(
        add_moments, (zero if scaled else one, zero, zero), data, samples
    )
    # Below the threshold, divide by 1: under `vmap` a row is computed both with and without
    # scaling, and the derivative of the unused result must also be finite.
    threshold = 0 if scaled else _MIN_MEAN_SQUARE * n
    divisor = jnp.where(squares > threshold, squares, 1)
    lowest = -products / divisor

    def add_rest(total: tuple, samples: Dataset) -> tuple:
        # The floor is the mean square of the residuals at the lowest point. The formula c - m²/q
        # would cancel near a perfect fit. The same residuals give the rounding error of `lowest`;
        # without that correction, losses of a millionth of the range have a relative error of 1e-4.
        residual, slope = line(samples)
        slope = slope / scale if scaled else slope
        residual = residual + lowest * slope
        squares, products = total
        return (
            squares + _sum(residual * residual, samples),
            products + _sum(residual * slope, samples),
        )

    floor, product = _fold_samples(add_rest, (zero, zero), data, samples)
    return Parabola(floor / n, squares / n, scale, lowest, -product / divisor)


def sample_block_size(sample_bytes: float, n: int, cache: int, memory: int) -> int:
    """Return how many samples to process at once.

    Args:
        sample_bytes: bytes of all values of one sample in one row, as if each were stored.
        n: the number of samples.
        cache: the bytes of the cache.
        memory: the bytes that a block may take.
    """
    samples = MAX_SAMPLE_BLOCK
    max_bytes = min(_BLOCK_PER_CACHE * cache, memory)
    while sample_bytes * min(samples, n) > max_bytes and smaller_block(samples) < samples:
        samples = smaller_block(samples)
    return samples


def proved_block_size(
    predict: Callable, plane: Plane, data: Dataset, dtype: Any, samples: int
) -> int:
    """Return the number of samples to process at once, at most `samples` if that is proved.

    Args:
        predict: (params, x) -> predictions.
        plane: the plane through the parameters; only shapes matter.
        data: n samples; only shapes matter.
        dtype: the dtype of the coordinates.
        samples: the number of samples of a block.

    Returns:
        `samples`, or n if predictions for blocks are not proved to be those for all samples.
    """
    n = len(data)
    if n <= samples:
        return samples
    leaves, structure = jax.tree.flatten((plane, data.x))
    shapes = tuple(map(abstract, leaves))
    separate = _has_separate_samples(
        predict, structure, shapes, jnp.dtype(dtype), samples, _trace_settings()
    )
    return samples if separate else n


@functools.lru_cache(maxsize=256)
def _has_separate_samples(
    predict: Callable, structure: Any, shapes: tuple, dtype: Any, samples: int, _settings: tuple
) -> bool:
    plane, x = jax.tree.unflatten(structure, shapes)
    coordinate = jax.ShapeDtypeStruct((), dtype)

    def prediction(point: Any, x: Any) -> jax.Array:
        plane, a, b = point
        return predict(plane.at(a, b), x)

    return treats_samples_separately(prediction, (plane, coordinate, coordinate), x, samples)


def _trace_settings() -> tuple:
    """Return the settings of JAX on which the equations of a prediction depend."""
    return jnp.result_type(float), jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]


def smaller_block(samples: int) -> int:
    """Return the next smaller number of samples to process at once; the smallest stays."""
    return max(_MIN_SAMPLE_BLOCK, samples // 8)


def _sum(values: jax.Array, samples: Dataset) -> jax.Array:
    """Return the sum of values (n, ...), weighted by the sample weights."""
    if samples.sample_weight is None:
        return jnp.sum(values)
    weight = jnp.expand_dims(samples.sample_weight, tuple(range(1, values.ndim)))
    return jnp.sum(jnp.broadcast_to(weight, values.shape) * values)


def _fold_samples(add: Callable, total: tuple, data: Dataset, block_size: int) -> tuple:
    """Apply `total = add(total, samples)` to blocks of samples that fit in the cache.

    A small number of samples forms one block. XLA then computes the predictions once for two such
    passes.
    """
    n = len(data)
    blocks = n // block_size if n > block_size else 0
    if blocks:
        blocked = jax.tree.map(
            lambda leaf: leaf[: blocks * block_size].reshape(blocks, block_size, *leaf.shape[1:]),
            data,
        )
        # A derivative recomputes the intermediate values of a block instead of storing them for all
        # blocks.
        add_block = jax.checkpoint(add)
        total, _ = jax.lax.scan(lambda total, part: (add_block(total, part), None), total, blocked)
    rest = jax.tree.map(lambda leaf: leaf[blocks * block_size :], data)
    return add(total, rest) if len(rest) else total


def why_not_exact(loss: Any, plane: Plane, data: Any, precision: Any = None) -> str | None:
    """Return why a loss is not proved to be a parabola along every row; None if it is.

    The loss must be the squared error over a `Dataset`, and the prediction must be affine in b.
    That is proved from the traced equations; nothing is sampled.

    Args:
        loss: (params, data) -> scalar.
        plane: the plane through the parameters; only shapes matter.
        data: the loss's second argument; only shapes matter.
        precision: the dtype whose precision the prediction must keep; None for the dtype of the
            coordinates.
    """
    if not (isinstance(loss, PointwiseLoss) and loss.error is square and isinstance(data, Dataset)):
        return "it holds for squared_error (or squared_error.of(model)) over a Dataset only"
    dtype = computed_dtype(plane, data)
    leaves, structure = jax.tree.flatten((plane, data.x))
    shapes = tuple(map(abstract, leaves))
    if _is_affine(
        loss.predict, structure, shapes, dtype, jnp.dtype(precision or dtype), _trace_settings()
    ):
        return None
    return f"the prediction is not proved to be affine in {plane.names[1]}, the second coordinate"


@functools.lru_cache(maxsize=256)
def _is_affine(
    predict: Callable, structure: Any, shapes: tuple, dtype: Any, precision: Any, _settings: tuple
) -> bool:
    def prediction(a: jax.Array, leaves: Any, b: jax.Array) -> jax.Array:
        plane, x = jax.tree.unflatten(structure, leaves)
        return in_full_precision(predict)(plane.at(a, b), x)

    coordinate = jax.ShapeDtypeStruct((), dtype)
    return is_affine(prediction, (coordinate, list(shapes)), coordinate, precision)


# The most units in the last place by which two sums of the same errors may differ. Means of 10⁵
# errors differ by about ten.
_SUM_TOL = 32
# The largest deviation, over a row's range, that is attributed to rounding of the parameters.
_MAX_NOISE = 1 / 100


class FitCheck(NamedTuple):
    """The sampled cell of each row that exceeds the tolerance most, or comes closest to it."""

    wrong: jax.Array
    """(rows,) bool, whether the parabola differs from the loss there."""
    b: jax.Array
    """(rows,) the second coordinate of the cell."""
    loss: jax.Array
    """(rows,) the loss."""
    parabola: jax.Array
    """(rows,) the value of the parabola."""


def quadratic_losses(
    loss: Callable[[Any, Any], jax.Array], plane: Plane, a: jax.Array, b: jax.Array, data: Any
) -> tuple[jax.Array, FitCheck]:
    """Compute the loss in every cell from one parabola per row, and compare some cells.

    The slope and the curvature are computed in the middle of a row; then the loss and the slope at
    the row's lowest point, or at the end of the row nearest to it. From there nothing cancels: the
    parabola is c + d·(slope + curvature/2·d), where d is the distance in b, and at a lowest point
    inside the row the slope is 0 up to rounding.

    The comparison is not a proof. It computes the loss itself at both ends of every row and in
    three random cells. The tolerance is the sum of

    - √eps of the row's range, which is half of the dtype's digits,
    - 32 eps of the loss,
    - the change of the loss, to first order, if each parameter changes by 32 eps. Near a perfect
      fit this is the rounding of the predictions. It is limited to a hundredth of the row's range:
      a row that consists mostly of rounding errors is an error.

    Args:
        loss: (params, data) -> scalar.
        plane: the plane through the parameters.
        a: (n1,) the first coordinates.
        b: (n2,) the second coordinates.
        data: the loss's second argument.

    Returns:
        The losses, (n1, n2), and the comparison.
    """
    eps = jnp.finfo(b.dtype).eps.astype(b.dtype)

    def row(a: jax.Array) -> tuple[jax.Array, FitCheck]:
        def value(b: jax.Array) -> jax.Array:
            return scalar(loss(plane.at(a, b), data)).astype(b.dtype)

        def sensitivity(b: jax.Array) -> jax.Array:
            """Return the derivative of the loss in a relative error of all parameters."""
            params = plane.at(a, b)

            def value(error: jax.Array) -> jax.Array:
                moved = jax.tree.map(lambda leaf: _perturb(leaf, error), params)
                return scalar(loss(moved, data)).astype(b.dtype)

            return jax.jvp(value, (jnp.zeros_like(b),), (jnp.ones_like(b),))[1]

        def value_and_slope(b: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(value, (b,), (jnp.ones_like(b),))

        middle = b[b.size // 2]
        (_, slope), (_, bend) = jax.jvp(value_and_slope, (middle,), (jnp.ones_like(middle),))
        lowest = middle - slope / jnp.where(bend == 0, 1, bend)
        start = jnp.clip(jnp.where(bend == 0, middle, lowest), b[0], b[-1])
        start_loss, slope = value_and_slope(start)
        distance = b - start
        cells = start_loss + distance * (slope + bend / 2 * distance)

        bits = jax.lax.bitcast_convert_type(a.astype(jnp.float32), jnp.uint32)
        drawn = jax.random.randint(jax.random.fold_in(jax.random.key(0), bits), (3,), 0, b.size)
        at = jnp.concatenate([jnp.asarray([0, b.size - 1], drawn.dtype), drawn])
        true, fitted = jax.lax.map(value, b[at]), cells[at]
        # Take the end of the row farther from the start: its loss is larger, and so is its
        # sensitivity.
        change = sensitivity(jnp.where(2 * start < b[0] + b[-1], b[-1], b[0]))
        height = jnp.abs(cells - start_loss)
        height = jnp.max(jnp.where(jnp.isfinite(height), height, 0))
        noise = _SUM_TOL * eps * jnp.where(jnp.isfinite(change), jnp.abs(change), 0)
        tolerance = _SUM_TOL * eps * jnp.abs(true) + jnp.sqrt(eps) * height
        tolerance += jnp.minimum(noise, _MAX_NOISE * height)
        excess = jnp.abs(fitted - true) - tolerance
        excess = jnp.where(jnp.isnan(excess), jnp.inf, excess)
        # Where the loss is not finite, the parabola must not be finite either.
        not_finite = jnp.where(jnp.isfinite(fitted), jnp.inf, 0)
        excess = jnp.where(jnp.isfinite(true), excess, not_finite)
        worst = jnp.argmax(excess)
        return cells, FitCheck(excess[worst] > 0, b[at][worst], true[worst], fitted[worst])

    return jax.lax.map(row, a)


def _perturb(leaf: Any, error: jax.Array) -> Any:
    """Multiply each number of a parameter by 1 + error or 1 - error."""
    if not is_parameter(leaf):
        return leaf
    # The signs come from multiples of the golden ratio, modulo 1, which XLA computes without
    # storing them. Random signs would be stored for all parameters.
    count = jax.lax.iota(jnp.uint32, max(1, jnp.size(leaf))).reshape(jnp.shape(leaf))
    up = count * jnp.uint32(2654435769) < jnp.uint32(2**31)
    moved = leaf * (1 + jnp.where(up, error, -error))
    return moved.astype(getattr(leaf, "dtype", error.dtype))


def check_fit(check: FitCheck, a: np.ndarray, names: tuple[str, str]) -> None:
    """Raise an error unless the parabolas of all rows equal the loss.

    Args:
        check: the comparison, of len(a) rows or more.
        a: the first coordinates.
        names: the names of both coordinates.

    Raises:
        ValueError: A parabola differs from the loss; the message names the first such cell.
    """
    wrong = np.asarray(check.wrong)[: len(a)]
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(
            f"method: 'exact' does not hold here: at {names[0]} = {a[k]:g}, "
            f"{names[1]} = {check.b[k]:g} the loss is {check.loss[k]:.6g}, and "
            f"{check.parabola[k]:.6g} on the parabola of its row; use 'dense'"
        )


def choose_method(
    method: Literal["auto", "dense", "exact"],
    loss: Any,
    plane: Plane,
    data: Any,
    several_scalars: bool,
) -> Literal["dense", "exact"]:
    """Return the strategy for a loss.

    Args:
        method: the caller's choice. "auto" is "exact" if the loss is proved to be a parabola along
            every row, and "dense" otherwise.
        loss: (params, data) -> scalar, or a dictionary of scalars.
        plane: the plane through the parameters.
        data: the loss's second argument.
        several_scalars: whether the loss returns a dictionary.

    Raises:
        ValueError: `method` is "exact", and the loss is not a parabola, or it cannot be compared
            with one.
    """
    if method == "dense":
        return "dense"
    objection: str | None = None
    if method == "auto" or isinstance(loss, PointwiseLoss):
        objection = why_not_exact(loss, plane, data)
    elif several_scalars:
        objection = "the loss returns several scalars"
    elif _is_traced(loss, plane, data):
        objection = "it could not be checked under a transformation of JAX"
    else:
        _check_differentiable(loss, plane, data)
    if objection and method == "exact":
        raise ValueError(f"method: 'exact' does not hold here: {objection}; use 'dense'")
    return "dense" if objection else "exact"


def _is_traced(loss: Any, plane: Plane, data: Any) -> bool:
    """Return whether the plane, the data or a value that the loss closes over is traced."""
    jaxpr = jax.make_jaxpr(lambda plane, data: loss(plane.at(0.0, 0.0), data))(plane, data)
    return any(
        isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((plane, data, jaxpr.consts))
    )


def _check_differentiable(loss: Callable, plane: Plane, data: Any) -> None:
    """Raise an error unless JAX can fit parabolas to the rows of a loss."""
    dtype = computed_dtype(plane, data)
    two, one = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((2,), ()))
    # An error of the loss itself passes as it is.
    jax.eval_shape(lambda plane, a, data: scalar(loss(plane.at(a, a), data)), plane, one, data)
    problem, cause = "a jax.custom_vjp has no forward mode", None
    try:
        traced = jax.make_jaxpr(functools.partial(quadratic_losses, loss))(plane, two, two, data)
        if all(e.primitive.name != NO_FORWARD_MODE for e, _ in innermost_equations(traced)):
            return
    except Exception as error:
        problem, cause = str(error).partition("\n")[0], error
    raise ValueError(
        "method: 'exact' does not hold here: JAX cannot differentiate the loss along "
        f"{plane.names[1]} ({problem}); use 'dense'"
    ) from cause
