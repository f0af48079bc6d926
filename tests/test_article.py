"""The article's experiment: its data bit for bit, the published loss, and the true one."""

import jax
import numpy as np
import pytest

import jaxscape as jxs
from tests import reference


def test_the_data_equal_the_articles_bit_for_bit():
    """The reference draws them one by one from the article's definition."""
    legacy = np.random.RandomState(42)
    x = [legacy.normal(1, 4.5) for _ in range(10_000)]
    y = []
    for value in x:
        noise = legacy.standard_normal()
        if value < -2:
            y.append(2 * value + 5 + noise)
        elif value < 2:
            y.append(7.3 * np.sin(value) + noise)
        else:
            y.append(-0.03 * value**3 + 2 + noise)
    order = np.random.RandomState(56).permutation(10_000)
    train, test = jxs.article.data()
    for data, indices in ((test, order[:3000]), (train, order[3000:])):
        np.testing.assert_array_equal(data.x, np.float32(x)[indices])
        np.testing.assert_array_equal(data.y, np.float32(y)[indices])
        assert data.x.dtype == np.float32


def broadcast_error(w1, w2, data):
    """Compute the published loss in float64, with its accidental broadcasting."""
    x, y = reference.numbers(data.x), reference.numbers(data.y)
    means = []
    for k in range(0, len(x), 128):
        prediction = (w2 * np.tanh(w1 * x[k : k + 128]))[:, None]
        means.append(np.mean((prediction - y[k : k + 128]) ** 2))
    return np.mean(means)


def test_the_published_surface_equals_the_broadcast_loop():
    surface = jxs.article.surface(jxs.article.broadcast_squared_error)
    _, test = jxs.article.data()
    assert surface.shape == (80, 80)
    w1, w2 = map(reference.numbers, (surface.a.values, surface.b.values))
    np.testing.assert_allclose(w1, -2 + 0.05 * np.arange(80), atol=1e-6)
    for i, j in [(0, 0), (3, 71), (20, 20), (38, 78), (40, 5), (79, 79), (79, 2)]:
        truth = broadcast_error(w1[i], w2[j], test)
        assert surface.loss[i, j] == pytest.approx(truth, rel=5e-7)


def test_the_published_descent_equals_a_float64_loop_with_the_broadcast_gradient():
    train, test = jxs.article.data()
    x, y = reference.numbers(train.x), reference.numbers(train.y)
    w1, w2 = -1.0, -1.0
    visited = [(w1, w2)]
    for _ in range(25):
        for k in range(0, 7000, 128):
            u, v = x[k : k + 128], y[k : k + 128]
            h = np.tanh(w1 * u)
            slope = (1 - h**2) * u
            # d/dw of mean(p²) - 2 mean(p) mean(y), p = w2 h.
            g1 = 2 * w2**2 * np.mean(h * slope) - 2 * w2 * np.mean(slope) * np.mean(v)
            g2 = 2 * w2 * np.mean(h**2) - 2 * np.mean(h) * np.mean(v)
            w1, w2 = w1 - 0.01 * g1, w2 - 0.01 * g2
        visited.append((w1, w2))
    path = jxs.article.path(jxs.article.broadcast_squared_error)
    np.testing.assert_allclose(np.stack(path.params, axis=1), visited, atol=5e-6)
    assert len(path) == 26
    for k in (0, 13, 25):
        truth = broadcast_error(*visited[k], test)
        assert path.evaluation_loss[k] == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("n", [1, 127, 128, 129, 300])
def test_the_broadcast_error_of_any_number_of_samples(n):
    generator = np.random.default_rng(n)
    data = jxs.Dataset(*generator.normal(1, 3, (2, n)).astype(np.float32))
    ours = jxs.article.broadcast_squared_error(jxs.Weights(0.6, -1.7), data)
    assert ours == pytest.approx(broadcast_error(0.6, -1.7, data), rel=1e-6)


def test_the_intended_experiment_is_the_mean_squared_error():
    surface, path = jxs.article.as_intended()
    train, test = jxs.article.data()
    truth = reference.surface(surface, test)
    assert reference.relative_error(surface, truth) < 2e-6
    lowest = surface.lowest
    assert (lowest.a, lowest.b) == pytest.approx((0.1, -2.0), abs=1e-6)
    assert surface.lowest_is_on_edge
    visited = reference.sgd((-1, -1), train, 0.01, 25, 128)
    np.testing.assert_allclose(np.stack(path.params, axis=1), visited, atol=2e-5)
    np.testing.assert_allclose(visited[[1, 25]], [[-1.272, -0.476], [-2.210, -0.353]], atol=5e-4)
    assert path.loss[0] == pytest.approx(reference.loss_at(-1, -1, test), rel=1e-6)


def test_the_published_loss_differs_from_the_intended_one():
    """They differ by up to 3.7 and have different lowest cells."""
    published, intended = jxs.article.as_published(), jxs.article.as_intended()
    difference = np.abs(np.asarray(published.surface.loss) - np.asarray(intended.surface.loss))
    assert difference.max() == pytest.approx(3.738, abs=1e-3)
    # Part of it comes from the mean of batch means, which weighs the short batch like a full one.
    _, test = jxs.article.data()
    batched = jxs.landscape(
        jxs.squared_error,
        jxs.data.weigh_batches_equally(test, 128),
        w1=jxs.article.AXIS,
        w2=jxs.article.AXIS,
    )
    difference = np.abs(np.asarray(published.surface.loss) - np.asarray(batched.loss))
    assert difference.max() == pytest.approx(3.376, abs=1e-3)
    lowest = published.surface.lowest
    assert (lowest.a, lowest.b) == pytest.approx((-0.1, 1.9), abs=1e-6)
    assert not published.surface.lowest_is_on_edge
    assert published.surface.method == "dense"


def test_the_articles_data_are_float32_under_x64(x64):
    assert jxs.article.data()[0].x.dtype == np.float32  # The article's data are float32.
    with jax.enable_x64(False):
        assert jxs.article.surface().loss.dtype == np.float32
