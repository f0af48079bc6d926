"""Critical points of any smooth loss: known answers, indices, proofs, and where they stop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.critical import enclosure, interval, krawczyk, newton, winding
from jaxscape.critical import search as search_module


def himmelblau(w1, w2):
    return (w1**2 + w2 - 11) ** 2 + (w1 + w2**2 - 7) ** 2


def rosenbrock(w1, w2):
    return (1 - w1) ** 2 + 100 * (w2 - w1**2) ** 2


def linear_network(w1, w2):
    return (1 - w1 * w2) ** 2 + 0.1 * (w1**2 + w2**2)


def search(function, w1=(-2.0, 2.0), w2=(-2.0, 2.0)):
    return jxs.critical_points(jxs.Function(function), w1=w1, w2=w2)


# Kind, place, loss, eigenvalues; computed with 40 digits from the textbooks' formulas.
NINE = [
    ("minimum", 3, 2, 0, 25.7157288, 82.2842712),
    ("minimum", 3.58442834033, -1.84812652696, 0, 28.6906772, 105.418908),
    ("minimum", -2.80511808695, 3.13131251825, 0, 64.8403728, 80.5500718),
    ("minimum", -3.77931025338, -3.28318599129, 0, 70.7143547, 133.785615),
    ("saddle", 3.38515418361, 0.0738518798377, 13.3119262704, -14.1351785, 97.5478781),
    ("saddle", 0.0866775045554, 2.88425470117, 67.7191500875, -31.7066224, 75.5076092),
    ("saddle", -3.07302575076, -0.081353044288, 104.015162918, -39.6514963, 72.4352481),
    ("saddle", -0.127961346731, -1.95371498024, 178.337239202, -50.6102393, 20.28405),
    ("maximum", -0.270844590667, -0.92303855648, 181.616521523, -45.6052293, -16.0660197),
]


def check(found, known):
    assert found.completeness == "proved"
    assert len(found.points) == len(known)
    for kind, a, b, loss, *eigenvalues in known:
        (point,) = (p for p in found.points if np.hypot(p.a - a, p.b - b) < 1e-9)
        assert point.kind == kind
        assert point.certified
        np.testing.assert_allclose(point.loss, loss, rtol=1e-11, atol=1e-20)
        np.testing.assert_allclose(point.eigenvalues, eigenvalues, rtol=1e-7)
        assert point.residual < 1e-9
        assert point.turns == (-1 if kind == "saddle" else 1)


def test_himmelblaus_nine_are_found_and_proved_to_be_all():
    found = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    check(found, NINE)
    assert found.winding == 1
    # A box that is not symmetric, with some of them.
    part = search(himmelblau, (-1.0, 4.1), (-2.5, 3.3))
    check(part, [known for known in NINE if -1 < known[1] < 4.1 and -2.5 < known[2] < 3.3])


def test_rosenbrocks_minimum_and_the_linear_networks_three():
    check(
        search(rosenbrock, (-3.0, 3.0), (-3.0, 5.0)),
        [("minimum", 1, 1, 0, 0.399360767, 1001.60064)],
    )
    w = 0.948683298051
    check(
        search(linear_network, (-2.0, 1.7), (-1.5, 2.0)),
        [
            ("minimum", w, w, 0.19, 0.4, 3.6),
            ("minimum", -w, -w, 0.19, 0.4, 3.6),
            ("saddle", 0, 0, 1, -1.8, 2.2),
        ],
    )


def test_the_general_search_agrees_with_the_certified_equations():
    """The two-weight network as any other loss, against its own search, in a box."""
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


def test_any_plane_and_any_parameters():
    """The coordinates of a shifted and turned plane: the points move, their losses stay."""
    plane = jxs.Plane(
        {"p": np.array([0.5, -0.25])},
        {"p": np.array([1.0, 1.0])},
        {"p": np.array([1.0, -1.0])},
        names=("s", "t"),
    )
    found = jxs.critical_points(
        lambda params, _: himmelblau(*params["p"]), None, plane, s=(-3.0, 3.0), t=(-3.5, 3.0)
    )
    places = {
        (round(0.5 + p.a + p.b, 6), round(-0.25 + p.a - p.b, 6)): p.loss for p in found.points
    }
    known = {
        (round(a, 6), round(b, 6)): loss
        for _, a, b, loss, *_ in NINE
        if abs((a - 0.5 + b + 0.25) / 2) < 3 and -3.5 < (a - 0.5 - b - 0.25) / 2 < 3
    }
    assert set(places) == set(known)
    assert found.names == ("s", "t")


def polynomial(weights, coefficients):
    powers = [jnp.stack([jnp.ones_like(w), w, w**2, w**3, w**4]) for w in weights]
    return powers[0] @ coefficients @ powers[1]


@pytest.mark.slow
def test_indices_add_up_on_random_polynomials():
    """Poincaré and Hopf: their sum is how often the gradient turns along the border."""
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


def test_the_search_finds_all_by_itself(monkeypatch):
    """Without a single start of Newton's method the halving of boxes meets every point."""
    honest = newton.sample_grid

    def blind(problem, nodes):
        return honest(problem, 21)._replace(candidates=np.zeros((0, 2)))

    monkeypatch.setattr(newton, "sample_grid", blind)
    check(search(himmelblau, (-5.0, 5.0), (-5.0, 5.0)), NINE)


