"""The loss on a whole grid of a plane: one signature for all strategies, devices and sizes."""

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxscape._util.checks import check_memory
from jaxscape._util.devices import check_agreement, local_mesh, machine_memory, together
from jaxscape._util.digest import digest, identity
from jaxscape._util.files import check_target_folder
from jaxscape._util.progress import bar
from jaxscape._util.warnings import InterruptedWarning, NonFiniteWarning
from jaxscape.data.stream import Stream, example_of
from jaxscape.grid import destination as destination_
from jaxscape.grid import execute
from jaxscape.grid import plan as plan_
from jaxscape.grid.axes import axes_of, dtype_of
from jaxscape.grid.parabola import chosen
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import check_is_function, loss_name
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import Axis, Landscape, Mark

# Of the machine's memory, for a result that is held there whole.
_LARGEST_RESULT = 1 / 2


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
) -> Any:
    """Compute a loss at every point of a grid on a plane, compiled, in as much memory as allowed.

    The loss is static (a new function object compiles anew); data and plane are traced, so other
    data of the same shape compile nothing. A grid that is large or long in work is computed in
    bands of rows, with a progress bar in a terminal; Ctrl-C then returns the rows that are done.
    Under `jax.distributed` each process makes this same call, computes its share of the rows, and
    gets the whole.

    Args:
        loss: (params, data) -> scalar of a floating dtype, or a dictionary of several by name
            (loss, accuracy, the error of a class), all of them computed in one pass.
        data: what the loss takes: a `Dataset` or any pytree of arrays; or a `Stream` of batches
            of it, for which the loss has to be a mean over samples. After Ctrl-C the mean over
            the batches that are done is returned.
        plane: where the parameters lie; None for the plane of the two weights.
        method: "dense" evaluates the loss in every cell; "exact" uses that a squared error is a
            parabola in the second coordinate where the prediction is affine in it, which costs
            one pass over the data a row; "auto" takes "exact" where that is proved, of
            `squared_error`. Asked for "exact", a function of your own is evaluated eight times a
            row, three of them with derivatives: at both ends and in three random cells it is
            compared with its parabola, and refused if they differ.
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
        read-only memory map of the file there. Of a loss with several scalars, a dictionary of
        landscapes.

    Raises:
        TypeError: a loss that is not a function of (params, data) with a floating scalar result.
        ValueError: an axis that is missing, unknown, empty or not increasing; "exact" where it
            does not hold; predictions and targets of unequal shapes; a budget too small for one
            row, or a result too large for memory; a mesh of devices that are not there; a
            destination that holds something else, or rows that were altered; one for a stream
            or for several scalars; a stream without batches, or with others on a later pass.
        OSError: a destination that cannot be written to, is full, or is in use.

    Warns:
        NonFiniteWarning: some cells are NaN or infinite; they are kept as they are.
        InterruptedWarning: Ctrl-C; the rows that are done are returned.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0), noise=0.1)
        >>> jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 41), w2=(-1.5, 1.5, 31))
        Landscape(w1: 41 × w2: 31, exact, float32)
          loss from 0.0... to 3.6..., lowest at w1 = ..., w2 = ... (inside)
    """
    plane = weight_plane() if plane is None else plane
    check_data(loss, data)
    folder = None if destination is None else Path(destination)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((plane, data)))
    # What one machine refuses, a folder that it lacks say, the others do not wait for.
    with contextlib.nullcontext() if traced else together("arguments"):
        if not isinstance(plane, Plane):
            raise TypeError(f"plane: expected a Plane, got {type(plane).__name__}")
        check_is_function("loss", loss)
        example = example_of(data)
        a, b = axes_of(plane, example, axes)
        if hasattr(loss, "check_grid"):
            loss.check_grid(plane, a, b, example)
        if method not in ("auto", "dense", "exact"):
            raise ValueError(f"method: expected 'auto', 'dense' or 'exact', got {method!r}")
        check_memory(memory)
        if folder is not None:
            check_target_folder(folder, "destination")
        names = scalar_names(loss, plane, example)
        strategy = chosen(method, loss, plane, example, names is not None)

    problem = plan_.Problem(
        strategy, loss, plane, np.asarray(a.values), np.asarray(b.values), example
    )
    name = loss_name(loss)
    losses: Any
    if traced:
        if folder is not None or mesh is not None:
            raise ValueError("destination, mesh: expected None under a transformation of JAX")
        losses = execute.compute_traced(problem, memory)
        return _named(losses, a, b, name, names, strategy, plane.marks)

    # Machines may differ in their memory.
    with together("plan"):
        if folder is None:
            _check_result_fits(a, b, len(names or " "))
        elif names is not None or isinstance(data, Stream):
            what = "a stream" if isinstance(data, Stream) else "a loss of several scalars"
            raise ValueError(f"destination: expected None with {what}, got {str(folder)!r}")
        plan = plan_.make_plan(problem, local_mesh(mesh), memory, written=folder is not None)
    surface: Landscape | dict[str, Landscape]
    if folder is not None:
        surface, all_finite = _at_destination(plan, problem, folder, a, b, name)
    else:
        if isinstance(data, Stream):
            losses, name = _over_stream(problem, data, mesh, memory, name)
            all_finite = False
        elif plan.mesh is None and plan.rows >= len(a) and jax.process_count() == 1:
            losses, all_finite = execute.compute_at_once(plan, problem)
        else:
            losses, all_finite = _in_memory(plan, problem, a, b, len(names) if names else None)
        done = replace(a, values=a.values[: len(losses)])
        surface = _named(losses, done, b, name, names, strategy, plane.marks)

    each = list(surface.values()) if isinstance(surface, dict) else [surface]
    rows = len(each[0].a)
    if rows < len(a):
        warnings.warn(
            f"interrupted: the first {rows} of {len(a)} rows are done, up to "
            f"{a.name} = {a.values[rows - 1]:g}",
            InterruptedWarning,
            stacklevel=2,
        )
    for part in () if all_finite else each:
        if hole := part.first_nonfinite:
            of = f" of {part.loss_name}" if isinstance(surface, dict) else ""
            warnings.warn(
                f"{part.nonfinite_count} of {part.loss.size} cells{of} are not finite, the first "
                f"at {a.name} = {hole.a:g}, {b.name} = {hole.b:g}: {hole.loss}",
                NonFiniteWarning,
                stacklevel=2,
            )
    return surface


