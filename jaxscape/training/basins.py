"""Basins of attraction: which limit a descent reaches from every start on a grid."""

import functools
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util import pytree, thumbnails
from jaxscape._util.devices import cores, default_device, in_full_precision
from jaxscape._util.progress import bar
from jaxscape._util.warnings import InterruptedWarning
from jaxscape.grid.axes import axes_of
from jaxscape.losses.checks import check_is_function, loss_name, scalar
from jaxscape.planes.plane import Plane, weight_plane
from jaxscape.results.landscape import STATIC, Axis, Mark
from jaxscape.training import limits as limits_
from jaxscape.training.limits import Limit
from jaxscape.training.optimizers import check_optimizer, update

# Starts in one compiled call, and steps until those that have stopped are left out.
_STARTS_AT_ONCE = 2048
_STEPS_AT_ONCE = 50
# Blocks that are brought to their end before others begin: what is done is not lost, and as starts
# stop, the blocks of those that go on are few but full.
_BLOCKS_AT_ONCE = 16
_RUNNING, _STOPPED, _DIVERGED = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Basins:
    """Which limit each start of a grid reaches: `limits[label[i, j]]` from `(a[i], b[j])`."""

    label: np.ndarray
    """(n1, n2) int: the index of the limit."""
    steps: np.ndarray
    """(n1, n2) int: how many steps it took."""
    loss: np.ndarray
    """(n1, n2) float: the loss where the descent ended."""
    a: Axis
    """n1 starts along the first coordinate: the rows."""
    b: Axis
    """n2 starts along the second coordinate: the columns."""
    limits: tuple[Limit, ...]
    """The limits, lowest loss first; then "diverged" and "unfinished", where there are any."""
    loss_name: str = field(metadata=STATIC)
    """What was descended, in words."""
    marks: tuple[Mark, ...] = field(default=(), metadata=STATIC)
    """The plane's marks, which figures show."""

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
        """What a notebook shows: a color for each limit, gray where none is reached."""
        reached = np.array([limit.params is not None for limit in self.limits])
        labels = np.where(reached[self.label], self.label, -1)
        a, b = np.asarray(self.a.values, float), np.asarray(self.b.values, float)
        return thumbnails.kinds(labels, a, b, (self.a.name, self.b.name)) + thumbnails.text(self)


class _State(NamedTuple):
    params: Any
    memory: Any
    steps: jax.Array
    status: jax.Array


def basins(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    plane: Plane | None = None,
    *,
    optimizer: optax.GradientTransformation,
    steps: int = 10_000,
    tolerance: float = 1e-4,
    **axes: Any,
) -> Basins:
    """Descend on all of the data from every point of a grid, and tell the limits apart.

    A descent stops where the norm of the gradient is within the tolerance. Limits are then found
    by Newton's method from where descents stopped: a stop belongs to a stationary point if it is
    as near as the gradient and the smallest curvature there allow. Stops near no stationary
    point that curves in every direction lie along a valley, flat or falling away to infinity;
    they are one limit as far as they lie close together, in steps of a 20th of the grid's diagonal.
    Descents take place in the space of all parameters; they only start on the plane.

    Args:
        loss: (params, data) -> scalar.
        data: what the loss takes.
        plane: through all starts; for the two-weight network by default.
        optimizer: any optax gradient transformation.
        steps: the most steps of a descent; one that is still going then is "unfinished".
        tolerance: a norm of the gradient, in units of loss per unit of the parameters.
        **axes: as in `landscape`, `(lo, hi, n)` or increasing values by the coordinates' names.

    Returns:
        `Basins`. After Ctrl-C, descents that are not done are "unfinished".

    Raises:
        TypeError: a loss that does not return a floating scalar, an optimizer that is not optax's.
        ValueError: fewer than 1 step, a tolerance that is not positive and finite, more than 64
            parameters, bad axes or planes.

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
    if not isinstance(plane, Plane):
        raise TypeError(f"plane: expected a Plane, got {type(plane).__name__}")
    a, b = axes_of(plane, data, axes)
    if not isinstance(steps, int | np.integer) or isinstance(steps, bool):
        raise TypeError(f"steps: expected a whole number, got {steps!r}")
    if steps < 1:
        raise ValueError(f"steps: expected 1 or more, got {steps}")
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance: expected a positive finite number, got {tolerance}")
    dtype = a.values.dtype
    starts = _starts(plane, jnp.repeat(a.values, len(b)), jnp.tile(b.values, len(a)))
    first = jax.tree.map(lambda leaf: leaf[0], starts)
    limits_.check_size(first)
    check_optimizer("optimizer", optimizer, first, {})

    end = _descend_all(loss, optimizer, starts, data, int(steps), dtype.type(tolerance))
    found, label, losses = limits_.tell_apart(
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
        found,
        loss_name(loss),
        plane.marks,
    )


@jax.jit
def _starts(plane: Plane, a: jax.Array, b: jax.Array) -> Any:
    """The parameters at all pairs of coordinates, each leaf with a leading axis."""
    return jax.vmap(lambda a, b: jax.tree.map(jnp.asarray, plane.at(a, b)))(a, b)


@functools.partial(jax.jit, static_argnums=0)
def _memory(optimizer: Any, starts: Any) -> Any:
    """The optimizer's state at every start."""
    return jax.vmap(optimizer.init)(starts)


