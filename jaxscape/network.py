"""The two-weight network f(x) = w2·tanh(w1·x), and pointwise losses of any model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxscape.data import Dataset, Key, check_key, check_sampling

Elementwise = Callable[[jax.Array], jax.Array]


class Weights(NamedTuple):
    """The two weights of the network: parameters, or a whole path of them.

    Example:
        >>> jxs.Weights(w1=-1.0, w2=0.5)
        Weights(w1=-1.0, w2=0.5)
    """

    w1: Any
    w2: Any


@dataclass(frozen=True)
class Network:
    """The network of one input, one hidden neuron, one output and no biases.

    Args:
        activation: any elementwise function of JAX arrays, such as `jnp.tanh` or `jax.nn.relu`.

    Example:
        >>> jxs.Network()(jxs.Weights(1.0, 2.0), jnp.array([0.0, 1.0]))
        Array([0.       , 1.5231884], dtype=float32)
    """

    activation: Elementwise = jnp.tanh

    def __call__(self, weights: Weights, x: jax.Array) -> jax.Array:
        """The predictions, (n,), for inputs `x`, (n,).

        Raises:
            ValueError: inputs that are not one feature.
        """
        if x.ndim != 1:
            raise ValueError(
                "x: the two-weight network takes one feature, so inputs of shape (n,); "
                f"got shape {x.shape}"
            )
        return weights.w2 * self.activation(weights.w1 * x)


@dataclass(frozen=True)
class PointwiseLoss:
    """The mean over samples of an error between prediction and target: a `loss(params, data)`.

    With sample weights in the data, the weighted mean. Two of these are equal, and share
    compiled code, if their parts are.

    Args:
        error: (predictions, targets) -> errors, elementwise.
        predict: (params, x) -> predictions, one row a sample.
        name: what the error is called in figures.

    Example:
        >>> jxs.squared_error(jxs.Weights(1.0, 2.0), jxs.Dataset([0.0, 1.0], [1.0, 1.5231884]))
        Array(0.5, dtype=float32)
    """

    error: Callable[[jax.Array, jax.Array], jax.Array]
    predict: Callable[[Any, jax.Array], jax.Array]
    name: str

    def __call__(self, params: Any, data: Dataset) -> jax.Array:
        """The mean error, a scalar.

        Raises:
            TypeError: data that are no Dataset.
            ValueError: predictions of another shape than the targets.
        """
        if not isinstance(data, Dataset):
            raise TypeError(f"data: expected a Dataset(x, y), got {type(data).__name__}")
        prediction = self.predict(params, data.x)
        check_same_shape(prediction, data.y)
        return mean_over_samples(self.error(prediction, data.y), data.sample_weight)

    def of(self, predict: Callable[[Any, jax.Array], jax.Array]) -> "PointwiseLoss":
        """The same error of another model, `predict(params, x)`.

        Example:
            >>> jxs.squared_error.of(jxs.Network(jnp.sin)).name
            'squared error'
        """
        return replace(self, predict=predict)


@dataclass(frozen=True)
class Function:
    """A function of two numbers as a loss, over the plane of the two weights; it has no data.

    Args:
        function: (w1, w2) -> scalar, of JAX's operations.

    Example:
        >>> bowl = jxs.Function(lambda w1, w2: w1**2 + 3 * w2**2)
        >>> jxs.landscape(bowl, None, w1=(-1, 1, 21), w2=(-1, 1, 31)).lowest.loss
        0.0
    """

    function: Callable[[Any, Any], jax.Array]

    @property
    def name(self) -> str:
        """What the function is called in figures."""
        return getattr(self.function, "__name__", "function").replace("<lambda>", "function")

    def __call__(self, weights: Weights, data: Any) -> jax.Array:
        """The function's value."""
        return self.function(*weights)


def check_same_shape(prediction: jax.Array, target: jax.Array) -> None:
    """Refuse predictions that would broadcast against the targets, as (n, 1) does with (n,)."""
    if jnp.shape(prediction) != jnp.shape(target):
        raise ValueError(
            f"data: expected targets y of the predictions' shape {jnp.shape(prediction)}, "
            f"got {jnp.shape(target)}"
        )


