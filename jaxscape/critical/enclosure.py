"""Evaluate JAX functions in interval arithmetic: bounds that hold for every point of a box."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape._util.jaxpr import (
    CALLS,
    ClosedJaxpr,
    JaxprEqn,
    avals,
    called_jaxpr,
    equations,
    interpret,
)
from jaxscape.critical.interval import Interval, point
from jaxscape.critical.interval_rules import RULES


class Unbounded(Exception):
    """The function has a primitive without a rule; the message names it."""


class Enclosure(NamedTuple):
    """A function of intervals that encloses a function of arrays."""

    closed: ClosedJaxpr
    """The function as JAX traced it."""

    def __call__(self, *arguments: Interval) -> list[Interval]:
        """Return bounds on the results, one interval per array; unknown ends are infinite."""
        with np.errstate(all="ignore"):
            return interpret(self.closed, arguments, _apply_rule, point)

    @property
    def numbers(self) -> int:
        """The total number of array elements that a call computes."""
        return sum(
            math.prod(output.shape)
            for equation in equations(self.closed, into_calls=True)
            for output in avals(equation.outvars)
        )


def enclosure(function: Callable, *shapes: Any) -> Enclosure:
    """Return the interval version of a function.

    Args:
        function: a function of arrays that JAX can trace.
        shapes: the `jax.ShapeDtypeStruct` of each argument.

    Raises:
        Unbounded: The function has a primitive without a rule, or computes in another floating
            dtype than float64.
    """
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*shapes)
    check_primitives(closed)
    return Enclosure(closed)


def check_primitives(jaxpr: ClosedJaxpr) -> None:
    """Check that every primitive has a rule and computes in float64, integers or truth values."""
    for equation in equations(jaxpr, into_calls=True):
        name = equation.primitive.name
        if name not in CALLS and name not in RULES:
            raise Unbounded(name)
        for output in avals(equation.outvars):
            # Dtypes of random keys have no kind; that of four-bit integers is "V".
            if output.dtype != np.float64 and getattr(output.dtype, "kind", "V") not in "biu":
                raise Unbounded(f"{name} in {output.dtype}")


def _apply_rule(equation: JaxprEqn, inputs: list[Interval]) -> list[Interval]:
    """Return bounds on an equation's outputs."""
    called = called_jaxpr(equation)
    if called is not None:
        return interpret(called, inputs, _apply_rule, point)
    results = RULES[equation.primitive.name](equation, *inputs)
    return results if equation.primitive.multiple_results else [results]
