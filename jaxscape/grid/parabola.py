"""The exact squared error where the prediction is affine in the second coordinate.

There the error of row a is a parabola in b, floor + curvature·(b - lowest)²; its three numbers
cost one pass over the data, and every cell of the row follows from them.

A parabola a row of a loss of which nothing is known, compared with the loss itself.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.pytree import is_parameter
from jaxscape.data.dataset import Dataset
from jaxscape.losses.checks import check_same_shape, scalar
from jaxscape.losses.pointwise import PointwiseLoss, square
from jaxscape.losses.two_weights import TwoWeightNetwork
from jaxscape.planes.plane import Plane

SAMPLES_AT_ONCE = 2**17
"""Of more samples than this, blocks of so many or less are gone through one after the other."""
# A block of fewer is not worth its step.
_FEWEST_AT_ONCE = 2**12
# Of caches, what a block may hold, as if each value were stored: with networks of 1 to 256 hidden
# values, none of the blocks was much faster.
_CACHES_OF_A_BLOCK = 32
IN_CACHE = 1 / 6
"""Of the cache, what the predictions of some rows take: all that is computed then stays there."""
# Of a network of two weights nothing but the predictions is stored. On blocks so many times larger
# XLA shares its operations out to threads, which is worth it from some three megabytes on.
_BEYOND_CACHE = 6
_SCALED_BELOW = 1e-12
"""Mean squares of slopes smaller than this may have lost digits to underflow."""


class Parabola(NamedTuple):
    """The mean squared error along one row: floor + curvature·(scale·b - lowest - correction)²."""

    floor: jax.Array
    """The lowest error of the row."""
    curvature: jax.Array
    """Mean square of the prediction's scaled slope in b; 0 where the prediction ignores b."""
    scale: jax.Array
    """The power of two next above the largest slope of a prediction in b."""
    lowest: jax.Array
    """scale·b at the lowest error, rounded."""
    correction: jax.Array
    """What rounding left out of `lowest`."""

    def at(self, b: jax.Array) -> jax.Array:
        """The mean squared error at b."""
        # The subtraction of `lowest` is exact near it; only then does the small correction come.
        distance = (self.scale * b - self.lowest) - self.correction
        return self.floor + self.curvature * distance * distance


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def parabolas(
    predict: Callable,
    plane: Plane,
    a: jax.Array,
    data: Dataset,
    cache: int,
    samples: int = SAMPLES_AT_ONCE,
    of_cache: float | None = None,
) -> Parabola:
    """The parabolas of all rows, a block of them at a time.

    Args:
        predict, plane, data: as in `parabola`.
        a: (rows,) the first coordinates.
        cache: its bytes.
        samples: as in `parabola`.
        of_cache: how many times the cache the predictions of a block take; chosen if None.

    Returns:
        A parabola of arrays, (rows,), of the prediction's dtype.
    """

    def block(a: jax.Array) -> Parabola:
        return _block(predict, plane, a, data, samples)

    if of_cache is None:
        of_cache = _BEYOND_CACHE if isinstance(predict, TwoWeightNetwork) else IN_CACHE
    outputs = data.y.size // len(data)
    row = outputs * min(len(data), samples) * a.dtype.itemsize
    # Sums over a single row are slower on a processor than those over two at once.
    most = max(2, int(of_cache * cache) // row)
    size = math.ceil(a.size / math.ceil(a.size / most))
    whole = a.size // size * size
    blocks = jax.lax.map(block, a[:whole].reshape(-1, size))
    done = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), blocks)
    if whole == a.size:
        return done
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), done, block(a[whole:]))


@functools.partial(jax.jit, static_argnums=2)
def cells_of(parts: Sequence[Parabola], b: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """The loss in every cell of rows, and whether all of a row are finite.

    Args:
        parts: parabolas of n rows or more, one after the other.
        b: (n2,) the second coordinates.
        n: how many rows count, the first ones.

    Returns:
        (n, n2) losses and (n,) bool.
    """
    rows = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:n], *parts)
    cells = jax.vmap(lambda row: row.at(b))(rows)
    # A parabola is finite between two finite ends: its distance from the lowest point, as
    # rounded, grows to both sides. No second pass over the cells is needed.
    ends = jax.vmap(lambda row: row.at(b[jnp.array([0, -1])]))(rows)
    return cells, jnp.isfinite(ends).all(axis=1)


