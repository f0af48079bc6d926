"""Functions evaluated in interval arithmetic: derivatives, calls, and primitives without a rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscape.critical.enclosure import Unbounded, enclosure
from jaxscape.critical.interval import Interval
from tests.critical.helpers import random_boxes

SHAPE = jax.ShapeDtypeStruct((40, 2), jnp.float64)
WEIGHT = np.array([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]])
FUNCTIONS = {
    "polynomial": lambda p: p[0] ** 3 - 2 * p[0] * p[1] ** 2 + p[1] ** 5 - 7,
    "waves": lambda p: jnp.sin(3 * p[0]) * jnp.cos(p[1] - 2 * p[0]),
    "product": lambda p: jnp.sum(jnp.tanh(p @ WEIGHT) @ WEIGHT.T),
    "real power": lambda p: (p[0] + 5) ** 2.3 + 1.7 ** p[1],
    "both unknown": lambda p: p @ jnp.outer(p, jnp.sin(p)) @ p,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["polynomial", "waves", "product", "real power", "both unknown"])
def test_bounds_on_gradient_and_hessian_hold(name):
    function = FUNCTIONS[name]

    def both(p):
        return jax.grad(function)(p), jax.hessian(function)(p)

    generator = np.random.default_rng(7)
    bounds = enclosure(jax.vmap(both), SHAPE)(given := random_boxes(generator, 0.5))
    with jax.enable_x64(True):
        for _ in range(60):
            values = jax.vmap(both)(generator.uniform(given.low, given.high))
            for bound, value in zip(bounds, values, strict=True):
                assert (bound.low <= value).all()
                assert (value <= bound.high).all()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: jax.lax.lgamma(x), "lgamma"),
        (lambda x: jnp.sum(jax.lax.while_loop(lambda y: y[0] > 1, lambda y: y / 2, x)), "while"),
        (lambda x: jnp.tanh(x.astype(jnp.float32)), "float32"),
        (lambda x: jnp.floor(x), "floor"),
    ],
)
def test_primitives_without_a_rule_are_named(function, name):
    with pytest.raises(Unbounded, match=name):
        enclosure(function, jax.ShapeDtypeStruct((3,), jnp.float64))


def test_inner_calls_are_evaluated():
    """The inner functions of jit, custom derivatives and checkpoints."""
    shape = jax.ShapeDtypeStruct((2,), jnp.float64)

    def function(x):
        return jax.jit(jax.nn.silu)(x) + jax.checkpoint(jnp.sin)(x) + jax.nn.relu(x)

    (bound,) = enclosure(function, shape)(Interval(np.array([-1.0, 1]), np.array([-0.9, 1.1])))
    with jax.enable_x64(True):
        middle = np.asarray(function(jnp.array([-0.95, 1.05])))
    assert (bound.low <= middle).all()
    assert (middle <= bound.high).all()
    assert (bound.high - bound.low < 0.5).all()


def test_the_numbers_of_inner_calls_count():
    shape = jax.ShapeDtypeStruct((7,), jnp.float64)
    plain, nested = enclosure(jnp.sin, shape), enclosure(lambda x: jax.jit(jnp.sin)(x) + x, shape)
    assert plain.numbers >= 7
    assert nested.numbers >= plain.numbers + 7
