"""Project training paths onto planes."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import (
    Params,
    check_same_structure,
    combine,
    is_parameter,
    moving_leaves,
    zip_with_paths,
)
from jaxscape.data.stream import mean_over
from jaxscape.grid.axes import computed_dtype
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import check_is_function, scalar, scalars
from jaxscape.planes.geometry import nearest_points
from jaxscape.planes.plane import Plane
from jaxscape.results.trajectory import Projection, Trajectory
from jaxscape.training.recorder import Recorder

# The number of bytes of the points whose losses are computed in one call.
_BLOCK_BYTES = 2**26


@overload
def project(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    plane: Plane,
    path: Trajectory | Recorder | Params,
) -> Projection: ...
@overload
def project(
    loss: Callable[[Any, Any], Mapping[str, jax.Array]],
    data: Any,
    plane: Plane,
    path: Trajectory | Recorder | Params,
) -> dict[str, Projection]: ...
def project(
    loss: Callable[[Any, Any], jax.Array | Mapping[str, jax.Array]],
    data: Any,
    plane: Plane,
    path: Trajectory | Recorder | Params,
) -> Projection | dict[str, Projection]:
    """Project a training path onto a plane: coordinates, distance to the plane, and loss.

    A point off the plane has a different loss than its projection, which lies on the surface. The
    result holds both losses; figures draw the point's own.

    Args:
        loss: (params, data) -> scalar, the loss of the surface, or a dict of several scalars.
        data: the data of the surface, or a `Stream`. Each batch of a stream is loaded once for all
            points.
        plane: a plane through parameters of the path's structure.
        path: a result of `descend` or a `Recorder`, whose points from a divergence on are left out;
            or a pytree of parameters, each floating leaf with a leading axis of T points. Memory
            maps are read piece by piece.

    Returns:
        A `Projection`, which `plot.surface` and `plot.contour` draw. For a loss with several
        scalars, a dict of them by name.

    Raises:
        TypeError: `loss` is not a function or does not return floating scalars.
        ValueError: The path's parameters differ from the plane's in structure or shape, or the path
            has no finite point.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> projection = jxs.project(jxs.squared_error, data, jxs.Plane.principal(path), path)
        >>> bool(projection.distance.max() < 1e-6), round(projection.explained, 6)
        (True, 1.0)
    """
    check_is_function("loss", loss)
    check_data(loss, data)
    name, epoch, points = "", None, path
    if isinstance(path, Trajectory):
        path = path.until_divergence()
        name, epoch, points = path.name, path.epoch, path.params
    elif isinstance(path, Recorder):
        epoch, points = path.epoch, path.path(plane.origin)
    count = _check_points(plane, points)
    coordinates, distance, explained = nearest_points(plane.origin, plane.u, plane.v, points, count)
    # The losses are computed in the dtype of the surface.
    at = np.asarray(coordinates, computed_dtype(plane, points))
    own, below = _losses(loss, plane, points, at, data)

    def make_projection(own: np.ndarray, below: np.ndarray) -> Projection:
        return Projection(
            coordinates,
            distance,
            own,
            below,
            np.arange(count, dtype=float) if epoch is None else epoch[:count],
            explained,
            plane.names,
            name,
        )

    if isinstance(own, dict):
        return {key: make_projection(own[key], below[key]) for key in own}
    return make_projection(own, below)


def _check_points(plane: Plane, points: Params) -> int:
    """Check that a path's points have the plane's structure and shapes, and return their number."""
    check_same_structure("path", "the plane's structure", plane.origin, points)
    counts = set()
    for tree_path, origin, leaf in zip_with_paths(plane.origin, points):
        if not is_parameter(origin):
            continue
        if jnp.shape(leaf)[1:] != jnp.shape(origin) or jnp.ndim(leaf) == 0:
            raise ValueError(
                f"path{tree_path}: expected shape (T, {', '.join(map(str, jnp.shape(origin)))}), "
                f"got {jnp.shape(leaf)}"
            )
        counts.add(len(leaf))
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            f"path: expected the same number of points, 1 or more, in every leaf, "
            f"got {sorted(counts)}"
        )
    return counts.pop()


def _losses(loss: Callable, plane: Plane, points: Params, at: np.ndarray, data: Any) -> Any:
    """Compute the losses at all points and at their projections.

    Returns:
        Two arrays (T,), or two dicts of them by name.
    """
    # The leaves that are not parameters, such as functions, are those of the plane's origin.
    moving = jax.tree.map(np.asarray, moving_leaves(plane.origin, points))
    count = len(at)
    bytes_per_point = sum(leaf.nbytes for leaf in jax.tree.leaves(moving)) // count
    max_size = max(1, min(count, _BLOCK_BYTES // max(1, bytes_per_point)))
    block_count = -(-count // max_size)
    # Blocks of equal size use one compiled program. The last block repeats its last point.
    size = -(-count // block_count)
    blocks = [np.minimum(np.arange(k, k + size), count - 1) for k in range(0, count, size)]

    def losses_of_batch(batch: Any) -> Any:
        parts = []
        for indices in blocks:
            block = jax.tree.map(lambda leaf, k=indices: leaf[k], moving)
            # Wait for the result, so that only one block is in memory.
            parts.append(jax.device_get(_losses_of_block(loss, plane, block, at[indices], batch)))
        return jax.tree.map(lambda *part: np.concatenate(part)[:count], *parts)

    return mean_over(data, losses_of_batch)


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _losses_of_block(loss: Callable, plane: Plane, points: Params, at: jax.Array, data: Any) -> Any:
    """Compute the losses at some points, and at the points of the plane with coordinates `at`."""

    def own(point: Params) -> Any:
        return _scalars(loss(combine(point, plane.origin), data))

    def below(coordinates: jax.Array) -> Any:
        return _scalars(loss(plane.at(coordinates[0], coordinates[1]), data))

    # `lax.map` evaluates one point at a time: a point may have a million parameters.
    return jax.lax.map(own, points), jax.lax.map(below, at)


def _scalars(value: Any) -> Any:
    """Check and return a loss's scalar, or its dict of scalars by name."""
    if isinstance(value, Mapping) and value:
        return {str(name): scalar(part, f"loss[{name!r}]") for name, part in value.items()}
    return scalars(value)
