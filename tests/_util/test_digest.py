"""Digests are equal for equal computations and arrays, and for no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape._util.digest import digest, identity
from jaxscape.planes.plane import weight_plane

X = np.array([[0.5, -1.0, 2.0], [3.0, 0.25, -4.0]], np.float32)
DATA = jxs.Dataset(X[0], X[1])


def mean_error(weights, data):
    return jnp.mean(jnp.abs(weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y))


def of(loss=mean_error, plane=None, data=DATA, dtype=np.float32):
    return identity(loss, plane or weight_plane(), data, dtype)


def differences(first, other):
    return {name for name in first if first[name] != other[name]}


def test_the_same_loss_written_again_has_the_same_digests():
    def renamed(w, d):
        return jnp.mean(jnp.abs(w.w2 * jnp.tanh(w.w1 * d.x) - d.y))

    assert of() == of(renamed)


def test_each_digest_depends_on_its_own_argument():
    plane = weight_plane()
    assert differences(of(), of(lambda w, d: 2 * mean_error(w, d))) == {"loss"}
    assert differences(of(), of(plane=jxs.Plane(plane.origin, plane.v, plane.u))) == {"plane"}
    assert differences(of(), of(data=jxs.Dataset(X[0], X[0]))) == {"data"}


@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.jit, jax.checkpoint])
@pytest.mark.parametrize("in_place", [False, True])
def test_arrays_that_a_loss_holds_are_part_of_it(wrap, in_place):
    """Constants inside calls, and those that JAX prints without their numbers."""

    def shifted(values):
        return wrap(lambda w, d: jnp.mean(jnp.abs(w.w1 * d.x + w.w2 - values[:3])))

    jax.config.update("jax_use_simplified_jaxpr_constants", in_place)
    try:
        zeros, halves = np.zeros(500, np.float32), np.full(500, 0.5, np.float32)
        assert of(shifted(zeros)) == of(shifted(zeros.copy()))
        assert differences(of(shifted(zeros)), of(shifted(halves))) == {"loss"}
    finally:
        jax.config.update("jax_use_simplified_jaxpr_constants", False)


def test_a_digest_depends_on_text_values_shape_and_dtype():
    arrays = [X, X.T, X.ravel(), X + 1, X.astype(np.float64), X.view(np.int32)]
    found = [digest("text", [array]) for array in arrays]
    found += [digest("another text", [X]), digest("text", [X, X]), digest("text", [])]
    assert len(set(found)) == len(found)


def test_a_digest_does_not_depend_on_addresses_and_memory_layout():
    assert digest("<f at 0x7f00>", []) == digest("<f at 0x7fab>", [])
    assert digest("", [X[:, ::-1]]) == digest("", [np.ascontiguousarray(X[:, ::-1])])
    assert digest("", [X]) == digest("", [jnp.asarray(X)])


def test_random_keys_have_digests():
    first, other = jax.random.key(0), jax.random.key(1)
    assert digest("", [first]) == digest("", [jax.random.key(0)])
    assert digest("", [first]) != digest("", [other])
