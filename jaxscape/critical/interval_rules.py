"""Interval arithmetic: for each supported JAX primitive, bounds on its outputs over intervals.

Floating ends are float64, rounded outward (Moore 1966, Interval Analysis).

A truth value or an integer that is not certain over a box jumps inside it. Derivatives do not show
the jump, so bounds on them hold only if nothing that depends on it is bounded. The rules keep to
this: a floating number that is converted, selected, computed or looked up from an uncertain truth
value or integer is unbounded. Arithmetic on uncertain integers gives unknown integers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.jaxpr import avals
from jaxscape.critical.interval import (
    EPSILON,
    Interval,
    hull,
    point,
    round_outward,
    unbounded,
    unbounded_where,
)

Rule = Callable[..., Any]
"""(equation, one interval per input) -> an interval, or a list of them if the primitive has
several outputs."""

# NumPy's and XLA's elementary functions are accurate to a few units in the last place.
_UNITS = 8


def _uncertain(x: Interval) -> np.ndarray:
    """Return where a truth value or an integer is not certain; a floating number is nowhere."""
    return np.zeros(x.low.shape, bool) if x.low.dtype.kind == "f" else x.low != x.high


def _bind(equation: Any, values: list[np.ndarray]) -> list[np.ndarray]:
    """Apply an equation's primitive to arrays."""
    with jax.enable_x64(True):
        arrays = [
            jnp.asarray(value, aval.dtype)
            for value, aval in zip(values, avals(equation.invars), strict=True)
        ]
        outputs = equation.primitive.bind(*arrays, **equation.params)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [np.asarray(output) for output in outputs]


def _on(kinds: str, rule: Rule) -> Rule:
    """Extend a rule for some kinds of dtypes to all: exact for certain integers, else unbounded."""

    def extended(equation: Any, *inputs: Interval) -> Interval:
        if all(x.low.dtype.kind in kinds for x in inputs):
            return rule(equation, *inputs)
        masks = [_uncertain(x) for x in inputs]
        if equation.primitive.name == "reduce_sum":
            unknown = masks[0].any(axis=tuple(equation.params["axes"]))
        elif equation.primitive.name == "dot_general":
            unknown = np.array(any(mask.any() for mask in masks))
        else:
            unknown = np.any(np.broadcast_arrays(*masks), axis=0)
        if any(x.low.dtype.kind == "f" for x in inputs):
            return unbounded_where(unknown, rule(equation, *inputs))
        (value,) = _bind(equation, [x.low for x in inputs])
        return unbounded_where(unknown, point(value))

    return extended


def _add(equation: Any, x: Interval, y: Interval) -> Interval:
    return round_outward(x.low + y.low, x.high + y.high)


def _subtract(equation: Any, x: Interval, y: Interval) -> Interval:
    return round_outward(x.low - y.high, x.high - y.low)


def _negate(equation: Any, x: Interval) -> Interval:
    return Interval(-x.high, -x.low)


def _multiply(equation: Any, x: Interval, y: Interval) -> Interval:
    if x.is_point and y.is_point:
        product = x.low * y.low
        return round_outward(product, product)
    if x.is_point or y.is_point:
        fixed, (low, high) = (x.low, y) if x.is_point else (y.low, x)
        ends = [fixed * low, fixed * high]
    else:
        ends = [p * q for p in x for q in y]
    return hull(ends)


def _divide(equation: Any, x: Interval, y: Interval) -> Interval:
    low, high = hull([p / q for p in x for q in y])
    through_zero = (y.low <= 0) & (y.high >= 0)
    return Interval(np.where(through_zero, -np.inf, low), np.where(through_zero, np.inf, high))


def _power(x: Interval, exponent: int) -> Interval:
    if exponent < 0:
        one = point(np.ones_like(x.low))
        return _divide(None, one, _power(x, -exponent))
    ends = [x.low**exponent, x.high**exponent]
    if exponent % 2 == 0:
        ends.append(np.where((x.low < 0) & (x.high > 0), 0.0, ends[0]))
    low, high = hull(ends, abs(exponent))
    return Interval(np.maximum(low, 0) if exponent % 2 == 0 else low, high)


