"""Heights, color ranges and ticks, on linear and on log scales."""

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.plot.parts.scale import Scale, common_scale
from tests.plot.helpers import make_landscape, make_path, points_of, traces


def steep(a, b):
    """A positive function from e⁻¹ to about e⁶."""
    return np.exp(a**2 + b / 2 + a * b / 4 - 1)


LANDSCAPE = make_landscape(9, 6, steep)
KINDS = {"surface": plot.surface, "contour": plot.contour}
IMAGES = {"surface": "surface", "contour": "heatmap"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_scale_draws_logarithms_and_labels_losses(kind):
    figure = KINDS[kind](LANDSCAPE, log=True)
    [trace] = traces(figure, IMAGES[kind])
    np.testing.assert_array_equal(trace.z, np.log10(LANDSCAPE.loss.T).astype(np.float32))
    # For a surface, plotly's hover reads custom data transposed with respect to `z`.
    shown = trace.customdata if kind == "surface" else np.transpose(trace.customdata)
    np.testing.assert_array_equal(shown, LANDSCAPE.loss.astype(np.float32))
    assert "loss %{customdata:" in trace.hovertemplate
    labels = [float(text) for text in trace.colorbar.ticktext]
    np.testing.assert_allclose(10 ** np.asarray(trace.colorbar.tickvals), labels)
    assert "log scale" in figure.layout.title.subtitle.text
    if kind == "surface":
        axis = figure.layout.scene.zaxis
        labels = [float(text) for text in axis.ticktext]
        np.testing.assert_allclose(10 ** np.asarray(axis.tickvals), labels)
    else:
        [lines] = traces(figure, "contour")
        np.testing.assert_array_equal(lines.z, np.log10(LANDSCAPE.loss.T).astype(np.float32))


def test_a_linear_scale_draws_losses():
    trace = plot.surface(LANDSCAPE).data[0]
    np.testing.assert_array_equal(trace.z, LANDSCAPE.loss.T.astype(np.float32))
    assert trace.customdata is None
    assert trace.colorbar.tickvals is None


def test_a_path_on_a_log_surface_is_drawn_at_the_logarithms_of_its_losses():
    """Losses below the lowest cell, also a loss of 0, are drawn at the height of that cell."""
    path = make_path([-1, 0, 0.5], [3, 1, 2])
    path = jxs.Trajectory(**(vars(path) | {"evaluation_loss": np.array([100.0, 3.0, 0.0])}))
    points = points_of(plot.surface(LANDSCAPE, path, log=True), "scatter3d")
    lowest = LANDSCAPE.lowest.loss
    lift = np.asarray(points.z) - np.log10([100, 3, lowest])
    assert (lift > 0).all()
    assert np.ptp(lift) < 1e-9
    assert lift.max() < 0.03 * np.ptp(np.log10(LANDSCAPE.loss))
    np.testing.assert_array_equal(np.asarray(points.customdata)[:, 0], [100, 3, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("log", [False, True])
def test_clipping_limits_the_colors_and_not_the_heights(kind, log):
    figure = KINDS[kind](LANDSCAPE, clip=0.75, log=log)
    [trace] = traces(figure, IMAGES[kind])
    top = np.quantile(LANDSCAPE.loss, 0.75)
    ends = (trace.cmin, trace.cmax) if kind == "surface" else (trace.zmin, trace.zmax)
    drawn = np.array([LANDSCAPE.loss.min(), top])
    np.testing.assert_allclose(ends, np.log10(drawn) if log else drawn)
    assert np.max(trace.z) == pytest.approx(
        np.max(np.log10(LANDSCAPE.loss) if log else LANDSCAPE.loss)
    )
    note = f"colors end at {top:.4g}, losses at {LANDSCAPE.loss.max():.4g}"
    assert note in figure.layout.title.subtitle.text


def landscape_of(loss):
    loss = np.asarray(loss)
    axes = (jxs.Axis(np.arange(float(n)), name) for n, name in zip(loss.shape, "ab", strict=True))
    return jxs.Landscape(loss, *axes, "loss", "dense")


@pytest.mark.parametrize(
    ("loss", "found"),
    [([[1.0, 0, -2], [np.nan, 3, np.inf]], "1 of 6 cells below 0 and 1 at 0"),
     ([[0.0, 0, 0], [np.nan, 0, 0]], "0 of 6 cells below 0 and 5 at 0")],
)  # fmt: skip
def test_losses_without_a_logarithm_are_an_error_that_counts_them(loss, found):
    with pytest.raises(ValueError, match=f"log: expected losses above 0, got {found}"):
        plot.surface(landscape_of(loss), log=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_of_zero_is_drawn_at_the_lowest_positive_loss_and_noted(kind):
    loss = np.array([[1.0, 0.0, 20.0, 4.0], [np.nan, 3.0, np.inf, 0.5], [0.0, 1.0, 2.0, 9.0]])
    figure = KINDS[kind](landscape_of(loss), log=True)
    shown = np.where(loss == 0, 0.5, loss)
    trace = next(trace for trace in figure.data if trace.type in ("surface", "heatmap"))
    np.testing.assert_allclose(trace.z, np.where(np.isfinite(shown), np.log10(shown), np.nan).T)
    assert (
        "2 cells with loss 0 are drawn at the lowest positive loss, 0.5"
        in figure.layout.title.subtitle.text
    )
    # The hover text shows 0.
    assert 0.0 in np.ravel(trace.customdata)


@pytest.mark.parametrize(
    ("clip", "error", "message"),
    [
        (0, ValueError, "a fraction above 0 and at most 1, got 0"),
        (1.5, ValueError, "a fraction above 0 and at most 1, got 1.5"),
        (np.nan, ValueError, "a fraction above 0 and at most 1, got nan"),
        ("most", TypeError, "a number, got 'most'"),
    ],
)
def test_clip_is_a_fraction_of_the_cells(clip, error, message):
    with pytest.raises(error, match=f"clip: expected {message}"):
        plot.contour(LANDSCAPE, clip=clip)


@pytest.mark.parametrize(
    "ends", [(1e-12, 1e3), (0.02, 70), (104.6, 114.2), (3.1, 3.1000001), (2, 2)]
)
@pytest.mark.parametrize("max_ticks", [4, 7])
def test_ticks_are_few_round_and_in_range(ends, max_ticks):
    low, high = ends
    axes = jxs.Axis(np.arange(2.0), "w1"), jxs.Axis(np.arange(2.0), "w2")
    scale = common_scale(
        [jxs.Landscape(np.array([[low, high], [low, high]]), *axes, "loss", "dense")], True
    )
    ticks = scale.ticks(max_ticks=max_ticks)
    values = 10 ** np.asarray(ticks["tickvals"])
    assert len(values) == len(set(ticks["ticktext"]))
    assert (1 if low == high else 2) <= len(values) <= max_ticks + 1
    assert ((values > low * (1 - 1e-9)) & (values < high * (1 + 1e-9))).all()


def test_seven_candidates_for_four_ticks_leave_more_than_one():
    """From 0.107 to 16.1 there are seven of 1, 2 and 5 times powers of ten, and two powers."""
    ticks = Scale(True, 0.107, 16.1, 16.1).ticks(max_ticks=4)
    assert ticks["ticktext"] == ["0.2", "1", "5"]


def test_wide_ranges_have_powers_of_ten_as_ticks():
    axes = jxs.Axis(np.arange(2.0), "w1"), jxs.Axis(np.arange(2.0), "w2")
    scale = common_scale(
        [jxs.Landscape(np.array([[2e-6, 1], [1, 1]]), *axes, "loss", "dense")], True
    )
    assert scale.ticks()["ticktext"] == ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]


def test_compared_surfaces_count_their_own_cells_with_loss_zero():
    first, second = landscape_of([[0.0, 2.0], [8.0, 4.0]]), landscape_of([[1.0, 0.5], [0.0, 0.0]])
    figure = plot.compare({"one": first, "other": second}, log=True)
    notes = figure.layout.meta["notes"]
    assert "one: 1 cell with loss 0 is drawn at the lowest positive loss, 2" in notes
    assert "other: 2 cells with loss 0 are drawn at the lowest positive loss, 0.5" in notes
    assert notes.count("log scale") == 1
    np.testing.assert_allclose(np.asarray(figure.data[0].z).T, np.log10([[2, 2], [8, 4]]))


def test_points_are_lifted_by_a_fraction_of_the_height():
    points = np.array([[1.0, 2.0, 10.0], [3.0, 4.0, 1e-9]])
    linear, log = Scale(False, 1.0, 101.0, 101.0), Scale(True, 1.0, 100.0, 100.0)
    np.testing.assert_allclose(linear.lift(points, 2), points + np.array([0, 0, 2.4]))
    np.testing.assert_allclose(log.lift(points, 1)[:, 2], [1.024, 0.024])
    # A flat surface has a lift, too.
    assert Scale(False, 5.0, 5.0, 5.0).lift(points, 1)[0, 2] > 10


def test_one_scale_covers_all_landscapes():
    scale = common_scale([landscape_of([[1.0, 2.0]]), landscape_of([[0.5, np.inf], [np.nan, 9.0]])])
    assert scale == Scale(False, 0.5, 9.0, 9.0)
    assert scale.color_range == (0.5, 9.0)
    assert (scale.notes, scale.ticks()) == ([], {})
