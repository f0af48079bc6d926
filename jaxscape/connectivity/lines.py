"""The loss of any model along lines, in many directions or from one solution to another."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import jax
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import Key, check_count, check_key
from jaxscape._util.pytree import Params, check_finite, is_traced
from jaxscape.connectivity import along
from jaxscape.grid.axes import AxisValues, make_axis
from jaxscape.losses.checks import NamedLosses, ScalarLoss, check_is_function
from jaxscape.planes.directions import Direction, Normalize, OutputAxis, P, random_direction
from jaxscape.results.landscape import STATIC, Array, Landscape

# A value of t this close to 0 or 1, also relative to the spacing of t, differs by rounding.
_END_TOL, _END_TOL_OF_SPACING = 1e-6, 1e-3


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
    """(D, n) float; values that are not finite are kept."""
    t: Array
    """(n,) float, the positions along the lines, strictly increasing."""
    loss_name: str = field(metadata=STATIC)
    """The name of the loss, such as `"squared error"`."""
    name: str = field(metadata=STATIC)
    """The name of the lines in figures."""
    connects: bool = field(default=False, metadata=STATIC)
    """Whether the points at t = 0 and t = 1 are solutions."""
    higher_is_better: bool = field(default=False, metadata=STATIC)
    """Whether higher values are better. Results of this package set it if the loss's name contains
    the word "accuracy"; for other quantities, use `dataclasses.replace`."""

    def __len__(self) -> int:
        return int(self.loss.shape[0])

    @property
    def mean(self) -> np.ndarray:
        """(n,) the mean loss over all lines; not finite where a line is not finite."""
        with np.errstate(invalid="ignore"):
            return np.mean(np.asarray(self.loss, float), axis=0).astype(self.loss.dtype)

    def quantiles(self, q: float | Sequence[float]) -> np.ndarray:
        """Return quantiles of the loss over the lines.

        Args:
            q: one probability or several, from 0 to 1.

        Returns:
            (n,) for one probability, (len(q), n) for several; NaN where a line is NaN.

        Raises:
            ValueError: A probability is not from 0 to 1.

        Example:
            >>> loss = np.arange(12.0).reshape(4, 3)
            >>> lines = jxs.connectivity.Lines(loss, np.arange(3.0), "loss", "4 directions")
            >>> lines.quantiles([0.5, 1]).tolist()
            [[4.5, 5.5, 6.5], [9.0, 10.0, 11.0]]
        """
        probabilities = np.asarray(q, float)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(f"q: expected numbers between 0 and 1, got {q!r}")
        # Linear interpolation between two infinite losses would subtract them, which gives NaN.
        lower, linear, higher = (
            _quantile(self.loss, probabilities, method) for method in ("lower", "linear", "higher")
        )
        return np.where(lower == higher, lower, linear).astype(self.loss.dtype)

    @property
    def barrier(self) -> float:
        """The largest rise of the loss between t = 0 and t = 1 over all lines, 0 or more.

        The rise is the difference from the linear interpolation of the losses at the two ends
        (Entezari et al. 2022, arXiv 2110.06296). If these losses are equal, it is the instability
        of Frankle et al. 2020 (arXiv 1912.05671). If higher values are better, it is the largest
        fall below the interpolation. It is infinite if a loss between finite ends is infinite, and
        NaN if a loss from t = 0 to 1 is NaN or an end is not finite.

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
        loss, t = np.asarray(self.loss, float)[:, inside], t[inside]
        sign = -1 if self.higher_is_better else 1
        with np.errstate(invalid="ignore", over="ignore"):
            rise = sign * (loss - ((1 - t) * loss[:, :1] + t * loss[:, -1:]))
            return float(np.max(rise))

    def __repr__(self) -> str:
        head = f"Lines({self.name}: {self.t.shape[0]} values of t"
        if is_traced(self.loss, self.t):
            return f"{head}, {self.loss.dtype}) traced"
        t, loss = np.asarray(self.t), np.asarray(self.loss)
        head += f" from {t[0]:g} to {t[-1]:g}, {loss.dtype})\n"
        finite = np.isfinite(loss)
        if not finite.any():
            return head + "  no finite loss"
        low, high = loss[finite].min(), loss[finite].max()
        best, word = (high, "highest") if self.higher_is_better else (low, "lowest")
        k = int(np.argmax(loss == best))
        text = (
            f"{head}  {self.loss_name if self.higher_is_better else 'loss'} from {low:.6g} to "
            f"{high:.6g}, {word} at t = {t[k % len(t)]:.6g}"
        )
        if self.connects and {0.0, 1.0} <= set(t.tolist()):
            text += f", barrier {self.barrier:.6g}"
        nonfinite = int(finite.size - finite.sum())
        return text + (f", {nonfinite} not finite" if nonfinite else "")

    def _repr_html_(self) -> str:
        """Show the lines in a notebook."""
        if is_traced(self.loss, self.t):
            return thumbnails.text(self)
        return thumbnails.curves(
            np.asarray(self.t), np.asarray(self.loss), ("t", "loss")
        ) + thumbnails.text(self)


