"""The losses at points along lines and curves in the parameter space of any model."""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.pytree import (
    Params,
    check_finite,
    check_same_shapes,
    check_same_structure,
    is_none,
    is_parameter,
    is_traced,
    kind_of,
    moving_leaves,
    zip_with_paths,
)
from jaxscape._util.warnings import NonFiniteWarning, warn
from jaxscape.grid.axes import AxisValues
from jaxscape.grid.landscape import landscape
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import NamedLosses, ScalarLoss, loss_name
from jaxscape.planes.directions import Direction
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis, Landscape

Point = Callable[[Any, Any, Any], Params]
"""(curves, number of the curve, t) -> the parameters at t on that curve."""


@dataclass(frozen=True)
class _LossOnCurves:
    """A loss as a function of the position on a curve, in the form `loss(position, data)`.

    Two instances with equal parts are equal, so that a second call does not compile again.
    """

    loss: Callable[[Any, Any], Any]
    point: Point

    @property
    def name(self) -> str:
        return loss_name(self.loss)

    def __call__(self, position: Any, data: Any) -> Any:
        point = self.point(position["curves"], position["direction"], position["t"])
        return self.loss(point, data)


def losses_along(
    point: Point,
    curves: Any,
    count: int,
    loss: ScalarLoss | NamedLosses,
    data: Any,
    t: AxisValues,
) -> Landscape | dict[str, Landscape]:
    """Compute the loss along curves, as a landscape over the curve's number and t.

    Args:
        point: maps (curves, number of the curve, t) to parameters. It is a static argument, so use
            a function that is defined in a module.
        curves: the first argument of `point`, a pytree with leaves of any type.
        count: the number of curves.
        loss: as in `landscape`.
        data: as in `landscape`.
        t: an axis, as in `landscape`.

    Returns:
        A `Landscape` with one row per curve and one column per value of t; for a loss with several
        scalars, a dictionary of landscapes.

    Raises:
        TypeError: As in `landscape`.
        ValueError: As in `landscape`.

    Warns:
        NonFiniteWarning: Some losses are not finite.
        InterruptedWarning: As in `landscape`.
    """
    # `landscape` cannot check this, because it gets the loss wrapped.
    check_data(loss, data)
    # With less than 32 bits, compute coordinates in float32: bfloat16 lacks the number 257, and has
    # few values of t between 0 and 1.
    sizes = [
        jnp.result_type(leaf).itemsize for leaf in jax.tree.leaves(curves) if is_parameter(leaf)
    ]
    position = {"curves": curves, "direction": np.float32(0) if min(sizes) < 4 else 0.0, "t": 0.0}
    unchanged = jax.tree.map(lambda _: None, position, is_leaf=is_none)
    # An axis has at least two values, but the losses of a single curve do not depend on its number.
    # With t as the first coordinate, they are computed once per row and not twice.
    names = ("direction", "t") if count > 1 else ("t", "direction")
    u, v = (unchanged | {name: 1.0} for name in names)
    axes: dict[str, Any] = {"t": t, "direction": (0, max(1, count - 1), max(2, count))}
    with warnings.catch_warnings():
        # The landscape's own warning would count the losses of a single curve twice.
        warnings.simplefilter("ignore", NonFiniteWarning)
        result: Any = landscape(
            _LossOnCurves(loss, point), data, Plane(position, u, v, names), method="dense", **axes
        )
    surfaces = result if isinstance(result, Mapping) else {"": result}
    if count == 1:
        surfaces = {name: _transpose(surface) for name, surface in surfaces.items()}
    for name, surface in surfaces.items():
        if not is_traced(surface.loss) and (cell := surface.first_nonfinite):
            warn(
                f"{surface.nonfinite_count} of {surface.loss.size} losses{name and ' of ' + name} "
                f"are not finite, the first at line {cell.i}, t = {cell.b:g}: {cell.loss}",
                NonFiniteWarning,
            )
    return dict(surfaces) if isinstance(result, Mapping) else surfaces[""]


def _transpose(surface: Landscape) -> Landscape:
    """Return the losses of a single curve as one row."""
    number = Axis(surface.b.values[:1], surface.b.name)
    return Landscape(surface.loss[:, :1].T, number, surface.a, surface.loss_name, surface.method)


