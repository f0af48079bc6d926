"""The plane: coordinates to parameters, and its refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.plane import weight_plane

ORIGIN = {"w": jnp.array([1.0, -2.0]), "bias": 0.5, "frozen": None}


def test_a_point_of_the_plane():
    u = {"w": jnp.array([0.5, 1.0]), "bias": None, "frozen": None}
    v = {"w": jnp.array([-1.0, 0.25]), "bias": 2.0, "frozen": None}
    point = jxs.Plane(ORIGIN, u, v).at(2.0, -3.0)
    np.testing.assert_allclose(point["w"], [1 + 1 + 3, -2 + 2 - 0.75])
    assert point["bias"] == 0.5 - 6
    assert point["frozen"] is None


def test_what_no_direction_touches_is_the_origins_own():
    frozen = jnp.arange(3.0)
    plane = jxs.Plane([frozen, 1.0, 2.0], [None, 1.0, None], [None, None, 1.0])
    assert plane.at(1.0, 1.0)[0] is frozen


def test_the_coordinates_of_the_weight_plane_are_the_weights():
    assert weight_plane().at(0.25, -3.0) == jxs.Weights(0.25, -3.0)


@pytest.mark.parametrize(
    ("u", "message"),
    [
        ({"w": jnp.ones(2)}, "plane.u: expected the origin's structure"),
        ({"w": None, "bias": None, "frozen": None}, "plane.u: expected a direction, got None for"),
        (
            {"w": jnp.ones(3), "bias": None, "frozen": None},
            r"plane.u\['w'\]: expected the origin's shape \(2,\), got \(3,\)",
        ),
    ],
)
def test_directions_that_do_not_fit_are_refused(u, message):
    v = {"w": None, "bias": 1.0, "frozen": None}
    with pytest.raises(ValueError, match=message):
        jxs.landscape(lambda p, d: 0.0, None, jxs.Plane(ORIGIN, u, v), a=(0, 1, 2), b=(0, 1, 3))
