"""Axes from ranges and arrays, in the dtype of the computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.grid.axes import computed_dtype, make_axes, make_axis
from jaxscape.planes.plane import weight_plane

DATA = jxs.Dataset(np.arange(3, dtype=np.float32), np.ones(3, np.float32))


def test_a_range_has_both_ends():
    axis = make_axis("w1", (-1.5, 2, 8), np.float32, "distance")
    np.testing.assert_array_equal(axis.values, np.linspace(-1.5, 2, 8, dtype=np.float32))
    assert axis.values.dtype == np.float32
    assert (axis.name, axis.unit) == ("w1", "distance")


def test_the_ends_may_be_numbers_of_any_library():
    first = make_axis("w1", (jnp.float32(-1), np.float64(1), np.int64(3)), np.float32)
    np.testing.assert_array_equal(first.values, [-1, 0, 1])
    assert len(make_axis("w2", (0, 1, jnp.int32(4)), np.float32)) == 4


@pytest.mark.parametrize("library", [np, jnp])
def test_an_array_of_uneven_values_is_kept(library):
    values = library.asarray([-1.0, -0.9, 0.0, 3.0])
    np.testing.assert_array_equal(
        make_axis("w1", values, np.float32).values, np.float32([-1, -0.9, 0, 3])
    )
    whole = make_axis("w1", library.arange(3), np.float32).values
    assert whole.dtype == np.float32


def test_axes_have_the_names_and_units_of_the_plane():
    plane = jxs.Plane([0.5, 1.0], [1.0, None], [None, 1.0], ("s", "t"), ("first unit", ""))
    first, second = make_axes(plane, None, {"t": (0, 1, 2), "s": (0, 2, 3)})
    assert (first.name, first.unit, len(first)) == ("s", "first unit", 3)
    assert (second.name, second.unit, len(second)) == ("t", "", 2)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((1, 1, 3), ValueError, "w1: expected finite lo < hi, got 1 and 1"),
        ((2, 1, 3), ValueError, "w1: expected finite lo < hi, got 2 and 1"),
        ((0, np.inf, 3), ValueError, "w1: expected finite"),
        ((np.nan, 1, 3), ValueError, "w1: expected finite"),
        ((0, 1, 1), ValueError, "w1: expected at least 2 values, got 1"),
        ((0, 1, 2.5), TypeError, "w1: expected a whole number n"),
        ((0, 1, True), TypeError, "w1: expected a whole number n"),
        ((0, 1), ValueError, r"w1: expected a tuple \(lo, hi, n\) or"),
        (("0", 1, 3), TypeError, "w1: expected numbers lo and hi"),
        (np.array([1.0, 1.0, 2.0]), ValueError, "increase in float32, got 1.0 and"),
        (np.array([2.0, 1.0]), ValueError, "got 2.0 and then 1.0 at index 1"),
        (np.array([0.0, np.nan]), ValueError, "w1: expected finite float32"),
        (np.array([0.5]), ValueError, "w1: expected at least 2 values, got 1"),
        (np.array([[0.0, 1.0]]), ValueError, "w1: expected .* 1-D array"),
        ([-1, 1, 50], ValueError, r"w1: expected .* got \[-1, 1, 50\]"),
        (np.array([1j, 2]), ValueError, "w1: expected .* increasing"),
        ((1, 1 + 1e-6, 50), ValueError, "w1: .*increase in float32"),
    ],
)
def test_bad_values_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        jxs.landscape(jxs.squared_error, DATA, w1=given, w2=(0, 1, 3))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"w1": (0, 1, 3)}, "axes: expected w1 and w2, got w1"),
        ({}, "axes: expected w1 and w2, got none"),
        ({"a": (0, 1, 3), "w2": (0, 1, 3)}, "expected w1 and w2, got a, w2"),
    ],
)
def test_missing_and_unknown_axes_are_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        make_axes(weight_plane(), DATA, axes)


def test_floating_arrays_decide_the_dtype():
    plane = weight_plane()
    assert computed_dtype(plane, DATA) == np.float32
    assert computed_dtype(plane, (jnp.ones(2, jnp.bfloat16), np.arange(3))) == jnp.bfloat16
    # Without x64, JAX converts float64 arrays to float32.
    assert computed_dtype(plane, np.ones(2)) == computed_dtype(plane, None) == np.float32


def test_the_dtype_is_float64_only_with_float64_arrays_or_none(x64):
    plane = weight_plane()
    assert computed_dtype(plane, np.ones(2)) == computed_dtype(plane, None) == np.float64
    assert computed_dtype(plane, DATA) == np.float32
    array = jax.ShapeDtypeStruct((3,), np.float16)
    assert computed_dtype(plane, (array, DATA)) == np.float32
