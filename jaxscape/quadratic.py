"""The exact squared error where the prediction is affine in the second coordinate.

There the error of row a is a parabola in b, floor + curvature·(b - lowest)²; its three numbers
cost one pass over the data, and every cell of the row follows from them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxscape.data import Dataset
from jaxscape.network import PointwiseLoss, check_same_shape, mean_over_samples, square
from jaxscape.plane import Plane


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


def parabola(predict: Callable, plane: Plane, a: jax.Array, data: Dataset) -> Parabola:
    """The parabola of row a.

    Args:
        predict: (params, x) -> predictions, affine in the plane's second coordinate.
        plane: where the parameters lie.
        a: () the first coordinate.
        data: n samples.

    Returns:
        Scalars of the prediction's dtype.
    """
    zero = jnp.zeros_like(a)
    start, slope = jax.jvp(
        lambda b: predict(plane.at(a, b), data.x), (zero,), (jnp.ones_like(zero),)
    )
    check_same_shape(start, data.y)
    residual = start - data.y
    mean = functools.partial(mean_over_samples, sample_weight=data.sample_weight)
    # Slopes are scaled to at most 1: with w1 = 1e-20 their squares would underflow in float32,
    # and the parabola be flat where the loss is not. A power of two scales without rounding.
    steepest = jax.lax.stop_gradient(jnp.max(jnp.abs(slope)))
    scale = jnp.ldexp(jnp.ones_like(steepest), jnp.frexp(steepest)[1])
    slope = slope / scale
    curvature = mean(slope * slope)
    divisor = jnp.where(curvature > 0, curvature, 1)
    lowest = -mean(residual * slope) / divisor
    # The floor is a mean of squares of residuals at the lowest point, not c - m²/q, which cancels
    # near a perfect fit. The same residuals give the part of the lowest point below its last digit:
    # without it, half a unit there is an error of 1e-4 in losses a millionth of the range.
    residual = residual + lowest * slope
    correction = -mean(residual * slope) / divisor
    floor = mean(residual * residual)
    return Parabola(floor, curvature, scale, lowest, correction)


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
