"""Several scenes in one figure: a surface with its contour plot, and surfaces on one scale."""

import dataclasses
import itertools

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
from tests.plot.helpers import PATH, make_landscape, make_path, traces
from tests.plot.parts.test_scale import steep

WIDE, SMALL = make_landscape(9, 6), make_landscape(5, 4, lambda a, b: 40 + a - b)
SMALL = jxs.Landscape(SMALL.loss, jxs.Axis(np.linspace(0, 7, 5), "w1"), SMALL.b, "other", "dense")


def test_both_panels_have_the_traces_of_single_figures():
    losses = np.array([7.0, 3.0, 7.25]), np.array([3.24, 6.69])
    paths = tuple(
        dataclasses.replace(path, evaluation_loss=loss)
        for path, loss in zip((PATH, make_path([0.2, 0.3], [1, 2])), losses, strict=True)
    )
    figure = plot.side_by_side(WIDE, *paths, clip=0.9)
    single = [draw(WIDE, *paths, clip=0.9).data for draw in (plot.surface, plot.contour)]
    for trace, expected in zip(figure.data, itertools.chain(*single), strict=True):
        assert trace.type == expected.type
        np.testing.assert_array_equal(trace.x, expected.x)
        np.testing.assert_array_equal(trace.y, expected.y)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("w1", "w2")
    assert figure.layout.scene.domain.x[1] < figure.layout.xaxis.domain[0]
    assert [t.showscale for t in figure.data if t.type in ("surface", "heatmap")] == [False, None]
    assert len(figure.layout.meta["notes"]) == 1


def test_only_the_contour_plot_shows_the_units():
    axes = [jxs.Axis(axis.values, axis.name, "filter-normalized") for axis in (WIDE.a, WIDE.b)]
    figure = plot.side_by_side(jxs.Landscape(WIDE.loss, *axes, "loss", "dense"))
    scene, layout = figure.layout.scene, figure.layout
    assert (scene.xaxis.title.text, scene.yaxis.title.text) == ("w1", "w2")
    assert layout.xaxis.title.text == "w1 (filter-normalized)"
    assert layout.yaxis.title.text == "w2 (filter-normalized)"
    assert layout.meta["notes"] == []


def test_a_path_has_one_legend_entry_for_both_panels():
    figure = plot.side_by_side(WIDE, PATH, make_path([0.2, 0.3], [1, 2]))
    entries = [t.name for t in figure.data if t.showlegend is not False and t.legendgroup]
    assert entries == ["descent 1", "descent 2"]
    for kind, count in (("scatter3d", 5), ("scatter", 5)):
        assert sum(t.legendgroup == "descent 1" for t in traces(figure, kind)) == count


def test_surfaces_have_common_colors_axes_and_camera():
    """No single surface has the full range of colors or coordinates."""
    figure = plot.compare({"wide": (WIDE, PATH), "small": SMALL})
    first, second = traces(figure, "surface")
    np.testing.assert_array_equal(second.z, SMALL.loss.T.astype(np.float32))
    assert (first.scene, second.scene) == ("scene", "scene2")
    ends = WIDE.loss.min(), SMALL.loss.max()
    assert (first.cmin, first.cmax) == (second.cmin, second.cmax) == ends
    assert [first.showscale, second.showscale] == [True, False]
    one, other = figure.layout.scene, figure.layout.scene2
    assert one.camera == other.camera
    for axis in ("xaxis", "yaxis", "zaxis"):
        assert one[axis].range == other[axis].range
    assert one.xaxis.range == (-2, 7)
    assert one.zaxis.range[0] == WIDE.loss.min()
    # The range includes the points of the path.
    assert one.zaxis.range[1] >= SMALL.loss.max()
    assert {t.scene for t in traces(figure, "scatter3d")} == {"scene"}
    texts = [note.text for note in figure.layout.annotations]
    assert texts[0].startswith("<b>wide</b>")
    assert "squared error, 9 × 6" in texts[0]
    assert "other, 5 × 4" in texts[1]
    assert first.colorbar.title.text == "loss"


def test_isolated_cells_have_the_common_colors():
    isolated = jxs.Landscape(np.full((5, 4), np.nan), SMALL.a, SMALL.b, "loss", "dense")
    isolated.loss[2, 1] = SMALL.loss[2, 1]
    figure = plot.compare({"wide": WIDE, "isolated": isolated})
    surface, (points,) = traces(figure, "surface")[0], traces(figure, "scatter3d")
    assert points.scene == "scene2"
    assert (points.marker.cmin, points.marker.cmax) == (surface.cmin, surface.cmax)


def test_notes_name_their_surface():
    loss = np.where(SMALL.loss > 40, np.nan, SMALL.loss)
    broken = dataclasses.replace(SMALL, loss=loss)
    notes = plot.compare({"wide": WIDE, "broken": broken}).layout.meta["notes"]
    assert notes == ["broken: 2 of 20 cells are not finite, the first at w1 = 5.25, w2 = 0"]


