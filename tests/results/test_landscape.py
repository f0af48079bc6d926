"""Landscapes, axes and marks: derived values and representations."""

import jax
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.results import landscape as landscape_module
from jaxscape.results.landscape import Cell, Mark, check_marks, check_units


def make_landscape(loss):
    loss = np.asarray(loss, float)
    a, b = (np.linspace(-1, 2, n) for n in loss.shape)
    axes = jxs.Axis(a, "w1"), jxs.Axis(b, "w2")
    return jxs.Landscape(loss, *axes, loss_name="loss", method="dense")


def random_loss(n1=7, n2=4):
    return np.random.default_rng(n1 * n2).normal(size=(n1, n2))


@pytest.mark.parametrize("cells", [1, 4, 9, 2**24])
def test_the_extremes_do_not_depend_on_the_rows_read_at_a_time(cells, monkeypatch):
    monkeypatch.setattr(landscape_module, "_CELLS_AT_ONCE", cells)
    loss = random_loss()
    loss[2, 3], loss[2, 1], loss[5, 0] = np.nan, np.inf, -np.inf
    surface = make_landscape(loss)
    finite = np.where(np.isfinite(loss), loss, np.nan)
    i, j = np.unravel_index(np.nanargmin(finite), loss.shape)
    a, b = surface.a.values, surface.b.values
    assert surface.lowest == Cell(i, j, a[i], b[j], np.nanmin(finite))
    assert surface.highest == np.nanmax(finite)
    assert surface.nonfinite_count == 3
    assert surface.first_nonfinite[:2] == (2, 1)
    assert surface.first_nonfinite.loss == np.inf
    np.testing.assert_array_equal(surface.nonfinite, ~np.isfinite(loss))
    assert "3 cells not finite" in repr(surface)


def test_the_first_of_equal_cells_is_the_lowest(monkeypatch):
    loss = np.ones((5, 3))
    loss[1, 2] = loss[3, 0] = 0
    for cells in (3, 2**24):
        monkeypatch.setattr(landscape_module, "_CELLS_AT_ONCE", cells)
        assert make_landscape(loss).lowest[:2] == (1, 2)


@pytest.mark.parametrize(
    ("cell", "on_edge"),
    [((0, 2), True), ((4, 1), True), ((2, 0), True), ((2, 3), True), ((2, 1), False)],
)
def test_the_lowest_cell_may_be_on_the_edge(cell, on_edge):
    loss = np.ones((5, 4))
    loss[cell] = 0
    surface = make_landscape(loss)
    assert surface.lowest_is_on_edge == on_edge
    assert ("(on the edge)" if on_edge else "(inside)") in repr(surface)


def test_without_a_finite_loss_there_are_no_extremes():
    surface = make_landscape(np.full((2, 3), np.nan))
    assert surface.lowest is None
    assert surface.highest is None
    assert not surface.lowest_is_on_edge
    assert "no finite loss" in repr(surface)
    assert make_landscape(np.ones((2, 3))).first_nonfinite is None


def test_a_landscape_can_be_traced_and_printed():
    def shape(surface):
        assert repr(surface) == "Landscape(w1: 7 × w2: 4, dense, float32) traced"
        assert repr(surface.a) == "Axis(w1: 7 traced values)"
        return surface.loss

    surface = make_landscape(random_loss())
    assert jax.eval_shape(shape, surface).shape == surface.shape == (7, 4)


def test_the_title_of_an_axis_has_its_unit():
    assert jxs.Axis(np.arange(2.0), "a").title == "a"
    assert jxs.Axis(np.arange(2.0), "a", "filter-normalized").title == "a (filter-normalized)"


def test_marks_become_python_numbers():
    (mark,) = check_marks([(np.float32(0.5), 2, "end")])
    assert mark == Mark(0.5, 2.0, "end")
    assert (type(mark.a), type(mark.b)) == (float, float)
    assert check_marks(()) == ()


@pytest.mark.parametrize(
    ("marks", "error", "message"),
    [
        ("end", TypeError, r"marks: expected a sequence of \(a, b, name\), got 'end'"),
        (3, TypeError, "marks: expected a sequence"),
        ([(0.0, "end")], TypeError, r"marks: expected \(a, b, name\), two numbers and a string"),
        ([(0.0, np.ones(2), "end")], TypeError, "two numbers and a string"),
        ([(0.0, np.nan, "end")], ValueError, "marks: expected finite a and b"),
    ],
)
def test_other_marks_raise_an_error(marks, error, message):
    with pytest.raises(error, match=message):
        check_marks(marks)


def test_units_are_two_strings():
    assert check_units(["a", "b"]) == ("a", "b")
    for units in ("ab", ("a",), ("a", 1), None):
        with pytest.raises(TypeError, match="units: expected two strings"):
            check_units(units)
