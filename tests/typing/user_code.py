"""Calls of every public function, with the types that an editor should show for their results.

mypy and pyright check this file; it is never run.
"""

from collections.abc import Mapping
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plotly.graph_objects as go

import jaxscape as jxs
from jaxscape.archive import Archive
from jaxscape.article import Experiment
from jaxscape.plot.explorer.page import Explorer

Params = dict[str, jax.Array]


def mean_error(params: Params, data: jxs.Dataset) -> jax.Array:
    return jnp.mean((params["w"] * data.x - data.y) ** 2)


def errors(params: Params, data: jxs.Dataset) -> dict[str, jax.Array]:
    residual = params["w"] * data.x - data.y
    return {"squared": jnp.mean(residual**2), "absolute": jnp.mean(abs(residual))}


def predict(params: Params, x: jax.Array) -> jax.Array:
    return params["w"] * x


key = jax.random.key(0)
params: Params = {"w": jnp.ones(3)}
weights = jxs.Weights(-1.0, -1.0)
sgd = optax.sgd(0.01)
optimizers = {"SGD": sgd, "Adam": optax.adam(0.01)}


def data() -> None:
    train, test = jxs.article.data()
    assert_type(train, jxs.Dataset)
    assert_type(jxs.data.noisy_sine(key, n=50), jxs.Dataset)
    assert_type(jxs.data.teacher_student(key), jxs.Dataset)
    assert_type(jxs.data.read_dataset("points.csv"), jxs.Dataset)
    assert_type(jxs.data.split(train, 0.3, key), tuple[jxs.Dataset, jxs.Dataset])
    assert_type(jxs.data.weigh_batches_equally(train, 128), jxs.Dataset)
    for batch in jxs.data.batches(train, 128):
        assert_type(batch, jxs.Dataset)
    stream = jxs.Stream([train, test])
    assert_type(jxs.landscape(jxs.squared_error, stream, w1=(-2, 2, 50)), jxs.Landscape)


def losses(points: jxs.Dataset) -> None:
    assert_type(jxs.squared_error, jxs.PointwiseLoss)
    assert_type(jxs.huber(0.5), jxs.PointwiseLoss)
    assert_type(jxs.squared_error.of(predict), jxs.PointwiseLoss)
    assert_type(jxs.squared_error(weights, points), jax.Array)
    assert_type(jxs.article.broadcast_squared_error(weights, points), jax.Array)
    assert_type(jxs.Function(lambda a, b: a**2 + b**2)(weights, None), jax.Array)


def planes(points: jxs.Dataset) -> jxs.Plane:
    plane = jxs.Plane.random(key, params)
    assert_type(plane, jxs.Plane)
    direction = jxs.random_direction(key, params)
    assert_type(jxs.Plane(origin=params, u=direction, v={"w": jnp.ones(3)}), jxs.Plane)
    assert_type(jxs.gradient_plane(mean_error, points, params, key), jxs.Plane)
    assert_type(jxs.training.hyperparameter_plane("learning_rate", "momentum"), jxs.Plane)
    return plane


def grids(points: jxs.Dataset, plane: jxs.Plane) -> None:
    surface = jxs.landscape(jxs.squared_error, points, w1=(-2, 2, 50), w2=np.linspace(-1, 1, 40))
    assert_type(surface, jxs.Landscape)
    assert_type(jxs.landscape(mean_error, points, plane, a=(-1, 1, 9), b=(0, 1, 8)), jxs.Landscape)
    several = jxs.landscape(errors, points, plane, a=(-1, 1, 9), b=(0, 1, 8), memory=10**9)
    assert_type(several, dict[str, jxs.Landscape])
    assert_type(surface.shape, tuple[int, int])
    assert_type(surface.a, jxs.Axis)
    if surface.lowest is not None:
        assert_type(surface.lowest.loss, float)
    assert_type(jxs.refine(surface, jxs.squared_error, points), jxs.Refinement)
    assert_type(jxs.derivatives(jxs.squared_error, points, w1=(-1, 1, 9)), jxs.Derivatives)
    assert_type(jxs.describe(surface), jxs.Description)
    described = jxs.describe(surface, jxs.squared_error, points, w1=(-3.0, 3.0), w2=(-1.0, 1.0))
    assert_type(described.sentences, tuple[str, ...])
    assert_type(described.critical_points, jxs.CriticalPoints | None)
    found = jxs.critical_points(jxs.squared_error, points, w1=(-3.0, 3.0), w2=(-2.0, 2.0))
    assert_type(found, jxs.CriticalPoints)
    assert_type(found.points[0], jxs.CriticalPoint)
    assert_type(
        jxs.training.batch_landscapes(jxs.squared_error, points, 16, w1=(-1, 1, 9)),
        jxs.training.BatchLandscapes,
    )


