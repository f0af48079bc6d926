"""The search for critical points of any smooth loss: known answers, completeness, arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape._util.warnings import InterruptedWarning
from jaxscape.critical import enclosure, krawczyk, newton
from jaxscape.critical import search as search_module
from jaxscape.critical.interval import Interval
from jaxscape.planes.plane import weight_plane
from tests.critical.helpers import HIMMELBLAU, check_known, himmelblau, linear_network, search


def rosenbrock(w1, w2):
    return (1 - w1) ** 2 + 100 * (w2 - w1**2) ** 2


def test_the_nine_critical_points_of_himmelblau_are_found_and_proved_to_be_all():
    found = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    check_known(found, HIMMELBLAU)
    assert found.winding == 1
    # An asymmetric box holds some of them.
    part = search(himmelblau, (-1.0, 4.1), (-2.5, 3.3))
    check_known(
        part, [known for known in HIMMELBLAU if -1 < known[1] < 4.1 and -2.5 < known[2] < 3.3]
    )


def test_known_critical_points_of_rosenbrock_and_a_linear_network_are_found():
    check_known(
        search(rosenbrock, (-3.0, 3.0), (-3.0, 5.0)),
        [("minimum", 1, 1, 0, 0.399360767, 1001.60064)],
    )
    w = 0.948683298051
    check_known(
        search(linear_network, (-2.0, 1.7), (-1.5, 2.0)),
        [
            ("minimum", w, w, 0.19, 0.4, 3.6),
            ("minimum", -w, -w, 0.19, 0.4, 3.6),
            ("saddle", 0, 0, 1, -1.8, 2.2),
        ],
    )


def test_the_general_search_agrees_with_the_certified_equations():
    """The two-weight network, as any other loss, has the points that its own search finds."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=23)
    y = 0.8 * np.tanh(1.5 * x) + 0.1 * generator.normal(size=23)
    with jax.enable_x64(True):
        data = jxs.Dataset(x, y)
    box = {"w1": (-4.0, 4.3), "w2": (-3.0, 2.7)}
    special = jxs.critical_points(jxs.squared_error, data, **box)

    def plain(weights, data):
        return jnp.mean((weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y) ** 2)

    general = jxs.critical_points(plain, data, **box)
    assert special.completeness == general.completeness == "proved"
    assert special.winding == general.winding
    assert len(special.points) == len(general.points) > 1
    for ours, theirs in zip(special.points, general.points, strict=True):
        assert ours.kind == theirs.kind
        np.testing.assert_allclose(ours[:2], theirs[:2], atol=1e-9)
        np.testing.assert_allclose(ours.eigenvalues, theirs.eigenvalues, rtol=1e-7)


def test_on_a_shifted_and_rotated_plane_the_points_move_and_keep_their_losses():
    plane = jxs.Plane(
        {"p": np.array([0.5, -0.25])},
        {"p": np.array([1.0, 1.0])},
        {"p": np.array([1.0, -1.0])},
        names=("s", "t"),
    )
    found = jxs.critical_points(
        lambda params, _: himmelblau(*params["p"]), None, plane, s=(-3.0, 3.0), t=(-3.5, 3.0)
    )
    positions = {
        (round(0.5 + p.a + p.b, 6), round(-0.25 + p.a - p.b, 6)): p.loss for p in found.points
    }
    known = {
        (round(a, 6), round(b, 6)): loss
        for _, a, b, loss, *_ in HIMMELBLAU
        if abs((a - 0.5 + b + 0.25) / 2) < 3 and -3.5 < (a - 0.5 - b - 0.25) / 2 < 3
    }
    assert set(positions) == set(known)
    assert found.names == ("s", "t")


def polynomial(weights, coefficients):
    powers = [jnp.stack([jnp.ones_like(w), w, w**2, w**3, w**4]) for w in weights]
    return powers[0] @ coefficients @ powers[1]


