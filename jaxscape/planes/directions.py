"""Directions in parameter space: which leaves have numbers to move, lengths, angles, choices."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key, check_key
from jaxscape._util.pytree import (
    check_alike,
    check_finite,
    check_structure,
    difference,
    dot,
    is_none,
    is_parameter,
    is_traced,
    paired,
    scaled,
)

OutputAxis = int | Sequence[int] | Callable[[str], int | Sequence[int]]
"""The axis, or the axes, of a leaf along which its filters lie; or path of a leaf -> that."""


def random_direction(
    key: Key,
    params: Any,
    *,
    normalize: Literal["filter", "layer"] | None = "filter",
    output_axis: OutputAxis = -1,
    include_vectors: bool = False,
    leaves: Callable[[str], bool] | None = None,
) -> Any:
    """A random direction from parameters, as `Plane.random` draws its two.

    Args:
        key: a JAX random key.
        params: the parameters that it starts from.
        normalize, output_axis, include_vectors, leaves: as in `Plane.random`.

    Returns:
        The structure of `params`, `None` for each leaf left alone.

    Raises:
        TypeError, ValueError: an unknown `normalize`; an axis that a leaf does not have; no leaf
            that moves; parameters that are not finite.

    Example:
        >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
        >>> jxs.random_direction(jax.random.key(0), params, leaves=lambda path: "ker" in path)
        {'bias': None, 'kernel': Array([[...]], dtype=float32)}
    """
    check_key(key)
    if normalize not in ("filter", "layer", None):
        raise ValueError(f"normalize: expected 'filter', 'layer' or None, got {normalize!r}")
    check_finite("params", params)
    paths, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)

    def along(key: jax.Array, path: Any, leaf: Any) -> jax.Array | None:
        if not is_parameter(leaf) or (jnp.ndim(leaf) < 2 and not include_vectors):
            return None
        where = jax.tree_util.keystr(path)
        if leaves is not None and not leaves(where):
            return None
        leaf = jnp.asarray(leaf)
        step = jax.random.normal(key, leaf.shape, leaf.dtype)
        if normalize is None:
            return step
        axes: Any = None
        if normalize == "filter" and leaf.ndim > 1:
            kept = _axes(where, leaf, output_axis)
            axes = tuple(k for k in range(leaf.ndim) if k not in kept)

        def norm(values: jax.Array) -> jax.Array:
            # Of half the digits, squares overflow where their numbers are far from it.
            values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
            return jnp.sqrt(jnp.sum(values * values, axis=axes, keepdims=True))

        # A filter of zeros has a direction of zeros.
        return step * (norm(leaf) / norm(step)).astype(step.dtype)

    keys = jax.random.split(key, len(paths))
    steps = [along(k, path, leaf) for k, (path, leaf) in zip(keys, paths, strict=True)]
    if all(step is None for step in steps):
        raise ValueError(
            f"params, leaves: expected a leaf that moves, got none of {len(paths)}; leaves of less "
            "than two axes move with include_vectors=True"
        )
    return jax.tree.unflatten(structure, steps)


def _axes(where: str, leaf: Any, output_axis: OutputAxis) -> set[int]:
    """The axes of a leaf along which its filters lie, from 0."""
    given = output_axis(where) if callable(output_axis) else output_axis
    axes = np.atleast_1d(np.asarray(given))
    if axes.dtype.kind != "i" or axes.ndim > 1 or not (abs(axes + 0.5) < leaf.ndim).all():
        raise ValueError(
            f"output_axis: expected axes of params{where}, whose shape is {leaf.shape}, got {given}"
        )
    return {int(axis) % leaf.ndim for axis in axes}


def orthonormal(u: Any, v: Any) -> tuple[Any, Any]:
    """The same plane's directions, of length 1 and at a right angle (Gram and Schmidt).

    A leaf that both leave alone is left alone; so is one of `v` alone, where they are at a right
    angle already.
    """
    u = scaled(u, 1 / np.sqrt(dot(u, u)))
    v = at_right_angle(u, v)
    return u, scaled(v, 1 / np.sqrt(dot(v, v)))


def at_right_angle(u: Any, v: Any) -> Any:
    """What is left of `v` without its part along `u`; `v` itself where that is nothing."""
    # Twice: what rounding left of u after the first time.
    for _ in range(2):
        overlap = dot(u, v) / dot(u, u)
        if overlap == 0:
            break

        def part(step: Any, along: Any, overlap: float = overlap) -> Any:
            if along is None:
                return step
            return (0 if step is None else step) - overlap * along

        v = jax.tree.map(part, v, u, is_leaf=is_none)
    return v


def way(name: str, first: Any, other: Any) -> Any:
    """The direction from a first solution to another one.

    Raises:
        TypeError, ValueError: solutions that do not fit, are not finite, or equal.
    """
    check_alike(name, first, other)
    for whose, params in (("first", first), (name, other)):
        check_finite(whose, params)
    found = difference(other, first)
    if not jax.tree.leaves(found):
        raise ValueError(f"{name}: expected other parameters than the first's, got the same")
    return found


def check_direction(name: str, origin: Any, direction: Any) -> None:
    """Refuse a direction that does not fit the origin, is not finite, or zero."""
    check_structure(name, "the origin's structure", origin, direction)
    if not jax.tree.leaves(direction):
        raise ValueError(f"{name}: expected a direction, got None for every leaf")
    for path, leaf, step in paired(origin, direction):
        if step is None:
            continue
        if not is_parameter(leaf):
            kind = getattr(leaf, "dtype", type(leaf).__name__)
            raise TypeError(
                f"{name}{path}: expected None, as the origin holds no floating numbers there but "
                f"{kind}"
            )
        if not is_parameter(step):
            kind = getattr(step, "dtype", type(step).__name__)
            raise TypeError(f"{name}{path}: expected floating numbers, got {kind}")
        if jnp.shape(step) != jnp.shape(leaf):
            raise ValueError(
                f"{name}{path}: expected the origin's shape {jnp.shape(leaf)}, "
                f"got {jnp.shape(step)}"
            )
    if is_traced(*jax.tree.leaves(direction)):
        return
    check_finite(name, direction)
    if dot(direction, direction) == 0:
        raise ValueError(f"{name}: expected a direction, got zeros")


def check_directions(origin: Any, u: Any, v: Any) -> None:
    """Refuse directions that do not fit the origin, or do not make a plane."""
    check_direction("plane.u", origin, u)
    check_direction("plane.v", origin, v)
    check_finite("plane.origin", origin)
    if are_along_one_line(u, v):
        raise ValueError(
            "plane.v: expected another direction than u's, got one along the same line"
        )


def are_along_one_line(u: Any, v: Any) -> bool:
    """Whether two directions are the same or opposite, to rounding; False if they are traced."""
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
