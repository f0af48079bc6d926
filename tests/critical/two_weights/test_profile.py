"""Enclosures of the two equations for stationary points, against direct evaluation."""

import itertools

import numpy as np
import pytest

from jaxscape.critical.two_weights import profile
from tests.critical.two_weights.helpers import everywhere, random_data


def test_samples_of_equal_size_are_one():
    """tanh is odd: (-x, y) counts as (x, -y). Inputs of 0 count in the mean square only."""
    x, y = np.array([2.0, -1, -2, 0, 1]), np.array([3.0, 1, 4, 5, 1])
    samples = profile.group_samples(x, y, np.array([1.0, 2, 1, 1, 2]))
    np.testing.assert_array_equal(samples.x, [1, 2])
    np.testing.assert_allclose(samples.n, [4 / 7, 2 / 7])
    np.testing.assert_allclose(samples.y, [0, -1 / 7], atol=0)
    np.testing.assert_allclose(samples.mean_square, (9 + 2 + 16 + 25 + 2) / 7)
    np.testing.assert_allclose([samples.mean_xy, samples.sum_y], [-2 / 7, -1 / 7])


def test_sums_within_rounding_are_zero():
    third = np.array([1 / 3, 1 / 3, -2 / 3])
    samples = profile.group_samples(np.array([1.0, 2, 3]), third, np.ones(3))
    assert samples.sum_y == 0
    assert samples.mean_xy != 0


def direct(x, y, w1):
    """Evaluate E and B of n samples at points (b,)."""
    z = w1[:, None] * x
    h = np.tanh(z)
    kappa = 2 * z / np.sinh(2 * z)
    a, a1, b, b1 = h * h, h * h * kappa, h * y, h * y * kappa
    return (a1.mean(1) * b.mean(1) - a.mean(1) * b1.mean(1)), b.mean(1)


def test_values_have_the_signs_of_the_equations():
    """Both equations are divided by positive functions."""
    generator = np.random.default_rng(5)
    x, y = generator.normal(size=(2, 9))
    samples = profile.group_samples(x, y, np.ones(9))
    w1 = np.geomspace(0.01, 20, 300)
    equations = profile.ProfileEquation(samples), profile.AxisEquation(samples)
    for equation, truth in zip(equations, direct(x, y, w1), strict=True):
        low, high = equation.values(w1)
        assert (low <= high).all()
        certain = abs(truth) > 1e-9 * abs(truth).max()
        np.testing.assert_array_equal(np.sign(low)[certain], np.sign(truth)[certain])
        np.testing.assert_array_equal(np.sign(high)[certain], np.sign(truth)[certain])


def test_bounds_hold_inside_a_subinterval():
    """Differences of the values lie within the bounds on the derivative, in both forms."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=17) * 3, generator.normal(size=17)
    samples = profile.group_samples(x, y, np.full(17, 1 / 17))
    balanced = profile.group_samples(
        x, y - np.sign(x) * np.mean(y * np.sign(x)), np.full(17, 1 / 17)
    )
    assert samples.sum_y
    assert not balanced.sum_y
    for equation in (
        profile.ProfileEquation(samples),
        profile.AxisEquation(samples),
        profile.AxisEquation(balanced),
    ):
        p = 10 ** generator.uniform(-3, 1.3, 200)
        # Use subintervals on one side of the change of form, so that all values have one form.
        q = p * 10 ** generator.uniform(0, 0.3, 200)
        small = 0.6 / np.average(samples.x, weights=samples.n)
        one_form = (q < small) | (p >= small)
        p, q = p[one_form], q[one_form]
        low, high = equation.derivatives(p, q)
        for t in np.linspace(0.02, 0.98, 13):
            w1, step = p * (q / p) ** t, 1e-5
            ahead, behind = (
                np.mean(equation.values(w1 * np.exp(s * step)), axis=0) for s in (1, -1)
            )
            slope = (ahead - behind) / (2 * step)
            rounding = 1e-6 * np.maximum(abs(low), abs(high))
            assert (slope >= low - rounding).all()
            assert (slope <= high + rounding).all()


@pytest.mark.parametrize("kind", [0, 4])
def test_no_root_is_denied_near_zero_or_far_away(kind):
    """Wherever a root is excluded, a scan finds no change of sign."""
    generator = np.random.default_rng(6)
    w1 = np.geomspace(1e-4, 1e3, 4000)
    excluded = 0
    for _ in range(8):
        x, y = random_data(generator, kind)
        samples = profile.group_samples(x, y, np.ones(len(x)))
        with np.errstate(over="ignore"):
            scans = direct(x, y, w1)
        equations = profile.ProfileEquation(samples), profile.AxisEquation(samples)
        for (equation, truth), end in itertools.product(
            zip(equations, scans, strict=True), (0.01, 0.5, 5)
        ):
            noisy = abs(truth) <= 1e-12 * abs(truth).max()
            for may_vanish, part in (
                (equation.may_vanish_below(end), w1 <= end),
                (equation.may_vanish_above(end), w1 > end),
            ):
                if not may_vanish:
                    excluded += 1
                    assert len(set(np.sign(truth[part & ~noisy]))) <= 1
    assert excluded > 10


def test_bounds_that_are_too_narrow_miss_roots(monkeypatch):
    """The proof depends on the bounds on the derivative: with a tenth of them, roots are lost."""
    generator = np.random.default_rng(4)
    sets = [random_data(generator, 4) for _ in range(20)]

    def count():
        return sum(len(everywhere(x, y).points) for x, y in sets)

    all_points = count()
    true_derivatives = profile.ProfileEquation.derivatives

    def too_narrow(self, p, q):
        low, high = true_derivatives(self, p, q)
        return low / 10, high / 10

    monkeypatch.setattr(profile.ProfileEquation, "derivatives", too_narrow)
    assert count() < all_points


def test_interval_arithmetic_holds_random_numbers():
    generator = np.random.default_rng(7)
    ends = np.sort(generator.normal(size=(2, 2, 50)), axis=1)
    p, q = (generator.uniform(*pair) for pair in ends)
    for found, value in (
        (profile.times(*map(tuple, ends)), p * q),
        (profile.minus(*map(tuple, ends)), p - q),
    ):
        assert (found[0] <= value).all()
        assert (value <= found[1]).all()