def descents(points: jxs.Dataset) -> None:
    path = jxs.descend(jxs.squared_error, weights, points, optimizer=sgd, epochs=5)
    assert_type(path, jxs.Trajectory)
    many = jxs.descend(jxs.squared_error, weights, points, optimizer=sgd, epochs=5, runs=100)
    assert_type(many, jxs.Descents)
    by_name = jxs.descend(jxs.squared_error, weights, points, optimizer=optimizers, epochs=5)
    assert_type(by_name, dict[str, jxs.Trajectory])
    many_by_name = jxs.descend(
        jxs.squared_error, weights, points, optimizer=optimizers, epochs=5, runs=100
    )
    assert_type(many_by_name, dict[str, jxs.Descents])
    rates = jxs.descend(
        jxs.squared_error,
        weights,
        points,
        optimizer=sgd,
        epochs=5,
        hyperparameters={"learning_rate": np.geomspace(1e-3, 1, 7)},
    )
    assert_type(rates, jxs.Descents)
    one_rate = jxs.descend(
        jxs.squared_error,
        weights,
        points,
        optimizer=sgd,
        epochs=5,
        hyperparameters={"learning_rate": 0.1},
    )
    assert_type(one_rate, jxs.Trajectory)
    assert_type(jxs.training.outcomes(path), str)
    assert_type(jxs.training.outcomes(many), np.ndarray)
    model = jxs.TwoWeightNetwork()
    assert_type(jxs.training.predictions(model, path, points), jxs.training.Predictions)
    found = jxs.basins(jxs.squared_error, points, optimizer=sgd, w1=(-2, 2, 9), w2=(-2, 2, 8))
    assert_type(found, jxs.Basins)
    assert_type(found.limits[0], jxs.Limit)


def projections(points: jxs.Dataset, plane: jxs.Plane, path: jxs.Trajectory) -> None:
    assert_type(jxs.project(mean_error, points, plane, path), jxs.Projection)
    assert_type(jxs.project(errors, points, plane, path), dict[str, jxs.Projection])


def curvatures(points: jxs.Dataset, path: jxs.Trajectory) -> None:
    pairs = jxs.curvature.eigenpairs(mean_error, points, params, 3, key, which="largest")
    assert_type(pairs, jxs.curvature.Eigenpairs)
    density = jxs.curvature.spectral_density(mean_error, points, params, key)
    assert_type(density, jxs.curvature.SpectralDensity)
    trace = jxs.curvature.hessian_trace(mean_error, points, params, key)
    assert_type(trace, jxs.curvature.TraceEstimate)
    stability = jxs.curvature.edge_of_stability(mean_error, path, points)
    assert_type(stability, jxs.curvature.Stability)
    assert_type(jxs.plot.spectrum(density, pairs), go.Figure)
    assert_type(jxs.plot.stability(stability), go.Figure)


