"""Figures of derivatives: gradient arrows, the boundary of negative curvature, and colors."""

from dataclasses import replace

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.plot.derivatives import curvature, slopes, zero_line
from tests.plot.helpers import make_path

DRAW = pytest.mark.parametrize("draw", [slopes, curvature])


def hills(a, b):
    """Compute the loss and its derivatives in a, b, aa, ab and bb.

    The loss is not symmetric, its axes differ in scale, and its curvature is negative in parts.
    """
    sine, cosine = np.sin(2 * a + 0.0317 * b), np.cos(2 * a + 0.0317 * b)
    return (
        sine + 0.002 * b**2 + 1e-5 * b**3,
        2 * cosine,
        0.0317 * cosine + 0.004 * b + 3e-5 * b**2,
        -4 * sine,
        -0.0634 * sine,
        -(0.0317**2) * sine + 0.004 + 6e-5 * b,
    )


def bowl(a, b, center=0.0, scale=1.0):
    """Compute (a - center)² + scale·b² and its derivatives."""
    one = np.ones_like(a)
    loss = (a - center) ** 2 + scale * b**2
    return loss, 2 * (a - center), 2 * scale * b, 2 * one, 0 * one, 2 * scale * one


def make_derivatives(
    function=hills, holes=None, w1=(-2.0, 1.5, 61), w2=(-30.0, 40.0, 47), dtype=np.float32
):
    """Return the derivatives of a function, not finite where `holes(a, b)` is true."""
    axes = np.linspace(*w1).astype(dtype), np.linspace(*w2).astype(dtype)
    a, b = np.meshgrid(*(values.astype(float) for values in axes), indexing="ij")
    loss, in_a, in_b, in_aa, in_ab, in_bb = function(a, b)
    gradient = np.stack([in_a, in_b], axis=-1)
    hessian = np.stack([np.stack([in_aa, in_ab], -1), np.stack([in_ab, in_bb], -1)], -2)
    eigenvalues, eigenvectors = np.linalg.eigh(hessian)
    if holes is not None:
        loss = np.where(holes(a, b), np.inf, loss)
        gradient[holes(a, b)] = hessian[holes(a, b)] = eigenvalues[holes(a, b)] = np.nan
    arrays = (loss, gradient, hessian, eigenvalues, eigenvectors)
    return jxs.Derivatives(
        *(array.astype(dtype) for array in arrays),
        a=jxs.Axis(axes[0], "w1"),
        b=jxs.Axis(axes[1], "w2"),
        loss_name="hills",
        method="exact",
    )


def smaller_eigenvalue(derivatives):
    return derivatives.eigenvalues[..., 0]


def notes(figure):
    return figure.layout.meta["notes"]


def arrows(figure):
    """Return tails and heads, (n, 2), as they are drawn, and the color of each arrow."""
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


def test_no_direction_lowers_the_loss_faster_than_an_arrow():
    """The axes differ in scale by a factor of 20."""
    tails, heads, _ = arrows(slopes(make_derivatives()))
    assert len(tails) == 400
    direction = (heads - tails) / np.linalg.norm(heads - tails, axis=1, keepdims=True)

    def loss_after(angle, step=1e-6):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return hills(*(tails + step * direction @ turn).T)[0]

    assert (loss_after(0) < loss_after(0, step=0)).all()
    for angle in (-0.2, 0.2):
        assert (loss_after(0) < loss_after(angle)).all()


def test_arrows_are_longer_where_the_gradient_is_larger_and_do_not_overlap():
    derivatives = make_derivatives(lambda a, b: bowl(a, b, 0.3, 1e-4))
    tails, heads, _ = arrows(slopes(derivatives))
    # In units of the distance between arrows, which is the same for both axes on the screen.
    length = np.linalg.norm((heads - tails) / [3.5 / 20, 70 / 20], axis=1)
    assert (length <= 0.851).all()
    assert (length >= 0.349).all()
    norm = np.hypot(2 * (tails[:, 0] - 0.3), 2e-4 * tails[:, 1])
    assert (np.diff(length[np.argsort(norm)]) > -1e-6).all()
    assert np.ptp(length) > 0.4


def test_the_color_of_an_arrow_is_the_sign_of_the_curvature_at_its_tail():
    derivatives = make_derivatives()
    tails, _, colors = arrows(slopes(derivatives))
    i = np.searchsorted(derivatives.a.values, tails[:, 0])
    j = np.searchsorted(derivatives.b.values, tails[:, 1])
    negative = smaller_eigenvalue(derivatives)[i, j] < 0
    assert 0 < negative.sum() < 400
    assert (negative == (colors != "white")).all()


def test_flat_and_missing_cells_have_no_arrow():
    half_flat = make_derivatives(lambda a, b: bowl(0 * a, b * (b > 0)), lambda a, b: a < 0)
    figure = slopes(half_flat)
    tails, heads, _ = arrows(figure)
    assert (tails >= 0).all()
    assert np.isfinite(heads).all()
    assert "cells are not finite" in figure.layout.title.subtitle.text
    figure = slopes(make_derivatives(lambda a, b: np.zeros((6, *a.shape))))
    assert not any("downhill" in (trace.name or "") for trace in figure.data)


