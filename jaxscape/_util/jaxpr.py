"""Read the equations of functions that JAX has traced.

JAX traces a function into a jaxpr: a list of equations, each of which applies one primitive.
This is the only module that depends on the representation of equations, in JAX 0.8 to 0.12.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.sharding import Sharding

PLAIN_CALLS = frozenset(("closed_call", "eval_jaxpr", "jit", "pjit"))
"""Names of the primitives that only evaluate an inner jaxpr.

JAX 0.12 renamed "closed_call" to "eval_jaxpr".
"""
CHECKPOINTS = frozenset(("checkpoint", "remat2"))
"""Names of the primitive of `jax.checkpoint`, which recomputes the inner jaxpr for a derivative."""
CALLS = PLAIN_CALLS | CHECKPOINTS | {"custom_jvp_call", "custom_vjp_call"}
"""Names of the primitives whose outputs are those of an inner jaxpr, with or without derivatives of
their own."""

# The primitives that the library's proofs and fast paths may pass through. Any primitive that is
# not in a list ends the proof, or is computed as it is.

LINEAR = frozenset(
    (
        *("add", "add_any", "broadcast_in_dim", "complex", "concatenate", "conj", "copy", "copy_p"),
        *("convert_element_type", "cumsum", "dynamic_slice", "dynamic_update_slice", "expand_dims"),
        *("fft", "gather", "imag", "neg", "optimization_barrier", "pad", "real", "reduce_sum"),
        *("reduce_window_sum", "reshape", "rev", "scatter", "scatter-add", "select_n", "slice"),
        *("split", "squeeze", "stack", "sub", "transpose", "unstack"),
    )
)
"""Names of the primitives that are linear in all of their floating inputs together, for fixed
indices and conditions. A conversion is linear only if it does not round."""
PRODUCTS = frozenset(("mul", "dot_general", "conv_general_dilated"))
"""Names of the primitives that are linear in each of their two inputs."""
QUOTIENT = "div"
"""The name of the primitive that is linear in the first of its two inputs."""
SPLIT_LINEAR = frozenset(
    ("broadcast_in_dim", "neg", "reduce_sum", "reshape", "rev", "slice", "squeeze", "transpose")
)
"""Names of the linear primitives of one input that are applied to the constant and the slopes of an
affine value separately. They also keep the dtype."""
SPLIT_SUMS = frozenset(("add", "sub"))
"""The same for sums of two affine values."""

ELEMENTWISE = frozenset(
    (
        *("abs", "add", "add_any", "cbrt", "ceil", "clamp", "copy", "div", "floor", "integer_pow"),
        *("max", "min", "mul", "neg", "pow", "rem", "round", "rsqrt", "sign", "sqrt", "square"),
        *("sub", "exp", "exp2", "expm1", "log", "log1p", "logistic", "erf", "erf_inv", "erfc"),
        *("lgamma", "cos", "sin", "tan", "acos", "asin", "atan", "atan2", "digamma"),
        *("cosh", "sinh", "tanh", "acosh", "asinh", "atanh"),
        *("and", "not", "or", "xor", "eq", "ne", "ge", "gt", "le", "lt", "is_finite", "select_n"),
        *("convert_element_type", "stop_gradient"),
    )
)
"""Names of primitives each of whose output elements depends on one element of every input."""
RESHAPES = frozenset(("broadcast_in_dim", "reshape", "squeeze"))
"""Names of primitives that keep the row-major order of the elements, or repeat them."""
CHEAP = (
    ELEMENTWISE
    | RESHAPES
    | {"concatenate", "dot_general", "gather", "reduce_sum", "slice", "stack"}
)
"""Names of primitives that are cheap enough, on few parameters, to be repeated per sample."""

REDUCTIONS = frozenset(
    (
        *("argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or"),
        *("reduce_prod", "reduce_sum"),
    )
)
"""Names of the primitives that combine the elements along the axes `axes`."""
ALONG_ONE_AXIS = {
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), "axis"),
    **dict.fromkeys(("split", "unstack"), "axis"),
    **{"concatenate": "dimension", "sort": "dimension"},
}
"""The parameter with the one axis along which a primitive combines or separates elements."""
WINDOWS = frozenset(("reduce_window_max", "reduce_window_min", "reduce_window_sum"))
"""Names of the primitives that combine the elements of windows."""

COND, SCAN, WHILE = "cond", "scan", "while"
"""The names of the primitives of control flow."""
NO_FORWARD_MODE = "custom_lin"
"""The name of the primitive that JAX traces, and cannot compile, where forward-mode differentiation
meets a `jax.custom_vjp`."""

Value = TypeVar("Value")


class MismatchError(Exception):
    """Two jaxprs differ in more than shapes and parameters."""


def inner_jaxprs(equation: JaxprEqn) -> list[ClosedJaxpr]:
    """Return all jaxprs among an equation's parameters, such as those of calls and loops."""
    return [
        _closed(value)
        for parameter in equation.params.values()
        for value in (parameter if isinstance(parameter, tuple | list) else [parameter])
        if hasattr(getattr(value, "jaxpr", value), "eqns")
    ]


