"""Basins of attraction: the limit that a descent reaches from every start on a grid."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util import thumbnails
from jaxscape._util.blocks import run_blocks
from jaxscape._util.checks import check_count, check_positive, check_type
from jaxscape._util.devices import cores, default_device, in_full_precision
from jaxscape._util.pytree import Params, norm
from jaxscape.grid.axes import AxisValues, make_axes
from jaxscape.losses.checks import check_is_function, loss_name, scalar
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import STATIC, Array, Axis, Mark
from jaxscape.training.limits import Limit, check_parameter_count, find_limits
from jaxscape.training.optimizers import check_optimizer, update

# The number of descents in a block, which one compiled call advances.
_BLOCK_STARTS = 2048
# The number of steps per call. Descents that have stopped are left out of the next call.
_STEPS_PER_CALL = 50
# The number of blocks in a group. A group is finished before the next one begins, so that few
# descents are unfinished after Ctrl-C. Its remaining descents are gathered in fewer, full blocks.
_BLOCKS_PER_GROUP = 16
_RUNNING, _STOPPED, _DIVERGED = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Basins:
    """The limits of descents from a grid: `(a[i], b[j])` leads to `limits[label[i, j]]`."""

    label: np.ndarray
    """(n1, n2) int: the index of the limit."""
    steps: np.ndarray
    """(n1, n2) int: the number of steps of the descent."""
    loss: np.ndarray
    """(n1, n2) float: the loss at the end of the descent."""
    a: Axis
    """n1 starts along the first coordinate, one for each row."""
    b: Axis
    """n2 starts along the second coordinate, one for each column."""
    limits: tuple[Limit, ...]
    """The limits, lowest loss first; then "diverged" and "unfinished", if there are any."""
    loss_name: str = field(metadata=STATIC)
    """The name of the loss in figures."""
    marks: tuple[Mark, ...] = field(default=(), metadata=STATIC)
    """The plane's marks, which figures draw."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n1, n2)."""
        return (len(self.a), len(self.b))

    def __repr__(self) -> str:
        (n1, n2), size, count = self.shape, max(1, self.label.size), len(self.limits)
        limits = "1 limit" if count == 1 else f"{count} limits"
        lines = [f"Basins({self.a.name}: {n1} × {self.b.name}: {n2}, {limits})"]
        for limit in self.limits:
            loss = "" if np.isnan(limit.loss) else f", loss {limit.loss:.6g}"
            lines.append(f"  {100 * limit.starts / size:.4g} %: {limit.kind}{loss}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show a color for each limit, and gray for no limit, in a notebook."""
        reached = np.array([limit.params is not None for limit in self.limits])
        labels = np.where(reached[self.label], self.label, -1)
        a, b = np.asarray(self.a.values, float), np.asarray(self.b.values, float)
        names = (self.a.name, self.b.name)
        return thumbnails.label_map(labels, a, b, names) + thumbnails.text(self)


class _State(NamedTuple):
    params: Params
    optimizer_state: Any
    steps: Array
    status: Array


def basins(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    plane: Plane | None = None,
    *,
    optimizer: optax.GradientTransformation,
    steps: int = 10_000,
    tolerance: float = 1e-4,
    **axes: AxisValues,
) -> Basins:
    """Descend from every point of a grid and find the limits of the descents.

    Each descent takes full-batch steps in the space of all parameters; only the starts lie on the
    plane. It stops at the first point whose gradient norm is at most `tolerance`.

    Newton's method from these end points then finds the stationary points. An end point p can
    belong to a stationary point p* if H (p - p*), the gradient that the Hessian H at p* predicts at
    p, has a norm of at most 4 times `tolerance` and does not point to the other side of the actual
    gradient. If it can belong to several, it belongs to the one whose prediction is closest to the
    gradient. All other end points lie in valleys, which are flat, up to `tolerance`, or descend to
    infinity. Two end points belong to the same valley if steps of about 1/20 of the grid's diagonal
    connect them.

    Args:
        loss: (params, data) -> scalar.
        data: the data of the loss.
        plane: the plane of the starts; None for the plane of the two weights.
        optimizer: any optax gradient transformation.
        steps: the largest number of steps of a descent. A descent that needs more is "unfinished".
        tolerance: the gradient norm at which a descent stops, in units of the loss per unit of the
            parameters.
        **axes: the two axes by name, `(lo, hi, n)` or increasing values, as in `landscape`.

    Returns:
        A `Basins`: the limits, and the limit of every start.

    Raises:
        TypeError: The loss does not return a floating scalar, `plane` is not a `Plane`, or
            `optimizer` is not an optax gradient transformation.
        ValueError: `steps` is less than 1, `tolerance` is not positive and finite, there are more
            than 64 parameters, or an axis is not valid.

    Warns:
        InterruptedWarning: Ctrl-C stopped the descents; those that were running are "unfinished".

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.basins(jxs.squared_error, data, optimizer=optax.sgd(0.3), w1=(-3, 3, 24),
        ...            w2=(-2, 2, 16))
        Basins(w1: 24 × w2: 16, 2 limits)
          50 %: minimum, loss ...
          50 %: minimum, loss ...
    """
    check_is_function("loss", loss)
    plane = weight_plane() if plane is None else plane
    check_type("plane", plane, Plane)
    a, b = make_axes(plane, data, axes)
    steps = check_count("steps", steps)
    tolerance = check_positive("tolerance", tolerance)
    dtype = a.values.dtype
    starts = _starts(plane, jnp.repeat(a.values, len(b)), jnp.tile(b.values, len(a)))
    first = jax.tree.map(lambda leaf: leaf[0], starts)
    check_parameter_count(first)
    check_optimizer("optimizer", optimizer, first, {})

    end = _descend_all(loss, optimizer, starts, data, steps, dtype.type(tolerance))
    limits, label, losses = find_limits(
        loss,
        data,
        starts,
        end.params,
        stopped=np.asarray(end.status) == _STOPPED,
        diverged=np.asarray(end.status) == _DIVERGED,
        tolerance=tolerance,
    )
    shape = len(a), len(b)
    return Basins(
        label.reshape(shape),
        np.asarray(end.steps).reshape(shape),
        losses.reshape(shape),
        a,
        b,
        limits,
        loss_name(loss),
        plane.marks,
    )


@jax.jit
def _starts(plane: Plane, a: jax.Array, b: jax.Array) -> Params:
    """Return the parameters at pairs of coordinates, each leaf with a leading axis."""
    return jax.vmap(lambda a, b: jax.tree.map(jnp.asarray, plane.at(a, b)))(a, b)


@functools.partial(jax.jit, static_argnums=0)
def _initial_optimizer_states(optimizer: optax.GradientTransformation, starts: Params) -> Any:
    return jax.vmap(optimizer.init)(starts)


def _descend_all(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    starts: Params,
    data: Any,
    steps: int,
    tolerance: np.floating,
) -> _State:
    """Descend from all starts; after Ctrl-C, return the states so far.

    The descents of a group of blocks advance together, and those that have stopped are left out of
    the group's next blocks.
    """
    count = jax.tree.leaves(starts)[0].shape[0]
    size = min(count, _BLOCK_STARTS)
    optimizer_states = _initial_optimizer_states(optimizer, starts)
    zeros = np.zeros(count, np.int32)
    # NumPy arrays, which can be written to.
    state = jax.tree.map(np.array, _State(starts, optimizer_states, zeros, zeros))
    block = jax.tree.map(lambda leaf: leaf[:size], state)
    compiled = _advance.lower(loss, optimizer, block, data, steps, tolerance).compile()

    def running(indices: np.ndarray) -> np.ndarray:
        return (state.status[indices] == _RUNNING) & (state.steps[indices] < steps)

    def groups() -> Iterator[np.ndarray]:
        """Yield the indices of descents that advance together, until none of them is running."""
        for start in range(0, count, _BLOCKS_PER_GROUP * size):
            indices = np.arange(start, min(start + _BLOCKS_PER_GROUP * size, count))
            while indices.size:
                yield indices
                indices = indices[running(indices)]

    def arguments(indices: np.ndarray) -> tuple[Any, ...]:
        # Pad with the last start, so that all blocks use one compiled program.
        padded = np.pad(indices, (0, size - len(indices)), mode="edge")
        block = jax.tree.map(lambda leaf: leaf[padded], state)
        # `jax.enable_x64` holds only in the calling thread, so the arrays are made here.
        return jax.tree.map(jnp.asarray, (block, data, steps, tolerance))

    def advance(indices: np.ndarray) -> None:
        blocks = [indices[k : k + size] for k in range(0, len(indices), size)]
        ends = pool.map(lambda arguments: compiled(*arguments), map(arguments, blocks))
        for block, end in zip(blocks, ends, strict=True):
            _write(state, block, end)

    def interrupted() -> str:
        return f"{running(np.arange(count)).sum()} of {count} descents are unfinished"

    pool = ThreadPoolExecutor(cores() if default_device().platform == "cpu" else 1)
    try:
        run_blocks(
            groups(),
            advance,
            lambda indices, _: int((~running(indices)).sum()),
            total=count,
            unit="starts",
            threads=0,
            interrupted=interrupted,
        )
    finally:
        pool.shutdown(cancel_futures=True)
    return state


def _write(state: _State, indices: np.ndarray, end: _State) -> None:
    """Write the states of a block, without its padding, to the given indices."""

    def write(leaf: np.ndarray, new: Any) -> None:
        leaf[indices] = np.asarray(new)[: len(indices)]

    jax.tree.map(write, state, end)


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _advance(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    state: _State,
    data: Any,
    max_steps: jax.Array,
    tolerance: jax.Array,
) -> _State:
    """Advance descents by up to `_STEPS_PER_CALL` steps, each leaf with a leading axis."""

    def value(params: Params) -> jax.Array:
        return scalar(loss(params, data))

    def step(_: Any, state: _State) -> _State:
        current, gradient = jax.value_and_grad(value)(state.params)
        size = norm(gradient)
        status = jnp.where(size <= tolerance, _STOPPED, _RUNNING)
        status = jnp.where(jnp.isfinite(current) & jnp.isfinite(size), status, _DIVERGED)
        status = jnp.where(state.status == _RUNNING, status, state.status)
        change, new_state = update(
            optimizer, gradient, state.optimizer_state, state.params, current, value
        )
        new_params = optax.apply_updates(state.params, change)
        moves = (status == _RUNNING) & (state.steps < max_steps)
        params, optimizer_state = jax.tree.map(
            lambda new, old: jnp.where(moves, new, old),
            (new_params, new_state),
            (state.params, state.optimizer_state),
        )
        return _State(params, optimizer_state, state.steps + moves, status.astype(jnp.int32))

    return jax.vmap(lambda state: jax.lax.fori_loop(0, _STEPS_PER_CALL, step, state))(state)
