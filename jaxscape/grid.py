"""The loss on a whole grid of a plane: one signature, and its strategies."""

import functools
import math
import operator
import warnings
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.data import Dataset
from jaxscape.network import Network, PointwiseLoss, check_same_shape
from jaxscape.plane import Plane, weight_plane
from jaxscape.quadratic import parabola, why_not_exact
from jaxscape.results import Axis, Landscape

# Samples whose errors are added in registers before the running sum of every cell is read and
# written once. Of 4, 8, 16, 24 on two cores, 8 was fastest at 1024 × 1024; compile time grows
# with it.
_UNROLLED_SAMPLES = 8
# A step has a fixed cost: on a small grid, several lanes of samples are added side by side, so
# that a step works on up to this many sums. From 16 × 16 to 256 × 256 cells none did better.
_SUMS_A_STEP = 32_768
# Predictions held at once by the exact strategy: 256 rows of 3,000 samples stay in the cache.
_EXACT_BLOCK = 256 * 3072


class NonFiniteWarning(UserWarning):
    """Some cells of a landscape are NaN or infinite."""


def landscape(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    plane: Plane | None = None,
    *,
    method: Literal["auto", "dense", "exact"] = "auto",
    **axes: Any,
) -> Landscape:
    """Compute a loss at every point of a grid on a plane, in one compiled call.

    The loss is static (a new function object compiles anew); data and plane are traced, so other
    data of the same shape compile nothing.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        data: what the loss takes: a `Dataset` or any pytree of arrays.
        plane: where the parameters lie; None for the plane of the two weights.
        method: "dense" evaluates the loss in every cell; "exact" uses that a squared error is a
            parabola in the second coordinate where the prediction is affine in it, which costs
            one pass over the data a row; "auto" takes "exact" where it holds.
        axes: for each of the plane's two names (`w1` and `w2` for the two weights, `a` and `b`
            for a plane of your own) either (lo, hi, n), n ≥ 2 values evenly spaced from lo to hi
            inclusive, or a 1-D array of increasing values.

    Returns:
        A `Landscape`, `loss[i, j]` being the loss at the i-th value of the first coordinate and
        the j-th of the second, in the dtype of the plane and the data.

    Raises:
        TypeError: a loss that is not a function of (params, data) with a floating scalar result.
        ValueError: an axis that is missing, unknown, empty or not increasing; "exact" where it
            does not hold; predictions and targets of unequal shapes.

    Warns:
        NonFiniteWarning: some cells are NaN or infinite; they are kept as they are.

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
    plane.check()
    check_is_function("loss", loss)
    a, b = _axes(plane, data, axes)
    if method not in ("auto", "dense", "exact"):
        raise ValueError(f"method: expected 'auto', 'dense' or 'exact', got {method!r}")
    if method != "dense":
        objection = why_not_exact(loss, plane, data)
        if objection and method == "exact":
            raise ValueError(f"method: 'exact' does not hold here: {objection}; use 'dense'")
        method = "dense" if objection else "exact"

    strategy = _exact if method == "exact" else _dense
    cells, all_finite = strategy(loss, plane, a.values, b.values, data)
    surface = Landscape(cells, a, b, loss_name=loss_name(loss), method=method)
    if not isinstance(all_finite, jax.core.Tracer) and not all_finite:
        holes = np.argwhere(surface.nonfinite)
        i, j = holes[0]
        warnings.warn(
            f"{len(holes)} of {cells.size} cells are not finite, the first at "
            f"{a.name} = {a.values[i]:g}, {b.name} = {b.values[j]:g}: {cells[i, j]}",
            NonFiniteWarning,
            stacklevel=2,
        )
    return surface


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


def scalar(value: Any) -> jax.Array:
    """`value`, what a loss returned, if it is a floating scalar; a TypeError if it is not."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, float):
        return jnp.asarray(value)
    if shape is None or dtype is None:
        raise TypeError(f"loss: expected a scalar, got {type(value).__name__}")
    if shape != ():
        raise TypeError(
            f"loss: expected a scalar, got an array of shape {shape}; take its mean, if it is one "
            "value a sample"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"loss: expected a floating scalar, got dtype {dtype}")
    return value


