"""Several views in one figure: of the same numbers, on one scale."""

import dataclasses

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
from tests.plot.helpers import PATH, make_landscape, make_path, traces
from tests.plot.parts.test_scale import steep

WIDE, SMALL = make_landscape(9, 6), make_landscape(5, 4, lambda a, b: 40 + a - b)
SMALL = jxs.Landscape(SMALL.loss, jxs.Axis(np.linspace(0, 7, 5), "w1"), SMALL.b, "other", "dense")


def test_both_sides_are_the_figures_of_their_own():
    losses = np.array([7.0, 3.0, 7.25]), np.array([3.24, 6.69])
    paths = tuple(
        dataclasses.replace(path, evaluation_loss=loss)
        for path, loss in zip((PATH, make_path([0.2, 0.3], [1, 2])), losses, strict=True)
    )
    figure = plot.side_by_side(WIDE, *paths, clip=0.9)
    apart = [*plot.surface(WIDE, *paths, clip=0.9).data, *plot.contour(WIDE, *paths, clip=0.9).data]
    assert len(figure.data) == len(apart)
    for ours, theirs in zip(figure.data, apart, strict=True):
        assert ours.type == theirs.type
        np.testing.assert_array_equal(ours.x, theirs.x)
        np.testing.assert_array_equal(ours.y, theirs.y)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("w1", "w2")
    assert figure.layout.scene.domain.x[1] < figure.layout.xaxis.domain[0]
    assert [t.showscale for t in figure.data if t.type in ("surface", "heatmap")] == [False, None]
    assert len(figure.layout.meta["notes"]) == 1


def test_units_are_said_once_beside_the_scene_which_has_no_room_for_them():
    axes = [jxs.Axis(axis.values, axis.name, "filter-normalized") for axis in (WIDE.a, WIDE.b)]
    figure = plot.side_by_side(jxs.Landscape(WIDE.loss, *axes, "loss", "dense"))
    scene, above = figure.layout.scene, figure.layout
    assert (scene.xaxis.title.text, scene.yaxis.title.text) == ("w1", "w2")
    assert above.xaxis.title.text == "w1 (filter-normalized)"
    assert above.yaxis.title.text == "w2 (filter-normalized)"


def test_a_path_has_one_entry_in_the_legend_for_both_sides():
    figure = plot.side_by_side(WIDE, PATH, make_path([0.2, 0.3], [1, 2]))
    entries = [t.name for t in figure.data if t.showlegend is not False and t.legendgroup]
    assert entries == ["descent 1", "descent 2"]
    for kind, count in (("scatter3d", 5), ("scatter", 5)):
        assert sum(t.legendgroup == "descent 1" for t in traces(figure, kind)) == count


def test_surfaces_are_on_one_scale_with_one_camera():
    """Colors from the lowest of all to the highest of all, axes over all ranges, as in no one."""
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
    # With the path's points a hair above the surface.
    assert one.zaxis.range[1] >= SMALL.loss.max()
    assert {t.scene for t in traces(figure, "scatter3d")} == {"scene"}
    texts = [note.text for note in figure.layout.annotations]
    assert texts[0].startswith("<b>wide</b>")
    assert "squared error, 9 × 6" in texts[0]
    assert "other, 5 × 4" in texts[1]
    assert first.colorbar.title.text == "loss"


def test_lone_cells_have_the_colors_of_all():
    lone = jxs.Landscape(np.full((5, 4), np.nan), SMALL.a, SMALL.b, "loss", "dense")
    lone.loss[2, 1] = SMALL.loss[2, 1]
    figure = plot.compare({"wide": WIDE, "lone": lone})
    surface, (points,) = traces(figure, "surface")[0], traces(figure, "scatter3d")
    assert points.scene == "scene2"
    assert (points.marker.cmin, points.marker.cmax) == (surface.cmin, surface.cmax)


def test_notes_say_of_which_surface_they_are():
    holes = np.where(SMALL.loss > 40, np.nan, SMALL.loss)
    broken = jxs.Landscape(holes, SMALL.a, SMALL.b, "loss", "dense")
    notes = plot.compare({"wide": WIDE, "broken": broken}).layout.meta["notes"]
    assert notes == ["broken: 2 of 20 cells are not finite, the first at w1 = 5.25, w2 = 0"]


def test_one_quantile_of_all_cells_and_one_note():
    found = {"one": make_landscape(9, 6, steep), "two": make_landscape(4, 3, steep)}
    figure = plot.compare(found, log=True, clip=0.7)
    top = np.quantile(np.concatenate([s.loss.ravel() for s in found.values()]), 0.7)
    for trace in traces(figure, "surface"):
        assert trace.cmax == pytest.approx(np.log10(top))
    [note] = figure.layout.meta["notes"]
    assert note.startswith("log scale, colors end")


