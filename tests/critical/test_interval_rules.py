"""The rule of each primitive: bounds hold for values at many points, and are narrow."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscape.critical.enclosure import enclosure
from jaxscape.critical.interval import Interval
from tests.critical.helpers import random_boxes

WEIGHT = np.array([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]])
SHAPE = jax.ShapeDtypeStruct((40, 2), jnp.float64)

FUNCTIONS = {
    "polynomial": lambda p: p[0] ** 3 - 2 * p[0] * p[1] ** 2 + p[1] ** 5 - 7,
    "negative power": lambda p: (p[0] + 9) ** -2 + 1 / (p[1] ** 2 + 0.3),
    "quotient": lambda p: p[0] / (4.5 + p[1]),
    "exponentials": lambda p: jnp.exp(-p[0]) + jnp.expm1(p[1]) - jnp.exp2(p[0] * p[1] / 9),
    "logarithms": lambda p: jnp.log(p[0] + 5) * jnp.log1p(p[1] ** 2),
    "waves": lambda p: jnp.sin(3 * p[0]) * jnp.cos(p[1] - 2 * p[0]),
    "hyperbolic": lambda p: jnp.sinh(p[0]) + jnp.cosh(p[1]) * jnp.tanh(p[0] - p[1]),
    "inverse": lambda p: jnp.arctan(p[0]) + jnp.arcsinh(p[1]) + jnp.arctanh(p[0] / 5),
    "roots": lambda p: jnp.sqrt(p[0] + 5) + jnp.cbrt(p[1]) + jax.lax.rsqrt(p[1] + 5),
    "real power": lambda p: (p[0] + 5) ** 2.3 + 1.7 ** p[1],
    "sigmoids": lambda p: jax.nn.sigmoid(p[0]) * jax.nn.softplus(p[1]) + jax.lax.erf(p[0]),
    "sizes": lambda p: jnp.abs(p[0]) + jnp.maximum(p[0], p[1]) - jnp.minimum(p[1], 0.3),
    "reductions": lambda p: jnp.max(p) + jnp.min(3 * p) + jnp.mean(jnp.tanh(p) ** 2),
    "product": lambda p: jnp.sum(jnp.tanh(p @ WEIGHT) @ WEIGHT.T),
    "both unknown": lambda p: p @ jnp.outer(p, jnp.sin(p)) @ p,
    "pieces": lambda p: jnp.concatenate([p[::-1], p[:1] * 2]).reshape(3, 1).T[0, 2] * p[1],
    "branch": lambda p: jnp.where(p[0] > 1, p[1], -(p[1] ** 2)),
    "branches": lambda p: jnp.where((p[0] > 0) & ~(p[1] <= 1), p[1], jnp.square(p[0])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("width", [0.0, 1e-6, 0.3, 1.0])
def test_bounds_hold_and_are_narrow_for_narrow_boxes(name, width):
    """The bounds hold the values at random points of the boxes."""
    function = FUNCTIONS[name]
    generator = np.random.default_rng(len(name))
    batched = jax.vmap(function)
    (bound,) = enclosure(batched, SHAPE)(given := random_boxes(generator, width))
    with jax.enable_x64(True):
        for _ in range(60):
            place = generator.uniform(given.low, given.high)
            value = np.asarray(batched(place))
            assert (bound.low <= value).all()
            assert (value <= bound.high).all()
    if width <= 1e-6:
        known = np.isfinite(bound.high)
        assert known.mean() > 0.9
        wide = (bound.high - bound.low)[known]
        assert (wide <= 1e-3 * (1 + abs(bound.low[known]))).all()


def test_across_a_kink_the_derivative_is_unbounded():
    """|x| has the derivatives -1 and 1 on the two sides of 0."""
    shape = jax.ShapeDtypeStruct((3,), jnp.float64)
    slope = enclosure(jax.vmap(jax.grad(jnp.abs)), shape)
    (bound,) = slope(Interval(np.array([-1.0, 0.5, -2.0]), np.array([1.0, 2.0, -1.0])))
    np.testing.assert_allclose(bound.low, [-np.inf, 1, -1], rtol=1e-15)
    np.testing.assert_allclose(bound.high, [np.inf, 1, -1], rtol=1e-15)


def test_a_quotient_through_zero_is_unbounded():
    shape = jax.ShapeDtypeStruct((2,), jnp.float64)
    (bound,) = enclosure(lambda x: 1 / x, shape)(Interval(np.array([-1.0, 1]), np.array([1.0, 2])))
    assert (bound.low[0], bound.high[0]) == (-np.inf, np.inf)
    assert 0.49 < bound.low[1] < 0.5 < 1 < bound.high[1] < 1.01


def test_a_table_read_at_an_uncertain_index_is_unbounded():
    """Its first and last entries do not bound those between."""
    table = np.array([0.0, 9.0, 1.0])

    def read(x):
        return jax.lax.dynamic_slice(table, (x.astype(int)[0],), (1,))

    shape = jax.ShapeDtypeStruct((1,), jnp.float64)
    (bound,) = enclosure(read, shape)(Interval(np.array([0.0]), np.array([2.0])))
    assert bound.low[0] <= 0
    assert bound.high[0] >= 9
    (sure,) = enclosure(read, shape)(Interval(np.array([1.2]), np.array([1.4])))
    assert (sure.low[0], sure.high[0]) == (9, 9)


def test_bounds_are_rounded_outward():
    """The bound of 0.1 + 0.2 holds the exact sum, which float64 does not."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 500)) * 10.0 ** generator.integers(-8, 8, (2, 500))
    shape = jax.ShapeDtypeStruct((500,), jnp.float64)
    for function, exact in (
        (lambda x, y: x + y, lambda x, y: x + y),
        (lambda x, y: x * y, lambda x, y: x * y),
        (lambda x, y: x / y, lambda x, y: x / y),
        (lambda x, y: x**3 - y, lambda x, y: x**3 - y),
    ):
        (bound,) = enclosure(function, shape, shape)(Interval(x, x), Interval(y, y))
        for low, high, p, q in zip(*bound, x, y, strict=True):
            true = exact(Fraction(p), Fraction(q))
            assert Fraction(low) <= true <= Fraction(high)