def point_on_line(lines: tuple[Params, Direction], number: Any, t: Any) -> Params:
    """Return the point at t on one of several straight lines.

    Args:
        lines: the parameters at t = 0, and the directions, stacked along a leading axis.
        number: the index of the direction.
        t: the position on the line.
    """

    def move(leaf: Any, steps: Any) -> Any:
        if steps is None:
            return leaf
        step = steps[0 if len(steps) == 1 else jnp.asarray(number).astype(int)]
        return _with_dtype_of(leaf + t * step, leaf)

    return jax.tree.map(move, *lines, is_leaf=is_none)


def point_on_curve(points: Sequence[Params], _: Any, t: Any) -> Params:
    """Return the point at t on the Bézier curve of some control points; with two, it is a line.

    De Casteljau's algorithm takes weighted means of weighted means. At t = 0 and 1 it returns
    exactly the first and the last control point, unlike `first + t·(last - first)`.

    Args:
        points: the control points, pytrees of one structure. If a leaf is `None` in the last one,
            the leaf of the first one is returned.
        t: the position on the curve.
    """

    def mean(first: Any, *others: Any) -> Any:
        if others[-1] is None:
            return first
        means = [first, *others]
        while len(means) > 1:
            means = [(1 - t) * here + t * there for here, there in itertools.pairwise(means)]
        return _with_dtype_of(means[0], first, *others)

    return jax.tree.map(mean, *points, is_leaf=is_none)


def _with_dtype_of(value: Any, *leaves: Any) -> Any:
    """Convert a value to the dtype of some leaves; keep its dtype if all of these are weak."""
    weak = [getattr(leaf, "weak_type", not hasattr(leaf, "dtype")) for leaf in leaves]
    strong = [leaf.dtype for leaf, is_weak in zip(leaves, weak, strict=True) if not is_weak]
    return jnp.asarray(value, jnp.result_type(*strong) if strong else None)


def check_solutions(first: Params, second: Params) -> Params:
    """Check two solutions, and return the moving leaves of the second, `None` for the others.

    Raises:
        TypeError: A leaf is floating in `first` only.
        ValueError: The solutions differ in structure or shape, have no floating numbers, are not
            finite, or are equal.
    """
    check_same_shapes("second", first, second)
    equal = all(
        not is_traced(here, there) and np.array_equal(here, there)
        for _, here, there in zip_with_paths(first, second)
        if is_parameter(here)
    )
    moving = moving_leaves(first, second)
    if not jax.tree.leaves(moving):
        structure: Any = jax.tree.structure(first)
        raise ValueError(f"first: expected floating numbers, got none in {structure}")
    for name, params in (("first", first), ("second", second)):
        check_finite(name, params)
    if equal:
        raise ValueError("second: expected parameters that differ from the first, got equal ones")
    return moving


def check_directions(params: Params, directions: Direction) -> int:
    """Check stacked directions, and return their number.

    Raises:
        TypeError: A direction moves a leaf that does not consist of floating numbers.
        ValueError: The directions differ from the parameters in structure or shape, are not finite,
            or one of them is zero.
    """
    check_same_structure("directions", "the structure of params", params, directions)
    counts, lengths = {}, 0.0
    for path, leaf, steps in zip_with_paths(params, directions):
        if steps is None:
            continue
        if not is_parameter(leaf):
            raise TypeError(
                f"directions{path}: expected None, because params has no floating numbers there "
                f"but {kind_of(leaf)}"
            )
        shape = jnp.shape(steps)
        if not shape or shape[1:] != jnp.shape(leaf) or shape[0] == 0:
            axes = ", ".join(map(str, ("D", *jnp.shape(leaf))))
            raise ValueError(
                f"directions{path}: expected shape ({axes}{',' * (axes == 'D')}) for D "
                f"directions, got {shape}"
            )
        counts[path] = shape[0]
        if not is_traced(steps):
            values = np.asarray(steps).reshape(shape[0], -1)
            if not np.isfinite(values).all():
                raise ValueError(
                    f"directions{path}: expected finite numbers, got some that are not"
                )
            if len(set(counts.values())) == 1:
                lengths = np.maximum(lengths, np.abs(values).max(axis=1, initial=0))
    if not counts:
        raise ValueError("directions: expected a direction, got None for every leaf")
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{count} at {path}" for path, count in counts.items())
        raise ValueError(f"directions: expected one number D in all leaves, got {got}")
    zeros = np.flatnonzero(lengths == 0)
    if zeros.size and not is_traced(*jax.tree.leaves(directions)):
        raise ValueError(f"directions: expected nonzero directions, got zeros at index {zeros[0]}")
    return next(iter(counts.values()))
