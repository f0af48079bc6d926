"""The edge of stability: curvature along a path, beside what the learning rate can bear."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxscape._util import pytree, thumbnails
from jaxscape._util.devices import in_full_precision
from jaxscape.data.stream import Stream
from jaxscape.losses.checks import check_is_function, scalar
from jaxscape.results.trajectory import Trajectory

# Up to so many parameters the whole Hessian is taken; of more, so many steps of Lanczos's method.
_DENSE, _LANCZOS_STEPS = 64, 48


class Stability(NamedTuple):
    """Along the T recorded points of a path, each array (T,)."""

    step: np.ndarray
    """How many optimizer steps had been taken."""
    sharpness: np.ndarray
    """The largest eigenvalue of the Hessian."""
    sharpness_error: np.ndarray
    """By how much, at most, an eigenvalue is off from `sharpness`, beside rounding."""
    threshold: np.ndarray | None
    """2 / learning rate: gradient descent on a quadratic of more curvature diverges. None where
    the path does not hold its learning rate."""
    gradient_norm: np.ndarray
    """The norm of the gradient."""
    angle: np.ndarray
    """Degrees between the way to the next point and the negative gradient; NaN for the last."""

    def __repr__(self) -> str:
        last, limit = self.sharpness[-1], self.threshold
        against = "" if limit is None else f", 2 / learning rate {float(limit[-1]):.6g}"
        return (
            f"Stability({len(self.step)} points, sharpness from {float(self.sharpness[0]):.6g} to "
            f"{float(last):.6g}{against})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the sharpness, and 2 / learning rate if that is known."""
        curves = [self.sharpness] if self.threshold is None else [self.sharpness, self.threshold]
        drawn = thumbnails.lines(self.step, np.stack(curves), ("step", "sharpness"))
        return drawn + thumbnails.text(self)


def edge_of_stability(
    loss: Callable[[Any, Any], jax.Array], path: Trajectory, data: Any
) -> Stability:
    """Curvature, gradient and direction along a path (Cohen et al. 2021, arXiv 2103.00065).

    Of up to 64 parameters the Hessian's eigenvalues are all taken. Beyond, 48 steps of Lanczos's
    method with full reorthogonalization find the largest, and how far it can be off.

    Args:
        loss: (params, data) -> scalar.
        path: what `descend` returned; recorded at every step if angles are to be of steps.
        data: what the loss takes: the training set.

    Returns:
        `Stability`, for `plot.stability`.

    Raises:
        TypeError: a path that is no `Trajectory`; data that are a `Stream`.
        ValueError: a path without any finite point.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data, optimizer=sgd,
        ...                    epochs=20)
        >>> found = jxs.curvature.edge_of_stability(jxs.squared_error, path, data)
        >>> found.threshold[-1], bool(found.sharpness[-1] < 2 / 0.5)
        (np.float32(4.0), True)
    """
    check_is_function("loss", loss)
    if not isinstance(path, Trajectory):
        raise TypeError(f"path: expected a Trajectory, got {type(path).__name__}")
    if isinstance(data, Stream):
        raise TypeError(
            f"data: expected arrays, got {data!r}; jxs.curvature.eigenpairs takes a stream"
        )
    path = path.until_divergence()
    if not len(path):
        raise ValueError("path: expected a finite point at least, got none")
    sharpness, error, gradient_norm, angle = map(np.asarray, _along(loss, path.params, data))
    rate = None if path.learning_rate is None else np.asarray(path.learning_rate)
    with np.errstate(divide="ignore"):
        threshold = None if rate is None else 2 / rate
    return Stability(np.asarray(path.step), sharpness, error, threshold, gradient_norm, angle)


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _along(loss: Callable, params: Any, data: Any) -> tuple:
    def value(params: Any) -> jax.Array:
        return scalar(loss(params, data))

    def one(points: tuple[Any, Any]) -> tuple:
        here, there = points
        slope = jax.grad(value)(here)
        way = jax.tree.map(jnp.subtract, there, here)
        size = pytree.norm(slope) * pytree.norm(way)
        products = jax.tree.map(lambda u, v: jnp.sum(u * v), slope, way)
        cosine = -sum(jax.tree.leaves(products)) / size
        return (
            *_largest_eigenvalue(value, here),
            pytree.norm(slope),
            jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))),
        )

    last = jax.tree.map(lambda leaf: jnp.concatenate([leaf[1:], leaf[-1:]]), params)
    return jax.lax.map(one, (params, last))


def _largest_eigenvalue(value: Callable, params: Any) -> tuple[jax.Array, jax.Array]:
    """The largest eigenvalue of the Hessian, and a bound on its error."""
    flat, unravel = ravel_pytree(params)

    def of_flat(flat: jax.Array) -> jax.Array:
        return value(unravel(flat))

    if flat.size <= _DENSE:
        eigenvalues = jnp.linalg.eigvalsh(jax.hessian(of_flat)(flat))
        return eigenvalues[-1], jnp.zeros_like(eigenvalues[-1])

    def product(vector: jax.Array) -> jax.Array:
        return jax.jvp(jax.grad(of_flat), (flat,), (vector,))[1]

    def step(k: jax.Array, state: tuple) -> tuple:
        basis, diagonal, beside = state
        vector = product(basis[k])
        diagonal = diagonal.at[k].set(vector @ basis[k])
        # Twice is enough: what one pass leaves of the older directions is rounding.
        for _ in range(2):
            vector = vector - basis.T @ (basis @ vector)
        length = jnp.linalg.norm(vector)
        basis = basis.at[k + 1].set(vector / jnp.where(length > 0, length, 1))
        return basis, diagonal, beside.at[k].set(length)

    # Any fixed direction will do that is not orthogonal to the one sought.
    first = jax.random.normal(jax.random.key(0), flat.shape, flat.dtype)
    basis = jnp.zeros((_LANCZOS_STEPS + 1, flat.size), flat.dtype)
    basis = basis.at[0].set(first / jnp.linalg.norm(first))
    zeros = jnp.zeros(_LANCZOS_STEPS, flat.dtype)
    _, diagonal, beside = jax.lax.fori_loop(0, _LANCZOS_STEPS, step, (basis, zeros, zeros))
    small = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    eigenvalues, vectors = jnp.linalg.eigh(small)
    return eigenvalues[-1], beside[-1] * jnp.abs(vectors[-1, -1])
