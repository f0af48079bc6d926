"""A path seen from a plane: where it passes, how far off the plane, and on which losses."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import check_structure, is_none, is_parameter, paired
from jaxscape.data.stream import mean_over
from jaxscape.grid.axes import dtype_of
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import check_is_function, scalar, scalars
from jaxscape.planes.geometry import nearest
from jaxscape.planes.plane import Plane
from jaxscape.results.trajectory import Projection, Trajectory
from jaxscape.training.recorder import Recorder

# Bytes of the points whose losses one call computes.
_BLOCK_BYTES = 2**26


def project(loss: Callable[[Any, Any], jax.Array], data: Any, plane: Plane, path: Any) -> Any:
    """Where a path passes over a plane, how far from it, and at which losses.

    A point far off the plane has another loss than the surface below it. Both are kept, and
    figures draw the first.

    Args:
        loss: (params, data) -> scalar, the surface's; or a dictionary of several by name.
        data: what the loss takes, the surface's; also a `Stream`, each of whose batches is loaded
            once for all points.
        plane: a plane through parameters of the path's structure.
        path: what `descend` returned, or a `Recorder`, of a run that diverged its points before; or
            a pytree of parameters, each floating array with a leading axis of T points. Memory
            maps are read piece by piece.

    Returns:
        A `Projection`, for `plot.surface` and `plot.contour`. Of a loss with several scalars, a
        dictionary of them.

    Raises:
        TypeError: a loss that is no function with a floating scalar result.
        ValueError: a path of other parameters than the plane's, or without a finite point.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> seen = jxs.project(jxs.squared_error, data, jxs.Plane.principal(path), path)
        >>> bool(seen.distance.max() < 1e-6), round(seen.explained, 6)
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
    coordinates, distance, explained = nearest(plane.origin, plane.u, plane.v, points, count)
    at = np.asarray(coordinates, dtype_of(plane, points))
    own, below = _losses(loss, plane, points, at, data)

    def with_losses(own: np.ndarray, below: np.ndarray) -> Projection:
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
        return {key: with_losses(own[key], below[key]) for key in own}
    return with_losses(own, below)


def _check_points(plane: Plane, points: Any) -> int:
    """How many points a path has; refused if they are not of the plane's structure and shapes."""
    check_structure("path", "the plane's structure", plane.origin, points)
    counts = set()
    for where, here, there in paired(plane.origin, points):
        if not is_parameter(here):
            continue
        if jnp.shape(there)[1:] != jnp.shape(here) or jnp.ndim(there) == 0:
            raise ValueError(
                f"path{where}: expected shape (T, {', '.join(map(str, jnp.shape(here)))}), "
                f"got {jnp.shape(there)}"
            )
        counts.add(len(there))
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"path: expected points, as many in every leaf, got {sorted(counts)}")
    return counts.pop()


def _losses(loss: Callable, plane: Plane, points: Any, at: np.ndarray, data: Any) -> Any:
    """The losses at every point, (T,) or several by name, and those of the plane below them."""
    # Functions and other leaves that are no parameters are the plane's.
    moving = jax.tree.map(
        lambda o, x: np.asarray(x) if is_parameter(o) else None,
        plane.origin,
        points,
        is_leaf=is_none,
    )
    count = len(at)
    bytes_each = sum(leaf.nbytes for leaf in jax.tree.leaves(moving)) // count
    blocks = -(-count // max(1, min(count, _BLOCK_BYTES // max(1, bytes_each))))
    # Blocks of one size compile once; the last has its last point several times.
    size = -(-count // blocks)
    chosen = [np.minimum(np.arange(k, k + size), count - 1) for k in range(0, count, size)]

    def of_batch(batch: Any) -> Any:
        parts = []
        for k in chosen:
            block = jax.tree.map(lambda x, k=k: x[k], moving)
            # Waited for: the next blocks would be in memory meanwhile.
            parts.append(jax.device_get(_block(loss, plane, block, at[k], batch)))
        return jax.tree.map(lambda *part: np.concatenate(part)[:count], *parts)

    return mean_over(data, of_batch)


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _block(loss: Callable, plane: Plane, points: Any, at: jax.Array, data: Any) -> Any:
    """The losses at some points, and at the points of the plane below them."""

    def own(point: Any) -> jax.Array:
        params = jax.tree.map(
            lambda o, x: o if x is None else x, plane.origin, point, is_leaf=is_none
        )
        return _scalars(loss(params, data))

    # One after the other: a point may have a million parameters.
    return jax.lax.map(own, points), jax.lax.map(
        lambda ab: _scalars(loss(plane.at(ab[0], ab[1]), data)), at
    )


def _scalars(value: Any) -> Any:
    """What a loss returned: one scalar, or several by name."""
    if isinstance(value, Mapping) and value:
        return {str(name): scalar(part, f"loss[{name!r}]") for name, part in value.items()}
    return scalars(value)
