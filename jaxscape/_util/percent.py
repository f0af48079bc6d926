"""Percentages in sentences."""

import math


def percent(fraction: float) -> str:
    """Format a fraction in percent, with two digits, or more from 99.5 % on.

    Only a whole is 100 %.
    """
    number = 100 * fraction
    if not 99.5 <= number < 1e6:
        return f"{number:.2g} %"
    return f"{math.floor(100 * number) / 100:.4g} %" if number < 100 else f"{number:.0f} %"
