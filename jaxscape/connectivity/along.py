"""Points on lines and curves through parameters of any model, and the loss at all of them."""

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.pytree import (
    check_alike,
    check_finite,
    check_structure,
    is_none,
    is_parameter,
    is_traced,
    paired,
)
from jaxscape._util.warnings import NonFiniteWarning
from jaxscape.grid.landscape import landscape
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import loss_name
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Axis, Landscape


@dataclass(frozen=True)
class _OnPath:
    """A loss as a function of the place on a path: a `loss(params, data)` to map.

    Equal if the loss and the kind of path are, so that a second call compiles nothing.
    """

    loss: Callable[[Any, Any], jax.Array]
    point: Callable[[Any, Any, Any], Any]

    @property
    def name(self) -> str:
        return loss_name(self.loss)

    def __call__(self, place: Any, data: Any) -> jax.Array:
        return self.loss(self.point(place["path"], place["direction"], place["t"]), data)


def losses_along(
    point: Callable[[Any, Any, Any], Any],
    path: Any,
    count: int,
    loss: Callable[[Any, Any], Any],
    data: Any,
    t: Any,
) -> Any:
    """The loss along paths: a landscape over the number of the path and t.

    Args:
        point: (path, number of the path, t) -> parameters; a function of a module, as it is static.
        path: what it takes, a pytree that may hold other things than arrays.
        count: how many paths.
        loss, data: as in `landscape`.
        t: an axis, as in `landscape`.

    Returns:
        A `Landscape`, its rows the paths, its columns the values of t; of a loss with several
        scalars, a dictionary of them.

    Raises:
        ValueError: as `landscape`.

    Warns:
        NonFiniteWarning, InterruptedWarning: as `landscape`.
    """
    # What `landscape` is given hides the loss.
    check_data(loss, data)
    # Of coordinates in bfloat16 there would be no 257th direction, and few values of t.
    sizes = [jnp.result_type(leaf).itemsize for leaf in jax.tree.leaves(path) if is_parameter(leaf)]
    place = {"path": path, "direction": np.float32(0) if min(sizes) < 4 else 0.0, "t": 0.0}
    still = jax.tree.map(lambda _: None, place, is_leaf=is_none)
    # A single path ignores its number, so that its losses are computed once a row and not for both
    # of the numbers that an axis must have; its rows are then values of t.
    names = ("direction", "t") if count > 1 else ("t", "direction")
    u, v = (still | {name: 1.0} for name in names)
    axes = {"t": t, "direction": (0, max(1, count - 1), max(2, count))}
    with warnings.catch_warnings():
        # It would count what is not finite in the grid, and a single path's twice.
        warnings.simplefilter("ignore", NonFiniteWarning)
        found = landscape(
            _OnPath(loss, point), data, Plane(place, u, v, names), method="dense", **axes
        )
    surfaces = found if isinstance(found, dict) else {"": found}
    if count == 1:
        surfaces = {name: _turned(surface) for name, surface in surfaces.items()}
    for name, surface in surfaces.items():
        if not is_traced(surface.loss) and (hole := surface.first_nonfinite):
            warnings.warn(
                f"{surface.nonfinite_count} of {surface.loss.size} losses{name and ' of ' + name} "
                f"are not finite, the first at line {hole.i}, t = {hole.b:g}: {hole.loss}",
                NonFiniteWarning,
                stacklevel=3,
            )
    return surfaces if isinstance(found, dict) else surfaces[""]


def _turned(surface: Landscape) -> Landscape:
    """A single path's losses as a row."""
    number = Axis(surface.b.values[:1], surface.b.name)
    return Landscape(surface.loss[:, :1].T, number, surface.a, surface.loss_name, surface.method)


def on_lines(path: tuple[Any, Any], number: Any, t: Any) -> Any:
    """The point at t of one of several straight lines, from parameters in stacked directions."""

    def along(leaf: Any, steps: Any) -> Any:
        if steps is None:
            return leaf
        step = steps[0 if len(steps) == 1 else jnp.asarray(number).astype(int)]
        return _like(leaf + t * step, leaf)

    return jax.tree.map(along, *path, is_leaf=is_none)


def on_curve(points: Sequence[Any], _: Any, t: Any) -> Any:
    """The point at t of the Bézier curve of some control points, two for a straight line.

    After de Casteljau, as means of means: at 0 and at 1 it is the first and the last to the bit,
    which `first + t·(last - first)` is not.

    Args:
        points: parameters of one structure; beyond the first, `None` for each leaf that is the
            first's.
        t: a number.
    """

    def between(first: Any, *others: Any) -> Any:
        if others[-1] is None:
            return first
        means = [first, *others]
        while len(means) > 1:
            means = [(1 - t) * here + t * there for here, there in itertools.pairwise(means)]
        return _like(means[0], first, *others)

    return jax.tree.map(between, *points, is_leaf=is_none)


def _like(value: Any, *leaves: Any) -> Any:
    """A value in the dtype of some leaves, whatever that of t; Python floats follow t's."""
    weak = [getattr(leaf, "weak_type", not hasattr(leaf, "dtype")) for leaf in leaves]
    strong = [leaf.dtype for leaf, is_weak in zip(leaves, weak, strict=True) if not is_weak]
    return jnp.asarray(value, jnp.result_type(*strong) if strong else None)


def beyond(first: Any, second: Any) -> Any:
    """A second solution as a control point: its leaves that move, `None` for the first's own.

    Raises:
        TypeError, ValueError: solutions that do not fit, are not finite, or equal.
    """
    check_alike("second", first, second)
    alike = all(
        not is_traced(here, there) and np.array_equal(here, there)
        for _, here, there in paired(first, second)
        if is_parameter(here)
    )
    if not jax.tree.leaves(moving(first, second)):
        structure: Any = jax.tree.structure(first)
        raise ValueError(f"first: expected floating numbers, got none in {structure}")
    for name, params in (("first", first), ("second", second)):
        check_finite(name, params)
    if alike:
        raise ValueError("second: expected other parameters than the first's, got the same")
    return moving(first, second)


def moving(first: Any, other: Any) -> Any:
    """The leaves of other parameters where the first's are floating numbers, `None` elsewhere."""
    return jax.tree.map(
        lambda here, there: there if is_parameter(here) else None, first, other, is_leaf=is_none
    )


def check_directions(params: Any, directions: Any) -> int:
    """How many directions there are; refused if they are not directions from these parameters."""
    check_structure("directions", "the structure of params", params, directions)
    counts, lengths = {}, 0.0
    for path, leaf, steps in paired(params, directions):
        if steps is None:
            continue
        if not is_parameter(leaf):
            raise TypeError(
                f"directions{path}: expected None, as params holds no floating numbers there but "
                f"{_kind(leaf)}"
            )
        shape = jnp.shape(steps)
        if not shape or shape[1:] != jnp.shape(leaf) or shape[0] == 0:
            along = ", ".join(map(str, ("D", *jnp.shape(leaf))))
            raise ValueError(
                f"directions{path}: expected shape ({along}{',' * (along == 'D')}) of D "
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
        came = ", ".join(f"{count} at {path}" for path, count in counts.items())
        raise ValueError(f"directions: expected as many in every leaf, got {came}")
    still = np.flatnonzero(lengths == 0)
    if still.size and not is_traced(*jax.tree.leaves(directions)):
        raise ValueError(f"directions: expected directions, got zeros for number {still[0]}")
    return next(iter(counts.values()))


def _kind(leaf: Any) -> Any:
    return getattr(leaf, "dtype", type(leaf).__name__)
