"""Facts of a grid of losses: where it is flat, and which symmetries it has."""

import numpy as np

from jaxscape.results import Axis, Landscape

# Opposite nodes along an axis, for a symmetry to be more than chance.
_FEWEST = 4


def flat_share(surface: Landscape, change: float) -> float:
    """The share of nodes at whose slope the loss would change by little from side to side.

    Args:
        surface: the grid.
        change: how little, as a part of the losses' range.
    """
    loss = np.asarray(surface.loss, float)
    axes = [np.asarray(axis.values, float) for axis in (surface.a, surface.b)]
    with np.errstate(invalid="ignore"):
        steepness = [
            np.gradient(loss, values, axis=k) * (values[-1] - values[0])
            for k, values in enumerate(axes)
        ]
        return float(np.mean(np.hypot(*steepness) <= change * _range(surface)))


def symmetries(surface: Landscape) -> list[str]:
    """Which reflections leave the losses alone, where the grid has opposite nodes, in words."""
    a, b = surface.a, surface.b
    loss = np.asarray(surface.loss, float)
    rows, columns, all_a, all_b = _opposite(a), _opposite(b), np.arange(len(a)), np.arange(len(b))
    found = []
    for name, i, j in (
        (f"({a.name}, {b.name}) → (-{a.name}, -{b.name})", rows, columns),
        (f"{a.name} → -{a.name}", rows, all_b),
        (f"{b.name} → -{b.name}", all_a, columns),
    ):
        here = loss[np.ix_(i >= 0, j >= 0)]
        if min(here.shape) >= _FEWEST and _same(surface, here, loss[np.ix_(i[i >= 0], j[j >= 0])]):
            found.append(name)
    if np.array_equal(a.values, b.values) and _same(surface, loss, loss.T):
        found.append(f"({a.name}, {b.name}) → ({b.name}, {a.name})")
    return found


def _range(surface: Landscape) -> float:
    lowest, highest = surface.lowest, surface.highest
    return 0.0 if lowest is None or highest is None else highest - lowest.loss


def _opposite(axis: Axis) -> np.ndarray:
    """(n,) for each value the index of its opposite, -1 where the axis has none."""
    values = np.asarray(axis.values, float)
    nearest = abs(values[None, :] + values[:, None]).argmin(axis=1)
    slack = 1e-3 * np.diff(values).min()
    return np.where(abs(values + values[nearest]) <= slack, nearest, -1)


def _same(surface: Landscape, here: np.ndarray, there: np.ndarray) -> bool:
    """Whether losses agree, but for the rounding of their sums."""
    spread = _range(surface)
    allowed = np.sqrt(np.finfo(surface.loss.dtype).eps) * spread
    holes = np.isfinite(here) == np.isfinite(there)
    with np.errstate(invalid="ignore"):
        return bool(spread and holes.all() and not (abs(here - there) > allowed).any())
