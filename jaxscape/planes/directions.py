"""Directions in parameter space: draw, orthonormalize, compare and check them.

A direction has the structure of the parameters, with `None` for each leaf that it does not change.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key, check_choice, check_key
from jaxscape._util.pytree import (
    Params,
    check_finite,
    check_same_shapes,
    check_same_structure,
    is_none,
    is_parameter,
    is_traced,
    kind_of,
    zip_with_paths,
)

Direction = Any
"""A pytree of the parameters' structure, with `None` for each leaf that does not move."""

P = TypeVar("P")
"""A pytree of parameters; its directions have the same structure."""

Normalize = Literal["filter", "layer"] | None

OutputAxis = int | Sequence[int] | Callable[[str], int | Sequence[int]]
"""The axis or axes along which a leaf's filters are, or a function from the tree path to them."""


def random_direction(
    key: Key,
    params: P,
    *,
    normalize: Normalize = "filter",
    output_axis: OutputAxis = -1,
    include_vectors: bool = False,
    leaves: Callable[[str], bool] | None = None,
) -> P:
    """Draw a random direction at some parameters, in the same manner as `Plane.random`.

    Args:
        key: a JAX random key.
        params: the parameters from which the direction starts.
        normalize: as in `Plane.random`.
        output_axis: as in `Plane.random`.
        include_vectors: as in `Plane.random`.
        leaves: as in `Plane.random`.

    Returns:
        A pytree of the structure of `params`, with `None` for each leaf that does not move.

    Raises:
        TypeError: `key` is not a JAX random key.
        ValueError: `normalize` is unknown, a leaf does not have an axis of `output_axis`, no leaf
            moves, or the parameters are not finite.

    Example:
        >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
        >>> jxs.random_direction(jax.random.key(0), params, leaves=lambda path: "ker" in path)
        {'bias': None, 'kernel': Array([[...]], dtype=float32)}
    """
    check_key(key)
    check_choice("normalize", normalize, ("filter", "layer", None))
    check_finite("params", params)
    pairs, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)

    def draw(key: jax.Array, tree_path: Any, leaf: Any) -> jax.Array | None:
        if not is_parameter(leaf) or (jnp.ndim(leaf) < 2 and not include_vectors):
            return None
        path = jax.tree_util.keystr(tree_path)
        if leaves is not None and not leaves(path):
            return None
        leaf = jnp.asarray(leaf)
        step = jax.random.normal(key, leaf.shape, leaf.dtype)
        if normalize is None:
            return step
        axes: Any = None
        if normalize == "filter" and leaf.ndim > 1:
            filter_axes = _filter_axes(path, leaf, output_axis)
            axes = tuple(k for k in range(leaf.ndim) if k not in filter_axes)

        def norm(values: jax.Array) -> jax.Array:
            # In half precision, the sum of squares could overflow.
            values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
            return jnp.sqrt(jnp.sum(values * values, axis=axes, keepdims=True))

        # A filter of zeros gets a direction of zeros.
        return step * (norm(leaf) / norm(step)).astype(step.dtype)

    keys = jax.random.split(key, len(pairs))
    steps = [draw(k, path, leaf) for k, (path, leaf) in zip(keys, pairs, strict=True)]
    if all(step is None for step in steps):
        raise ValueError(
            f"params, leaves: expected at least one leaf that moves, got none of {len(pairs)}; "
            "leaves with fewer than two axes move only with include_vectors=True"
        )
    return jax.tree.unflatten(structure, steps)


def _filter_axes(path: str, leaf: Any, output_axis: OutputAxis) -> set[int]:
    """Return the axes along which a leaf's filters are, counted from 0."""
    given = output_axis(path) if callable(output_axis) else output_axis
    axes = np.atleast_1d(np.asarray(given))
    if axes.dtype.kind != "i" or axes.ndim > 1 or not (abs(axes + 0.5) < leaf.ndim).all():
        raise ValueError(
            f"output_axis: expected axes of params{path}, whose shape is {leaf.shape}, got {given}"
        )
    return {int(axis) % leaf.ndim for axis in axes}


def is_key(value: Any) -> bool:
    """Return whether an argument, which may be a direction, is a JAX random key."""
    if not isinstance(value, jax.Array):
        return False
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return True
    # `jax.random.PRNGKey` returns a plain array, whose shape depends on the configured generator.
    plain = jax.eval_shape(jax.random.PRNGKey, 0)
    return (value.shape, value.dtype) == (plain.shape, plain.dtype)


