"""Maxima over windows are those of the operation, to the bit, and so are their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.grid.affine import window_max

X = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype(np.float32)
X[0, 3, 4, 1], X[1, 0, 0, 2] = np.nan, -np.inf
# Windows, strides, padding, dilation of the windows and of the array.
CASES = {
    "pooling": ((1, 2, 2, 1), (1, 2, 2, 1), ((0, 0),) * 4, (1,) * 4, (1,) * 4),
    "overlapping": (
        (1, 3, 2, 1),
        (1, 2, 1, 1),
        ((0, 0), (1, 1), (0, 2), (0, 0)),
        (1,) * 4,
        (1,) * 4,
    ),
    "dilated": (
        (1, 2, 3, 2),
        (1, 3, 1, 1),
        ((1, 0), (0, 0), (2, 1), (0, 0)),
        (1, 3, 2, 1),
        (1,) * 4,
    ),
    "whole": ((1, 9, 8, 1), (1, 1, 1, 1), ((0, 0),) * 4, (1,) * 4, (1,) * 4),
    "larger than the array": ((1, 10, 2, 1), (1, 1, 1, 1), ((0, 0),) * 4, (1,) * 4, (1,) * 4),
    "of a dilated array": ((1, 2, 2, 1), (1, 2, 2, 1), ((0, 0),) * 4, (1,) * 4, (1, 2, 1, 1)),
}


def params(window, strides, padding, dilation, base):
    names = "window_dimensions", "window_strides", "padding", "window_dilation", "base_dilation"
    return dict(zip(names, (window, strides, padding, dilation, base), strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("case", CASES)
def test_values(case, dtype):
    x = X if dtype is np.float32 else np.nan_to_num(10 * X, neginf=-99).astype(dtype)
    given = params(*CASES[case])
    np.testing.assert_array_equal(
        window_max(x, **given), jax.lax.reduce_window_max_p.bind(x, **given)
    )


def test_windows_of_booleans():
    """Any of a window's values, which a loss may ask for of a mask."""
    given = params(*CASES["pooling"])
    found = window_max(jnp.asarray(X > 1), **given)
    np.testing.assert_array_equal(found, jax.lax.reduce_window_max_p.bind(X, **given) > 1)

    def loss(weights, mask):
        pooled = jax.lax.reduce_window(
            mask, False, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
        return weights.w1 * weights.w2 * jnp.mean(pooled)

    surface = jxs.landscape(loss, jnp.asarray(X > 1), w1=(1, 2, 3), w2=(1, 3, 2))
    np.testing.assert_allclose(
        surface.loss, np.outer([1, 1.5, 2], [1, 3]) * found.mean(), rtol=1e-6
    )


def test_derivatives_where_values_are_equal():
    """Of equals the first counts: a maximum of slices would give each of two its half."""
    given = params(*CASES["pooling"])
    x = jnp.asarray(np.round(np.nan_to_num(X, neginf=-9.0)))
    weight = jnp.asarray(X[:, :4, :4] ** 2)

    def gradient(pool):
        return jax.grad(lambda x: jnp.nansum(weight * pool(x)))(x)

    expected = gradient(lambda x: jax.lax.reduce_window_max_p.bind(x, **given))
    np.testing.assert_array_equal(gradient(lambda x: window_max(x, **given)), expected)


def test_pooling_takes_no_windows():
    """The operation that XLA goes through value by value is left only where it is not replaced."""
    for case in CASES:
        traced = str(jax.make_jaxpr(lambda x, case=case: window_max(x, **params(*CASES[case])))(X))
        kept = "reduce_window_max" in traced.replace("jvp_jaxpr", "").split("jvp")[0]
        assert kept == (case in ("whole", "larger than the array", "of a dilated array")), case
