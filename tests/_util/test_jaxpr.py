"""The reader of JAX's equations, and that JAX still has each primitive with a rule."""

import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives

import jaxscape
from jaxscape._util.jaxpr import (
    CALLS,
    CHEAP,
    CHECKPOINTS,
    COND,
    LINEAR,
    NO_FORWARD_MODE,
    PLAIN_CALLS,
    PRODUCTS,
    QUOTIENT,
    SCAN,
    SPLIT_LINEAR,
    SPLIT_SUMS,
    WHILE,
    MismatchError,
    avals,
    bind,
    called_jaxpr,
    constants,
    equations,
    inner_jaxprs,
    innermost_equations,
    interpret,
    interpret_both,
    literals,
    multiply_adds,
)
from jaxscape.critical.interval_rules import RULES
from jaxscape.grid import affine

X = np.array([0.3, -1.2, 0.7], np.float32)
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
TRUE = X > 0
IMAGE, KERNEL = np.ones((2, 3, 7, 6), np.float32), np.ones((4, 3, 2, 5), np.float32)


@jax.custom_jvp
def with_jvp_rule(x):
    return jnp.sin(x)


with_jvp_rule.defjvp(lambda primals, tangents: (primals[0], tangents[0]))


@jax.custom_vjp
def with_vjp_rule(x):
    return jnp.sin(x)


with_vjp_rule.defvjp(lambda x: (x, None), lambda _, g: (g,))

# For each primitive that has a rule, a function whose trace holds it, and its arguments.
EXAMPLES = {
    **{
        name: (getattr(lax, name), X)
        for name in (
            *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos"),
            *("cosh", "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor"),
            *("is_finite", "lgamma", "log", "log1p", "logistic", "neg", "optimization_barrier"),
            *("round", "rsqrt", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "tan"),
            "tanh",
        )
    },
    **{
        name: (getattr(lax, name), X, X)
        for name in (
            *("add", "atan2", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne"),
            *("pow", "rem", "sub"),
        )
    },
    "add_any": (jax.grad(lambda x: jnp.sin(x) * jnp.cos(x)), 0.5),
    "and": (lax.bitwise_and, TRUE, TRUE),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (2, 3), (1,)), X),
    "clamp": (lax.clamp, -X, X, X),
    "complex": (lax.complex, X, X),
    "concatenate": (lambda x: lax.concatenate([x, x], 0), X),
    "cond": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), X),
    "conj": (jnp.conj, 1j * X),
    "conv_general_dilated": (lambda x, k: lax.conv(x, k, (1, 1), "VALID"), IMAGE, KERNEL),
    "convert_element_type": (lambda x: lax.convert_element_type(x, jnp.int32), X),
    "copy": (lambda x: jnp.array(x, copy=True), X),
    "cumsum": (jnp.cumsum, X),
    "custom_jvp_call": (with_jvp_rule, X),
    "custom_lin": (lambda x: jax.jvp(with_vjp_rule, (x,), (x,)), X),
    "custom_vjp_call": (with_vjp_rule, X),
    "dot_general": (lax.dot, MATRIX, X),
    "dynamic_slice": (lambda x, start: lax.dynamic_slice(x, (start,), (1,)), X, 1),
    "dynamic_update_slice": (
        lambda x, start: lax.dynamic_update_slice(x, X[:1], (start,)),
        X,
        1,
    ),
    "fft": (jnp.fft.rfft, X),
    "gather": (lambda x: x[np.array([2, 0])], X),
    "imag": (lax.imag, 1j * X),
    "integer_pow": (lambda x: lax.integer_pow(x, 3), X),
    "iota": (lambda: lax.iota(jnp.int32, 3),),
    "not": (lax.bitwise_not, TRUE),
    "or": (lax.bitwise_or, TRUE, TRUE),
    "pad": (lambda x: lax.pad(x, np.float32(0), [(1, 1, 0)]), X),
    "real": (lax.real, 1j * X),
    "reduce_and": (jnp.all, TRUE),
    "reduce_max": (jnp.max, X),
    "reduce_min": (jnp.min, X),
    "reduce_or": (jnp.any, TRUE),
    "reduce_sum": (jnp.sum, X),
    "reduce_window_max": (
        lambda x: lax.reduce_window(x, -np.inf, lax.max, (2,), (1,), "VALID"),
        X,
    ),
    "reduce_window_sum": (lambda x: lax.reduce_window(x, 0.0, lax.add, (2,), (1,), "VALID"), X),
    "reshape": (lambda x: lax.reshape(x, (3, 2)), MATRIX),
    "rev": (lambda x: lax.rev(x, (0,)), X),
    "scan": (lambda x: lax.scan(lambda total, z: (total + z, total), 0.0, x), X),
    "scatter": (lambda x: x.at[np.array([2, 0])].set(1.0), X),
    "scatter-add": (lambda x: x.at[np.array([2, 0])].add(1.0), X),
    "select_n": (lax.select_n, TRUE, X, X),
    "slice": (lambda x: lax.slice(x, (0,), (2,)), X),
    "split": (lambda x: lax.split(x, (1, 2)), X),
    "squeeze": (lambda x: lax.squeeze(x, (0,)), X[None]),
    "transpose": (lambda x: lax.transpose(x, (1, 0)), MATRIX),
    "while": (lambda x: lax.while_loop(lambda x: x[0] < 1, lambda x: x + 1, x), X),
    "xor": (lax.bitwise_xor, TRUE, TRUE),
}
# Primitives whose names differ between versions of JAX. One of each group must exist.
ALTERNATIVES = {
    ("jit", "pjit"): (jax.jit(jnp.sin), X),
    ("checkpoint", "remat2"): (jax.checkpoint(jnp.sin), X),
    ("copy", "copy_p"): EXAMPLES["copy"],
    ("expand_dims", "broadcast_in_dim"): (lambda x: lax.expand_dims(x, (0,)), X),
    # From JAX 0.10.
    ("stack", "concatenate"): (lambda x: jnp.stack([x, x]), X),
    ("unstack", "squeeze"): (jnp.unstack, X),
    # From JAX 0.12: the derivative of tanh.
    ("one_minus_square", "sub"): (jax.grad(jnp.tanh), 0.5),
}
# No public function produces this call.
CLOSED_CALL = ("closed_call", "eval_jaxpr")
WITH_A_RULE = {
    *(LINEAR | PRODUCTS | {QUOTIENT} | SPLIT_LINEAR | SPLIT_SUMS | {affine._WINDOW_MAX}),
    *(COND, SCAN, WHILE, NO_FORWARD_MODE),
    *CHEAP,
    *RULES,
    *CALLS,
}


