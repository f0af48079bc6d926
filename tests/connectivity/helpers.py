"""Models and losses that the tests of lines and curves share."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

# The relative difference of float32 sums in another order.
ROUNDING = 2e-6
KEY = jax.random.key(7)


def make_params(seed, dtype=np.float64):
    """Return the parameters of a model with leaves of every kind."""
    generator = np.random.default_rng(seed)
    return {
        "w": generator.normal(0, 1, (2, 4)).astype(dtype),
        "b": generator.normal(0, 1, 4).astype(dtype),
        "v": [generator.normal(0, 1, 4).astype(dtype), None],
        "activation": jnp.tanh,
        "name": "two layers",
        "depth": 2,
        "counts": np.arange(3),
        "key": KEY,
    }


def make_data(n=7, dtype=np.float64):
    generator = np.random.default_rng(0)
    return {"x": generator.normal(0, 1, (n, 2)).astype(dtype), "y": np.arange(n).astype(dtype)}


def model_loss(p, data):
    """Compute a loss that depends on leaves of every kind."""
    hidden = p["activation"](data["x"] @ p["w"] + p["b"][None])
    shift = jax.random.uniform(p["key"], (), np.float32) + p["counts"].sum() + p["depth"]
    return jnp.mean((hidden @ p["v"][0] - data["y"]) ** 2) + shift


def model_loss_in_numpy(p, data):
    """Compute `model_loss` in float64 NumPy, for the original key, counts and depth."""
    hidden = np.tanh(data["x"] @ p["w"] + p["b"])
    return np.mean((hidden @ p["v"][0] - data["y"]) ** 2) + _random_shift() + 5


@functools.cache
def _random_shift():
    return float(jax.random.uniform(KEY, (), np.float32))


def make_directions(count, seed=1, dtype=np.float64):
    """Return stacked directions that do not move the biases."""
    generator = np.random.default_rng(seed)
    still = dict.fromkeys(("activation", "name", "depth", "counts", "key", "b"))
    return still | {
        "w": generator.normal(0, 1, (count, 2, 4)).astype(dtype),
        "v": [generator.normal(0, 1, (count, 4)).astype(dtype), None],
    }


def make_mlp(seed, depth=2):
    return _make_mlp(np.uint32(seed), depth)


@eqx.filter_jit
def _make_mlp(seed, depth):
    return eqx.nn.MLP(3, 1, 5, depth, key=jax.random.key(seed))


def mlp_loss(model, x):
    return jnp.mean((jax.vmap(model)(x)[:, 0] - x[:, 0]) ** 2)
