"""Fractions in percent."""

import pytest

from jaxscape._util.percent import percent


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0, "0 %"),
        (1.234e-5, "0.0012 %"),
        (0.00156, "0.16 %"),
        (0.5, "50 %"),
        (0.994, "99 %"),
        (0.9951, "99.51 %"),
        (0.9999999, "99.99 %"),
        (1.0, "100 %"),
        (2.5, "250 %"),
        (99.6, "9960 %"),
        (3.1e5, "3.1e+07 %"),
    ],
)
def test_percentages_have_no_powers_of_ten_around_one_hundred(fraction, text):
    assert percent(fraction) == text
