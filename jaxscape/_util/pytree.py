"""Numbers in float64, whatever precision they came in."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def in_float64(tree: Any) -> Any:
    """Arrays and numbers of a pytree in float64, of the values that they have."""

    def convert(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return np.asarray(leaf).astype(np.float64) if floating else leaf

    return jax.tree.map(convert, tree)


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


def is_traced(*arrays: Any) -> bool:
    """Whether one of them stands for values not known yet."""
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def floating(params: Any, data: Any) -> Any:
    """The starts as strongly typed arrays: a scan's state must keep its dtype."""
    leaves = [leaf for leaf in jax.tree.leaves(data) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    if not jax.tree.leaves(params):
        raise ValueError(f"params: expected at least one array or number, got {params!r}")

    def convert(path, leaf):
        name = f"params{jax.tree_util.keystr(path)}"
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            dtype = jnp.result_type(*leaves, float) if leaves else jnp.result_type(float)
        if not jnp.issubdtype(dtype, jnp.floating):
            kind = f"dtype {dtype}" if is_array(leaf) else type(leaf).__name__
            raise TypeError(
                f"{name}: expected floating numbers, got {kind}; train the "
                "floating leaves alone and put the others back in the loss, as with "
                "equinox.partition and equinox.combine"
            )
        if isinstance(leaf, jax.core.Tracer):
            return leaf
        array = np.asarray(leaf).astype(dtype)
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers, got some that are not")
        return leaf if isinstance(leaf, jax.Array) else array

    return jax.tree_util.tree_map_with_path(convert, params)


def norm(tree: Any) -> jax.Array:
    """The length of all numbers of a pytree as one vector."""
    # Scaled, so that squares of tiny steps do not underflow: a step of 1e-25 is a step.
    leaves = jax.tree.leaves(tree)
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(leaf)) for leaf in leaves])
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = [jnp.sum(jnp.square(leaf / scale)) for leaf in leaves]
    return scale * jnp.sqrt(functools.reduce(jnp.add, squares))
