"""Interpolation errors equal a loop, and patches are fine enough for surfaces and for paths."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxscape as jxs
from jaxscape.grid import refine
from jaxscape.grid.refine import rectangles
from tests.grid.helpers import interrupt_after, set_block_size

W1 = np.array([-2.0, -1.7, -1.0, -0.9, 0.3, 1.1, 1.9])
W2 = np.array([-1.5, -1.0, 0.2, 0.3, 2.5])
GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=50).astype(np.float32)
DATA = jxs.Dataset(INPUTS, np.float32(0.8) * np.tanh(np.float32(1.5) * INPUTS))


def smooth(weights, data):
    return jnp.sin(2 * weights.w1) * jnp.exp(weights.w2 / 2) + weights.w1 * weights.w2**2 + data


def smooth64(w1, w2):
    return np.sin(2 * w1) * np.exp(w2 / 2) + w1 * w2**2


def grid(loss, data=0.0, w1=W1, w2=W2):
    return jxs.landscape(loss, data, w1=w1, w2=w2)


def path(points):
    points = np.asarray(points, float)
    losses = np.zeros(len(points))
    return jxs.Trajectory(
        jxs.Weights(points[:, 0], points[:, 1]),
        np.arange(len(points)),
        losses,
        None,
        np.asarray(-1),
        steps_per_epoch=1,
    )


def test_the_errors_equal_a_loop_in_float64(x64):
    """The grid is uneven, not square and not symmetric."""
    found = jxs.refine(grid(smooth), smooth, 0.0)
    truth = np.zeros((6, 4))
    for i in range(6):
        for j in range(4):
            for s, t in ((0.5, 0.5), (0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)):
                w1, w2 = (1 - s) * W1[i] + s * W1[i + 1], (1 - t) * W2[j] + t * W2[j + 1]
                corners = smooth64(W1[i : i + 2, None], W2[None, j : j + 2])
                linear = np.array([1 - s, s]) @ corners @ np.array([1 - t, t])
                truth[i, j] = max(truth[i, j], abs(smooth64(w1, w2) - linear))
    np.testing.assert_allclose(found.interpolation_error, truth, rtol=1e-12, atol=1e-14)
    i, j = np.unravel_index(truth.argmax(), truth.shape)
    middle = (W1[i] + W1[i + 1]) / 2, (W2[j] + W2[j + 1]) / 2
    assert found.largest == pytest.approx((*middle, truth.max()))
    assert found.tolerance == pytest.approx(np.ptp(np.asarray(grid(smooth).loss)) / 100)


def test_row_blocks_find_the_same_errors(monkeypatch):
    whole = jxs.refine(grid(smooth), smooth, 0.0, tolerance=0.1)
    monkeypatch.setattr(refine, "_NODES_PER_BLOCK", 40)
    parts = jxs.refine(grid(smooth), smooth, 0.0, tolerance=0.1)
    np.testing.assert_array_equal(whole.interpolation_error, parts.interpolation_error)


def test_a_minimum_between_the_nodes_is_found():
    def needle(weights, _):
        distance = (weights.w1 - 0.25) ** 2 + (weights.w2 - 0.75) ** 2
        return -jnp.exp(-1e4 * distance) + 0 * weights.w1

    surface = grid(needle, None, np.arange(-3, 3.5, 0.5), np.arange(-2, 3.5, 0.5))
    assert surface.lowest.loss == 0
    found = jxs.refine(surface, needle, None, tolerance=0.01)
    assert found.largest == pytest.approx((0.25, 0.75, 1))
    assert min(patch.lowest.loss for patch in found.patches) == pytest.approx(-1, abs=1e-3)


def test_a_bilinear_surface_has_no_error_and_no_patches():
    def bilinear(weights, _):
        return 2 * weights.w1 - weights.w2 + 3 * weights.w1 * weights.w2

    found = jxs.refine(grid(bilinear, None), bilinear, None, tolerance=1e-5)
    assert found.largest.error < 1e-5
    assert found.patches == ()
    assert repr(found).endswith("0 patches")


def test_the_patches_of_a_smooth_surface_are_within_the_tolerance():
    """The error falls with the square of the spacing."""
    axes = {"w1": np.linspace(-2, 1, 20), "w2": np.linspace(-1, 1.5, 14)}
    tolerance = 0.002
    surface = grid(smooth, **axes)
    found = jxs.refine(surface, smooth, 0.0, tolerance=tolerance)
    assert found.largest.error > 3 * tolerance
    assert found.patches
    for patch in found.patches:
        again = jxs.refine(patch, smooth, 0.0, tolerance=tolerance)
        assert again.largest.error < tolerance


def test_the_patches_at_a_kink_are_not_within_the_tolerance():
    """The counterpart: at a kink the error falls only linearly with the spacing."""

    def kink(weights, _):
        return jnp.abs(weights.w1 - weights.w2 / 3)

    axes = {"w1": np.linspace(-2, 1, 20), "w2": np.linspace(-1, 1.5, 14)}
    tolerance = 0.002
    found = jxs.refine(grid(kink, None, **axes), kink, None, tolerance=tolerance)
    worst = max(
        jxs.refine(patch, kink, None, tolerance=tolerance).largest.error for patch in found.patches
    )
    assert 2 * tolerance < worst < found.largest.error / 2


def test_every_cell_that_is_too_coarse_is_in_a_patch():
    found = jxs.refine(grid(smooth), smooth, 0.0, tolerance=0.3)
    assert found.too_coarse.any()
    assert not found.too_coarse.all()
    for i, j in np.argwhere(found.too_coarse):
        assert any(
            patch.a.values[0] <= np.float32(W1[i])
            and np.float32(W1[i + 1]) <= patch.a.values[-1]
            and patch.b.values[0] <= np.float32(W2[j])
            and np.float32(W2[j + 1]) <= patch.b.values[-1]
            for patch in found.patches
        )


@given(seed=st.integers(0, 10_000), fraction=st.floats(0, 1), n1=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_a_few_rectangles_cover_all_flagged_cells(seed, fraction, n1):
    flagged = np.random.default_rng(seed).random((n1, 37)) < fraction**4
    covered = np.zeros_like(flagged)
    boxes = rectangles(flagged)
    for box in boxes:
        assert not covered[box].any()  # no cell twice
        covered[box] = True
    assert not (flagged & ~covered).any()
    assert len(boxes) <= 8


def test_rectangles_leave_out_the_cells_between_two_groups():
    flagged = np.zeros((40, 50), bool)
    flagged[2:8, 3:9] = flagged[30:35, 40:48] = True
    boxes = rectangles(flagged)
    assert boxes == [(slice(2, 8), slice(3, 9)), (slice(30, 35), slice(40, 48))]


def test_nonfinite_cells_have_no_error_and_are_counted():
    def loss(weights, _):
        return jnp.log(weights.w1) + weights.w2**2

    axes = {"w1": np.linspace(-1, 3, 9), "w2": np.linspace(0, 1, 4)}
    with pytest.warns(jxs.NonFiniteWarning):
        surface = grid(loss, None, **axes)
    found = jxs.refine(surface, loss, None, tolerance=10.0)
    # Three of the eight rows of cells touch w1 ≤ 0.
    assert np.isnan(found.interpolation_error).sum() == 3 * 3
    assert "9 of 24 cells are not finite throughout" in repr(found)
    finite = jxs.landscape(loss, None, w1=(1, 2, 3), w2=(0, 1, 3))
    assert jxs.refine(finite, loss, None, tolerance=10.0).largest is not None


def test_steps_are_measured_in_cells():
    """On the uneven axes: half of the first cell, half of its height, then a step out."""
    points = [(-2.0, -1.5), (-1.85, -1.5), (-1.85, -1.25), (9.0, 9.0), (0.3, 0.3), (0.7, 1.4)]
    found = jxs.refine(grid(smooth), smooth, 0.0, path(points))
    assert found.smallest_step == (pytest.approx(0.5, rel=1e-5),)
    short = jxs.refine(grid(smooth), smooth, 0.0, path([(-1.9, 0.21), (-1.9, 0.22)]))
    assert short.smallest_step == (pytest.approx(0.1, rel=1e-4),)
    outside = jxs.refine(grid(smooth), smooth, 0.0, path([(8, 8), (9, 9)]))
    assert np.isnan(outside.smallest_step[0])


def test_short_steps_get_a_patch_in_which_they_are_no_shorter_than_a_cell():
    surface = jxs.landscape(jxs.squared_error, DATA, w1=(-2, 2, 21), w2=(-2, 2, 31))
    descent = jxs.descend(
        jxs.squared_error,
        jxs.Weights(1.0, 1.5),
        DATA,
        optimizer=optax.sgd(0.05),
        epochs=40,
    )
    found = jxs.refine(surface, jxs.squared_error, DATA, descent, tolerance=100.0)
    assert found.smallest_step[0] < 0.1
    finest = found.patches[-1]
    again = jxs.refine(finest, jxs.squared_error, DATA, descent, tolerance=100.0)
    assert again.smallest_step[0] >= 0.9
    assert max(max(patch.shape) for patch in found.patches) <= 1025
    # A run of short steps has one patch, not one for each step.
    assert len(found.patches) <= 4


def test_long_steps_need_no_patch():
    points = [(-2.0, -1.5), (-0.9, 0.3), (1.1, 2.5)]
    assert jxs.refine(grid(smooth), smooth, 0.0, path(points), tolerance=100.0).patches == ()


def test_a_path_of_equal_points_has_a_smallest_step_of_zero():
    found = jxs.refine(grid(smooth), smooth, 0.0, path([(0.5, 0.5)] * 3), tolerance=100.0)
    assert found.smallest_step == (0.0,)
    assert all(max(patch.shape) <= 1025 for patch in found.patches)


def test_a_surface_of_another_loss_or_other_data_is_refused():
    surface = jxs.landscape(jxs.squared_error, DATA, w1=(-2, 2, 9), w2=(-2, 2, 11))
    moved = jxs.Dataset(DATA.x, DATA.y + 0.1)
    for loss, data in ((jxs.absolute_error, DATA), (jxs.squared_error, moved)):
        with pytest.raises(ValueError, match=r"surface: expected the values of this loss, data"):
            jxs.refine(surface, loss, data)
    turned = jxs.Landscape(surface.loss[::-1], surface.a, surface.b, "squared error", "exact")
    with pytest.raises(ValueError, match="surface: expected the values"):
        jxs.refine(turned, jxs.squared_error, moved)


def test_the_strategy_of_the_surface_does_not_matter():
    axes = {"w1": (-2, 2, 9), "w2": (-2, 2, 11)}
    for method in ("dense", "exact"):
        surface = jxs.landscape(jxs.squared_error, DATA, method=method, **axes)
        jxs.refine(surface, jxs.squared_error, DATA)


def test_ctrl_c_is_raised_even_if_some_rows_are_done(monkeypatch):
    """The errors of some cells could be mistaken for those of all."""
    surface = grid(smooth)
    set_block_size(monkeypatch, 3)
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        jxs.refine(surface, smooth, 0.0)


@pytest.mark.parametrize("tolerance", [0, -1.0, np.nan, np.inf])
def test_bad_tolerances_are_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance: expected a positive finite number"):
        jxs.refine(grid(smooth), smooth, 0.0, tolerance=tolerance)


def test_other_objects_than_paths_and_surfaces_are_refused():
    with pytest.raises(TypeError, match="surface: expected a Landscape, got str"):
        jxs.refine("surface", smooth, 0.0)
    with pytest.raises(TypeError, match="paths: expected a Trajectory or a Projection, got"):
        jxs.refine(grid(smooth), smooth, 0.0, grid(smooth))
    plane = jxs.Plane({"w": jnp.ones(2)}, {"w": jnp.ones(2)}, {"w": jnp.array([1.0, -1.0])})

    def loss(params, _):
        return jnp.sum(params["w"] ** 2)

    surface = jxs.landscape(loss, None, plane, a=(-1, 1, 3), b=(-1, 1, 4))
    assert jxs.refine(surface, loss, None, plane=plane).largest.error > 0
    with pytest.raises(ValueError, match="paths: expected parameters with a number 'a' at every"):
        jxs.refine(surface, loss, None, path([(0, 0), (1, 1)]), plane=plane)


def test_a_projected_path_is_refined_by_its_coordinates():
    """The cells are not square, and the last step is short along one axis only."""
    plane = jxs.Plane(
        {"w": jnp.array([0.5, -1.0])}, {"w": jnp.array([2.0, 0.0])}, {"w": jnp.array([0.0, 0.25])}
    )

    def loss(params, _):
        return jnp.sum((params["w"] - 1) ** 4)

    surface = jxs.landscape(loss, None, plane, a=(-1, 1, 5), b=(-4, 4, 9))
    points = np.array([[-0.5, -2.0], [0.25, -2.0], [0.25, -1.9]])
    params = {"w": np.array([0.5, -1.0]) + points * [2, 0.25]}
    projection = jxs.project(loss, None, plane, params)
    found = jxs.refine(surface, loss, None, projection, plane=plane, tolerance=1e3)
    # A cell is 0.5 by 1, so the steps are 1.5 and 0.1 cells.
    np.testing.assert_allclose(found.smallest_step, [0.1], rtol=1e-4)
    [patch] = found.patches
    steps = np.diff(patch.b.values).max()
    assert 0.1 / steps > 0.9
    assert patch.b.values[0] <= -2
    assert patch.b.values[-1] >= -1.9


def test_neighboring_values_without_a_number_between_them_are_refused():
    close = np.float32(1) + np.arange(3, dtype=np.float32) * np.finfo(np.float32).eps
    surface = grid(smooth, w1=close)
    with pytest.raises(ValueError, match="surface: expected values of w1 with a float32 between"):
        jxs.refine(surface, smooth, 0.0)