def _quantile(
    loss: Array, probabilities: np.ndarray, method: Literal["lower", "linear", "higher"]
) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.quantile(np.asarray(loss, float), probabilities, axis=0, method=method)


@overload
def lines(
    loss: ScalarLoss,
    data: Any,
    params: Params,
    directions: Direction,
    t: AxisValues = (-1.0, 1.0, 101),
) -> Lines: ...


@overload
def lines(
    loss: NamedLosses,
    data: Any,
    params: Params,
    directions: Direction,
    t: AxisValues = (-1.0, 1.0, 101),
) -> dict[str, Lines]: ...


def lines(
    loss: ScalarLoss | NamedLosses,
    data: Any,
    params: Params,
    directions: Direction,
    t: AxisValues = (-1.0, 1.0, 101),
) -> Lines | dict[str, Lines]:
    """Compute the loss along `params + t·direction`, for one direction or for many at once.

    As in `landscape`, the program is compiled once for all data, parameters and directions of the
    same shapes. In addition to data and result, it uses at most a quarter of the device's memory.
    It shows a progress bar; after Ctrl-C, the lines that are done are returned.

    Args:
        loss: (params, data) -> scalar of a floating dtype, or a dictionary of several by name.
        data: the second argument of the loss, or a `Stream` of batches of it, as in `landscape`.
        params: the parameters at t = 0, any pytree. Leaves that are not floating numbers
            (functions, strings, whole numbers, random keys) do not move, and floating leaves keep
            their dtype.
        directions: D directions, a pytree of the structure of `params`: a leading axis D for each
            leaf that moves, `None` for each that does not, as `random_directions` returns them.
        t: the positions along the lines, (lo, hi, n) for n evenly spaced values from lo to hi
            inclusive, or a 1-D array of increasing values.

    Returns:
        `Lines` with a loss of shape (D, n); for a loss with several scalars, a dictionary of
        `Lines`.

    Raises:
        TypeError: The loss is not a function with a floating scalar result, or a direction moves a
            leaf that does not consist of floating numbers.
        ValueError: The directions differ from the parameters in structure or shape, are not finite
            or are zero; the parameters are not finite, and the message names the tree path; or t is
            not an axis as in `landscape`.

    Warns:
        NonFiniteWarning: Some losses are NaN or infinite; they are kept.
        InterruptedWarning: After Ctrl-C, only the first lines are returned.

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
    surfaces = along.losses_along(along.point_on_line, (params, directions), count, loss, data, t)
    return make_lines(surfaces, None)


@overload
def interpolate(
    loss: ScalarLoss,
    data: Any,
    first: Params,
    second: Params,
    t: AxisValues = (-0.5, 1.5, 101),
) -> Lines: ...


@overload
def interpolate(
    loss: NamedLosses,
    data: Any,
    first: Params,
    second: Params,
    t: AxisValues = (-0.5, 1.5, 101),
) -> dict[str, Lines]: ...


def interpolate(
    loss: ScalarLoss | NamedLosses,
    data: Any,
    first: Params,
    second: Params,
    t: AxisValues = (-0.5, 1.5, 101),
) -> Lines | dict[str, Lines]:
    """Compute the loss along the straight line through two solutions (Goodfellow et al. 2015).

    The points are `(1 - t)·first + t·second` (arXiv 1412.6544), so the losses at t = 0 and 1 are
    exactly those of the solutions. The `barrier` of the result is the rise between them; it needs 0
    and 1 among the values of t, as in the default.

    Args:
        loss: as in `lines`.
        data: as in `lines`.
        first: the parameters at t = 0. Leaves that are not floating numbers are taken from these.
        second: the parameters at t = 1, of the same structure.
        t: as in `lines`. Values that differ from 0 or 1 by rounding become 0 or 1.

    Returns:
        `Lines` with a loss of shape (1, n); for a loss with several scalars, a dictionary of
        `Lines`.

    Raises:
        TypeError: The loss is not a function with a floating scalar result, or a leaf is floating
            in the first solution only.
        ValueError: The solutions differ in structure or shape, are not finite, or are equal.

    Warns:
        NonFiniteWarning: Some losses are NaN or infinite; they are kept.
        InterruptedWarning: After Ctrl-C, only the first points are returned.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> ends = jxs.Weights(1.5, 0.8), jxs.Weights(-1.5, -0.8)
        >>> jxs.connectivity.interpolate(jxs.squared_error, data, *ends, t=(0, 1, 11))
        Lines(straight line: 11 values of t from 0 to 1, float32)
          loss from ... to 0.401..., lowest at t = ..., barrier 0.401...
    """
    check_is_function("loss", loss)
    ends = first, along.check_solutions(first, second)
    surfaces = along.losses_along(along.point_on_curve, ends, 1, loss, data, _with_exact_ends(t))
    return make_lines(surfaces, "straight line")


def random_directions(
    key: Key,
    params: P,
    count: int,
    *,
    normalize: Normalize = "filter",
    output_axis: OutputAxis = -1,
    include_vectors: bool = False,
    leaves: Callable[[str], bool] | None = None,
) -> P:
    """Draw random directions for `lines`, in the same manner as `Plane.random`.

    Args:
        key: a JAX random key.
        params: the parameters from which the directions start.
        count: the number of directions.
        normalize: as in `Plane.random`.
        output_axis: as in `Plane.random`.
        include_vectors: as in `Plane.random`.
        leaves: as in `Plane.random`.

    Returns:
        A pytree of the structure of `params`, each leaf that moves with a leading axis `count`,
        `None` for the others.

    Raises:
        TypeError: `key` is not a JAX random key, or `count` is not a whole number.
        ValueError: `count` is less than 1; or as in `Plane.random`.

    Example:
        >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
        >>> jxs.connectivity.random_directions(jax.random.key(0), params, 20)["kernel"].shape
        (20, 3, 2)
    """
    check_key(key)
    count = check_count("count", count)
    draw = functools.partial(
        random_direction,
        normalize=normalize,
        output_axis=output_axis,
        include_vectors=include_vectors,
        leaves=leaves,
    )
    return jax.vmap(lambda key: draw(key, params))(jax.random.split(key, count))


def make_lines(
    surfaces: Landscape | Mapping[str, Landscape], curve_name: str | None
) -> Lines | dict[str, Lines]:
    """Convert the result of `along.losses_along` to `Lines`, or to a dictionary of them.

    Args:
        surfaces: the landscape over the curves' numbers and t, or several landscapes by name.
        curve_name: the name of the curve between two solutions; None for directions.
    """

    def convert(surface: Landscape) -> Lines:
        count = len(surface.a)
        name = curve_name or f"{count} direction{'s' if count > 1 else ''}"
        connects = curve_name is not None
        higher_is_better = "accuracy" in surface.loss_name.lower().split()
        return Lines(
            surface.loss, surface.b.values, surface.loss_name, name, connects, higher_is_better
        )

    if isinstance(surfaces, Landscape):
        return convert(surfaces)
    return {key: convert(surface) for key, surface in surfaces.items()}


def _with_exact_ends(t: AxisValues) -> np.ndarray:
    """Return the values of t; those that differ from 0 and 1 by rounding become 0 and 1."""
    values = np.array(make_axis("t", t, float).values)
    tolerance = min(_END_TOL, _END_TOL_OF_SPACING * np.diff(values).min())
    for end in (0, 1):
        nearest = np.argmin(np.abs(values - end))
        if abs(values[nearest] - end) <= tolerance:
            values[nearest] = end
    return values
