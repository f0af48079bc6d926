"""Compute a loss on a grid of a plane, by any strategy and on any devices."""

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import jax
import numpy as np
from jax.sharding import Mesh

from jaxscape._util.blocks import run_blocks
from jaxscape._util.checks import check_choice, check_memory, check_type
from jaxscape._util.devices import check_agreement, local_mesh, machine_memory, synchronized
from jaxscape._util.digest import digest, identity
from jaxscape._util.files import check_target_folder
from jaxscape._util.pytree import is_traced
from jaxscape._util.warnings import InterruptedWarning, NonFiniteWarning, warn
from jaxscape.data.stream import Stream, example_of
from jaxscape.grid.axes import AxisValues, computed_dtype, make_axes
from jaxscape.grid.destination import Header, load, open_destination
from jaxscape.grid.execute import (
    compute_at_once,
    compute_row_blocks,
    compute_traced,
    gather_rows,
    own_row_ranges,
)
from jaxscape.grid.parabola import choose_method
from jaxscape.grid.plan import MemoryBudgetError, Plan, Problem, make_plan
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import NamedLosses, ScalarLoss, check_is_function, loss_name
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import Axis, Landscape, Mark

# The fraction of the machine's memory that a result without a destination may take.
_MAX_RESULT = 1 / 2


