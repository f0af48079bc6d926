"""The HTML pictures of results in notebooks show the right numbers without scripts."""

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
    """Return the (220, 320, 3) image of a thumbnail, its SVG, and its labels."""
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", html, re.DOTALL)[0])
    [image] = svg.findall("image")
    png = base64.b64decode(image.get("href").partition(",")[2])
    labels = [text.text for text in svg.findall("text")]
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), svg, labels


def test_a_landscape_has_b_upward_a_marker_at_its_lowest_cell_and_gray_holes():
    loss = np.arange(15.0).reshape(5, 3)
    loss[1, 2], loss[3, 0], loss[4, 2] = -5, np.nan, 40
    html = make_landscape(loss, ("<w>", "w2"))._repr_html_()
    image, svg, labels = picture(html)
    assert image.shape == (220, 320, 3)
    # Each pixel has the color of the nearest cell, so cells at the border are half as wide.
    np.testing.assert_array_equal(image[5, 80], [68, 1, 84])
    np.testing.assert_array_equal(image[5, 315], [253, 231, 37])
    np.testing.assert_array_equal(image[215, 240], [187, 187, 187])
    [marker] = svg.findall("circle")
    assert (float(marker.get("cx")), float(marker.get("cy"))) == (64 + 80, 8)
    assert {"-2", "-0.5", "1", "0", "2", "4", "<w>", "w2"} == set(labels)
    assert "lowest at &lt;w&gt; = -1.25, w2 = 4 (on the edge)" in html
    assert "<script" not in html
    assert len(html) < 10_000


def test_losses_whose_difference_overflows_float32_have_different_colors():
    loss = np.zeros((5, 3), np.float32)
    loss[0, 0], loss[4, 2] = -3e38, 3e38
    image, *_ = picture(make_landscape(loss)._repr_html_())
    colors = [tuple(image[at]) for at in ((215, 5), (110, 160), (5, 315))]
    assert colors[::2] == [(68, 1, 84), (253, 231, 37)]
    assert len(set(colors)) == 3


def test_a_landscape_without_finite_losses_shows_its_repr():
    landscape = make_landscape(np.full((5, 3), np.nan))
    text = f'<pre style="margin: 0; white-space: pre-wrap">{landscape!r}</pre>'
    assert landscape._repr_html_() == text


def test_a_path_is_a_curve_with_gaps_at_non_finite_losses():
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


def test_descents_are_curves_without_the_diverged_runs():
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


def test_each_basin_has_its_own_color():
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
def test_critical_points_are_a_table_of_at_most_twenty_rows(count, rows):
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


# Inputs, and results of a few numbers: their repr says everything.
WITHOUT_THUMBNAIL = {
    *("Archive", "Axis", "ComposedLoss", "CriticalPoint", "Dataset", "Experiment", "FinalLoss"),
    *("Function", "InterruptedWarning", "Limit", "NonFiniteWarning", "Plane", "PointwiseLoss"),
    *("Recorder", "Stream", "TraceEstimate", "TwoWeightNetwork", "Weights", "WithBatchStatistics"),
}


def test_every_other_public_type_has_a_thumbnail():
    types = {name: value for name, value in public_names().items() if isinstance(value, type)}
    without = {name for name, value in types.items() if not hasattr(value, "_repr_html_")}
    assert {name.rpartition(".")[2] for name in without} == WITHOUT_THUMBNAIL


def curves(html):
    """Return the curves of a thumbnail, each as (K, 2) pixel positions."""
    found = re.findall('d="(M64.0 [^"]*L[^"]*)"', html)
    return [np.array([part.split() for part in re.split("[ML]", d)[1:]], float) for d in found]


def test_lines_and_valleys_are_curves_over_their_coordinate():
    loss = np.array([[4.0, 3.5, 0.0], [4.0, 2.0, 1.0]])
    first, second = curves(
        jxs.connectivity.Lines(loss, np.array([0.0, 0.5, 1.0]), "loss", "two")._repr_html_()
    )
    np.testing.assert_allclose(first, [[64, 8], [224, 35.5], [384, 228]])
    np.testing.assert_allclose(second, [[64, 8], [224, 118], [384, 173]])
    valley = jxs.topology.Valley(
        jxs.Axis(np.array([0.0, 1.0, 4.0]), "w1"), np.ones(3), loss[1], "w2", "loss"
    )
    [curve] = curves(valley._repr_html_())
    # The lowest losses are 4, 2 and 1 at 0, 1 and 4.
    np.testing.assert_allclose(curve, [[64, 8], [144, 154.7], [384, 228]])
    assert "lowest loss 1 at w1 = 4" in valley._repr_html_()


def test_a_minimax_path_is_a_curve_over_its_cells():
    loss = np.array([[0.0, 9, 9], [3, 9, 9], [5, 9, 9], [4, 9, 9], [1, 9, 9]])
    found = jxs.topology.minimax_path(make_landscape(loss), (-2.0, 0.0), (1.0, 0.0))
    [curve] = curves(found._repr_html_())
    heights = (228 - curve[:, 1]) * 5 / 220
    np.testing.assert_allclose(heights, [0, 3, 5, 4, 1], atol=0.01)
    text = repr(found)
    assert "5 cells from (-2, 0) to (1, 0)" in text
    assert "5 above the start, 4 above the end, highest at (-0.5, 0)" in text


