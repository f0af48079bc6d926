"""What notebooks show of results: pictures in HTML that hold the right numbers, and no scripts."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxscape as jxs
from jaxscape.critical.points import CriticalPoint, CriticalPoints
from jaxscape.training.basins import Basins
from jaxscape.training.limits import Limit
from tests.names import public_names


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


def test_a_landscape_is_drawn_with_b_upward_its_lowest_marked_and_holes_gray():
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
    colors = [tuple(image[at]) for at in ((215, 5), (110, 160), (5, 315))]
    assert colors[::2] == [(68, 1, 84), (253, 231, 37)]
    assert len(set(colors)) == 3


def test_a_landscape_with_nothing_to_draw_shows_its_words():
    landscape = make_landscape(np.full((5, 3), np.nan))
    words = f'<pre style="margin: 0; white-space: pre-wrap">{landscape!r}</pre>'
    assert landscape._repr_html_() == words


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
        path_length=np.zeros((3, 2)),
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


def test_basins_have_a_color_for_each_limit():
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


# What is given to the library, and results of few numbers, whose words say all.
WITHOUT_A_PICTURE = {
    *("Axis", "Archive", "ComposedLoss", "CriticalPoint", "Dataset", "FinalLoss", "Function"),
    *(
        "InterruptedWarning",
        "Limit",
        "TwoWeightNetwork",
        "NonFiniteWarning",
        "Plane",
        "PointwiseLoss",
    ),
    *("WithBatchStatistics", "Recorder", "Stream", "TraceEstimate", "Weights"),
}


def test_every_result_has_a_picture():
    types = {name: value for name, value in public_names().items() if isinstance(value, type)}
    without = {name for name, value in types.items() if not hasattr(value, "_repr_html_")}
    assert {name.rpartition(".")[2] for name in without} == WITHOUT_A_PICTURE


def ways(html):
    """The lines drawn, each as its points, (K, 2), in pixels."""
    found = re.findall('d="(M64.0 [^"]*L[^"]*)"', html)
    return [np.array([part.split() for part in re.split("[ML]", d)[1:]], float) for d in found]


def test_lines_and_valleys_are_drawn_along_what_they_go_over():
    loss = np.array([[4.0, 3.5, 0.0], [4.0, 2.0, 1.0]])
    first, second = ways(
        jxs.connectivity.Lines(loss, np.array([0.0, 0.5, 1.0]), "loss", "two")._repr_html_()
    )
    np.testing.assert_allclose(first, [[64, 8], [224, 35.5], [384, 228]])
    np.testing.assert_allclose(second, [[64, 8], [224, 118], [384, 173]])
    valley = jxs.topology.Valley(
        jxs.Axis(np.array([0.0, 1.0, 4.0]), "w1"), np.ones(3), loss[1], "w2", "loss"
    )
    [way] = ways(valley._repr_html_())
    # Of the lowest losses 4, 2 and 1 over 0, 1 and 4.
    np.testing.assert_allclose(way, [[64, 8], [144, 154.7], [384, 228]])
    assert "lowest loss 1 at w1 = 4" in valley._repr_html_()


def test_a_barrier_is_drawn_cell_by_cell_and_says_its_heights():
    loss = np.array([[0.0, 9, 9], [3, 9, 9], [5, 9, 9], [4, 9, 9], [1, 9, 9]])
    found = jxs.topology.minimax_path(make_landscape(loss), (-2.0, 0.0), (1.0, 0.0))
    [way] = ways(found._repr_html_())
    heights = (228 - way[:, 1]) * 5 / 220
    np.testing.assert_allclose(heights, [0, 3, 5, 4, 1], atol=0.01)
    words = repr(found)
    assert "5 cells from (-2, 0) to (1, 0)" in words
    assert "5 above the start, 4 above the end, highest at (-0.5, 0)" in words


def test_a_projection_is_drawn_with_the_surface_below_it():
    epochs = np.array([0.0, 1.0])
    path = jxs.Projection(
        coordinates=np.zeros((2, 2)),
        distance=np.array([0.25, 0.5]),
        loss=np.array([4.0, 2.0]),
        surface_loss=np.array([3.0, 0.0]),
        epoch=epochs,
        explained=0.875,
        names=("a", "b"),
        name="Adam",
    )
    own, below = ways(path._repr_html_())
    np.testing.assert_allclose(own, [[64, 8], [384, 118]])
    np.testing.assert_allclose(below, [[64, 63], [384, 228]])
    assert "Projection(Adam, 2 points on a and b)" in repr(path)
    assert "87.5% of its variance in the plane, off it by up to 0.5" in repr(path)


@pytest.mark.parametrize("known", [True, False])
def test_stability_is_drawn_with_its_threshold_where_that_is_known(known):
    found = jxs.curvature.Stability(
        step=np.array([0, 5]),
        sharpness=np.array([1.0, 3.0]),
        sharpness_error=np.zeros(2),
        threshold=np.array([5.0, 5.0]) if known else None,
        gradient_norm=np.ones(2),
        angle=np.zeros(2),
    )
    drawn = ways(found._repr_html_())
    if known:
        np.testing.assert_allclose(drawn[0], [[64, 228], [384, 118]])
        np.testing.assert_allclose(drawn[1], [[64, 8], [384, 8]])
        assert "sharpness from 1 to 3, 2 / learning rate 5)" in repr(found)
    else:
        np.testing.assert_allclose(drawn, [[[64, 228], [384, 8]]])
        assert repr(found) == "Stability(2 points, sharpness from 1 to 3)"


def test_curves_predictions_and_densities_are_drawn():
    curve = jxs.connectivity.Curve({"w": 0.0}, {"w": 1.0}, {"w": 2.0}, np.array([3.0, 1.0, 2.0]))
    [way] = ways(curve._repr_html_())
    np.testing.assert_allclose(way, [[64, 8], [224, 228], [384, 118]])
    data = jxs.Dataset(np.zeros(2), np.zeros(2))
    fits = jxs.training.Predictions(
        None, data, np.array([-1.0, 1.0]), np.array([[0.0, 1.0], [2.0, 4.0]])
    )
    before, after = ways(fits._repr_html_())
    np.testing.assert_allclose(before, [[64, 228], [384, 173]])
    np.testing.assert_allclose(after, [[64, 118], [384, 8]])
    nodes = np.array([[0.0, 1.0]])
    density = jxs.curvature.SpectralDensity(
        np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.zeros(2), 0.5, nodes, nodes, 2, "Hessian"
    )
    [way] = ways(density._repr_html_())
    np.testing.assert_allclose(way, [[64, 228], [384, 8]])


def test_eigenvalues_are_a_table():
    values, found = np.array([3.0, np.nan]), np.array([True, False])
    pairs = jxs.curvature.Eigenpairs(values, None, np.array([1e-5, np.nan]), found, "Hessian")
    html = pairs._repr_html_()
    assert "<tr><td>3</td><td>1e-05</td><td>yes</td></tr>" in html
    assert "<tr><td>nan</td><td>nan</td><td>no</td></tr>" in html


def test_persistence_has_a_color_for_each_minimum():
    loss = np.array([[0.0, 9, 9], [8, 9, 9], [9, 9, 9], [8, 9, 9], [1, 9, np.nan]])
    found = jxs.topology.persistence(make_landscape(loss))
    image, *_ = picture(found._repr_html_())
    corners = [image[215, 5], image[215, 315], image[5, 315]]
    np.testing.assert_array_equal(corners, [[0, 114, 178], [230, 159, 0], [187, 187, 187]])


def test_a_refinement_is_drawn_with_its_largest_error_marked():
    curved = jxs.Function(lambda w1, w2: w2**4 * (1 + w1))
    axes = {"w1": (0.0, 1.0, 3), "w2": (0.0, 2.0, 5)}
    found = jxs.refine(jxs.landscape(curved, None, **axes), curved, None)
    image, svg, words = picture(found._repr_html_())
    [mark] = svg.findall("circle")
    # In the last of 2 × 4 cells, whose middles are the picture's corners.
    assert (float(mark.get("cx")), float(mark.get("cy"))) == (384, 8)
    assert {"0.25", "0.75", "1.75", "w1", "w2"} <= set(words)
    np.testing.assert_array_equal(image[5, 315], [253, 231, 37])


def test_fields_and_batches_are_drawn_as_their_losses():
    bowl = jxs.Function(lambda w1, w2: w1**2 + 3 * w2**2)
    found = jxs.derivatives(bowl, None, w1=(-1, 1, 5), w2=(-1, 1, 3))
    _, svg, _ = picture(found._repr_html_())
    assert len(svg.findall("circle")) == 1
    assert "Derivatives(w1: 5 × w2: 3" in found._repr_html_()
    data = jxs.data.teacher_student(jax.random.key(0), noise=0.5)
    axes = {"w1": (-1, 1, 5), "w2": (-1, 1, 3)}
    many = jxs.training.batch_landscapes(jxs.squared_error, data, len(data) // 2, **axes)
    assert picture(many._repr_html_())[1].findall("circle")
    assert f"2 batches, up to {many.deviation.highest:.6g} apart" in many._repr_html_()


def test_a_description_is_its_sentences():
    surface = make_landscape(np.arange(15.0).reshape(5, 3), ("<w>", "w2"))
    found = jxs.describe(surface)
    html = found._repr_html_()
    assert html.count("<p>") == len(found.sentences)
    assert "at &lt;w&gt; = -2" in html