def connections(points: jxs.Dataset) -> None:
    directions = jxs.connectivity.random_directions(key, params, 10)
    lines = jxs.connectivity.lines(mean_error, points, params, directions)
    assert_type(lines, jxs.connectivity.Lines)
    several = jxs.connectivity.lines(errors, points, params, directions, t=(-1.0, 1.0, 51))
    assert_type(several, dict[str, jxs.connectivity.Lines])
    between = jxs.connectivity.interpolate(mean_error, points, params, params)
    assert_type(between, jxs.connectivity.Lines)
    assert_type(
        jxs.connectivity.interpolate(errors, points, params, params),
        dict[str, jxs.connectivity.Lines],
    )
    curve = jxs.connectivity.bezier(mean_error, points, params, params, key)
    assert_type(curve, jxs.connectivity.Curve)
    assert_type(curve.losses(mean_error, points), jxs.connectivity.Lines)
    assert_type(jxs.plot.lines(lines, between), go.Figure)


def shapes(points: jxs.Dataset, surface: jxs.Landscape, found: jxs.CriticalPoints) -> None:
    valley = jxs.topology.valley(jxs.squared_error, points, w1=(-2, 2, 50))
    assert_type(valley, jxs.topology.Valley)
    path = jxs.topology.minimax_path(surface, (-1.0, 0.0), (1.0, 0.0), found)
    assert_type(path, jxs.topology.MinimaxPath)
    assert_type(jxs.topology.persistence(surface), jxs.topology.Persistence)
    figure = jxs.plot.surface(surface, critical=found, valley=valley, minimax_path=path)
    assert_type(figure, go.Figure)
    assert_type(jxs.plot.profile(valley, found), go.Figure)


def figures(
    surface: jxs.Landscape, path: jxs.Trajectory, projection: jxs.Projection, many: jxs.Descents
) -> None:
    assert_type(jxs.plot.surface(surface, path, projection, log=True, dark=True), go.Figure)
    assert_type(jxs.plot.contour(surface, path, many), go.Figure)
    assert_type(jxs.plot.animation(surface, path, kind="contour"), go.Figure)
    assert_type(jxs.plot.side_by_side(surface, path), go.Figure)
    panels: Mapping[str, Any] = {"one": surface, "two": (surface, path)}
    assert_type(jxs.plot.compare(panels), go.Figure)
    assert_type(jxs.plot.compare({"one": surface, "two": surface}), go.Figure)
    assert_type(jxs.plot.steps(path, landscape=surface), go.Figure)
    assert_type(jxs.plot.fan(many), go.Figure)
    assert_type(jxs.plot.trainability(surface), go.Figure)
    jxs.plot.surface(surface).write_html("surface.html", config=jxs.plot.HTML_CONFIG)
    jxs.plot.write(jxs.plot.surface(surface), "surface.png", width=800)


def more_figures(
    surface: jxs.Landscape,
    found: jxs.Basins,
    fields: jxs.Derivatives,
    fits: jxs.training.Predictions,
    points: jxs.Dataset,
) -> None:
    assert_type(jxs.plot.basins(found), go.Figure)
    assert_type(jxs.plot.slopes(fields), go.Figure)
    assert_type(jxs.plot.curvature(fields), go.Figure)
    assert_type(jxs.plot.fit(surface, fits, "contour"), go.Figure)
    assert_type(jxs.plot.explore(points, w1=(-2.0, 2.0)), Explorer)
    jxs.plot.explore(points).write_html("explorer.html")


def files(surface: jxs.Landscape, path: jxs.Trajectory) -> None:
    jxs.archive.save("surface.npz", surface, path)
    loaded = jxs.archive.load("surface.npz")
    assert_type(loaded, Archive)
    assert_type(loaded.landscape, jxs.Landscape)
    assert_type(loaded.paths, tuple[jxs.Trajectory, ...])


def article() -> None:
    assert_type(jxs.article.as_published(), Experiment)
    surface, path = jxs.article.as_intended()
    assert_type(surface, jxs.Landscape)
    assert_type(path, jxs.Trajectory)
    assert_type(jxs.article.surface(jxs.absolute_error), jxs.Landscape)
    assert_type(jxs.article.path(), jxs.Trajectory)