def scalar(value: Any, name: str = "loss") -> jax.Array:
    """`value`, what a loss returned, if it is a floating scalar; a TypeError if it is not."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, float):
        return jnp.asarray(value)
    if shape is None or dtype is None:
        raise TypeError(
            f"{name}: expected a scalar, got {type(value).__name__}; return the loss alone, or "
            "several scalars in a dictionary by name"
        )
    if shape != ():
        raise TypeError(
            f"{name}: expected a scalar, got an array of shape {shape}; take its mean, if it is "
            "one value a sample"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating scalar, got dtype {dtype}")
    return value


def scalars(value: Any) -> jax.Array:
    """What a loss returned: one scalar, (), or a dictionary of K, (K,), sorted by name."""
    if not isinstance(value, Mapping):
        return scalar(value)
    found = [scalar(value[name], f"loss[{name!r}]") for name in sorted(value)]
    if not found:
        raise TypeError("loss: expected a scalar or several by name, got an empty dictionary")
    return jnp.stack([part.astype(jnp.result_type(*found)) for part in found])


def mean_over_samples(values: jax.Array, sample_weight: jax.Array | None) -> jax.Array:
    """The mean of all `values`, (n, ...), each row counting as its sample weighs."""
    if sample_weight is None:
        return jnp.mean(values)
    weight = jnp.expand_dims(sample_weight, tuple(range(1, values.ndim)))
    weight = jnp.broadcast_to(weight, values.shape)
    return jnp.sum(weight * values) / jnp.sum(weight)


def square(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """(prediction - target)², without a factor ½."""
    return jnp.square(prediction - target)


def absolute(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """|prediction - target|."""
    difference = prediction - target
    # As jnp.abs, but its derivative at an exact fit is 0 and not 1.
    return jnp.maximum(difference, -difference)


def log_cosh_of_difference(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """log(cosh(prediction - target)), without overflow."""
    difference = prediction - target
    size = jnp.abs(difference)
    # |r| + log1p(exp(-2|r|)) - log 2 cancels where r is small, and -log1p(-tanh²r)/2 where it is
    # large. The logarithm is the dear part and taken once; where tanh is not used its argument is
    # 0, so that it has no part in the derivative.
    near = size < 1
    inside = -jnp.square(jnp.tanh(jnp.where(near, difference, 0)))
    logarithm = jnp.log1p(jnp.where(near, inside, jnp.exp(-2 * size)))
    log_2 = jnp.log(2.0).astype(size.dtype)
    return jnp.where(near, -logarithm / 2, size + logarithm - log_2)


@dataclass(frozen=True)
class HuberError:
    """r²/2 where |r| ≤ delta, delta·(|r| - delta/2) beyond, of r = prediction - target."""

    delta: float

    def __call__(self, prediction: jax.Array, target: jax.Array) -> jax.Array:
        size = jnp.abs(prediction - target)
        inner = jnp.minimum(size, self.delta)
        return inner * (size - inner / 2)


squared_error = PointwiseLoss(square, Network(), "squared error")
"""Mean of (prediction - target)² over the samples, without a factor ½."""

absolute_error = PointwiseLoss(absolute, Network(), "absolute error")
"""Mean of |prediction - target| over the samples."""

log_cosh = PointwiseLoss(log_cosh_of_difference, Network(), "log-cosh error")
"""Mean of log(cosh(prediction - target)) over the samples: r²/2 for small r, |r| - log 2 beyond."""


def huber(delta: float = 1.0) -> PointwiseLoss:
    """Huber's loss (1964): half the squared error up to `delta`, linear beyond.

    Args:
        delta: where the loss turns linear, in units of the targets.

    Returns:
        The mean of r²/2 where |r| ≤ delta and of delta·(|r| - delta/2) elsewhere.

    Raises:
        ValueError: a delta that is not positive and finite.

    Example:
        >>> jxs.huber(0.5)(jxs.Weights(0.0, 0.0), jxs.Dataset([1.0], [2.0]))
        Array(0.875, dtype=float32)
    """
    if not 0 < delta < float("inf"):
        raise ValueError(f"delta: expected a positive finite number, got {delta}")
    return PointwiseLoss(HuberError(float(delta)), Network(), f"Huber error (delta {delta:g})")


def teacher_student(
    key: Key,
    n: int = 200,
    teacher: Weights = Weights(1.5, 0.8),  # noqa: B008 (an immutable tuple)
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
        >>> data = jxs.teacher_student(jax.random.key(0))
        >>> jxs.squared_error(jxs.Weights(1.5, 0.8), data)
        Array(0., dtype=float32)
    """
    check_key(key)
    check_sampling(n, noise)
    x_key, noise_key = jax.random.split(key)
    x = jax.random.normal(x_key, (n,))
    return Dataset(x, Network()(teacher, x) + noise * jax.random.normal(noise_key, (n,)))


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