def test_bounds_made_too_small_lose_points(monkeypatch):
    """The proof rests on the bounds: with a fifth of their width, points are lost."""
    honest_look, honest_bounds = newton.sample_grid, search_module._derivative_bounds

    def blind(problem, nodes):
        return honest_look(problem, 21)._replace(candidates=np.zeros((0, 2)))

    def too_small(problem):
        bounds, most = honest_bounds(problem)

        def narrow(boxes):
            found = bounds(boxes)
            middle = [(one.low + one.high) / 2 for one in found]
            return tuple(
                interval.Interval(m + 0.2 * (one.low - m), m + 0.2 * (one.high - m))
                for one, m in zip(found, middle, strict=True)
            )

        return narrow, most

    monkeypatch.setattr(newton, "sample_grid", blind)
    monkeypatch.setattr(search_module, "_derivative_bounds", too_small)
    assert len(search(himmelblau, (-5.0, 5.0), (-5.0, 5.0)).points) < 9


def test_the_radius_holds_no_other_point_and_is_not_idle():
    points = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0)).points
    for point in points:
        away = min(np.hypot(p.a - point.a, p.b - point.b) for p in points if p is not point)
        assert 0.1 < point.radius < away


def test_two_points_as_near_as_1e_4_are_told_apart():
    """And the twin: as near as 1e-9 they are one degenerate point, and nothing is proved."""

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
def test_a_curve_of_stationary_points_is_said_and_not_listed(monkeypatch):
    monkeypatch.setattr(search_module, "_MAX_BOXES", 3000)
    found = search(lambda x, y: (x - y) ** 2, (-1.0, 2.0), (-1.2, 1.0))
    assert found.points == ()
    assert found.completeness == "incomplete"
    assert any("not isolated" in note for note in found.notes)


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
def test_what_is_disproved_is_not_listed(function, box):
    """Gradients that nearly vanish, and do not: proved to be no critical points at all."""
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
def test_no_proof_goes_over_a_kink(function):
    """Kinks too small to be met: bounds are refused across them, so that nothing is proved."""
    found = search(function, (-10.0, 10.0), (-10.0, 10.0))
    assert found.completeness != "proved"
    for point in found.points:
        away = [np.hypot(p.a - point.a, p.b - point.b) for p in found.points if p is not point]
        assert point.radius < min(away, default=9.0)


def test_kinds_do_not_depend_on_the_scale_of_the_axes():
    found = search(
        lambda x, y: ((x * 1e6) ** 2 - 1) ** 2 + (y * 1e-6) ** 2, (-2e-6, 2e-6), (-3e6, 4e6)
    )
    assert found.completeness == "proved"
    assert [point.kind for point in found.points] == ["minimum", "minimum", "saddle"]
    assert [point.turns for point in found.points] == [1, 1, -1]


