"""Data sets and reference sums for tests of the explorer."""

import numpy as np


def make_samples(kind):
    """Return x, y and sample weights; x is neither symmetric nor of one size."""
    rng = np.random.default_rng(7)
    x = {
        "heavy tails": 3 * rng.standard_t(2, 777) + 0.4,
        "many sizes": np.exp(6 * rng.normal(size=333)) * rng.choice([-1, 1], 333),
        "two sizes": np.concatenate([np.full(50, 10.0), np.full(31, -1e-3), np.zeros(5)]),
        "extreme sizes": np.array([1e-310, 1e-38, -1e38, 3.0]),
        "perfect fit": rng.normal(size=99),
    }[kind]
    y = 0.8 * np.tanh(1.5 * x)
    if kind != "perfect fit":
        y = y + 0.3 + 0.2 * rng.normal(size=len(x))
    return x, y, rng.uniform(0.1, 2, len(x))


def make_points(x, count):
    """Return values of w1 and w2: 0, near it, within the box, and where all samples saturate."""
    rng = np.random.default_rng(8)
    size = abs(x[x != 0])
    largest = min(np.log(1e3) - np.log(size.min()), np.log(1e300))
    far = np.exp(rng.uniform(np.log(0.01 / size.max()), largest, count))
    w1 = np.concatenate([[0.0], rng.uniform(-3, 3, count), far * rng.choice([-1, 1], count)])
    return w1, 3 * rng.normal(size=w1.size)


def loss_and_derivatives(x, y, weight, w1, w2):
    """Return the loss and its derivatives by w1 and w2, summed over the samples in float64."""
    weight = weight / weight.sum()
    with np.errstate(over="ignore"):
        h, slope = np.tanh(w1[:, None] * x), x / np.cosh(w1[:, None] * x) ** 2
    residual = w2[:, None] * h - y
    by_w1, by_w2 = 2 * w2 * ((residual * slope) @ weight), 2 * (residual * h) @ weight
    return residual**2 @ weight, by_w1, by_w2
