"""A parabola a row of a loss of which nothing is known, compared with the loss itself."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.network import PointwiseLoss, scalar
from jaxscape.plane import Plane
from jaxscape.quadratic import why_not_exact


class Checked(NamedTuple):
    """Of every row, where its parabola is farthest from what the loss itself is there."""

    wrong: jax.Array
    """(rows,) bool: whether it is farther than rounding can be."""
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

    Nothing is proved of a function that is not known. At both ends of every row and at a cell drawn
    at random the loss itself is computed. It has to be the parabola's, but for half of the dtype's
    digits, of it and of a thousandth of the largest of the three: what sums over many samples, near
    a perfect fit too, lose is far less, and what is no parabola is as a rule far more.

    Args:
        loss: (params, data) -> scalar.
        plane, data: as in `parabola`.
        a, b: (n1,) and (n2,) the coordinates.

    Returns:
        (n1, n2) cells, and what was checked.
    """
    rounding = jnp.sqrt(jnp.finfo(b.dtype).eps).astype(b.dtype)

    def row(a: jax.Array) -> tuple[jax.Array, Checked]:
        def value(b: jax.Array) -> jax.Array:
            return scalar(loss(plane.at(a, b), data)).astype(b.dtype)

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
        drawn = jax.random.randint(jax.random.fold_in(jax.random.key(0), bits), (), 0, b.size)
        at = jnp.stack([jnp.zeros_like(drawn), drawn, jnp.full_like(drawn, b.size - 1)])
        true, ours = jax.vmap(value)(b[at]), cells[at]
        finite = jnp.isfinite(true)
        largest = jnp.max(jnp.where(finite, jnp.abs(true), 0))
        allowed = rounding * (jnp.abs(true) + largest / 1000)
        near = jnp.abs(ours - true) <= allowed
        wrong = ~jnp.where(finite, near, ~jnp.isfinite(ours))
        worst = jnp.argmax(wrong)
        return cells, Checked(wrong[worst], b[at][worst], true[worst], ours[worst])

    return jax.lax.map(row, a)


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
    elif any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((plane, data))):
        objection = "it could not be checked under a transformation of JAX"
    if objection and method == "exact":
        raise ValueError(f"method: 'exact' does not hold here: {objection}; use 'dense'")
    return "dense" if objection else "exact"
