"""Warnings point to the line of user code that called the library."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape._util.blocks import run_blocks
from jaxscape._util.warnings import InterruptedWarning, NonFiniteWarning, warn


def test_a_warning_points_to_the_line_that_called_the_library():
    root = jxs.Function(lambda w1, w2: np.nan * w1 * w2)
    with pytest.warns(NonFiniteWarning) as caught:
        jxs.landscape(root, None, w1=(-1, 1, 5), w2=(0, 1, 4))
    assert Path(caught[0].filename) == Path(__file__)


def test_a_warning_from_user_code_called_by_the_library_points_to_the_user_code():
    def compute(block):
        warn("slow", UserWarning)
        return block

    with pytest.warns(UserWarning, match="slow") as caught:
        run_blocks(
            [1], compute, lambda *_: 1, total=1, unit="rows", threads=0, interrupted=lambda: None
        )
    line = compute.__code__.co_firstlineno + 1
    assert (Path(caught[0].filename), caught[0].lineno) == (Path(__file__), line)


def test_the_category_can_be_filtered():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", InterruptedWarning)
        warn("interrupted", InterruptedWarning)
        with pytest.raises(NonFiniteWarning, match="3 cells"):
            warn("3 cells", NonFiniteWarning)
