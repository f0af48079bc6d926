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
from jaxscape._util.warnings import NonFiniteWarning, warn
from jaxscape.data.stream import Stream
from jaxscape.losses.checks import ScalarLoss, check_is_function, scalar
from jaxscape.results.trajectory import Trajectory

# The most parameters for which the whole Hessian is computed; for more, Lanczos's method is used.
_MAX_DENSE, _LANCZOS_STEPS = 64, 48
# The largest relative difference of the steps of a path from those of Adam.
_ADAM_STEP_TOL = 0.05


class Stability(NamedTuple):
    """Sharpness, gradient and step direction at the T recorded points of a path, (T,) arrays."""

    step: np.ndarray
    """The number of optimizer steps taken."""
    sharpness: np.ndarray
    """The largest eigenvalue of the Hessian."""
    sharpness_error: np.ndarray
    """A bound on the distance from `sharpness` to the nearest eigenvalue. It includes an estimate
    of rounding, √n·ε·(largest |eigenvalue|) for n parameters and the machine epsilon ε."""
    threshold: np.ndarray | None
    """The sharpness above which the optimizer diverges on a quadratic. None if the learning rate
    was not recorded or no bound is known for the optimizer."""
    gradient_norm: np.ndarray
    """The norm of the gradient."""
    angle: np.ndarray
    """The angle between the step to the next point and the negative gradient, in degrees; NaN for
    the last point."""
    factor: float = 2.0
    """The product of threshold and learning rate, 2 without momentum; NaN without a threshold.
    For Adam, it is that of `preconditioned_threshold`."""
    preconditioned_sharpness: np.ndarray | None = None
    """The largest eigenvalue of the Hessian with Adam's preconditioner. None for other
    optimizers."""
    preconditioned_threshold: np.ndarray | None = None
    """The preconditioned sharpness above which Adam diverges on a quadratic."""

    @property
    def threshold_name(self) -> str:
        """The name of the threshold in figures, such as "2 / learning rate"."""
        return f"{self.factor:.4g} / learning rate"

    def __repr__(self) -> str:
        sharpness, threshold, kind = self.sharpness, self.threshold, ""
        if self.preconditioned_sharpness is not None:
            sharpness, threshold = self.preconditioned_sharpness, self.preconditioned_threshold
            kind = "preconditioned "
        limit = "" if threshold is None else f", {self.threshold_name} {float(threshold[-1]):.6g}"
        return (
            f"Stability({len(self.step)} points, {kind}sharpness from {float(sharpness[0]):.6g} to "
            f"{float(sharpness[-1]):.6g}{limit})"
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

    For full-batch Adam with every step recorded, the preconditioned sharpness is computed, too
    (Cohen et al. 2022, arXiv 2207.14484). It is the largest eigenvalue of P⁻¹·H with the Hessian H
    and P = (1 - b1ᵗ)·diag(√v̂ + eps), where v̂ is Adam's mean of squared gradients at the t-th step.
    Its threshold is 2·(1 + b1) / ((1 - b1)·learning rate), or 38 / learning rate for b1 = 0.9. The
    means are computed from the gradients at the points. If the steps of the path differ from those
    of Adam with these means, the optimizer is another one, and there is no preconditioned
    sharpness.

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

    Warns:
        NonFiniteWarning: The sharpness is NaN at a point, because the Hessian is not finite.

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
    is_finite = np.isfinite(sharpness)
    if not is_finite.all():
        first = int(np.argmin(is_finite))
        warn(
            f"the sharpness is not finite at {np.sum(~is_finite)} of {len(path)} points, the first "
            f"at step {int(path.step[first])}: {sharpness[first]}",
            NonFiniteWarning,
        )
    threshold, factor = None, np.nan
    if path.learning_rate is not None and path.stability_factor is not None:
        factor = float(path.stability_factor)
        if np.isfinite(factor):
            with np.errstate(divide="ignore"):
                threshold = np.asarray(path.stability_factor / np.asarray(path.learning_rate))
    preconditioned, preconditioned_threshold = _measure_adam(loss, path, data)
    if preconditioned is not None:
        factor = _adam_factor(path)
    return Stability(
        np.asarray(path.step),
        sharpness,
        error,
        threshold,
        gradient_norm,
        angle,
        factor,
        preconditioned,
        preconditioned_threshold,
    )


def _measure_adam(
    loss: ScalarLoss, path: Trajectory, data: Any
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return the preconditioned sharpness and its threshold, (T,) each; None unless Adam's."""
    count = len(path)
    has_all_steps = path.steps_per_epoch == 1 and np.array_equal(path.step, np.arange(count))
    if path.adam is None or path.learning_rate is None or not has_all_steps or count < 2:
        return None, None
    constants = {name: jnp.asarray(value) for name, value in path.adam.items()}
    rates = jnp.asarray(path.learning_rate)
    sharpness, error, size = _precondition(loss, path.params, data, constants, rates)
    if not (np.asarray(error) <= _ADAM_STEP_TOL * np.asarray(size)).all():
        return None, None
    with np.errstate(divide="ignore"):
        threshold = _adam_factor(path) / np.asarray(path.learning_rate)
    return np.asarray(sharpness), threshold


def _adam_factor(path: Trajectory) -> float:
    """Return the product of preconditioned sharpness and learning rate above which Adam diverges.

    Adam with a constant preconditioner is a heavy ball whose gradients are scaled by 1 - b1.
    """
    assert path.adam is not None
    b1 = float(path.adam["b1"])
    return 2 * (1 + b1) / (1 - b1)


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _precondition(
    loss: ScalarLoss, points: Params, data: Any, constants: dict[str, jax.Array], rates: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Follow Adam along a path.

    Returns:
        The preconditioned sharpness at every point, (T,), the norms of the differences between
        Adam's steps and those of the path, (T - 1,), and the norms of the path's steps, (T - 1,),
        plus their rounding error.
    """
    b1, b2, eps, eps_root = (constants[name] for name in ("b1", "b2", "eps", "eps_root"))

    def value(params: Params) -> jax.Array:
        return scalar(loss(params, data))

    def step(state: tuple[Params, Params], inputs: Any) -> tuple[Any, tuple[jax.Array, ...]]:
        point, next_point, rate, t = inputs
        gradient = jax.grad(value)(point)
        mean, square = state
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, mean, gradient)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, square, gradient)
        first_correction, correction = 1 - b1**t, 1 - b2**t
        diagonal = jax.tree.map(
            lambda v: first_correction * (jnp.sqrt(v / correction + eps_root) + eps), square
        )
        error = norm(
            jax.tree.map(
                lambda old, new, m, d: new - (old - rate * m / d),
                point, next_point, mean, diagonal,
            )
        )  # fmt: skip
        rounding = 4 * jnp.finfo(error.dtype).eps * norm(point) / _ADAM_STEP_TOL
        size = norm(jax.tree.map(jnp.subtract, next_point, point)) + rounding

        def value_of_scaled(offset: Params) -> jax.Array:
            return value(jax.tree.map(lambda p, o, d: p + o / jnp.sqrt(d), point, offset, diagonal))

        zeros = jax.tree.map(jnp.zeros_like, point)
        sharpness, _ = _largest_eigenvalue(value_of_scaled, zeros)
        return (mean, square), (sharpness, error, size)

    next_points = jax.tree.map(lambda leaf: jnp.concatenate([leaf[1:], leaf[-1:]]), points)
    next_rates = jnp.concatenate([rates[1:], rates[-1:]])
    zeros = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), points)
    inputs = points, next_points, next_rates, jnp.arange(1, len(rates) + 1)
    _, (sharpness, error, size) = jax.lax.scan(step, (zeros, zeros), inputs)
    return sharpness, error[:-1], size[:-1]


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
        slope, length = norm(gradient), norm(step)
        # Without division by powers of two, the products of small numbers underflow.
        u_unit, v_unit = _power_of_two(slope), _power_of_two(length)
        products = jax.tree.map(lambda u, v: jnp.sum((u / u_unit) * (v / v_unit)), gradient, step)
        cosine = -sum(jax.tree.leaves(products)) / ((slope / u_unit) * (length / v_unit))
        return (
            *_largest_eigenvalue(value, point),
            slope,
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
        return eigenvalues[-1], _rounding(eigenvalues, flat.size)

    def product(vector: jax.Array) -> jax.Array:
        return jax.jvp(jax.grad(value_of_flat), (flat,), (vector,))[1]

    def step(k: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        basis, diagonal, off_diagonal = state
        vector = product(basis[k])
        diagonal = diagonal.at[k].set(vector @ basis[k])
        # Two passes of orthogonalization leave rounding errors only.
        for _ in range(2):
            vector = vector - basis.T @ (basis @ vector)
        length = norm(vector)
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
    residual = off_diagonal[-1] * jnp.abs(vectors[-1, -1])
    return eigenvalues[-1], residual + _rounding(eigenvalues, flat.size)


def _power_of_two(number: jax.Array) -> jax.Array:
    """Return a power of two of about the size of a number."""
    return jnp.ldexp(jnp.ones_like(number), jnp.frexp(number)[1] - 1)


def _rounding(eigenvalues: jax.Array, n: int) -> jax.Array:
    """Estimate the rounding errors of eigenvalues of an (n, n) matrix."""
    return n**0.5 * jnp.finfo(eigenvalues.dtype).eps * jnp.max(jnp.abs(eigenvalues))
