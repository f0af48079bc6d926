"""The surface and the contour plot: each cell and path is drawn at its coordinates and loss."""

import dataclasses
import itertools

import numpy as np
import plotly.graph_objects as go
import pytest

import jaxscape as jxs
from jaxscape import plot
from tests.plot.helpers import (
    PATH,
    make_descents,
    make_landscape,
    make_path,
    make_projection,
    points_of,
    traces,
)

KINDS = {"surface": plot.surface, "contour": plot.contour}


def camera_position(figure):
    eye = figure.layout.scene.camera.eye
    return np.array([eye.x, eye.y, eye.z])


@pytest.mark.parametrize("kind", ["surface", "heatmap", "contour"])
def test_every_drawn_cell_has_the_loss_of_its_coordinates(kind):
    """Plotly wants the transpose: x is a, y is b, and z has the shape (5, 7) for 7 × 5 cells."""
    landscape = make_landscape()
    figure = plot.surface(landscape) if kind == "surface" else plot.contour(landscape)
    [trace] = traces(figure, kind)
    assert np.shape(trace.z) == (5, 7)
    for j, i in np.ndindex(5, 7):
        a, b = trace.x[i], trace.y[j]
        assert trace.z[j][i] == pytest.approx(a**2 + 3 * b + a * b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_is_drawn_with_its_ends_and_its_own_losses(kind):
    figure = KINDS[kind](make_landscape(), PATH)
    scatter = "scatter3d" if kind == "surface" else "scatter"
    points = points_of(figure, scatter)
    np.testing.assert_allclose(points.x, PATH.params.w1)
    np.testing.assert_allclose(points.y, PATH.params.w2)
    # The hover shows the evaluation loss and the epoch; an epoch has two steps.
    np.testing.assert_allclose(points.customdata, [[10, 0], [11, 0.5], [12, 1]])
    assert "w1 %{x" in points.hovertemplate
    assert "w2 %{y" in points.hovertemplate
    assert "loss %{customdata[0]" in points.hovertemplate
    assert "epoch %{customdata[1]" in points.hovertemplate
    [start] = traces(figure, scatter, "start (-1, 3)")
    [end] = traces(figure, scatter, "end (0.5, 2)")
    assert (start.x[0], start.y[0], end.x[0], end.y[0]) == (-1, 3, 0.5, 2)
    assert start.marker.symbol != end.marker.symbol
    assert points.name == "descent: start (-1, 3), end (0.5, 2)"
    if kind == "surface":
        lift = np.asarray(points.z) - PATH.loss
        assert (lift > 0).all()
        assert lift.max() < 0.03 * np.ptp(make_landscape().loss)


def test_axes_color_bar_and_title_name_the_coordinates_and_the_loss():
    scene = plot.surface(make_landscape(), PATH).layout.scene
    assert (scene.xaxis.title.text, scene.yaxis.title.text) == ("w1", "w2")
    assert scene.zaxis.title.text == "loss"
    path = dataclasses.replace(PATH, evaluation_loss=np.array([7.0, 3.0, 7.25]))
    figure = plot.contour(make_landscape(), path)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("w1", "w2")
    for drawn in (figure, plot.surface(make_landscape())):
        assert drawn.data[0].colorbar.title.text == "squared error"
        assert drawn.layout.title.subtitle.text == "squared error, 7 × 5"


def test_several_paths_differ_in_name_and_color():
    paths = [make_path([0, 0.1 * k], [1, 2]) for k in range(4)]
    figure = plot.contour(make_landscape(), *paths)
    drawn = [points_of(figure, "scatter", f"descent {k + 1}") for k in range(4)]
    assert len({trace.marker.color for trace in drawn}) == 4
    assert len({trace.legendgroup for trace in drawn}) == 4


def test_dark_sets_the_background():
    light, dark = plot.surface(make_landscape()), plot.surface(make_landscape(), dark=True)
    assert light.layout.template.layout.paper_bgcolor == "white"
    assert dark.layout.template.layout.paper_bgcolor == "rgb(17,17,17)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_is_cut_at_the_edge_and_points_outside_are_counted(kind):
    """The path leaves through w1 = -2, half way between two points, and stays outside."""
    path = make_path([-1.5, -2.5, -3.0], [1, 3, 3])
    path = dataclasses.replace(path, evaluation_loss=np.array([3.75, 7.75, 9.0]))
    figure = KINDS[kind](make_landscape(), path)
    assert figure.layout.meta["notes"] == ["2 of 3 points of descent lie outside the grid"]
    assert "<br>2 of 3 points" in figure.layout.title.subtitle.text
    scatter = "scatter3d" if kind == "surface" else "scatter"
    lines = [trace for trace in traces(figure, scatter) if trace.mode == "lines"]
    for line in lines:
        np.testing.assert_allclose(line.x, [-1.5, -2.0])
        np.testing.assert_allclose(line.y, [1, 2])
    [end] = traces(figure, scatter, "end outside the grid (-3, 3)")
    assert (end.x[0], end.y[0]) == (-2, 2)
    points = points_of(figure, scatter)
    assert list(points.x) == [-1.5]


@pytest.mark.parametrize("far", [1e2, 1e30])
@pytest.mark.parametrize("above", [0.0, 2.5])
def test_at_the_edge_a_path_keeps_its_distance_to_the_surface(far, above):
    """One step may end at a loss of 1e30; a straight line to it would flatten all cells."""
    w1, w2 = [-1.5, -1.0, -1.0 + far], [2.0, 2.0, 2.0 + 0.3 * far]
    losses = [a**2 + 3 * b + a * b + above for a, b in zip(w1, w2, strict=True)]
    path = dataclasses.replace(make_path(w1, w2), evaluation_loss=np.array(losses))
    figure = plot.surface(make_landscape(61, 81), path)
    edge = 1.0, 2.6
    [end] = traces(figure, "scatter3d", f"end outside the grid ({w1[2]:.3g}, {w2[2]:.3g})")
    assert (end.x[0], end.y[0]) == pytest.approx(edge)
    # Paths are drawn slightly above the surface.
    expected = edge[0] ** 2 + 3 * edge[1] + edge[0] * edge[1] + above
    assert end.z[0] == pytest.approx(expected, abs=0.03 * float(np.ptp(figure.data[0].z)))
    [line, _] = [t for t in traces(figure, "scatter3d") if t.mode == "lines"]
    assert line.z[-1] == pytest.approx(expected, abs=0.03 * float(np.ptp(figure.data[0].z)))


def test_a_path_outside_the_grid_is_counted():
    figure = plot.surface(make_landscape(), make_path([5, 6], [1, 1]))
    assert figure.layout.meta["notes"] == ["2 of 2 points of descent lie outside the grid"]


def test_more_than_three_paths_have_one_note_of_each_kind():
    """One note per path would take a small figure's height; these paths have other losses, too."""
    paths = [make_path([0, 1, 5], [1, 1, 1]) for _ in range(5)]
    notes = plot.contour(make_landscape(), *paths[:3]).layout.meta["notes"]
    assert notes[:3] == [f"1 of 3 points of descent {k} lie outside the grid" for k in (1, 2, 3)]
    assert [note[:19] for note in notes[3:]] == [f"losses of descent {k}" for k in (1, 2, 3)]
    notes = plot.contour(make_landscape(), *paths, make_path([5], [1])).layout.meta["notes"]
    assert notes == [
        "6 of 16 points of 6 paths lie outside the grid",
        "losses of 5 paths differ from the surface: another loss, data or plane?",
    ]


def test_a_diverged_path_ends_at_its_last_finite_point():
    path = make_path([-1, 0, np.nan, np.nan], [1, 2, np.inf, np.nan], diverged=2)
    figure = plot.contour(make_landscape(), path)
    points = points_of(figure, "scatter")
    np.testing.assert_array_equal(points.x, [-1, 0])
    assert traces(figure, "scatter", "diverged at step 2, last (0, 2)")


def test_a_path_whose_last_loss_is_infinite_is_drawn():
    """The loss can overflow at finite parameters."""
    path = make_path([-1, 0, 1e30], [1, 2, 1e30])
    path = dataclasses.replace(path, evaluation_loss=np.array([5, 4, np.inf]))
    figure = plot.surface(make_landscape(), path)
    assert np.isfinite(camera_position(figure)).all()
    np.testing.assert_array_equal(points_of(figure, "scatter3d").x, [-1, 0])


def test_the_lowest_cell_is_marked():
    figure = plot.contour(make_landscape(31, 21))
    [star] = traces(figure, "scatter", "lowest cell: 0, on the edge")
    assert (star.x[0], star.y[0]) == (0, 0)


def needles(a, b):
    """Return a slope with two cells far below it, one far above, and one that is not finite."""
    loss = a + b
    loss[[137, 700, 333], [611, 44, 5]] = [-50, -40, 60]
    loss[500, 500] = np.nan
    return loss


def test_a_large_surface_is_reduced_without_losing_minima_and_maxima():
    landscape = make_landscape(1000, 700, needles)
    figure = plot.surface(landscape)
    [trace] = traces(figure, "surface")
    x, y, z = (np.asarray(values) for values in (trace.x, trace.y, trace.z))
    assert x.shape == y.shape == z.shape == (350, 334)
    a, b, loss = landscape.a.values, landscape.b.values, landscape.loss
    i, j = np.searchsorted(a.astype(np.float32), x), np.searchsorted(b.astype(np.float32), y)
    # Every vertex is a cell of the full grid: its coordinates and its own loss.
    np.testing.assert_array_equal(a[i].astype(np.float32), x)
    np.testing.assert_array_equal(b[j].astype(np.float32), y)
    np.testing.assert_array_equal(loss[i, j].astype(np.float32), z)
    for value in (-50, -40, 60):
        assert value in z
    assert (np.diff(x, axis=1) > 0).all()
    assert (np.diff(y, axis=0) > 0).all()
    assert (x.min(), x.max(), y.min(), y.max()) == (-2, 1, 0, 4)
    assert any("surface of 334 × 350" in note for note in figure.layout.meta["notes"])
    assert any("1 of 700000 cells are not finite" in note for note in figure.layout.meta["notes"])


def test_a_stride_would_lose_minima_or_maxima():
    """No offset of strides 3 and 2 keeps all three cells of the test above."""
    landscape = make_landscape(1000, 700, needles)
    for p, q in itertools.product(range(3), range(2)):
        assert not {-50, -40, 60} <= set(landscape.loss[p::3, q::2].ravel())


def test_a_surface_with_401_values_is_drawn_completely():
    figure = plot.surface(make_landscape(401, 30))
    assert np.shape(figure.data[0].z) == (30, 401)
    assert figure.layout.meta["notes"] == []


def test_large_heatmaps_and_contour_lines_are_reduced_with_notes():
    figure = plot.contour(make_landscape(450, 2100))
    [heatmap], [lines] = traces(figure, "heatmap"), traces(figure, "contour")
    assert np.shape(heatmap.z) == (1050, 450)
    assert np.shape(lines.z) == (350, 225)
    assert np.shape(lines.x) == (225,)
    assert len(figure.layout.meta["notes"]) == 2


def test_a_large_heatmap_keeps_minima_and_maxima():
    """They are in rows and columns that strides of 2 leave out."""
    loss = np.add.outer(np.linspace(0, 1, 2011), np.linspace(0, 2, 2003)).astype(np.float32)
    loss[[137, 701, 333], [611, 45, 7]] = [-50, -40, 60]
    loss[1001, 1001] = np.inf
    axes = (jxs.Axis(np.linspace(0, 3, n), name) for n, name in ((2011, "w1"), (2003, "w2")))
    landscape = jxs.Landscape(loss, *axes, loss_name="loss", method="dense")
    figure = plot.contour(landscape)
    for trace in [*traces(figure, "heatmap"), *traces(figure, "contour")]:
        assert {-50, -40, 60} <= set(np.ravel(trace.z))
        assert (trace.x[0], trace.x[-1], trace.y[0], trace.y[-1]) == (0, 3, 0, 3)
        assert (np.diff(trace.x) > 0).all()
    [image] = traces(figure, "heatmap")
    j, i = np.argwhere(image.z == -50)[0]
    assert abs(image.x[i] - landscape.a.values[137]) <= 3 / 2010 + 1e-9
    assert abs(image.y[j] - landscape.b.values[611]) <= 3 / 2002 + 1e-9
    notes = figure.layout.meta["notes"]
    assert notes[0] == "heatmap of 1006 × 1002 cells, all minima and maxima kept"
    assert notes[1].startswith("contour lines of 336 × 401")
    assert f"1 of {2011 * 2003} cells are not finite, the first at w1 = 1.494" in notes[2]


def test_a_cell_that_is_not_finite_is_a_hole():
    landscape = make_landscape()
    landscape.loss[2, 1], landscape.loss[4, 3] = np.inf, np.nan
    for draw, kind in ((plot.surface, "surface"), (plot.contour, "heatmap")):
        figure = draw(landscape)
        [trace] = traces(figure, kind)
        np.testing.assert_array_equal(np.argwhere(np.isnan(trace.z)), [[1, 2], [3, 4]])
        notes = ["2 of 35 cells are not finite, the first at w1 = -1, w2 = 1"]
        if kind == "surface":
            # Two corners of the grid: each belongs to one square, which has a hole.
            notes = ["2 isolated finite cells are drawn as points", *notes]
            [points] = traces(figure, "scatter3d")
            np.testing.assert_array_equal([points.x, points.y], [[-1, 0], [0, 4]])
        assert figure.layout.meta["notes"] == notes


def test_paths_with_the_same_name_are_numbered():
    twins = [dataclasses.replace(PATH, name="SGD")] * 2
    figure = plot.contour(make_landscape(), *twins)
    assert {t.legendgroup for t in figure.data} == {None, "SGD (1)", "SGD (2)"}


def test_a_path_projected_onto_another_plane_raises():
    """Points between the nodes of the right plane are accepted."""
    landscape = make_landscape(31, 21)
    coordinates = np.random.default_rng(0).uniform((-2.3, 0), (1.3, 4.4), (40, 2))
    a, b = coordinates.T
    loss = a**2 + 3 * b + a * b
    assert plot.surface(landscape, make_projection(loss, coordinates)).layout.meta["notes"]
    with pytest.raises(ValueError, match="paths: .* the landscape's plane, got 'walk', whose loss"):
        plot.contour(landscape, make_projection(loss[::-1], coordinates))


@pytest.mark.parametrize("side", [1, -1])
def test_the_camera_is_on_the_side_of_the_path(side):
    """A wall runs along w1 = -0.5; the path is at its foot, on one side or the other."""
    landscape = make_landscape(61, 41, lambda a, b: 30 * np.exp(-((a + 0.5) ** 2) * 40) + 0 * b)
    path = make_path(np.full(9, -0.5 + 0.5 * side), np.linspace(1, 3, 9))
    path = dataclasses.replace(path, evaluation_loss=np.zeros(9))
    assert side * camera_position(plot.surface(landscape, path))[0] > 0.3


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("size", [(7, 5), (905, 811)])
def test_isolated_finite_cells_are_drawn_as_points(log, size):
    """Plotly draws squares with four finite corners; cells in no such square would be invisible."""
    full = make_landscape(*size, lambda a, b: 1 + a**2 + 3 * b + a * b)
    # Beside a square: two cells that touch it, one that touches these, one far away.
    square = [(0, 0), (0, 1), (1, 0), (1, 1)] if size == (7, 5) else []
    isolated = [(2, 2), (3, 3), (4, 1), (6, 4)] if size == (7, 5) else [(900, 400)]
    loss = np.full(size, np.nan)
    for i, j in square + isolated:
        loss[i, j] = full.loss[i, j]
    figure = plot.surface(dataclasses.replace(full, loss=loss), log=log)
    [points] = [t for t in traces(figure, "scatter3d") if t.mode == "markers"]
    rows, columns = np.transpose(isolated)
    np.testing.assert_array_equal(points.x, full.a.values[rows])
    np.testing.assert_array_equal(points.y, full.b.values[columns])
    drawn = full.loss[rows, columns]
    np.testing.assert_allclose(points.z, np.log10(drawn) if log else drawn)
    np.testing.assert_array_equal(points.marker.color, points.z)
    if log:
        np.testing.assert_array_equal(points.customdata, drawn)
    expected = {
        1: "1 isolated finite cell is drawn as a point",
        4: "4 isolated finite cells are drawn as points",
    }[len(isolated)]
    assert expected in figure.layout.meta["notes"]
    figure = plot.surface(full, log=log)
    assert not traces(figure, "scatter3d")
    assert not any("points" in note for note in figure.layout.meta["notes"])


def test_a_landscape_without_a_finite_cell_raises():
    landscape = make_landscape(3, 4, lambda a, b: a * np.nan)
    for draw in KINDS.values():
        with pytest.raises(ValueError, match="landscape: .* got none in 3 × 4 cells"):
            draw(landscape)


def test_arguments_of_other_types_raise():
    with pytest.raises(TypeError, match="landscape: expected a Landscape, got ndarray"):
        plot.surface(np.ones((3, 3)))
    message = "paths: expected Trajectory or Projection objects, got "
    with pytest.raises(TypeError, match=message + "str"):
        plot.contour(make_landscape(), "path")
    with pytest.raises(
        TypeError, match=message + r"dict; pass several paths as \*paths.values\(\)"
    ):
        plot.surface(make_landscape(), {"sgd": PATH, "adam": PATH})
    with pytest.raises(TypeError, match=message + r"list; pass several paths as \*paths$"):
        plot.contour(make_landscape(), [PATH])
    with pytest.raises(TypeError, match=message + "Descents"):
        plot.surface(make_landscape(), make_descents(3))


def test_a_path_with_other_parameters_raises():
    other = dataclasses.replace(PATH, params={"w1": np.zeros(3), "bias": np.zeros(3)})
    message = r"a number 'w2' .* got shapes {'bias': \(3,\), 'w1': \(3,\)}; jxs.project"
    with pytest.raises(ValueError, match=message):
        plot.surface(make_landscape(), other)


def test_a_flat_surface_is_drawn():
    figure = plot.surface(make_landscape(4, 3, lambda a, b: 0 * a + 2), PATH)
    assert isinstance(figure, go.Figure)
    assert np.isfinite(camera_position(figure)).all()


@pytest.mark.parametrize("kind", ["surface", "heatmap", "contour"])
@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda a, b: np.sin(a) + b**3 / 7, "f4"),
        (lambda a, b: 1e3 + np.sin(a + b), "f4"),
        # float32 would show steps.
        (lambda a, b: 1e6 + np.sin(a + b), "f8"),
        # Above the range of float32, and below the range of its normal numbers.
        (lambda a, b: 1e40 * (a**2 + b), "f8"),
        (lambda a, b: 1e-40 * (a**2 + b), "f8"),
    ],
)
def test_float64_losses_are_stored_as_float32_without_a_visible_difference(kind, function, dtype):
    landscape = make_landscape(90, 60, function)
    figure = plot.surface(landscape) if kind == "surface" else plot.contour(landscape)
    [trace] = traces(figure, kind)
    assert trace.z.dtype == dtype
    spread = np.ptp(landscape.loss)
    np.testing.assert_allclose(trace.z.T, landscape.loss, rtol=1e-7, atol=0)
    np.testing.assert_allclose(trace.z.T, landscape.loss, rtol=0, atol=1e-4 * spread)


