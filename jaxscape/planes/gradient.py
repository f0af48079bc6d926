"""The plane of a loss's gradient and a direction at a right angle to it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key
from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import (
    Params,
    Static,
    check_finite,
    combine,
    partition,
    split_arrays,
    zip_with_paths,
)
from jaxscape.data.stream import mean_over
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import ScalarLoss, check_is_function, scalar
from jaxscape.planes.directions import (
    Direction,
    are_parallel,
    check_direction,
    dot,
    is_key,
    random_direction,
)
from jaxscape.planes.plane import Plane


def gradient_plane(
    loss: ScalarLoss,
    data: Any,
    params: Params,
    direction: Key | Direction,
    *,
    leaves: Callable[[str], bool] | None = None,
) -> Plane:
    """Return the plane spanned by the gradient, which points uphill, and another direction.

    The directions are orthonormal. The slope of the loss along the second is zero at the origin.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        data: the second argument of the loss, or a `Stream` of batches of it if the loss is a mean
            over samples.
        params: the parameters at (0, 0). Leaves that are not floating numbers do not move.
        direction: the second direction, of which the part orthogonal to the gradient is used; or a
            JAX random key, to draw a Gaussian one.
        leaves: tree path, as `jax.tree_util.keystr` writes it -> whether the leaf may move; it can
            exclude batch statistics, for instance.

    Returns:
        The plane, whose coordinate `a` is along the gradient.

    Raises:
        TypeError: The loss does not return a floating scalar, or the direction is not floating.
        ValueError: The direction differs from the parameters in structure or shape, is not finite,
            zero or parallel to the gradient, or moves a leaf that may not move; the parameters are
            not finite, or none of them may move; or the gradient is zero or not finite.

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
    moving, _ = partition(params, leaves)
    moving = jax.tree.map(jnp.asarray, moving)
    if not jax.tree.leaves(moving):
        raise ValueError("params, leaves: expected a leaf of floating numbers that moves, got none")

    if is_key(direction):
        direction = random_direction(direction, moving, normalize=None, include_vectors=True)
    check_direction("direction", params, direction)
    for path, leaf, step in zip_with_paths(moving, direction):
        if leaf is None and step is not None:
            raise ValueError(f"direction{path}: expected None, as `leaves` excludes this leaf")

    arrays, static = split_arrays(params)
    gradient = mean_over(data, lambda batch: _gradient(loss, static, arrays, moving, batch))
    # The mean over a stream has dtype float64.
    gradient = jax.tree.map(lambda step, leaf: jnp.asarray(step, leaf.dtype), gradient, moving)
    length = np.sqrt(dot(gradient, gradient))
    if not 0 < length < np.inf:
        raise ValueError(f"loss: expected a finite nonzero gradient, got one of length {length:g}")
    if are_parallel(gradient, direction):
        raise ValueError(
            "direction: expected one that is not parallel to the gradient, got a parallel one"
        )
    plane = Plane(params, gradient, direction).orthonormal()
    units = "distance uphill", "distance across"
    return Plane(params, plane.u, plane.v, units=units, marks=((0, 0, "origin"),))


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _gradient(
    loss: Callable, static: Static, arrays: Params, moving: Params, data: Any
) -> Direction:
    """Return the gradient with respect to the moving leaves, `None` for the others.

    Args:
        loss: as in `gradient_plane`.
        static: the parameters without their arrays.
        arrays: the parameters' arrays.
        moving: the leaves that move, as arrays.
        data: as in `gradient_plane`, or a batch of a stream.
    """
    params = static.with_arrays(arrays)

    def value(moving: Params) -> jax.Array:
        return scalar(loss(combine(moving, params), data))

    return jax.grad(value)(moving)
