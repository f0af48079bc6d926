"""Optimizers against implementations that share nothing with them, on the article's data."""

import jax
import numpy as np
import optax
import pytest

import jaxscape as jxs

START, BATCH = (-1.0, -1.0), 128

OPTIMIZERS = {
    "SGD": optax.sgd(0.01),
    "momentum": optax.sgd(0.01, 0.9),
    "nesterov": optax.sgd(0.01, 0.9, nesterov=True),
    "rmsprop": optax.rmsprop(0.01, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "adam": optax.adam(0.05),
    "adamw": optax.adamw(0.05, weight_decay=0.1),
    "lion": optax.lion(0.01, weight_decay=0.1),
    "clipped, scheduled": optax.chain(
        optax.clip_by_global_norm(0.2), optax.sgd(optax.cosine_decay_schedule(0.3, 80))
    ),
}


@pytest.fixture(scope="module")
def arrays():
    train, _ = jxs.article.data()
    return tuple(np.asarray(v, np.float64)[: 50 * BATCH] for v in (train.x, train.y))


@pytest.fixture(scope="module")
def paths(arrays):
    """100 steps of each in float64."""
    with jax.enable_x64(True):
        return jxs.descend(
            jxs.squared_error,
            jxs.Weights(*START),
            jxs.Dataset(*arrays),
            optimizer=OPTIMIZERS,
            epochs=2,
            batch_size=BATCH,
            record="step",
        )


def gradient_at(w, x, y):
    hidden = np.tanh(w[0] * x)
    slope = 2 * (w[1] * hidden - y)
    return np.array([np.mean(slope * w[1] * (1 - hidden**2) * x), np.mean(slope * hidden)])


def sgd(w, g, t, m):
    return w - 0.01 * g


def momentum(w, g, t, m):
    """Polyak's velocity without damping, as Sutskever et al. (2013) write it."""
    m["v"] = 0.9 * m.get("v", 0) + g
    return w - 0.01 * m["v"]


def nesterov(w, g, t, m):
    m["v"] = 0.9 * m.get("v", 0) + g
    return w - 0.01 * (g + 0.9 * m["v"])


def rmsprop(w, g, t, m):
    """Hinton's lecture 6e, with a decay of 0.99."""
    m["s"] = 0.99 * m.get("s", 0) + 0.01 * g**2
    return w - 0.01 * g / (np.sqrt(m["s"]) + 1e-8)


def adam_direction(g, t, m):
    m["m"] = 0.9 * m.get("m", 0) + 0.1 * g
    m["s"] = 0.999 * m.get("s", 0) + 0.001 * g**2
    return m["m"] / (1 - 0.9**t) / (np.sqrt(m["s"] / (1 - 0.999**t)) + 1e-8)


def adam(w, g, t, m):
    """Kingma and Ba (2015), algorithm 1."""
    return w - 0.05 * adam_direction(g, t, m)


def adamw(w, g, t, m):
    """Loshchilov and Hutter (2019), algorithm 2."""
    return w - 0.05 * (adam_direction(g, t, m) + 0.1 * w)


def lion(w, g, t, m):
    """Chen et al. (2023), algorithm 2."""
    old = m.get("m", 0)
    m["m"] = 0.99 * old + 0.01 * g
    return w - 0.01 * (np.sign(0.9 * old + 0.1 * g) + 0.1 * w)


def clipped(w, g, t, m):
    """Pascanu et al. (2013), algorithm 1; half a cosine over 80 steps, then nothing."""
    g = g * min(1, 0.2 / np.linalg.norm(g))
    return w - 0.3 * (1 + np.cos(np.pi * min(t - 1, 80) / 80)) / 2 * g


FORMULAS = (sgd, momentum, nesterov, rmsprop, adam, adamw, lion, clipped)


@pytest.mark.slow
def test_they_follow_the_published_formulas(arrays, paths):
    """100 steps with batches of 128, by hand in NumPy."""
    x, y = arrays
    for name, update in zip(OPTIMIZERS, FORMULAS, strict=True):
        w, memory = np.array(START), {}
        visited = [w]
        for t, k in enumerate(2 * list(range(0, len(x), BATCH)), start=1):
            part = slice(k, k + BATCH)
            w = update(w, gradient_at(w, x[part], y[part]), t, memory)
            visited.append(w)
        found = np.stack(paths[name].params, axis=1)
        np.testing.assert_allclose(found, visited, rtol=1e-8, err_msg=name)


@pytest.mark.slow
def test_they_agree_with_another_implementation(arrays, paths):
    """PyTorch's optimizers, the same 100 steps."""
    torch = pytest.importorskip("torch")
    makers = {
        "SGD": lambda p: torch.optim.SGD(p, 0.01),
        "momentum": lambda p: torch.optim.SGD(p, 0.01, 0.9),
        "nesterov": lambda p: torch.optim.SGD(p, 0.01, 0.9, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01),
        "adam": lambda p: torch.optim.Adam(p, 0.05),
        "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1),
    }
    x, y = arrays
    for name, make in makers.items():
        weights = torch.tensor(START, dtype=torch.float64, requires_grad=True)
        other, visited = make([weights]), [list(START)]
        for k in 2 * list(range(0, len(x), BATCH)):
            u, v = (torch.from_numpy(array[k : k + BATCH]) for array in (x, y))
            other.zero_grad()
            torch.mean((weights[1] * torch.tanh(weights[0] * u) - v) ** 2).backward()
            other.step()
            visited.append(weights.detach().tolist())
        found = np.stack(paths[name].params, axis=1)
        np.testing.assert_allclose(found, visited, rtol=1e-8, err_msg=name)


def two_loops(gradient, pairs):
    """Nocedal and Wright, algorithm 7.4, from the last pairs of steps and changes of gradient."""
    q, taken = gradient, []
    for s, v in reversed(pairs):
        share = s @ q / (s @ v)
        q = q - share * v
        taken.append(share)
    s, v = pairs[-1]
    r = s @ v / (v @ v) * q
    for (s, v), share in zip(pairs, reversed(taken), strict=True):
        r = r + s * (share - v @ r / (s @ v))
    return -r


def test_a_step_of_lbfgs_is_its_direction_times_the_learning_rate_that_is_recorded(x64):
    """And the line search's end has fallen enough and is flatter, by Wolfe's conditions."""
    x = np.linspace(-2, 3, 41)
    y = 0.8 * np.tanh(1.5 * x) + 0.1 * np.cos(7 * x)
    path = jxs.descend(
        jxs.squared_error,
        jxs.Weights(0.4, -0.2),
        jxs.Dataset(x, y),
        optimizer=optax.lbfgs(memory_size=3),
        epochs=14,
    )
    points = np.stack(path.params, axis=1)
    gradients = np.array([gradient_at(point, x, y) for point in points])
    steps, changes = np.diff(points, axis=0), np.diff(gradients, axis=0)
    assert np.linalg.norm(gradients[-1]) < 1e-3 * np.linalg.norm(gradients[0])
    for k in range(1, len(steps)):
        pairs = list(zip(steps[:k], changes[:k], strict=True))[-3:]
        direction = two_loops(gradients[k], pairs)
        rate = path.learning_rate[k + 1]
        np.testing.assert_allclose(steps[k], rate * direction, rtol=1e-6, err_msg=str(k))
        slope = gradients[k] @ direction
        assert path.loss[k + 1] <= path.loss[k] + 1e-4 * rate * slope
        assert abs(gradients[k + 1] @ direction) <= 0.9 * abs(slope)