def test_in_a_very_wide_box_no_certified_point_is_of_a_wrong_kind():
    found = search(lambda x, y: (x * x - 1) ** 2 + (x - y) ** 2, (-1e9, 1e9), (-1e9, 1e9))
    known = {(-1, -1): "minimum", (1, 1): "minimum", (0, 0): "saddle"}
    for point in found.points:
        if point.certified:
            assert known[round(point.a), round(point.b)] == point.kind
            assert point.turns == (-1 if point.kind == "saddle" else 1)


def test_a_point_beyond_the_border_is_not_on_it():
    found = search(lambda x, y: (x - 1 - 5e-10) ** 2 + y * y, (-1.0, 1.0), (-1.0, 1.0))
    assert found.points == ()
    assert found.winding == 0
    assert found.completeness == "proved"


def test_jumps_of_the_loss_are_said():
    found = search(lambda x, y: x * x + y * y + jnp.where(x > 0.5, -5.0, 0.0))
    assert not found.complete
    assert "jumps" in found.notes[0]


@pytest.mark.parametrize("half", [1e-3, 1e-6, 1e-9])
def test_a_small_box_is_no_kink(half):
    found = search(himmelblau, (3 - half, 3 + 1.1 * half), (2 - half, 2 + half))
    (point,) = found.points
    assert point.kind == "minimum"
    np.testing.assert_allclose([point.a, point.b], [3, 2], rtol=1e-14)


def test_a_bare_function_is_told_what_it_needs():
    with pytest.raises(TypeError, match=r"a function f of two numbers as Function\(f\)"):
        jxs.critical_points(himmelblau, w1=(-1.0, 1.0), w2=(-1.0, 1.0))


@pytest.mark.slow
def test_flat_regions_are_no_critical_points():
    """Far from a bump the gradient is smaller than rounding, and yet nothing is critical there."""
    found = search(lambda x, y: jnp.exp(-(x**2) - y**2), (-8.0, 8.5), (-9.0, 8.0))
    (point,) = found.points
    assert point.kind == "maximum"
    np.testing.assert_allclose([point.a, point.b], 0, atol=1e-9)
    assert any("below rounding errors" in note for note in found.notes)
    constant = search(lambda x, y: 0 * x * y + 3.0)
    assert constant.points == ()


def test_points_on_the_border_are_said():
    found = search(himmelblau, (3.0, 4.0), (-2.5, 2.5))
    assert [(point.kind, point.on_boundary) for point in found.points] == [
        ("minimum", True),
        ("minimum", False),
        ("saddle", False),
    ]
    assert found.winding is None
    assert found.completeness == "proved"


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: jnp.abs(x) + y**2,
        lambda x, y: jax.nn.relu(x - 0.3) + x**2 + y**2,
        lambda x, y: jnp.maximum(x, y) ** 2 + y**2,
    ],
)
def test_kinks_are_said(function):
    found = search(function)
    assert found.points == ()
    assert not found.complete
    assert "kinks" in found.notes[0]


@pytest.mark.slow
def test_a_mean_of_many_kinks_is_no_smooth_loss(monkeypatch):
    """The absolute error of 25 samples: no node meets a kink, and still the Hessian is wrong."""
    data = jxs.data.teacher_student(jax.random.key(0), n=25)
    found = jxs.critical_points(jxs.absolute_error, data, w1=(-2.0, 2.1), w2=(-2.0, 1.9))
    assert not found.complete
    assert "kinks" in found.notes[0]
    # And the twin: one that looks as if it had kinks, and is smooth.
    monkeypatch.setattr(search_module, "_MAX_BOXES", 500)
    smooth = jxs.critical_points(jxs.log_cosh, data, w1=(-2.0, 2.1), w2=(-2.0, 1.9))
    assert [point.kind for point in smooth.points] == ["minimum", "minimum", "saddle"]
    assert smooth.complete