def _block(predict: Callable, plane: Plane, a: jax.Array, data: Dataset, samples: int) -> Parabola:
    """The parabolas of some rows at once, with scaled slopes if one of them needs it."""

    def of_rows(a: jax.Array, scaled: bool) -> Parabola:
        return jax.vmap(lambda a: parabola(predict, plane, a, data, scaled, samples))(a)

    plain = of_rows(a, False)
    safe = jnp.all((plain.curvature > _SCALED_BELOW) & jnp.isfinite(plain.curvature))
    return jax.lax.cond(safe, lambda _: plain, lambda a: of_rows(a, True), a)


def parabola(
    predict: Callable,
    plane: Plane,
    a: jax.Array,
    data: Dataset,
    scaled: bool = True,
    samples: int = SAMPLES_AT_ONCE,
) -> Parabola:
    """The parabola of row a.

    Args:
        predict: (params, x) -> predictions, affine in the plane's second coordinate.
        plane: where the parameters lie.
        a: () the first coordinate.
        data: n samples.
        scaled: whether slopes are scaled before they are squared. It takes two more passes over
            them, and is needed where their squares would underflow or overflow.
        samples: of more than so many, blocks of so many are gone through one after the other.

    Returns:
        Scalars of the prediction's dtype.
    """
    # Constants of the program, by which it need not multiply.
    zero, one = a.dtype.type(0), a.dtype.type(1)

    def line(samples: Dataset) -> tuple[jax.Array, jax.Array]:
        """Residuals at b = 0 and slopes in b: the predictions are a line in b."""
        start, slope = jax.jvp(lambda b: predict(plane.at(a, b), samples.x), (zero,), (one,))
        check_same_shape(start, samples.y)
        return start - samples.y, slope

    def add_moments(total: tuple, samples: Dataset) -> tuple:
        scale, squares, products = total
        residual, slope = line(samples)
        if not scaled:
            squares = squares + _sum(slope * slope, samples)
            return scale, squares, products + _sum(residual * slope, samples)
        # Slopes are scaled to at most 1: with w1 = 1e-20 their squares would underflow in float32,
        # and the parabola be flat where the loss is not. A power of two scales without rounding.
        steepest = jax.lax.stop_gradient(jnp.max(jnp.abs(slope)))
        larger = jnp.maximum(scale, jnp.ldexp(jnp.ones_like(steepest), jnp.frexp(steepest)[1]))
        slope, shrunk = slope / larger, scale / larger
        squares = shrunk * shrunk * squares + _sum(slope * slope, samples)
        return larger, squares, shrunk * products + _sum(residual * slope, samples)

    n = data.y.size if data.sample_weight is None else _sum(jnp.ones_like(data.y), data)
    scale, squares, products = _over_samples(
        add_moments, (zero if scaled else one, zero, zero), data, samples
    )
    # Nothing overflows below it, so that a derivative through rows computed both ways is finite.
    least = 0 if scaled else _SCALED_BELOW * n
    divisor = jnp.where(squares > least, squares, 1)
    lowest = -products / divisor

    def add_rest(total: tuple, samples: Dataset) -> tuple:
        # The floor is a mean of squares of residuals at the lowest point, not c - m²/q, which
        # cancels near a perfect fit. The same residuals give the part of the lowest point below
        # its last digit: without it, half a unit there is an error of 1e-4 in losses a millionth
        # of the range.
        residual, slope = line(samples)
        slope = slope / scale if scaled else slope
        residual = residual + lowest * slope
        squares, products = total
        return (
            squares + _sum(residual * residual, samples),
            products + _sum(residual * slope, samples),
        )

    floor, product = _over_samples(add_rest, (zero, zero), data, samples)
    return Parabola(floor / n, squares / n, scale, lowest, -product / divisor)


def samples_at_once(each: float, n: int, cache: int, memory: int) -> int:
    """How many samples of n are gone through at once.

    Args:
        each: bytes of all values that a sample takes in a row, as if each were stored.
        n: how many there are.
        cache, memory: bytes of them.
    """
    samples = SAMPLES_AT_ONCE
    most = min(_CACHES_OF_A_BLOCK * cache, memory)
    while each * min(samples, n) > most and fewer(samples) < samples:
        samples = fewer(samples)
    return samples


