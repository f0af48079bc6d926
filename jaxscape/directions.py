"""Directions in parameter space: which leaves have numbers to move, lengths, angles, choices."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.data import Key, check_key
from jaxscape.results import is_traced

OutputAxis = int | Sequence[int] | Callable[[str], int | Sequence[int]]
"""The axis, or the axes, of a leaf along which its filters lie; or path of a leaf -> that."""


def is_none(leaf: Any) -> bool:
    """For `jax.tree.map`: structural zeros are leaves."""
    return leaf is None


def is_array(leaf: Any) -> bool:
    """Whether a leaf is traced: an array, of any dtype, or a Python float."""
    return isinstance(leaf, float | complex) or (hasattr(leaf, "dtype") and hasattr(leaf, "shape"))


def is_parameter(leaf: Any) -> bool:
    """Whether a leaf holds what a direction can move: floating numbers."""
    if isinstance(leaf, float):
        return True
    return is_array(leaf) and jnp.issubdtype(getattr(leaf, "dtype", complex), jnp.floating)


def is_key(value: Any) -> bool:
    """Whether what may be a direction too is a JAX random key."""
    if not isinstance(value, jax.Array):
        return False
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return True
    # As `jax.random.PRNGKey` makes them: numbers of the shape that the chosen generator takes.
    plain = jax.eval_shape(jax.random.PRNGKey, 0)
    return (value.shape, value.dtype) == (plain.shape, plain.dtype)


def random_direction(
    key: Key,
    params: Any,
    *,
    normalise: Literal["filter", "layer"] | None = "filter",
    output_axis: OutputAxis = -1,
    vectors: bool = False,
    leaves: Callable[[str], bool] | None = None,
) -> Any:
    """A random direction from parameters, as `Plane.random` draws its two.

    Args:
        key: a JAX random key.
        params: the parameters that it starts from.
        normalise, output_axis, vectors, leaves: as in `Plane.random`.

    Returns:
        The structure of `params`, `None` for each leaf left alone.

    Raises:
        TypeError, ValueError: an unknown `normalise`; an axis that a leaf does not have; no leaf
            that moves; parameters that are not finite.

    Example:
        >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
        >>> jxs.random_direction(jax.random.key(0), params, leaves=lambda path: "ker" in path)
        {'bias': None, 'kernel': Array([[...]], dtype=float32)}
    """
    check_key(key)
    if normalise not in ("filter", "layer", None):
        raise ValueError(f"normalise: expected 'filter', 'layer' or None, got {normalise!r}")
    check_finite("params", params)
    paths, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)

    def along(key: jax.Array, path: Any, leaf: Any) -> jax.Array | None:
        if not is_parameter(leaf) or (jnp.ndim(leaf) < 2 and not vectors):
            return None
        where = jax.tree_util.keystr(path)
        if leaves is not None and not leaves(where):
            return None
        leaf = jnp.asarray(leaf)
        step = jax.random.normal(key, leaf.shape, leaf.dtype)
        if normalise is None:
            return step
        axes: Any = None
        if normalise == "filter" and leaf.ndim > 1:
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
            "than two axes move with vectors=True"
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


def difference(params: Any, origin: Any) -> Any:
    """The direction from `origin` to other parameters of the same structure.

    `None` for each leaf that both have alike, as layers that were not trained.
    """

    def step(leaf: Any, start: Any) -> Any:
        # Leaves that are not parameters, functions or keys, are the origin's.
        if not is_parameter(start):
            return None
        alike = not is_traced(leaf, start) and np.array_equal(leaf, start)
        return None if alike else jnp.asarray(leaf) - jnp.asarray(start)

    return jax.tree.map(step, params, origin, is_leaf=is_none)


def dot(u: Any, v: Any) -> float:
    """The inner product of two directions, in float64."""
    pairs = zip(*(jax.tree.leaves(d, is_leaf=is_none) for d in (u, v)), strict=True)
    return sum(
        (
            float(np.vdot(np.asarray(p, np.float64), np.asarray(q, np.float64)))
            for p, q in pairs
            if p is not None and q is not None
        ),
        0.0,
    )


def scaled(direction: Any, factor: float) -> Any:
    """A direction times a number."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) * factor, direction)


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


def paired(tree: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, leaf and the other's leaf, of two trees of one structure, `None` being a leaf."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    others = jax.tree.leaves(other, is_leaf=is_none)
    for (path, leaf), there in zip(paths, others, strict=True):
        yield jax.tree_util.keystr(path), leaf, there


def check_structure(name: str, expected: str, first: Any, other: Any) -> None:
    """Refuse a pytree of another structure than the first's, naming the leaf by its path."""
    structures: list[Any] = [jax.tree.structure(p, is_leaf=is_none) for p in (first, other)]
    if structures[0] == structures[1]:
        return
    here, there = ([path for path, *_ in paired(tree, tree)] for tree in (first, other))
    missing = [path for path in here if path not in set(there)]
    more = [path for path in there if path not in set(here)]
    got = f"{structures[0]}, got {structures[1]}"
    if missing:
        got = f"with a leaf {missing[0] or 'alone'}, got {more[0] if more else 'none'} there"
    elif more:
        got = f"got a leaf {more[0]} beside it"
    raise ValueError(f"{name}: expected {expected} {got}")


def check_alike(name: str, first: Any, other: Any, whose: str = "the first's") -> None:
    """Refuse parameters of another structure than the first's, or of other shapes."""
    check_structure(name, f"{whose} structure", first, other)
    for path, here, there in paired(first, other):
        if not is_parameter(here):
            continue
        if not is_parameter(there):
            kind = getattr(there, "dtype", type(there).__name__)
            raise TypeError(f"{name}{path}: expected floating numbers, as {whose}, got {kind}")
        if jnp.shape(here) != jnp.shape(there):
            raise ValueError(
                f"{name}{path}: expected {whose} shape {jnp.shape(here)}, got {jnp.shape(there)}"
            )


def check_finite(name: str, params: Any) -> None:
    """Refuse parameters that are not finite, naming the leaf by its path."""
    for path, leaf, _ in paired(params, params):
        if is_parameter(leaf) and not is_traced(leaf) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"{name}{path}: expected finite numbers, got some that are not")


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
