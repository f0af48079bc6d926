"""Functions written in JAX, evaluated on intervals: bounds that hold for every point of a box."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxscape._util.jaxpr import CALLS, avals, called_jaxpr, equations, interpret
from jaxscape.critical.interval import Interval, point
from jaxscape.critical.interval_rules import RULES


class Unbounded(Exception):
    """An operation that no bound is known for."""


class Enclosure(NamedTuple):
    """A function of intervals that encloses what a function of arrays returns."""

    closed: ClosedJaxpr
    """The function as JAX traced it."""

    def __call__(self, *arguments: Interval) -> list[Interval]:
        """Bounds of the results, one interval an array; an end that is not known is infinite."""
        with np.errstate(all="ignore"):
            return interpret(self.closed, arguments, _apply_rule, point)

    @property
    def numbers(self) -> int:
        """How many numbers a call computes."""
        return sum(
            math.prod(output.shape)
            for equation in equations(self.closed, into_calls=True)
            for output in avals(equation.outvars)
        )


def enclosure(function: Callable, *shapes: Any) -> Enclosure:
    """Enclose a function.

    Args:
        function: of arrays, as JAX traces it.
        shapes: `jax.ShapeDtypeStruct`s of its arguments.

    Raises:
        Unbounded: an operation that no bound is known for, by name.
    """
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*shapes)
    refuse_unknown(closed)
    return Enclosure(closed)


def refuse_unknown(jaxpr: ClosedJaxpr) -> None:
    """Refuse a computation with an operation that no bound is known for."""
    for equation in equations(jaxpr, into_calls=True):
        name = equation.primitive.name
        if name not in CALLS and name not in RULES:
            raise Unbounded(name)
        for output in avals(equation.outvars):
            if jnp.issubdtype(output.dtype, jnp.inexact) and output.dtype != np.float64:
                raise Unbounded(f"{name} in {output.dtype}")


def _apply_rule(equation: JaxprEqn, inputs: list[Interval]) -> list[Interval]:
    """Return bounds of an equation's outputs."""
    called = called_jaxpr(equation)
    if called is not None:
        return interpret(called, inputs, _apply_rule, point)
    results = RULES[equation.primitive.name](equation, *inputs)
    return results if equation.primitive.multiple_results else [results]
