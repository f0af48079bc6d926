"""The plane of a loss's gradient and a direction at a right angle to it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import check_finite, dot, is_array, is_key, is_none, is_parameter, paired
from jaxscape.data.stream import mean_over
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import check_is_function, scalar
from jaxscape.planes.directions import are_along_one_line, check_direction, random_direction
from jaxscape.planes.plane import Plane


def gradient_plane(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    params: Any,
    direction: Any,
    *,
    leaves: Callable[[str], bool] | None = None,
) -> Plane:
    """The plane of the gradient, which points uphill, and another direction.

    Both are of length 1 and at a right angle, so that in the second the loss is flat at the origin.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        data: what the loss takes; or a `Stream` of it, for which the loss has to be a mean over
            samples.
        params: the parameters at (0, 0). Leaves that are not floating numbers stay as they are.
        direction: a JAX random key for a Gaussian second direction; or a direction.
        leaves: path of a leaf, as `jax.tree_util.keystr` writes it, -> whether it may move: so that
            batch statistics, say, stay.

    Returns:
        The plane, with "a" along the gradient.

    Raises:
        TypeError: a loss that does not return a floating scalar; a direction without floating
            numbers.
        ValueError: a direction of another structure or shape, not finite, zero, along the gradient,
            or along a leaf that may not move; parameters that are not finite; a gradient that is
            zero or not finite.

    Example:
        >>> def bowl(p, data):
        ...     return jnp.sum(p["w"] ** 2) + p["b"] ** 2
        >>> plane = jxs.gradient_plane(bowl, None, {"w": jnp.ones(2), "b": 0.0}, jax.random.key(0))
        >>> plane.u["w"].round(3), abs(float(plane.u["w"] @ plane.v["w"])) < 1e-6
        (Array([0.707, 0.707], dtype=float32), True)
    """
    check_is_function("loss", loss)
    check_data(loss, data)
    check_finite("params", params)

    def moves(path: Any, leaf: Any) -> bool:
        return is_parameter(leaf) and (leaves is None or leaves(jax.tree_util.keystr(path)))

    moving = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(leaf) if moves(path, leaf) else None, params
    )
    if not jax.tree.leaves(moving):
        raise ValueError("params, leaves: expected a leaf of floating numbers that moves, got none")

    if is_key(direction):
        direction = random_direction(direction, moving, normalize=None, include_vectors=True)
    check_direction("direction", params, direction)
    for path, leaf, step in paired(moving, direction):
        if leaf is None and step is not None:
            raise ValueError(f"direction{path}: expected None, as `leaves` keeps it still")

    every, structure = jax.tree.flatten(params, is_leaf=is_none)
    others = tuple(None if is_array(leaf) else leaf for leaf in every)
    arrays = tuple(leaf if is_array(leaf) else None for leaf in every)
    uphill = mean_over(data, lambda batch: _slope(loss, structure, others, arrays, moving, batch))
    # Of a stream they are in float64.
    uphill = jax.tree.map(lambda step, leaf: jnp.asarray(step, leaf.dtype), uphill, moving)
    length = np.sqrt(dot(uphill, uphill))
    if not 0 < length < np.inf:
        raise ValueError(f"loss: expected a gradient of finite length over 0, got {length:g}")
    if are_along_one_line(uphill, direction):
        raise ValueError(
            "direction: expected another than the gradient's, got one along the same line"
        )
    plane = Plane(params, uphill, direction).orthonormal()
    units = "distance uphill", "distance across"
    return Plane(params, plane.u, plane.v, units=units, marks=((0, 0, "origin"),))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@in_full_precision
def _slope(
    loss: Callable, structure: Any, others: tuple, arrays: tuple, moving: Any, data: Any
) -> Any:
    """The gradient in the leaves that move, `None` for the rest.

    Args:
        loss, data: as in `gradient_plane`, or a batch of a stream.
        structure: of the parameters.
        others: their leaves that are no arrays, `None` for the rest.
        arrays: those that are, likewise.
        moving: the parameters, `None` for each leaf that stays.
    """
    leaves = [
        other if array is None else array for array, other in zip(arrays, others, strict=True)
    ]
    params = jax.tree.unflatten(structure, leaves)

    def value(moving: Any) -> jax.Array:
        filled = jax.tree.map(
            lambda leaf, new: leaf if new is None else new, params, moving, is_leaf=is_none
        )
        return scalar(loss(filled, data))

    return jax.grad(value)(moving)