@pytest.mark.slow
def test_indices_sum_to_the_winding_number_on_random_polynomials():
    """Poincaré and Hopf: the sum is the winding number of the gradient along the boundary."""
    generator = np.random.default_rng(0)
    degree = np.add.outer(np.arange(5), np.arange(5))
    total = 0
    for _ in range(40):
        coefficients = np.where(degree <= 4, generator.normal(size=(5, 5)), 0)
        found = jxs.critical_points(polynomial, coefficients, w1=(-1.3, 1.7), w2=(-1.9, 1.1))
        assert found.completeness == "proved"
        assert sum(point.turns for point in found.points) == found.winding
        total += len(found.points)
    assert total > 40


def test_bisection_finds_all_points_without_newtons_method(monkeypatch):
    """Without starts for Newton's method, the proof meets every point."""
    true_sample = newton.sample_grid

    def without_starts(problem, nodes):
        return true_sample(problem, 21)._replace(candidates=np.zeros((0, 2)))

    monkeypatch.setattr(newton, "sample_grid", without_starts)
    check_known(search(himmelblau, (-5.0, 5.0), (-5.0, 5.0)), HIMMELBLAU)


def test_bounds_that_are_too_narrow_lose_points(monkeypatch):
    """The proof depends on the bounds: with a fifth of their width, points are lost."""
    true_sample, true_bounds = newton.sample_grid, search_module._derivative_bounds

    def without_starts(problem, nodes):
        return true_sample(problem, 21)._replace(candidates=np.zeros((0, 2)))

    def too_small(problem):
        bounds, most = true_bounds(problem)

        def narrow(boxes):
            found = bounds(boxes)
            middle = [(one.low + one.high) / 2 for one in found]
            return tuple(
                Interval(m + 0.2 * (one.low - m), m + 0.2 * (one.high - m))
                for one, m in zip(found, middle, strict=True)
            )

        return narrow, most

    monkeypatch.setattr(newton, "sample_grid", without_starts)
    monkeypatch.setattr(search_module, "_derivative_bounds", too_small)
    assert len(search(himmelblau, (-5.0, 5.0), (-5.0, 5.0)).points) < 9


def test_the_radius_holds_no_other_point_and_is_large():
    points = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0)).points
    for point in points:
        away = min(np.hypot(p.a - point.a, p.b - point.b) for p in points if p is not point)
        assert 0.1 < point.radius < away


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "box"),
    [
        (lambda x, y: x**3 / 3 + 0.01 * x + y * y, ((-1e6, 1.1e6), (-1e6, 1.1e6))),
        (lambda x, y: x**3 / 3 + 1e-14 * x + y * y, ((-1.0, 1.1), (-1.0, 1.1))),
        (lambda x, y: x**3 / 3 + 1e-6 * x + y * y, ((-1e4, 1.1e4), (-1e4, 1.1e4))),
        (lambda x, y: jnp.exp(-x) + y * y, ((0.0, 60.0), (-1.0, 1.1))),
    ],
)
def test_refuted_points_are_not_listed(function, box):
    """Gradients that nearly vanish are proved not to vanish."""
    found = search(function, *box)
    assert found.completeness == "proved"
    assert found.points == ()
    assert not any("isolated" in note for note in found.notes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: (x - 9) ** 2 + (y - 9) ** 2 - 1.98 * jax.nn.relu(x + y - 19.9),
        lambda x, y: x * x + y * y + 2.02 * jax.nn.relu(0.05 - jnp.abs(x - 1) - 0.01 * jnp.abs(y)),
        lambda x, y: x * x + y * y - 1e-9 * jnp.abs(x),
    ],
)
def test_nothing_is_proved_across_a_kink(function):
    """Kinks too small for the grid: bounds across them are infinite, so nothing is proved."""
    found = search(function, (-10.0, 10.0), (-10.0, 10.0))
    assert found.completeness != "proved"
    for point in found.points:
        away = [np.hypot(p.a - point.a, p.b - point.b) for p in found.points if p is not point]
        assert point.radius < min(away, default=9.0)


@pytest.mark.slow
def test_a_minimum_behind_a_jump_does_not_go_missing_from_a_proof():
    """The circle in which the loss jumps is far smaller than a cell of the grid."""

    def pit(x, y):
        square = (x - 0.3137) ** 2 + (y + 0.2251) ** 2
        return x + y + (square < 1e-4) * 1.0 * (square - x - y)

    found = search(pit, (-1.0, 1.0), (-1.0, 1.0))
    assert found.completeness != "proved"
    assert found.points == ()