def _one_minus(x: Interval) -> Interval:
    return round_outward(1 - x.high, 1 - x.low)


def _real_power(equation: Any, x: Interval, y: Interval) -> Interval:
    low, high = hull([p**q for p in x for q in y], 4 * _UNITS)
    unknown = (x.low <= 0) | ~np.isfinite(x.high)
    return Interval(np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high))


def _increasing(function: Callable) -> Rule:
    """Return the rule of an increasing function."""
    return lambda equation, x: round_outward(function(x.low), function(x.high), _UNITS)


def _even(function: Callable) -> Rule:
    """Return the rule of an even function that increases with |x|."""

    def rule(equation: Any, x: Interval) -> Interval:
        size = _absolute(equation, x)
        return round_outward(function(size.low), function(size.high), _UNITS)

    return rule


def _absolute(equation: Any, x: Interval) -> Interval:
    if x.is_point:
        return point(abs(x.low))
    low = np.maximum(0, np.maximum(x.low, -x.high))
    return Interval(low, np.maximum(abs(x.low), abs(x.high)))


def _sign(equation: Any, x: Interval) -> Interval:
    # Where the sign is uncertain, the function may have a kink, which bounds on derivatives miss.
    # The result is unbounded there.
    certain = (x.low > 0) | (x.high < 0) | ((x.low == 0) & (x.high == 0))
    sign = np.sign(x.low)
    return Interval(np.where(certain, sign, -np.inf), np.where(certain, sign, np.inf))


def _cosine(shift: float) -> Rule:
    """Return the rule of cos(x - shift)."""

    def rule(equation: Any, x: Interval) -> Interval:
        ends = [np.cos(end - shift) for end in x]
        low, high = hull(ends)
        # Widen the interval in which extrema are counted, to allow for rounding.
        margin = 1e-9 + 4 * EPSILON * np.maximum(abs(x.low), abs(x.high))
        turns = [(end - shift) / (2 * np.pi) for end in (x.low - margin, x.high + margin)]
        top = np.floor(turns[1]) >= np.ceil(turns[0])
        bottom = np.floor(turns[1] - 0.5) >= np.ceil(turns[0] - 0.5)
        low, high = low - margin, high + margin
        return Interval(np.where(bottom, -1, low), np.where(top, 1, high))

    return rule


def _reduce_sum(equation: Any, x: Interval) -> Interval:
    axes = tuple(equation.params["axes"])
    low, high = x.low.sum(axis=axes), x.high.sum(axis=axes)
    count = int(np.prod([x.low.shape[axis] for axis in axes]))
    rounding = count * EPSILON * np.maximum(abs(x.low), abs(x.high)).sum(axis=axes)
    return round_outward(low - rounding, high + rounding)


