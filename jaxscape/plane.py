"""A plane through parameter space: two coordinates to parameters, and back."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxscape.network import Weights


def _is_none(leaf: Any) -> bool:
    return leaf is None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Plane:
    """The parameters `origin + a·u + b·v`, for two coordinates a and b.

    A direction holds `None` for each leaf that it leaves alone: a structural zero. Whatever
    depends on those leaves only is then computed once for all the points along that direction.

    Example:
        >>> plane = jxs.Plane({"w": jnp.ones(2), "b": 0.5}, {"w": jnp.ones(2), "b": None},
        ...               {"w": None, "b": 1.0})
        >>> plane.at(2.0, 3.0)
        {'b': 3.5, 'w': Array([3., 3.], dtype=float32)}
    """

    origin: Any
    """The parameters at (0, 0)."""
    u: Any
    """The first direction: the structure of `origin`, `None` for each leaf left alone."""
    v: Any
    """The second direction, likewise."""
    names: tuple[str, str] = field(default=("a", "b"), metadata={"static": True})
    """What the two coordinates are called."""

    def at(self, a: Any, b: Any) -> Any:
        """The parameters at scalar coordinates a and b."""

        def point(origin, u, v):
            for coordinate, direction in ((a, u), (b, v)):
                if direction is not None:
                    origin = origin + coordinate * direction
            return origin

        return jax.tree.map(point, self.origin, self.u, self.v, is_leaf=_is_none)

    def check(self) -> None:
        """Refuse directions of another structure or shape than the origin, or without any leaf.

        Raises:
            ValueError: the leaf is named by its path.
        """
        structure: Any
        leaves, structure = jax.tree_util.tree_flatten_with_path(self.origin, is_leaf=_is_none)
        for name, direction in (("u", self.u), ("v", self.v)):
            along, along_structure = jax.tree.flatten(direction, is_leaf=_is_none)
            if along_structure != structure:
                raise ValueError(
                    f"plane.{name}: expected the origin's structure {structure}, "
                    f"got {along_structure}"
                )
            if all(leaf is None for leaf in along):
                raise ValueError(f"plane.{name}: expected a direction, got None for every leaf")
            for (path, leaf), step in zip(leaves, along, strict=True):
                if step is not None and jnp.shape(step) != jnp.shape(leaf):
                    raise ValueError(
                        f"plane.{name}{jax.tree_util.keystr(path)}: expected the origin's shape "
                        f"{jnp.shape(leaf)}, got {jnp.shape(step)}"
                    )


def weight_plane() -> Plane:
    """The plane of the two-weight network: its coordinates are the weights themselves.

    Example:
        >>> weight_plane().at(-1.0, 0.5)
        Weights(w1=-1.0, w2=0.5)
    """
    # Python floats: they take the dtype of the coordinates, whatever it is.
    return Plane(Weights(0.0, 0.0), Weights(1.0, None), Weights(None, 1.0), names=("w1", "w2"))