def scaled_wells(weights, unit):
    return unit * ((weights.w1**2 - 1.21) ** 2 + 0.3 * weights.w1 + (weights.w1 - weights.w2) ** 2)


def test_points_do_not_depend_on_the_unit_of_the_loss():
    """A power of two changes no digit. Squares of 2^±900 are not float64 numbers."""
    box = {"w1": (-2.0, 2.3), "w2": (-1.9, 2.0)}
    plain = jxs.critical_points(scaled_wells, 1.0, **box)
    assert [point.kind for point in plain.points] == ["minimum", "minimum", "saddle"]
    for exponent in (-900, 900):
        found = jxs.critical_points(scaled_wells, 2.0**exponent, **box)
        assert found.completeness == plain.completeness == "proved"
        assert found.winding == plain.winding
        for ours, theirs in zip(found.points, plain.points, strict=True):
            assert ours[:3] == theirs[:3]
            assert ours.loss == np.ldexp(theirs.loss, exponent)
            np.testing.assert_allclose(
                ours.eigenvalues, np.ldexp(theirs.eigenvalues, exponent), rtol=1e-14
            )
            np.testing.assert_allclose(ours.radius, theirs.radius, rtol=1e-12)


def test_derivatives_out_of_range_are_refused():
    box = {"w1": (-2.0, 2.3), "w2": (-1.9, 2.0)}
    with pytest.raises(ValueError, match="box: expected derivatives that float64 can hold.*1e-298"):
        jxs.critical_points(scaled_wells, 1e-301, **box)
    with pytest.raises(ValueError, match="box: expected derivatives that float64 can hold.*1e.60"):
        search(lambda x, y: jnp.cos(x) * jnp.cos(y), (-1e300, 1.1e300), (-1e300, 1.3e300))
    with pytest.raises(ValueError, match="w1: expected finite lo < hi"):
        search(lambda x, y: jnp.cos(x) * jnp.cos(y), (-1.5e308, 1.5e308))


def test_the_samples_of_a_closure_are_counted():
    """They limit the number of nodes, as those of the data do."""
    x = np.linspace(-1, 1, 5000)

    def loss(w1, w2):
        return jnp.mean((w2 * jnp.tanh(w1 * x) - 0.3) ** 2)

    inside = newton.Problem(jxs.Function(loss), weight_plane(), None, ((-1, 1), (-1, 1)))
    outside = inside._replace(loss=lambda p, x: jnp.mean(p.w1 * x) + p.w2, data=x)
    with jax.enable_x64(True):
        assert search_module._rows(inside) == search_module._rows(outside) == 5000
        assert search_module._rows(inside._replace(loss=jxs.Function(himmelblau))) == 1


def test_bounds_of_many_samples_are_computed_for_fewer_boxes_at_once(monkeypatch):
    sizes = []
    true_batches = krawczyk.in_batches
    monkeypatch.setattr(
        krawczyk,
        "in_batches",
        lambda bounds, size: sizes.append(size) or true_batches(bounds, size),
    )
    plain = search(linear_network)
    monkeypatch.setattr(search_module, "_MAX_BATCH_NUMBERS", 5000)
    monkeypatch.setattr(search_module, "_BATCH_NUMBERS", 1000)
    found = search(linear_network)
    assert sizes[0] == krawczyk.BATCH_SIZE
    assert 0 < sizes[1] < 100
    for ours, theirs in zip(found.points, plain.points, strict=True):
        assert ours[:4] == theirs[:4]
        assert (ours.radius, ours.certified) == (theirs.radius, theirs.certified)
    assert found.completeness == plain.completeness == "proved"


def test_a_point_just_outside_the_box_is_not_listed():
    found = search(lambda x, y: (x - 1 - 5e-10) ** 2 + y * y, (-1.0, 1.0), (-1.0, 1.0))
    assert found.points == ()
    assert found.winding == 0
    assert found.completeness == "proved"


def test_points_on_the_boundary_are_marked():
    found = search(himmelblau, (3.0, 4.0), (-2.5, 2.5))
    assert [(point.kind, point.on_boundary) for point in found.points] == [
        ("minimum", True),
        ("minimum", False),
        ("saddle", False),
    ]
    assert found.winding is None
    assert found.completeness == "proved"