def fewer(samples: int) -> int:
    """The next smaller block, or the smallest."""
    return max(_FEWEST_AT_ONCE, samples // 8)


def _sum(values: jax.Array, samples: Dataset) -> jax.Array:
    """The sum of values, (n, ...), each row counting as its sample weighs."""
    if samples.sample_weight is None:
        return jnp.sum(values)
    weight = jnp.expand_dims(samples.sample_weight, tuple(range(1, values.ndim)))
    return jnp.sum(jnp.broadcast_to(weight, values.shape) * values)


def _over_samples(add: Callable, total: tuple, data: Dataset, at_once: int) -> tuple:
    """`add(total, samples)` over all samples, a block of them at a time, so that it stays in cache.

    All at once where they are few: a second pass then finds the predictions already there.
    """
    n = len(data)
    blocks = n // at_once if n > at_once else 0
    if blocks:
        blocked = jax.tree.map(
            lambda leaf: leaf[: blocks * at_once].reshape(blocks, at_once, *leaf.shape[1:]),
            data,
        )
        # Computed again for a derivative, not kept for all blocks.
        add_block = jax.checkpoint(add)
        total, _ = jax.lax.scan(lambda total, part: (add_block(total, part), None), total, blocked)
    rest = jax.tree.map(lambda leaf: leaf[blocks * at_once :], data)
    return add(total, rest) if len(rest) else total


def why_not_exact(loss: Any, plane: Plane, data: Any) -> str | None:
    """Why the exact squared error does not hold for this loss on this plane; None if it does.

    Whether predictions are affine in b is not sampled but read off the computation: their
    derivative in b must not depend on b at all.
    """
    if not (isinstance(loss, PointwiseLoss) and loss.error is square and isinstance(data, Dataset)):
        return "it holds for squared_error (or squared_error.of(model)) over a Dataset only"
    leaves, structure = jax.tree.flatten((plane, data.x))
    shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    if _is_affine(loss.predict, structure, shapes):
        return None
    return f"the prediction is not affine in {plane.names[1]}, the second coordinate"


@functools.lru_cache(maxsize=256)
def _is_affine(predict: Callable, structure: Any, shapes: tuple) -> bool:
    def slope(b, leaves):
        plane, x = jax.tree.unflatten(structure, leaves)
        _, tangent = jax.jvp(lambda b: predict(plane.at(0.0, b), x), (b,), (jnp.ones_like(b),))
        return tangent

    # vmap refuses `out_axes=None` for an output that depends on the mapped input.
    along_b = jax.vmap(slope, in_axes=(0, None), out_axes=None)
    two_points = jax.ShapeDtypeStruct((2,), jnp.result_type(float))
    try:
        jax.eval_shape(along_b, two_points, list(shapes))
    except ValueError as error:
        if "out_axes" in str(error):
            return False
        raise
    return True


# Units in the last place of a loss that two ways of adding it up may differ by. Means of 10⁵ errors
# differ by some ten.
_SUMS = 32
# Of a row's range, the most that is put down to rounding of the parameters.
_NOISE = 1 / 100


class Checked(NamedTuple):
    """Of every row, the checked cell that is farthest beyond what rounding can be."""

    wrong: jax.Array
    """(rows,) bool: whether the parabola is not the loss there."""
    b: jax.Array
    """(rows,) where."""
    loss: jax.Array
    """(rows,) the loss itself."""
    parabola: jax.Array
    """(rows,) the parabola's."""


def of_any_loss(
    loss: Callable[[Any, Any], jax.Array], plane: Plane, a: jax.Array, b: jax.Array, data: Any
) -> tuple[jax.Array, Checked]:
    """The loss in every cell if it is a quadratic function of b along every row, and whether it is.

    Of a row, value, slope and curvature are taken in its middle, and once more value and slope at
    its lowest point, or at the end of the row that is nearest to it. From there on nothing cancels:
    c + d·(slope + curvature/2·d), d being the distance in b, with a slope of 0 but for rounding.

    Nothing is proved of a function that is not known. At both ends of every row and in three cells
    drawn at random the loss itself is computed. It has to be the parabola's, but for half of the
    dtype's digits of the row's range, some last digits of the loss as it is, and what the loss is
    off by where each parameter is off by as many of its own. The last is the rounding of
    predictions near a perfect fit, to first order; beyond a hundredth
    of the range it is refused all the same, as a row that holds little but rounding.

    Args:
        loss: (params, data) -> scalar.
        plane, data: as in `parabola`.
        a, b: (n1,) and (n2,) the coordinates.

    Returns:
        (n1, n2) cells, and what was checked.
    """
    eps = jnp.finfo(b.dtype).eps.astype(b.dtype)

    def row(a: jax.Array) -> tuple[jax.Array, Checked]:
        def value(b: jax.Array) -> jax.Array:
            return scalar(loss(plane.at(a, b), data)).astype(b.dtype)

        def off(b: jax.Array) -> jax.Array:
            """The derivative of the loss in a relative error of all parameters."""
            params = plane.at(a, b)

            def value(error: jax.Array) -> jax.Array:
                moved = jax.tree.map(lambda leaf: _scaled(leaf, error), params)
                return scalar(loss(moved, data)).astype(b.dtype)

            return jax.jvp(value, (jnp.zeros_like(b),), (jnp.ones_like(b),))[1]

        def line(at: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(value, (at,), (jnp.ones_like(at),))

        middle = b[b.size // 2]
        (_, slope), (_, bend) = jax.jvp(line, (middle,), (jnp.ones_like(middle),))
        turn = middle - slope / jnp.where(bend == 0, 1, bend)
        start = jnp.clip(jnp.where(bend == 0, middle, turn), b[0], b[-1])
        lowest, slope = line(start)
        away = b - start
        cells = lowest + away * (slope + bend / 2 * away)

        bits = jax.lax.bitcast_convert_type(a.astype(jnp.float32), jnp.uint32)
        drawn = jax.random.randint(jax.random.fold_in(jax.random.key(0), bits), (3,), 0, b.size)
        at = jnp.concatenate([jnp.asarray([0, b.size - 1], drawn.dtype), drawn])
        true, ours = jax.lax.map(value, b[at]), cells[at]
        # At the end that is farther up, where it is largest.
        change = off(jnp.where(2 * start < b[0] + b[-1], b[-1], b[0]))
        height = jnp.abs(cells - lowest)
        height = jnp.max(jnp.where(jnp.isfinite(height), height, 0))
        noise = _SUMS * eps * jnp.where(jnp.isfinite(change), jnp.abs(change), 0)
        allowed = _SUMS * eps * jnp.abs(true) + jnp.sqrt(eps) * height
        allowed += jnp.minimum(noise, _NOISE * height)
        beyond = jnp.abs(ours - true) - allowed
        beyond = jnp.where(jnp.isnan(beyond), jnp.inf, beyond)
        # What is not finite is to stay so.
        beyond = jnp.where(jnp.isfinite(true), beyond, jnp.where(jnp.isfinite(ours), jnp.inf, 0))
        worst = jnp.argmax(beyond)
        return cells, Checked(beyond[worst] > 0, b[at][worst], true[worst], ours[worst])

    return jax.lax.map(row, a)


def _scaled(leaf: Any, error: jax.Array) -> Any:
    """A leaf, each of its numbers off by plus or minus a relative error."""
    if not is_parameter(leaf):
        return leaf
    # Multiples of the golden ratio, modulo 1: drawn signs would be kept for all parameters.
    count = jax.lax.iota(jnp.uint32, max(1, jnp.size(leaf))).reshape(jnp.shape(leaf))
    up = count * jnp.uint32(2654435769) < jnp.uint32(2**31)
    moved = leaf * (1 + jnp.where(up, error, -error))
    return moved.astype(getattr(leaf, "dtype", error.dtype))


def refuse_wrong(checked: Checked, a: Any, names: tuple[str, str]) -> None:
    """Refuse rows whose parabolas are not the loss.

    Raises:
        ValueError: the first, and where.
    """
    wrong = np.asarray(checked.wrong)[: len(a)]
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(
            f"method: 'exact' does not hold here: at {names[0]} = {a[k]:g}, "
            f"{names[1]} = {checked.b[k]:g} the loss is {checked.loss[k]:.6g}, and "
            f"{checked.parabola[k]:.6g} on the parabola of its row; use 'dense'"
        )


def chosen(
    method: Literal["auto", "dense", "exact"], loss: Any, plane: Plane, data: Any, several: bool
) -> Literal["dense", "exact"]:
    """The strategy for a loss.

    Raises:
        ValueError: "exact" where it is known not to hold, or could not be checked.
    """
    if method == "dense":
        return "dense"
    objection: str | None = None
    if method == "auto" or isinstance(loss, PointwiseLoss):
        objection = why_not_exact(loss, plane, data)
    elif several:
        objection = "the loss returns several scalars"
    elif _is_traced(loss, plane, data):
        objection = "it could not be checked under a transformation of JAX"
    if objection and method == "exact":
        raise ValueError(f"method: 'exact' does not hold here: {objection}; use 'dense'")
    return "dense" if objection else "exact"


def _is_traced(loss: Any, plane: Plane, data: Any) -> bool:
    """Whether plane or data, or a value that the loss holds on to, are traced."""
    computed = jax.make_jaxpr(lambda plane, data: loss(plane.at(0.0, 0.0), data))(plane, data)
    return any(
        isinstance(leaf, jax.core.Tracer)
        for leaf in jax.tree.leaves((plane, data, computed.consts))
    )
