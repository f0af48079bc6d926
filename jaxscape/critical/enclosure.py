"""Functions written in JAX, evaluated on intervals: bounds that hold for every point of a box."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

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
        return _run(self.closed, *arguments)

    @property
    def numbers(self) -> int:
        """How many numbers a call computes."""
        return _numbers(self.closed.jaxpr)


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
    refuse_unknown(closed.jaxpr)
    return Enclosure(closed)


def _numbers(jaxpr: Any) -> int:
    inner = [_inner(equation) for equation in jaxpr.eqns]
    return sum(
        math.prod(variable.aval.shape) for equation in jaxpr.eqns for variable in equation.outvars
    ) + sum(_numbers(one.jaxpr) for one in inner if one is not None)


def refuse_unknown(jaxpr: Any) -> None:
    """Refuse a computation with an operation that no bound is known for."""
    for equation in jaxpr.eqns:
        inner = _inner(equation)
        if inner is not None:
            refuse_unknown(inner.jaxpr)
        elif equation.primitive.name not in RULES:
            raise Unbounded(equation.primitive.name)
        for variable in equation.outvars:
            dtype = variable.aval.dtype
            if jnp.issubdtype(dtype, jnp.inexact) and dtype != np.float64:
                raise Unbounded(f"{equation.primitive.name} in {dtype}")


def _inner(equation: Any) -> ClosedJaxpr | None:
    """The computation that a call wraps."""
    if equation.primitive.name not in _CALLS:
        return None
    found = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return found if hasattr(found, "consts") else ClosedJaxpr(found, ())


_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "checkpoint",
    "remat2",
)


def _run(closed: ClosedJaxpr, *arguments: Interval) -> list[Interval]:
    known: dict[Any, Interval] = {}

    def read(variable: Any) -> Interval:
        return point(variable.val) if isinstance(variable, Literal) else known[variable]

    jaxpr = closed.jaxpr
    known.update(zip(jaxpr.constvars, map(point, closed.consts), strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))
    with np.errstate(all="ignore"):
        for equation in jaxpr.eqns:
            given = [read(variable) for variable in equation.invars]
            inner = _inner(equation)
            if inner is not None:
                results = _run(inner, *given)
            else:
                results = RULES[equation.primitive.name](equation, *given)
                results = results if equation.primitive.multiple_results else [results]
            known.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]