def test_the_boundary_on_a_contour_plot_is_where_the_smaller_eigenvalue_is_0():
    derivatives = make_derivatives()
    figure = slopes(derivatives)
    [boundary] = [trace for trace in figure.data if trace.type == "contour" and trace.showlegend]
    assert (boundary.contours.start, boundary.contours.end) == (0, 0)
    np.testing.assert_array_equal(boundary.z, smaller_eigenvalue(derivatives).T)
    np.testing.assert_array_equal(boundary.x, derivatives.a.values)
    assert boundary.name == "boundary of negative curvature"
    assert figure.layout.title.text == "Slopes"


def test_the_zero_line_of_a_circle_is_the_circle():
    """The line where a² + b² - 1 is 0 has radius 1."""
    a, b = np.linspace(-1.31, 1.7, 41), np.linspace(-1.5, 1.23, 37)
    field = np.add.outer(a**2, b**2) - 1
    pieces = zero_line(field, a, b, 3 * np.add.outer(a, -b)).reshape(-1, 3, 3)
    assert np.isnan(pieces[:, 2]).all()
    ends = pieces[:, :2]
    np.testing.assert_allclose(np.hypot(ends[..., 0], ends[..., 1]), 1, atol=2e-3)
    np.testing.assert_allclose(ends[..., 2], 3 * (ends[..., 0] - ends[..., 1]), atol=1e-12)
    # The line is closed: every point is the end of two pieces.
    points, counts = np.unique(ends[..., :2].reshape(-1, 2).round(9), axis=0, return_counts=True)
    assert (counts == 2).all()
    assert len(points) == len(pieces)
    length = np.linalg.norm(np.diff(ends[..., :2], axis=1), axis=-1).sum()
    assert length == pytest.approx(2 * np.pi, rel=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("mean", [0.5, -0.5])
def test_in_a_saddle_cell_the_zero_line_cuts_off_two_corners(sign, mean):
    """They are the corners whose sign differs from that of the mean."""
    field = sign * np.array([[1.0, -1.0], [-1.0, 1.0]]) + mean
    unit = np.array([0.0, 1.0])
    pieces = zero_line(field, unit, unit, field).reshape(2, 3, 3)[:, :2, :2]
    corners = np.argwhere(np.add.outer(unit, unit) % 2 == (0 if sign * mean < 0 else 1))
    distance = abs(pieces[:, None] - corners[None, :, None]).max(axis=(2, 3))
    np.testing.assert_allclose(np.sort(distance.min(axis=1)), 0.25)
    assert len(set(distance.argmin(axis=1))) == 2


def test_the_boundary_on_a_surface_is_between_nodes_of_both_signs_just_above_the_surface():
    derivatives = make_derivatives(dtype=np.float64)
    figure = curvature(derivatives)
    [line] = [t for t in figure.data if t.type == "scatter3d" and "boundary" in (t.name or "")]
    pieces = np.stack([line.x, line.y, line.z], axis=1).reshape(-1, 3, 3)
    first, last = [], []
    for k, axis in enumerate((derivatives.a, derivatives.b)):
        index = (pieces[:, :2, k] - axis.values[0]) / np.ptp(axis.values) * (len(axis) - 1)
        first.append(np.floor(index + 1e-9).astype(int))
        last.append(np.ceil(index - 1e-9).astype(int))
    # Every end is on a side of a cell: between two neighbors along one axis.
    assert (sum(high - low for low, high in zip(first, last, strict=True)) == 1).all()
    eigenvalue = smaller_eigenvalue(derivatives)
    assert ((eigenvalue[tuple(first)] < 0) != (eigenvalue[tuple(last)] < 0)).all()
    a, b, height = pieces[:, :2].reshape(-1, 3).T
    lift = height - hills(a, b)[0]
    assert np.median(lift) == pytest.approx(0.006 * np.ptp(derivatives.loss), rel=0.1)


def test_colors_and_hover_have_the_orientation_of_the_surface():
    derivatives = make_derivatives()
    figure = curvature(derivatives)
    surface, eigenvalue = figure.data[0], smaller_eigenvalue(derivatives)
    assert np.shape(surface.z) == np.shape(surface.surfacecolor) == (47, 61)
    for j, i in [(0, 0), (46, 0), (0, 60), (13, 31)]:
        assert surface.x[i] == derivatives.a.values[i]
        assert surface.y[j] == derivatives.b.values[j]
        assert surface.z[j][i] == derivatives.loss[i, j]
        assert surface.surfacecolor[j][i] == eigenvalue[i, j]
        # Plotly's hover reads custom data transposed with respect to `z`.
        assert surface.customdata[i][j] == eigenvalue[i, j]
    assert surface.cmin == -surface.cmax < 0
    assert surface.colorbar.title.text == "smaller eigenvalue"
    assert figure.layout.title.text == "Curvature"
    scene = figure.layout.scene
    assert (scene.xaxis.title.text, scene.yaxis.title.text) == ("w1", "w2")


def test_a_few_large_eigenvalues_do_not_take_all_colors():
    """A ridge, one node wide, has a curvature 10⁴ times larger than the bowl around it."""

    def ridge(a, b):
        loss, in_a, in_b, in_aa, in_ab, in_bb = bowl(a, b)
        x = a + 0.075
        height = 0.1 * np.exp(-(x**2) * 1e5)
        slope, bend = -2e5 * x * height, (4e10 * x**2 - 2e5) * height
        return loss + height, in_a + slope, in_b, in_aa + bend, in_ab, in_bb

    derivatives = make_derivatives(ridge)
    figure = curvature(derivatives)
    assert smaller_eigenvalue(derivatives).max() <= figure.data[0].cmax < 3
    assert abs(smaller_eigenvalue(derivatives)).max() > 100
    assert any("colors end at ±2, eigenvalues at ±" in note for note in notes(figure))


def test_isolated_cells_have_the_color_of_their_curvature():
    """The loss is finite on the first row and on one other cell."""
    derivatives = make_derivatives(holes=lambda a, b: (a > -2) & ((a < 1.5) | (b < 40)))
    [points] = [trace for trace in curvature(derivatives).data if trace.type == "scatter3d"]
    np.testing.assert_array_equal(points.x, [-2] * 47 + [1.5])
    eigenvalue = smaller_eigenvalue(derivatives)
    expected = np.append(eigenvalue[0], eigenvalue[-1, -1])
    np.testing.assert_array_equal(points.marker.color, expected)
    np.testing.assert_array_equal(points.customdata, expected)


@DRAW
def test_a_convex_loss_has_no_boundary_and_a_note_says_so(draw):
    figure = draw(make_derivatives(bowl))
    assert notes(figure) == ["no negative curvature on this grid"]
    assert not any("boundary" in (trace.name or "") for trace in figure.data)


@DRAW
def test_cells_that_are_not_finite_are_holes(draw):
    derivatives = make_derivatives(holes=lambda a, b: (a > 0) & (b > 0))
    figure = draw(derivatives)
    z = np.asarray(figure.data[0].z)
    np.testing.assert_array_equal(np.isfinite(z), np.isfinite(derivatives.loss).T)
    assert not np.isinf(z).any()
    assert any("boundary" in (trace.name or "") for trace in figure.data)
    assert "of 2867 cells are not finite" in figure.layout.title.subtitle.text


@DRAW
def test_a_large_grid_is_reduced_without_losing_its_minimum(draw):
    derivatives = make_derivatives(w1=(-2.0, 1.5, 810), w2=(-30.0, 40.0, 401))
    # A single low cell that a stride of 3 would miss, with a curvature of its own.
    i, j = 400, 217
    loss, eigenvalues = derivatives.loss.copy(), derivatives.eigenvalues.copy()
    loss[i, j], eigenvalues[i, j, 0] = loss.min() - 7, -31.5
    figure = draw(replace(derivatives, loss=loss, eigenvalues=eigenvalues))
    trace = figure.data[0]
    assert np.shape(trace.z) == (401, 270)
    lowest = np.unravel_index(np.argmin(trace.z), (401, 270))
    assert trace.z[lowest] == loss[i, j]
    is_surface = trace.type == "surface"
    eigenvalue = np.asarray(trace.customdata)
    assert (eigenvalue.T if is_surface else eigenvalue)[lowest] == -31.5
    a = trace.x[lowest] if is_surface else trace.x[lowest[1]]
    tolerance = 0 if is_surface else 2 * 3.5 / 809
    assert a == pytest.approx(derivatives.a.values[i], abs=tolerance + 1e-6)
    # In other blocks of three cells, the middle one is drawn.
    np.testing.assert_array_equal(np.asarray(trace.z)[:50, 1:50], loss[4:150:3, :50].T)
    assert notes(figure)[0] == "drawn grid of 270 × 401 cells, all minima and maxima kept"
    assert "810 × 401" in figure.layout.title.subtitle.text


@DRAW
@pytest.mark.parametrize("dark", [False, True])
def test_paths_are_drawn_with_their_ends(draw, dark):
    path = make_path([-1, 0, 0.5], [3, 1, 2])
    figure = draw(make_derivatives(), path, dark=dark)
    [points] = [trace for trace in figure.data if (trace.name or "").startswith("descent: start")]
    np.testing.assert_array_equal(points.x, [-1, 0, 0.5])
    np.testing.assert_array_equal(points.customdata[:, 0], [10, 11, 12])
    names = {trace.name for trace in figure.data}
    assert {"start (-1, 3)", "end (0.5, 2)"} <= names
    assert figure.layout.template.layout.paper_bgcolor == ("rgb(17,17,17)" if dark else "white")


@DRAW
def test_bad_arguments_raise(draw):
    derivatives = make_derivatives()
    with pytest.raises(TypeError, match="derivatives: expected Derivatives, got Landscape"):
        draw(derivatives.landscape)
    message = "paths: expected Trajectory or Projection objects, got str"
    with pytest.raises(TypeError, match=message):
        draw(derivatives, "path")
    with pytest.raises(ValueError, match="landscape: .* got none in 61 × 47 cells"):
        draw(make_derivatives(holes=lambda a, b: a == a))
