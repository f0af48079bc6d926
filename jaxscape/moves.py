"""Bounds on what operations return that move numbers and compute none, or take the greatest."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.bounds import Interval


def _moved(move: Callable) -> Callable:
    """The rule of an operation that NumPy has too: (array, its parameters) -> array."""

    def rule(equation: Any, x: Interval) -> Interval:
        low = move(x.low, equation.params)
        return Interval(low, low if x.is_point else move(x.high, equation.params))

    return rule


def _broadcast(x: np.ndarray, params: Any) -> np.ndarray:
    shape, kept = params["shape"], params["broadcast_dimensions"]
    sizes = np.ones(len(shape), int)
    sizes[list(kept)] = x.shape
    return np.broadcast_to(x.reshape(sizes), shape)


def _structural(equation: Any, *given: Interval) -> Any:
    """The rule of an operation that moves numbers, or takes the greatest, and computes none."""

    def bind(values: list[np.ndarray]) -> list[np.ndarray]:
        with jax.enable_x64(True):
            found = equation.primitive.bind(*map(jnp.asarray, values), **equation.params)
        return [np.asarray(one) for one in (found if isinstance(found, list | tuple) else [found])]

    low = bind([x.low for x in given])
    high = low if all(x.is_point for x in given) else bind([x.high for x in given])
    results = [Interval(*ends) for ends in zip(low, high, strict=True)]
    # Between two places of a table anything may stand.
    if any(x.low.dtype.kind in "iu" and not np.array_equal(*x) for x in given):
        unknown = [np.full(one.low.shape, np.inf) for one in results]
        results = [Interval(-one, one) for one in unknown]
    return results if equation.primitive.multiple_results else results[0]


_MOVES: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "reshape": lambda x, params: x.reshape(params["new_sizes"]),
    "squeeze": lambda x, params: x.squeeze(axis=params["dimensions"]),
    "transpose": lambda x, params: x.transpose(params["permutation"]),
    "convert_element_type": lambda x, params: x.astype(params["new_dtype"]),
    "copy": lambda x, params: x,
    "copy_p": lambda x, params: x,
}
_STRUCTURAL = (
    *("expand_dims", "concatenate", "slice", "rev", "pad", "gather", "dynamic_slice", "iota"),
    *("split", "stack", "unstack", "reduce_max", "reduce_min", "reduce_and", "reduce_or"),
    "optimization_barrier",
)
MOVES: dict[str, Callable] = {
    **dict.fromkeys(_STRUCTURAL, _structural),
    **{name: _moved(move) for name, move in _MOVES.items()},
}
"""The rule of each operation by its name: (equation, intervals) -> interval, or several."""