@overload
def landscape(
    loss: ScalarLoss,
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    memory: int | None = None,
    mesh: Mesh | None = None,
    destination: str | os.PathLike | None = None,
    **axes: AxisValues,
) -> Landscape: ...
@overload
def landscape(
    loss: NamedLosses,
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    memory: int | None = None,
    mesh: Mesh | None = None,
    destination: str | os.PathLike | None = None,
    **axes: AxisValues,
) -> dict[str, Landscape]: ...
def landscape(
    loss: ScalarLoss | NamedLosses,
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    memory: int | None = None,
    mesh: Mesh | None = None,
    destination: str | os.PathLike | None = None,
    **axes: AxisValues,
) -> Landscape | dict[str, Landscape]:
    """Compute the loss on a 2-D grid of parameter values, compiled and within `memory` bytes.

    The loss is a static argument of the compiled program, so each new function object is compiled.
    Data and plane are traced, so other data of the same shapes use the same program. A large grid
    is computed in row blocks, with a progress bar in a terminal or notebook; after Ctrl-C, the rows
    that are done are returned. Under `jax.distributed`, all processes make the same call; each
    computes its own range of rows and returns the whole grid.

    Args:
        loss: (params, data) -> scalar of a floating dtype; or a dictionary of several by name (a
            loss, an accuracy, the error of one class), which are computed together.
        data: the second argument of the loss: a `Dataset`, any pytree of arrays, or a `Stream` of
            batches of either. Over a stream, the loss must be a mean over samples. After Ctrl-C,
            the mean over the batches that are done is returned.
        plane: maps the two coordinates to parameters; None for the plane of the two weights.
        method: "dense" evaluates the loss in every cell. "exact" computes one parabola per row,
            with a few passes over the data: a squared error is a parabola in the second coordinate
            if the prediction is affine in it. "auto" uses "exact" for `squared_error`, of any
            model, if the prediction is proved to be affine, and "dense" otherwise. Any other
            function is evaluated eight times per row with "exact", three times with derivatives,
            and compared with its parabola at both ends and in three random cells; a difference is
            an error.
        memory: bytes that the computation may use on a device, in addition to the data and the
            result; None for a quarter of the device's memory.
        mesh: devices among which the rows are divided, a mesh of any shape; None for all devices
            of this process, or the default device if one is set.
        destination: a folder to which the rows are written as they are computed. If a call ends
            early, for any reason, the same call continues there.
        axes: the values of both coordinates, by the plane's names (`w1` and `w2` for the two
            weights, `a` and `b` by default for any other plane): (lo, hi, n) for n ≥ 2 evenly
            spaced values from lo to hi inclusive, or a 1-D array of increasing values.

    Returns:
        A `Landscape` whose `loss[i, j]` is the loss at the i-th value of the first coordinate and
        the j-th of the second, in the dtype of the plane and the data. With a destination, the
        losses are a read-only memory map of the file there. For a loss that returns several
        scalars, a dictionary of landscapes.

    Raises:
        TypeError: `loss` is not a function of (params, data) that returns floating scalars.
        ValueError: An axis is missing, unknown, too short or not increasing. "exact" does not hold.
            The predictions and the targets differ in shape. `memory` is too small for one row, or
            half of the machine's memory is too small for the result. `mesh` has a device that does
            not exist. `destination` contains other files, another grid or altered rows, or is given
            with a stream or with several scalars. `destination` or `mesh` is given under a
            transformation of JAX. The stream has no batches, or different ones in a later pass.
        OSError: `destination` cannot be written to, its disk is full, or another process writes to
            it.

    Warns:
        NonFiniteWarning: Some cells are NaN or infinite; they are kept.
        InterruptedWarning: Ctrl-C was pressed; the rows or batches that are done are returned.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0), noise=0.1)
        >>> jxs.landscape(jxs.squared_error, data, w1=(-2, 2, 41), w2=(-1.5, 1.5, 31))
        Landscape(w1: 41 × w2: 31, exact, float32)
          loss from 0.0... to 3.6..., lowest at w1 = ..., w2 = ... (inside)
    """
    plane = weight_plane() if plane is None else plane
    check_data(loss, data)
    folder = None if destination is None else Path(destination)
    traced = is_traced(*jax.tree.leaves((plane, data)))
    # If one process raises an error here, for instance for a missing folder, the others must not
    # wait for it.
    with contextlib.nullcontext() if traced else synchronized("arguments"):
        check_type("plane", plane, Plane)
        check_is_function("loss", loss)
        example = example_of(data)
        a, b = make_axes(plane, example, axes)
        if hasattr(loss, "check_grid"):
            loss.check_grid(plane, a, b, example)
        check_choice("method", method, ("auto", "dense", "exact"))
        check_memory(memory)
        if folder is not None:
            check_target_folder(folder, "destination")
        names = scalar_names(loss, plane, example)
        strategy: str = choose_method(method, loss, plane, example, names is not None)

    problem = Problem(strategy, loss, plane, np.asarray(a.values), np.asarray(b.values), example)
    name = loss_name(loss)
    losses: jax.Array | np.ndarray
    if traced:
        if folder is not None or mesh is not None:
            raise ValueError("destination, mesh: expected None under a transformation of JAX")
        losses = compute_traced(problem, memory)
        return _landscapes(losses, a, b, name, names, strategy, plane.marks)

    # The machines of several processes may differ in their memory.
    with synchronized("plan"):
        if folder is None:
            _check_result_fits(a, b, len(names or " "))
        elif names is not None or isinstance(data, Stream):
            what = "a stream" if isinstance(data, Stream) else "a loss of several scalars"
            raise ValueError(f"destination: expected None with {what}, got {str(folder)!r}")
        plan, problem = _plan(problem, local_mesh(mesh), memory, folder is not None, method)
        strategy = problem.method
    surface: Landscape | dict[str, Landscape]
    if folder is not None:
        surface, all_finite = _at_destination(plan, problem, folder, a, b, name), False
    else:
        if isinstance(data, Stream):
            losses, name = _over_stream(problem, data, mesh, memory, name)
            all_finite = False
        elif plan.mesh is None and plan.rows >= len(a) and jax.process_count() == 1:
            losses, all_finite = compute_at_once(plan, problem)
        else:
            losses, all_finite = _in_memory(plan, problem, a, b, len(names) if names else None)
        done = replace(a, values=a.values[: len(losses)])
        surface = _landscapes(losses, done, b, name, names, strategy, plane.marks)
    if not all_finite:
        _warn_of_nonfinite_cells(surface)
    return surface


