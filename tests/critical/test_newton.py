"""Newton's method, the classification of its limits, and the test for smoothness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.critical import newton
from jaxscape.critical import search as search_module
from jaxscape.planes.plane import weight_plane
from tests.critical.helpers import HIMMELBLAU, himmelblau, search


def problem(function, box=((-5.0, 5.0), (-5.0, 5.0))):
    return newton.Problem(jxs.Function(function), weight_plane(), None, box)


def test_loss_and_derivatives_are_those_of_a_polynomial(x64):
    points = np.random.default_rng(0).uniform(-2, 2, (5, 2))
    x, y = points.T
    found = problem(lambda x, y: x**3 * y + 2 * y**2).evaluate(points)
    np.testing.assert_allclose(found.loss, x**3 * y + 2 * y**2, rtol=1e-13)
    np.testing.assert_allclose(found.gradient.T, [3 * x**2 * y, x**3 + 4 * y], rtol=1e-13)
    hessian = [[6 * x * y, 3 * x**2], [3 * x**2, 4 + 0 * x]]
    np.testing.assert_allclose(found.hessian.transpose(1, 2, 0), hessian, rtol=1e-13)


def test_newtons_method_finds_roots_in_the_box_only(x64):
    """One start leads to (3, 2), in the box; the other to (-3.78, -3.28), outside of it."""
    starts = np.array([[3.2, 2.2], [-3.7, -3.2]])
    roots = problem(himmelblau, ((0.0, 5.0), (-1.0, 4.0))).roots(starts)
    np.testing.assert_allclose(roots, [[3, 2]], rtol=1e-13)


def test_cells_with_a_critical_point_hold_candidates(x64):
    sample = newton.sample_grid(problem(himmelblau), 49)
    assert sample.smoothness == "smooth"
    assert sample.flat == 0
    assert len(sample.candidates) < 49**2
    for _, a, b, *_ in HIMMELBLAU:
        distance = abs(sample.candidates - [a, b]).max(axis=1)
        assert distance.min() < 10 / 48


def test_blocks_of_points_give_the_same_values(x64, monkeypatch):
    points = np.random.default_rng(1).uniform(-5, 5, (700, 2))
    whole = problem(himmelblau).evaluate(points)
    roots = problem(himmelblau).roots(points[:300])
    monkeypatch.setattr(newton, "_BLOCK_SIZE", 256)
    for ours, theirs in zip(problem(himmelblau).evaluate(points), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(problem(himmelblau).roots(points[:300]), roots)


def test_limits_are_classified_once_each(x64):
    wells = problem(lambda x, y: (x**2 - 1) ** 2 + y**2)
    ends = np.array([[1, 0], [1 + 1e-12, 1e-12], [-1, 0], [0, 0], [0.5, 0.3]])
    found = newton.classify(wells, ends, 1e4)
    kinds = sorted((point.kind, round(point.a)) for point in found.points)
    assert kinds == [("minimum", -1), ("minimum", 1), ("saddle", 0)]
    assert found.flat == []
    assert found.notes == ()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y: jnp.sin(x) * y**2, "smooth"),
        (lambda x, y: x**2 * jnp.abs(x) / 9 + jnp.abs(y - 0.1) * (y - 0.1), "Hessian jumps"),
        (lambda x, y: jnp.abs(x + y - 0.2) + x**2, "gradient jumps"),
        (lambda x, y: jnp.where(x > y, 1.0, 0.0) + x**2, "gradient jumps"),
    ],
)
def test_smoothness_is_that_of_the_function(x64, function, expected):
    assert newton.sample_grid(problem(function), 49).smoothness == expected


def test_two_points_at_distance_1e_4_are_distinct():
    """At distance 1e-9 they count as one degenerate point, and nothing is proved."""

    def pair(gap):
        return lambda x, y: x**3 / 3 - (gap / 2) ** 2 * x + y**2

    found = search(pair(1e-4))
    assert [point.kind for point in found.points] == ["minimum", "saddle"]
    assert found.completeness == "proved"
    close = search(pair(1e-9))
    assert close.completeness == "index"
    assert [point.kind for point in close.points] == ["degenerate"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "turns"),
    [
        (lambda x, y: x**4 + y**4, 1),
        (lambda x, y: x**3 - 3 * x * y**2, -2),
        (lambda x, y: x**3 + y**2, 0),
        (lambda x, y: x**4 - y**4, -1),
        (lambda x, y: x**4 + y**2, 1),
    ],
)
def test_degenerate_points_have_an_index_and_no_proof(function, turns):
    found = search(function, (-1.0, 2.0), (-1.2, 1.0))
    (point,) = found.points
    assert point.kind == "degenerate"
    assert point.turns == turns == found.winding
    assert not point.certified
    assert found.completeness == "index"
    np.testing.assert_allclose([point.a, point.b], 0, atol=1e-4)


@pytest.mark.slow
def test_a_curve_of_stationary_points_is_noted_and_not_listed(monkeypatch):
    monkeypatch.setattr(search_module, "_MAX_BOXES", 3000)
    found = search(lambda x, y: (x - y) ** 2, (-1.0, 2.0), (-1.2, 1.0))
    assert found.points == ()
    assert found.completeness == "incomplete"
    assert any("not isolated" in note for note in found.notes)


def test_kinds_do_not_depend_on_the_scale_of_the_axes():
    found = search(
        lambda x, y: ((x * 1e6) ** 2 - 1) ** 2 + (y * 1e-6) ** 2, (-2e-6, 2e-6), (-3e6, 4e6)
    )
    assert found.completeness == "proved"
    assert [point.kind for point in found.points] == ["minimum", "minimum", "saddle"]
    assert [point.turns for point in found.points] == [1, 1, -1]


def test_in_a_very_wide_box_certified_points_have_the_right_kind():
    found = search(lambda x, y: (x * x - 1) ** 2 + (x - y) ** 2, (-1e9, 1e9), (-1e9, 1e9))
    known = {(-1, -1): "minimum", (1, 1): "minimum", (0, 0): "saddle"}
    for point in found.points:
        if point.certified:
            assert known[round(point.a), round(point.b)] == point.kind
            assert point.turns == (-1 if point.kind == "saddle" else 1)


@pytest.mark.slow
def test_flat_regions_are_not_critical_points():
    """Far from a bump the gradient is below rounding errors, but nothing is critical there."""
    found = search(lambda x, y: jnp.exp(-(x**2) - y**2), (-8.0, 8.5), (-9.0, 8.0))
    (point,) = found.points
    assert point.kind == "maximum"
    np.testing.assert_allclose([point.a, point.b], 0, atol=1e-9)
    assert any("below rounding errors" in note for note in found.notes)
    constant = search(lambda x, y: 0 * x * y + 3.0)
    assert constant.points == ()


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: jnp.abs(x) + y**2,
        lambda x, y: jax.nn.relu(x - 0.3) + x**2 + y**2,
        lambda x, y: jnp.maximum(x, y) ** 2 + y**2,
    ],
)
def test_kinks_are_noted(function):
    found = search(function)
    assert found.points == ()
    assert not found.complete
    assert "kinks" in found.notes[0]


def test_jumps_of_the_loss_are_noted():
    found = search(lambda x, y: x * x + y * y + jnp.where(x > 0.5, -5.0, 0.0))
    assert not found.complete
    assert "jumps" in found.notes[0]


@pytest.mark.parametrize("half", [1e-3, 1e-6, 1e-9])
def test_rounding_in_a_small_box_does_not_look_like_a_kink(half):
    found = search(himmelblau, (3 - half, 3 + 1.1 * half), (2 - half, 2 + half))
    (point,) = found.points
    assert point.kind == "minimum"
    np.testing.assert_allclose([point.a, point.b], [3, 2], rtol=1e-14)


@pytest.mark.slow
def test_a_mean_of_many_kinks_is_not_smooth(monkeypatch):
    """The absolute error of 25 samples has kinks between the nodes; log-cosh has none."""
    data = jxs.data.teacher_student(jax.random.key(0), n=25)
    found = jxs.critical_points(jxs.absolute_error, data, w1=(-2.0, 2.1), w2=(-2.0, 1.9))
    assert not found.complete
    assert "kinks" in found.notes[0]
    # On this grid log-cosh looks as if it had kinks.
    monkeypatch.setattr(search_module, "_MAX_BOXES", 500)
    smooth = jxs.critical_points(jxs.log_cosh, data, w1=(-2.0, 2.1), w2=(-2.0, 1.9))
    assert [point.kind for point in smooth.points] == ["minimum", "minimum", "saddle"]
    assert smooth.complete


@pytest.mark.slow
def test_points_are_found_where_only_the_hessian_jumps(monkeypatch):
    """The gradient of Huber's loss is continuous."""
    monkeypatch.setattr(search_module, "_MAX_BOXES", 2000)
    data = jxs.data.teacher_student(jax.random.key(0), n=50, noise=0.1)
    found = jxs.critical_points(jxs.huber(0.5), data, w1=(-3.0, 3.1), w2=(-2.0, 2.2))
    assert [point.kind for point in found.points] == ["minimum", "minimum", "saddle"]
    assert found.completeness == "index"
    assert any("the Hessian jumps" in note for note in found.notes)
    for point in found.points:
        assert point.residual < 1e-9