def called_jaxpr(equation: JaxprEqn) -> ClosedJaxpr | None:
    """Return the jaxpr that an equation calls; None if its primitive is not one of `CALLS`."""
    if equation.primitive.name not in CALLS:
        return None
    params = equation.params
    return _closed(params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"])


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if hasattr(jaxpr, "consts") else ClosedJaxpr(jaxpr, ())


def equations(jaxpr: ClosedJaxpr, *, into_calls: bool = False) -> Iterator[JaxprEqn]:
    """Yield the equations of a jaxpr in order.

    With `into_calls`, the equations of a called jaxpr come before the equation that calls it.
    """
    for equation in jaxpr.jaxpr.eqns:
        called = called_jaxpr(equation) if into_calls else None
        if called is not None:
            yield from equations(called, into_calls=True)
        yield equation


def innermost_equations(jaxpr: ClosedJaxpr, repeats: int = 1) -> Iterator[tuple[JaxprEqn, int]]:
    """Yield each equation without an inner jaxpr, and the number of times it is evaluated.

    The body of a `scan` counts `length` times, the body of a `while_loop` once, and each branch of
    a `cond` once.
    """
    for equation in jaxpr.jaxpr.eqns:
        inner = inner_jaxprs(equation)
        for part in inner:
            yield from innermost_equations(part, repeats * equation.params.get("length", 1))
        if not inner:
            yield equation, repeats


def abstract(leaf: Any, sharding: Sharding | None = None) -> jax.ShapeDtypeStruct:
    """Return the shape, the dtype and the weak type with which JAX traces an array or a number."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    if not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    weak = getattr(leaf, "weak_type", not hasattr(leaf, "dtype"))
    return jax.ShapeDtypeStruct(jnp.shape(leaf), dtype, sharding=sharding, weak_type=weak)


def avals(atoms: Sequence[Any]) -> list[Any]:
    """Return the abstract values of inputs or outputs; they have a shape, a dtype and a size."""
    return [atom.aval for atom in atoms]


def literals(atoms: Sequence[Any]) -> list[Any]:
    """Return the values of the literals among an equation's or a jaxpr's inputs or outputs."""
    return [atom.val for atom in atoms if isinstance(atom, Literal)]


def constants(jaxpr: ClosedJaxpr) -> Iterator[Any]:
    """Yield the arrays that a jaxpr and its inner jaxprs contain, except literal scalars."""
    yield from jaxpr.consts
    for equation in jaxpr.jaxpr.eqns:
        yield from (value for value in literals(equation.invars) if jnp.ndim(value))
        for inner in inner_jaxprs(equation):
            yield from constants(inner)


def interpret(
    jaxpr: ClosedJaxpr,
    arguments: Sequence[Value],
    rule: Callable[[JaxprEqn, list[Value]], Sequence[Value]],
    constant: Callable[[Any], Value],
) -> list[Value]:
    """Evaluate a jaxpr on values of any kind.

    Args:
        jaxpr: the traced function.
        arguments: one value for each input.
        rule: maps an equation and the values of its inputs to the values of its outputs. It may
            replace entries of the list of inputs; later equations then read the new values.
        constant: maps an array or a number in the jaxpr to a value.

    Returns:
        One value for each output.
    """
    inner = jaxpr.jaxpr
    variables = [*inner.constvars, *inner.invars]
    values: dict[Any, Value] = dict(
        zip(variables, [*map(constant, jaxpr.consts), *arguments], strict=True)
    )

    def read(atom: Any) -> Value:
        return constant(atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in inner.eqns:
        inputs = [read(atom) for atom in equation.invars]
        outputs = rule(equation, inputs)
        for atom, value in zip(equation.invars, inputs, strict=True):
            if not isinstance(atom, Literal):
                values[atom] = value
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in inner.outvars]


def interpret_both(
    jaxpr: ClosedJaxpr,
    other: ClosedJaxpr,
    arguments: Sequence[Value],
    rule: Callable[[JaxprEqn, JaxprEqn, list[Value]], Sequence[Value]],
    constant: Callable[[Any], Value],
) -> list[Value]:
    """Evaluate a jaxpr as `interpret` does, together with one that differs only in shapes.

    Args:
        jaxpr: the traced function.
        other: the same function, traced for other shapes.
        arguments: one value for each input of `jaxpr`.
        rule: as in `interpret`, but it also gets the same equation of `other`, second.
        constant: as in `interpret`.

    Returns:
        One value for each output of `jaxpr`.

    Raises:
        MismatchError: The jaxprs apply different primitives, or to different values.
    """
    first, second = jaxpr.jaxpr, other.jaxpr
    variables, twins = ([*j.constvars, *j.invars] for j in (first, second))
    if len(variables) != len(twins) or len(first.eqns) != len(second.eqns):
        raise MismatchError
    twin_of = dict(zip(variables, twins, strict=True))
    others = iter(second.eqns)

    def check(atoms: Sequence[Any], those: Sequence[Any]) -> None:
        if len(atoms) != len(those) or not all(
            isinstance(two, Literal) if isinstance(one, Literal) else twin_of[one] is two
            for one, two in zip(atoms, those, strict=True)
        ):
            raise MismatchError

    def both(equation: JaxprEqn, inputs: list[Value]) -> Sequence[Value]:
        twin = next(others)
        if equation.primitive is not twin.primitive or len(equation.outvars) != len(twin.outvars):
            raise MismatchError
        check(equation.invars, twin.invars)
        twin_of.update(zip(equation.outvars, twin.outvars, strict=True))
        return rule(equation, twin, inputs)

    outputs = interpret(jaxpr, arguments, both, constant)
    check(first.outvars, second.outvars)
    return outputs


def bind(equation: JaxprEqn, arrays: Sequence[Any]) -> list[Any]:
    """Apply an equation's primitive, with its parameters, to other arrays."""
    primitive = equation.primitive
    params = primitive.get_bind_params(equation.params)
    # Older versions of JAX return the functions of a call separately.
    functions, params = params if isinstance(params, tuple) else ((), params)
    outputs = primitive.bind(*functions, *arrays, **params)
    return list(outputs) if primitive.multiple_results else [outputs]


def multiply_adds(equation: JaxprEqn) -> int | None:
    """Return the multiply-adds per output value of a matrix product or a convolution.

    Returns:
        The number; None for any other primitive.
    """
    shapes = [aval.shape for aval in avals(equation.invars)]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return math.prod(shapes[0][axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        outputs = equation.params["dimension_numbers"].rhs_spec[0]
        return math.prod(size for axis, size in enumerate(shapes[1]) if axis != outputs)
    return None