def trace(function, *arguments):
    return jax.make_jaxpr(function)(*arguments)


def names(function, *arguments):
    traced = trace(function, *arguments)
    return {equation.primitive.name for equation in equations(traced, into_calls=True)}


def test_each_primitive_with_a_rule_has_an_example():
    alternatives = {name for group in [*ALTERNATIVES, CLOSED_CALL] for name in group}
    assert WITH_A_RULE - alternatives == set(EXAMPLES) - alternatives


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_jax_has_the_primitive(name):
    found = names(*EXAMPLES[name])
    assert name in found, f"JAX {jax.__version__} has no primitive {name!r}, but {sorted(found)}"


@pytest.mark.parametrize("group", ALTERNATIVES, ids="|".join)
def test_jax_has_one_of_the_primitives(group):
    found = names(*ALTERNATIVES[group])
    assert found & set(group), f"JAX {jax.__version__} has none of {group}, but {sorted(found)}"


def test_jax_has_the_primitive_of_a_call_without_a_public_function():
    name = primitives.closed_call_p.name
    assert name in CLOSED_CALL, f"JAX {jax.__version__} names the primitive closed_call {name!r}"


def test_no_other_module_reads_equations():
    package = Path(jaxscape.__file__).parent
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\.eqns\b|jax\.extend\b", path.read_text())
    }
    assert readers == {"_util/jaxpr.py"}


def test_calls_are_those_that_jax_traces():
    for function, kind in (
        (jax.jit(jnp.sin), PLAIN_CALLS),
        (jax.checkpoint(jnp.sin), CHECKPOINTS),
        (with_jvp_rule, CALLS - PLAIN_CALLS - CHECKPOINTS),
        (with_vjp_rule, CALLS - PLAIN_CALLS - CHECKPOINTS),
    ):
        (equation,) = equations(trace(function, X))
        assert equation.primitive.name in kind
        (inner,) = equations(called_jaxpr(equation))
        assert inner.primitive.name == "sin"
    (equation,) = equations(trace(jnp.cos, X))
    assert called_jaxpr(equation) is None
    assert inner_jaxprs(equation) == []


def test_equations_of_a_call_come_before_it():
    traced = trace(lambda x: jax.jit(jnp.sin)(jnp.cos(x)) + 1, X)
    found = [equation.primitive.name for equation in equations(traced)]
    assert found == ["cos", "jit", "add"]
    found = [equation.primitive.name for equation in equations(traced, into_calls=True)]
    assert found == ["cos", "sin", "jit", "add"]


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
    def function(x):
        def step(total, row):
            half = lax.cond(row[0] > 0, jnp.sin, jnp.cos, total)
            return jax.jit(jnp.tanh)(half), None

        return lax.scan(step, x, jnp.ones((5, 3)))[0] + 1

    counted = {e.primitive.name: n for e, n in innermost_equations(trace(function, X))}
    assert {name: counted[name] for name in ("sin", "cos", "tanh", "add")} == {
        **dict.fromkeys(("sin", "cos", "tanh"), 5),
        "add": 1,
    }


