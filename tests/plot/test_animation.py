"""Animations: each frame shows what the figure of the paths so far shows."""

import jax
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.plot.parts import legend
from tests.plot.helpers import make_landscape, make_path, points_of

# One path leaves through w1 = -2, comes back and stops; the other one is longer.
WANDERER = make_path(
    [-1, -1.5, -2.5, -3, -1.5, 0.5], [3, 2.5, 1.1, 2, 3.2, 2.7], stride=3, name="wanderer"
)
STAYER = make_path(np.linspace(0, 0.9, 9), np.linspace(0.1, 3, 9), stride=3, name="stayer")
KINDS = {"surface": plot.surface, "contour": plot.contour}


def until(path, epoch):
    """Return the points of a path up to an epoch."""
    kept = int((path.epoch <= epoch).sum())
    return jax.tree.map(lambda leaf: leaf[:kept] if np.ndim(leaf) else leaf, path)


def coordinates(trace):
    return [trace[axis] for axis in "xyz" if axis in trace and trace[axis] is not None]


def make_short_paths(count):
    return [make_path([0.1, 0.2], [0.1, 0.3], name=f"path {k}") for k in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_shows_the_figure_of_the_paths_so_far(kind):
    figure = plot.animation(make_landscape(), WANDERER, STAYER, kind=kind)
    assert [frame.name for frame in figure.frames] == [f"{1.5 * k:g}" for k in range(9)]
    for frame in figure.frames[1:]:
        paths = [until(path, float(frame.name)) for path in (WANDERER, STAYER)]
        expected = KINDS[kind](make_landscape(), *paths)
        assert len(expected.data) == len(figure.data)
        for index, part in zip(frame.traces, frame.data, strict=True):
            assert part.type == expected.data[index].type
            pairs = zip(coordinates(part), coordinates(expected.data[index]), strict=True)
            for values, expected_values in pairs:
                np.testing.assert_allclose(values, expected_values, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_hold_only_what_changes(kind):
    figure = plot.animation(make_landscape(), WANDERER, STAYER, kind=kind)
    for frame in figure.frames:
        moving = [figure.data[index] for index in frame.traces]
        assert {trace.legendgroup for trace in moving} == {"wanderer", "stayer"}
        assert not any((trace.name or "").startswith("start") for trace in moving)
        keys = {key for part in frame.data for key in part.to_plotly_json()}
        assert keys <= {"type", "x", "y", "z", "name"}
    assert len(figure.frames[0].traces) == 8


@pytest.mark.parametrize(("count", "shown"), [(5, 1), (8, 0)])
def test_the_legend_of_many_paths_drops_the_lowest_cell(count, shown):
    """Without it, the longest entry, three entries fit in a row."""
    figure = plot.animation(make_landscape(), *make_short_paths(count), kind="contour")
    entries = [t.name for t in figure.data if t.name and t.showlegend is not False]
    assert sum(name.startswith("path ") for name in entries) == count
    assert sum(name.startswith("lowest cell") for name in entries) == shown


@pytest.mark.parametrize("kind", KINDS)
def test_the_bottom_margin_has_space_for_the_slider_and_the_legend(kind):
    margins = []
    for count in (1, 20):
        figure = plot.animation(make_landscape(), *make_short_paths(count), kind=kind)
        [slider] = figure.layout.sliders
        margins.append(figure.layout.margin.b)
        # The slider is 80 pixels high with its text and numbers.
        assert margins[-1] >= slider.pad.t + 80 + legend.estimate_height(figure)
    assert margins[0] + 40 < margins[1]


def test_the_figure_first_shows_the_complete_paths_with_the_slider_at_its_end():
    figure = plot.animation(make_landscape(), WANDERER)
    [slider], [menu] = figure.layout.sliders, figure.layout.updatemenus
    assert slider.active == len(figure.frames) - 1 == len(slider.steps) - 1
    assert [step.args[0][0] for step in slider.steps] == [frame.name for frame in figure.frames]
    assert [button.label for button in menu.buttons] == ["Play", "Pause"]
    # Plotly does not animate 3-D traces without a redraw.
    for part in (*menu.buttons, *slider.steps):
        assert part.args[1]["frame"]["redraw"] is True
    complete = plot.surface(make_landscape(), WANDERER)
    for trace, expected in zip(figure.data, complete.data, strict=True):
        np.testing.assert_array_equal(trace.z, expected.z)
    assert figure.layout.meta["notes"] == complete.layout.meta["notes"]


def test_of_a_long_path_400_points_are_drawn_in_100_frames():
    turns = np.linspace(0, 20, 1376)
    path = make_path(-0.5 + np.cos(turns), 2 + np.sin(turns), stride=3)
    figure = plot.animation(make_landscape(), path)
    assert len(figure.frames) == 100
    assert figure.frames[-1].name == f"{path.epoch[-1]:.6g}"
    assert "400 of 1376 points of descent are drawn" in figure.layout.meta["notes"]
    assert "400 of 1376 points" in figure.layout.title.subtitle.text
    points = points_of(figure, "scatter3d")
    assert len(points.x) == 400
    # Each is a point of the path, with its own epoch.
    index = np.round(points.customdata[:, 1] / 1.5).astype(int)
    np.testing.assert_allclose(points.x, path.params.w1[index])
    assert (index[0], index[-1]) == (0, 1375)


@pytest.mark.parametrize("log", [False, True])
def test_the_end_marker_of_a_path_off_the_plane_is_at_its_own_loss(log):
    """The dotted line on the surface below has no marker."""
    count = 30
    a, b = np.linspace(-1.9, 0.8, count), np.linspace(0.1, 3.9, count)
    surface_loss = a**2 + 3 * b + a * b
    loss = surface_loss + np.linspace(9, 1, count)
    projection = jxs.Projection(
        coordinates=np.stack([a, b], axis=1),
        distance=loss - surface_loss,
        loss=loss,
        surface_loss=surface_loss,
        epoch=np.arange(float(count)),
        explained=0.5,
        names=("w1", "w2"),
        name="walk",
    )
    figure = plot.animation(make_landscape(), projection, log=log)
    markers = [(k, t) for k, t in enumerate(figure.data) if t.legendgroup and t.mode == "markers"]
    (points,) = (k for k, trace in markers if trace.hovertemplate)
    (end,) = (k for k, trace in markers if (trace.name or "").startswith("end"))
    for frame in figure.frames:
        parts = dict(zip(frame.traces, frame.data, strict=True))
        marker, last = (
            np.array([parts[k].x[-1], parts[k].y[-1], parts[k].z[-1]]) for k in (end, points)
        )
        np.testing.assert_allclose(marker[:2], last[:2])
        # Markers are drawn slightly above points.
        assert abs(marker[2] - last[2]) < 0.01 * float(np.ptp(figure.data[0].z))


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([], {}, "paths: expected at least one result of descend or project, got none"),
        ([make_path([0], [1])], {}, "paths: expected one with two or more points on the grid"),
        ([make_path([5, 6], [1, 1])], {}, "paths: .* got none; the grid has w1 from -2 to 1 and"),
        ([STAYER], {"kind": "heatmap"}, "kind: expected 'surface' or 'contour', got 'heatmap'"),
    ],
)
def test_bad_values_raise(paths, options, message):
    with pytest.raises(ValueError, match=message):
        plot.animation(make_landscape(), *paths, **options)


def test_arguments_of_other_types_raise():
    message = "paths: expected Trajectory or Projection objects, got str"
    with pytest.raises(TypeError, match=message):
        plot.animation(make_landscape(), "path")
