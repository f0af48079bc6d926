"""A plane through parameter space: two coordinates to parameters, and back."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxscape._util.checks import Key, check_key
from jaxscape._util.pytree import (
    Params,
    Static,
    check_finite,
    check_same_shapes,
    is_none,
    is_parameter,
    split_arrays,
)
from jaxscape.losses.two_weights import Weights
from jaxscape.planes.directions import (
    Direction,
    Normalize,
    OutputAxis,
    are_parallel,
    check_direction,
    check_plane,
    direction_between,
    dot,
    is_key,
    orthogonal_part,
    orthonormalize,
    random_direction,
)
from jaxscape.planes.geometry import nearest_points, principal_plane
from jaxscape.results.landscape import Mark, check_marks, check_units
from jaxscape.results.trajectory import Trajectory

_ORIGIN = (Mark(0, 0, "origin"),)
_UNITS = {"filter": "filter-normalized", "layer": "layer-normalized", None: "random"}


@jax.tree_util.register_pytree_with_keys_class
class Plane:
    """The parameters `origin + a·u + b·v`, for two coordinates a and b.

    A direction has `None` for each leaf that it does not change. Values that depend only on such
    leaves are computed once for all points along that direction.

    Leaves of the origin that are not floating numbers (functions, strings, whole numbers, random
    keys) are the same at every point.

    Units and marks are for figures. A plane that JAX rebuilds, as in `jax.tree.map`, has none.

    Args:
        origin: the parameters at (0, 0), any pytree.
        u: the first direction, a pytree of the structure and shapes of `origin`, with `None` for
            each leaf that does not move.
        v: the second direction, of the same form.
        names: the names of the two coordinates.
        units: the meaning of one unit of each coordinate, in words.
        marks: points on the plane that figures show, each (a, b, name).

    Raises:
        TypeError: A direction moves a leaf that does not consist of floating numbers, `units` is
            not two strings, or a mark is not two numbers and a string.
        ValueError: The directions differ from the origin in structure or shape, or they are not
            finite, zero or parallel; or the origin or the marks are not finite. The message names
            the tree path.

    Example:
        >>> plane = jxs.Plane({"w": jnp.ones(2), "b": 0.5}, {"w": jnp.ones(2), "b": None},
        ...               {"w": None, "b": 1.0})
        >>> plane.at(2.0, 3.0)
        {'b': 3.5, 'w': Array([3., 3.], dtype=float32)}
        >>> plane
        Plane(a moves 2, b 1 of 3 parameters)
    """

    u: Direction
    v: Direction
    names: tuple[str, str]
    units: tuple[str, str]
    marks: tuple[Mark, ...]

    def __init__(
        self,
        origin: Params,
        u: Direction,
        v: Direction,
        names: tuple[str, str] = ("a", "b"),
        units: tuple[str, str] = ("", ""),
        marks: Sequence[tuple[float, float, str]] = (),
    ):
        # JAX compares the static part when it decides whether to compile again.
        self._arrays, self._static = split_arrays(origin)
        self.u, self.v, self.names = u, v, names
        self.units, self.marks = check_units(units), check_marks(marks)
        check_plane(origin, u, v)

    def __repr__(self) -> str:
        floating = [leaf for leaf in jax.tree.leaves(self.origin) if is_parameter(leaf)]
        u, v, n = (sum(map(np.size, jax.tree.leaves(p))) for p in (self.u, self.v, floating))
        a, b = self.names
        return f"Plane({a} moves {u:,}, {b} {v:,} of {n:,} parameters)"

    @property
    def origin(self) -> Params:
        """The parameters at (0, 0)."""
        return self._static.with_arrays(self._arrays)

    # Rebuilding from leaves skips the checks, because transformations replace arrays by
    # placeholders. Units and marks are left out, so that planes that differ only in them share
    # compiled code. The digests of saved grids depend on this tuple's text: do not change it.
    def tree_flatten_with_keys(self):
        children = (("origin", self._arrays), ("u", self.u), ("v", self.v))
        keyed = [(jax.tree_util.GetAttrKey(name), child) for name, child in children]
        return keyed, (self._static.leaves, self._static.structure, self.names)

    @classmethod
    def tree_unflatten(cls, static, children):
        plane = object.__new__(cls)
        plane._arrays, plane.u, plane.v = children
        leaves, structure, plane.names = static
        plane._static = Static(structure, leaves)
        plane.units, plane.marks = ("", ""), ()
        return plane

    @classmethod
    def random(
        cls,
        key: Key,
        params: Params,
        *,
        normalize: Normalize = "filter",
        output_axis: OutputAxis = -1,
        include_vectors: bool = False,
        leaves: Callable[[str], bool] | None = None,
    ) -> "Plane":
        """Return the plane of two random directions through parameters.

        Args:
            key: a JAX random key.
            params: the parameters at (0, 0).
            normalize: "filter" scales each filter of a direction to the norm of the corresponding
                filter of `params` (Li et al. 2018, arXiv 1712.09913, section 4); "layer" scales
                each leaf as a whole; None keeps the standard normal numbers.
            output_axis: the axis of a leaf along which its filters (or a dense layer's neurons)
                are: -1 as in Flax and Haiku, 0 as in Equinox and PyTorch; several axes, such as
                (0, -1) for layers stacked along axis 0; or a function of the tree path that returns
                either.
            include_vectors: whether leaves with fewer than two axes move too, such as biases and
                the scales of normalization layers, each scaled as a whole. Batch statistics are
                among them, unless `leaves` excludes them.
            leaves: tree path, as `jax.tree_util.keystr` writes it -> whether the leaf may move.

        Returns:
            The plane, with the mark "origin" at (0, 0).

        Raises:
            TypeError: `key` is not a JAX random key.
            ValueError: `normalize` is unknown, a leaf does not have an axis of `output_axis`, no
                leaf moves, or the parameters are not finite.

        Example:
            >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
            >>> plane = jxs.Plane.random(jax.random.key(0), params)
            >>> plane.u["bias"], np.linalg.norm(plane.u["kernel"], axis=0).round(3)
            (None, array([1.732, 1.732], dtype=float32))
        """
        check_key(key)
        u, v = (
            random_direction(
                k,
                params,
                normalize=normalize,
                output_axis=output_axis,
                include_vectors=include_vectors,
                leaves=leaves,
            )
            for k in jax.random.split(key)
        )
        unit = _UNITS[normalize]
        return cls(params, u, v, units=(unit, unit), marks=_ORIGIN)

    @classmethod
    def through(cls, first: Params, second: Params, third: Params) -> "Plane":
        """Return the plane through three solutions, which lie at (0, 0), (1, 0) and (0, 1).

        Args:
            first: parameters. Leaves that are not floating numbers are taken from these.
            second: parameters of the same structure.
            third: parameters of the same structure.

        Returns:
            The plane, with the three solutions as marks.

        Raises:
            TypeError: A leaf is floating in the first solution only.
            ValueError: The solutions differ in structure or shape, are not finite, lie on a line,
                or one equals the first.

        Example:
            >>> plane = jxs.Plane.through({"w": 1.0, "b": 0.0}, {"w": 2.0, "b": 0.0},
            ...                           {"w": 1.0, "b": 4.0})
            >>> plane.at(0.0, 1.0)
            {'b': Array(4., dtype=float32...), 'w': Array(1., dtype=float32...)}
        """
        u, v = (
            direction_between(name, first, other)
            for name, other in (("second", second), ("third", third))
        )
        if are_parallel(u, v):
            raise ValueError(
                "third: expected a point off the line through first and second, got one on it"
            )
        return cls(
            first,
            u,
            v,
            units=("first → second", "first → third"),
            marks=((0, 0, "first"), (1, 0, "second"), (0, 1, "third")),
        )

    @classmethod
    def between(
        cls, first: Params, second: Params, direction: Key | Direction, *, orthogonal: bool = False
    ) -> "Plane":
        """Return the plane through two solutions, at (0, 0) and (1, 0), and along a direction.

        Args:
            first: parameters. Leaves that are not floating numbers are taken from these.
            second: parameters of the same structure.
            direction: a direction; or a JAX random key, to draw a filter-normalized one at `first`.
                `random_direction` draws directions of other kinds.
            orthogonal: whether to remove the direction's component along the line through the two.

        Returns:
            The plane, with the two solutions as marks.

        Raises:
            TypeError: A leaf is floating in the first solution only, or the direction moves a leaf
                that does not consist of floating numbers.
            ValueError: The solutions differ in structure or shape, are not finite, or are equal; or
                the direction does not fit them, or is parallel to the line through them.

        Example:
            >>> plane = jxs.Plane.between([0.0, 0.0], [2.0, 0.0], [3.0, 1.0], orthogonal=True)
            >>> plane.at(1.0, 0.0), plane.v
            ([Array(2., dtype=float32...), ...], [Array(0., dtype=float32...), ...])
        """
        u, unit = direction_between("second", first, second), ""
        if is_key(direction):
            direction, unit = random_direction(direction, first), _UNITS["filter"]
        check_direction("direction", first, direction)
        if are_parallel(u, direction):
            raise ValueError(
                "direction: expected one that is not parallel to the line from first to second, "
                "got a parallel one"
            )
        if orthogonal:
            direction = orthogonal_part(u, direction)
            unit = ", ".join(filter(None, (unit, "orthogonal")))
        marks = ((0, 0, "first"), (1, 0, "second"))
        return cls(first, u, direction, units=("first → second", unit), marks=marks)

    @classmethod
    def principal(cls, path: Trajectory | Params) -> "Plane":
        """Return the plane in which a path varies most, through its last point.

        Args:
            path: a `Trajectory`, of which the points before divergence are used; or a pytree of
                parameters, each floating array with a leading axis of T ≥ 3 points.

        Returns:
            The plane of the path's first two principal directions (Li et al. 2018, section 7),
            which are orthonormal. They are computed from the T × T matrix of inner products.

        Raises:
            ValueError: There are fewer than three points, or they lie on a line, up to rounding, or
                are not finite.

        Example:
            >>> t = jnp.linspace(0.0, 3.0, 50)
            >>> plane = jxs.Plane.principal({"w": jnp.stack([t, jnp.sin(t), 0 * t], axis=1)})
            >>> abs(plane.u["w"]).round(3)
            Array([..., 0.   ], dtype=float32)
        """
        last, u, v = principal_plane(path)
        return cls(last, u, v, units=("distance", "distance"))

    def orthonormal(self) -> "Plane":
        """Return the same plane with orthonormal directions, the first along `u`.

        Distances on the plane are then distances in parameter space. Marks stay at the same points.

        Example:
            >>> plane = jxs.Plane([0.0, 0.0], [2.0, None], [1.0, 5.0]).orthonormal()
            >>> float(plane.u[0]), float(plane.v[0]), float(plane.v[1])
            (1.0, 0.0, 1.0)
        """
        u, v = orthonormalize(self.u, self.v)
        marks = [
            (a * dot(u, self.u) + b * dot(u, self.v), b * dot(v, self.v), name)
            for a, b, name in self.marks
        ]
        return Plane(self.origin, u, v, self.names, ("distance", "distance"), marks)

    def at(self, a: ArrayLike, b: ArrayLike) -> Params:
        """Return the parameters `origin + a·u + b·v` at scalar coordinates a and b.

        Args:
            a: the first coordinate, a scalar.
            b: the second coordinate, a scalar.
        """

        def point(leaf: Any, u: Any, v: Any) -> Any:
            for coordinate, step in ((a, u), (b, v)):
                if step is not None:
                    leaf = leaf + coordinate * step
            return leaf

        return jax.tree.map(point, self.origin, self.u, self.v, is_leaf=is_none)

    def coordinates(self, params: Params) -> tuple[float, float, float]:
        """Project parameters onto the plane.

        Args:
            params: parameters of the origin's structure.

        Returns:
            The coordinates a and b of the nearest point, and the distance to it, computed in
            float64. The distance includes floating leaves that the plane does not move.

        Raises:
            TypeError: A leaf is floating in the origin only.
            ValueError: The parameters differ from the origin in structure or shape, or are not
                finite.

        Example:
            >>> plane = jxs.Plane([0.0, 0.0, 0.0], [2.0, None, None], [1.0, 1.0, None])
            >>> plane.coordinates([4.0, 2.0, 7.0])
            (1.0, 2.0, 7.0)
        """
        check_same_shapes("params", self.origin, params, "the plane's")
        check_finite("params", params)
        point = jax.tree.map(lambda x: np.asarray(x)[None] if is_parameter(x) else x, params)
        at, distance, _ = nearest_points(self.origin, self.u, self.v, point, 1)
        return float(at[0, 0]), float(at[0, 1]), float(distance[0])


def weight_plane() -> Plane:
    """Return the plane of the two-weight network, whose coordinates are the weights.

    Example:
        >>> weight_plane().at(-1.0, 0.5)
        Weights(w1=-1.0, w2=0.5)
    """
    # Python floats take the dtype of the coordinates.
    return Plane(Weights(0.0, 0.0), Weights(1.0, None), Weights(None, 1.0), names=("w1", "w2"))
