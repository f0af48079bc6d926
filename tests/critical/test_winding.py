"""The winding number of fields with known winding numbers."""

import numpy as np

from jaxscape.critical import winding


def test_winding_numbers_of_powers():
    """z^k winds k times around 0, conj(z)^k winds -k times, and neither winds elsewhere."""

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


def test_the_winding_number_does_not_depend_on_the_unit_of_the_loss():
    around = winding.boundary(((-1.0, 2.0), (-0.5, 0.7)))
    for unit in (1e-250, 1e250):
        assert winding.winding_number(lambda p, unit=unit: unit * p, around, 8) == 1
        assert winding.winding_number(lambda p, unit=unit: unit * p[:, ::-1], around, 8) == -1


def test_the_boundary_visits_the_corners_counterclockwise():
    curve = winding.boundary(((-1.0, 2.0), (-0.5, 0.7)))
    corners = [[-1, -0.5], [2, -0.5], [2, 0.7], [-1, 0.7], [-1, -0.5]]
    np.testing.assert_allclose(curve(np.linspace(0, 1, 5)), corners)
    np.testing.assert_allclose(curve(np.array([1 / 8])), [[0.5, -0.5]])


def test_an_ellipse_winds_once_around_its_center():
    curve = winding.ellipse(np.array([1.0, -2.0]), np.array([0.5, 3.0]))
    points = curve(np.linspace(0, 1, 50))
    np.testing.assert_allclose((((points - [1, -2]) / [0.5, 3]) ** 2).sum(axis=1), 1)
    assert winding.winding_number(lambda p: p - [1, -2], curve, 8) == 1
    assert winding.winding_number(lambda p: p - [1, 2], curve, 8) == 0


def test_a_field_that_is_not_finite_has_no_winding_number():
    curve = winding.boundary(((-1.0, 1.0), (-1.0, 1.0)))
    assert winding.winding_number(lambda p: np.where(p > 0.9, np.nan, p), curve, 64) is None