def _dot(equation: Any, x: Interval, y: Interval) -> Interval:
    params = {"dimension_numbers": equation.params["dimension_numbers"]}

    def product(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(
                jax.lax.dot_general(p, q, **params, precision=jax.lax.Precision.HIGHEST)
            )

    (contracted, _), _ = equation.params["dimension_numbers"]
    count = int(np.prod([x.low.shape[axis] for axis in contracted])) + 4
    middles = [(z.low + z.high) / 2 for z in (x, y)]
    radii = [
        np.maximum(z.high - middle, middle - z.low) * (1 + 4 * EPSILON)
        for z, middle in zip((x, y), middles, strict=True)
    ]
    size = product(abs(middles[0]), abs(middles[1]))
    radius = product(abs(middles[0]), radii[1]) + product(radii[0], abs(middles[1]) + radii[1])
    radius = radius * (1 + 2 * count * EPSILON) + 2 * count * EPSILON * size
    middle = product(*middles)
    return round_outward(middle - radius, middle + radius)


def _comparison(certain: Callable, never: Callable) -> Rule:
    """Return the rule of a comparison.

    Args:
        certain: (x, y) -> where the comparison holds for all numbers of both intervals.
        never: (x, y) -> where it holds for none.
    """
    return lambda equation, x, y: Interval(certain(x, y), ~never(x, y))


def _equality(when_same: bool, certain: Callable, never: Callable) -> Rule:
    """Return the rule of = or ≠, which is `when_same` for a finite number compared with itself.

    Tests for NaN compare a variable with itself. A number without bounds may be NaN.
    """

    def rule(equation: Any, x: Interval, y: Interval) -> Interval:
        first, second = equation.invars
        if first is second:
            return unbounded_where(~_is_finite(x), point(np.full(x.low.shape, when_same)))
        return Interval(certain(x, y), ~never(x, y))

    return rule


def _less(x: Interval, y: Interval) -> np.ndarray:
    return x.high < y.low


def _at_most(x: Interval, y: Interval) -> np.ndarray:
    return x.high <= y.low


def _equal(x: Interval, y: Interval) -> np.ndarray:
    return (x.low == x.high) & (y.low == y.high) & (x.low == y.low)


def _unequal(x: Interval, y: Interval) -> np.ndarray:
    return (x.high < y.low) | (y.high < x.low)


def _select(equation: Any, condition: Interval, *cases: Interval) -> Interval:
    shape = cases[0].low.shape
    index, highest = (
        np.broadcast_to(end.reshape(end.shape or (1,) * len(shape)), shape) for end in condition
    )
    low, high = cases[0]
    for k, case in enumerate(cases[1:], 1):
        low, high = np.where(index == k, case.low, low), np.where(index == k, case.high, high)
    # There may be a kink between the cases, which bounds on derivatives miss.
    return unbounded_where(index != highest, Interval(low, high))


def _convert(equation: Any, x: Interval) -> Interval:
    dtype = np.dtype(equation.params["new_dtype"])
    if x.is_point:
        return point(*_bind(equation, [x.low]))
    if dtype.kind == "b":
        return Interval((x.low > 0) | (x.high < 0), (x.low != 0) | (x.high != 0))
    if dtype.kind == "f":
        return unbounded_where(_uncertain(x), Interval(x.low.astype(dtype), x.high.astype(dtype)))
    # Numbers outside the range of the integers wrap around or saturate.
    least, greatest = np.iinfo(dtype).min, np.iinfo(dtype).max
    outside = ~((x.low >= least) & (x.high < greatest))
    ends = (np.where(outside, 0, end).astype(dtype) for end in x)
    return unbounded_where(outside, Interval(*ends))


def _is_finite(x: Interval) -> np.ndarray:
    return np.isfinite(x.low) & np.isfinite(x.high)


def _finite(equation: Any, x: Interval) -> Interval:
    return unbounded_where(~_is_finite(x), point(np.ones(x.low.shape, bool)))


def _rearrangement(rearrange: Callable) -> Rule:
    """Return the rule of a primitive that only moves numbers, given as (array, params) -> array."""

    def rule(equation: Any, x: Interval) -> Interval:
        low = rearrange(x.low, equation.params)
        return Interval(low, low if x.is_point else rearrange(x.high, equation.params))

    return rule


def _broadcast(x: np.ndarray, params: Any) -> np.ndarray:
    shape, kept = params["shape"], params["broadcast_dimensions"]
    sizes = np.ones(len(shape), int)
    sizes[list(kept)] = x.shape
    return np.broadcast_to(x.reshape(sizes), shape)


def _apply_to_ends(equation: Any, *inputs: Interval) -> Any:
    """Apply a primitive that moves numbers, or takes the largest or smallest, to both ends."""
    low = _bind(equation, [x.low for x in inputs])
    high = low if all(x.is_point for x in inputs) else _bind(equation, [x.high for x in inputs])
    results = [Interval(*ends) for ends in zip(low, high, strict=True)]
    return results if equation.primitive.multiple_results else results[0]


def _look_up(equation: Any, table: Interval, *indices: Interval) -> Interval:
    if any(_uncertain(index).any() for index in indices):
        # The index may select any element.
        (output,) = avals(equation.outvars)
        return unbounded(output.shape, output.dtype)
    return _apply_to_ends(equation, table, *indices)


def _erf(x: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(jax.lax.erf(jnp.asarray(x)))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


_ELEMENTWISE: dict[str, Rule] = {
    "clamp": lambda e, least, x, most: Interval(
        np.minimum(np.maximum(x.low, least.low), most.low),
        np.minimum(np.maximum(x.high, least.high), most.high),
    ),
    "max": lambda e, x, y: Interval(np.maximum(x.low, y.low), np.maximum(x.high, y.high)),
    "min": lambda e, x, y: Interval(np.minimum(x.low, y.low), np.minimum(x.high, y.high)),
    "and": _on("b", lambda e, x, y: Interval(x.low & y.low, x.high & y.high)),
    "or": _on("b", lambda e, x, y: Interval(x.low | y.low, x.high | y.high)),
    "not": _on("b", lambda e, x: Interval(~x.high, ~x.low)),
}
_INCREASING: dict[str, Callable] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sinh": np.sinh,
    "asinh": np.arcsinh,
    "atanh": np.arctanh,
    "atan": np.arctan,
    "asin": np.arcsin,
    "sqrt": np.sqrt,
    "cbrt": np.cbrt,
    "logistic": _logistic,
    "erf": _erf,
}
_REARRANGEMENTS: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "reshape": lambda x, params: x.reshape(params["new_sizes"]),
    "squeeze": lambda x, params: x.squeeze(axis=params["dimensions"]),
    "transpose": lambda x, params: x.transpose(params["permutation"]),
    "copy": lambda x, params: x,
    "copy_p": lambda x, params: x,
}
# Primitives that only move numbers, or take the largest or smallest of them.
_STRUCTURAL = (
    *("expand_dims", "concatenate", "slice", "rev", "pad", "iota", "split", "stack", "unstack"),
    *("reduce_max", "reduce_min", "reduce_and", "reduce_or", "optimization_barrier"),
)
_ARITHMETIC: dict[str, Rule] = {
    "add": _add,
    "add_any": _add,
    "sub": _subtract,
    "neg": _negate,
    "mul": _multiply,
    "div": _divide,
    "integer_pow": lambda equation, x: _power(x, equation.params["y"]),
    "square": lambda equation, x: _power(x, 2),
    "pow": _real_power,
    "abs": _absolute,
    "sign": _sign,
    "reduce_sum": _reduce_sum,
    "dot_general": _dot,
}
RULES: dict[str, Rule] = {
    **{name: _on("f", rule) for name, rule in _ARITHMETIC.items()},
    "one_minus_square": lambda equation, x: _one_minus(_power(x, 2)),
    "cosh": _even(np.cosh),
    "cos": _cosine(0.0),
    "sin": _cosine(np.pi / 2),
    "rsqrt": lambda equation, x: round_outward(x.high**-0.5, x.low**-0.5, _UNITS),
    "convert_element_type": _convert,
    "gather": _look_up,
    "dynamic_slice": _look_up,
    "select_n": _select,
    "is_finite": _finite,
    "lt": _comparison(_less, lambda x, y: _at_most(y, x)),
    "gt": _comparison(lambda x, y: _less(y, x), _at_most),
    "le": _comparison(_at_most, lambda x, y: _less(y, x)),
    "ge": _comparison(lambda x, y: _at_most(y, x), _less),
    "eq": _equality(True, _equal, _unequal),
    "ne": _equality(False, _unequal, _equal),
    **{name: _increasing(function) for name, function in _INCREASING.items()},
    **{name: _rearrangement(rearrange) for name, rearrange in _REARRANGEMENTS.items()},
    **_ELEMENTWISE,
    **dict.fromkeys(_STRUCTURAL, _apply_to_ends),
}
"""The rule of each primitive, by its name. Nothing is proved of a loss with any other primitive."""
