"""Synthetic datasets: a noisy sine, and the targets of a teacher network."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key, check_count, check_key, check_number
from jaxscape.data.dataset import Dataset


def noisy_sine(key: Key, n: int = 200, noise: float = 0.1) -> Dataset:
    """Draw samples of y = sin(x) + noise·ε, with x uniform on [-π, π) and ε standard normal.

    Args:
        key: a JAX random key.
        n: the number of samples.
        noise: the standard deviation of the noise, in units of y.

    Returns:
        A float32 dataset (float64 under `jax.enable_x64`).

    Raises:
        TypeError: `key` is not a JAX random key, `n` is not a whole number, or `noise` is not a
            number.
        ValueError: `n` is less than 1, or `noise` is negative or not finite.

    Example:
        >>> jxs.data.noisy_sine(jax.random.key(0), n=50)
        Dataset(50 samples, x: float32[50], y: float32[50])
    """
    check_key(key)
    check_sampling(n, noise)
    x_key, noise_key = jax.random.split(key)
    x = jax.random.uniform(x_key, (n,), minval=-jnp.pi, maxval=jnp.pi)
    return Dataset(x, jnp.sin(x) + noise * jax.random.normal(noise_key, (n,)))


def check_sampling(n: int, noise: float) -> None:
    """Raise an error unless `n` is 1 or more and `noise` is finite and not negative."""
    check_count("n", n)
    if not 0 <= check_number("noise", noise) < np.inf:
        raise ValueError(f"noise: expected a finite standard deviation of 0 or more, got {noise}")


def teacher_student(
    key: Key,
    n: int = 200,
    teacher: tuple[float, float] = (1.5, 0.8),
    noise: float = 0.0,
) -> Dataset:
    """Draw inputs and compute their targets with a teacher network.

    Without noise, the loss at the teacher's weights is zero, its minimum.

    Args:
        key: a JAX random key.
        n: the number of samples.
        teacher: the weights w1 and w2 of the teacher.
        noise: the standard deviation of the noise, in units of y.

    Returns:
        A float32 dataset (float64 under `jax.enable_x64`) of standard normal inputs x and targets
        w2·tanh(w1·x) + noise·ε, with ε standard normal.

    Raises:
        TypeError: `key` is not a JAX random key, `n` is not a whole number, or `noise` is not a
            number.
        ValueError: `n` is less than 1, or `noise` is negative or not finite.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.squared_error(jxs.Weights(1.5, 0.8), data)
        Array(0., dtype=float32)
    """
    check_key(key)
    check_sampling(n, noise)
    x_key, noise_key = jax.random.split(key)
    x = jax.random.normal(x_key, (n,))
    w1, w2 = teacher
    return Dataset(x, w2 * jnp.tanh(w1 * x) + noise * jax.random.normal(noise_key, (n,)))