def test_clip_is_a_quantile_of_all_cells_with_one_note():
    surfaces = {"one": make_landscape(9, 6, steep), "two": make_landscape(4, 3, steep)}
    figure = plot.compare(surfaces, log=True, clip=0.7)
    top = np.quantile(np.concatenate([s.loss.ravel() for s in surfaces.values()]), 0.7)
    for trace in traces(figure, "surface"):
        assert trace.cmax == pytest.approx(np.log10(top))
    [note] = figure.layout.meta["notes"]
    assert note.startswith("log scale, colors end")


def test_paths_with_the_same_name_have_one_legend_entry():
    figure = plot.compare({"a": (WIDE, PATH), "b": (WIDE, PATH)})
    entries = [t for t in figure.data if t.legendgroup == "descent" and t.showlegend]
    assert [t.name for t in entries] == ["descent"]
    assert {t.scene for t in figure.data if t.legendgroup == "descent"} == {"scene", "scene2"}


@pytest.mark.parametrize(
    ("surfaces", "error", "message"),
    [
        (
            [WIDE, SMALL],
            TypeError,
            "surfaces: expected landscapes by name, as a dictionary, got list",
        ),
        ({"a": WIDE}, ValueError, "surfaces: expected 2 to 12, got 1"),
        ({str(k): WIDE for k in range(13)}, ValueError, "surfaces: expected 2 to 12, got 13"),
        ({"a": WIDE, "b": 3}, TypeError, r"surfaces\['b'\]: expected a Landscape, got int"),
        ({"a": WIDE, "b": ()}, TypeError, r"surfaces\['b'\]: expected a Landscape, got tuple"),
    ],
)
def test_bad_arguments_raise(surfaces, error, message):
    with pytest.raises(error, match=message):
        plot.compare(surfaces)


def test_two_landscapes_as_arguments_raise():
    with pytest.raises(TypeError, match="surfaces: expected landscapes by name.* got 2 arguments"):
        plot.compare(WIDE, SMALL)


def test_surfaces_with_other_coordinates_raise():
    other = dataclasses.replace(WIDE, a=jxs.Axis(WIDE.a.values, "s"))
    message = r"surfaces\['b'\]: expected coordinates \('w1', 'w2'\), .* got \('s', 'w2'\)"
    with pytest.raises(ValueError, match=message):
        plot.compare({"a": WIDE, "b": other})


def test_equal_notes_are_merged():
    far = make_path([-1, 9], [1, 2])
    notes = plot.compare({"a": (WIDE, far), "b": (WIDE, far)}).layout.meta["notes"]
    assert notes[0] == "all: 1 of 2 points of descent lie outside the grid"
    assert len(notes) == len(set(notes)) == 2
    notes = plot.compare({"a": (WIDE, far), "b": WIDE, "c": (WIDE, far)}).layout.meta["notes"]
    assert notes[0] == "a, c: 1 of 2 points of descent lie outside the grid"


def test_units_of_a_single_surface_are_noted():
    """Its coordinates then do not mean the same as those of the others."""
    axes = [jxs.Axis(axis.values, axis.name, "distance") for axis in (SMALL.a, SMALL.b)]
    other = jxs.Landscape(SMALL.loss, *axes, "loss", "dense")
    notes = plot.compare({"one": SMALL, "other": other}).layout.meta["notes"]
    assert notes == ["other: axes: w1 (distance), w2 (distance)"]


def test_common_units_are_noted_once():
    axes = jxs.Axis(np.arange(4.0), "a", "filter-normalized"), jxs.Axis(np.arange(3.0), "b")
    one, other = (
        jxs.Landscape(np.arange(12.0).reshape(4, 3) * k, *axes, "loss", "dense") for k in (1, 2)
    )
    figure = plot.compare({"one": one, "other": other})
    assert figure.layout.meta["notes"] == ["axes: a (filter-normalized)"]
    titles = [figure.layout.scene2[f"{axis}axis"].title.text for axis in "xy"]
    assert titles == ["a", "b"]


def test_names_with_html_tags_are_escaped():
    figure = plot.compare({"one": WIDE, "rate <b>": SMALL})
    assert figure.layout.annotations[1].text.startswith("<b>rate &lt;b&gt;</b>")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_with_more_than_two_surfaces_a_note_gives_the_ranges_of_the_axes(count):
    """Small figures have no space for numbers along the axes."""
    # From -2 to 1 and 0 to 7 along w1.
    figure = plot.compare({f"{k}": make_landscape() if k else SMALL for k in range(count)})
    note = "w1 from -2 to 7, w2 from 0 to 4"
    assert figure.layout.meta["notes"] == ([note] if count > 2 else [])
    assert figure.layout.scene2.xaxis.showticklabels == (count == 2)
    assert figure.layout.scene2.xaxis.title.text == "w1"


@pytest.mark.parametrize(("count", "ticks", "size"), [(2, 4, 14), (3, 4, 11), (7, 3, 11)])
def test_more_rows_have_fewer_ticks_and_smaller_text(count, ticks, size):
    """At 600 × 450 pixels, three tick labels fill the height axis."""
    decades = make_landscape(7, 5, lambda a, b: 10 ** (a - b + 3.1))
    figure = plot.compare({f"{k}": decades for k in range(count)}, log=True)
    assert 1 < len(figure.layout.scene.zaxis.tickvals) <= ticks
    assert figure.layout.scene2.xaxis.title.font.size == size
