"""Split, merge, check, compare and convert pytrees of parameters.

The leaves that move are those of floating numbers. All others (functions, strings, whole numbers,
random keys) keep their values. `None` stands for a missing leaf: a direction has it for each leaf
that it does not change. The functions here count `None` as a leaf.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Params = Any
"""A pytree of a model's parameters; besides floating numbers, it may have leaves of any type."""


def is_none(leaf: Any) -> bool:
    """Return whether a leaf is `None`; with it as `is_leaf`, JAX counts `None` as a leaf."""
    return leaf is None


def is_array(leaf: Any) -> bool:
    """Return whether JAX traces a leaf: an array of any dtype, or a Python float or complex."""
    return isinstance(leaf, float | complex) or (hasattr(leaf, "dtype") and hasattr(leaf, "shape"))


def is_parameter(leaf: Any) -> bool:
    """Return whether a leaf consists of floating numbers, which directions can change."""
    if isinstance(leaf, float):
        return True
    return is_array(leaf) and jnp.issubdtype(getattr(leaf, "dtype", complex), jnp.floating)


def is_traced(*arrays: Any) -> bool:
    """Return whether any of the arrays is a JAX tracer, which has no values yet."""
    return any(isinstance(array, Tracer) for array in arrays)


def partition(params: Params, leaves: Callable[[str], bool] | None = None) -> tuple[Params, Params]:
    """Split parameters into the leaves that move and the rest.

    Args:
        params: any pytree.
        leaves: tree path, as `jax.tree_util.keystr` writes it -> whether a floating leaf there
            moves; None if all of them move.

    Returns:
        The leaves that move, and the rest: two pytrees of the structure of `params`, each with
        `None` for the leaves of the other. `combine` merges them.

    Example:
        >>> partition({"w": 1.0, "mean": 0.5, "n": 3}, lambda path: "mean" not in path)
        ({'mean': None, 'n': None, 'w': 1.0}, {'mean': 0.5, 'n': 3, 'w': None})
    """
    pairs, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)
    moves = [
        is_parameter(leaf) and (leaves is None or leaves(jax.tree_util.keystr(path)))
        for path, leaf in pairs
    ]
    halves = zip(moves, pairs, strict=True)
    split = [(leaf, None) if moved else (None, leaf) for moved, (_, leaf) in halves]
    moving, rest = (jax.tree.unflatten(structure, [pair[k] for pair in split]) for k in (0, 1))
    return moving, rest


def combine(*trees: Params) -> Params:
    """Merge pytrees of one structure: each leaf is the first that is not `None`.

    Example:
        >>> combine({"w": None, "n": 3}, {"w": 1.0, "n": None})
        {'n': 3, 'w': 1.0}
    """

    def first(*leaves: Any) -> Any:
        return next((leaf for leaf in leaves if leaf is not None), None)

    return jax.tree.map(first, *trees, is_leaf=is_none)


def moving_leaves(params: Params, other: Params) -> Params:
    """Return the leaves of `other` where `params` holds floating numbers, `None` elsewhere."""
    return jax.tree.map(
        lambda leaf, there: there if is_parameter(leaf) else None, params, other, is_leaf=is_none
    )


class Static(NamedTuple):
    """The structure of a pytree and its leaves that are not arrays.

    It is hashable if those leaves are. A compiled function can then take it as a static argument,
    and the arrays as a traced one.
    """

    structure: Any
    leaves: tuple[Any, ...]
    """The leaves in order, `None` for each array."""

    def with_arrays(self, arrays: Any) -> Any:
        """Return the pytree with these arrays, as `split_arrays` returned them."""
        pairs = zip(jax.tree.leaves(arrays, is_leaf=is_none), self.leaves, strict=True)
        leaves = [other if array is None else array for array, other in pairs]
        return jax.tree.unflatten(self.structure, leaves)


def split_arrays(tree: Any) -> tuple[Any, Static]:
    """Split a pytree into its arrays and its static part.

    Returns:
        The pytree with `None` for each leaf that JAX does not trace, and a `Static` of the rest.

    Example:
        >>> arrays, static = split_arrays({"w": 1.0, "name": "linear"})
        >>> arrays, static.with_arrays({"w": 2.0, "name": None})
        ({'name': None, 'w': 1.0}, {'name': 'linear', 'w': 2.0})
    """
    leaves, structure = jax.tree.flatten(tree, is_leaf=is_none)
    arrays = jax.tree.unflatten(structure, [x if is_array(x) else None for x in leaves])
    return arrays, Static(structure, tuple(None if is_array(x) else x for x in leaves))