def direction_between(name: str, first: Params, other: Params) -> Direction:
    """Return the direction from a first solution to another one.

    Args:
        name: the name of the argument `other`, for messages.
        first: parameters.
        other: parameters of the same structure.

    Returns:
        other - first, with `None` for each leaf that is not floating, or that is the same in both,
        for instance a layer that was not trained.

    Raises:
        TypeError: A floating leaf of `first` is not floating in `other`.
        ValueError: The solutions differ in structure or shapes, are not finite, or are equal.
    """
    check_same_shapes(name, first, other)
    for argument, params in (("first", first), (name, other)):
        check_finite(argument, params)

    def step(start: Any, end: Any) -> Any:
        if not is_parameter(start):
            return None
        equal = not is_traced(start, end) and np.array_equal(start, end)
        return None if equal else jnp.asarray(end) - jnp.asarray(start)

    direction = jax.tree.map(step, first, other, is_leaf=is_none)
    if not jax.tree.leaves(direction):
        raise ValueError(f"{name}: expected parameters that differ from the first, got equal ones")
    return direction


def dot(u: Direction, v: Direction) -> float:
    """Return the inner product of two directions, computed in float64."""
    pairs = zip(*(jax.tree.leaves(d, is_leaf=is_none) for d in (u, v)), strict=True)
    return sum(
        (
            float(np.vdot(np.asarray(p, np.float64), np.asarray(q, np.float64)))
            for p, q in pairs
            if p is not None and q is not None
        ),
        0.0,
    )


def orthonormalize(u: Direction, v: Direction) -> tuple[Direction, Direction]:
    """Return two orthonormal directions that span the same plane, by the Gram–Schmidt process.

    A leaf that is `None` in both `u` and `v` is `None` in both results. If `u` and `v` are already
    orthogonal, the second result is `None` wherever `v` is.
    """

    def unit(direction: Direction) -> Direction:
        scale = 1 / np.sqrt(dot(direction, direction))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf) * scale, direction)

    u = unit(u)
    return u, unit(orthogonal_part(u, v))


def orthogonal_part(u: Direction, v: Direction) -> Direction:
    """Return `v` without its component along `u`; `v` itself if they are orthogonal."""
    # The second pass removes the rounding error of the first.
    for _ in range(2):
        overlap = dot(u, v) / dot(u, u)
        if overlap == 0:
            break

        def subtract(step: Any, along: Any, overlap: float = overlap) -> Any:
            if along is None:
                return step
            return (0 if step is None else step) - overlap * along

        v = jax.tree.map(subtract, v, u, is_leaf=is_none)
    return v


def are_parallel(u: Direction, v: Direction) -> bool:
    """Return whether two directions are parallel, up to rounding; False if they are traced."""
    if is_traced(*jax.tree.leaves((u, v))):
        return False
    lengths = [np.sqrt(dot(d, d)) for d in (u, v)]
    first, second = (
        jax.tree.map(lambda x, s=length: np.asarray(x, np.float64) / s, d)
        for d, length in zip((u, v), lengths, strict=True)
    )
    cosine = dot(first, second)
    rest = jax.tree.map(
        lambda p, q: (0 if q is None else q) - (0 if p is None else cosine * p),
        first,
        second,
        is_leaf=is_none,
    )
    dtypes = [x.dtype for x in jax.tree.leaves((u, v)) if hasattr(x, "dtype")]
    rounding = max((float(jnp.finfo(d).eps) for d in dtypes), default=2.0**-52)
    return bool(np.sqrt(dot(rest, rest)) <= 4 * rounding)


def check_direction(name: str, origin: Params, direction: Direction) -> None:
    """Raise an error unless a direction fits the origin, is finite and not zero."""
    check_same_structure(name, "the origin's structure", origin, direction)
    if not jax.tree.leaves(direction):
        raise ValueError(f"{name}: expected a direction, got None for every leaf")
    for path, leaf, step in zip_with_paths(origin, direction):
        if step is None:
            continue
        if not is_parameter(leaf):
            raise TypeError(
                f"{name}{path}: expected None, because the origin has no floating numbers there "
                f"but {kind_of(leaf)}"
            )
        if not is_parameter(step):
            raise TypeError(f"{name}{path}: expected floating numbers, got {kind_of(step)}")
        if jnp.shape(step) != jnp.shape(leaf):
            raise ValueError(
                f"{name}{path}: expected the origin's shape {jnp.shape(leaf)}, "
                f"got {jnp.shape(step)}"
            )
    if is_traced(*jax.tree.leaves(direction)):
        return
    check_finite(name, direction)
    if dot(direction, direction) == 0:
        raise ValueError(f"{name}: expected a nonzero direction, got zeros")


def check_plane(origin: Params, u: Direction, v: Direction) -> None:
    """Raise an error unless two directions fit the origin and span a plane."""
    check_direction("plane.u", origin, u)
    check_direction("plane.v", origin, v)
    check_finite("plane.origin", origin)
    if are_parallel(u, v):
        raise ValueError(
            "plane.v: expected a direction that is not parallel to plane.u, got a parallel one"
        )
