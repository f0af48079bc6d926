"""The published experiment (Rozanov 2024), as published and as intended.

A. Rozanov, "What's Inside a Neural Network?", Towards Data Science, 29 September 2024: the error
surface of f(x) = w2·tanh(w1·x) on 3,000 test points and stochastic gradient descent on 7,000
training points in batches of 128.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape.data.dataset import Dataset, take
from jaxscape.grid.landscape import landscape
from jaxscape.losses.pointwise import squared_error
from jaxscape.losses.two_weights import TwoWeightNetwork, Weights
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Trajectory
from jaxscape.training.descend import descend

__all__ = [
    "AXIS",
    "BATCH_SIZE",
    "EPOCHS",
    "START",
    "Experiment",
    "as_intended",
    "as_published",
    "broadcast_squared_error",
    "data",
    "path",
    "surface",
]

BATCH_SIZE = 128
"""Samples in a batch; the last one of an epoch is shorter."""
EPOCHS = 25
"""Times that the descent goes through the training set."""
START = Weights(-1.0, -1.0)
"""Where the descent begins."""
AXIS = (-2, 1.95, 80)
"""Both weights' values: −2, −1.95, …, 1.95."""

Loss = Callable[[Any, Any], jax.Array]

_SGD = optax.sgd(0.01)


class Experiment(NamedTuple):
    """A surface over the two weights and a descent on it."""

    surface: Landscape
    """The test error on 80 × 80 cells."""
    path: Trajectory
    """The descent's 26 points."""


def data() -> tuple[Dataset, Dataset]:
    """The article's 7,000 training and 3,000 test points, generated from its seeds.

    Returns:
        The training set and the test set, float32.

    Example:
        >>> train, test = jxs.article.data()
        >>> len(train), len(test)
        (7000, 3000)
    """
    generator = np.random.RandomState(42)
    x = generator.normal(1, 4.5, 10_000)
    noise = generator.standard_normal(10_000)
    y = np.where(x < -2, 2 * x + 5, np.where(x < 2, 7.3 * np.sin(x), -0.03 * x**3 + 2))
    points = Dataset(x.astype(np.float32), (y + noise).astype(np.float32))
    order = np.random.RandomState(56).permutation(10_000)
    return take(points, order[3_000:]), take(points, order[:3_000])


def broadcast_squared_error(weights: Weights, samples: Dataset) -> jax.Array:
    """The loss as it was published: every prediction against every target of its batch of 128.

    The published code subtracts targets of shape (128,) from predictions of shape (128, 1), so
    that the mean runs over 128 × 128 differences; batches, in order, count alike. It is not the
    mean squared error, and lives here only.

    Args:
        weights: scalars w1, w2.
        samples: n samples; those after the last full batch of 128 make a short one.

    Returns:
        The mean over batches of mean(p²) - 2·mean(p)·mean(y) + mean(y²), a scalar.

    Example:
        >>> samples = jxs.Dataset([-1.0, 1.0], [-0.5, 0.5])
        >>> jxs.article.broadcast_squared_error(jxs.Weights(1.0, 1.0), samples)
        Array(0.830025..., dtype=float32)
    """
    prediction = TwoWeightNetwork()(weights, samples.x)

    def batch_error(p, y):
        # The same sum, in terms that are never negative and so do not cancel.
        return jnp.var(p) + jnp.var(y) + jnp.square(jnp.mean(p) - jnp.mean(y))

    full, rest = divmod(len(samples), BATCH_SIZE)
    end = full * BATCH_SIZE
    total = jnp.zeros((), prediction.dtype)
    if full:
        batches = (array[:end].reshape(full, BATCH_SIZE) for array in (prediction, samples.y))
        total = total + jnp.sum(jax.vmap(batch_error)(*batches))
    if rest:
        total = total + batch_error(prediction[end:], samples.y[end:])
    return total / (full + bool(rest))


def surface(loss: Loss = squared_error) -> Landscape:
    """The test error on the article's 80 × 80 grid.

    Args:
        loss: what to draw; every test point counts alike by default.

    Example:
        >>> jxs.article.surface().shape
        (80, 80)
    """
    _, test = data()
    return landscape(loss, test, w1=AXIS, w2=AXIS)


def path(loss: Loss = squared_error) -> Trajectory:
    """The article's descent: 25 epochs of SGD at learning rate 0.01 from (−1, −1), 26 points.

    Args:
        loss: what is descended on the training data, and evaluated on the test data.

    Example:
        >>> len(jxs.article.path().loss)
        26
    """
    train, test = data()
    return descend(
        loss, START, train, optimizer=_SGD, epochs=EPOCHS, batch_size=BATCH_SIZE, evaluate=test
    )


def as_intended() -> Experiment:
    """The experiment with the true mean squared error.

    Returns:
        The surface of the test error and the descent on it.

    Example:
        >>> jxs.article.as_intended().surface.lowest_is_on_edge
        True
    """
    return Experiment(surface(), path())


def as_published() -> Experiment:
    """The experiment with the published loss, `broadcast_squared_error`.

    Returns:
        As of `as_intended`.

    Example:
        >>> jxs.article.as_published().path
        Trajectory(26 points, 1375 steps, finite throughout)
          loss from 111.1... to 108.5...
    """
    return Experiment(surface(broadcast_squared_error), path(broadcast_squared_error))