def _axes(plane: Plane, data: Any, given: dict[str, Any]) -> tuple[Axis, Axis]:
    if set(given) != set(plane.names):
        raise ValueError(
            f"axes: expected {plane.names[0]} and {plane.names[1]}, "
            f"got {', '.join(given) or 'none'}"
        )
    # Python floats, as the weight plane's, follow the arrays; without any, JAX's default holds.
    leaves = [leaf for leaf in jax.tree.leaves((plane, data)) if hasattr(leaf, "dtype")]
    floating = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    dtype = jnp.result_type(*(jax.dtypes.canonicalize_dtype(d) for d in floating or [float]))
    first, second = (_axis(name, given[name], dtype) for name in plane.names)
    return first, second


def _axis(name: str, spec: Any, dtype: Any) -> Axis:
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


def _checked(cells: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The cells, and whether all of them are finite."""
    return cells, jnp.isfinite(cells).all()


def _over_grid(cell: Callable, a: jax.Array, b: jax.Array) -> jax.Array:
    """`cell(a, b)` at every pair of coordinates, (n1, n2, ...)."""
    return jax.vmap(jax.vmap(cell, (None, 0)), (0, None))(a, b)


@functools.partial(jax.jit, static_argnums=0)
def _dense(loss, plane, a, b, data):
    elementwise = isinstance(loss, PointwiseLoss) and isinstance(loss.predict, Network)
    if elementwise and isinstance(data, Dataset):
        return _checked(_streamed(loss, plane, a, b, data))
    return _checked(_over_grid(lambda a, b: scalar(loss(plane.at(a, b), data)), a, b))


def _streamed(loss: PointwiseLoss, plane: Plane, a: jax.Array, b: jax.Array, data: Dataset):
    """The mean of an elementwise network's errors, samples outermost and cells innermost.

    The nested `vmap` of a mean reduces over samples inside every cell, which compilers vectorise
    badly; here every step adds a few samples' errors to all cells at once.
    """
    # The whole data once, for its checks: its shapes are known here, its values are not needed.
    check_same_shape(jax.eval_shape(loss.predict, plane.at(a[0], b[0]), data.x), data.y)
    n = len(data)
    most_lanes = math.ceil(n / _UNROLLED_SAMPLES)
    lanes = min(max(1, _SUMS_A_STEP // (a.size * b.size)), most_lanes)
    # Blocks of about √steps steps are summed apart and then added: a single running sum of 3,000
    # float32 errors is off by 1.5e-6 of its value, sums of sums by 3e-7.
    steps = math.ceil(n / (lanes * _UNROLLED_SAMPLES))
    inner = math.isqrt(steps)
    shape = (math.ceil(steps / inner), inner, lanes, _UNROLLED_SAMPLES)
    counted = np.arange(math.prod(shape)).reshape(shape) < n

    def blocks(array):
        missing = math.prod(shape) - n
        return jnp.pad(array, (0, missing), mode="edge").reshape(shape)

    def add_samples(total, samples):
        (x, y, weight), counts = samples
        errors = []
        for k in range(_UNROLLED_SAMPLES):

            def error(a, b, k=k):
                prediction = loss.predict(plane.at(a, b), x[k : k + 1])
                return jnp.reshape(loss.error(prediction, y[k : k + 1]), ())

            at_all_cells = _over_grid(error, a, b)
            if weight is not None:
                at_all_cells = weight[k] * at_all_cells
            # Not a factor 0, which would make NaN of an infinite error.
            errors.append(jnp.where(counts[k], at_all_cells, 0))
        return total + sum(errors[1:], errors[0]), None

    def add_block(total, block):
        block_sum, _ = jax.lax.scan(jax.checkpoint(jax.vmap(add_samples)), zeros, block)
        return total + block_sum, None

    dtype = jnp.result_type(a, data.x, data.y)
    zeros = jnp.zeros((lanes, a.size, b.size), dtype)
    samples = jax.tree.map(blocks, (data.x, data.y, data.sample_weight)), counted
    total, _ = jax.lax.scan(add_block, zeros, samples)
    return total.sum(axis=0) / (n if data.sample_weight is None else jnp.sum(data.sample_weight))


@functools.partial(jax.jit, static_argnums=0)
def _exact(loss, plane, a, b, data):
    rows = jax.lax.map(
        lambda a: parabola(loss.predict, plane, a, data),
        a,
        batch_size=min(a.size, max(1, _EXACT_BLOCK // data.y.size)),
    )
    return _checked(jax.vmap(lambda row: row.at(b))(rows))
