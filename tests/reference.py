"""Slow reference computations in float64 NumPy."""

import numpy as np

ERRORS = {
    "squared": lambda r: r**2,
    "absolute": abs,
    "huber": lambda r: np.where(abs(r) <= 1.5, r**2 / 2, 1.5 * (abs(r) - 0.75)),
    "log_cosh": lambda r: np.logaddexp(r, -r) - np.log(2),
}


def numbers(array):
    """Convert an array of the library to float64, so that both sides use the same inputs."""
    return np.asarray(array).astype(np.float64)


def loss_at(w1, w2, data, error=ERRORS["squared"], activation=np.tanh):
    """Compute the (weighted) mean error of w2·activation(w1·x)."""
    residual = w2 * activation(w1 * numbers(data.x)) - numbers(data.y)
    weight = None if data.sample_weight is None else numbers(data.sample_weight)
    return np.average(error(residual), weights=weight)


def surface(landscape, data, error=ERRORS["squared"], activation=np.tanh):
    """Compute a landscape of the two weights cell by cell."""
    return np.array(
        [
            [loss_at(w1, w2, data, error, activation) for w2 in numbers(landscape.b.values)]
            for w1 in numbers(landscape.a.values)
        ]
    )


def relative_error(landscape, truth):
    """Return the largest relative error of a landscape."""
    return np.max(np.abs(numbers(landscape.loss) / truth - 1))


def sgd(weights, data, learning_rate, epochs, batch_size):
    """Run SGD on the squared error with explicit gradients; return the weights by epoch."""
    w1, w2 = map(float, weights)
    x, y = numbers(data.x), numbers(data.y)
    visited = [(w1, w2)]
    for _ in range(epochs):
        for k in range(0, len(x), batch_size):
            u, v = x[k : k + batch_size], y[k : k + batch_size]
            h = np.tanh(w1 * u)
            r = w2 * h - v
            g1, g2 = np.mean(2 * r * w2 * (1 - h**2) * u), np.mean(2 * r * h)
            w1, w2 = w1 - learning_rate * g1, w2 - learning_rate * g2
        visited.append((w1, w2))
    return np.array(visited)
