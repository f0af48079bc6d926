"""Principal directions against the covariance matrix, and nearest points against least squares."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.planes import geometry
from jaxscape.planes.geometry import nearest_points, principal_directions, principal_plane

# Numbers per piece: everything at once, a few columns, and a single column.
PIECES = [2**22, 20, 1]


def flatten(direction):
    return np.concatenate([np.ravel(direction[name]) for name in ("w", "b")])


@pytest.mark.parametrize("numbers", PIECES)
def test_principal_directions_are_those_of_the_covariance(x64, monkeypatch, numbers):
    monkeypatch.setattr(geometry, "_MAX_NUMBERS", numbers)
    points = np.random.default_rng(0).normal(size=(9, 5)) * [5, 0.1, 3, 1, 0.2] + 7
    path = {"w": points[:, :3], "b": points[:, 3:], "n": np.arange(9)}
    last, *directions = principal_plane(path)
    _, vectors = np.linalg.eigh(np.cov(points.T))
    for direction, expected in zip(directions, (vectors[:, -1], vectors[:, -2]), strict=True):
        assert direction["n"] is None
        np.testing.assert_allclose(abs(flatten(direction) @ expected), 1, rtol=1e-10)
    np.testing.assert_array_equal(last["w"], points[-1, :3])


@pytest.mark.parametrize("size", [1e-2, 1e-4, 2e-6])
def test_the_second_principal_direction_of_a_nearly_straight_path_is_that_of_the_svd(x64, size):
    """Far from 0, where the mean is large: down to the smallest variation that is resolved."""
    rng = np.random.default_rng(2)
    origin, along, across = rng.normal(size=(3, 400))
    t = np.linspace(0, 0.01, 30)[:, None]
    points = 100 * origin + t * along + size * 0.01 * np.sin(900 * t) * across
    _, u, v = principal_plane(jnp.asarray(points))
    expected = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2]
    np.testing.assert_allclose(np.linalg.norm([u, v], axis=1), 1, rtol=1e-12)
    assert abs(u @ v) < 1e-12
    assert abs(u @ expected[0]) > 1 - 1e-9
    assert abs(v @ expected[1]) > 0.99


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_variation_below_the_rounding_of_the_points_is_no_direction(x64, dtype):
    """A straight path far from 0: the second direction would be that of rounding errors."""
    rng = np.random.default_rng(3)
    origin, along = rng.normal(size=(2, 400))
    t = np.linspace(0, 0.01, 30)[:, None]
    points = (100 * origin + t * along).astype(dtype)
    with pytest.raises(ValueError, match="expected points that vary in 2 directions, got 1"):
        principal_plane(points)


def test_principal_directions_do_not_move_constant_leaves():
    """Otherwise a frozen layer would be computed in every cell, at a distance of rounding."""
    rng = np.random.default_rng(0)
    frozen, moving = rng.normal(size=(3, 2)) + 0.1, rng.normal(size=(6, 4))
    path = {"frozen": np.stack([frozen] * 6), "moving": moving}
    for direction in principal_directions(path, 2):
        assert direction["frozen"] is None
        assert direction["moving"].shape == (4,)
    assert principal_directions({"frozen": path["frozen"]}, 2) == []


def test_a_path_on_a_line_has_one_principal_direction():
    path = np.float32(np.linspace(0, 1, 12).reshape(4, 3))
    assert len(principal_directions(path, 2)) == 1
    with pytest.raises(
        ValueError, match="expected points that vary in 2 directions, got 1 direction$"
    ):
        principal_plane(path)


def test_points_after_divergence_do_not_count(x64):
    points = np.random.default_rng(1).normal(size=(5, 3))
    points[4] = np.nan
    path = jxs.Trajectory(
        params=points,
        step=np.arange(5),
        training_loss=np.zeros(5),
        evaluation_loss=None,
        diverged_step=np.array(4),
        steps_per_epoch=1,
    )
    last, u, v = principal_plane(path)
    _, *expected = principal_plane(points[:4])
    np.testing.assert_array_equal(last, points[3])
    np.testing.assert_array_equal([u, v], expected)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (jnp.ones((2, 3)), "path: expected arrays that share their first axis, 3 points or more"),
        ({"w": np.ones((4, 2)), "b": np.ones((5, 2))}, "got first axes"),
        ({"w": np.full((4, 3), np.nan)}, r"path\['w'\]: expected finite"),
    ],
)
def test_bad_paths_are_refused(path, message):
    with pytest.raises(ValueError, match=message):
        principal_directions(path, 2)


@pytest.mark.parametrize("numbers", PIECES)
def test_nearest_points_are_the_least_squares_solutions(monkeypatch, numbers):
    monkeypatch.setattr(geometry, "_MAX_NUMBERS", numbers)
    rng = np.random.default_rng(1)
    origin, u, v = rng.normal(size=(3, 7))
    points = rng.normal(size=(4, 7))
    away = points - origin
    solution, *_ = np.linalg.lstsq(np.stack([u, v], axis=1), away.T, rcond=None)
    rest = away - solution.T @ np.stack([u, v])
    trees = [{"w": x[:6].reshape(2, 3), "b": x[6], "f": None, "n": 3} for x in (origin, u, v)]
    given = {"w": points[:, :6].reshape(4, 2, 3), "b": points[:, 6], "f": None, "n": 3}
    coordinates, distances, explained = nearest_points(*trees, given, 4)
    np.testing.assert_allclose(coordinates, solution.T, rtol=1e-10)
    np.testing.assert_allclose(distances, np.linalg.norm(rest, axis=1), rtol=1e-10)
    inside = solution.T @ np.stack([u, v])
    assert explained == pytest.approx(inside.var(axis=0).sum() / points.var(axis=0).sum())


def test_leaves_that_the_plane_does_not_move_count_as_distance():
    origin, points = [np.zeros(1), np.zeros(2)], [np.ones((1, 1)), np.array([[0.0, 3.0]])]
    u, v = [np.ones(1), None], [None, np.array([1.0, 0.0])]
    coordinates, distances, explained = nearest_points(origin, u, v, points, 1)
    np.testing.assert_allclose(coordinates, [[1, 0]], atol=1e-15)
    np.testing.assert_allclose(distances, [3])
    assert explained == 1


def test_points_that_are_not_finite_are_refused():
    origin, u, v = [np.zeros(2)], [np.array([1.0, 0])], [np.array([0, 1.0])]
    with pytest.raises(ValueError, match=r"path\[0\]: expected finite parameters"):
        nearest_points(origin, u, v, [np.array([[1.0, np.inf]])], 1)
