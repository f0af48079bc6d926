"""Overlays: critical points, valleys, minimax paths and marks at their places."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.plot.parts import paths as paths_module
from jaxscape.results.landscape import Mark


def hills(w1, w2):
    return (w1**2 - 1) ** 2 + 0.3 * w1 + (w1 - 2 * w2) ** 2


LOSS = jxs.Function(hills)
SURFACE = jxs.landscape(LOSS, None, w1=(-2, 2, 61), w2=(-1.5, 1.7, 41))
FOUND = jxs.critical_points(LOSS, w1=(-2.0, 2.0), w2=(-1.5, 1.7))


def named(figure, part):
    return [trace for trace in figure.data if part in (trace.name or "")]


@pytest.mark.parametrize("draw", [plot.contour, plot.surface])
def test_critical_points_are_drawn_at_their_coordinates(draw):
    figure = draw(SURFACE, critical=FOUND)
    (minima,), (saddle,) = named(figure, "2 minima"), named(figure, "1 saddle")
    known = FOUND.of_kind("minimum")
    np.testing.assert_allclose(minima.x, [point.a for point in known])
    np.testing.assert_allclose(minima.y, [point.b for point in known])
    np.testing.assert_allclose(np.array(minima.customdata)[:, 0], [point.loss for point in known])
    assert saddle.marker.symbol != minima.marker.symbol
    assert "critical points: proved to be complete" in figure.layout.title.subtitle.text
    if draw is plot.surface:
        above = np.array(minima.z) - [point.loss for point in known]
        assert (above > 0).all()
        assert (above < 0.05 * (SURFACE.highest - SURFACE.lowest.loss)).all()


@pytest.mark.parametrize("draw", [plot.contour, plot.surface])
def test_kinds_and_paths_differ_in_symbol_and_color(draw):
    """Kinds differ in symbol and color from each other and from the ends of paths."""
    point, kinds = FOUND.points[0], ("minimum", "saddle", "maximum", "degenerate")
    found = dataclasses.replace(FOUND, points=tuple(point._replace(kind=kind) for kind in kinds))
    numbers = np.array([0.0, 0.5])
    path = jxs.Trajectory(
        jxs.Weights(numbers, numbers), np.arange(2), numbers, hills(numbers, numbers), -1, 1
    )
    figure = draw(
        SURFACE, *(dataclasses.replace(path, name=f"path {k}") for k in range(7)), critical=found
    )
    looks = [
        (trace.marker.symbol, trace.marker.color)
        for kind in kinds
        for trace in named(figure, f"1 {kind}")
    ]
    assert len(set(looks)) == 4
    paths = [t for t in figure.data if (t.legendgroup or "").startswith("path")]
    ends = [t for t in paths if (t.name or "").startswith(("start", "end"))]
    if draw is plot.contour:
        assert not {t.marker.symbol for t in ends} & {symbol for symbol, _ in looks}
    assert not {t.marker.color for t in paths} & {color for _, color in looks}
    [first], [seventh] = (
        [t for t in figure.data if t.legendgroup == f"path {k}" and t.hovertemplate] for k in (0, 6)
    )
    assert first.marker.color == seventh.marker.color
    assert first.marker.symbol != seventh.marker.symbol


@pytest.mark.parametrize(
    ("draw", "size"),
    [(plot.contour, (9, 7)), (plot.surface, (15, 21)), (plot.contour, (201, 151))],
)
def test_overlays_of_another_loss_are_noted(draw, size):
    """A coarse grid does not resolve a valley, which is not compared there."""
    axes = {"w1": (-3, 2.5, size[0]), "w2": (-2, 2.7, size[1])}
    box = {name: ends[:2] for name, ends in axes.items()}
    mine, other = (
        jxs.data.teacher_student(jax.random.key(0)),
        jxs.data.noisy_sine(jax.random.key(1)),
    )
    surface = jxs.landscape(jxs.squared_error, mine, **axes)
    for data in (mine, other):
        there = jxs.landscape(jxs.squared_error, data, **axes)
        found = {
            "critical": jxs.critical_points(jxs.squared_error, data, **box),
            "valley": jxs.topology.valley(jxs.squared_error, data, w1=(-3, 2.5, 101)),
            "minimax_path": jxs.topology.minimax_path(there, (-3, -2), (2.5, 2.7)),
        }
        notes = draw(surface, **found).layout.meta["notes"]
        for name in ("critical points", "the valley", "the minimax path"):
            mismatches = [note for note in notes if note.startswith(f"losses of {name} differ")]
            is_compared = size[0] > 9 or name != "the valley"
            assert len(mismatches) == (data is other and is_compared)


def test_critical_points_outside_the_grid_are_counted():
    wide = jxs.critical_points(LOSS, w1=(-2.0, 2.0), w2=(-1.5, 1.7))
    half = jxs.landscape(LOSS, None, w1=(0.5, 2, 31), w2=(-1.5, 1.7, 41))
    figure = plot.contour(half, critical=wide)
    assert "critical points outside the grid: 2" in figure.layout.title.subtitle.text
    assert len(named(figure, "1 minimum")[0].x) == 1


@pytest.mark.parametrize("draw", [plot.contour, plot.surface])
def test_a_minimax_path_goes_through_its_cells(draw):
    ends = FOUND.of_kind("minimum")
    path = jxs.topology.minimax_path(SURFACE, *ends, FOUND)
    figure = draw(SURFACE, minimax_path=path)
    under, line = named(figure, "minimax path, ")
    np.testing.assert_allclose(line.x, [cell.a for cell in path.path], atol=1e-6)
    np.testing.assert_allclose(line.y, [cell.b for cell in path.path], atol=1e-6)
    assert line.showlegend
    assert not under.showlegend


@pytest.mark.parametrize("draw", [plot.contour, plot.surface])
def test_a_valley_is_clipped_at_the_edge_and_has_a_gap_at_its_pole(draw):
    data = jxs.data.teacher_student(jax.random.key(0), noise=0.3)
    surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-2, 2, 41))
    bottom = jxs.topology.valley(jxs.squared_error, data, w1=(-4, 4, 400))
    line = named(draw(surface, valley=bottom), "bottom of the valley")[1]
    x, y = np.array(line.x, float), np.array(line.y, float)
    gaps = ~np.isfinite(x)
    assert gaps.sum() == 1
    assert np.nanmax(abs(x)) <= 3 + 1e-6
    assert np.nanmax(abs(y)) <= 2 + 1e-6
    # No line connects the two halves across the grid.
    steps = np.hypot(np.diff(x), np.diff(y))
    assert np.nanmax(steps) < 0.5


@pytest.mark.parametrize("draw", [plot.contour, plot.surface])
def test_solutions_of_a_plane_are_marked_between_nodes(draw):
    """In 3-D they have the interpolated height of the drawn surface."""
    corners = [{"p": np.float32(p), "q": np.float32(q)} for p, q in ((0, 0), (2, 1), (-1, 3))]
    plane = jxs.Plane.through(*corners)
    loss = jax.jit(lambda p, _: 3 * p["p"] - p["q"] + 7)
    surface = jxs.landscape(loss, None, plane, a=(-0.4, 1.33, 8), b=(-0.7, 0.8, 11))
    figure = draw(surface)
    assert "marks outside the grid: 1" in figure.layout.title.subtitle.text
    (marks,) = named(figure, "first (0, 0), second (1, 0)")
    np.testing.assert_allclose([marks.x, marks.y], [[0, 1], [0, 0]])
    assert list(marks.text) == ["first", "second"]
    titles = figure.layout if draw is plot.contour else figure.layout.scene
    units = "a (first → second)", "b (first → third)"
    # In 3-D, titles with units would be cut off; a note has the units.
    expected = ("a", "b") if draw is plot.surface else units
    assert (titles.xaxis.title.text, titles.yaxis.title.text) == expected
    in_note = f"axes: {', '.join(units)}" in figure.layout.meta["notes"]
    assert in_note == (draw is plot.surface)
    labels = titles.annotations
    assert [(label.x, label.text) for label in labels] == [(0, "first"), (1, "second")]
    if draw is plot.surface:
        above = np.array(marks.z) - [7, 12]
        assert (above > 0).all()
        assert (above < 0.05 * (surface.highest - surface.lowest.loss)).all()
    assert not named(draw(SURFACE), "first")


def test_units_and_marks_of_a_plane_are_on_all_figures_of_the_plane():
    marks, units = (Mark(0.5, 1, "here"), Mark(9, 9, "away")), ("mm", "s")
    plane = jxs.Plane(
        jxs.Weights(0.0, 0.0),
        jxs.Weights(1.0, None),
        jxs.Weights(None, 1.0),
        names=("w1", "w2"),
        units=units,
        marks=marks,
    )
    grid = {"w1": (-1, 1, 7), "w2": (-2, 2, 5)}
    data = jxs.data.teacher_student(jax.random.key(0))
    fields = jxs.derivatives(jxs.squared_error, data, plane, **grid)
    basins = jxs.basins(jxs.squared_error, data, plane, optimizer=optax.sgd(0.3), steps=2, **grid)
    bottom = jxs.topology.valley(jxs.squared_error, data, plane, w1=(0.5, 1, 4))
    assert fields.marks == fields.landscape.marks == basins.marks == marks
    assert (bottom.a.unit, bottom.b_unit) == units
    along = plot.profile(bottom).layout
    assert along.xaxis2.title.text == "w1 (mm)"
    assert along.yaxis2.title.text == "w2 (s)"
    for figure in (plot.slopes(fields), plot.curvature(fields), plot.basins(basins)):
        (shown,) = named(figure, "here (0.5, 1)")
        assert (*shown.x, *shown.y) == (0.5, 1)
        assert "marks outside the grid: 1" in figure.layout.title.subtitle.text
        if "z" in shown:
            assert figure.layout.scene.xaxis.title.text == "w1"
            assert "axes: w1 (mm), w2 (s)" in figure.layout.meta["notes"]
        else:
            assert figure.layout.xaxis.title.text == "w1 (mm)"
    assert named(plot.curvature(fields), "here")[0].type == "scatter3d"


@pytest.mark.parametrize("draw", [plot.contour, plot.surface, plot.side_by_side])
def test_a_grid_of_one_row_or_column_has_its_marks(draw):
    """An interrupted landscape may have one row."""
    row, line = jxs.Axis(np.float32([0.1]), "a"), jxs.Axis(np.array([0.0, 2, 3]), "b")
    marks = (Mark(0.1, 0.5, "on it"), Mark(0.1, 3, "last"), Mark(0.2, 1, "off it"))
    loss = np.array([[4.0, 8, 7]])
    across = jxs.Landscape(loss, row, line, "loss", "dense", marks)
    turned = tuple(Mark(b, a, name) for a, b, name in marks)
    for surface in (across, jxs.Landscape(loss.T, line, row, "loss", "dense", turned)):
        names, places = paths_module.marks_on_grid(surface)
        assert names == ["on it", "last"]
        np.testing.assert_array_equal(places[:, 2], [5, 7])
        assert "marks outside the grid: 1" in draw(surface).layout.title.subtitle.text


def test_overlays_of_other_types_or_coordinates_are_errors():
    for name in ("critical", "valley", "minimax_path"):
        with pytest.raises(TypeError, match=f"{name}: expected .*, got int"):
            plot.contour(SURFACE, **{name: 3})
    plane = jxs.Plane(
        jxs.Weights(0.0, 0.0), jxs.Weights(1.0, None), jxs.Weights(None, 1.0), names=("s", "t")
    )
    other = jxs.critical_points(LOSS, None, plane, s=(-2.0, 2.0), t=(-2.0, 2.0))
    with pytest.raises(ValueError, match=r"critical: expected coordinates \('w1', 'w2'\)"):
        plot.contour(SURFACE, critical=other)


@pytest.mark.parametrize(("count", "size"), [(1, 18), (3, 14)])
def test_a_high_legend_has_short_entries_and_the_scene_small_titles(count, size):
    """At 600 × 450, three complete entries and two kinds of points took a third of the figure."""
    numbers = np.array([-1.25, 0.5])
    path = jxs.Trajectory(
        jxs.Weights(numbers, numbers), np.arange(2), numbers, hills(numbers, numbers), -1, 1
    )
    names = [f"path {k}" for k in range(count)]
    paths = [dataclasses.replace(path, name=name) for name in names]
    figure = plot.surface(SURFACE, *paths, critical=FOUND if count > 1 else None)
    entries = [t.name for t in figure.data if t.legendgroup in names and t.hovertemplate]
    assert entries == (names if count == 3 else ["path 0: start (-1.25, -1.25), end (0.5, 0.5)"])
    assert figure.layout.scene.yaxis.title.font.size == size
