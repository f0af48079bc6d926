"""The experiment of Rozanov (2024), as published and as intended.

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
"""The number of samples in a batch; the last batch of an epoch is shorter."""
EPOCHS = 25
"""The number of passes through the training set."""
START = Weights(-1.0, -1.0)
"""The first weights of the descent."""
AXIS = (-2, 1.95, 80)
"""The grid of both weights: −2, −1.95, …, 1.95."""

Loss = Callable[[Any, Any], jax.Array]

_SGD = optax.sgd(0.01)


class Experiment(NamedTuple):
    """A surface over the two weights and a descent on it."""

    surface: Landscape
    """The test error on the 80 × 80 grid."""
    path: Trajectory
    """The 26 points of the descent."""


def data() -> tuple[Dataset, Dataset]:
    """Generate the article's 7,000 training and 3,000 test points from its seeds.

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
    """Compute the published loss, which compares each prediction with all targets of its batch.

    The published code subtracts targets of shape (128,) from predictions of shape (128, 1), so its
    mean runs over 128 × 128 differences. It then averages over the batches with equal weights, also
    for a short last batch. This is not the mean squared error.

    Args:
        weights: scalars w1 and w2.
        samples: n samples, split into batches of 128 in order; the last batch may be shorter.

    Returns:
        The mean over batches of mean(p²) - 2·mean(p)·mean(y) + mean(y²), a scalar.

    Example:
        >>> samples = jxs.Dataset([-1.0, 1.0], [-0.5, 0.5])
        >>> jxs.article.broadcast_squared_error(jxs.Weights(1.0, 1.0), samples)
        Array(0.830025..., dtype=float32)
    """
    prediction = TwoWeightNetwork()(weights, samples.x)

    def batch_error(p, y):
        # The same mean, as a sum of nonnegative terms, which cannot cancel.
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
    """Compute the test error on the article's 80 × 80 grid.

    Args:
        loss: the loss to compute, by default the mean squared error.

    Returns:
        The landscape.

    Example:
        >>> jxs.article.surface().shape
        (80, 80)
    """
    _, test = data()
    return landscape(loss, test, w1=AXIS, w2=AXIS)


def path(loss: Loss = squared_error) -> Trajectory:
    """Run the article's descent: 25 epochs of SGD from (−1, −1) with learning rate 0.01.

    Args:
        loss: the loss that is minimized on the training data and evaluated on the test data.

    Returns:
        The path of 26 points, one per epoch and the start.

    Example:
        >>> len(jxs.article.path().loss)
        26
    """
    train, test = data()
    return descend(
        loss, START, train, optimizer=_SGD, epochs=EPOCHS, batch_size=BATCH_SIZE, evaluate=test
    )


def as_intended() -> Experiment:
    """Run the experiment with the mean squared error.

    Returns:
        The surface of the test error and the descent on it.

    Example:
        >>> jxs.article.as_intended().surface.lowest_is_on_edge
        True
    """
    return Experiment(surface(), path())


def as_published() -> Experiment:
    """Run the experiment with the published loss, `broadcast_squared_error`.

    Returns:
        The surface of the published loss on the test data and the descent on it.

    Example:
        >>> jxs.article.as_published().path
        Trajectory(26 points, 1375 steps, finite throughout)
          loss from 111.1... to 108.5...
    """
    return Experiment(surface(broadcast_squared_error), path(broadcast_squared_error))