def whole_landscape(
    loss: ScalarLoss,
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    **axes: AxisValues,
) -> Landscape:
    """Compute a landscape as `landscape` does, but raise an error after Ctrl-C.

    Raises:
        KeyboardInterrupt: Ctrl-C, even if some rows or batches are done.
    """
    options: dict[str, Any] = {"method": method, **axes}
    with warnings.catch_warnings():
        warnings.simplefilter("error", InterruptedWarning)
        try:
            return landscape(loss, data, plane, **options)
        except InterruptedWarning:
            raise KeyboardInterrupt from None


def scalar_names(loss: Callable, plane: Plane, data: Any) -> tuple[str, ...] | None:
    """Return the sorted names of the scalars that a loss returns; None if it returns one scalar.

    Raises:
        TypeError: The loss returns anything other than floating scalars.
    """
    if isinstance(loss, PointwiseLoss):
        return None
    zero = np.zeros((), computed_dtype(plane, data))
    values = jax.eval_shape(lambda plane, data: loss(plane.at(zero, zero), data), plane, data)
    if not isinstance(values, Mapping):
        return None
    return tuple(str(name) for name in sorted(values))


def _plan(
    problem: Problem, mesh: Mesh | None, memory: int | None, written: bool, method: str
) -> tuple[Plan, Problem]:
    """Plan a grid, with the dense strategy if "auto" chose exact and memory is too small for it.

    A row of the exact strategy takes more memory than a cell if the model mixes samples, so that
    these cannot be divided into blocks.
    """
    try:
        return make_plan(problem, mesh, memory, written), problem
    except MemoryBudgetError as error:
        if method != "auto" or problem.method == "dense":
            raise
        problem = problem._replace(method="dense")
        try:
            return make_plan(problem, mesh, memory, written), problem
        except MemoryBudgetError:
            raise error from None


def _landscapes(
    losses: jax.Array | np.ndarray,
    a: Axis,
    b: Axis,
    name: str,
    names: tuple[str, ...] | None,
    method: str,
    marks: tuple[Mark, ...],
) -> Landscape | dict[str, Landscape]:
    """Return a landscape for losses (n1, n2), or K landscapes by name for losses (n1, n2, K)."""
    if names is None:
        return Landscape(losses, a, b, name, method, marks)
    return {n: Landscape(losses[..., k], a, b, n, method, marks) for k, n in enumerate(names)}


def _warn_of_nonfinite_cells(surface: Landscape | dict[str, Landscape]) -> None:
    for part in surface.values() if isinstance(surface, dict) else [surface]:
        if cell := part.first_nonfinite:
            of_loss = f" of {part.loss_name}" if isinstance(surface, dict) else ""
            warn(
                f"{part.nonfinite_count} of {part.loss.size} cells{of_loss} are not finite, the "
                f"first at {part.a.name} = {cell.a:g}, {part.b.name} = {cell.b:g}: {cell.loss}",
                NonFiniteWarning,
            )