def _descend_all(
    loss: Callable, optimizer: Any, starts: Any, data: Any, steps: int, tolerance: Any
) -> _State:
    """Where all descents end; those that have stopped are left out of the blocks that follow."""
    count = jax.tree.leaves(starts)[0].shape[0]
    size = min(count, _STARTS_AT_ONCE)
    memory = _memory(optimizer, starts)
    state = _State(starts, memory, jnp.zeros(count, jnp.int32), jnp.zeros(count, jnp.int32))
    # NumPy's, of which parts can be overwritten.
    state = jax.tree.map(np.array, state)
    block = jax.tree.map(lambda leaf: leaf[:size], state)
    compiled = _advance.lower(loss, optimizer, block, data, steps, tolerance).compile()

    def given(chosen: np.ndarray) -> tuple:
        # Filled up with its last start, so that one program serves all; and on the device already,
        # as a thread has its own precision.
        filled = np.pad(chosen, (0, size - len(chosen)), mode="edge")
        part = jax.tree.map(lambda leaf: leaf[filled], state)
        return jax.tree.map(jnp.asarray, (part, data, steps, tolerance))

    left = count
    pool = ThreadPoolExecutor(cores() if default_device().platform == "cpu" else 1)
    try:
        with bar(count, "starts") as progress:
            for first in range(0, count, _BLOCKS_AT_ONCE * size):
                todo = np.arange(first, min(first + _BLOCKS_AT_ONCE * size, count))
                while todo.size:
                    blocks = [todo[k : k + size] for k in range(0, len(todo), size)]
                    ends = pool.map(lambda given: compiled(*given), map(given, blocks))
                    for chosen, end in zip(blocks, ends, strict=True):
                        _write(state, chosen, end)
                    going = (state.status[todo] == _RUNNING) & (state.steps[todo] < steps)
                    stopped = int(len(todo) - going.sum())
                    todo, left = todo[going], left - stopped
                    progress.update(stopped)
    except KeyboardInterrupt:
        warnings.warn(
            f"interrupted: {left} of {count} descents are unfinished",
            InterruptedWarning,
            stacklevel=3,
        )
    finally:
        pool.shutdown(cancel_futures=True)
    return state


def _write(state: _State, chosen: np.ndarray, end: _State) -> None:
    """Put the descents of some indices where they have come to."""

    def write(leaf: np.ndarray, new: Any) -> None:
        leaf[chosen] = np.asarray(new)[: len(chosen)]

    jax.tree.map(write, state, end)


@functools.partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _advance(
    loss: Callable, optimizer: Any, state: _State, data: Any, most: jax.Array, tolerance: jax.Array
) -> _State:
    def value(params: Any) -> jax.Array:
        return scalar(loss(params, data))

    def step(_: Any, state: _State) -> _State:
        now, gradient = jax.value_and_grad(value)(state.params)
        size = pytree.norm(gradient)
        status = jnp.where(size <= tolerance, _STOPPED, _RUNNING)
        status = jnp.where(jnp.isfinite(now) & jnp.isfinite(size), status, _DIVERGED)
        status = jnp.where(state.status == _RUNNING, status, state.status)
        change, memory = update(optimizer, gradient, state.memory, state.params, now, value)
        moved = optax.apply_updates(state.params, change)
        moves = (status == _RUNNING) & (state.steps < most)
        params, memory = jax.tree.map(
            lambda new, old: jnp.where(moves, new, old),
            (moved, memory),
            (state.params, state.memory),
        )
        return _State(params, memory, state.steps + moves, status.astype(jnp.int32))

    return jax.vmap(lambda state: jax.lax.fori_loop(0, _STEPS_AT_ONCE, step, state))(state)