@pytest.mark.slow
def test_where_only_the_hessian_jumps_points_are_still_found(monkeypatch):
    """Huber's loss: its gradient is continuous, and its minima are minima."""
    monkeypatch.setattr(search_module, "_MAX_BOXES", 2000)
    data = jxs.data.teacher_student(jax.random.key(0), n=50, noise=0.1)
    found = jxs.critical_points(jxs.huber(0.5), data, w1=(-3.0, 3.1), w2=(-2.0, 2.2))
    assert [point.kind for point in found.points] == ["minimum", "minimum", "saddle"]
    assert found.completeness == "index"
    assert any("the Hessian jumps" in note for note in found.notes)
    for point in found.points:
        assert point.residual < 1e-9


def test_an_operation_without_bounds_leaves_the_index():
    found = search(lambda x, y: jax.lax.lgamma(x + 3) + y**2)
    (point,) = found.points
    assert point.kind == "minimum"
    np.testing.assert_allclose(point.a, 1.4616321449683623 - 3, rtol=1e-9)
    assert not point.certified
    assert found.completeness == "index"
    assert any("lgamma" in note for note in found.notes)


def test_without_proof_or_index_it_is_incomplete(monkeypatch):
    """Points that Newton's method misses are missed in the sum of the indices."""
    honest = newton.sample_grid

    def half_blind(problem, nodes):
        lattice = honest(problem, nodes)
        return lattice._replace(candidates=lattice.candidates[lattice.candidates[:, 0] < 0])

    monkeypatch.setattr(newton, "sample_grid", half_blind)

    def refuse(problem):
        raise enclosure.Unbounded("patience")

    monkeypatch.setattr(search_module, "_derivative_bounds", refuse)
    found = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    assert found.completeness == "incomplete"
    assert found.winding == 1


def test_float32_data_are_taken_in_float64():
    """The teacher's weights are found to 1e-7, the rounding of its targets, and not to 1e-4."""
    data = jxs.data.teacher_student(jax.random.key(0))

    def plain(weights, data):
        return jnp.mean((weights.w2 * jnp.tanh(weights.w1 * data.x) - data.y) ** 2)

    found = jxs.critical_points(plain, data, w1=(0.5, 2.2), w2=(0.3, 1.4))
    (minimum,) = found.of_kind("minimum")
    np.testing.assert_allclose([minimum.a, minimum.b], [1.5, 0.8], rtol=1e-6)
    assert minimum.residual < 1e-15


def test_bad_input_is_refused_before_any_search():
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


def test_gradients_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="box: expected finite losses.*first at w1 = -1"):
        search(lambda x, y: jnp.log(x) + y**2, (-1.0, 2.0))


def test_a_loss_that_rounds_to_float32_is_refused():
    with pytest.raises(ValueError, match="loss: expected a float64 result.*got float32"):
        search(lambda x, y: (x**2 + y**2).astype(jnp.float32))


def test_ctrl_c_leaves_what_was_not_searched_undecided(monkeypatch):
    monkeypatch.setattr(krawczyk, "_prune", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.warns(UserWarning, match="interrupted"):
        found = search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    assert len(found.points) == 9
    assert found.completeness == "index"
    assert found.undecided


def test_turns_of_known_fields():
    """z ↦ z^k turns k times around 0, conj(z)^k turns -k times, and not at all elsewhere."""

    def field(power, sign):
        def at(points):
            z = points[:, 0] + sign * 1j * points[:, 1]
            return np.stack([(z**power).real, (z**power).imag], axis=1)

        return at

    around = winding.boundary(((-1.0, 2.0), (-0.5, 0.7)))
    beside = winding.boundary(((1.0, 2.0), (-0.5, 0.7)))
    through = winding.boundary(((0.0, 2.0), (-0.5, 0.7)))
    for sign in (1, -1):
        for power in (1, 2, 5):
            assert winding.winding_number(field(power, sign), around, 64) == sign * power
            assert winding.winding_number(field(power, sign), beside, 64) == 0
        assert winding.winding_number(field(1, sign), through, 64) is None


def test_the_loss_is_compiled_once_for_all_boxes(compilations):
    search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    del compilations[:]
    search(himmelblau, (-5.0, 5.0), (-5.0, 5.0))
    assert not compilations
