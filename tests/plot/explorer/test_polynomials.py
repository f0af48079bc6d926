"""Piecewise polynomials of the squared error, compared with sums over the samples."""

import numpy as np
import pytest

from jaxscape.plot.explorer.polynomials import DEGREE, fit_polynomials
from tests.plot.explorer.helpers import loss_and_derivatives, make_points, make_samples


@pytest.mark.parametrize(
    "kind", ["heavy tails", "many sizes", "two sizes", "extreme sizes", "perfect fit"]
)
def test_the_error_is_that_of_the_sums(kind):
    x, y, weight = make_samples(kind)
    w1, w2 = make_points(x, 500)
    expected, *_ = loss_and_derivatives(x, y, weight, w1, w2)
    error = fit_polynomials(x, y, weight).error(w1, w2)
    unit = expected + np.average(y**2, weights=weight)
    # Degree 16 truncates at about 1e-15; the sums have rounding errors of some 1e-15, too.
    assert (abs(error - expected) / unit).max() < 1e-13


def test_samples_without_weights_count_equally():
    x, y, _ = make_samples("perfect fit")
    points = make_points(x, 20)
    equal, unweighted = fit_polynomials(x, y, np.full(len(x), 3.0)), fit_polynomials(x, y)
    np.testing.assert_allclose(unweighted.error(*points), equal.error(*points), rtol=1e-12)


def test_samples_of_weight_zero_have_no_effect():
    x, y, weight = make_samples("heavy tails")
    points = make_points(x, 20)
    ignored = fit_polynomials(np.append(x, 1e5), np.append(y, 7.0), np.append(weight, 0.0))
    np.testing.assert_array_equal(
        ignored.error(*points), fit_polynomials(x, y, weight).error(*points)
    )


def test_with_all_inputs_zero_the_error_is_constant():
    polynomials = fit_polynomials(np.zeros(3), np.array([1.0, 2.0, 4.0]))
    error = polynomials.error(np.array([0.0, 5.0]), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(error, 7.0)


def test_floor_curvature_and_center_are_even_and_constant_beyond_the_last_interval():
    x, y, weight = make_samples("two sizes")
    polynomials = fit_polynomials(x, y, weight)
    w1 = np.array([0.3, 7.0, 2 * polynomials.ends[-1], np.inf])
    values = polynomials.evaluate(w1)
    np.testing.assert_array_equal(polynomials.evaluate(-w1), values)
    np.testing.assert_array_equal(values[:, 2], polynomials.limits)
    np.testing.assert_array_equal(values[:, 3], polynomials.limits)


def test_the_number_of_intervals_grows_with_the_logarithm_of_the_range_of_inputs():
    x = np.array([1e-3, 1.0, -20.0])
    polynomials = fit_polynomials(x, np.ones(3))
    count = len(polynomials.ends)
    assert polynomials.coefficients.shape == (count, 3, DEGREE + 1)
    assert count <= 2 * np.log2(160 * 20 / 1e-3)
    np.testing.assert_allclose(polynomials.ends[1:] / polynomials.ends[:-1], np.sqrt(2))
