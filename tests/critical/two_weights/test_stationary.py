"""Every stationary point of the two-weight network: found, certified, and none missed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

import jaxscape as jxs
from jaxscape.critical.two_weights import profile, roots, stationary
from jaxscape.planes.plane import weight_plane

NO_BAR = tqdm(disable=True)
WIDE = {"w1": (-200.0, 200.0), "w2": (-1e30, 1e30)}


def dataset(x, y, sample_weight=None):
    with jax.enable_x64(True):
        return jxs.Dataset(np.array(x, float), np.array(y, float), sample_weight=sample_weight)


def everywhere(x, y, **box):
    return jxs.critical_points(jxs.squared_error, dataset(x, y), **(box or WIDE))


NINE = np.arange(-2, 2.5, 0.5)


def test_the_teacher_is_found_with_its_known_eigenvalues_and_limits():
    """The known answers of the nine points and the teacher (1.5, 0.8)."""
    found = everywhere(NINE, 0.8 * np.tanh(1.5 * NINE))
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


def test_on_the_articles_data_the_lowest_value_is_not_attained():
    """The best straight line through the origin is approached as w1 → 0, and never reached."""
    _, test = jxs.article.data()
    found = jxs.critical_points(jxs.squared_error, test, **WIDE)
    assert found.completeness == "proved"
    assert found.limits["attained"] is False
    assert found.limits["searched_to"] == np.inf
    x, y = (np.asarray(v, float) for v in (test.x, test.y))
    line = np.mean((y - x * (x @ y) / (x @ x)) ** 2)
    np.testing.assert_allclose(found.limits["infimum"], line, rtol=1e-13)
    assert found.limits["infimum"] < min(point.loss for point in found.points)
    # Nearer to 0 the loss of the best w2 falls toward it, from above.
    for w1 in (1e-3, 1e-2, 0.1):
        h = np.tanh(w1 * x)
        assert np.mean((y - h * (h @ y) / (h @ h)) ** 2) > line


def random_data(generator, k):
    """Data of eight kinds, those with several minima among them."""
    n = int(generator.integers(2, 40))
    x = generator.normal(size=n) * 10 ** generator.uniform(-1, 1)
    if k == 0:
        return x, generator.normal(size=n)
    if k == 1:
        return x, 0.8 * np.tanh(1.5 * x) + 0.1 * generator.normal(size=n)
    if k == 2:
        either = generator.random(n) < 0.5
        return x, np.where(either, 2 * np.tanh(0.3 * x), -np.tanh(5 * x))
    if k == 3:
        return generator.normal(size=3), generator.normal(size=3)
    if k == 4:
        x = np.array([0.01, 0.1, 1, 10, 100]) * generator.uniform(0.5, 2, 5)
        return x, generator.normal(size=5) * [10, 3, 1, 1, 1]
    if k == 5:
        return generator.normal(size=n) * 10 ** generator.uniform(-4, 4, n), generator.normal(
            size=n
        )
    if k == 6:
        teachers = zip(generator.normal(size=3), 10 ** generator.uniform(-1, 1.5, 3), strict=True)
        return x, sum(w2 * np.tanh(w1 * x) for w2, w1 in teachers)
    return np.round(x, 1), np.round(generator.normal(size=n), 1)


def scanned(x, y, w1):
    """Where the profile's slope, and B, change sign between two neighbors of w1."""
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
    """Against dense scans: 25 data sets of each of eight kinds, 10⁶ values of w1 for some."""
    generator = np.random.default_rng(kind)
    several = 0
    for k in range(25):
        x, y = random_data(generator, kind)
        w1 = np.geomspace(2e-7, 200, 1_000_000 if k == 0 else 60_000)
        found = everywhere(x, y, w1=(1e-12, 200.0), w2=(-1e30, 1e30))
        assert found.completeness == "proved"
        off = sorted(point.a for point in found.points if point.b)
        on = sorted(point.a for point in found.points if not point.b)
        for ours, theirs in zip((off, on), scanned(x, y, w1), strict=True):
            assert len(ours) == len(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-3)
        several += len(found.of_kind("minimum")) > 1
    # With few points of all sizes there are several minima, so that the search has some to miss.
    assert several or kind not in (2, 4, 5)


