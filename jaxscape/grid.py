"""The loss on a whole grid of a plane: one signature for all strategies, devices and sizes."""

import math
import operator
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxscape import bands, store
from jaxscape.devices import check_agreement, local_mesh, machine_memory, together
from jaxscape.identity import digest, identity
from jaxscape.plane import Plane, weight_plane
from jaxscape.quadratic import why_not_exact
from jaxscape.results import Axis, Landscape

# Of the machine's memory, for a result that is held there whole.
_LARGEST_RESULT = 1 / 2


class NonFiniteWarning(UserWarning):
    """Some cells of a landscape are NaN or infinite."""


class InterruptedWarning(UserWarning):
    """A landscape has fewer rows than were asked for, as its computation was interrupted."""


def landscape(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    memory: int | None = None,
    mesh: Mesh | None = None,
    destination: str | os.PathLike | None = None,
    **axes: Any,
) -> Landscape:
    """Compute a loss at every point of a grid on a plane, compiled, in as much memory as allowed.

    The loss is static (a new function object compiles anew); data and plane are traced, so other
    data of the same shape compile nothing. A grid that is large or long in work is computed in
    bands of rows, with a progress bar in a terminal; Ctrl-C then returns the rows that are done.
    Under `jax.distributed` each process makes this same call, computes its share of the rows, and
    gets the whole.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        data: what the loss takes: a `Dataset` or any pytree of arrays.
        plane: where the parameters lie; None for the plane of the two weights.
        method: "dense" evaluates the loss in every cell; "exact" uses that a squared error is a
            parabola in the second coordinate where the prediction is affine in it, which costs
            one pass over the data a row; "auto" takes "exact" where it holds.
        memory: bytes that the computation may take on a device, beside data and result; None for a
            quarter of what the device has.
        mesh: devices that share the rows, in a mesh of any shape; None for all that this process
            has, or the default device if one is set.
        destination: a folder that the rows are written to as they are computed. The same call goes
            on where an earlier one ended, however it ended.
        axes: for each of the plane's two names (`w1` and `w2` for the two weights, `a` and `b`
            for a plane of your own) either (lo, hi, n), n ≥ 2 values evenly spaced from lo to hi
            inclusive, or a 1-D array of increasing values.

    Returns:
        A `Landscape`, `loss[i, j]` being the loss at the i-th value of the first coordinate and
        the j-th of the second, in the dtype of the plane and the data; with a destination, a
        read-only memory map of the file there.

    Raises:
        TypeError: a loss that is not a function of (params, data) with a floating scalar result.
        ValueError: an axis that is missing, unknown, empty or not increasing; "exact" where it
            does not hold; predictions and targets of unequal shapes; a budget too small for one
            row, or a result too large for memory; a mesh of devices that are not there; a
            destination that holds something else, or rows that were altered.
        OSError: a destination that cannot be written to, is full, or is in use.

    Warns:
        NonFiniteWarning: some cells are NaN or infinite; they are kept as they are.
        InterruptedWarning: Ctrl-C; the rows that are done are returned.

    Example:
        >>> data = jxs.teacher_student(jax.random.key(0), noise=0.1)
        >>> jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 41), w2=(-1.5, 1.5, 31))
        Landscape(w1: 41 × w2: 31, exact, float32)
          loss from 0.0... to 3.6..., lowest at w1 = ..., w2 = ... (inside)
    """
    if plane is None:
        plane = weight_plane()
    if not isinstance(plane, Plane):
        raise TypeError(f"plane: expected a Plane, got {type(plane).__name__}")
    check_is_function("loss", loss)
    a, b = axes_of(plane, data, axes)
    if method not in ("auto", "dense", "exact"):
        raise ValueError(f"method: expected 'auto', 'dense' or 'exact', got {method!r}")
    if memory is not None and (isinstance(memory, bool) or not hasattr(memory, "__index__")):
        raise TypeError(f"memory: expected a whole number of bytes, got {memory!r}")
    if memory is not None and memory < 1:
        raise ValueError(f"memory: expected at least 1 byte, got {memory}")
    folder = None if destination is None else Path(destination)
    if folder is not None:
        store.check_place(folder)
    if method != "dense":
        objection = why_not_exact(loss, plane, data)
        if objection and method == "exact":
            raise ValueError(f"method: 'exact' does not hold here: {objection}; use 'dense'")
        method = "dense" if objection else "exact"

    problem = bands.Problem(method, loss, plane, np.asarray(a.values), np.asarray(b.values), data)
    name = loss_name(loss)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((plane, data))):
        if folder is not None or mesh is not None:
            raise ValueError("destination, mesh: expected None under a transformation of JAX")
        return Landscape(bands.compute_traced(problem, memory), a, b, name, method)

    # Machines may differ in their memory.
    with together("plan"):
        if folder is None:
            _check_result_fits(a, b)
        plan = bands.make_plan(problem, local_mesh(mesh), memory, written=folder is not None)
    if folder is not None:
        surface, all_finite = _at_destination(plan, problem, folder, a, b, name)
    elif plan.mesh is None and plan.rows >= len(a) and jax.process_count() == 1:
        losses, all_finite = bands.compute_at_once(plan, problem)
        surface = Landscape(losses, a, b, name, method)
    else:
        surface, all_finite = _in_memory(plan, problem, a, b, name)

    if len(surface.a) < len(a):
        warnings.warn(
            f"interrupted: the first {len(surface.a)} of {len(a)} rows are done, up to "
            f"{a.name} = {surface.a.values[-1]:g}",
            InterruptedWarning,
            stacklevel=2,
        )
    if not all_finite and (hole := surface.first_nonfinite):
        warnings.warn(
            f"{surface.nonfinite_count} of {surface.loss.size} cells are not finite, the first at "
            f"{a.name} = {hole.a:g}, {b.name} = {hole.b:g}: {hole.loss}",
            NonFiniteWarning,
            stacklevel=2,
        )
    return surface