def test_without_bounds_for_an_operation_completeness_rests_on_the_index():
    found = search(lambda x, y: jax.lax.lgamma(x + 3) + y**2)
    (point,) = found.points
    assert point.kind == "minimum"
    np.testing.assert_allclose(point.a, 1.4616321449683623 - 3, rtol=1e-9)
    assert not point.certified
    assert found.completeness == "index"
    assert any("lgamma" in note for note in found.notes)


def test_without_proof_or_index_it_is_incomplete(monkeypatch):
    """Points that Newton's method misses are missing from the sum of the indices."""
    true_sample = newton.sample_grid

    def half_of_the_starts(problem, nodes):
        sample = true_sample(problem, nodes)
        return sample._replace(candidates=sample.candidates[sample.candidates[:, 0] < 0])

    monkeypatch.setattr(newton, "sample_grid", half_of_the_starts)

    def no_bounds(problem):
        raise enclosure.Unbounded("test")

    monkeypatch.setattr(search_module, "_derivative_bounds", no_bounds)
    found = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    assert found.completeness == "incomplete"
    assert found.winding == 1


def test_float32_data_are_converted_to_float64():
    """The teacher's weights are found to 1e-7, the rounding of its targets."""
    x = np.linspace(-2.1, 1.9, 41, dtype=np.float32)
    data = jxs.Dataset(x, 0.8 * np.tanh(1.5 * x))
    assert data.y.dtype == np.float32

    def plain(weights, data):
        return jnp.mean((weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y) ** 2)

    found = jxs.critical_points(plain, data, w1=(0.5, 2.2), w2=(0.3, 1.4))
    (minimum,) = found.of_kind("minimum")
    np.testing.assert_allclose([minimum.a, minimum.b], [1.5, 0.8], rtol=1e-6)
    assert minimum.residual < 1e-15


def test_a_function_of_two_numbers_needs_function():
    with pytest.raises(TypeError, match=r"a function f of two numbers as Function\(f\)"):
        jxs.critical_points(himmelblau, w1=(-1.0, 1.0), w2=(-1.0, 1.0))


def test_bad_arguments_raise():
    loss = jxs.Function(himmelblau)
    for box, message in (
        ({"w1": (0.0, 1.0)}, "box: expected w1=.* and w2="),
        ({"w1": (0.0, 1.0), "w3": (0.0, 1.0)}, "got w1, w3"),
        ({"w1": (1.0, 1.0), "w2": (0.0, 1.0)}, "w1: expected finite lo < hi, got 1 and 1"),
        ({"w1": (0.0, np.inf), "w2": (0.0, 1.0)}, "w1: expected finite lo < hi"),
        ({"w1": (0.0, 1.0, 5), "w2": (0.0, 1.0)}, "w1: expected a tuple"),
        ({"w1": 3.0, "w2": (0.0, 1.0)}, "w1: expected a tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            jxs.critical_points(loss, **box)
    with pytest.raises(TypeError, match="loss: expected a function"):
        jxs.critical_points(3, w1=(0.0, 1.0), w2=(0.0, 1.0))
    with pytest.raises(TypeError, match="plane: expected a Plane"):
        jxs.critical_points(loss, None, 3, w1=(0.0, 1.0), w2=(0.0, 1.0))


def test_losses_that_are_not_finite_raise():
    with pytest.raises(ValueError, match="box: expected finite losses.*first at w1 = -1"):
        search(lambda x, y: jnp.log(x) + y**2, (-1.0, 2.0))


def test_a_loss_in_float32_raises():
    with pytest.raises(ValueError, match="loss: expected a float64 result.*got float32"):
        search(lambda x, y: (x**2 + y**2).astype(jnp.float32))


def test_after_ctrl_c_the_rest_of_the_box_is_undecided(monkeypatch):
    monkeypatch.setattr(krawczyk, "_prune", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.warns(InterruptedWarning, match="interrupted"):
        found = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    assert len(found.points) == 9
    assert found.completeness == "index"
    assert found.undecided


def test_a_second_search_compiles_nothing(compilations):
    search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    del compilations[:]
    search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    assert not compilations
