"""Paths as they are drawn: clipping, thinning, names, and comparison with the surface."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.plot.parts import paths as paths_module
from jaxscape.results.landscape import Mark
from tests.plot.helpers import PATH, make_landscape, make_path, make_projection


def loss_at(a, b):
    """The function of `make_landscape`."""
    return a**2 + 3 * b + a * b


def with_losses(path, losses):
    return dataclasses.replace(path, evaluation_loss=np.asarray(losses, float))


def test_a_polyline_is_clipped_to_pieces():
    pieces = paths_module.clip_polyline(
        np.array([[0.5, 0.5, 0], [1.5, 0.5, 10], [1.5, 2, 20], [0.5, 0.75, 30], [0.25, 0.75, 40]]),
        np.array([[0.0, 1.0], [0.0, 1.0]]),
    )  # fmt: skip
    expected = [[0.5, 0.5, 0], [1, 0.5, 5], [np.nan] * 3, [0.7, 1, 28], [0.5, 0.75, 30],
                [0.25, 0.75, 40]]  # fmt: skip
    np.testing.assert_allclose(pieces, expected)


def test_clipping_agrees_with_many_samples_of_each_segment():
    rng = np.random.default_rng(0)
    box = np.array([[-1.0, 2.0], [0.5, 1.5]])
    for _ in range(50):
        segment = rng.uniform(-3, 3, (2, 2))
        t = np.linspace(0, 1, 2001)
        samples = segment[0] + t[:, None] * (segment[1] - segment[0])
        inside = ((samples >= box[:, 0]) & (samples <= box[:, 1])).all(axis=1)
        clipped = paths_module.clip_polyline(segment, box)
        assert len(clipped) == 2 * inside.any()
        if inside.any():
            ends = samples[np.flatnonzero(inside)[[0, -1]]]
            np.testing.assert_allclose(clipped, ends, atol=6 / 2000)


def test_a_drawn_path_has_its_points_ends_and_epochs():
    [drawn], notes = paths_module.drawn_paths(make_landscape(), (PATH,))
    assert notes == []
    np.testing.assert_array_equal(drawn.points, [[-1, 3, 10, 0], [0, 1, 11, 0.5], [0.5, 2, 12, 1]])
    np.testing.assert_array_equal(drawn.polyline, drawn.points[:, :3])
    np.testing.assert_array_equal(drawn.epochs, drawn.points[:, 3])
    assert [end[1:] for end in drawn.ends] == [
        ("circle", "start (-1, 3)"),
        ("diamond", "end (0.5, 2)"),
    ]
    assert drawn.on_surface.shape == (0, 3)


def test_the_seventh_path_repeats_the_color_with_another_symbol_and_dash():
    drawn, _ = paths_module.drawn_paths(make_landscape(), (PATH,) * 7)
    assert len({path.color for path in drawn[:6]}) == 6
    assert drawn[0].color == drawn[6].color
    assert (drawn[0].symbol, drawn[0].dash) != (drawn[6].symbol, drawn[6].dash)


def test_a_projection_off_the_plane_has_a_polyline_on_the_surface():
    coordinates = np.array([(-1.0, 1.0), (0.0, 2.0), (0.5, 3.0)])
    surface_loss = loss_at(*coordinates.T)
    on_plane = make_projection(surface_loss, coordinates)
    for above, is_off in ((0.0, False), (2.5, True)):
        path = on_plane._replace(loss=surface_loss + above)
        assert paths_module.is_off_plane(path) == is_off
        [drawn], _ = paths_module.drawn_paths(make_landscape(31, 21), (path,))
        np.testing.assert_array_equal(drawn.polyline[:, 2], surface_loss + above)
        assert drawn.points.shape == (3, 5)
        expected = np.column_stack([coordinates, surface_loss]) if is_off else np.empty((0, 3))
        np.testing.assert_array_equal(drawn.on_surface, expected)


def test_names_are_unique_and_escaped():
    named = [dataclasses.replace(PATH, name=name) for name in ("SGD", "", "SGD", "<b>")]
    assert paths_module.unique_names(named) == ["SGD (1)", "descent 2", "SGD (2)", "&lt;b&gt;"]
    assert paths_module.unique_names([PATH]) == ["descent"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["path"], "paths: expected Trajectory or Projection objects, got str$"),
        ([{"sgd": PATH}], r"got dict; pass several paths as \*paths.values\(\)"),
        ([[PATH]], r"got list; pass several paths as \*paths$"),
    ],
)
def test_other_objects_are_not_paths(paths, message):
    with pytest.raises(TypeError, match=message):
        paths_module.check_paths(paths)


def test_a_thinned_trajectory_keeps_its_ends_and_ends_before_divergence():
    numbers = np.arange(100.0)
    path = make_path(numbers, 2 * numbers, diverged=51)
    [thinned], notes = paths_module.thin([path], 6)
    assert notes == ["6 of 51 points of descent are drawn"]
    np.testing.assert_array_equal(thinned.params.w1, [0, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(thinned.params.w2, 2 * thinned.params.w1)
    np.testing.assert_array_equal(thinned.loss, 10 + thinned.params.w1)
    assert thinned.diverged_step == 51
    [same], notes = paths_module.thin([PATH], 3)
    assert notes == []
    np.testing.assert_array_equal(same.loss, PATH.loss)


def test_a_thinned_projection_keeps_the_columns_together():
    numbers = np.arange(1000.0)
    projection = jxs.Projection(
        coordinates=np.stack([numbers, 2 * numbers], axis=1),
        distance=3 * numbers,
        loss=4 * numbers,
        surface_loss=5 * numbers,
        epoch=6 * numbers,
        explained=0.5,
        names=("a", "b"),
        name="walk",
    )
    [thinned], notes = paths_module.thin([projection], 7)
    assert notes == ["7 of 1000 points of walk are drawn"]
    np.testing.assert_allclose(thinned.coordinates[:, 0], [0, 166, 333, 500, 666, 832, 999], atol=1)
    for k, field in enumerate(("distance", "loss", "surface_loss", "epoch"), start=3):
        np.testing.assert_array_equal(getattr(thinned, field), k * thinned.coordinates[:, 0])


def test_a_mark_on_a_node_has_the_loss_of_the_node_next_to_nonfinite_cells():
    loss = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, np.inf]])
    axes = jxs.Axis(np.arange(2.0), "a"), jxs.Axis(np.arange(3.0), "b")
    marks = (Mark(1, 1, "here"), Mark(0, 2, "there"), Mark(0.5, 0, "between"))
    surface = jxs.Landscape(loss, *axes, "loss", "dense", marks)
    names, positions = paths_module.marks_on_grid(surface)
    assert names == ["here", "there", "between"]
    np.testing.assert_array_equal(positions[:, 2], [5, 3, 2.5])


@pytest.mark.parametrize(("n", "is_resolved"), [(31, True), (3, False)])
def test_a_path_with_other_losses_than_the_surface_is_named(n, is_resolved):
    landscape = make_landscape(n, n + 2)
    rng = np.random.default_rng(1)
    w1, w2 = rng.uniform(-2, 1, 40), rng.uniform(0, 4, 40)
    path = with_losses(make_path(w1, w2), loss_at(w1, w2))
    assert paths_module.mismatch_notes(landscape, [path]) == []
    other = with_losses(path, path.loss + 3)
    notes = paths_module.mismatch_notes(landscape, [path, other])
    if is_resolved:
        [note] = notes
        assert note.startswith("losses of descent 2 differ from the surface by up to ")
        assert float(note.split("up to ")[1].split(":")[0]) == pytest.approx(3, abs=0.1)
    else:
        # Cubic interpolation needs four nodes.
        assert notes == []


def test_a_difference_within_the_interpolation_error_of_a_coarse_grid_is_not_a_mismatch():
    """Between the nodes of a coarse grid, linear interpolation is wrong by 5 % and more."""
    a, b = np.linspace(0, 3, 9), np.linspace(0, 2, 7)
    axes = jxs.Axis(a, "w1"), jxs.Axis(b, "w2")
    landscape = jxs.Landscape(np.sin(3 * a)[:, None] + 0 * b, *axes, "loss", "dense")
    t = np.linspace(0.1, 2.9, 50)
    path = with_losses(make_path(t, np.full(50, 1.0)), np.sin(3 * t))
    linear = np.interp(t, a, np.sin(3 * a))
    assert np.sqrt(np.mean((linear - path.loss) ** 2)) > 0.05
    assert paths_module.mismatch_notes(landscape, [path]) == []


FLAT = 1.5e11


def flat_landscape(noise, dtype):
    """Return a landscape of losses near 1.5e11, and coordinates of 60 points within it."""
    generator = np.random.default_rng(0)
    landscape = make_landscape(31, 21)
    loss = (FLAT + noise * generator.uniform(-1, 1, landscape.shape)).astype(dtype)
    coordinates = generator.uniform((-1.9, 0.1), (0.9, 3.9), (60, 2))
    return dataclasses.replace(landscape, loss=loss), coordinates


@pytest.mark.parametrize(
    ("dtype", "noise", "difference", "is_named"),
    [
        (np.float32, 1.6e4, 2e4, False),
        (np.float32, 1.6e4, 1e5, False),
        (np.float32, 1.6e4, 1e7, True),
        # In float64, these differences are not rounding.
        (np.float64, 0.0, 3e3, True),
        (np.float64, 3e-5, 3e-4, False),
    ],
)
def test_differences_by_rounding_are_not_a_mismatch(dtype, noise, difference, is_named):
    landscape, coordinates = flat_landscape(noise, dtype)
    losses = np.full(60, FLAT + difference, dtype)
    path = dataclasses.replace(make_path(*coordinates.T), evaluation_loss=losses)
    assert bool(paths_module.mismatch_notes(landscape, [path])) == is_named


def test_a_projection_that_differs_by_rounding_is_on_the_plane():
    landscape, coordinates = flat_landscape(0.0, np.float32)
    surface_loss = np.full(60, FLAT, np.float32)
    above = np.nextafter(surface_loss, np.float32(np.inf))
    path = make_projection(above, coordinates)
    paths_module.check_plane(landscape, path, "walk")
    assert not paths_module.is_off_plane(path._replace(loss=surface_loss))
    assert paths_module.is_off_plane(path._replace(loss=surface_loss.astype(float) + 1e7))
    assert paths_module.is_off_plane(path._replace(surface_loss=np.full(60, np.inf, np.float32)))
    with pytest.raises(ValueError, match="got 'walk', whose loss differs"):
        paths_module.check_plane(landscape, path._replace(surface_loss=above + 1e7), "walk")


@pytest.mark.parametrize("weights", ["_linear_weights", "_cubic_weights"])
def test_interpolation_weights_reproduce_polynomials_on_uneven_nodes(weights):
    rng = np.random.default_rng(2)
    nodes = np.sort(rng.uniform(-2, 2, (30, 4)), axis=1)
    coordinate = rng.uniform(nodes[:, 0], nodes[:, 3])
    found = getattr(paths_module, weights)(coordinate, nodes)
    for power in range(4 if weights == "_cubic_weights" else 2):
        exact = (found * nodes**power).sum(axis=1)
        np.testing.assert_allclose(exact, coordinate**power, rtol=1e-9, atol=1e-9)


def test_a_projection_onto_another_plane_is_an_error():
    landscape = make_landscape(31, 21)
    coordinates = np.random.default_rng(0).uniform((-2.3, 0), (1.3, 4.4), (40, 2))
    surface_loss = loss_at(*coordinates.T)
    paths_module.check_plane(landscape, make_projection(surface_loss, coordinates), "walk")
    reordered = make_projection(surface_loss[::-1], coordinates)
    message = r"got 'walk', whose loss differs from the landscape at \d+ of \d+ points within"
    with pytest.raises(ValueError, match=message):
        paths_module.check_plane(landscape, reordered, "walk")


def test_the_loss_between_nodes_is_interpolated_linearly_in_each_coordinate():
    landscape = make_landscape()
    a, b = np.asarray(landscape.a.values), np.asarray(landscape.b.values)
    rng = np.random.default_rng(3)
    for x, y in zip(rng.uniform(-2, 1, 20), rng.uniform(0, 4, 20), strict=True):
        along_b = [np.interp(y, b, row) for row in landscape.loss]
        found = paths_module._interpolate_loss(landscape, x, y)
        assert found == pytest.approx(np.interp(x, a, along_b))
    assert paths_module._interpolate_loss(landscape, 1.1, 2) is None
    # A rounding of float32 outside of the grid is on its edge.
    on_edge = paths_module._interpolate_loss(landscape, float(np.float32(1) + 1e-6), 2)
    assert on_edge == pytest.approx(loss_at(1, 2))


def test_paths_are_unchanged_by_drawing():
    before = jax.tree.map(np.copy, PATH)
    paths_module.drawn_paths(make_landscape(), (PATH,))
    jax.tree.map(np.testing.assert_array_equal, before, PATH)
