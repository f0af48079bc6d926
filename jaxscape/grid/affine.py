"""Split a loss into the part that is affine in the plane's coordinates and the rest.

The first layer's `x @ (W + a·U + b·V)` is `x @ W + a·(x @ U) + b·(x @ V)`: three products for the
whole grid, and two multiply-adds per value in each cell. Values that depend on one coordinate only
are split in the other one in the same way. The split is read from the traced equations; nothing is
sampled.

The module also replaces maxima over windows by maxima of slices, which compile to faster code.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxscape._util.jaxpr import (
    PLAIN_CALLS,
    PRODUCTS,
    QUOTIENT,
    SPLIT_LINEAR,
    SPLIT_SUMS,
    JaxprEqn,
    avals,
    bind,
    called_jaxpr,
    interpret,
    multiply_adds,
)
from jaxscape._util.pytree import is_array, is_none
from jaxscape.planes.plane import Plane

# A product is split if each of its values takes at least this many multiply-adds. Instead of them,
# each cell does two multiply-adds and reads three arrays, from the cache or from memory.
# Convolutions are slower, so the smaller number applies to them in both cases.
_MIN_MULTIPLY_ADDS_CACHE, _MIN_MULTIPLY_ADDS_MEMORY = 8, 64
# In float16, the parts of a product could overflow where the product does not.
_SPLIT_DTYPES = ("float32", "float64")
_WINDOW_MAX = "reduce_window_max"

Pair = tuple[bool, bool]
"""Whether something holds for the first and for the second coordinate."""
_NEITHER: Pair = (False, False)


class AffineValue(NamedTuple):
    """A value constant + a·slopes[0] + b·slopes[1].

    The arrays are None in the pass that does not compute them.
    """

    constant: Any
    slopes: tuple[Any, Any] = (None, None)
    has_slope: Pair = _NEITHER
    """Whether it has a slope in each coordinate."""
    depends_on: Pair = _NEITHER
    """Whether its constant and slopes depend on each coordinate; False for one with a slope."""
    available: bool = False
    """Whether its arrays are inputs, constants or already shared."""


def split(
    function: Callable[[Any, Any], jax.Array],
    plane: Plane,
    data: Any,
    dtype: Any,
    cache_bytes: int,
    memory_bytes: int | None = None,
) -> tuple[Any, Callable[[Any, jax.Array, jax.Array], jax.Array]]:
    """Split a function of a plane's parameters into a shared part and a part for each cell.

    Args:
        function: (params, data) -> array.
        plane: the plane through the parameters.
        data: the function's second argument.
        dtype: the dtype of the coordinates.
        cache_bytes: the bytes that the shared arrays may take and still stay in the cache.
        memory_bytes: the bytes that they may take in memory if they do not fit in the cache; then
            only longer products are split. With None, nothing is split in that case.

    Returns:
        The shared arrays, and a function of them and scalar coordinates. `cell(shared, a, b)`
        equals `function(plane.at(a, b), data)` up to rounding.
    """

    def plain(shared: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        return function(plane.at(a, b), data)

    dtype = jnp.dtype(dtype)
    if dtype.name not in _SPLIT_DTYPES:
        return (), plain
    trees = [jax.tree.flatten(t, is_leaf=is_none) for t in (plane.origin, plane.u, plane.v)]
    leaves, structure = trees[0]
    parameters = [
        _Parameter(origin, u, v, dtype)
        for origin, u, v in zip(*(tree[0] for tree in trees), strict=True)
    ]
    # Leaves that are not arrays, such as functions, keep the origin's value.
    traced = [k for k, leaf in enumerate(leaves) if is_array(leaf)]

    def function_of_arrays(arrays: Sequence[Any], data: Any) -> jax.Array:
        array_at = dict(zip(traced, arrays, strict=True))
        params = [array_at.get(k, leaf) for k, leaf in enumerate(leaves)]
        return function(jax.tree.unflatten(structure, params), data)

    jaxpr = jax.make_jaxpr(function_of_arrays)([parameters[k].shape() for k in traced], data)
    inputs = [_available(x) for x in jax.tree.leaves(data)]

    def run(evaluation: "_Evaluation") -> AffineValue:
        arguments = [evaluation.parameter(parameters[k]) for k in traced] + inputs
        (output,) = interpret(jaxpr, arguments, evaluation.rule, _available)
        return evaluation.share(evaluation.add_slopes(output))

    def compute_shared(min_multiply_adds: int) -> list[Any]:
        evaluation = _Evaluation(None, None, None, min_multiply_adds)
        run(evaluation)
        return evaluation.shared

    for min_multiply_adds, max_bytes in (
        (_MIN_MULTIPLY_ADDS_CACHE, cache_bytes),
        (_MIN_MULTIPLY_ADDS_MEMORY, memory_bytes or 0),
    ):
        # Only shapes are computed here: arrays that do not fit must not enter the program.
        shapes = jax.tree.leaves(
            jax.eval_shape(functools.partial(compute_shared, min_multiply_adds))
        )
        if not shapes or sum(x.size * x.dtype.itemsize for x in shapes) > max_bytes:
            continue

        def cell(shared: Any, a: Any, b: Any, least: int = min_multiply_adds) -> jax.Array:
            return run(_Evaluation(a, b, iter(shared), least)).constant

        return compute_shared(min_multiply_adds), cell
    return (), plain


def _available(array: Any) -> AffineValue:
    return AffineValue(array, available=True)


class _Parameter(NamedTuple):
    """A leaf of the parameters, its two directions, and the dtype of the coordinates."""

    origin: Any
    u: Any
    v: Any
    dtype: Any

    @property
    def moves(self) -> Pair:
        """Whether the leaf moves with each coordinate."""
        return self.u is not None, self.v is not None

    @property
    def is_affine(self) -> bool:
        """Whether origin and directions are arrays of the coordinates' dtype."""
        arrays = [leaf for leaf in self[:3] if leaf is not None]
        return all(getattr(x, "dtype", None) == self.dtype and jnp.ndim(x) > 0 for x in arrays)

    def shape(self) -> Any:
        """Return the shape and dtype of the leaf on the plane; the leaf if it does not move."""
        if not any(self.moves):
            return self.origin
        moved = (x for x in self[:3] if x is not None)
        zero = jax.ShapeDtypeStruct((), self.dtype)
        return jax.ShapeDtypeStruct(jnp.shape(self.origin), jnp.result_type(zero, *moved))


