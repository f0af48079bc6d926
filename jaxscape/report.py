"""What is known of a surface, in plain sentences and as data that JSON holds."""

from collections.abc import Callable
from typing import Any

import jax

from jaxscape.description import Description, plain
from jaxscape.lattice import persistence
from jaxscape.network import check_is_function
from jaxscape.plane import Plane
from jaxscape.results import Landscape
from jaxscape.sentences import Sentences


def describe(
    surface: Landscape,
    loss: Callable[[Any, Any], jax.Array] | None = None,
    data: Any = None,
    plane: Plane | None = None,
    **box: tuple[float, float],
) -> Description:
    """Say what is known of a surface.

    Of the grid alone: its resolution, its lowest cell and whether that lies on the edge, its
    minima by depth, the pass between the two deepest, flat regions and symmetries. With the loss
    that it was computed from also every critical point, what is proved of them, valleys and
    limits far away, and how far off the grid is between its nodes.

    Args:
        surface: the grid.
        loss, data, plane: what it was computed from; for a function of two numbers, `Function(f)`.
        box: where to look for critical points, (lo, hi) for each of the plane's names; without
            any, where the grid is.

    Returns:
        A `Description`: `print` shows it, `.data` is ready for JSON.

    Raises:
        TypeError: not a `Landscape`, or a loss that is no function.
        ValueError: a landscape without a finite cell, a box without a loss, a box without interior,
            or a loss, data or plane that does not give the surface's own values.

    Example:
        >>> wells = jxs.Function(lambda w1, w2: (w1**2 - 1) ** 2 + (w1 - w2) ** 2)
        >>> surface = jxs.landscape(wells, None, w1=(-2, 2, 81), w2=(-2, 2, 61))
        >>> found = jxs.describe(surface, wells)
        >>> print(found.sentences[-1])
        The way from the minimum at w1 = -1, w2 = -1 to that at w1 = 1, w2 = 1 leads over the saddle
        at w1 = 0, w2 = 0, 1 above the one and 1 above the other.
        >>> [point["kind"] for point in found.data["critical_points"]]
        ['minimum', 'minimum', 'saddle']
    """
    if not isinstance(surface, Landscape):
        raise TypeError(f"surface: expected a Landscape, got {type(surface).__name__}")
    if loss is None and (box or data is not None or plane is not None):
        raise ValueError("loss: expected the surface's loss beside its data, plane and box")
    if loss is not None:
        check_is_function("loss", loss)
    shape = persistence(surface)
    said = Sentences(surface, shape)
    said.grid()
    said.symmetries()
    found = None
    if loss is not None:
        said.between_nodes(loss, data, plane)
        found = said.critical(loss, data, plane, box)
    said.way_over(found)
    return Description(tuple(said.sentences), plain(said.data), found, shape)