def test_the_bounds_hold_between_the_ends():
    """Value and slope lie within their enclosures at every place of a stretch, for both forms."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=17) * 3, generator.normal(size=17)
    samples = profile.group_samples(x, y, np.full(17, 1 / 17))
    balanced = profile.group_samples(
        x, y - np.sign(x) * np.mean(y * np.sign(x)), np.full(17, 1 / 17)
    )
    assert samples.sum_y
    assert not balanced.sum_y
    for equation in (
        profile.ProfileEquation(samples),
        profile.AxisEquation(samples),
        profile.AxisEquation(balanced),
    ):
        p = 10 ** generator.uniform(-3, 1.3, 200)
        # All on one side of where the form changes, so that values and slopes are of one form.
        q = p * 10 ** generator.uniform(0, 0.3, 200)
        small = 0.6 / np.average(samples.x, weights=samples.n)
        one_form = (q < small) | (p >= small)
        p, q = p[one_form], q[one_form]
        low, high = equation.derivatives(p, q)
        for t in np.linspace(0.02, 0.98, 13):
            w1, step = p * (q / p) ** t, 1e-5
            ahead, behind = (
                np.mean(equation.values(w1 * np.exp(s * step)), axis=0) for s in (1, -1)
            )
            slope = (ahead - behind) / (2 * step)
            rounding = 1e-6 * np.maximum(abs(low), abs(high))
            assert (slope >= low - rounding).all()
            assert (slope <= high + rounding).all()


def test_a_bound_made_too_small_misses_roots(monkeypatch):
    """The certificate rests on the bound of the slope: with a tenth of it, roots are lost."""
    generator = np.random.default_rng(4)
    sets = [random_data(generator, 4) for _ in range(20)]

    def count():
        return sum(len(everywhere(x, y).points) for x, y in sets)

    true = count()
    honest = profile.ProfileEquation.derivatives

    def too_small(self, p, q):
        low, high = honest(self, p, q)
        return low / 10, high / 10

    monkeypatch.setattr(profile.ProfileEquation, "derivatives", too_small)
    assert count() < true


def test_a_certified_root_is_the_only_one_in_its_stretch():
    """A stretch with two roots is never taken for one with one."""

    def values(w1):
        exact = np.log(w1 / 1.001) * np.log(w1 / 1.002) * np.log(w1 / 3)
        return exact - 1e-15, exact + 1e-15

    def slopes(p, q):
        # The product rule, each factor monotone: crude, and a bound.
        factors = [(np.log(p / c), np.log(q / c)) for c in (1.001, 1.002, 3)]
        products = [
            [u * v for u in first for v in second]
            for first, second in (
                (factors[0], factors[1]),
                (factors[0], factors[2]),
                (factors[1], factors[2]),
            )
        ]
        return sum(np.min(p, axis=0) for p in products), sum(np.max(p, axis=0) for p in products)

    found = roots.isolate(values, slopes, 0.1, 50, 10_000, 32, NO_BAR)
    np.testing.assert_allclose(found.root, [1.001, 1.002, 3], rtol=1e-9)
    assert len(found.undecided) == 0
    assert (found.slope == [1, -1, 1]).all()
    for (low, high), root in zip(found.isolating, found.root, strict=True):
        others = found.root[found.root != root]
        assert not ((others > low) & (others < high)).any()


def test_a_root_on_the_end_of_a_stretch_is_found():
    ends = np.geomspace(0.5, 8, int(8 * np.log(16)) + 1) * 1.000_123_4
    for root in ends[3:6]:
        found = roots.isolate(
            lambda w, root=root: (np.log(w / root) - 1e-13, np.log(w / root) + 1e-13),
            lambda p, q: (np.ones_like(p), np.ones_like(p)),
            0.5,
            8,
            1000,
            32,
            NO_BAR,
        )
        np.testing.assert_allclose(found.root, [root], rtol=1e-12)


def test_a_double_root_is_left_undecided():
    """Where a function touches 0 nothing can be proved in floating point, and that is said."""
    found = roots.isolate(
        lambda w: (np.log(w / 2) ** 2 - 1e-16, np.log(w / 2) ** 2 + 1e-16),
        lambda p, q: (2 * np.log(p / 2), 2 * np.log(q / 2)),
        0.1,
        30,
        100_000,
        32,
        NO_BAR,
    )
    assert len(found.root) == 0
    assert len(found.undecided)
    assert found.undecided.min() < 2 < found.undecided.max()


def test_a_terminal_sees_how_far_it_is(monkeypatch):
    """One bar over both searches, each of many calls shorter than the second before it appears."""
    monkeypatch.setattr(stationary, "_BATCH_SIZE", 4)
    counts = []

    class Bar(tqdm):
        def update(self, n=1):
            counts.append(n)

    monkeypatch.setattr(stationary, "bar", lambda total, unit: Bar(disable=True))
    everywhere(np.array([1, 1.3, 2.1]), np.array([1, -2, 0.7]))
    assert sum(counts) > len(counts) > 2


@pytest.mark.parametrize("looks", [0, 5, 13, 14, 23])
def test_ctrl_c_leaves_what_was_not_searched_undecided(monkeypatch, looks):
    """And the search for other points is not begun: it would have to be stopped as well."""
    x, y = np.array([1, 1.3, 2.1]), np.array([1, -2, 0.7])
    monkeypatch.setattr(stationary, "_BATCH_SIZE", 4)
    whole, honest, count = everywhere(x, y), roots._examine, itertools.count()

    def look(*given):
        # Of what is undecided some is looked at again, which is not interrupted.
        if next(count) == looks:
            raise KeyboardInterrupt
        return honest(*given)

    monkeypatch.setattr(roots, "_examine", look)
    with pytest.warns(UserWarning, match="interrupted: not all"):
        found = everywhere(x, y)
    assert found.completeness == "incomplete"
    assert found.limits["attained"] is None
    known = [(point.a, point.b) for point in found.points]
    assert set(known) <= {(point.a, point.b) for point in whole.points}
    for point in whole.points:
        among = [low <= point.a <= high for (low, high), _ in found.undecided]
        assert (point.a, point.b) in known or any(among)


def test_without_room_to_search_the_rest_is_undecided(monkeypatch):
    monkeypatch.setattr(stationary, "_MAX_SUBINTERVALS", 12)
    monkeypatch.setattr(stationary, "_BATCH_SIZE", 4)
    found = everywhere(np.array([1, 1.3, 2.1]), np.array([1, -2, 0.7]))
    assert found.completeness == "incomplete"
    assert found.undecided
    assert found.limits["attained"] is None


def test_symmetric_points_come_in_pairs_and_indices_add_up():
    generator = np.random.default_rng(8)
    for _ in range(10):
        found = everywhere(*random_data(generator, 4), w1=(-300.0, 301.0), w2=(-50.0, 57.0))
        places = {(point.a, point.b) for point in found.points}
        assert places == {(-a, -b) for a, b in places} or found.winding is None
        if found.winding is not None:
            assert sum(point.turns for point in found.points) == found.winding


def test_nearest_others_are_farther_than_the_radius():
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
def test_degenerate_data_are_answered(x, y, note, attained):
    found = everywhere(np.array(x), np.array(y))
    assert found.completeness == "proved"
    assert any(note in line for line in found.notes)
    assert found.limits["attained"] is attained
    assert {point.kind for point in found.points} <= {"saddle", "degenerate"}


def test_x_of_all_sizes_is_answered():
    """Inputs from 1e-6 to 1e6 together: no overflow, and a proof."""
    found = everywhere(np.array([1e6, 1e-6, 2e-6, -3e5]), np.array([1, 2, 3, -1.0]))
    assert found.completeness == "proved"
    large = everywhere(np.array([1e6, 2e6, 3e6]), np.array([1, 2.5, 2]))
    (minimum,) = [point for point in large.of_kind("minimum") if point.a > 0]
    small = everywhere(np.array([1.0, 2.0, 3.0]), np.array([1, 2.5, 2]))
    (same,) = [point for point in small.of_kind("minimum") if point.a > 0]
    np.testing.assert_allclose(minimum.a * 1e6, same.a, rtol=1e-9)
    np.testing.assert_allclose(minimum.b, same.b, rtol=1e-9)


def test_sample_weights_count():
    """Integer weights are repetitions."""
    x, y, times = np.array([0.3, -1.2, 2.0, 0.9]), np.array([1, 0.4, 1, -1.0]), [1, 3, 2, 1]
    with jax.enable_x64(True):
        weighted = jxs.Dataset(x, y, sample_weight=np.array(times, float))
    found = jxs.critical_points(jxs.squared_error, weighted, **WIDE)
    same = everywhere(np.repeat(x, times), np.repeat(y, times))
    assert len(found.points) == len(same.points) > 1
    for ours, theirs in zip(found.points, same.points, strict=True):
        np.testing.assert_allclose(ours[:2], theirs[:2], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-12)


def test_only_what_lies_in_the_box_is_given_and_its_border_is_said():
    x, y = NINE, 0.8 * np.tanh(1.5 * NINE)
    right = everywhere(x, y, w1=(0.0, 2.0), w2=(-1.0, 1.0))
    assert [(point.kind, point.on_boundary) for point in right.points] == [
        ("minimum", False),
        ("saddle", True),
    ]
    assert right.winding is None


def test_it_is_for_this_network_and_this_loss_alone():
    data = dataset(NINE, NINE)
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


def test_data_that_are_not_numbers_are_refused():
    bad = dataset(NINE, NINE)
    object.__setattr__(bad, "y", np.where(NINE > 1, np.nan, NINE))
    with pytest.raises(ValueError, match="data: expected finite x and y"):
        jxs.critical_points(jxs.squared_error, bad, **WIDE)