def test_a_projection_has_a_curve_of_its_loss_and_one_of_the_surface():
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
    own, below = curves(path._repr_html_())
    np.testing.assert_allclose(own, [[64, 8], [384, 118]])
    np.testing.assert_allclose(below, [[64, 63], [384, 228]])
    assert "Projection(Adam, 2 points on a and b)" in repr(path)
    assert "87.5% of its variance in the plane, off it by up to 0.5" in repr(path)


@pytest.mark.parametrize("known", [True, False])
def test_stability_has_a_curve_of_the_threshold_if_it_is_known(known):
    found = jxs.curvature.Stability(
        step=np.array([0, 5]),
        sharpness=np.array([1.0, 3.0]),
        sharpness_error=np.zeros(2),
        threshold=np.array([5.0, 5.0]) if known else None,
        gradient_norm=np.ones(2),
        angle=np.zeros(2),
    )
    drawn = curves(found._repr_html_())
    if known:
        np.testing.assert_allclose(drawn[0], [[64, 228], [384, 118]])
        np.testing.assert_allclose(drawn[1], [[64, 8], [384, 8]])
        assert "sharpness from 1 to 3, 2 / learning rate 5)" in repr(found)
    else:
        np.testing.assert_allclose(drawn, [[[64, 228], [384, 8]]])
        assert repr(found) == "Stability(2 points, sharpness from 1 to 3)"


def test_bezier_curves_predictions_and_densities_are_curves():
    bezier = jxs.connectivity.Curve({"w": 0.0}, {"w": 1.0}, {"w": 2.0}, np.array([3.0, 1.0, 2.0]))
    [curve] = curves(bezier._repr_html_())
    np.testing.assert_allclose(curve, [[64, 8], [224, 228], [384, 118]])
    data = jxs.Dataset(np.zeros(2), np.zeros(2))
    fits = jxs.training.Predictions(
        None, data, np.array([-1.0, 1.0]), np.array([[0.0, 1.0], [2.0, 4.0]])
    )
    before, after = curves(fits._repr_html_())
    np.testing.assert_allclose(before, [[64, 228], [384, 173]])
    np.testing.assert_allclose(after, [[64, 118], [384, 8]])
    nodes = np.array([[0.0, 1.0]])
    density = jxs.curvature.SpectralDensity(
        np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.zeros(2), 0.5, nodes, nodes, 2, "Hessian"
    )
    [curve] = curves(density._repr_html_())
    np.testing.assert_allclose(curve, [[64, 228], [384, 8]])


def test_eigenpairs_are_a_table():
    values, found = np.array([3.0, np.nan]), np.array([True, False])
    pairs = jxs.curvature.Eigenpairs(values, None, np.array([1e-5, np.nan]), found, "Hessian")
    html = pairs._repr_html_()
    assert "<tr><td>3</td><td>1e-05</td><td>yes</td></tr>" in html
    assert "<tr><td>nan</td><td>nan</td><td>no</td></tr>" in html


def test_persistence_has_one_color_per_minimum():
    loss = np.array([[0.0, 9, 9], [8, 9, 9], [9, 9, 9], [8, 9, 9], [1, 9, np.nan]])
    found = jxs.topology.persistence(make_landscape(loss))
    image, *_ = picture(found._repr_html_())
    corners = [image[215, 5], image[215, 315], image[5, 315]]
    np.testing.assert_array_equal(corners, [[0, 114, 178], [230, 159, 0], [187, 187, 187]])


def test_a_refinement_has_a_marker_at_its_largest_error():
    curved = jxs.Function(lambda w1, w2: w2**4 * (1 + w1))
    axes = {"w1": (0.0, 1.0, 3), "w2": (0.0, 2.0, 5)}
    found = jxs.refine(jxs.landscape(curved, None, **axes), curved, None)
    image, svg, labels = picture(found._repr_html_())
    [marker] = svg.findall("circle")
    # It is the last of 2 × 4 cells, whose centers span the picture.
    assert (float(marker.get("cx")), float(marker.get("cy"))) == (384, 8)
    assert {"0.25", "0.75", "1.75", "w1", "w2"} <= set(labels)
    np.testing.assert_array_equal(image[5, 315], [253, 231, 37])


def test_derivatives_and_batch_landscapes_are_drawn_as_landscapes():
    bowl = jxs.Function(lambda w1, w2: w1**2 + 3 * w2**2)
    found = jxs.derivatives(bowl, None, w1=(-1, 1, 5), w2=(-1, 1, 3))
    _, svg, _ = picture(found._repr_html_())
    assert len(svg.findall("circle")) == 1
    assert "Derivatives(w1: 5 × w2: 3" in found._repr_html_()
    data = jxs.data.teacher_student(jax.random.key(0), noise=0.5)
    axes = {"w1": (-1, 1, 5), "w2": (-1, 1, 3)}
    many = jxs.training.batch_landscapes(jxs.squared_error, data, len(data) // 2, **axes)
    assert picture(many._repr_html_())[1].findall("circle")
    text = f"2 batches, standard deviation up to {many.deviation.highest:.6g}"
    assert text in many._repr_html_()


def test_a_description_is_one_paragraph_per_sentence():
    surface = make_landscape(np.arange(15.0).reshape(5, 3), ("<w>", "w2"))
    found = jxs.describe(surface)
    html = found._repr_html_()
    assert html.count("<p>") == len(found.sentences)
    assert "at &lt;w&gt; = -2" in html
