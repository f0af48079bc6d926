"""What notebooks show of results: pictures in HTML that hold the right numbers, and no scripts."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxscape as jxs
from jaxscape.attraction import Basins
from jaxscape.limits import Limit
from jaxscape.points import CriticalPoint, CriticalPoints


def make_landscape(loss, names=("w1", "w2")):
    axes = (jxs.Axis(np.linspace(-2, 1, 5), names[0]), jxs.Axis(np.linspace(0, 4, 3), names[1]))
    return jxs.Landscape(loss, *axes, loss_name="loss", method="dense")


def picture(html):
    """The image within, (220, 320, 3), its SVG's other elements, and what is written on it."""
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", html, re.DOTALL)[0])
    [image] = svg.findall("image")
    png = base64.b64decode(image.get("href").partition(",")[2])
    words = [text.text for text in svg.findall("text")]
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), svg, words


def test_a_landscape_is_drawn_with_b_upwards_its_lowest_marked_and_holes_grey():
    loss = np.arange(15.0).reshape(5, 3)
    loss[1, 2], loss[3, 0], loss[4, 2] = -5, np.nan, 40
    html = make_landscape(loss, ("<w>", "w2"))._repr_html_()
    image, svg, words = picture(html)
    assert image.shape == (220, 320, 3)
    # Cells are as wide as they are nearest: halves at the border.
    np.testing.assert_array_equal(image[5, 80], [68, 1, 84])
    np.testing.assert_array_equal(image[5, 315], [253, 231, 37])
    np.testing.assert_array_equal(image[215, 240], [187, 187, 187])
    [mark] = svg.findall("circle")
    assert (float(mark.get("cx")), float(mark.get("cy"))) == (64 + 80, 8)
    assert {"-2", "-0.5", "1", "0", "2", "4", "<w>", "w2"} == set(words)
    assert "lowest at &lt;w&gt; = -1.25, w2 = 4 (on the edge)" in html
    assert "<script" not in html
    assert len(html) < 10_000


def test_losses_farther_apart_than_float32_are_told_apart():
    loss = np.zeros((5, 3), np.float32)
    loss[0, 0], loss[4, 2] = -3e38, 3e38
    image, *_ = picture(make_landscape(loss)._repr_html_())
    colours = [tuple(image[at]) for at in ((215, 5), (110, 160), (5, 315))]
    assert colours[::2] == [(68, 1, 84), (253, 231, 37)]
    assert len(set(colours)) == 3


def test_a_landscape_with_nothing_to_draw_shows_its_words():
    nothing = make_landscape(np.full((5, 3), np.nan))._repr_html_()
    assert nothing == f'<pre style="margin: 0">{make_landscape(np.full((5, 3), np.nan))!r}</pre>'


def test_losses_are_drawn_by_epoch_with_gaps_where_they_are_not_finite():
    path = jxs.Trajectory(
        params=jxs.Weights(np.zeros(5), np.zeros(5)),
        step=np.arange(5),
        training_loss=np.array([8.0, 4.0, np.nan, 2.0, 0.0]),
        evaluation_loss=None,
        diverged_step=np.int32(-1),
        steps_per_epoch=1,
    )
    html = path._repr_html_()
    assert 'd="M64.0 8.0L144.0 118.0M304.0 173.0L384.0 228.0"' in html
    assert "Trajectory(5 points" in html


def test_many_losses_are_those_that_did_not_diverge():
    runs = jxs.Descents(
        params=jxs.Weights(jnp.zeros((3, 2)), jnp.zeros((3, 2))),
        step=np.array([0, 3]),
        training_loss=np.array([[3.0, 2.0], [1e9, np.inf], [1.0, 0.0]]),
        evaluation_loss=None,
        diverged_step=np.array([-1, 1, -1]),
        step_size=np.zeros((3, 2)),
        travelled=np.zeros((3, 2)),
        learning_rate=None,
        gradient_norm=np.zeros(3),
        steps_per_epoch=3,
    )
    html = runs._repr_html_()
    assert re.findall('d="(M64.*?)"', html)[:2] == [
        "M64.0 8.0L384.0 81.3",
        "M64.0 154.7L384.0 228.0",
    ]
    assert "1 diverged" in html


def test_basins_have_a_colour_for_each_limit():
    label = np.zeros((5, 3), int)
    label[0], label[4, 2] = 1, 2
    limits = (
        Limit("minimum", jxs.Weights(1.0, 1.0), 0.0, np.ones(2), 11),
        Limit("minimum", jxs.Weights(-1.0, 1.0), 0.0, np.ones(2), 3),
        Limit("diverged", None, np.nan, None, 1),
    )
    axes = jxs.Axis(np.linspace(-2, 1, 5), "w1"), jxs.Axis(np.linspace(0, 4, 3), "w2")
    found = Basins(label, np.ones((5, 3), int), np.zeros((5, 3)), *axes, limits, "loss")
    image, _, _ = picture(found._repr_html_())
    corners = [image[110, 5], image[110, 160], image[5, 315]]
    np.testing.assert_array_equal(corners, [[230, 159, 0], [0, 114, 178], [187, 187, 187]])


@pytest.mark.parametrize(("count", "rows"), [(2, 2), (23, 20)])
def test_critical_points_are_a_table(count, rows):
    point = CriticalPoint(
        0.5, -2.0, "saddle", 3.25, np.array([-1.0, 2.0]), 0.0, -1, 0.1, True, False
    )
    box = ((-3.0, 3.0), (-4.0, 4.0))
    found = CriticalPoints(
        (point,) * count, ("w1", "w2"), box, "proved", -1, (), ("A <note>.",), {}
    )
    html = found._repr_html_()
    row = "<tr><td>saddle</td><td>0.5</td><td>-2</td><td>3.25</td><td>-1, 2</td><td>yes</td></tr>"
    assert html.count(row) == rows
    assert ("and 3 more" in html) == (count == 23)
    assert "<p>A &lt;note&gt;.</p>" in html
    assert f"<p>{count} critical points, proved to be all in w1 in [-3, 3]" in html