def zip_with_paths(tree: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield each tree path of two pytrees of one structure, with both leaves there."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    others = jax.tree.leaves(other, is_leaf=is_none)
    for (path, leaf), there in zip(pairs, others, strict=True):
        yield jax.tree_util.keystr(path), leaf, there


def check_same_structure(name: str, expected: str, first: Any, other: Any) -> None:
    """Raise an error that names a tree path, unless `other` has the structure of `first`.

    Args:
        name: the name of the argument `other`, for the message.
        expected: a description of the structure of `first`, for the message.
        first: a pytree.
        other: the pytree to check.
    """
    structures: list[Any] = [jax.tree.structure(p, is_leaf=is_none) for p in (first, other)]
    if structures[0] == structures[1]:
        return
    here, there = ([path for path, *_ in zip_with_paths(tree, tree)] for tree in (first, other))
    missing = [path for path in here if path not in set(there)]
    more = [path for path in there if path not in set(here)]
    got = f" {structures[0]}, got {structures[1]}"
    if missing:
        got = f" with a leaf {missing[0] or 'alone'}, got {more[0] if more else 'none'} there"
    elif more:
        got = f", got an additional leaf {more[0]}"
    raise ValueError(f"{name}: expected {expected}{got}")


def check_same_shapes(name: str, first: Params, other: Params, whose: str = "the first's") -> None:
    """Raise an error unless `other` has the structure of `first` and its floating leaves' shapes.

    Args:
        name: the name of the argument `other`, for the message.
        first: parameters.
        other: the parameters to check.
        whose: the owner of the expected structure and shapes, for the message.
    """
    check_same_structure(name, f"{whose} structure", first, other)
    for path, here, there in zip_with_paths(first, other):
        if not is_parameter(here):
            continue
        if not is_parameter(there):
            raise TypeError(
                f"{name}{path}: expected floating numbers, as {whose}, got {kind_of(there)}"
            )
        if jnp.shape(here) != jnp.shape(there):
            raise ValueError(
                f"{name}{path}: expected {whose} shape {jnp.shape(here)}, got {jnp.shape(there)}"
            )


def check_finite(name: str, params: Params) -> None:
    """Raise an error that names the tree path, unless all floating numbers are finite."""
    for path, leaf, _ in zip_with_paths(params, params):
        if is_parameter(leaf) and not is_traced(leaf) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"{name}{path}: expected finite numbers, got some that are not")


def kind_of(leaf: Any) -> str:
    """Return the dtype of a leaf, or the name of its type, for error messages."""
    return str(getattr(leaf, "dtype", type(leaf).__name__))


def as_arrays(params: Params, data: Any) -> Params:
    """Convert the leaves of parameters to arrays, for use as the state of a `lax.scan`.

    Args:
        params: a pytree of floating arrays and numbers. JAX arrays are returned as they are.
        data: a pytree of arrays. Python numbers get the dtype of its floating arrays.

    Raises:
        TypeError: A leaf is not floating.
        ValueError: There are no leaves, or some numbers are not finite.
    """
    leaves = [leaf for leaf in jax.tree.leaves(data) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    if not jax.tree.leaves(params):
        raise ValueError(f"params: expected at least one array or number, got {params!r}")

    def convert(path: Any, leaf: Any) -> Any:
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
        if isinstance(leaf, Tracer):
            return leaf
        array = np.asarray(leaf).astype(dtype)
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers, got some that are not")
        return leaf if isinstance(leaf, jax.Array) else array

    return jax.tree_util.tree_map_with_path(convert, params)


def in_float64(tree: Any) -> Any:
    """Convert the floating arrays and numbers of a pytree to float64, on the host."""

    def convert(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return np.asarray(leaf).astype(np.float64) if floating else leaf

    return jax.tree.map(convert, tree)


def norm(tree: Any) -> jax.Array:
    """Return the Euclidean norm of all numbers of a pytree."""
    # Without scaling, the squares of tiny steps, such as 1e-25, underflow.
    leaves = jax.tree.leaves(tree)
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves])
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = [jnp.sum(jnp.square(leaf / scale)) for leaf in leaves]
    return scale * jnp.sqrt(functools.reduce(jnp.add, squares))
