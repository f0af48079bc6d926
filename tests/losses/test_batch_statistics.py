"""Losses whose batch statistics are recomputed at every point of a plane."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxscape as jxs
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import loss_name

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
DATA = X, np.sin(X[:, :1])
AXES = {"a": (-1, 1, 3), "b": (-2, 1, 4)}


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for size in (5, 4):
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.0)
            x = jnp.tanh(norm(nn.Dense(size)(x)))
        return nn.Dense(1)(x)


def of_linen():
    """Without momentum, a training step stores the statistics of its batch."""
    model = Linen()
    params = jax.jit(lambda key: model.init(key, X, True))(jax.random.key(1))

    def statistics(params, data):
        return params | model.apply(params, data[0], True, mutable=["batch_stats"])[1]

    def loss(params, data):
        return jnp.mean((model.apply(params, data[0], False) - data[1]) ** 2)

    def parts(params):
        p = params["params"]
        names = [(f"Dense_{k}", f"BatchNorm_{k}") for k in (0, 1)]
        layers = [(p[d]["kernel"], p[d]["bias"], p[n]["scale"], p[n]["bias"]) for d, n in names]
        return layers, (p["Dense_2"]["kernel"], p["Dense_2"]["bias"])

    return params, loss, statistics, parts


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, 4, rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs)
        self.norm, self.other = (nnx.BatchNorm(n, momentum=0.0, rngs=rngs) for n in (5, 4))

    def __call__(self, x):
        x = jnp.tanh(self.norm(self.first(x)))
        return self.last(jnp.tanh(self.other(self.second(x))))


def of_nnx():
    definition, params = nnx.jit(lambda: nnx.split(Nnx(nnx.Rngs(0))))()

    def statistics(params, data):
        model = nnx.merge(definition, params)
        model.train()
        model(data[0])
        return nnx.state(model)

    def loss(params, data):
        model = nnx.merge(definition, params)
        model.eval()
        return jnp.mean((model(data[0]) - data[1]) ** 2)

    def parts(params):
        model = nnx.merge(definition, params)
        pairs = (model.first, model.norm), (model.second, model.other)
        layers = [(d.kernel[...], d.bias[...], n.scale[...], n.bias[...]) for d, n in pairs]
        return layers, (model.last.kernel[...], model.last.bias[...])

    return params, loss, statistics, parts


def loss_in_numpy(layers, last):
    """Compute the loss with the statistics of all data in float64; 1e-5 is Flax's epsilon."""
    x, y = (np.asarray(d, float) for d in DATA)
    for w, c, scale, shift in layers:
        x = x @ np.asarray(w, float) + np.asarray(c, float)
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
        x = np.tanh(np.asarray(scale, float) * x + np.asarray(shift, float))
    return np.mean((x @ np.asarray(last[0], float) + np.asarray(last[1], float) - y) ** 2)


@pytest.mark.parametrize("make", [of_linen, pytest.param(of_nnx, marks=pytest.mark.slow)])
def test_statistics_are_those_of_all_data_at_each_grid_point(make):
    params, loss, statistics, parts = make()
    plane = jxs.Plane.random(jax.random.key(2), params, include_vectors=True, leaves=moves)
    surface = jxs.landscape(jxs.WithBatchStatistics(loss, statistics), DATA, plane, **AXES)
    at = jax.jit(plane.at)
    truth = [[loss_in_numpy(*parts(at(a, b))) for b in surface.b.values] for a in surface.a.values]
    np.testing.assert_allclose(surface.loss, truth, rtol=2e-4)
    assert surface.loss_name == "loss"
    # With the statistics of the origin, the surface is a different one.
    kept = jxs.landscape(loss, DATA, plane, **AXES)
    corner = jax.jit(loss)(at(-1.0, 1.0), DATA)
    np.testing.assert_allclose(kept.loss[0, 3], corner, rtol=1e-5)
    assert np.abs(kept.loss / surface.loss - 1).max() > 0.05


def moves(path):
    return not any(name in path for name in ("batch_stats", "mean", "var"))


def test_iterables_that_are_not_streams_are_refused():
    check_data(loss_name, {"x": X, "label": "text", "n": 3})
    for data, message in (
        ((batch for batch in [X]), "data: expected arrays, or a Stream of batches, got generator"),
        ({"x": map(np.asarray, [X])}, r"data\['x'\]: expected arrays, .* got map; wrap"),
    ):
        with pytest.raises(TypeError, match=message):
            check_data(loss_name, data)


def test_the_name_is_that_of_the_wrapped_loss():
    def error(params, data):
        return 0.0

    assert jxs.WithBatchStatistics(error, lambda params, data: params).name == "error"
    named = jxs.WithBatchStatistics(jxs.squared_error, lambda params, data: params)
    assert named.name == "squared error"


def test_every_function_that_takes_a_stream_refuses_it():
    params, loss, statistics, _ = of_linen()
    recomputed = jxs.WithBatchStatistics(loss, statistics)
    plane = jxs.Plane.random(jax.random.key(2), params, leaves=moves)
    batches = [tuple(d[k : k + 5] for d in DATA) for k in range(0, 20, 5)]
    stream, key = jxs.Stream(batches), jax.random.key(0)
    path, other = (jax.tree.map(change, params) for change in (lambda x: x[None], lambda x: x + 1))
    for call in (
        lambda: jxs.landscape(recomputed, stream, plane, **AXES),
        lambda: jxs.project(recomputed, stream, plane, path),
        lambda: jxs.curvature.eigenpairs(recomputed, stream, params, 1, key),
        lambda: jxs.gradient_plane(recomputed, stream, params, key),
        lambda: jxs.connectivity.lines(
            recomputed, stream, params, jxs.connectivity.random_directions(key, params, 2)
        ),
        lambda: jxs.connectivity.interpolate(recomputed, stream, params, other),
        lambda: jxs.connectivity.Curve(params, other, params, np.zeros(1)).losses(
            recomputed, stream
        ),
    ):
        with pytest.raises(
            ValueError, match="data: expected arrays for a WithBatchStatistics loss"
        ):
            call()
    # The mean over batches with their own statistics is a different number.
    compiled = jax.jit(recomputed)
    mean = np.mean([compiled(params, batch) for batch in batches])
    assert abs(mean / compiled(params, DATA) - 1) > 0.01