def test_constants_of_inner_jaxprs_are_found():
    outer, inner = jnp.asarray(X), jnp.asarray(MATRIX)

    def function(x):
        return lax.cond(x[0] > 0, lambda x: inner @ x, lambda x: -(inner @ x), x) * outer[0] + 2

    found = [np.asarray(array) for array in constants(trace(function, X))]
    assert all(array.ndim for array in found)
    assert any(np.array_equal(array, X) for array in found)
    assert any(np.array_equal(array, MATRIX) for array in found)


def test_literals_are_the_numbers_among_inputs():
    (equation,) = equations(trace(lambda x: x * 2.5, X))
    assert literals(equation.invars) == [2.5]
    assert [aval.shape for aval in avals(equation.invars)] == [(3,), ()]
    assert literals(equation.outvars) == []


def model(x, w):
    hidden = jax.jit(lambda x: jnp.tanh(x @ w.T))(x)
    total, parts = lax.scan(lambda total, h: (total + h, total * h), 0.5, hidden)
    first, second = lax.split(jnp.concatenate([parts, hidden]), (2, 2))
    return jax.checkpoint(jnp.sin)(first) + jax.nn.relu(second), total, 3.0


def test_interpreting_with_the_primitives_equals_the_function():
    def rule(equation, inputs):
        called = called_jaxpr(equation)
        if called is not None:
            return interpret(called, inputs, rule, jnp.asarray)
        return bind(equation, inputs)

    outputs = interpret(trace(model, X, MATRIX), [X, MATRIX], rule, jnp.asarray)
    for output, expected in zip(outputs, model(X, MATRIX), strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [jax.jit(jnp.sin), jax.checkpoint(jnp.sin), with_jvp_rule, with_vjp_rule],
    ids=["jit", "checkpoint", "custom_jvp", "custom_vjp"],
)
def test_calls_can_be_bound_again(function):
    (equation,) = equations(trace(function, X))
    (output,) = jax.jit(lambda x: bind(equation, [x]))(2 * X)
    np.testing.assert_allclose(output, np.sin(2 * X), rtol=1e-6)


def test_a_rule_that_replaces_its_inputs_changes_them_for_later_equations():
    """Equations read 1, then 2 for the same input, because the first rule adds 1 to it."""
    read = []

    def rule(equation, inputs):
        read.append(list(inputs))
        inputs[0] += 1
        return [0]

    interpret(trace(lambda x: jnp.sin(x) + jnp.cos(x), X), [1], rule, lambda value: value)
    assert read == [[1], [2], [0, 0]]


def test_two_jaxprs_are_interpreted_side_by_side():
    def sizes(one, other, inputs):
        called = called_jaxpr(one)
        if called is not None:
            return interpret_both(called, called_jaxpr(other), inputs, sizes, np.size)
        shapes = (avals(equation.outvars)[0].shape for equation in (one, other))
        return [tuple(map(math.prod, shapes))]

    def function(x):
        return jax.jit(lambda x: jnp.sum(jnp.tanh(x) * 2))(x) / 3

    traces = trace(function, X), trace(function, np.ones(7, np.float32))
    assert interpret_both(*traces, [(3, 7)], sizes, np.size) == [(1, 1)]


@pytest.mark.parametrize(
    ("function", "other"),
    [
        (jnp.sin, jnp.cos),
        (jnp.sin, lambda x: jnp.sin(jnp.sin(x))),
        (lambda x: lax.sub(x, 2.0), lambda x: lax.sub(2.0, x)),
        (lambda x: (jnp.sin(x), jnp.cos(x))[0], lambda x: (jnp.sin(x), jnp.cos(x))[1]),
        (lambda x: (jnp.sin(x), x), jnp.sin),
        (lambda x: lax.split(x, (1, 2))[0], lambda x: lax.split(x, (1, 1, 1))[0]),
        (lambda x: lax.sub(x, MATRIX[0]), lambda x: lax.sub(x, x)),
    ],
    ids=["primitive", "length", "literal", "output", "outputs", "parts", "constant"],
)
def test_jaxprs_that_differ_do_not_match(function, other):
    def rule(one, two, inputs):
        return [0] * len(one.outvars)

    with pytest.raises(MismatchError):
        interpret_both(trace(function, X), trace(other, X), [0], rule, lambda value: value)


def test_multiply_adds_of_products():
    cases = [
        (lambda x: lax.dot(MATRIX, x), X, 3),
        (lambda x: jnp.einsum("bij,bjk->bik", x, np.ones((2, 4, 3))), np.ones((2, 5, 4)), 4),
        (lambda x: jnp.tensordot(x, x, axes=((2, 3), (2, 3))), IMAGE, 7 * 6),
        (lambda x: lax.conv(x, KERNEL, (1, 1), "VALID"), IMAGE, 3 * 2 * 5),
        (lambda x: lax.mul(x, x), X, None),
    ]
    for function, x, expected in cases:
        counts = [multiply_adds(e) for e in equations(trace(function, x), into_calls=True)]
        assert next((count for count in counts if count is not None), None) == expected
