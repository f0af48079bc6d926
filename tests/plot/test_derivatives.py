"""Figures of derivatives: arrows go down, the border parts the signs, colors are in place."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.grid.derivatives import derivatives
from jaxscape.plot.derivatives import curvature, slopes, zero_line
from tests.plot.helpers import make_path

DRAW = pytest.mark.parametrize("draw", [slopes, curvature])


def hills(a, b):
    """Neither symmetric nor square: curved downward in parts, by other amounts in a and b."""
    return jnp.sin(2 * a + 0.0317 * b) + 0.002 * b**2 + 1e-5 * b**3


def made(function=hills, w1=(-2.0, 1.5, 61), w2=(-30.0, 40.0, 47)):
    return derivatives(jxs.Function(function), None, w1=w1, w2=w2)


def smaller(found):
    return np.asarray(found.eigenvalues)[..., 0]


def arrows(figure):
    """Tails and heads, (n, 2), as they are drawn, and the color of each."""
    tails, heads, colors = [], [], []
    for trace in figure.data:
        if trace.type == "scatter" and trace.showlegend and "downhill" in trace.name:
            points = np.stack([trace.x, trace.y], axis=1).reshape(-1, 3, 2)
            assert np.isnan(points[:, 2]).all()
            assert trace.marker.angleref == "previous"
            np.testing.assert_array_equal(np.reshape(trace.marker.size, (-1, 3))[:, [0, 2]], 0)
            tails.append(points[:, 0])
            heads.append(points[:, 1])
            colors += [trace.marker.color] * len(points)
    return np.concatenate(tails), np.concatenate(heads), np.array(colors)


def test_a_step_along_an_arrow_lowers_the_loss():
    """The axes differ in scale by 20; and no other direction lowers it faster."""
    found = made()
    tails, heads, _ = arrows(slopes(found))
    assert len(tails) == 400
    way = (heads - tails) / np.linalg.norm(heads - tails, axis=1, keepdims=True)

    def after(turn, step=1e-6):
        turned = way @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        with jax.enable_x64(True):
            return np.asarray(hills(*(tails + step * turned).T))

    assert (after(0) < after(0, step=0)).all()
    for turn in (-0.2, 0.2):
        assert (after(0) < after(turn)).all()


def test_arrows_keep_to_their_places_and_are_longer_where_it_is_steeper():
    found = made(lambda a, b: (a - 0.3) ** 2 + 1e-4 * b**2)
    tails, heads, _ = arrows(slopes(found))
    # On the screen, where both axes are as long.
    length = np.linalg.norm((heads - tails) / [3.5 / 20, 70 / 20], axis=1)
    assert (length <= 0.851).all()
    assert (length >= 0.349).all()
    steep = np.hypot(2 * (tails[:, 0] - 0.3), 2e-4 * tails[:, 1])
    assert (np.diff(length[np.argsort(steep)]) > -1e-6).all()
    assert np.ptp(length) > 0.4


def test_arrows_are_of_two_colors():
    """By the sign of the smaller eigenvalue where they start."""
    found = made()
    tails, _, colors = arrows(slopes(found))
    i, j = (np.searchsorted(axis.values, tails[:, k]) for k, axis in enumerate((found.a, found.b)))
    negative = smaller(found)[i, j] < 0
    assert 0 < negative.sum() < 400
    assert (negative == (colors != "white")).all()


def test_flat_and_missing_cells_have_no_arrow():
    with pytest.warns(jxs.NonFiniteWarning):
        found = made(lambda a, b: jnp.where(a < 0, jnp.nan, jnp.where(b < 0, 1.0, b**2)))
    figure = slopes(found)
    tails, heads, _ = arrows(figure)
    assert (tails >= 0).all()
    assert np.isfinite(heads).all()
    assert "cells are not finite" in figure.layout.title.subtitle.text
    flat = slopes(made(lambda a, b: 0 * a * b))
    assert not any("downhill" in (trace.name or "") for trace in flat.data)


def test_the_border_from_above_is_the_contour_of_the_smaller_eigenvalue_at_zero():
    found = made()
    figure = slopes(found)
    shown = [trace for trace in figure.data if trace.type == "contour" and trace.showlegend]
    [border] = shown
    assert (border.contours.start, border.contours.end) == (0, 0)
    np.testing.assert_array_equal(border.z, smaller(found).T)
    np.testing.assert_array_equal(border.x, found.a.values)
    assert border.name == "border of negative curvature"
    assert figure.layout.title.text == "Slopes"


def border_of(figure):
    [trace] = [t for t in figure.data if t.type == "scatter3d" and "border" in (t.name or "")]
    return np.stack([trace.x, trace.y, trace.z], axis=1).reshape(-1, 3, 3)


def test_the_border_on_the_surface_parts_the_signs():
    """A circle of radius 1 is the line where a² + b² - 1 is 0: known without marching."""
    a, b = np.linspace(-1.31, 1.7, 41), np.linspace(-1.5, 1.23, 37)
    field = np.add.outer(a**2, b**2) - 1
    pieces = zero_line(field, a, b, 3 * np.add.outer(a, -b)).reshape(-1, 3, 3)
    assert np.isnan(pieces[:, 2]).all()
    ends = pieces[:, :2]
    np.testing.assert_allclose(np.hypot(ends[..., 0], ends[..., 1]), 1, atol=2e-3)
    np.testing.assert_allclose(ends[..., 2], 3 * (ends[..., 0] - ends[..., 1]), atol=1e-12)
    # Closed: every end is the end of two pieces; and the lengths sum to that of the circle.
    places, counts = np.unique(ends[..., :2].reshape(-1, 2).round(9), axis=0, return_counts=True)
    assert (counts == 2).all()
    assert len(places) == len(pieces)
    length = np.linalg.norm(np.diff(ends[..., :2], axis=1), axis=-1).sum()
    assert length == pytest.approx(2 * np.pi, rel=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("middle", [0.5, -0.5])
def test_a_cell_crossed_on_all_sides_is_cut_by_its_middle(sign, middle):
    """Two corners are cut off: those whose sign is not that of the mean."""
    field = sign * np.array([[1.0, -1.0], [-1.0, 1.0]]) + middle
    unit = np.array([0.0, 1.0])
    pieces = zero_line(field, unit, unit, field).reshape(2, 3, 3)[:, :2, :2]
    halves = np.add.outer(unit, unit) % 2 == (0 if sign * middle < 0 else 1)
    corners = np.argwhere(halves)
    distance = abs(pieces[:, None] - corners[None, :, None]).max(axis=(2, 3))
    np.testing.assert_allclose(np.sort(distance.min(axis=1)), 0.25)
    assert len(set(distance.argmin(axis=1))) == 2


def test_the_border_lies_between_nodes_of_both_signs_a_hair_above_the_surface(x64):
    found = made()
    pieces = border_of(curvature(found))
    sides = []
    for k, axis in enumerate((found.a, found.b)):
        place = (pieces[:, :2, k] - axis.values[0]) / np.ptp(axis.values) * (len(axis) - 1)
        sides.append([np.floor(place + 1e-9).astype(int), np.ceil(place - 1e-9).astype(int)])
    # Every end is on a side of a cell: between two neighbors along one axis.
    first, last = (smaller(found)[rows, columns] for rows, columns in zip(*sides, strict=True))
    assert (sum(high - low for low, high in sides) == 1).all()
    assert ((first < 0) != (last < 0)).all()
    a, b, height = pieces[:, :2].reshape(-1, 3).T
    rise = height - np.asarray(hills(a, b))
    assert np.median(rise) == pytest.approx(0.006 * np.ptp(found.loss), rel=0.1)


def test_colors_and_hover_have_the_orientation_of_the_surface():
    found = made()
    figure = curvature(found)
    surface = figure.data[0]
    assert np.shape(surface.z) == np.shape(surface.surfacecolor) == (47, 61)
    for j, i in [(0, 0), (46, 0), (0, 60), (13, 31)]:
        assert surface.x[i] == found.a.values[i]
        assert surface.y[j] == found.b.values[j]
        assert surface.z[j][i] == found.loss[i, j]
        assert surface.surfacecolor[j][i] == smaller(found)[i, j]
        # What plotly's hover shows of node (i, j): transposed, see there.
        assert surface.customdata[i][j] == smaller(found)[i, j]
    assert surface.cmin == -surface.cmax < 0
    assert surface.colorbar.title.text == "smaller eigenvalue"
    assert figure.layout.title.text == "Curvature"
    assert (figure.layout.scene.xaxis.title.text, figure.layout.scene.yaxis.title.text) == (
        "w1",
        "w2",
    )


def test_a_few_large_eigenvalues_do_not_take_all_the_color():
    """A ridge, one node wide, curves 10⁴ times more than the bowl around it."""
    found = made(lambda a, b: a**2 + b**2 + 0.1 * jnp.exp(-((a + 0.075) ** 2) * 1e5))
    figure = curvature(found)
    assert smaller(found).max() <= figure.data[0].cmax < 3
    assert abs(smaller(found)).max() > 100
    assert any("colors end at ±2, eigenvalues at ±" in note for note in notes(figure))


def test_cells_between_holes_have_their_color():
    """The loss is finite on one row, and beyond it on one cell."""
    there = lambda a, b: (a == -2) | ((a == 1.5) & (b == 40))  # noqa: E731
    with pytest.warns(jxs.NonFiniteWarning):
        found = made(lambda a, b: jnp.where(there(a, b), hills(a, b), jnp.nan))
    [points] = [t for t in curvature(found).data if t.type == "scatter3d"]
    np.testing.assert_array_equal(points.x, [-2] * 47 + [1.5])
    told = np.append(smaller(found)[0], smaller(found)[-1, -1])
    np.testing.assert_array_equal(points.marker.color, told)
    np.testing.assert_array_equal(points.customdata, told)


def notes(figure):
    return figure.layout.meta["notes"]


@DRAW
def test_a_bowl_has_no_border_and_it_is_said(draw):
    figure = draw(made(lambda a, b: a**2 + b**2))
    assert notes(figure) == ["no negative curvature here"]
    assert not any("border" in (trace.name or "") for trace in figure.data)


@DRAW
def test_cells_that_are_not_finite_are_holes(draw):
    with pytest.warns(jxs.NonFiniteWarning):
        found = made(lambda a, b: jnp.where((a > 0) & (b > 0), jnp.inf, hills(a, b)))
    figure = draw(found)
    drawn = np.asarray(figure.data[0].z)
    np.testing.assert_array_equal(np.isfinite(drawn), np.isfinite(found.loss).T)
    assert not np.isinf(drawn).any()
    assert any("border" in (trace.name or "") for trace in figure.data)
    assert "of 2867 cells are not finite" in figure.layout.title.subtitle.text


@DRAW
def test_a_large_grid_is_thinned_and_it_is_said(draw):
    found = made(w1=(-2.0, 1.5, 810), w2=(-30.0, 40.0, 401))
    # A needle that every third row would miss, and the curvature there.
    i, j = 400, 217
    loss, eigenvalues = np.array(found.loss), np.array(found.eigenvalues)
    loss[i, j], eigenvalues[i, j, 0] = loss.min() - 7, -31.5
    found = replace(found, loss=loss, eigenvalues=eigenvalues)
    figure = draw(found)
    [drawn, *_] = figure.data
    assert np.shape(drawn.z) == (401, 270)
    lowest = np.unravel_index(np.argmin(drawn.z), (401, 270))
    assert drawn.z[lowest] == loss[i, j]
    smaller = np.asarray(drawn.customdata)
    assert (smaller.T if drawn.type == "surface" else smaller)[lowest] == -31.5
    where = drawn.x[lowest] if drawn.type == "surface" else drawn.x[lowest[1]]
    step = 0 if drawn.type == "surface" else 2 * 3.5 / 809
    assert where == pytest.approx(found.a.values[i], abs=step + 1e-6)
    # Elsewhere the middle of each three.
    np.testing.assert_array_equal(np.asarray(drawn.z)[:50, 1:50], loss[4:150:3, :50].T)
    assert notes(figure)[0] == "drawn 270 × 401, all peaks and pits kept"
    assert "810 × 401" in figure.layout.title.subtitle.text


@DRAW
@pytest.mark.parametrize("dark", [False, True])
def test_paths_are_drawn_with_their_ends(draw, dark):
    path = make_path([-1, 0, 0.5], [3, 1, 2])
    figure = draw(made(), path, dark=dark)
    [points] = [trace for trace in figure.data if (trace.name or "").startswith("descent: start")]
    np.testing.assert_array_equal(points.x, [-1, 0, 0.5])
    np.testing.assert_array_equal(points.customdata[:, 0], [10, 11, 12])
    names = {trace.name for trace in figure.data}
    assert {"start (-1, 3)", "end (0.5, 2)"} <= names
    assert figure.layout.template.layout.paper_bgcolor == ("rgb(17,17,17)" if dark else "white")


@DRAW
def test_bad_arguments_are_refused(draw):
    found = made()
    with pytest.raises(TypeError, match="derivatives: expected Derivatives, got Landscape"):
        draw(found.landscape)
    with pytest.raises(
        TypeError, match="paths: expected Trajectory or Projection objects, got str"
    ):
        draw(found, "path")
    with pytest.warns(jxs.NonFiniteWarning):
        lost = made(lambda a, b: a * jnp.nan)
    with pytest.raises(ValueError, match="landscape: .* got none in 61 × 47 cells"):
        draw(lost)
