"""Random data for the two-weight network, and its critical points in a wide box."""

import jax
import numpy as np

import jaxscape as jxs

WIDE = {"w1": (-200.0, 200.0), "w2": (-1e30, 1e30)}


def dataset(x, y, sample_weight=None):
    """Make a dataset in float64."""
    with jax.enable_x64(True):
        return jxs.Dataset(np.array(x, float), np.array(y, float), sample_weight=sample_weight)


def everywhere(x, y, **box):
    """Return the critical points in a box, by default a wide one."""
    return jxs.critical_points(jxs.squared_error, dataset(x, y), **(box or WIDE))


def random_data(generator, k):
    """Draw data of one of eight kinds, some of which have several minima."""
    n = int(generator.integers(2, 40))
    x = generator.normal(size=n) * 10 ** generator.uniform(-1, 1)
    if k == 0:
        return x, generator.normal(size=n)
    if k == 1:
        return x, 0.8 * np.tanh(1.5 * x) + 0.1 * generator.normal(size=n)
    if k == 2:
        either = generator.random(n) < 0.5
        return x, np.where(either, 2 * np.tanh(0.3 * x), -np.tanh(5 * x))
    if k == 3:
        return generator.normal(size=3), generator.normal(size=3)
    if k == 4:
        x = np.array([0.01, 0.1, 1, 10, 100]) * generator.uniform(0.5, 2, 5)
        return x, generator.normal(size=5) * [10, 3, 1, 1, 1]
    if k == 5:
        return generator.normal(size=n) * 10 ** generator.uniform(-4, 4, n), generator.normal(
            size=n
        )
    if k == 6:
        teachers = zip(generator.normal(size=3), 10 ** generator.uniform(-1, 1.5, 3), strict=True)
        return x, sum(w2 * np.tanh(w1 * x) for w2, w1 in teachers)
    return np.round(x, 1), np.round(generator.normal(size=n), 1)
