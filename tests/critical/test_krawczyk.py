"""Proofs with the Krawczyk operator, for a gradient with exact bounds."""

import numpy as np
import pytest

from jaxscape._util.warnings import InterruptedWarning
from jaxscape.critical import krawczyk
from jaxscape.critical.interval import Interval, hull, point, round_outward

LOW, HIGH = np.array([-2.0, -1.5]), np.array([2.3, 1.0])
NO_BOXES = np.zeros((0, 2, 2))


def bounds(boxes):
    """Bound the gradient (x² - 1, y) of x³/3 - x + y²/2, and its Hessian."""
    (x_low, y_low), (x_high, y_high) = boxes.low.T, boxes.high.T
    squares = hull([x_low**2, x_high**2])
    low = np.where((x_low < 0) & (x_high > 0), 0, squares.low)
    gradient = round_outward(
        np.stack([low - 1, y_low], axis=1), np.stack([squares.high - 1, y_high], axis=1)
    )
    zero, one = np.zeros_like(x_low), np.ones_like(x_low)
    hessian = [
        np.stack([2 * x, zero, zero, one], axis=1).reshape(-1, 2, 2) for x in (x_low, x_high)
    ]
    return gradient, round_outward(*hessian)


def test_batches_are_padded_and_concatenated():
    generator = np.random.default_rng(0)
    low = generator.uniform(-1, 1, (300, 2))
    boxes = Interval(low, low + 0.1)
    sizes = []

    def counted(batch):
        sizes.append(len(batch.low))
        return bounds(batch)

    for found, direct in zip(krawczyk.in_batches(counted, 128)(boxes), bounds(boxes), strict=True):
        np.testing.assert_array_equal(found, direct)
    assert sizes == [128] * 3


def test_the_uniqueness_radius_is_below_the_distance_to_the_other_root():
    """The roots are (1, 0) and (-1, 0); near (0.3, 0) there is none."""
    points = np.array([[1.0, 0.0], [-1.0, 0.0], [0.3, 0.0]])
    radii = krawczyk.uniqueness_radii(bounds, points, np.array([1.0, 1.0]))
    assert (radii[:2] > 0.2).all()
    assert (radii[:2] < 2).all()
    assert radii[2] == 0
    assert krawczyk.uniqueness_radii(bounds, points[:0], np.ones(2)).shape == (0,)


@pytest.mark.parametrize("exponent", [-900, 900])
def test_proofs_do_not_depend_on_the_unit_of_the_loss(exponent):
    """The determinant of the Hessian is 2^±1800, which float64 cannot hold."""

    def scaled(boxes):
        ends = bounds(boxes)
        return tuple(Interval(*(np.ldexp(end, exponent) for end in one)) for one in ends)

    points = np.array([[1.0, 0.0], [-1.0, 0.0], [0.3, 0.0]])
    radii = [krawczyk.uniqueness_radii(one, points, np.ones(2)) for one in (bounds, scaled)]
    np.testing.assert_array_equal(*radii)
    ours, theirs = (krawczyk.search(one, LOW, HIGH, NO_BOXES, 10_000) for one in (bounds, scaled))
    np.testing.assert_array_equal(ours.new_roots, theirs.new_roots)
    assert ours.examined == theirs.examined


def test_bisection_meets_both_roots():
    proof = krawczyk.search(bounds, LOW, HIGH, NO_BOXES, 10_000)
    assert len(proof.undecided) == 0
    roots = proof.new_roots[np.argsort(proof.new_roots[:, 0])]
    np.testing.assert_allclose(roots, [[-1, 0], [1, 0]], atol=0.1)
    assert 0 < proof.examined < 10_000


def test_known_roots_are_not_met_again():
    radius = 0.25
    known = np.array([[[x - radius, -radius], [x + radius, radius]] for x in (-1.0, 1.0)])
    proof = krawczyk.search(bounds, LOW, HIGH, known, 10_000)
    assert len(proof.undecided) == 0
    assert len(proof.new_roots) == 0


def test_a_box_without_a_root_is_excluded():
    proof = krawczyk.search(bounds, np.array([1.1, -1.0]), np.array([3.0, 1.0]), NO_BOXES, 10_000)
    assert len(proof.undecided) == len(proof.new_roots) == 0


def test_a_double_root_is_left_undecided():
    """At 0 the gradient (x², y) touches 0, which bounds cannot decide."""

    def touching(boxes):
        gradient, hessian = bounds(boxes)
        shift = point(np.array([1.0, 0.0]))
        low = np.maximum(gradient.low + shift.low, [0, -np.inf])
        return round_outward(low, gradient.high + shift.high), hessian

    proof = krawczyk.search(touching, LOW, HIGH, NO_BOXES, 3000)
    assert len(proof.new_roots) == 0
    at_zero = (proof.undecided[:, 0] <= 0) & (proof.undecided[:, 1] >= 0)
    assert at_zero.all(axis=1).any()


def test_too_few_boxes_leave_the_rest_undecided():
    proof = krawczyk.search(bounds, LOW, HIGH, NO_BOXES, 3)
    assert len(proof.undecided)
    assert proof.examined >= 3


def test_after_ctrl_c_the_rest_is_undecided():
    calls = []

    def interrupted(boxes):
        calls.append(len(boxes.low))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bounds(boxes)

    with pytest.warns(InterruptedWarning, match="interrupted: not all of the box was searched"):
        proof = krawczyk.search(interrupted, LOW, HIGH, NO_BOXES, 10_000)
    assert proof.examined == 10_000
    for root in ([-1, 0], [1, 0]):
        inside = (proof.undecided[:, 0] <= root) & (root <= proof.undecided[:, 1])
        assert inside.all(axis=1).any() or len(proof.new_roots)