def _in_memory(
    plan: bands.Plan, problem: bands.Problem, a: Axis, b: Axis, name: str
) -> tuple[Landscape, bool]:
    """The landscape put together from bands, and whether all of it is finite."""
    losses = np.empty((len(a), len(b)), a.values.dtype)

    def keep(rows: range, part: np.ndarray) -> None:
        losses[rows.start : rows.stop] = part

    if jax.process_count() > 1:
        check_agreement(
            identity(problem.loss, problem.plane, problem.data, a.values.dtype)
            | {axis.name: digest("", [axis.values]) for axis in (a, b)}
        )
    todo = bands.mine([range(len(a))])
    with together("rows"):
        done, all_finite = bands.run(plan, problem, todo, keep)
    if jax.process_count() > 1:
        losses, all_finite, done = bands.gathered(losses), False, len(a)
    values = a.values[:done]
    return Landscape(losses[:done], Axis(values, a.name), b, name, problem.method), all_finite


def _at_destination(
    plan: bands.Plan, problem: bands.Problem, folder: Path, a: Axis, b: Axis, name: str
) -> tuple[Landscape, bool]:
    """The landscape in a folder, complete or as far as it came, and False: it was not looked at."""
    known_by = identity(problem.loss, problem.plane, problem.data, a.values.dtype)
    header = store.Header(a, b, name, problem.method, known_by)
    with store.open_destination(folder, header) as place:
        with together("rows that are missing"):
            todo = bands.mine(place.missing())
        with together("rows"):
            bands.run(plan, problem, todo, place.write)
        with together("file of losses"):
            if jax.process_index() == 0:
                place.finish()
    return store.load(folder, compare=False), False


def _check_result_fits(a: Axis, b: Axis) -> None:
    needed = len(a) * len(b) * a.values.dtype.itemsize
    most = int(_LARGEST_RESULT * machine_memory())
    if needed > most:
        raise ValueError(
            f"{a.name}, {b.name}: expected a result of at most {most:,} bytes, half of this "
            f"machine's memory, got {len(a)} × {len(b)} losses of {needed:,}; give a destination"
        )


def check_is_function(name: str, function: Any) -> None:
    """Refuse what cannot be called, or cannot be a static argument of a compiled function."""
    if not callable(function):
        raise TypeError(f"{name}: expected a function of (params, data), got {function!r}")
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"{name}: expected a hashable function, got {function!r}; wrap it in a function"
        ) from None


def loss_name(loss: Any) -> str:
    """What a loss is called in figures."""
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "loss")
    return "loss" if name == "<lambda>" else str(name).replace("_", " ")


def axes_of(plane: Plane, data: Any, given: dict[str, Any]) -> tuple[Axis, Axis]:
    """The two axes that were given by name, in the dtype of plane and data."""
    if set(given) != set(plane.names):
        raise ValueError(
            f"axes: expected {plane.names[0]} and {plane.names[1]}, "
            f"got {', '.join(given) or 'none'}"
        )
    dtype = dtype_of(plane, data)
    first, second = (axis_of(name, given[name], dtype) for name in plane.names)
    return first, second


def dtype_of(plane: Plane, data: Any) -> Any:
    """The dtype of what is computed from a plane and data."""
    # Python floats, as the weight plane's, follow the arrays; without any, JAX's default holds.
    leaves = [leaf for leaf in jax.tree.leaves((plane, data)) if hasattr(leaf, "dtype")]
    floating = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.result_type(*(jax.dtypes.canonicalize_dtype(d) for d in floating or [float]))


def axis_of(name: str, spec: Any, dtype: Any) -> Axis:
    """An axis as a caller gave it, (lo, hi, n) or an array of increasing values."""
    expected = f"{name}: expected a tuple (lo, hi, n) or a 1-D array of increasing values"
    if isinstance(spec, tuple):
        if len(spec) != 3:
            raise ValueError(f"{expected}, got {spec!r}")
        lo, hi, n = spec
        if not hasattr(n, "__index__") or isinstance(n, bool):
            raise TypeError(f"{name}: expected a whole number n of values, got {n!r}")
        if n < 2:
            raise ValueError(f"{name}: expected at least 2 values, got {n}")
        if not all(hasattr(end, "__float__") for end in (lo, hi)):
            raise TypeError(f"{name}: expected numbers lo and hi, got {lo!r} and {hi!r}")
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ValueError(f"{name}: expected finite lo < hi, got {lo} and {hi}")
        values = np.linspace(float(lo), float(hi), operator.index(n))
    else:
        # A list is refused: [-1, 1, 50] could be meant as either.
        values = np.asarray(spec) if hasattr(spec, "dtype") else np.empty(())
        if values.ndim != 1 or values.dtype.kind not in "iuf":
            raise ValueError(f"{expected}, got {spec!r}")
        if len(values) < 2:
            raise ValueError(f"{name}: expected at least 2 values, got {len(values)}")
    values = values.astype(dtype)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite {values.dtype} values, got some that are not")
    flat = np.flatnonzero(np.diff(values) <= 0)
    if flat.size:
        k = int(flat[0])
        raise ValueError(
            f"{name}: expected values that increase in {values.dtype}, got {values[k]} and then "
            f"{values[k + 1]} at index {k + 1}"
        )
    return Axis(values, name)