class _Evaluation:
    """One evaluation of the traced function on affine values.

    The first evaluation, with `shared` None, computes the values that depend on no coordinate, and
    collects in `shared` the arrays that cells need. The second one reads these arrays in the same
    order and computes the rest, for one cell.
    """

    def __init__(self, a: Any, b: Any, shared: Any, min_multiply_adds: int):
        self.coordinates, self.min_multiply_adds = (a, b), min_multiply_adds
        self.computes_shared = shared is None
        self.shared: Any = [] if shared is None else shared

    def parameter(self, parameter: _Parameter) -> AffineValue:
        """Return the affine value of a leaf of the parameters."""
        steps = (parameter.u, parameter.v)
        if parameter.is_affine or not any(parameter.moves):
            return AffineValue(parameter.origin, steps, parameter.moves, available=True)
        value = None
        if not self.computes_shared:
            value = parameter.origin
            for coordinate, step in zip(self.coordinates, steps, strict=True):
                value = value if step is None else value + coordinate * step
        return AffineValue(value, depends_on=parameter.moves)

    def rule(self, equation: JaxprEqn, values: list[AffineValue]) -> list[AffineValue]:
        """Return an equation's outputs, and share the inputs that cells need."""
        if any(any(value.depends_on) for value in values):
            # `interpret` stores these inputs, so that no value is shared twice.
            values[:] = map(self.share, values)
        name = equation.primitive.name
        sloped = [value for value in values if any(value.has_slope)]
        if name in PLAIN_CALLS and (sloped or len({value.depends_on for value in values}) > 1):
            called = called_jaxpr(equation)
            assert called is not None
            return interpret(called, values, self.rule, _available)
        if sloped:
            if name in SPLIT_LINEAR:
                return [self._linear(equation, *values)]
            if name in SPLIT_SUMS:
                return [self._sum(equation, *values)]
            if name == QUOTIENT and not any(values[1].has_slope):
                return [self._product(equation, *values)]
            if name in PRODUCTS and len(sloped) == 1 and self._is_worth_splitting(equation):
                return [self._product(equation, *values)]
        values = [self.add_slopes(value) for value in values]
        # With the slopes added, the values may depend on more coordinates.
        depends_on = _either(value.depends_on for value in values)
        if any(depends_on):
            values = [self.share(value) for value in values]
        outputs = self._apply(equation, depends_on, [value.constant for value in values])
        return [AffineValue(output, depends_on=depends_on) for output in outputs]

    def _is_worth_splitting(self, equation: JaxprEqn) -> bool:
        if len({x.dtype for x in avals([*equation.invars, *equation.outvars])}) > 1:
            # Products that are rounded to fewer digits must be rounded once, as a whole.
            return False
        count = multiply_adds(equation)
        if count is None:  # An elementwise product.
            return True
        convolution = equation.primitive.name == "conv_general_dilated"
        return count >= (_MIN_MULTIPLY_ADDS_CACHE if convolution else self.min_multiply_adds)

    def _apply(self, equation: JaxprEqn, depends_on: Pair, arrays: list[Any]) -> list[Any]:
        """Return an equation's outputs; None for each if the other evaluation computes them."""
        if any(depends_on) == self.computes_shared:
            return [None] * len(equation.outvars)
        if equation.primitive.name == _WINDOW_MAX:
            return [window_max(*arrays, **equation.params)]
        return bind(equation, arrays)

    def _linear(self, equation: JaxprEqn, value: AffineValue) -> AffineValue:
        def apply(array: Any) -> Any:
            return self._apply(equation, value.depends_on, [array])[0]

        first, second = (
            apply(slope) if present else None
            for slope, present in zip(value.slopes, value.has_slope, strict=True)
        )
        return AffineValue(
            apply(value.constant), (first, second), value.has_slope, value.depends_on
        )

    def _sum(self, equation: JaxprEqn, first: AffineValue, second: AffineValue) -> AffineValue:
        depends_on = _either((first.depends_on, second.depends_on))
        first, second = self._add_slopes(first, depends_on), self._add_slopes(second, depends_on)
        has_slope = _either((first.has_slope, second.has_slope))

        def add(p: Any, q: Any, has_p: bool, has_q: bool) -> Any:
            if any(depends_on) == self.computes_shared or not (has_p or has_q):
                return None
            if has_p and has_q:
                return self._apply(equation, depends_on, [p, q])[0]
            lone = p if has_p else (-q if equation.primitive.name == "sub" else q)
            # The equation also broadcasts axes of size 1.
            return jnp.broadcast_to(lone, avals(equation.outvars)[0].shape)

        parts = zip(first.slopes, second.slopes, first.has_slope, second.has_slope, strict=True)
        in_a, in_b = itertools.starmap(add, parts)
        constant = add(first.constant, second.constant, True, True)
        return AffineValue(constant, (in_a, in_b), has_slope, depends_on)

    def _product(self, equation: JaxprEqn, *factors: AffineValue) -> AffineValue:
        """Multiply or divide two values, only one of which has slopes."""
        depends_on = _either(factor.depends_on for factor in factors)
        first, second = (self._add_slopes(factor, depends_on) for factor in factors)
        has_slope = _either((first.has_slope, second.has_slope))

        def multiply(p: Any, q: Any) -> Any:
            return self._apply(equation, depends_on, [p, q])[0]

        def slope(k: int) -> Any:
            if not has_slope[k]:
                return None
            if any(second.has_slope):
                return multiply(first.constant, second.slopes[k])
            return multiply(first.slopes[k], second.constant)

        constant = multiply(first.constant, second.constant)
        return AffineValue(constant, (slope(0), slope(1)), has_slope, depends_on)

    def _add_slopes(self, value: AffineValue, coordinates: Pair) -> AffineValue:
        """Return the same value with its slopes in some coordinates added to its constant."""
        added = (
            value.has_slope[0] and coordinates[0],
            value.has_slope[1] and coordinates[1],
        )
        if not any(added):
            return self.share(value) if any(coordinates) else value
        value = self.share(value)
        constant, slopes = value.constant, list(value.slopes)
        for k in (0, 1):
            if added[k]:
                if not self.computes_shared:
                    constant = constant + self.coordinates[k] * slopes[k]
                slopes[k] = None
        has_slope = (value.has_slope[0] and not added[0], value.has_slope[1] and not added[1])
        return AffineValue(
            None if self.computes_shared else constant,
            (slopes[0], slopes[1]),
            has_slope,
            _either((value.depends_on, added)),
        )

    def add_slopes(self, value: AffineValue) -> AffineValue:
        """Return the same value with all slopes added to its constant."""
        return self._add_slopes(value, value.has_slope) if any(value.has_slope) else value

    def share(self, value: AffineValue) -> AffineValue:
        """Store, or read, the arrays of a value that cells need and that no coordinate changes."""
        if value.available or any(value.depends_on):
            return value
        if self.computes_shared:
            self.shared.append((value.constant, value.slopes))
            return value._replace(available=True)
        constant, slopes = next(self.shared)
        return value._replace(constant=constant, slopes=slopes, available=True)