def _over_stream(
    problem: Problem, stream: Stream, mesh: Mesh | None, memory: int | None, name: str
) -> tuple[np.ndarray, str]:
    """Compute the weighted mean of all batches' losses in every cell.

    Each batch goes to all cells before the next one is loaded. The sums are in float64, so the
    mean differs from that of all samples at once only by the rounding of each batch's losses.

    Args:
        problem: the grid, with the first batch.
        stream: the batches.
        mesh: as in `landscape`.
        memory: as in `landscape`.
        name: the loss's name.

    Returns:
        The means, and the loss's name; after Ctrl-C, the name includes the number of batches.
    """
    if jax.process_count() > 1:
        raise ValueError("data: expected arrays under jax.distributed, got a Stream")
    total: Any = 0
    weights, batches = 0.0, 0

    def compute(weighted: tuple[float, Any]) -> np.ndarray:
        part = problem._replace(data=weighted[1])
        plan = make_plan(part, local_mesh(mesh), memory, written=False)
        blocks: list[np.ndarray] = []
        rows = [range(len(problem.a))]
        compute_row_blocks(plan, part, rows, lambda _, losses: blocks.append(losses), lambda: None)
        return np.concatenate(blocks)

    def keep(weighted: tuple[float, Any], losses: np.ndarray) -> int:
        nonlocal total, weights, batches
        weight, _ = weighted
        total = total + weight * losses.astype(np.float64)
        weights, batches = weights + weight, batches + 1
        return 1

    def interrupted() -> str | None:
        if weights == 0:
            return None
        return f"the result is the mean over the first {batches} batches, of weight {weights:g}"

    finished = run_blocks(
        stream,
        compute,
        keep,
        total=stream.batch_count,
        unit="batches",
        threads=0,
        interrupted=interrupted,
    )
    if not finished:
        name += f" over the first {batches} batches"
    return np.asarray(total / weights, problem.a.dtype), name


def _in_memory(
    plan: Plan, problem: Problem, a: Axis, b: Axis, scalars: int | None
) -> tuple[np.ndarray, bool]:
    """Compute a grid in row blocks; return the losses, and whether all are known to be finite."""
    shape = (len(a), len(b)) if scalars is None else (len(a), len(b), scalars)
    losses = np.empty(shape, a.values.dtype)
    done = 0

    def keep(rows: range, part: np.ndarray) -> None:
        nonlocal done
        losses[rows.start : rows.stop] = part
        done += len(rows)

    if jax.process_count() > 1:
        check_agreement(
            identity(problem.loss, problem.plane, problem.data, a.values.dtype)
            | {axis.name: digest("", [axis.values]) for axis in (a, b)}
        )
    rows = own_row_ranges([range(len(a))])
    with synchronized("rows"):
        all_finite = compute_row_blocks(plan, problem, rows, keep, lambda: _rows_done(a, done))
    if jax.process_count() > 1:
        return gather_rows(losses), False
    return losses[:done], all_finite


def _at_destination(
    plan: Plan, problem: Problem, folder: Path, a: Axis, b: Axis, name: str
) -> Landscape:
    """Compute the missing rows of a folder's grid; return the rows before the first gap."""
    digests = identity(problem.loss, problem.plane, problem.data, a.values.dtype)
    header = Header(a, b, name, problem.method, problem.plane.marks, digests)
    with open_destination(folder, header) as opened:
        with synchronized("missing rows"):
            rows = own_row_ranges(opened.missing())
        with synchronized("rows"):
            compute_row_blocks(
                plan, problem, rows, opened.write, lambda: _rows_done(a, opened.rows_in_order())
            )
        with synchronized("file of losses"):
            if jax.process_index() == 0:
                opened.finish()
    stored = load(folder, verify=False)
    # Use the units and marks of this call.
    return replace(stored, a=replace(a, values=stored.a.values), b=b, marks=header.marks)


def _rows_done(a: Axis, rows: int) -> str:
    """Return the warning after Ctrl-C: how many rows are done, and up to which value."""
    return f"the first {rows} of {len(a)} rows are done, up to {a.name} = {a.values[rows - 1]:g}"


def _check_result_fits(a: Axis, b: Axis, scalars: int) -> None:
    """Raise an error if the result would take more than half of the machine's memory."""
    needed = len(a) * len(b) * scalars * a.values.dtype.itemsize
    allowed = int(_MAX_RESULT * machine_memory())
    if needed > allowed:
        raise ValueError(
            f"{a.name}, {b.name}: expected a result of at most {allowed:,} bytes, half of this "
            f"machine's memory, got {needed:,} for {len(a)} × {len(b)} cells; give a destination"
        )
