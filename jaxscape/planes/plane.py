"""A plane through parameter space: two coordinates to parameters, and back."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxscape._util.checks import check_key
from jaxscape._util.pytree import (
    check_alike,
    check_finite,
    dot,
    is_array,
    is_key,
    is_none,
    is_parameter,
)
from jaxscape.losses.two_weights import Weights
from jaxscape.planes.directions import (
    OutputAxis,
    are_along_one_line,
    at_right_angle,
    check_direction,
    check_directions,
    orthonormal,
    random_direction,
    way,
)
from jaxscape.planes.geometry import nearest, principal_plane
from jaxscape.results.landscape import Mark, marks_of, units_of

_ORIGIN = (Mark(0, 0, "origin"),)
_UNITS = {"filter": "filter-normalized", "layer": "layer-normalized", None: "random"}


@jax.tree_util.register_pytree_with_keys_class
class Plane:
    """The parameters `origin + a·u + b·v`, for two coordinates a and b.

    A direction holds `None` for each leaf that it leaves alone: a structural zero. Whatever
    depends on those leaves only is then computed once for all the points along that direction.

    Leaves of the origin that are not floating numbers (functions, strings, whole numbers, random
    keys) stay as they are at every point.

    Units and marks are for figures. A plane that JAX rebuilds, as `jax.tree.map` does, has none.

    Args:
        origin: the parameters at (0, 0), any pytree.
        u: the first direction: the structure of `origin`, `None` for each leaf left alone.
        v: the second direction, likewise.
        names: what the two coordinates are called.
        units: what 1 along each of them is, in words.
        marks: places of the plane that figures show, each (a, b, name).

    Raises:
        TypeError: a direction along a leaf that does not hold floating numbers; units or marks
            that are not as said above.
        ValueError: directions of another structure or shape than the origin, not finite, zero,
            or collinear; parameters or marks that are not finite. The leaf is named by its path.

    Example:
        >>> plane = jxs.Plane({"w": jnp.ones(2), "b": 0.5}, {"w": jnp.ones(2), "b": None},
        ...               {"w": None, "b": 1.0})
        >>> plane.at(2.0, 3.0)
        {'b': 3.5, 'w': Array([3., 3.], dtype=float32)}
        >>> plane
        Plane(a moves 2, b 1 of 3 parameters)
    """

    u: Any
    v: Any
    names: tuple[str, str]
    units: tuple[str, str]
    marks: tuple[Mark, ...]

    def __init__(
        self,
        origin: Any,
        u: Any,
        v: Any,
        names: tuple[str, str] = ("a", "b"),
        units: tuple[str, str] = ("", ""),
        marks: Sequence[tuple[float, float, str]] = (),
    ):
        self._arrays = jax.tree.map(lambda x: x if is_array(x) else None, origin)
        # What is not traced is compared when it is decided whether to compile anew.
        leaves, self._structure = jax.tree.flatten(origin, is_leaf=is_none)
        self._others = tuple(None if is_array(leaf) else leaf for leaf in leaves)
        self.u, self.v, self.names = u, v, names
        self.units, self.marks = units_of(units), marks_of(marks)
        check_directions(origin, u, v)

    def __repr__(self) -> str:
        there = [leaf for leaf in jax.tree.leaves(self.origin) if is_parameter(leaf)]
        u, v, n = (sum(map(np.size, jax.tree.leaves(p))) for p in (self.u, self.v, there))
        a, b = self.names
        return f"Plane({a} moves {u:,}, {b} {v:,} of {n:,} parameters)"

    @property
    def origin(self) -> Any:
        """The parameters at (0, 0)."""
        arrays = jax.tree.leaves(self._arrays, is_leaf=is_none)
        pairs = zip(arrays, self._others, strict=True)
        leaves = [other if array is None else array for array, other in pairs]
        return jax.tree.unflatten(self._structure, leaves)

    # Rebuilding from leaves skips the checks: transformations put placeholders where arrays were.
    # What figures say is left out, so that planes that differ in it alone compile nothing.
    def tree_flatten_with_keys(self):
        children = (("origin", self._arrays), ("u", self.u), ("v", self.v))
        keyed = [(jax.tree_util.GetAttrKey(name), child) for name, child in children]
        return keyed, (self._others, self._structure, self.names)

    @classmethod
    def tree_unflatten(cls, static, children):
        plane = object.__new__(cls)
        plane._arrays, plane.u, plane.v = children
        plane._others, plane._structure, plane.names = static
        plane.units, plane.marks = ("", ""), ()
        return plane

    @classmethod
    def random(
        cls,
        key: jax.Array,
        params: Any,
        *,
        normalize: Literal["filter", "layer"] | None = "filter",
        output_axis: OutputAxis = -1,
        include_vectors: bool = False,
        leaves: Callable[[str], bool] | None = None,
    ) -> "Plane":
        """The plane of two random directions through parameters.

        Args:
            key: a JAX random key.
            params: the parameters at (0, 0).
            normalize: "filter" scales every filter of a direction to the norm of the parameters'
                own (Li et al. 2018, arXiv 1712.09913, section 4), so that 1 along an axis is as
                far as a filter is long; "layer" scales every leaf as a whole; None leaves normal
                numbers of variance 1.
            output_axis: the axis of a leaf along which its filters, or a dense layer's neurons,
                lie: -1 as in Flax and Haiku, 0 as in Equinox and PyTorch; several of them, as
                (0, -1) of layers stacked along axis 0; or path of a leaf -> axis or axes.
            include_vectors: whether leaves of less than two axes, biases and norms' scales, move too,
                each scaled as a whole; batch statistics as well, unless `leaves` keeps them.
            leaves: path of a leaf, as `jax.tree_util.keystr` writes it, -> whether it may move.

        Raises:
            TypeError, ValueError: as `Plane`; an unknown `normalize`; an axis that a leaf does not
                have; no leaf that moves.

        Example:
            >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
            >>> plane = jxs.Plane.random(jax.random.key(0), params)
            >>> plane.u["bias"], np.linalg.norm(plane.u["kernel"], axis=0).round(3)
            (None, array([1.732, 1.732], dtype=float32))
        """
        check_key(key)
        options: Any = {
            "normalize": normalize,
            "output_axis": output_axis,
            "include_vectors": include_vectors,
        }
        u, v = (
            random_direction(k, params, **options, leaves=leaves) for k in jax.random.split(key)
        )
        return cls(params, u, v, units=(_UNITS[normalize],) * 2, marks=_ORIGIN)

    @classmethod
    def through(cls, first: Any, second: Any, third: Any) -> "Plane":
        """The plane through three solutions: they lie at (0, 0), (1, 0) and (0, 1).

        Args:
            first, second, third: parameters of one structure. Leaves that are not floating numbers
                are the first's.

        Raises:
            TypeError, ValueError: solutions that do not fit, are not finite, equal to the first,
                or on one line.

        Example:
            >>> plane = jxs.Plane.through({"w": 1.0, "b": 0.0}, {"w": 2.0, "b": 0.0},
            ...                           {"w": 1.0, "b": 4.0})
            >>> plane.at(0.0, 1.0)
            {'b': Array(4., dtype=float32...), 'w': Array(1., dtype=float32...)}
        """
        u, v = way("second", first, second), way("third", first, third)
        if are_along_one_line(u, v):
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
        cls, first: Any, second: Any, direction: Any, *, orthogonal: bool = False
    ) -> "Plane":
        """The plane through two solutions, at (0, 0) and (1, 0), and along another direction.

        Args:
            first, second: parameters of one structure. Leaves that are not floating numbers are
                the first's.
            direction: a JAX random key for a filter-normalized random one, from the first; or a
                direction, as `random_direction` draws them otherwise.
            orthogonal: whether the direction's part along the line through the two is taken off.

        Raises:
            TypeError, ValueError: solutions that do not fit, are not finite, or equal; a direction
                that does not fit, or along the line through them.

        Example:
            >>> plane = jxs.Plane.between([0.0, 0.0], [2.0, 0.0], [3.0, 1.0], orthogonal=True)
            >>> plane.at(1.0, 0.0), plane.v
            ([Array(2., dtype=float32...), ...], [Array(0., dtype=float32...), ...])
        """
        u, unit = way("second", first, second), ""
        if is_key(direction):
            direction, unit = random_direction(direction, first), _UNITS["filter"]
        check_direction("direction", first, direction)
        if are_along_one_line(u, direction):
            raise ValueError(
                "direction: expected another than from first to second, got one along the same line"
            )
        if orthogonal:
            direction = at_right_angle(u, direction)
            unit = ", ".join(filter(None, (unit, "orthogonal")))
        marks = ((0, 0, "first"), (1, 0, "second"))
        return cls(first, u, direction, units=("first → second", unit), marks=marks)

    @classmethod
    def principal(cls, path: Any) -> "Plane":
        """The plane in which a path varies most, through its last point.

        Args:
            path: a `Trajectory`, or a pytree of parameters, each floating array with a leading
                axis of T points.

        Returns:
            The plane of the two principal directions of the path's points (Li et al. 2018,
            section 7), of length 1 and at a right angle. They come from the points' T × T matrix
            of inner products.

        Raises:
            ValueError: a path that does not leave a line, to rounding; points that are not finite.

        Example:
            >>> t = jnp.linspace(0.0, 3.0, 50)
            >>> plane = jxs.Plane.principal({"w": jnp.stack([t, jnp.sin(t), 0 * t], axis=1)})
            >>> abs(plane.u["w"]).round(3)
            Array([..., 0.   ], dtype=float32)
        """
        last, u, v = principal_plane(path)
        return cls(last, u, v, units=("distance", "distance"))

    def orthonormal(self) -> "Plane":
        """The same plane with directions of length 1 at a right angle, the first kept.

        Example:
            >>> plane = jxs.Plane([0.0, 0.0], [2.0, None], [1.0, 5.0]).orthonormal()
            >>> float(plane.u[0]), float(plane.v[0]), float(plane.v[1])
            (1.0, 0.0, 1.0)
        """
        u, v = orthonormal(self.u, self.v)
        marks = [
            (a * dot(u, self.u) + b * dot(u, self.v), b * dot(v, self.v), name)
            for a, b, name in self.marks
        ]
        return Plane(self.origin, u, v, self.names, ("distance", "distance"), marks)

    def at(self, a: Any, b: Any) -> Any:
        """The parameters at scalar coordinates a and b."""

        def point(origin, u, v):
            for coordinate, direction in ((a, u), (b, v)):
                if direction is not None:
                    origin = origin + coordinate * direction
            return origin

        return jax.tree.map(point, self.origin, self.u, self.v, is_leaf=is_none)

    def coordinates(self, params: Any) -> tuple[float, float, float]:
        """Where the plane comes nearest to parameters, and how far from them.

        Args:
            params: parameters of the origin's structure.

        Returns:
            a, b and the distance, over all floating leaves, also those that the plane leaves alone;
            computed in float64.

        Raises:
            ValueError: parameters of another structure or shape, or not finite.

        Example:
            >>> plane = jxs.Plane([0.0, 0.0, 0.0], [2.0, None, None], [1.0, 1.0, None])
            >>> plane.coordinates([4.0, 2.0, 7.0])
            (1.0, 2.0, 7.0)
        """
        check_alike("params", self.origin, params, "the plane's")
        check_finite("params", params)
        point = jax.tree.map(lambda x: np.asarray(x)[None] if is_parameter(x) else x, params)
        at, distance, _ = nearest(self.origin, self.u, self.v, point, 1)
        return float(at[0, 0]), float(at[0, 1]), float(distance[0])


def weight_plane() -> Plane:
    """The plane of the two-weight network: its coordinates are the weights themselves.

    Example:
        >>> weight_plane().at(-1.0, 0.5)
        Weights(w1=-1.0, w2=0.5)
    """
    # Python floats: they take the dtype of the coordinates, whatever it is.
    return Plane(Weights(0.0, 0.0), Weights(1.0, None), Weights(None, 1.0), names=("w1", "w2"))
