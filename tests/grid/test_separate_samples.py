"""Samples are divided into blocks only if the model is proved to treat each separately."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxscape as jxs
from jaxscape.grid import plan as plan_module
from jaxscape.grid.parabola import proved_block_size
from jaxscape.grid.separate_samples import treats_samples_separately
from jaxscape.planes.plane import weight_plane

KEY = jax.random.key(0)
TABLE = np.linspace(-1, 1, 15).reshape(5, 3).astype(np.float32)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.Conv(4, (3, 3), (2, 2))(x)), (2, 2), (2, 2))
        x = nn.avg_pool(nn.Conv(4, (3, 3), feature_group_count=2)(x), (2, 2))
        return nn.Dense(3)(x.reshape(len(x), -1))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        return nn.Dense(1)(x.mean(axis=1))


class BatchNorm(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=not self.train)(nn.Dense(5)(x))
        return nn.Dense(1)(jnp.tanh(x))


DENSE = nn.Sequential([nn.Dense(8), nn.gelu, nn.GroupNorm(2), nn.Dropout(0.5, deterministic=True)])


def in_training(params, x):
    return BatchNorm(train=True).apply(params, x, mutable=["batch_stats"])[0]


@pytest.mark.parametrize(
    ("model", "predict", "x", "expected"),
    [
        (DENSE, DENSE.apply, shape(70, 3), True),
        (Convolutions(), Convolutions().apply, shape(70, 16, 16, 3), True),
        (Attention(), Attention().apply, shape(70, 5, 4), True),
        (BatchNorm(), BatchNorm().apply, shape(70, 3), True),
        (BatchNorm(), in_training, shape(70, 3), False),
    ],
    ids=["dense", "convolutions", "attention", "batch norm", "batch norm in training"],
)
def test_models(model, predict, x, expected):
    params = jax.eval_shape(lambda: model.init(KEY, jnp.ones((2, *x.shape[1:]))))
    for size in (35, 30, 23):  # The last block is as large, smaller, and of one sample.
        assert treats_samples_separately(predict, params, x, size) == expected


SEPARATE = {
    "product": lambda w, x: x @ (w * TABLE.T),
    "vmap": lambda w, x: jax.vmap(lambda row: TABLE @ (w * row))(x),
    "features": lambda w, x: w * x[:, np.array([2, 0])] + x[:, 1:2] * x[:, ::2],
    "table": lambda w, x: w * jnp.asarray(TABLE)[jnp.clip(x[:, 0], 0, 4).astype(int)],
    "sorted features": lambda w, x: jnp.sort(w * x, axis=1)[:, ::-1],
    "running sums": lambda w, x: jnp.cumsum(jnp.pad(w * x, [(0, 0), (1, 2)]), axis=1),
    "parts": lambda w, x: jnp.concatenate([*jnp.split(w * x, 3, axis=1), x], axis=1).max(axis=1),
    "stack": lambda w, x: jnp.stack([x, w * x], axis=0).transpose(1, 0, 2).reshape(len(x), -1),
    "constant": lambda w, x: w * jnp.ones((len(x), 2)) + jnp.full(len(x), 3.0)[:, None],
    "products of features": lambda w, x: w * jnp.einsum("ni,nj->nij", x, x).sum(axis=(1, 2)),
    "unstack": lambda w, x: jnp.unstack(x, axis=1)[2] * w + jnp.argmax(x, axis=1),
    "softmax": lambda w, x: jax.nn.softmax(w * x, axis=1),
    "checkpoint": lambda w, x: jax.checkpoint(jnp.tanh)(jax.nn.relu(w * x)),
}

MIXING = {
    "mean": lambda w, x: w * (x - x.mean(axis=0, keepdims=True)),
    "scale": lambda w, x: w * x / jnp.abs(x).max(),
    "softmax": lambda w, x: jax.nn.softmax(w * x, axis=0),
    "sort": lambda w, x: jnp.sort(w * x, axis=0),
    "order": lambda w, x: w * x[jnp.argsort(x[:, 0])],
    "median": lambda w, x: w * (x - jnp.median(x, axis=0, keepdims=True)),
    "running sums": lambda w, x: jnp.cumsum(w * x, axis=0),
    "reversed": lambda w, x: w * x[::-1],
    "shifted": lambda w, x: w * jnp.roll(x, 1, axis=0),
    "padded": lambda w, x: lax.pad(w * x, 0.0, [(1, -1, 0), (0, 0, 0)]),
    "differences": lambda w, x: w * jnp.diff(x, axis=0, prepend=0.0),
    "first": lambda w, x: w * (x - x[:1]),
    "changed": lambda w, x: w * x.at[0].set(0.0),
    "noise": lambda w, x: w * x + jax.random.normal(KEY, x.shape),
    "dropout": lambda w, x: w * x * jax.random.bernoulli(KEY, 0.5, x.shape),
    "index": lambda w, x: w * x * jnp.arange(len(x))[:, None],
    "count": lambda w, x: w * x / len(x),
    "pairs": lambda w, x: w * jnp.exp(-jnp.abs(x[:, :1] - x[:, 0][None])) @ x,
    "covariance": lambda w, x: w * x @ (x.T @ x),
    "merged": lambda w, x: w * jnp.sort(x.reshape(-1)).reshape(x.shape),
    "transposed": lambda w, x: w * x.T.reshape(x.shape),
    "recurrence": lambda w, x: lax.scan(lambda c, row: (c + row, c * row), x[0], w * x)[1],
    "window": lambda w, x: lax.reduce_window(w * x, -np.inf, lax.max, (3, 1), (1, 1), "SAME"),
    "vmap": lambda w, x: jax.vmap(lambda r: r - lax.pmean(r, "n"), axis_name="n")(w * x),
    "jit": jax.jit(lambda w, x: w * (x - x.mean())),
    "another for few": lambda w, x: w * x if len(x) > 40 else 2 * w * x,
    "another table for few": lambda w, x: x * (TABLE if len(x) > 40 else -TABLE)[:1] * w,
    "number of samples": lambda w, x: w * x.reshape(70, 3),
    "transposed output": lambda w, x: (w * x).T,
}


@pytest.mark.parametrize("size", [35, 30, 23])
def test_functions(size):
    x = shape(70, 3)
    for name, function in SEPARATE.items():
        assert treats_samples_separately(function, 2.0, x, size), name
        rows = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)
        whole, block = jax.jit(function)(2.0, rows), jax.jit(function)(2.0, rows[:size])
        np.testing.assert_allclose(whole[:size], block, rtol=1e-5, err_msg=name)
    for name, function in MIXING.items():
        assert not treats_samples_separately(function, 2.0, x, size), name


def test_activations_of_jax_are_separate():
    names = ("relu", "relu6", "sigmoid", "softplus", "silu", "leaky_relu", "elu", "celu", "selu")
    for name in (*names, "gelu", "hard_tanh", "squareplus", "mish", "soft_sign", "log_sigmoid"):
        network = jxs.TwoWeightNetwork(getattr(jax.nn, name))
        assert treats_samples_separately(network, jxs.Weights(1.0, 2.0), shape(70), 32), name


def standardized(w, x):
    return w.w2 * jnp.tanh(w.w1 * (x - x.mean()) / x.std())


def softmax(w, x):
    return w.w2 * jnp.tanh(w.w1 * x) * jax.nn.softmax(x) * len(x)


def noisy(w, x):
    return w.w2 * jnp.tanh(w.w1 * x + jax.random.normal(KEY, x.shape, x.dtype))


def truth(predict, data, a, b):
    """Return the losses in float64."""
    with jax.enable_x64(True):
        x, y = (jnp.asarray(np.asarray(array, float)) for array in (data.x, data.y))
        basis = [np.asarray(predict(jxs.Weights(float(v), 1.0), x)) for v in a]
    # The noise is drawn in the dtype of the data.
    if predict is noisy:
        noise = np.asarray(jax.random.normal(KEY, data.x.shape, data.x.dtype), float)
        basis = [np.tanh(float(v) * np.asarray(x) + noise) for v in a]
    return np.array([[np.mean((float(w) * h - np.asarray(y)) ** 2) for w in b] for h in basis])


@pytest.mark.parametrize("predict", [standardized, softmax, noisy])
def test_models_that_mix_samples_are_computed_at_once(predict, monkeypatch):
    """Sorted samples, more than a block has, in `landscape`, `derivatives` and `valley`."""
    n = 140_000 if predict is standardized else 20_000
    x = np.sort(np.random.default_rng(0).normal(size=n)).astype(np.float32)
    data, loss = jxs.Dataset(x, np.sin(x)), jxs.squared_error.of(predict)
    axes = {"w1": np.float32([0.8, 1.9]), "w2": (0.5, 1.5, 3)}
    if n < 131_072:
        limits = plan_module.limits_for
        monkeypatch.setattr(
            plan_module, "limits_for", lambda *given: limits(*given)._replace(samples=4096)
        )
        plan_module._cached_plan.cache_clear()
    surface = jxs.landscape(loss, data, **axes)
    plan_module._cached_plan.cache_clear()
    expected = truth(predict, data, surface.a.values, surface.b.values)
    assert surface.method == "exact"
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-4)
    if predict is standardized:
        found = jxs.derivatives(loss, data, **axes)
        np.testing.assert_allclose(found.loss, expected, rtol=1e-4)
    if predict is not noisy:
        found = jxs.topology.valley(loss, data, w1=axes["w1"])
        for k, a in enumerate(axes["w1"]):
            at_lowest = truth(predict, data, [a], [found.b[k], found.b[k] + 0.1])[0]
            np.testing.assert_allclose(found.loss[k], at_lowest[0], rtol=1e-9)
            assert at_lowest[1] > at_lowest[0]


def test_blocks_of_a_model_that_mixes_samples_are_far_from_the_loss():
    """The twin of the test above."""
    x = np.sort(np.random.default_rng(0).normal(size=20_000)).astype(np.float32)
    parts = np.concatenate(
        [standardized(jxs.Weights(1.0, 1.0), x[k : k + 4096]) for k in range(0, 20_000, 4096)]
    )
    whole = standardized(jxs.Weights(1.0, 1.0), x)
    assert np.mean((parts - whole) ** 2) > 0.1


def test_separate_models_keep_their_blocks():
    data = jxs.Dataset(np.ones(20_000, np.float32), np.ones(20_000, np.float32))
    for predict, expected in ((jxs.TwoWeightNetwork(), 4096), (standardized, 20_000)):
        size = proved_block_size(predict, weight_plane(), data, jnp.float32, 4096)
        assert size == expected
        assert proved_block_size(predict, weight_plane(), data, jnp.float32, 2**17) == 2**17


def test_auto_is_dense_if_memory_is_too_small_for_all_samples_of_a_row():
    x = np.sort(np.random.default_rng(0).normal(size=20_000)).astype(np.float32)
    data, loss = jxs.Dataset(x, np.sin(x)), jxs.squared_error.of(standardized)
    axes = {"w1": (0.8, 1.9, 3), "w2": (0.5, 1.5, 4)}
    surface = jxs.landscape(loss, data, memory=200_000, **axes)
    assert surface.method == "dense"
    expected = truth(standardized, data, surface.a.values, surface.b.values)
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-4)
    with pytest.raises(ValueError, match="memory: expected at least") as exact:
        jxs.landscape(loss, data, method="exact", memory=200_000, **axes)
    # If neither fits, the message gives the bytes of the exact strategy.
    with pytest.raises(ValueError, match="memory: expected at least") as neither:
        jxs.landscape(loss, data, memory=1000, **axes)
    needed = [str(raised.value).partition(" bytes")[0] for raised in (exact, neither)]
    assert needed[0] == needed[1]