def _either(pairs: Any) -> Pair:
    pairs = list(pairs)
    return any(p[0] for p in pairs), any(p[1] for p in pairs)


# The most slices per maximum; for larger windows, JAX's own operation is used.
_MAX_SLICES = 16


def window_max(x: jax.Array, **params: Any) -> jax.Array:
    """Compute the maximum of every window as a maximum of slices.

    On a CPU, XLA reads the values of a window one by one, but slices contiguously, and it fuses
    slices with the operations before. Values and derivatives are bitwise those of
    `reduce_window_max`.

    Args:
        x: an array.
        params: parameters of `reduce_window_max`, as JAX traces `lax.reduce_window` with `lax.max`.

    Returns:
        The output of `reduce_window_max`.
    """

    def plain(x: jax.Array) -> jax.Array:
        return lax.reduce_window_max_p.bind(x, **params)

    windows, strides, dilations = (
        params[name] for name in ("window_dimensions", "window_strides", "window_dilation")
    )
    # Along each axis, the number of positions of a window with stride 1.
    ends = [
        n + sum(padding) - (window - 1) * dilation
        for n, padding, window, dilation in zip(
            x.shape, params["padding"], windows, dilations, strict=True
        )
    ]
    slices = sum(window for window in windows if window > 1)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    # Booleans have no lowest number to pad with.
    can_pad = floating or jnp.issubdtype(x.dtype, jnp.integer)
    if not can_pad or slices > _MAX_SLICES or min(ends) < 1 or max(params["base_dilation"]) > 1:
        return plain(x)

    @jax.custom_jvp
    def sliced(x: jax.Array) -> jax.Array:
        lowest = -jnp.inf if floating else jnp.iinfo(x.dtype).min
        edges = [(low, high, 0) for low, high in params["padding"]]
        x = lax.pad(x, jnp.asarray(lowest, x.dtype), edges)
        for axis, (window, stride, dilation) in enumerate(
            zip(windows, strides, dilations, strict=True)
        ):
            parts = (
                lax.slice_in_dim(x, start, start + ends[axis], stride, axis)
                for start in range(0, window * dilation, dilation)
            )
            x = functools.reduce(lax.max, parts)
        return x

    # `reduce_window_max` passes the derivative to the first of equal values; `lax.max` divides it
    # between them.
    sliced.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return sliced(x)
