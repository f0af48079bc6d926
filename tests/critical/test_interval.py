"""Intervals are rounded outward."""

from fractions import Fraction

import numpy as np

from jaxscape.critical.interval import Interval, hull, point, round_outward


def test_a_point_is_an_interval_of_one_array():
    assert point(3.0).is_point
    assert point([1, 2]).low.tolist() == [1, 2]
    assert not Interval(np.array(3.0), np.array(3.0)).is_point


def test_ends_are_moved_outward_by_at_least_their_units():
    generator = np.random.default_rng(0)
    low = generator.normal(size=200) * 10.0 ** generator.integers(-300, 300, 200)
    high = low + abs(low) * generator.uniform(0, 2, 200)
    for units in (1, 8):
        wide = round_outward(low, high, units)
        for before, after, sign in ((low, wide.low, -1), (high, wide.high, 1)):
            moved = [sign * (Fraction(q) - Fraction(p)) for p, q in zip(before, after, strict=True)]
            # The result is rounded by half a unit in the last place at most.
            least = units * np.spacing(abs(before)) / 2
            assert all(step >= Fraction(one) for step, one in zip(moved, least, strict=True))


def test_an_end_that_is_not_a_number_is_unknown():
    wide = round_outward(np.array([np.nan, 1, 0]), np.array([1, np.nan, 0]))
    np.testing.assert_array_equal(wide.low[:2], -np.inf)
    np.testing.assert_array_equal(wide.high[:2], np.inf)
    assert wide.low[2] < 0 < wide.high[2]


def test_the_hull_holds_all_numbers():
    ends = np.random.default_rng(1).normal(size=(4, 30))
    low, high = hull(list(ends))
    assert (low < ends.min(axis=0)).all()
    assert (high > ends.max(axis=0)).all()
    np.testing.assert_allclose([low, high], [ends.min(axis=0), ends.max(axis=0)], rtol=1e-15)
    assert hull([np.array(1.0), np.array(np.nan)]) == (-np.inf, np.inf)
