"""The loss of any model along lines: in many directions, or from one solution to another."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import Key, check_key
from jaxscape._util.pytree import check_finite, is_traced
from jaxscape.connectivity import along
from jaxscape.grid.axes import axis_of
from jaxscape.losses.checks import check_is_function
from jaxscape.planes.directions import OutputAxis, random_direction
from jaxscape.results.landscape import STATIC, Array, Landscape

# A value of t so near to a solution's is meant to be the solution's.
_ROUNDING = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Lines:
    """The loss along D lines or curves, at the same n values of t.

    Example:
        >>> loss = np.array([[4.0, 3.5, 0.0], [4.0, 2.0, 1.0]])
        >>> jxs.connectivity.Lines(loss, np.array([0.0, 0.5, 1.0]), "loss", "2 directions")
        Lines(2 directions: 3 values of t from 0 to 1, float64)
          loss from 0 to 4, lowest at t = 1
    """

    loss: Array
    """(D, n) float; what is not finite is kept as it came."""
    t: Array
    """(n,) float, strictly increasing: how far along the lines."""
    loss_name: str = field(metadata=STATIC)
    """What was measured, in words: `"squared error"`."""
    name: str = field(metadata=STATIC)
    """What the lines are called in figures."""
    connects: bool = field(default=False, metadata=STATIC)
    """Whether there are solutions at t = 0 and t = 1."""

    def __len__(self) -> int:
        return int(self.loss.shape[0])

    @property
    def mean(self) -> np.ndarray:
        """(n,) the mean of all lines; not finite where one of them is not."""
        with np.errstate(invalid="ignore"):
            return np.mean(np.asarray(self.loss, float), axis=0).astype(self.loss.dtype)

    def quantiles(self, q: float | Sequence[float]) -> np.ndarray:
        """The loss below which a part q of the lines lies, (n,), or (len(q), n) for several.

        NaN where one of the lines is NaN.

        Raises:
            ValueError: a q that is not between 0 and 1.

        Example:
            >>> loss = np.arange(12.0).reshape(4, 3)
            >>> found = jxs.connectivity.Lines(loss, np.arange(3.0), "loss", "4 directions")
            >>> found.quantiles([0.5, 1]).tolist()
            [[4.5, 5.5, 6.5], [9.0, 10.0, 11.0]]
        """
        parts = np.asarray(q, float)
        if not ((parts >= 0) & (parts <= 1)).all():
            raise ValueError(f"q: expected numbers between 0 and 1, got {q!r}")
        # Between two infinite losses, which interpolation would take from one another.
        below, here, above = (
            _quantile(self.loss, parts, method) for method in ("lower", "linear", "higher")
        )
        return np.where(below == above, below, here).astype(self.loss.dtype)

    @property
    def barrier(self) -> float:
        """How far the loss rises between t = 0 and t = 1, 0 or more; of the line that rises most.

        It is measured from the straight line between the losses at the two ends (Entezari et al.
        2022, arXiv 2110.06296); where these are equal, it is the instability of Frankle et al.
        2020 (arXiv 1912.05671). NaN where a loss is not finite.

        Raises:
            ValueError: 0 or 1 is not among the values of t.
        """
        t = np.asarray(self.t, float)
        if not {0.0, 1.0} <= set(t.tolist()):
            raise ValueError(
                f"t: expected 0 and 1 among the values, for a barrier between them, got {len(t)} "
                f"from {t[0]:g} to {t[-1]:g} without"
            )
        inside = (t >= 0) & (t <= 1)
        loss, share = np.asarray(self.loss, float)[:, inside], t[inside]
        with np.errstate(invalid="ignore"):
            rise = loss - ((1 - share) * loss[:, :1] + share * loss[:, -1:])
            return float(np.max(np.where(np.isfinite(rise), rise, np.nan)))

    def __repr__(self) -> str:
        head = f"Lines({self.name}: {self.t.shape[0]} values of t"
        if is_traced(self.loss, self.t):
            return f"{head}, {self.loss.dtype}) traced"
        t, loss = np.asarray(self.t), np.asarray(self.loss)
        head += f" from {t[0]:g} to {t[-1]:g}, {loss.dtype})\n"
        finite = np.isfinite(loss)
        if not finite.any():
            return head + "  no finite loss"
        k = int(np.argmin(np.where(finite, loss, np.inf)))
        text = (
            f"{head}  loss from {loss.flat[k]:.6g} to {loss[finite].max():.6g}, "
            f"lowest at t = {t[k % len(t)]:.6g}"
        )
        if self.connects and {0.0, 1.0} <= set(t.tolist()):
            text += f", barrier {self.barrier:.6g}"
        holes = int(finite.size - finite.sum())
        return text + (f", {holes} not finite" if holes else "")

    def _repr_html_(self) -> str:
        """What a notebook shows: the losses along all lines."""
        if is_traced(self.loss, self.t):
            return thumbnails.text(self)
        return thumbnails.lines(
            np.asarray(self.t), np.asarray(self.loss), ("t", "loss")
        ) + thumbnails.text(self)


def _quantile(loss: Array, parts: np.ndarray, method: Any) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.quantile(np.asarray(loss, float), parts, axis=0, method=method)


def lines(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    params: Any,
    directions: Any,
    t: Any = (-1.0, 1.0, 101),
) -> Any:
    """The loss along `params + t·direction`, for one direction or for many at once.

    It is computed as `landscape` computes a grid: compiled once for all data, parameters and
    directions of the same shapes, in a part of the memory, with a progress bar; Ctrl-C returns the
    lines that are done.

    Args:
        loss: (params, data) -> scalar of a floating dtype, or a dictionary of several by name.
        data: what the loss takes, as in `landscape`; also a `Stream`.
        params: any pytree. Leaves that are not floating numbers (functions, strings, whole numbers,
            random keys) stay as they are, and floating ones keep their dtype.
        directions: D of them: the structure of `params`, every leaf with a leading axis D, `None`
            for each leaf left alone. `random_directions` makes some.
        t: how far to go, (lo, hi, n), n values evenly spaced from lo to hi inclusive, or a 1-D
            array of increasing values.

    Returns:
        `Lines`, the loss (D, n). Of a loss with several scalars, a dictionary of them.

    Raises:
        TypeError: a loss that is no function with a floating scalar result; a direction along a
            leaf that holds no floating numbers.
        ValueError: directions of another structure or shape, not finite or zero; parameters that
            are not finite. The leaf is named by its path.

    Warns:
        NonFiniteWarning: some losses are NaN or infinite; they are kept as they are.
        InterruptedWarning: Ctrl-C; what is done is returned.

    Example:
        >>> def bowl(p, data):
        ...     return jnp.sum(p["w"] ** 2) + data
        >>> jxs.connectivity.lines(bowl, 1.0, {"w": jnp.zeros(2)}, {"w": jnp.eye(2)}, t=(-1, 2, 31))
        Lines(2 directions: 31 values of t from -1 to 2, float32)
          loss from 1 to 5, lowest at t = 0
    """
    check_is_function("loss", loss)
    check_finite("params", params)
    count = along.check_directions(params, directions)
    found = along.losses_along(along.on_lines, (params, directions), count, loss, data, t)
    return as_lines(found, None)


def interpolate(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    first: Any,
    second: Any,
    t: Any = (-0.5, 1.5, 101),
) -> Any:
    """The loss along the straight line through two solutions (Goodfellow et al. 2015).

    At `(1 - t)·first + t·second` (arXiv 1412.6544). 0 and 1 are always among the values of t, and
    the losses there those of the solutions themselves; `barrier` says how far it rises in between.

    Args:
        loss, data, t: as in `lines`.
        first, second: parameters of one structure, at t = 0 and t = 1. Leaves that are not
            floating numbers are the first's.

    Returns:
        `Lines`, the loss (1, n); or a dictionary of them.

    Raises:
        TypeError, ValueError: as `lines`; solutions of different structures or shapes, or equal.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> ends = jxs.Weights(1.5, 0.8), jxs.Weights(-1.5, -0.8)
        >>> jxs.connectivity.interpolate(jxs.squared_error, data, *ends, t=(0, 1, 11))
        Lines(straight line: 11 values of t from 0 to 1, float32)
          loss from ... to 0.401..., lowest at t = ..., barrier 0.401...
    """
    check_is_function("loss", loss)
    path = first, along.beyond(first, second)
    found = along.losses_along(along.on_curve, path, 1, loss, data, _with_ends(t))
    return as_lines(found, "straight line")


def random_directions(
    key: Key,
    params: Any,
    count: int,
    *,
    normalize: Literal["filter", "layer"] | None = "filter",
    output_axis: OutputAxis = -1,
    include_vectors: bool = False,
    leaves: Callable[[str], bool] | None = None,
) -> Any:
    """Random directions for `lines`, each as `Plane.random` draws its two.

    Args:
        key: a JAX random key.
        params: the parameters that they start from.
        count: how many.
        normalize, output_axis, include_vectors, leaves: as in `Plane.random`.

    Returns:
        The structure of `params`, every leaf that moves with a leading axis `count`, `None` for
        the others.

    Raises:
        TypeError, ValueError: a count under 1; an unknown `normalize`; no leaf that moves.

    Example:
        >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
        >>> jxs.connectivity.random_directions(jax.random.key(0), params, 20)["kernel"].shape
        (20, 3, 2)
    """
    check_key(key)
    if not hasattr(count, "__index__") or isinstance(count, bool):
        raise TypeError(f"count: expected a whole number, got {count!r}")
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
    draw = functools.partial(
        random_direction,
        normalize=normalize,
        output_axis=output_axis,
        include_vectors=include_vectors,
        leaves=leaves,
    )
    return jax.vmap(lambda key: draw(key, params))(jax.random.split(key, count))


def as_lines(found: Landscape | Mapping[str, Landscape], way: str | None) -> Any:
    """What was found along paths as `Lines`, or a dictionary of them.

    Args:
        found: what `paths.losses_along` returned.
        way: what the path from one solution to another is called; None for directions.
    """

    def of(surface: Landscape) -> Lines:
        count = len(surface.a)
        name = way or f"{count} direction{'s' if count > 1 else ''}"
        return Lines(surface.loss, surface.b.values, surface.loss_name, name, way is not None)

    if isinstance(found, Landscape):
        return of(found)
    return {key: of(surface) for key, surface in found.items()}


def _with_ends(t: Any) -> np.ndarray:
    """The values of t, with 0 and 1."""
    values = np.asarray(axis_of("t", t, float).values)
    apart = np.abs(values[:, None] - np.array([0.0, 1.0])).min(axis=1) > _ROUNDING
    return np.sort([*values[apart], 0.0, 1.0])
