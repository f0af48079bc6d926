"""Landscapes and paths that tests of figures draw, and the traces that they look for."""

import numpy as np

import jaxscape as jxs


def make_landscape(n1=7, n2=5, function=lambda a, b: a**2 + 3 * b + a * b):
    """Return a landscape of a function over w1 from -2 to 1 and w2 from 0 to 4."""
    a, b = np.linspace(-2, 1, n1), np.linspace(0, 4, n2)
    loss = function(*np.meshgrid(a, b, indexing="ij"))
    axes = jxs.Axis(a, "w1"), jxs.Axis(b, "w2")
    return jxs.Landscape(loss, *axes, loss_name="squared error", method="dense")


def make_path(w1, w2, diverged=-1, stride=1, name=""):
    """Return a path with two steps per epoch and the losses 10, 11, 12, ... on evaluation data."""
    length = len(w1)
    return jxs.Trajectory(
        params=jxs.Weights(np.asarray(w1, float), np.asarray(w2, float)),
        step=stride * np.arange(length),
        training_loss=np.full(length, 99.0),
        evaluation_loss=10.0 + np.arange(length),
        diverged_step=np.int32(diverged),
        steps_per_epoch=2,
        name=name,
    )


PATH = make_path([-1, 0, 0.5], [3, 1, 2])


def make_descents(runs, diverged=()):
    """Return runs of 5 points each within the landscape, of which some diverge at the end."""
    generator = np.random.default_rng(runs)
    w1, w2 = generator.uniform(-2, 1, (runs, 5)), generator.uniform(0, 4, (runs, 5))
    loss = generator.uniform(1, 3, (runs, 5))
    diverged_step = np.full(runs, -1)
    for k in diverged:
        w1[k, 4], loss[k, 4], diverged_step[k] = np.nan, np.nan, 8
    return jxs.Descents(
        params=jxs.Weights(w1, w2),
        step=2 * np.arange(5),
        training_loss=loss,
        evaluation_loss=None,
        diverged_step=diverged_step,
        step_size=np.ones((runs, 5)),
        path_length=np.ones((runs, 5)),
        learning_rate=None,
        gradient_norm=np.ones(runs),
        steps_per_epoch=2,
    )


def make_projection(surface_loss, coordinates):
    """Return a projection onto the plane of w1 and w2, at distance 0."""
    count = len(coordinates)
    zeros = np.zeros(count)
    return jxs.Projection(
        np.asarray(coordinates, float),
        zeros,
        zeros + surface_loss,
        np.asarray(surface_loss, float),
        np.arange(count),
        1.0,
        ("w1", "w2"),
        "walk",
    )


def traces(figure, kind, name=None):
    """Return the traces of a type, and of a name if it is given."""
    return [t for t in figure.data if t.type == kind and (name is None or t.name == name)]


def points_of(figure, kind, name="descent"):
    """Return the trace of a path's recorded points, the only one of the path with hover text."""
    [trace] = [t for t in traces(figure, kind) if t.legendgroup == name and t.hovertemplate]
    return trace
