"""The legend: on a small figure it leaves room for the picture; hover tells what is left out."""

import dataclasses

import pytest

from jaxscape import plot
from jaxscape.plot.parts import legend
from tests.plot.test_surface import PATH, make_landscape

LONG = [f"Adam <b>, learning rate {10.0**-k:g}" for k in range(8)]
SHORT = [f"path {k}" for k in range(3)]


def paths(names):
    return [dataclasses.replace(PATH, name=name) for name in names]


def entries(figure):
    kept = [t for t in figure.data if t.name and t.showlegend is not False]
    return [t for t in kept if t.type in ("scatter", "scatter3d")]


DRAWN = {
    "contour": plot.contour,
    "side_by_side": plot.side_by_side,
    "animation": lambda *given: plot.animation(*given, kind="contour"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_long_names_are_cut_in_the_middle_so_that_two_stand_side_by_side(kind):
    figure = DRAWN[kind](make_landscape(), *paths(LONG))
    shown = [entry for entry in entries(figure) if entry.legendgroup]
    assert len({entry.name for entry in shown}) == len(LONG)
    assert shown[3].name == "Adam &lt;b&gt;,…rate 0.001"
    assert all(f"<b>{entry.legendgroup}</b>" in entry.hovertemplate for entry in shown)
    assert shown[3].legendgroup == "Adam &lt;b&gt;, learning rate 0.001"
    # The animation has no room for it.
    lowest = [entry.name for entry in entries(figure) if not entry.legendgroup]
    assert lowest == ([] if kind == "animation" else ["lowest cell"])
    assert legend.estimate_height(figure) <= 10 + 19 * 5


def test_compared_surfaces_agree_on_names_where_one_has_many():
    few, many = paths(LONG[:1]), paths(LONG)
    figure = plot.compare({"few": (make_landscape(), *few), "many": (make_landscape(), *many)})
    assert len(entries(figure)) == len(LONG)


def test_a_short_legend_says_all_there_is_to_say():
    names = [entry.name for entry in entries(plot.contour(make_landscape(), *paths(SHORT)))]
    assert names[0] == "lowest cell: 0, on the edge"
    assert names[1:] == [f"{name}: start (-1, 3), end (0.5, 2)" for name in SHORT]
    [entry] = entries(plot.surface(make_landscape(), *paths(LONG[:1])))
    assert entry.name.startswith(f"{entry.legendgroup}: start")
