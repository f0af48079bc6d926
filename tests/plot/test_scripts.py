"""Scripts of figures on a page."""

import plotly.graph_objects as go
import pytest

from jaxscape import plot
from jaxscape.plot import scripts
from tests.plot.helpers import PATH, make_landscape

LANDSCAPE = make_landscape(9, 6)
TWO = {"a": LANDSCAPE, "b": LANDSCAPE}


def test_figures_of_linked_panels_have_a_script_for_the_mouse():
    for figure in (plot.side_by_side(LANDSCAPE), plot.compare(TWO)):
        script = scripts.page_script(figure)
        assert "{plot_id}" in script
        assert "plotly_hover" in script
    assert "plotly_hover" not in scripts.page_script(plot.surface(LANDSCAPE))


def test_a_contour_plot_has_no_script():
    assert scripts.page_script(plot.contour(LANDSCAPE)) is None
    assert scripts.page_script(plot.contour(LANDSCAPE, PATH)) is None


def test_only_a_figure_of_one_scene_adapts_to_a_narrow_window():
    assert "innerWidth" in scripts.page_script(plot.surface(LANDSCAPE))
    assert "innerWidth" in scripts.page_script(plot.side_by_side(LANDSCAPE))
    assert "innerWidth" not in scripts.page_script(plot.compare(TWO))


def test_an_animation_has_the_script_of_its_slider():
    figure = plot.animation(LANDSCAPE, PATH, kind="contour")
    assert "plotly_sliderend" in scripts.page_script(figure)


@pytest.mark.parametrize("meta", [None, "linked", ["linked", 3]])
def test_metadata_of_other_types_is_ignored(meta):
    figure = go.Figure(layout_meta=meta)
    assert scripts.figure_meta(figure) == {}
    assert scripts.page_script(figure) is None
