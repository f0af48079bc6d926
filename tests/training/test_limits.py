"""Limits of descents: stationary points by curvature, valleys, and their members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscape.training.limits import (
    _connected_components,
    _Structure,
    _valleys,
    check_parameter_count,
    find_limits,
)


def double_well(p, depth):
    """Minima at x = ±1 and a saddle at x = 0, all at y = 0."""
    return jnp.mean(depth) * (p["x"] ** 2 - 1) ** 2 + 2 * p["y"][0] ** 2


def limits_of(loss, points, stopped, diverged, tolerance=1e-2):
    points = np.asarray(points, jnp.asarray(0.0).dtype)
    params = {"x": points[:, 0], "y": points[:, 1:]}
    return find_limits(
        loss,
        np.ones(3, np.float32),
        params,
        params,
        stopped=np.array(stopped),
        diverged=np.array(diverged),
        tolerance=tolerance,
    )


def test_stops_belong_to_the_nearest_stationary_point_and_others_are_counted():
    ends = [[0.999, 0], [-1.001, 1e-3], [1e-4, 0], [1.0005, -1e-3], [np.inf, 0], [0.5, 0.5]]
    limits, label, losses = limits_of(
        double_well, ends, [True] * 4 + [False] * 2, [False] * 4 + [True, False]
    )
    kinds = [limit.kind for limit in limits]
    assert kinds == ["minimum", "minimum", "saddle", "diverged", "unfinished"]
    np.testing.assert_array_equal(label, [1, 0, 2, 1, 3, 4])
    assert [limit.starts for limit in limits] == [1, 2, 1, 1, 1]
    assert [float(limit.params["x"]) for limit in limits[:3]] == pytest.approx([-1, 1, 0], abs=1e-6)
    np.testing.assert_allclose(limits[0].eigenvalues, [4, 8], rtol=1e-5)
    np.testing.assert_allclose(limits[2].eigenvalues, [-4, 4], rtol=1e-5)
    assert limits[2].loss == pytest.approx(1)
    assert limits[3].params is None
    assert np.isnan(limits[4].loss)
    np.testing.assert_allclose(losses[5], (0.25 - 1) ** 2 + 2 * 0.25, rtol=1e-6)


def quadratic_at(minimum, curvature, point):
    return curvature * (point - minimum) ** 2 / 2


def test_minima_along_a_flat_direction_are_separate_limits(x64):
    """Both minima lie within the distance at which the gradient of either reaches the tolerance."""

    def loss(p, _):
        return 1e-4 * ((p["x"] ** 2 - 1) ** 2 + 0.3 * p["x"]) + p["y"][0] ** 2

    ends = [[x, 0] for x in (-1.2, -1.0, 0.9, 1.1)]
    limits, label, _ = limits_of(loss, ends, [True] * 4, [False] * 4)
    assert [limit.kind for limit in limits] == ["minimum", "minimum"]
    np.testing.assert_array_equal(label, [0, 0, 1, 1])
    roots = np.sort(np.roots([4, 0, -4, 0.3]))[[0, 2]]
    np.testing.assert_allclose([limit.params["x"] for limit in limits], roots, rtol=1e-8)


@pytest.mark.parametrize("flat_first", [True, False])
def test_a_stop_at_a_steep_minimum_does_not_belong_to_a_flat_one(x64, flat_first):
    """At x = -3, the flat minimum at x = 3 predicts a smaller gradient than there is."""

    def loss(p, _):
        flat, steep = (quadratic_at(m, c, p["x"]) for m, c in ((3, 1e-5), (-3, 1)))
        return jnp.where(p["x"] > -2, flat, steep) + p["y"][0] ** 2

    ends = [[3.001, 0], [-3.0001, 0], [2.0, 0], [-2.9999, 0]]
    ends = ends if flat_first else ends[1:] + ends[:1]
    limits, label, _ = limits_of(loss, ends, [True] * 4, [False] * 4, tolerance=1e-4)
    assert [limit.starts for limit in limits] == [2, 2]
    at = np.array([limits[k].params["x"] for k in label])
    np.testing.assert_allclose(at, np.sign([end[0] for end in ends]) * 3, rtol=1e-6)


def test_a_stop_that_descends_away_from_a_minimum_does_not_belong_to_it(x64):
    """From x = 4 on, the loss falls to infinity, within the tolerance of the minimum at x = 3."""

    def loss(p, _):
        inside = quadratic_at(3, 1e-4, p["x"])
        return jnp.where(p["x"] < 4, inside, 9e-5 - 1e-5 * p["x"]) + p["y"][0] ** 2

    ends = [[x, 0] for x in (2.5, 3.0, 3.5, 5.0, 5.1)]
    limits, label, _ = limits_of(loss, ends, [True] * 5, [False] * 5, tolerance=1e-4)
    assert sorted((limit.kind, limit.starts) for limit in limits) == [("minimum", 3), ("valley", 2)]
    assert [limits[k].kind for k in label] == ["minimum"] * 3 + ["valley"] * 2


def test_a_stop_far_from_a_quadratic_belongs_to_the_only_minimum(x64):
    """Near x = 0, x⁴ / 4 has a larger gradient than the quadratic."""
    ends = [[x, 0] for x in (0.04, -0.03, 1e-9)]
    limits, _, _ = limits_of(
        lambda p, _: 5e-4 * p["x"] ** 2 + p["x"] ** 4 / 4 + p["y"][0] ** 2,
        ends,
        [True] * 3,
        [False] * 3,
        tolerance=1e-4,
    )
    assert [(limit.kind, limit.starts) for limit in limits] == [("minimum", 3)]


def test_a_maximum_is_a_limit():
    limits, _, _ = limits_of(
        lambda p, _: -(p["x"] ** 2) - 3 * p["y"][0] ** 2, [[1e-4, 0]], [True], [False]
    )
    assert [limit.kind for limit in limits] == ["maximum"]
    np.testing.assert_allclose(limits[0].eigenvalues, [-6, -2], rtol=1e-6)


def test_stops_where_the_loss_is_flat_in_one_direction_are_a_valley():
    """The loss does not depend on x: stops that lie close together are one valley."""
    ends = [[x, 0] for x in (*np.linspace(-1, -0.8, 9), *np.linspace(0.7, 1, 13))]
    limits, label, _ = limits_of(lambda p, _: p["y"][0] ** 2, ends, [True] * 22, [False] * 22)
    assert [(limit.kind, limit.starts) for limit in limits] == [("valley", 9), ("valley", 13)]
    np.testing.assert_array_equal(label, [0] * 9 + [1] * 13)
    np.testing.assert_allclose(limits[0].eigenvalues, [0, 2])


def test_a_point_becomes_parameters():
    tree = {"w": np.arange(6.0).reshape(2, 3), "b": np.float64(6), "v": np.arange(7.0, 9.0)}
    leaves, structure = jax.tree.flatten(tree)
    point = np.concatenate([np.ravel(leaf) for leaf in leaves])
    params = _Structure(structure, tuple(np.shape(leaf) for leaf in leaves))(point)
    jax.tree.map(np.testing.assert_array_equal, params, tree)


def test_at_most_64_parameters_are_accepted():
    check_parameter_count({"w": np.ones((7, 9)), "b": np.ones(1)})
    with pytest.raises(ValueError, match="plane: expected at most 64 parameters, .* got 65"):
        check_parameter_count({"w": np.ones((8, 8)), "b": np.ones(1)})


def test_points_are_connected_through_boxes_that_touch():
    """A bent chain of boxes, and one box apart from it."""
    chain = np.array([[0.0, 0], [1, 0], [2, 1], [3, 1], [3, 2], [9, 9]])
    components = sorted(component.tolist() for component in _connected_components(chain, 1.0))
    assert components == [[0, 1, 2, 3, 4], [5]]
    assert _connected_components(chain[:0], 1.0) == []


def test_points_outside_of_the_grid_are_grouped_by_direction():
    """Points at any distance in one direction are one valley."""
    far = np.array([[10.0, 0], [1e3, 0], [1e6, 1e3], [0, -50], [0, -1e4]])
    groups = sorted(group.tolist() for group in _valleys(far, np.zeros(2), diagonal=4.0))
    assert groups == [[0, 1, 2], [3, 4]]
