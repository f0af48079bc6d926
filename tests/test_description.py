"""What is said of a surface is true of it, and JSON holds it."""

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


def test_the_article_is_described():
    _, test = jxs.article.data()
    found = jxs.describe(jxs.article.surface(), jxs.squared_error, test)
    data = json.loads(json.dumps(found.data, allow_nan=False))
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
    text = str(found)
    assert "on the edge, so that it may fall further beyond" in text
    assert "this is proved to be all" in text
    assert "The loss comes as near to 99.0866 as one likes, and nowhere reaches it." in text
    assert found.critical_points.winding == -3


def test_a_function_is_described_with_its_way_over():
    found = described()
    assert [point["kind"] for point in found.data["critical_points"]] == [
        "minimum",
        "minimum",
        "saddle",
    ]
    low, high, saddle = found.critical_points.points
    assert found.data["minimax_path"]["heights"] == [
        saddle.loss - low.loss,
        saddle.loss - high.loss,
    ]
    assert found.data["minimax_path"]["over"]["loss"] == saddle.loss
    assert found.data["limits"] == {}
    assert found.data["symmetries"] == []


def test_another_box_may_be_searched():
    near = described(w1=(0.2, 2, 41), w2=(0, 2, 31))
    assert [point["kind"] for point in near.data["critical_points"]] == ["minimum"]
    loss = jxs.Function(wells)
    surface = jxs.landscape(loss, None, w1=(0.2, 2, 41), w2=(0, 2, 31))
    wider = jxs.describe(surface, loss, w1=(-2.0, 2.0), w2=(-2.0, 2.0))
    assert len(wider.data["critical_points"]) == 3
    assert wider.data["box"] == {"w1": [-2, 2], "w2": [-2, 2]}


def test_a_grid_alone_is_described():
    """Without its loss: what the grid itself tells, and no word of critical points."""
    loss = jxs.Function(wells)
    found = jxs.describe(jxs.landscape(loss, None, w1=(-2, 2, 81), w2=(-2, 2, 61)))
    assert found.critical_points is None
    assert "critical_points" not in found.data
    assert len(found.data["grid_minima"]) == 2
    assert "leads over the node at" in str(found)
    assert found.data["grid_minima"][0]["depth"] is None


def test_shallow_minima_are_counted_apart():
    a, b = np.linspace(-2, 2, 81), np.linspace(-2, 2, 61)
    loss = wells(a[:, None], b[None]) + 1e-6 * np.random.default_rng(0).normal(size=(81, 61))
    surface = jxs.Landscape(loss, jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense")
    found = jxs.describe(surface)
    assert len(found.data["grid_minima"]) == 2
    assert found.data["shallow_minima"] == len(found.persistence.minima) - 2


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
def test_symmetries_are_those_there_are(function, expected):
    words = {
        "-": "(w1, w2) → (-w1, -w2)",
        "x": "w1 → -w1",
        "y": "w2 → -w2",
        "swap": "(w1, w2) → (w2, w1)",
    }
    loss = jxs.Function(function)
    found = jxs.describe(jxs.landscape(loss, None, w1=(-2, 2, 41), w2=(-2, 2, 41)))
    assert found.data["symmetries"] == [words[one] for one in expected]
    # An axis without opposite nodes shows none.
    shifted = jxs.describe(jxs.landscape(loss, None, w1=(0.1, 2, 40), w2=(0.3, 2, 41)))
    assert shifted.data["symmetries"] == []


def test_flat_parts_are_measured():
    """Half of the plane is flat, and of a slope that crosses the whole range nothing is."""
    half = jxs.Function(lambda x, y: jnp.maximum(x, 0) ** 2 + 0 * y)
    found = jxs.describe(jxs.landscape(half, None, w1=(-2, 2, 401), w2=(0, 1, 11)))
    assert 0.48 < found.data["flat"] < 0.53
    tilted = jxs.Function(lambda x, y: x + 0 * y)
    assert (
        jxs.describe(jxs.landscape(tilted, None, w1=(-2, 2, 41), w2=(0, 1, 11))).data["flat"] == 0
    )


def test_holes_are_counted_and_nothing_is_searched_among_them():
    loss = jxs.Function(lambda x, y: jnp.log(x) ** 2 + y**2)
    with pytest.warns(jxs.NonFiniteWarning):
        surface = jxs.landscape(loss, None, w1=(-1, 2, 31), w2=(-1, 1, 21))
    found = jxs.describe(surface, loss)
    assert found.data["nonfinite"] == int(surface.nonfinite.sum()) > 0
    assert "Critical points were not searched: box: expected finite losses" in str(found)
    assert found.data["complete"] is False
    json.dumps(found.data, allow_nan=False)


def test_a_loss_with_kinks_keeps_what_the_grid_tells():
    data = jxs.data.teacher_student(jax.random.key(0))
    surface = jxs.landscape(jxs.absolute_error, data, w1=(-3, 3, 61), w2=(-2, 2, 41))
    found = jxs.describe(surface, jxs.absolute_error, data)
    assert "The loss has kinks or jumps here" in str(found)
    assert len(found.data["grid_minima"]) >= 2
    assert found.data["critical_points"] == []
    assert found.data["complete"] is False


@pytest.mark.slow
def test_a_flat_surface_is_described():
    constant = jxs.Function(lambda x, y: 0 * x * y + 2.0)
    found = jxs.describe(jxs.landscape(constant, None, w1=(-1, 1, 9), w2=(-1, 1, 7)), constant)
    assert found.data["critical_points"] == []
    assert "It is the same at every node." in str(found)
    assert found.data["flat"] == 1
    json.dumps(found.data, allow_nan=False)


def test_the_valleys_range_is_the_true_one():
    """In a wide box, where it is far narrower than the steps of any sampling would be."""
    _, test = jxs.article.data()
    surface = jxs.article.surface()
    found = jxs.describe(surface, jxs.squared_error, test, w1=(-200.0, 200.0), w2=(-5.0, 5.0))
    np.testing.assert_allclose(found.data["valley"]["lowest"], 99.0866042742, rtol=1e-11)
    highest = max(point.loss for point in found.critical_points.points)
    np.testing.assert_allclose(found.data["valley"]["highest"], highest, rtol=1e-12)


def test_bad_input_is_refused():
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
