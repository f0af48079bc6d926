"""The same few lines make a plane through a model of Flax (Linen and NNX), Equinox or Haiku."""

import re

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxscape as jxs

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
DATA = jxs.Dataset(X, np.sin(X[:, :1]))


def linen():
    """A model with batch statistics, a collection that no direction moves."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True)(nn.Dense(5)(x))
            return nn.Dense(1)(jnp.tanh(x))

    model = Model()
    params = jax.jit(model.init)(jax.random.key(1), X)
    return params, jxs.squared_error.of(model.apply), {}


def flax_nnx():
    """A model whose state holds random keys and counters beside the parameters."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 5, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.second = nnx.Linear(5, 1, rngs=rngs)

        def __call__(self, x):
            return self.second(self.dropout(jnp.tanh(self.first(x))))

    model = Model(nnx.Rngs(0))
    model.eval()
    definition, state = nnx.split(model)

    def predict(state, x):
        return nnx.merge(definition, state)(x)

    return state, jxs.squared_error.of(predict), {}


def equinox():
    """A model that is its own pytree of parameters, activation functions included."""
    model = eqx.nn.MLP(3, 1, 5, 2, key=jax.random.key(0))
    return model, jxs.squared_error.of(lambda m, x: jax.vmap(m)(x)), {"output_axis": 0}


def haiku():
    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([5, 1])(x)))
    params = jax.jit(model.init)(jax.random.key(0), X)
    return params, jxs.squared_error.of(model.apply), {}


@pytest.mark.parametrize("make", [linen, flax_nnx, equinox, haiku])
def test_a_plane_through_a_model_gives_the_loss_at_its_points(make):
    params, loss, more = make()
    plane = jxs.Plane.random(jax.random.key(2), params, **more)
    surface = jxs.landscape(loss, DATA, plane, a=(-1, 1, 5), b=(-2, 2, 3))
    at_origin = loss(params, DATA)
    np.testing.assert_allclose(surface.loss[2, 1], at_origin, rtol=2e-6)
    for i, j in ((0, 1), (4, 2)):
        a, b = surface.a.values[i], surface.b.values[j]
        np.testing.assert_allclose(surface.loss[i, j], loss(plane.at(a, b), DATA), rtol=1e-5)
        assert abs(surface.loss[i, j] - at_origin) > 1e-3
    # Only weight matrices move, and each filter's step is as long as the filter.
    axis = more.get("output_axis", -1)
    moved = [x for x in jax.tree.leaves(plane.u) if x is not None]
    matrices = [x for x in jax.tree.leaves(params) if hasattr(x, "ndim") and x.ndim == 2]
    assert len(moved) == len(matrices) > 1
    for step, matrix in zip(moved, matrices, strict=True):
        lengths = [np.linalg.norm(x, axis=1 + axis if axis else 1) for x in (step, matrix)]
        np.testing.assert_allclose(*lengths, rtol=1e-5)


@pytest.mark.parametrize("make", [linen, flax_nnx, equinox, haiku])
def test_bad_arguments_raise_before_anything_is_compiled(make, compilations):
    params, loss, more = make()
    plane = jxs.Plane.random(jax.random.key(2), params, **more)

    def landscape(loss, data=DATA):
        return jxs.landscape(loss, data, plane, a=(-1, 1, 5), b=(-2, 2, 3))

    def changed(tree, change):
        """Return the tree with its first matrix changed, and the tree path of that matrix."""
        paths, structure = jax.tree_util.tree_flatten_with_path(tree)
        k = next(k for k, (_, x) in enumerate(paths) if getattr(x, "ndim", 0) == 2)
        leaves = [x for _, x in paths]
        leaves[k] = change(np.array(leaves[k]))
        return jax.tree.unflatten(structure, leaves), re.escape(jax.tree_util.keystr(paths[k][0]))

    compilations.clear()
    for bad, message in (
        (lambda p, d: loss.predict(p, d.x) - d.y, r"an array of shape \(20, 1\); take its mean"),
        (lambda p, d: loss(p, d)[None], r"an array of shape \(1,\)"),
        (lambda p, d: (loss(p, d), d.x), "got tuple; return the loss alone"),
        (lambda p, d: jnp.argmax(d.x), "expected a floating scalar, got dtype int32"),
    ):
        with pytest.raises(TypeError, match=message):
            landscape(bad)
    for change, message in (
        (lambda w: w[:-1], "expected the origin's shape"),
        (lambda w: w * np.inf, "expected finite numbers"),
    ):
        u, tree_path = changed(plane.u, change)
        with pytest.raises(ValueError, match=f"plane.u{tree_path}: {message}"):
            jxs.Plane(params, u, plane.v)
    whole, tree_path = changed(params, lambda w: w.astype(int))
    with pytest.raises(
        TypeError, match=f"plane.u{tree_path}: expected None, because the origin has no"
    ):
        jxs.Plane(whole, plane.u, plane.v)
    hole, tree_path = changed(params, lambda w: np.where(w == w.max(), np.nan, w))
    with pytest.raises(ValueError, match=f"plane.origin{tree_path}: expected finite"):
        jxs.Plane(hole, plane.u, plane.v)
    for v, message in (
        (jax.tree.map(lambda x: -2.5 * np.asarray(x), plane.u), "not parallel"),
        (jax.tree.map(np.zeros_like, plane.v), "got zeros"),
        ({"w": 1.0}, r"expected the origin's structure with a leaf .*, got \['w'\] there"),
    ):
        with pytest.raises(ValueError, match=f"plane.v: .*{message}"):
            jxs.Plane(params, plane.u, v)
    with pytest.raises(ValueError, match="expected a stream with at least one batch, got none"):
        landscape(loss, jxs.Stream([]))
    assert not compilations
