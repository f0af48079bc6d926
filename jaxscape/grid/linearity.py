"""Prove that a function is affine in a coordinate, by reading its traced equations.

Derivatives prove nothing: that of a function with jumps (rounding, signs, comparisons) does not
show them, and `stop_gradient` and custom rules replace it. So the coordinate must reach the output
through primitives that are known to be linear. Every other primitive ends the proof.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxscape._util.jaxpr import (
    CHECKPOINTS,
    COND,
    LINEAR,
    PLAIN_CALLS,
    PRODUCTS,
    QUOTIENT,
    SCAN,
    WHILE,
    ClosedJaxpr,
    JaxprEqn,
    avals,
    called_jaxpr,
    inner_jaxprs,
    interpret,
)


class Dependence(enum.IntEnum):
    """How a value depends on the coordinate. The larger of two holds for both."""

    NONE = 0
    AFFINE = 1
    UNKNOWN = 2


class _EffectError(Exception):
    """A value that depends on the coordinate is written or printed."""


def is_affine(
    function: Callable[..., Any], arguments: Sequence[Any], coordinate: Any, dtype: Any
) -> bool:
    """Return whether a function is proved to be affine in its last argument.

    If so, the function also equals its value plus its derivative times the distance, because the
    coordinate passes only primitives that JAX differentiates by their own rules.

    Args:
        function: (*arguments, coordinate) -> arrays.
        arguments: the other arguments; only shapes matter.
        coordinate: the last argument, a floating scalar; only its dtype matters.
        dtype: the dtype whose precision values that depend on the coordinate must keep. A
            conversion to fewer digits is a step function.

    Returns:
        True if the proof succeeds. False does not mean that the function is not affine.

    Example:
        >>> from jaxscape.grid.linearity import is_affine
        >>> def line(a, b): return jnp.tanh(a) * b - 2 * (b + a)
        >>> def steps(a, b): return jnp.tanh(a) * jnp.round(b)
        >>> [is_affine(function, (1.0,), 1.0, jnp.float32) for function in (line, steps)]
        [True, False]
    """
    traced = jax.make_jaxpr(function)(*arguments, coordinate)
    dependences = [Dependence.NONE] * (len(traced.jaxpr.invars) - 1) + [Dependence.AFFINE]
    try:
        outputs = _Proof(dtype).outputs(traced, dependences)
    except _EffectError:
        return False
    return all(output < Dependence.UNKNOWN for output in outputs)


class _Proof:
    """Find how each value of a computation depends on the coordinate."""

    def __init__(self, dtype: Any):
        self.dtype = dtype

    def outputs(self, jaxpr: ClosedJaxpr, dependences: Sequence[Dependence]) -> list[Dependence]:
        """Return the dependences of the outputs, given those of the inputs."""
        return interpret(jaxpr, dependences, self._rule, lambda _: Dependence.NONE)

    def _rule(self, equation: JaxprEqn, inputs: list[Dependence]) -> list[Dependence]:
        """Return the dependences of an equation's outputs, given those of its inputs."""
        if max(inputs, default=Dependence.NONE) is Dependence.NONE:
            return [Dependence.NONE] * len(equation.outvars)
        if equation.effects:
            # A mutable array would carry the value past the equations.
            raise _EffectError
        name = equation.primitive.name
        if name in PLAIN_CALLS | CHECKPOINTS:
            called = called_jaxpr(equation)
            assert called is not None
            return self.outputs(called, inputs)
        if name == COND and inputs[0] is Dependence.NONE:
            branches = [self.outputs(branch, inputs[1:]) for branch in inner_jaxprs(equation)]
            return [max(outputs) for outputs in zip(*branches, strict=True)]
        if name == SCAN:
            return self._scan(equation, inputs)
        if name == WHILE:
            return self._while(equation, inputs)
        output = Dependence.AFFINE if self._is_linear(equation, inputs) else Dependence.UNKNOWN
        return [output] * len(equation.outvars)

    def _scan(self, equation: JaxprEqn, inputs: list[Dependence]) -> list[Dependence]:
        (body,), params = inner_jaxprs(equation), equation.params
        start, stop = params["num_consts"], params["num_consts"] + params["num_carry"]
        carry = inputs[start:stop]
        while True:
            outputs = self.outputs(body, [*inputs[:start], *carry, *inputs[stop:]])
            before, carry = carry, list(map(max, carry, outputs))
            if carry == before:
                return [*carry, *outputs[len(carry) :]]

    def _while(self, equation: JaxprEqn, inputs: list[Dependence]) -> list[Dependence]:
        params = equation.params
        start, stop = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        carry = inputs[stop:]
        while True:
            outputs = self.outputs(params["body_jaxpr"], [*inputs[start:stop], *carry])
            before, carry = carry, list(map(max, carry, outputs))
            if carry == before:
                break
        # The number of steps must not depend on the coordinate.
        (goes_on,) = self.outputs(params["cond_jaxpr"], [*inputs[:start], *carry])
        return carry if goes_on is Dependence.NONE else [Dependence.UNKNOWN] * len(carry)

    def _is_linear(self, equation: JaxprEqn, inputs: list[Dependence]) -> bool:
        """Return whether the outputs are affine if the inputs that depend on the coordinate are."""
        name, params = equation.primitive.name, equation.params
        if Dependence.UNKNOWN in inputs:
            return False
        if name in PRODUCTS:
            linear = inputs.count(Dependence.AFFINE) == 1 and _is_precise(params.get("precision"))
        elif name == QUOTIENT:
            linear = inputs[1] is Dependence.NONE
        else:
            # Indices and conditions are never affine: they are not floating numbers.
            linear = name in LINEAR
        return linear and all(
            _holds(output.dtype, self.dtype) for output in avals(equation.outvars)
        )


def _is_precise(precision: Any) -> bool:
    """Return whether a product does not round its factors."""
    parts = precision if isinstance(precision, tuple) else (precision,)
    return all(part in (None, jax.lax.Precision.HIGHEST) for part in parts)


def _holds(dtype: Any, numbers: Any) -> bool:
    """Return whether a dtype holds all numbers of a floating dtype exactly."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return False
    wide, narrow = jnp.finfo(dtype), jnp.finfo(numbers)
    return (
        wide.nmant >= narrow.nmant and wide.minexp <= narrow.minexp and wide.maxexp >= narrow.maxexp
    )