def test_a_page_with_a_large_surface_and_three_paths_is_small():
    """Without plotly.js; in float64, the heights alone would be 1.7 MB."""
    landscape = make_landscape(401, 401, lambda a, b: np.sin(a * b) + b)
    paths = [make_path(np.linspace(-2, k / 3, 500), np.linspace(0, 4, 500)) for k in range(3)]
    page = plot.surface(landscape, *paths).to_html(include_plotlyjs="cdn")
    assert len(page) < 1.3e6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("apart", "width"), [(0.08, 1), (0.01, 0)])
def test_points_that_overlap_have_no_outline(kind, apart, width):
    """The outlines would make the path black. The axes are 3 and 4 long."""
    path = make_path(np.arange(30) * apart - 1, np.full(30, 2.0))
    figure = KINDS[kind](make_landscape(), path)
    points = points_of(figure, "scatter3d" if kind == "surface" else "scatter")
    assert points.marker.line.width == width
    # A white path keeps its outline, without which its legend entry would be invisible.
    figure = KINDS[kind](make_landscape(), PATH, dataclasses.replace(path, name="white"))
    white = points_of(figure, "scatter3d" if kind == "surface" else "scatter", "white")
    assert (white.marker.color, white.marker.line.width) == ("#ffffff", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_legend_of_four_paths_omits_their_ends(kind):
    for count in (3, 4):
        names = [f"path {k}" for k in range(count)]
        paths = [dataclasses.replace(PATH, name=name) for name in names]
        figure = KINDS[kind](make_landscape(), *paths)
        entries = [t.name for t in figure.data if t.legendgroup in names and t.hovertemplate]
        assert entries == (
            names if count == 4 else [f"{n}: start (-1, 3), end (0.5, 2)" for n in names]
        )


def test_a_name_with_an_html_tag_is_escaped():
    figure = plot.contour(make_landscape(), dataclasses.replace(PATH, name="R&D <b>"))
    assert {t.legendgroup for t in figure.data if t.legendgroup} == {"R&amp;D &lt;b&gt;"}


def test_the_camera_is_further_away_where_text_would_be_cut_off():
    """Long tick labels push out the title of the height; a high legend leaves a low scene."""

    def distance(figure):
        return np.linalg.norm(camera_position(figure))

    def scaled(factor, offset=0.0):
        return plot.surface(make_landscape(9, 7, lambda a, b: factor * (a**2 + b) + offset))

    near = distance(scaled(1.0))
    for figure in (scaled(3e30), scaled(1e-9), scaled(1e-3, 700.0)):
        assert distance(figure) == pytest.approx(1.1 * near)
    assert distance(scaled(1.0, 7e5)) == pytest.approx(1.25 * near)
    many = [dataclasses.replace(PATH, name=f"path number {k}") for k in range(8)]
    figures = [plot.surface(make_landscape(), *paths) for paths in (many[:2], many)]
    assert distance(figures[1]) == pytest.approx(1.12 * distance(figures[0]))


@pytest.mark.parametrize(("spread", "notes"), [(0.0, 0), (1e-7, 1), (1e-4, 0)])
def test_a_range_of_heights_below_float32_precision_is_noted(spread, notes):
    """Browsers draw in float32: a relative range of 1e-7 shows as separate patches."""
    close = make_landscape(function=lambda a, b: 7e5 * (1 + spread * (a + b) / 7))
    for draw, count in ((plot.surface, notes), (plot.contour, 0)):
        drawn = draw(close).layout.meta["notes"]
        assert sum("too close together" in note for note in drawn) == count


def test_many_descents_are_thin_lines_with_their_median():
    runs = make_descents(7)
    figure = plot.contour(make_landscape(), runs)
    thin = next(trace for trace in figure.data if trace.opacity == 0.55)
    np.testing.assert_allclose(thin.x.reshape(7, 6)[:, :5], runs.params.w1)
    assert np.isnan(thin.y.reshape(7, 6)[:, 5]).all()
    median = next(trace for trace in figure.data if (trace.name or "").startswith("median of 7"))
    np.testing.assert_allclose(median.x, np.median(runs.params.w1, axis=0))


def test_at_most_400_descents_are_drawn_and_a_note_says_so():
    notes = plot.contour(make_landscape(), make_descents(500, diverged=[3])).layout.meta["notes"]
    assert "400 of 500 descents are drawn" in notes
    assert "1 of 500 descents diverged" in notes
