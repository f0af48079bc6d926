"""Descriptions of surfaces with known minima, critical points and symmetries."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs


def wells(w1, w2):
    return (w1**2 - 1) ** 2 + 0.1 * w1 + (w1 - w2) ** 2


def described(function=wells, w1=(-2, 2, 81), w2=(-2, 2, 61)):
    loss = jxs.Function(function)
    return jxs.describe(jxs.landscape(loss, None, w1=w1, w2=w2), loss)


def test_the_articles_surface_has_three_certified_saddles():
    _, test = jxs.article.data()
    description = jxs.describe(jxs.article.surface(), jxs.squared_error, test)
    data = json.loads(json.dumps(description.data, allow_nan=False))
    assert data["complete"] is True
    assert data["completeness"] == "proved"
    assert [point["kind"] for point in data["critical_points"]] == ["saddle"] * 3
    assert all(point["certified"] for point in data["critical_points"])
    assert set(data["critical_points"][0]) >= {
        "kind",
        "w1",
        "w2",
        "loss",
        "eigenvalues",
        "certified",
    }
    assert data["lowest_cell"]["on_edge"] is True
    np.testing.assert_allclose(data["limits"]["w1_to_0"], 99.0866042742, rtol=1e-11)
    assert data["limits"]["attained"] is False
    assert data["symmetries"] == ["(w1, w2) → (-w1, -w2)"]
    text = str(description)
    assert "on the edge, so it may be lower outside the grid" in text
    assert "It is proved that there are no others." in text
    assert "The infimum of the loss is 99.0866, and no point attains it." in text
    assert description.critical_points.winding == -3


def test_the_minimax_path_crosses_the_saddle_between_two_minima():
    description = described()
    assert [point["kind"] for point in description.data["critical_points"]] == [
        "minimum",
        "minimum",
        "saddle",
    ]
    low, high, saddle = description.critical_points.points
    assert description.data["minimax_path"]["heights"] == [
        saddle.loss - low.loss,
        saddle.loss - high.loss,
    ]
    assert description.data["minimax_path"]["over"]["loss"] == saddle.loss
    assert description.data["limits"] == {}
    assert description.data["symmetries"] == []


def test_a_box_can_be_larger_than_the_grid():
    near = described(w1=(0.2, 2, 41), w2=(0, 2, 31))
    assert [point["kind"] for point in near.data["critical_points"]] == ["minimum"]
    loss = jxs.Function(wells)
    surface = jxs.landscape(loss, None, w1=(0.2, 2, 41), w2=(0, 2, 31))
    wider = jxs.describe(surface, loss, w1=(-2.0, 2.0), w2=(-2.0, 2.0))
    assert len(wider.data["critical_points"]) == 3
    assert wider.data["box"] == {"w1": [-2, 2], "w2": [-2, 2]}


def test_a_grid_without_its_loss_has_minima_but_no_critical_points():
    """Without the loss there is no search for critical points."""
    loss = jxs.Function(wells)
    description = jxs.describe(jxs.landscape(loss, None, w1=(-2, 2, 81), w2=(-2, 2, 61)))
    assert description.critical_points is None
    assert "critical_points" not in description.data
    assert len(description.data["grid_minima"]) == 2
    assert "crosses the node at" in str(description)
    assert description.data["grid_minima"][0]["depth"] is None


def test_shallow_minima_are_counted_separately():
    a, b = np.linspace(-2, 2, 81), np.linspace(-2, 2, 61)
    loss = wells(a[:, None], b[None]) + 1e-6 * np.random.default_rng(0).normal(size=(81, 61))
    surface = jxs.Landscape(loss, jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense")
    description = jxs.describe(surface)
    assert len(description.data["grid_minima"]) == 2
    assert description.data["shallow_minima"] == len(description.persistence.minima) - 2


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y: x**2 + 3 * y**2, ["-", "x", "y"]),
        (lambda x, y: x**2 * y + y, ["x"]),
        (lambda x, y: x * y**2 + x, ["y"]),
        (lambda x, y: x * y, ["-", "swap"]),
        (lambda x, y: (x + y) ** 3 + x**2 + y**2, ["swap"]),
        (lambda x, y: x**2 + y + x, []),
    ],
)
def test_symmetries_of_known_functions_are_listed(function, expected):
    words = {
        "-": "(w1, w2) → (-w1, -w2)",
        "x": "w1 → -w1",
        "y": "w2 → -w2",
        "swap": "(w1, w2) → (w2, w1)",
    }
    loss = jxs.Function(function)
    description = jxs.describe(jxs.landscape(loss, None, w1=(-2, 2, 41), w2=(-2, 2, 41)))
    assert description.data["symmetries"] == [words[one] for one in expected]
    # On an axis without opposite nodes, no symmetry can be seen.
    shifted = jxs.describe(jxs.landscape(loss, None, w1=(0.1, 2, 40), w2=(0.3, 2, 41)))
    assert shifted.data["symmetries"] == []


def test_the_flat_fraction_of_known_functions():
    """Half of the first surface is flat; a constant slope across the whole range is not."""
    half = jxs.Function(lambda x, y: jnp.maximum(x, 0) ** 2 + 0 * y)
    description = jxs.describe(jxs.landscape(half, None, w1=(-2, 2, 401), w2=(0, 1, 11)))
    assert 0.48 < description.data["flat"] < 0.53
    tilted = jxs.Function(lambda x, y: x + 0 * y)
    assert (
        jxs.describe(jxs.landscape(tilted, None, w1=(-2, 2, 41), w2=(0, 1, 11))).data["flat"] == 0
    )


def test_non_finite_losses_are_counted_and_prevent_the_search():
    loss = jxs.Function(lambda x, y: jnp.log(x) ** 2 + y**2)
    with pytest.warns(jxs.NonFiniteWarning):
        surface = jxs.landscape(loss, None, w1=(-1, 2, 31), w2=(-1, 1, 21))
    description = jxs.describe(surface, loss)
    assert description.data["nonfinite"] == int(surface.nonfinite.sum()) > 0
    assert "There was no search for critical points: box: expected finite losses" in str(
        description
    )
    assert description.data["complete"] is False
    json.dumps(description.data, allow_nan=False)


def test_a_loss_with_kinks_still_has_minima_of_the_grid():
    data = jxs.data.teacher_student(jax.random.key(0))
    surface = jxs.landscape(jxs.absolute_error, data, w1=(-3, 3, 61), w2=(-2, 2, 41))
    description = jxs.describe(surface, jxs.absolute_error, data)
    assert "The loss has kinks or jumps in this box" in str(description)
    assert len(description.data["grid_minima"]) >= 2
    assert description.data["critical_points"] == []
    assert description.data["complete"] is False


@pytest.mark.slow
def test_a_constant_surface_is_flat():
    constant = jxs.Function(lambda x, y: 0 * x * y + 2.0)
    description = jxs.describe(
        jxs.landscape(constant, None, w1=(-1, 1, 9), w2=(-1, 1, 7)), constant
    )
    assert description.data["critical_points"] == []
    assert "It is the same at all nodes." in str(description)
    assert description.data["flat"] == 1
    assert "e+" not in str(description)
    json.dumps(description.data, allow_nan=False)


def test_the_valley_ranges_between_its_exact_extrema():
    """In this wide box, the valley is narrower than the step of any practical sampling."""
    _, test = jxs.article.data()
    surface = jxs.article.surface()
    description = jxs.describe(surface, jxs.squared_error, test, w1=(-200.0, 200.0), w2=(-5.0, 5.0))
    np.testing.assert_allclose(description.data["valley"]["lowest"], 99.0866042742, rtol=1e-11)
    highest = max(point.loss for point in description.critical_points.points)
    np.testing.assert_allclose(description.data["valley"]["highest"], highest, rtol=1e-12)


def test_the_interpolation_error_says_where_it_is_measured():
    """The wave has its nodes, and the middles of its cells, where it vanishes."""
    wave = jxs.Function(lambda x, y: jnp.sin(10 * jnp.pi * x) ** 2 + 0.1 * y * y)
    description = jxs.describe(jxs.landscape(wave, None, w1=(-1, 1, 11), w2=(-1, 1, 9)), wave)
    assert description.data["interpolation_error"] < 0.002
    assert (
        "Linear interpolation between the nodes, measured in the middles of cells and edges, "
        "is off by up to 0.00156"
    ) in str(description)


def test_a_range_of_rounding_errors_has_no_minima():
    """On ±1e-6 a plane of height 30 takes a few float32 values, but many in float64."""
    slope = jxs.Function(lambda x, y: 30 + x + y)
    box = {"w1": (-1e-6, 1e-6, 21), "w2": (-1e-6, 1e-6, 17)}
    description = jxs.describe(jxs.landscape(slope, None, **box), slope)
    text = str(description)
    assert "This range is within rounding errors" in text
    assert "times the spacing of float32 numbers" in text
    assert "Compute the surface in float64" in text
    for word in ("lowest node", "symmetric", "flat", "minimum at"):
        assert word not in text
    assert description.data["grid_minima"] == []
    json.dumps(description.data, allow_nan=False)
    with jax.enable_x64(True):
        exact = str(jxs.describe(jxs.landscape(slope, None, **box)))
        assert "rounding" not in exact
        assert "The grid has 1 minimum" in exact
        tiny = {"w1": (-1e-14, 1e-14, 21), "w2": (-1e-14, 1e-14, 17)}
        narrow = str(jxs.describe(jxs.landscape(slope, None, **tiny)))
        assert "Compute the surface on a larger rectangle" in narrow


def test_minima_of_rounding_errors_are_shallow():
    """A bowl whose range is about 70 rounding errors of float32, with noise of a few."""
    a, b = np.linspace(-2, 2, 31), np.linspace(-1, 2, 27)
    eps = np.finfo(np.float32).eps
    noise = np.random.default_rng(0).integers(-5, 6, (31, 27))
    loss = np.float32(1 + eps * (9 * a[:, None] ** 2 + 8 * b**2 + noise))
    surface = jxs.Landscape(loss, jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense")
    description = jxs.describe(surface)
    assert len(description.persistence.deep(1e-3 * np.ptp(loss))) > 5
    assert len(description.data["grid_minima"]) == 1
    assert description.data["shallow_minima"] == len(description.persistence.minima) - 1
    # The same surface in float64 has these minima.
    exact = jxs.Landscape(loss.astype(float), surface.a, surface.b, "loss", "dense")
    assert len(jxs.describe(exact).data["grid_minima"]) > 5


def test_a_huge_box_is_described_like_a_large_one():
    """Its ends lie outside the range of float32, the dtype of the data."""
    _, test = jxs.article.data()
    surface = jxs.article.surface()
    large, huge = (
        jxs.describe(surface, jxs.squared_error, test, w1=(-end, end), w2=(-end, end)).data
        for end in (1e20, 1e300)
    )
    assert huge["valley"] == pytest.approx(large["valley"], rel=1e-12)
    assert huge["limits"] == large["limits"]
    assert huge["completeness"] == "proved"


def test_bad_arguments_raise_errors():
    loss = jxs.Function(wells)
    surface = jxs.landscape(loss, None, w1=(-2, 2, 21), w2=(-2, 2, 31))
    with pytest.raises(TypeError, match="surface: expected a Landscape, got function"):
        jxs.describe(wells)
    with pytest.raises(ValueError, match="loss: expected the surface's loss"):
        jxs.describe(surface, w1=(-2.0, 2.0), w2=(-2.0, 2.0))
    with pytest.raises(ValueError, match="surface: expected the values of this loss"):
        jxs.describe(surface, jxs.Function(lambda x, y: x**2 + y**2))
    with pytest.raises(ValueError, match="w1: expected finite lo < hi"):
        jxs.describe(surface, loss, w1=(2.0, -2.0), w2=(-2.0, 2.0))
