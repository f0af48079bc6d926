"""The legend below a figure: its estimated height, and shortened entries."""

import dataclasses

import plotly.graph_objects as go
import pytest

from jaxscape import plot
from jaxscape.plot.parts import legend
from tests.plot.helpers import PATH, make_landscape

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
def test_many_long_names_are_abbreviated_so_that_two_fit_into_a_row(kind):
    figure = DRAWN[kind](make_landscape(), *paths(LONG))
    shown = [entry for entry in entries(figure) if entry.legendgroup]
    assert len({entry.name for entry in shown}) == len(LONG)
    assert shown[3].name == "Adam &lt;b&gt;,…rate 0.001"
    assert all(f"<b>{entry.legendgroup}</b>" in entry.hovertemplate for entry in shown)
    assert shown[3].legendgroup == "Adam &lt;b&gt;, learning rate 0.001"
    # An animation leaves the lowest cell out.
    lowest = [entry.name for entry in entries(figure) if not entry.legendgroup]
    assert lowest == ([] if kind == "animation" else ["lowest cell"])
    assert legend.estimate_height(figure) <= 10 + 19 * 5


def test_compared_surfaces_share_entries_if_one_of_them_abbreviates_names():
    few, many = paths(LONG[:1]), paths(LONG)
    figure = plot.compare({"few": (make_landscape(), *few), "many": (make_landscape(), *many)})
    assert len(entries(figure)) == len(LONG)


def test_a_short_legend_has_complete_entries():
    names = [entry.name for entry in entries(plot.contour(make_landscape(), *paths(SHORT)))]
    assert names[0] == "lowest cell: 0, on the edge"
    assert names[1:] == [f"{name}: start (-1, 3), end (0.5, 2)" for name in SHORT]
    [entry] = entries(plot.surface(make_landscape(), *paths(LONG[:1])))
    assert entry.name.startswith(f"{entry.legendgroup}: start")


def test_a_figure_without_entries_has_no_legend():
    figure = go.Figure([go.Scatter(y=[1, 2]), go.Scatter(y=[1], name="hidden", showlegend=False)])
    assert legend.estimate_height(figure) == 0


def test_the_height_grows_with_the_rows_up_to_a_limit():
    heights = [
        legend.estimate_height(go.Figure([go.Scatter(y=[1], name="n" * 40)] * count))
        for count in (1, 2, 4, 8, 20)
    ]
    assert heights == [10 + 19 * rows for rows in (1, 2, 4, 8, 8)]
    # Two short entries share a row.
    assert legend.estimate_height(go.Figure([go.Scatter(y=[1], name="n" * 4)] * 2)) == 10 + 19


def test_shortening_that_saves_no_row_is_undone():
    names = [f"path {k}" for k in range(40)]
    figure = go.Figure(
        [go.Scatter(y=[1], name=f"{n}: start", legendgroup=n, hovertemplate="x") for n in names]
    )
    legend.shorten(figure)
    assert [trace.name for trace in figure.data] == [f"{name}: start" for name in names]
