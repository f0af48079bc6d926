"""Animations: every frame shows what the still figure of the path so far shows, and only that."""

import jax
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.plot.parts import legend


def make_landscape():
    a, b = np.linspace(-2, 1, 7), np.linspace(0, 4, 5)
    loss = a[:, None] ** 2 + 3 * b + a[:, None] * b
    axes = jxs.Axis(a, "w1"), jxs.Axis(b, "w2")
    return jxs.Landscape(loss, *axes, loss_name="squared error", method="dense")


def make_path(w1, w2, name="", steps_per_epoch=2):
    count = len(w1)
    return jxs.Trajectory(
        params=jxs.Weights(np.asarray(w1, float), np.asarray(w2, float)),
        step=3 * np.arange(count),
        training_loss=10.0 + np.sin(np.arange(count)),
        evaluation_loss=None,
        diverged_step=np.int32(-1),
        steps_per_epoch=steps_per_epoch,
        name=name,
    )


# One leaves through w1 = -2, comes back and stops; the other goes on for longer.
WANDERER = make_path([-1, -1.5, -2.5, -3, -1.5, 0.5], [3, 2.5, 1.1, 2, 3.2, 2.7], "wanderer")
STAYER = make_path(np.linspace(0, 0.9, 9), np.linspace(0.1, 3, 9), "stayer")
KINDS = {"surface": plot.surface, "contour": plot.contour}


def until(path, epoch):
    kept = int((path.epoch <= epoch).sum())
    return jax.tree.map(lambda leaf: leaf[:kept] if np.ndim(leaf) else leaf, path)


