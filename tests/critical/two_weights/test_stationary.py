"""All stationary points of the two-weight network: known answers, dense scans, degenerate data."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

import jaxscape as jxs
from jaxscape._util.warnings import InterruptedWarning
from jaxscape.critical.two_weights import roots, stationary
from jaxscape.planes.plane import weight_plane
from tests.critical.two_weights.helpers import WIDE, dataset, everywhere, random_data

NINE_INPUTS = np.arange(-2, 2.5, 0.5)


def test_the_teacher_is_found_with_known_eigenvalues_and_limits():
    """Nine samples of the teacher (1.5, 0.8)."""
    found = everywhere(NINE_INPUTS, 0.8 * np.tanh(1.5 * NINE_INPUTS))
    assert found.completeness == "proved"
    assert [point.kind for point in found.points] == ["minimum", "minimum", "saddle"]
    for point, sign in zip(found.points[:2], (-1, 1), strict=True):
        np.testing.assert_allclose([point.a, point.b], [sign * 1.5, sign * 0.8], rtol=1e-12)
        np.testing.assert_allclose(point.eigenvalues, [0.0185951047, 1.42593454], rtol=1e-8)
        assert point.loss < 1e-28
        assert point.certified
    origin = found.points[2]
    assert (origin.a, origin.b) == (0, 0)
    np.testing.assert_allclose(origin.loss, 0.450755782648, rtol=1e-11)
    np.testing.assert_allclose(origin.eigenvalues, [-1.66395428, 1.66395428], rtol=1e-8)
    limits = found.limits
    np.testing.assert_allclose(limits["w1_to_0"], 0.0354442063223948, rtol=1e-13)
    np.testing.assert_allclose(limits["w1_to_infinity"], 0.0118642095247159, rtol=1e-13)
    assert limits["attained"] is True
    assert limits["infimum"] < 1e-28


def test_on_the_articles_data_the_infimum_is_not_attained():
    """The best line through the origin is the limit as w1 → 0."""
    _, test = jxs.article.data()
    found = jxs.critical_points(jxs.squared_error, test, **WIDE)
    assert found.completeness == "proved"
    assert found.limits["attained"] is False
    assert found.limits["searched_to"] == np.inf
    x, y = (np.asarray(v, float) for v in (test.x, test.y))
    line = np.mean((y - x * (x @ y) / (x @ x)) ** 2)
    np.testing.assert_allclose(found.limits["infimum"], line, rtol=1e-13)
    assert found.limits["infimum"] < min(point.loss for point in found.points)
    # Close to w1 = 0 the profile lies above the limit.
    for w1 in (1e-3, 1e-2, 0.1):
        h = np.tanh(w1 * x)
        assert np.mean((y - h * (h @ y) / (h @ h)) ** 2) > line


def changes_of_sign(x, y, w1):
    """Return the w1 at which the derivative of the profile, and B, change sign."""
    profile_slope, crossing = np.empty_like(w1), np.empty_like(w1)
    for start in range(0, len(w1), 20_000):
        part = slice(start, start + 20_000)
        z = w1[part, None] * x
        h = np.tanh(z)
        with np.errstate(all="ignore"):
            kappa = np.where(z == 0, 1, 2 * z / np.sinh(2 * z))
        a, a1, b, b1 = h * h, h * h * kappa, h * y, h * y * kappa
        noise = 1e-13 * (a1.sum(1) * abs(b).sum(1) + a.sum(1) * abs(b1).sum(1))
        slope = a1.sum(1) * b.sum(1) - a.sum(1) * b1.sum(1)
        profile_slope[part] = np.where(abs(slope) > noise, slope, 0)
        crossing[part] = np.where(abs(b.sum(1)) > 1e-14 * abs(b).sum(1), b.sum(1), 0)

    def changes(values):
        certain = np.flatnonzero(values)
        turned = np.flatnonzero(np.diff(np.sign(values[certain])))
        return np.sqrt(w1[certain[turned]] * w1[certain[turned + 1]])

    return changes(profile_slope), changes(crossing)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(8))
def test_nothing_is_missed_on_random_data(kind):
    """Dense scans of 25 data sets of each kind, some with 10⁶ values of w1, find no other point."""
    generator = np.random.default_rng(kind)
    several = 0
    for k in range(25):
        x, y = random_data(generator, kind)
        w1 = np.geomspace(2e-7, 200, 1_000_000 if k == 0 else 60_000)
        found = everywhere(x, y, w1=(1e-12, 200.0), w2=(-1e30, 1e30))
        assert found.completeness == "proved"
        off = sorted(point.a for point in found.points if point.b)
        on = sorted(point.a for point in found.points if not point.b)
        for ours, theirs in zip((off, on), changes_of_sign(x, y, w1), strict=True):
            assert len(ours) == len(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-3)
        several += len(found.of_kind("minimum")) > 1
    # Some data of these kinds have several minima, which a search could miss.
    assert several or kind not in (2, 4, 5)


def test_one_progress_bar_covers_both_searches(monkeypatch):
    """Each search makes many calls that are shorter than the second before a bar appears."""
    monkeypatch.setattr(stationary, "_BATCH_SIZE", 4)
    counts = []

    class Bar(tqdm):
        def update(self, n=1):
            counts.append(n)

    monkeypatch.setattr(stationary, "bar", lambda total, unit: Bar(disable=True))
    everywhere(np.array([1, 1.3, 2.1]), np.array([1, -2, 0.7]))
    assert sum(counts) > len(counts) > 2


@pytest.mark.parametrize("calls", [0, 5, 13, 14, 23])
def test_after_ctrl_c_the_rest_of_the_box_is_undecided(monkeypatch, calls):
    """Ctrl-C in the first search also skips the second."""
    x, y = np.array([1, 1.3, 2.1]), np.array([1, -2, 0.7])
    monkeypatch.setattr(stationary, "_BATCH_SIZE", 4)
    whole, original, count = everywhere(x, y), roots._examine, itertools.count()

    def examine(*given):
        # Only this call is interrupted: undecided subintervals are examined again.
        if next(count) == calls:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(roots, "_examine", examine)
    with pytest.warns(InterruptedWarning, match="interrupted: not all"):
        found = everywhere(x, y)
    assert found.completeness == "incomplete"
    assert found.limits["attained"] is None
    known = [(point.a, point.b) for point in found.points]
    assert set(known) <= {(point.a, point.b) for point in whole.points}
    for point in whole.points:
        among = [low <= point.a <= high for (low, high), _ in found.undecided]
        assert (point.a, point.b) in known or any(among)


def test_a_limit_on_subintervals_leaves_the_rest_undecided(monkeypatch):
    monkeypatch.setattr(stationary, "_MAX_SUBINTERVALS", 12)
    monkeypatch.setattr(stationary, "_BATCH_SIZE", 4)
    found = everywhere(np.array([1, 1.3, 2.1]), np.array([1, -2, 0.7]))
    assert found.completeness == "incomplete"
    assert found.undecided
    assert found.limits["attained"] is None


def test_points_come_in_symmetric_pairs_and_indices_sum_to_the_winding_number():
    generator = np.random.default_rng(8)
    for _ in range(10):
        found = everywhere(*random_data(generator, 4), w1=(-300.0, 301.0), w2=(-50.0, 57.0))
        positions = {(point.a, point.b) for point in found.points}
        assert positions == {(-a, -b) for a, b in positions} or found.winding is None
        if found.winding is not None:
            assert sum(point.turns for point in found.points) == found.winding


def test_no_other_point_is_within_the_radius():
    generator = np.random.default_rng(9)
    for _ in range(10):
        points = everywhere(*random_data(generator, 5)).points
        for point in points:
            away = [np.hypot(p.a - point.a, p.b - point.b) for p in points if p is not point]
            assert min(away, default=np.inf) > 0.999 * point.radius


@pytest.mark.slow
def test_kinds_agree_with_the_hessian_by_autodiff(x64):
    generator = np.random.default_rng(10)
    for _ in range(5):
        x, y = random_data(generator, 2)
        data = jxs.Dataset(x, y)
        for point in everywhere(x, y).points:
            weights = jnp.array([point.a, point.b])
            hessian = jax.hessian(lambda w, d: jxs.squared_error(jxs.Weights(*w), d))(weights, data)
            eigenvalues = np.linalg.eigvalsh(hessian)
            scale = abs(eigenvalues).max()
            np.testing.assert_allclose(point.eigenvalues, eigenvalues, atol=1e-9 * scale)
            signs = {"minimum": (1, 1), "saddle": (-1, 1)}[point.kind]
            if abs(eigenvalues[0]) > 1e-9 * scale:
                np.testing.assert_array_equal(np.sign(eigenvalues), signs)


@pytest.mark.parametrize(
    ("x", "y", "note", "attained"),
    [
        ([1.5], [2.0], "valley of minima", True),
        ([1.5, -1.5, 1.5], [2.0, 1.0, 1.0], "valley of minima", True),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], "every point is a global minimum", True),
        ([1.0, -1.0, 2.0, -2.0], [1.0, 1.0, 3.0, 3.0], "every point is a global minimum", True),
        ([0.0, 0.0], [1.0, 2.0], "the same everywhere", True),
        ([1.0, -1.0, 2.0, -2.0], [2.0, -2.0, -1.0, 1.0], "mean(x·y) is 0", False),
    ],
)
def test_degenerate_data_have_a_proof_and_a_note(x, y, note, attained):
    found = everywhere(np.array(x), np.array(y))
    assert found.completeness == "proved"
    assert any(note in line for line in found.notes)
    assert found.limits["attained"] is attained
    assert {point.kind for point in found.points} <= {"saddle", "degenerate"}


def test_inputs_of_all_sizes_have_a_proof():
    """Inputs from 1e-6 to 1e6 do not overflow."""
    found = everywhere(np.array([1e6, 1e-6, 2e-6, -3e5]), np.array([1, 2, 3, -1.0]))
    assert found.completeness == "proved"
    large = everywhere(np.array([1e6, 2e6, 3e6]), np.array([1, 2.5, 2]))
    (minimum,) = [point for point in large.of_kind("minimum") if point.a > 0]
    small = everywhere(np.array([1.0, 2.0, 3.0]), np.array([1, 2.5, 2]))
    (same,) = [point for point in small.of_kind("minimum") if point.a > 0]
    np.testing.assert_allclose(minimum.a * 1e6, same.a, rtol=1e-9)
    np.testing.assert_allclose(minimum.b, same.b, rtol=1e-9)


def test_integer_weights_are_repetitions():
    x, y, times = np.array([0.3, -1.2, 2.0, 0.9]), np.array([1, 0.4, 1, -1.0]), [1, 3, 2, 1]
    with jax.enable_x64(True):
        weighted = jxs.Dataset(x, y, sample_weight=np.array(times, float))
    found = jxs.critical_points(jxs.squared_error, weighted, **WIDE)
    same = everywhere(np.repeat(x, times), np.repeat(y, times))
    assert len(found.points) == len(same.points) > 1
    for ours, theirs in zip(found.points, same.points, strict=True):
        np.testing.assert_allclose(ours[:2], theirs[:2], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-12)


def test_only_points_in_the_box_are_listed_and_the_boundary_is_marked():
    x, y = NINE_INPUTS, 0.8 * np.tanh(1.5 * NINE_INPUTS)
    right = everywhere(x, y, w1=(0.0, 2.0), w2=(-1.0, 1.0))
    assert [(point.kind, point.on_boundary) for point in right.points] == [
        ("minimum", False),
        ("saddle", True),
    ]
    assert right.winding is None


def test_a_huge_box_has_the_same_points_and_takes_no_longer(monkeypatch):
    """The equations have no root far out, so the search need not go on to the end of the box."""
    examined = []
    true_isolate = roots.isolate

    def counted(*arguments):
        found = true_isolate(*arguments)
        examined.append(found.examined)
        return found

    monkeypatch.setattr(roots, "isolate", counted)
    x, y = NINE_INPUTS, 0.8 * np.tanh(1.5 * NINE_INPUTS)
    near = everywhere(x, y, w1=(-1e3, 1e3), w2=(-1e3, 1e3))
    count = sum(examined)
    far = everywhere(x, y, w1=(-1e300, 1.1e300), w2=(-1e300, 1e300))
    assert sum(examined) - count < 2 * count
    assert far.completeness == "proved"
    assert far.limits == near.limits
    for ours, theirs in zip(far.points, near.points, strict=True):
        assert ours[:4] == theirs[:4]


def test_the_box_beyond_the_end_of_the_search_is_undecided(monkeypatch):
    monkeypatch.setattr(stationary, "_FIRST_END", 0.8)
    monkeypatch.setattr(stationary, "_MAX_W1", 0.7)
    found = everywhere(
        NINE_INPUTS, 0.8 * np.tanh(1.5 * NINE_INPUTS), w1=(-3.0, 7.0), w2=(-1.0, 1.0)
    )
    assert found.completeness != "proved"
    assert max(high for (_, high), _ in found.undecided) == 7


def test_only_the_squared_error_of_the_two_weight_network_applies():
    data = dataset(NINE_INPUTS, NINE_INPUTS)
    assert stationary.applies(jxs.squared_error, data, weight_plane())
    assert stationary.applies(
        jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.tanh)), data, weight_plane()
    )
    assert not stationary.applies(
        jxs.squared_error.of(jxs.TwoWeightNetwork(jnp.sin)), data, weight_plane()
    )
    assert not stationary.applies(jxs.log_cosh, data, weight_plane())
    shifted = jxs.Plane(jxs.Weights(1.0, 0.0), jxs.Weights(1.0, None), jxs.Weights(None, 1.0))
    assert not stationary.applies(jxs.squared_error, data, shifted)


def test_data_that_are_not_finite_raise():
    bad = dataset(NINE_INPUTS, NINE_INPUTS)
    object.__setattr__(bad, "y", np.where(NINE_INPUTS > 1, np.nan, NINE_INPUTS))
    with pytest.raises(ValueError, match="data: expected finite x and y"):
        jxs.critical_points(jxs.squared_error, bad, **WIDE)
    object.__setattr__(bad, "y", 1e200 * NINE_INPUTS)
    with pytest.raises(ValueError, match="data: expected finite x and y, and finite squares of y"):
        jxs.critical_points(jxs.squared_error, bad, **WIDE)
