"""A parabola a row of a loss of which nothing is known, compared with the loss itself."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.directions import is_parameter
from jaxscape.network import PointwiseLoss, scalar
from jaxscape.plane import Plane
from jaxscape.quadratic import why_not_exact

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