def places(trace):
    return [trace[axis] for axis in "xyz" if axis in trace and trace[axis] is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_shows_what_the_figure_of_the_paths_so_far_shows(kind):
    figure = plot.animation(make_landscape(), WANDERER, STAYER, kind=kind)
    assert [frame.name for frame in figure.frames] == [f"{1.5 * k:g}" for k in range(9)]
    for frame in figure.frames[1:]:
        still = KINDS[kind](
            make_landscape(), *(until(path, float(frame.name)) for path in (WANDERER, STAYER))
        )
        assert len(still.data) == len(figure.data)
        for index, part in zip(frame.traces, frame.data, strict=True):
            assert part.type == still.data[index].type
            pairs = zip(places(part), places(still.data[index]), strict=True)
            for ours, theirs in pairs:
                np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_hold_what_moves_and_nothing_else(kind):
    figure = plot.animation(make_landscape(), WANDERER, STAYER, kind=kind)
    for frame in figure.frames:
        moving = [figure.data[index] for index in frame.traces]
        assert {trace.legendgroup for trace in moving} == {"wanderer", "stayer"}
        assert not any((trace.name or "").startswith("start") for trace in moving)
        keys = {key for part in frame.data for key in part.to_plotly_json()}
        assert keys <= {"type", "x", "y", "z", "name"}
    assert len(figure.frames[0].traces) == 8


@pytest.mark.parametrize(("count", "shown"), [(5, 1), (8, 0)])
def test_the_legend_of_many_moving_paths_has_room_below_the_slider(count, shown):
    """Three in a row, as counted: the words about the lowest cell are longer than names."""
    paths = [make_path([0.1, 0.2], [0.1, 0.3], f"path {k}") for k in range(count)]
    figure = plot.animation(make_landscape(), *paths, kind="contour")
    entries = [t.name for t in figure.data if t.name and t.showlegend is not False]
    names = [name for name in entries if name.startswith("path ")]
    assert len(names) == count
    assert sum(name.startswith("lowest cell") for name in entries) == shown


@pytest.mark.parametrize("kind", KINDS)
def test_below_the_slider_there_is_room_for_as_many_names_as_there_are(kind):
    margins = []
    for count in (1, 20):
        paths = [make_path([0.1, 0.2], [0.1, 0.3], f"path {k}") for k in range(count)]
        figure = plot.animation(make_landscape(), *paths, kind=kind)
        [slider] = figure.layout.sliders
        margins.append(figure.layout.margin.b)
        # Its words, its rail and their numbers are 80 pixels high.
        assert margins[-1] >= slider.pad.t + 80 + legend.estimate_height(figure)
    assert margins[0] + 40 < margins[1]


def test_it_opens_with_the_whole_path_and_the_slider_at_its_end():
    figure = plot.animation(make_landscape(), WANDERER)
    [slider], [menu] = figure.layout.sliders, figure.layout.updatemenus
    assert slider.active == len(figure.frames) - 1 == len(slider.steps) - 1
    assert [step.args[0][0] for step in slider.steps] == [frame.name for frame in figure.frames]
    assert [button.label for button in menu.buttons] == ["Play", "Pause"]
    # Without it nothing in space moves.
    for part in (*menu.buttons, *slider.steps):
        assert part.args[1]["frame"]["redraw"] is True
    still = plot.surface(make_landscape(), WANDERER)
    for ours, theirs in zip(figure.data, still.data, strict=True):
        np.testing.assert_array_equal(ours.z, theirs.z)
    assert figure.layout.meta["notes"] == still.layout.meta["notes"]


def test_a_long_path_is_thinned_and_the_figure_says_so():
    turns = np.linspace(0, 20, 1376)
    path = make_path(-0.5 + np.cos(turns), 2 + np.sin(turns))
    figure = plot.animation(make_landscape(), path)
    assert len(figure.frames) == 100
    assert figure.frames[-1].name == f"{path.epoch[-1]:.6g}"
    assert "400 of 1376 points of descent are drawn" in figure.layout.meta["notes"]
    assert "400 of 1376 points" in figure.layout.title.subtitle.text
    [points] = [trace for trace in figure.data if trace.legendgroup and trace.hovertemplate]
    assert len(points.x) == 400
    # All of them are points of the path, and each keeps its own epoch.
    index = np.round(points.customdata[:, 1] / 1.5).astype(int)
    np.testing.assert_allclose(points.x, path.params.w1[index])
    assert (index[0], index[-1]) == (0, 1375)


@pytest.mark.parametrize("log", [False, True])
def test_a_path_off_the_plane_has_its_head_at_its_tip(log):
    """And not on the surface under it, where its dotted shadow ends."""
    count = 30
    coordinates = np.stack([np.linspace(-1.9, 0.8, count), np.linspace(0.1, 3.9, count)], axis=1)
    a, b = coordinates.T
    under = a**2 + 3 * b + a * b
    own = under + np.linspace(9, 1, count)
    seen = jxs.Projection(
        coordinates, own - under, own, under, np.arange(float(count)), 0.5, ("w1", "w2"), "walk"
    )
    figure = plot.animation(make_landscape(), seen, log=log)
    marks = [(k, t) for k, t in enumerate(figure.data) if t.legendgroup and t.mode == "markers"]
    (points,) = (k for k, trace in marks if trace.hovertemplate)
    (head,) = (k for k, trace in marks if (trace.name or "").startswith("end"))
    for frame in figure.frames:
        moved = dict(zip(frame.traces, frame.data, strict=True))
        at, tip = (
            np.array([moved[k].x[-1], moved[k].y[-1], moved[k].z[-1]]) for k in (head, points)
        )
        np.testing.assert_allclose(at[:2], tip[:2])
        # A hair apart, in parts of the surface's height.
        assert abs(at[2] - tip[2]) < 0.01 * float(np.ptp(figure.data[0].z))


@pytest.mark.parametrize(
    ("paths", "more", "message"),
    [
        ([], {}, "paths: expected a descent to show as it went, as descend returns, got none"),
        ([make_path([0], [1])], {}, "paths: expected one of two points or more"),
        ([make_path([5, 6], [1, 1])], {}, "paths: .* got none; the grid has w1 from -2 to 1 and"),
        ([STAYER], {"kind": "heatmap"}, "kind: expected 'surface' or 'contour', got 'heatmap'"),
    ],
)
def test_what_cannot_move_is_refused(paths, more, message):
    with pytest.raises(ValueError, match=message):
        plot.animation(make_landscape(), *paths, **more)


def test_what_is_no_path_is_refused():
    with pytest.raises(
        TypeError, match="paths: expected Trajectory or Projection objects, got str"
    ):
        plot.animation(make_landscape(), "path")
