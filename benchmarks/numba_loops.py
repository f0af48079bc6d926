"""Hand-written loops that numba compiles and runs on all cores."""

from collections.abc import Callable

import numpy as np
from numba import njit, prange

_ZERO, _ONE = np.float32(0), np.float32(1)
_BLOCK = 4096
_LARGEST = np.float32(7.90531110763549805)
# The coefficients, highest power of z² first.
_NUMERATOR = tuple(
    np.float32(c)
    for c in (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
)
_DENOMINATOR = tuple(
    np.float32(c)
    for c in (
        1.19825839466702e-06,
        1.18534705686654e-04,
        2.26843463243900e-03,
        4.89352518554385e-03,
    )
)


@njit(fastmath=True)
def tanh(z):
    """Compute Eigen's rational tanh in float32, which numba can vectorize."""
    z = min(max(z, -_LARGEST), _LARGEST)
    square = z * z
    above, below = _ZERO, _ZERO
    for c in _NUMERATOR:
        above = above * square + c
    for c in _DENOMINATOR:
        below = below * square + c
    return z * above / below


@njit(fastmath=True)
def square(residual):
    """Return the squared error of a residual."""
    return residual * residual


@njit(fastmath=True)
def absolute(residual):
    """Return the absolute error of a residual."""
    return abs(residual)


def mean_error(error: Callable) -> Callable:
    """Return a function of w1, w2, x and y for the mean error in every cell; one tanh per row."""

    @njit(parallel=True, fastmath=True)
    def surface(w1, w2, x, y):
        losses = np.empty((w1.size, w2.size), np.float32)
        for i in prange(w1.size):
            hidden = np.empty_like(x)
            for k in range(x.size):
                hidden[k] = tanh(w1[i] * x[k])
            for j in range(w2.size):
                total = _ZERO
                for k in range(x.size):
                    total += error(w2[j] * hidden[k] - y[k])
                losses[i, j] = total / x.size
        return losses

    return surface


squared_error, absolute_error = mean_error(square), mean_error(absolute)


@njit(fastmath=True)
def _moments(w1, x, y, hidden):
    """Return Σ tanh² and Σ tanh·y, and write tanh(w1·x) into `hidden`."""
    squares, products = _ZERO, _ZERO
    for k in range(x.size):
        hidden[k] = tanh(w1 * x[k])
        squares += hidden[k] * hidden[k]
        products += hidden[k] * y[k]
    return squares, products


@njit(fastmath=True)
def _residuals(w2, hidden, y):
    """Return Σ (w2·tanh - y)²."""
    residuals = _ZERO
    for k in range(y.size):
        residuals += square(w2 * hidden[k] - y[k])
    return residuals


@njit(parallel=True, fastmath=True)
def parabola(w1, w2, x, y):
    """Compute the mean squared error as floor + curvature·(w2 - lowest)², three sums per row."""
    losses = np.empty((w1.size, w2.size), np.float32)
    for i in prange(w1.size):
        hidden = np.empty_like(x)
        # Sum over blocks: one float32 sum over 10⁵ samples would be off in its fourth digit.
        squares, products, residuals = 0.0, 0.0, 0.0
        for start in range(0, x.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            block_squares, block_products = _moments(w1[i], x[block], y[block], hidden[block])
            squares += block_squares
            products += block_products
        lowest = np.float32(products / squares) if squares > 0 else _ZERO
        for start in range(0, x.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            residuals += _residuals(lowest, hidden[block], y[block])
        floor, curvature = np.float32(residuals / x.size), np.float32(squares / x.size)
        for j in range(w2.size):
            losses[i, j] = floor + curvature * square(w2[j] - lowest)
    return losses


@njit(fastmath=True)
def _epoch(w1, w2, x, y, batch_size, rate):
    """Return the weights after one epoch of SGD."""
    for start in range(0, x.size, batch_size):
        stop = min(start + batch_size, x.size)
        slope1, slope2 = _ZERO, _ZERO
        for k in range(start, stop):
            hidden = tanh(w1 * x[k])
            residual = w2 * hidden - y[k]
            slope1 += residual * (_ONE - hidden * hidden) * x[k]
            slope2 += residual * hidden
        step = np.float32(2 * rate / (stop - start))
        w1, w2 = w1 - step * w2 * slope1, w2 - step * slope2
    return w1, w2


@njit(fastmath=True)
def descent(w1, w2, x, y, test_x, test_y, test_weight, batch_size, epochs, rate):
    """Run SGD and return (1 + epochs, 3) weights and test errors, one row per epoch."""
    path = np.empty((epochs + 1, 3), np.float32)
    for epoch in range(epochs + 1):
        path[epoch, 0], path[epoch, 1] = w1, w2
        total = _ZERO
        for k in range(test_x.size):
            total += test_weight[k] * square(w2 * tanh(w1 * test_x[k]) - test_y[k])
        path[epoch, 2] = total / test_x.size
        if epoch < epochs:
            w1, w2 = _epoch(w1, w2, x, y, batch_size, rate)
    return path


@njit(parallel=True, fastmath=True)
def descents(w1, w2, x, y, batch_size, epochs, rate):
    """Return the (runs, 2) last weights of many descents, run on all cores."""
    last = np.empty((w1.size, 2), np.float32)
    for run in prange(w1.size):
        a, b = w1[run], w2[run]
        for _ in range(epochs):
            a, b = _epoch(a, b, x, y, batch_size, rate)
        last[run, 0], last[run, 1] = a, b
    return last
