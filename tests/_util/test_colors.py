"""Colors of categories are distinguishable, also from white, black and gray backgrounds."""

import itertools

import numpy as np

from jaxscape._util import colors

PALETTE = {name: value for name, value in vars(colors).items() if name.isupper()}


def channels(color):
    return np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])


def test_colors_differ_from_each_other():
    for (one, first), (other, second) in itertools.combinations(PALETTE.items(), 2):
        assert abs(channels(first) - channels(second)).max() >= 40, (one, other)


def test_colors_differ_from_white_and_black():
    for name, color in PALETTE.items():
        assert abs(channels(color) - 255).max() >= 40, name
        assert channels(color).max() >= 40, name