def whole_landscape(*given: Any, **named: Any) -> Any:
    """`landscape` where fewer rows, or batches, are of no use: Ctrl-C is an error throughout.

    Raises:
        KeyboardInterrupt: Ctrl-C, even where some rows are done.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", InterruptedWarning)
        try:
            return landscape(*given, **named)
        except InterruptedWarning:
            raise KeyboardInterrupt from None


def scalar_names(loss: Callable, plane: Plane, data: Any) -> tuple[str, ...] | None:
    """The names of the scalars that a loss returns, sorted; None of one that returns one.

    Raises:
        TypeError: a loss that returns anything else than floating scalars.
    """
    if isinstance(loss, PointwiseLoss):
        return None
    zero = jnp.zeros((), dtype_of(plane, data))
    found = jax.eval_shape(lambda plane, data: loss(plane.at(zero, zero), data), plane, data)
    if not isinstance(found, Mapping):
        return None
    return tuple(str(name) for name in sorted(found))


def _named(
    losses: Any,
    a: Axis,
    b: Axis,
    name: str,
    names: tuple[str, ...] | None,
    method: str,
    marks: tuple[Mark, ...],
) -> Landscape | dict[str, Landscape]:
    """A landscape, or one for each name along the last axis of the losses."""
    if names is None:
        return Landscape(losses, a, b, name, method, marks)
    return {n: Landscape(losses[..., k], a, b, n, method, marks) for k, n in enumerate(names)}


def _over_stream(
    problem: plan_.Problem, stream: Stream, mesh: Mesh | None, memory: int | None, name: str
) -> tuple[np.ndarray, str]:
    """The weighted mean of all batches' losses in every cell, and what to call it.

    Every batch goes to all cells before the next is taken. Sums are in float64: the mean is that
    of all samples at once, but for the rounding of each batch's own losses.
    """
    if jax.process_count() > 1:
        raise ValueError("data: expected arrays under jax.distributed, got a Stream")
    total: Any = 0
    weights, done = 0.0, 0
    try:
        with bar(stream.batch_count, "batches") as progress:
            for weight, batch in stream:
                part = problem._replace(data=batch)
                plan = plan_.make_plan(part, local_mesh(mesh), memory, written=False)
                kept: list[np.ndarray] = []

                def keep(_: range, losses: np.ndarray, kept: list = kept) -> None:
                    kept.append(losses)

                rows, _ = execute.run(plan, part, [range(len(problem.a))], keep)
                if rows < len(problem.a):
                    raise KeyboardInterrupt
                total = total + weight * np.concatenate(kept).astype(np.float64)
                weights, done = weights + weight, done + 1
                progress.update(1)
    except KeyboardInterrupt:
        if weights == 0:
            raise
        warnings.warn(
            f"interrupted: the mean over the first {done} batches, which weigh {weights:g}",
            InterruptedWarning,
            stacklevel=3,
        )
        name += f" over the first {done} batches"
    return np.asarray(total / weights, problem.a.dtype), name


def _in_memory(
    plan: plan_.Plan, problem: plan_.Problem, a: Axis, b: Axis, scalars: int | None
) -> tuple[np.ndarray, bool]:
    """The losses put together from bands, and whether all of them are finite."""
    shape = (len(a), len(b)) if scalars is None else (len(a), len(b), scalars)
    losses = np.empty(shape, a.values.dtype)

    def keep(rows: range, part: np.ndarray) -> None:
        losses[rows.start : rows.stop] = part

    if jax.process_count() > 1:
        check_agreement(
            identity(problem.loss, problem.plane, problem.data, a.values.dtype)
            | {axis.name: digest("", [axis.values]) for axis in (a, b)}
        )
    todo = execute.mine([range(len(a))])
    with together("rows"):
        done, all_finite = execute.run(plan, problem, todo, keep)
    if jax.process_count() > 1:
        losses, all_finite, done = execute.gathered(losses), False, len(a)
    return losses[:done], all_finite


def _at_destination(
    plan: plan_.Plan, problem: plan_.Problem, folder: Path, a: Axis, b: Axis, name: str
) -> tuple[Landscape, bool]:
    """The landscape in a folder, complete or as far as it came, and False: it was not looked at."""
    known_by = identity(problem.loss, problem.plane, problem.data, a.values.dtype)
    header = destination_.Header(a, b, name, problem.method, problem.plane.marks, known_by)
    with destination_.open_destination(folder, header) as place:
        with together("rows that are missing"):
            todo = execute.mine(place.missing())
        with together("rows"):
            execute.run(plan, problem, todo, place.write)
        with together("file of losses"):
            if jax.process_index() == 0:
                place.finish()
    found = destination_.load(folder, compare=False)
    # What figures say is this call's: a folder is not known by it.
    return replace(found, a=replace(a, values=found.a.values), b=b, marks=header.marks), False


def _check_result_fits(a: Axis, b: Axis, scalars: int) -> None:
    needed = len(a) * len(b) * scalars * a.values.dtype.itemsize
    most = int(_LARGEST_RESULT * machine_memory())
    if needed > most:
        raise ValueError(
            f"{a.name}, {b.name}: expected a result of at most {most:,} bytes, half of this "
            f"machine's memory, got {len(a)} × {len(b)} losses of {needed:,}; give a destination"
        )