def test_a_path_of_one_name_is_switched_in_all():
    figure = plot.compare({"a": (WIDE, PATH), "b": (WIDE, PATH)})
    entries = [t for t in figure.data if t.legendgroup == "descent" and t.showlegend]
    assert [t.name for t in entries] == ["descent"]
    assert {t.scene for t in figure.data if t.legendgroup == "descent"} == {"scene", "scene2"}


@pytest.mark.parametrize(
    ("surfaces", "error", "words"),
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
def test_what_cannot_be_compared_is_refused(surfaces, error, words):
    with pytest.raises(error, match=words):
        plot.compare(surfaces)


def test_surfaces_over_other_coordinates_are_refused():
    other = jxs.Landscape(WIDE.loss, jxs.Axis(WIDE.a.values, "s"), WIDE.b, "loss", "dense")
    words = r"surfaces\['b'\]: expected coordinates \('w1', 'w2'\), .* got \('s', 'w2'\)"
    with pytest.raises(ValueError, match=words):
        plot.compare({"a": WIDE, "b": other})


def test_what_is_noted_of_several_is_said_once():
    far = make_path([-1, 9], [1, 2])
    notes = plot.compare({"a": (WIDE, far), "b": (WIDE, far)}).layout.meta["notes"]
    assert notes[0] == "all: 1 of 2 points of descent lie outside the grid"
    assert len(notes) == len(set(notes)) == 2
    notes = plot.compare({"a": (WIDE, far), "b": WIDE, "c": (WIDE, far)}).layout.meta["notes"]
    assert notes[0] == "a, c: 1 of 2 points of descent lie outside the grid"


def test_axes_of_other_units_are_noted():
    """Of a plane through another point, say: a place in one is then no place in the other."""
    axes = [jxs.Axis(axis.values, axis.name, "distance") for axis in (SMALL.a, SMALL.b)]
    other = jxs.Landscape(SMALL.loss, *axes, "loss", "dense")
    notes = plot.compare({"one": SMALL, "other": other}).layout.meta["notes"]
    assert notes == ["other: axes: w1 (distance), w2 (distance)"]


def test_compared_surfaces_say_their_units_once():
    axes = jxs.Axis(np.arange(4.0), "a", "filter-normalized"), jxs.Axis(np.arange(3.0), "b")
    one, other = (
        jxs.Landscape(np.arange(12.0).reshape(4, 3) * k, *axes, "loss", "dense") for k in (1, 2)
    )
    figure = plot.compare({"one": one, "other": other})
    assert figure.layout.meta["notes"] == ["axes: a (filter-normalized)"]
    titles = [figure.layout.scene2[f"{axis}axis"].title.text for axis in "xy"]
    assert titles == ["a", "b"]


def test_names_of_surfaces_with_tags_are_shown_as_they_are():
    figure = plot.compare({"one": WIDE, "rate <b>": SMALL})
    assert figure.layout.annotations[1].text.startswith("<b>rate &lt;b&gt;</b>")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_many_surfaces_the_ends_of_axes_are_said_once(count):
    """No numbers along their axes have room on a small figure."""
    wide = make_landscape(7, 5)
    figure = plot.compare({f"{k}": wide if k else SMALL for k in range(count)})
    (a, b), (other_a, other_b) = ((s.a.values, s.b.values) for s in (wide, SMALL))
    low_a, low_b = min(a[0], other_a[0]), min(b[0], other_b[0])
    high_a, high_b = max(a[-1], other_a[-1]), max(b[-1], other_b[-1])
    said = f"w1 from {low_a:.4g} to {high_a:.4g}, w2 from {low_b:.4g} to {high_b:.4g}"
    assert figure.layout.meta["notes"] == ([said] if count > 2 else [])
    assert figure.layout.scene2.xaxis.showticklabels == (count == 2)
    assert figure.layout.scene2.xaxis.title.text == "w1"


@pytest.mark.parametrize(("count", "ticks", "size"), [(2, 4, 14), (3, 4, 11), (7, 3, 11)])
def test_in_more_rows_there_are_fewer_ticks_and_smaller_words(count, ticks, size):
    """At 600 x 450 an axis of heights is as long as three of its ticks are high."""
    decades = make_landscape(7, 5, lambda a, b: 10 ** (a - b + 3.1))
    figure = plot.compare({f"{k}": decades for k in range(count)}, log=True)
    assert 1 < len(figure.layout.scene.zaxis.tickvals) <= ticks
    assert figure.layout.scene2.xaxis.title.font.size == size
