"""Points to learn from: a `Dataset`, made up, split and batched.

The two-weight network f(x) = w2·tanh(w1·x), and pointwise losses of any model.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key, check_key
from jaxscape.data.dataset import Dataset


def noisy_sine(key: Key, n: int = 200, noise: float = 0.1) -> Dataset:
    """Samples of y = sin(x) + noise·ε, x uniform on [-π, π), ε standard normal.

    Args:
        key: a JAX random key.
        n: how many samples.
        noise: the standard deviation of the noise, in units of y.

    Returns:
        A float32 dataset (float64 under `jax.enable_x64`).

    Raises:
        ValueError: `n` under 1 or `noise` negative or not finite.

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
    """Refuse a sample size under 1 and a noise that is negative or not finite."""
    if n < 1:
        raise ValueError(f"n: expected at least 1 sample, got {n}")
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise: expected a finite standard deviation of 0 or more, got {noise}")


def teacher_student(
    key: Key,
    n: int = 200,
    teacher: tuple[float, float] = (1.5, 0.8),
    noise: float = 0.0,
) -> Dataset:
    """Targets made by a teacher network: without noise its weights are a minimum of loss zero.

    Args:
        key: a JAX random key.
        n: how many samples.
        teacher: the weights that make the targets.
        noise: standard deviation of the normal noise on the targets.

    Returns:
        Inputs drawn from a standard normal, targets w2·tanh(w1·x) + noise·ε.

    Raises:
        ValueError: `n` under 1, or a noise that is negative or not finite.

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
