"""The sharpness along a training path and its threshold, the edge of stability."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxscape._util import thumbnails
from jaxscape._util.checks import check_type
from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import Params, norm
from jaxscape.data.stream import Stream
from jaxscape.losses.checks import ScalarLoss, check_is_function, scalar
from jaxscape.results.trajectory import Trajectory

# The most parameters for which the whole Hessian is computed; for more, Lanczos's method is used.
_MAX_DENSE, _LANCZOS_STEPS = 64, 48


class Stability(NamedTuple):
    """Sharpness, gradient and step direction at the T recorded points of a path, (T,) arrays."""

    step: np.ndarray
    """The number of optimizer steps taken."""
    sharpness: np.ndarray
    """The largest eigenvalue of the Hessian."""
    sharpness_error: np.ndarray
    """A bound on the distance from `sharpness` to the nearest eigenvalue, apart from rounding."""
    threshold: np.ndarray | None
    """The sharpness above which the optimizer diverges on a quadratic. None if the learning rate
    was not recorded or no bound is known for the optimizer."""
    gradient_norm: np.ndarray
    """The norm of the gradient."""
    angle: np.ndarray
    """The angle between the step to the next point and the negative gradient, in degrees; NaN for
    the last point."""
    factor: float = 2.0
    """The product of `threshold` and learning rate, 2 without momentum; NaN without a threshold."""

    @property
    def threshold_name(self) -> str:
        """The name of the threshold in figures, such as "2 / learning rate"."""
        return f"{self.factor:.4g} / learning rate"

    def __repr__(self) -> str:
        last, limit = self.sharpness[-1], self.threshold
        threshold = "" if limit is None else f", {self.threshold_name} {float(limit[-1]):.6g}"
        return (
            f"Stability({len(self.step)} points, sharpness from {float(self.sharpness[0]):.6g} to "
            f"{float(last):.6g}{threshold})"
        )

    def _repr_html_(self) -> str:
        """Show the sharpness and its threshold in a notebook."""
        curves = [self.sharpness] if self.threshold is None else [self.sharpness, self.threshold]
        picture = thumbnails.curves(self.step, np.stack(curves), ("step", "sharpness"))
        return picture + thumbnails.text(self)


def edge_of_stability(loss: ScalarLoss, path: Trajectory, data: Any) -> Stability:
    """Compute the sharpness, the gradient and the step direction along a training path.

    The edge of stability of gradient descent is a sharpness of 2 / learning rate (Cohen et al.
    2021, arXiv 2103.00065). With momentum b, it is 2·(1 + b) / learning rate for the heavy ball,
    and 2·(1 + b) / ((1 + 2·b)·learning rate) for Nesterov's method. There is no threshold for other
    optimizers, such as Adam, nor with gradient clipping, weight decay, or a schedule of the
    momentum. The learning rate is recorded if `optax.inject_hyperparams` wraps the optimizer.
    For up to 64 parameters, all eigenvalues of the Hessian are computed. For more, 48 steps of
    Lanczos's method with full reorthogonalization give the largest one and a bound on its error.

    Args:
        loss: (params, data) -> scalar of a floating dtype.
        path: a path that `descend` returned, of which the points before divergence are used. The
            angles are those of single steps if every step was recorded.
        data: the second argument of the loss, the training set.

    Returns:
        A `Stability`, which `plot.stability` draws.

    Raises:
        TypeError: The loss is not a function with a floating scalar result, `path` is not a
            `Trajectory`, or `data` is a `Stream`.
        ValueError: The path has no finite point.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data, optimizer=sgd,
        ...                    epochs=20)
        >>> stability = jxs.curvature.edge_of_stability(jxs.squared_error, path, data)
        >>> stability.threshold[-1], bool(stability.sharpness[-1] < 2 / 0.5)
        (np.float32(4.0), True)
    """
    check_is_function("loss", loss)
    check_type("path", path, Trajectory)
    if isinstance(data, Stream):
        raise TypeError(
            f"data: expected arrays, got {data!r}; jxs.curvature.eigenpairs takes a stream"
        )
    path = path.until_divergence()
    if not len(path):
        raise ValueError("path: expected at least one finite point, got none")
    sharpness, error, gradient_norm, angle = map(np.asarray, _measure(loss, path.params, data))
    threshold, factor = None, np.nan
    if path.learning_rate is not None and path.stability_factor is not None:
        factor = float(path.stability_factor)
        if np.isfinite(factor):
            with np.errstate(divide="ignore"):
                threshold = np.asarray(path.stability_factor / np.asarray(path.learning_rate))
    return Stability(
        np.asarray(path.step), sharpness, error, threshold, gradient_norm, angle, factor
    )


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _measure(loss: ScalarLoss, points: Params, data: Any) -> tuple[jax.Array, ...]:
    """Return the sharpness, its error, the gradient's norm and the angle at every point."""

    def value(params: Params) -> jax.Array:
        return scalar(loss(params, data))

    def measure_point(pair: tuple[Params, Params]) -> tuple[jax.Array, ...]:
        point, next_point = pair
        gradient = jax.grad(value)(point)
        step = jax.tree.map(jnp.subtract, next_point, point)
        size = norm(gradient) * norm(step)
        products = jax.tree.map(lambda u, v: jnp.sum(u * v), gradient, step)
        cosine = -sum(jax.tree.leaves(products)) / size
        return (
            *_largest_eigenvalue(value, point),
            norm(gradient),
            jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))),
        )

    next_points = jax.tree.map(lambda leaf: jnp.concatenate([leaf[1:], leaf[-1:]]), points)
    return jax.lax.map(measure_point, (points, next_points))


def _largest_eigenvalue(
    value: Callable[[Params], jax.Array], params: Params
) -> tuple[jax.Array, jax.Array]:
    """Return the largest eigenvalue of the Hessian, and a bound on its error."""
    flat, unravel = ravel_pytree(params)

    def value_of_flat(flat: jax.Array) -> jax.Array:
        return value(unravel(flat))

    if flat.size <= _MAX_DENSE:
        eigenvalues = jnp.linalg.eigvalsh(jax.hessian(value_of_flat)(flat))
        return eigenvalues[-1], jnp.zeros_like(eigenvalues[-1])

    def product(vector: jax.Array) -> jax.Array:
        return jax.jvp(jax.grad(value_of_flat), (flat,), (vector,))[1]

    def step(k: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        basis, diagonal, off_diagonal = state
        vector = product(basis[k])
        diagonal = diagonal.at[k].set(vector @ basis[k])
        # Two passes of orthogonalization leave rounding errors only.
        for _ in range(2):
            vector = vector - basis.T @ (basis @ vector)
        length = jnp.linalg.norm(vector)
        basis = basis.at[k + 1].set(vector / jnp.where(length > 0, length, 1))
        return basis, diagonal, off_diagonal.at[k].set(length)

    # Start from a fixed direction, which is almost surely not orthogonal to the eigenvector.
    first = jax.random.normal(jax.random.key(0), flat.shape, flat.dtype)
    basis = jnp.zeros((_LANCZOS_STEPS + 1, flat.size), flat.dtype)
    basis = basis.at[0].set(first / jnp.linalg.norm(first))
    zeros = jnp.zeros(_LANCZOS_STEPS, flat.dtype)
    _, diagonal, off_diagonal = jax.lax.fori_loop(0, _LANCZOS_STEPS, step, (basis, zeros, zeros))
    beside = off_diagonal[:-1]
    tridiagonal = jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
    eigenvalues, vectors = jnp.linalg.eigh(tridiagonal)
    return eigenvalues[-1], off_diagonal[-1] * jnp.abs(vectors[-1, -1])
