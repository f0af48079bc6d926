"""The kinds of critical points, boxes, and the printed form of a result."""

import numpy as np
import pytest

from jaxscape.critical.points import (
    CriticalPoint,
    CriticalPoints,
    format_number,
    in_box,
    kind_of,
    on_boundary,
)

BOX = ((-2.0, 2.0), (0.0, 3.0))


def result(count, completeness):
    points = tuple(
        CriticalPoint(
            a=k / 7,
            b=1.0,
            kind="saddle" if k % 2 else "minimum",
            loss=1e-15 + k,
            eigenvalues=np.array([-1.0, 2.5]),
            residual=0.0,
            turns=1,
            radius=0.1,
            certified=k == 0,
            on_boundary=False,
        )
        for k in range(count)
    )
    return CriticalPoints(points, ("s", "t"), BOX, completeness, 1, (), ("a note",), {})


@pytest.mark.parametrize(
    ("eigenvalues", "kind"),
    [
        ((1e-3, 1e3), "minimum"),
        ((-1e3, -1e-3), "maximum"),
        ((-1e-3, 1e3), "saddle"),
        ((1e-10, 1.0), "degenerate"),
        ((-1.0, -1e-10), "degenerate"),
        ((0.0, 0.0), "degenerate"),
    ],
)
def test_the_kind_follows_from_the_signs_of_the_eigenvalues(eigenvalues, kind):
    assert kind_of(np.array(eigenvalues)) == kind


def test_the_boundary_belongs_to_the_box():
    assert in_box(BOX, -2.0, 3.0)
    assert not in_box(BOX, -2.0, 3.1)
    assert on_boundary(BOX, 1.0, 1e-13)
    assert on_boundary(BOX, 2 - 1e-13, 1.0)
    assert not on_boundary(BOX, 1.0, 1e-9)


def test_rounding_errors_are_printed_as_zero():
    assert format_number(-3e-14) == "0"
    assert format_number(1234.5678) == "1234.57"
    assert format_number(1234.5678, 2) == "1.2e+03"


@pytest.mark.parametrize(
    ("completeness", "complete", "words"),
    [
        ("proved", True, "proved to be all in s in [-2, 2], t in [0, 3]"),
        ("index", True, "consistent with the winding number of the gradient"),
        ("incomplete", False, "possibly not all"),
    ],
)
def test_a_result_prints_its_completeness(completeness, complete, words):
    found = result(1, completeness)
    assert found.complete is complete
    first, point, note = repr(found).split("\n")
    assert first.startswith("1 critical point, ")
    assert words in first
    assert point == "  minimum at s = 0, t = 1, loss 0"
    assert note == "  a note"


def test_a_result_prints_at_most_twenty_points():
    lines = repr(result(23, "proved")).split("\n")
    assert lines[0].startswith("23 critical points, ")
    assert len(lines) == 1 + 20 + 2
    assert lines[21] == "  and 3 more"


def test_a_notebook_shows_a_table_of_the_points():
    found = result(2, "index")
    shown = found._repr_html_()
    for text in ("<th>s</th>", "<td>saddle</td>", "<td>-1, 2.5</td>", "<td>no</td>", "a note"):
        assert text in shown
    assert [point.kind for point in found.of_kind("saddle")] == ["saddle"]