def test_the_bounds_of_a_long_sum_hold_the_exact_sum():
    x = np.random.default_rng(1).normal(size=5000) * 1e3
    shape = jax.ShapeDtypeStruct((5000,), jnp.float64)
    (bound,) = enclosure(jnp.sum, shape)(Interval(x, x))
    assert Fraction(float(bound.low)) <= sum(map(Fraction, x)) <= Fraction(float(bound.high))
    assert bound.high - bound.low < 1e-5


TABLE = np.array([1.0, -2.0, 5.0])
JUMPS = {
    "a comparison as a factor": lambda r, s: (r < 0) * 1.0 * s,
    "its conversion": lambda r, s: (r < 0).astype(float) * s,
    "a number as a truth value": lambda r, s: jnp.maximum(r, 0).astype(bool) * s,
    "a truth value as an integer": lambda r, s: (r < 0).astype(int).astype(float) * s,
    "truncation": lambda r, s: (2 * jnp.clip(r, -1, 1)).astype(int) * s,
    "a count": lambda r, s: jnp.sum(jnp.stack([r < 0, r < -1])) * s,
    "a mean of comparisons": lambda r, s: jnp.mean(jnp.stack([r < 0, r < 1]).astype(float)) * s,
    "a product of integers": lambda r, s: (
        jnp.stack([r < 0, r < 1]).astype(int) @ np.array([1, 2]) * s
    ),
    "integer arithmetic": lambda r, s: (3 - 2 * abs(-(r < 0).astype(int)) ** 2) * s,
    "bits": lambda r, s: ((r < 0).astype(int) & 1 | 2) * s,
    "any": lambda r, s: jnp.any(jnp.stack([r < 0, r < -1])) * s,
    "logic": lambda r, s: (~(r < 0) & (s > -9)) * s,
    "a table": lambda r, s: jnp.asarray(TABLE)[(r < 0).astype(int)] * s,
    "a table of integers": lambda r, s: jnp.array([3, 4])[(r < 0).astype(int)] * s,
    "a selected integer": lambda r, s: jnp.asarray(TABLE)[jnp.where(r < 0, 1, 2)] * s,
    "a selection by an integer": lambda r, s: jax.lax.select_n(
        (r < 0).astype(jnp.int32), s, -s, s**2
    ),
    "a power": lambda r, s: jax.lax.pow(2.0 + 0 * r, (r < 0).astype(int)) * s,
    "the largest": lambda r, s: jnp.max(jnp.stack([r, 0 * s])) + s,
    "a test for NaN": lambda r, s: jnp.isnan(jnp.log(r)) * s,
    "a test for infinity": lambda r, s: jnp.isfinite(jnp.log(r)) * s,
    "a branch": lambda r, s: jnp.where(r < 0, s, 2 * s),
    "a branch of comparisons": lambda r, s: jnp.where(r < 0, s > -9, s > 9) * s,
    "the Heaviside function": lambda r, s: jnp.heaviside(r, 0.5) * s,
}
BOX = jax.ShapeDtypeStruct((2,), jnp.float64)


@pytest.mark.parametrize("name", JUMPS)
def test_the_gradient_is_unbounded_across_a_jump(name):
    """In each function of r and s, something of integer or boolean type changes at r = 0."""
    gradient = jax.vmap(jax.grad(JUMPS[name], argnums=1))
    r, s = Interval(np.array([-0.7, 0.3]), np.array([0.7, 0.4])), np.array([1.1, 1.2])
    (bound,) = enclosure(gradient, BOX, BOX)(r, Interval(s, s + 0.01))
    assert (bound.low[0], bound.high[0]) == (-np.inf, np.inf)


@pytest.mark.parametrize("name", sorted(set(JUMPS) - {"the largest"}))
def test_the_gradient_is_bounded_beside_a_jump(name):
    """The counterpart: on one side of the jump the bounds are narrow and hold the value."""
    gradient = jax.vmap(jax.grad(JUMPS[name], argnums=1))
    s = np.array([1.1, 1.2])
    for r in (np.array([0.3, 0.1]), np.array([-0.4, -0.3])):
        (bound,) = enclosure(gradient, BOX, BOX)(Interval(r, r + 0.1), Interval(s, s + 0.01))
        with jax.enable_x64(True):
            value = np.asarray(gradient(r + 0.05, s + 0.005))
        if "test for" in name and (r < 0).all():
            continue  # log is unknown for negative numbers
        assert (bound.low <= value).all()
        assert (value <= bound.high).all()
        assert (bound.high - bound.low < 0.1).all()


def test_integers_out_of_range_are_unknown():
    """A large floating number as an integer depends on the processor; so does an infinite one."""
    shape = jax.ShapeDtypeStruct((4,), jnp.float64)
    converted = enclosure(lambda x: x.astype(jnp.int32), shape)
    low = np.array([-np.inf, 2.7, 0.5, -1.2])
    (bound,) = converted(Interval(low, np.array([np.inf, 3e9, 1.5, -1.1])))
    least, greatest = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    assert bound.low.tolist() == [least, least, 0, -1]
    assert bound.high.tolist() == [greatest, greatest, 1, -1]
    assert bound.low.dtype == np.int32
