"""From where most of what lies on a surface shows: plain NumPy, no plotly."""

from typing import Any

import numpy as np


def facing(
    a: np.ndarray, b: np.ndarray, loss: np.ndarray, ways: list[np.ndarray], times: float = 1.0
) -> dict[str, Any]:
    """The camera from which most of the ways, each (K, 3), shows, seen as large as may be.

    From every candidate direction a ray goes from each drawn point to the eye; where it passes
    under the surface, the point is hidden.

    Args:
        a, b: the surface's coordinates, (m1,) and (m2,) or both (m1, m2).
        loss: (m1, m2) its heights, holes as NaN.
        ways: what is to be seen, each (K, 3), NaN between pieces.
        times: how many times as far away as it might be.
    """

    def eye(azimuth: float, elevation: float) -> np.ndarray:
        flat = np.cos(elevation)
        return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])

    azimuths = np.deg2rad(np.arange(-50, 310, 15))
    elevations = np.deg2rad([30, 22, 40, 52])
    chosen = eye(azimuths[0], elevations[0])
    ways = [way for way in ways if len(way)]
    if ways:
        lows = [values.min() for values in (a, b)] + [np.nanmin(loss)]
        highs = [values.max() for values in (a, b)] + [np.nanmax(loss)]
        low, spread = np.array(lows), np.array(highs) - lows
        # The scene as it is drawn: sides 1, 1 and 0.5 around the origin.
        sides = np.array([1, 1, 0.5])
        way = np.concatenate(ways)
        # NaN between pieces, and infinite where a run overflowed before it was lost.
        way = way[np.isfinite(way).all(axis=1)]
        way = way[np.linspace(0, len(way) - 1, min(len(way), 80)).astype(int)]
        points = ((way - low) / np.where(spread > 0, spread, 1) - 0.5) * sides
        height = ((loss - low[2]) / (spread[2] or 1) - 0.5) * sides[2]
        reach = np.linspace(0.03, 1.6, 60)

        def score(direction: np.ndarray) -> float:
            x, y, z = (points[:, None, :] + reach[:, None] * direction).transpose(2, 0, 1)
            over = (abs(x) <= 0.5) & (abs(y) <= 0.5)
            i, j = (
                np.clip(((u + 0.5) * (n - 1)).round().astype(int), 0, n - 1)
                for u, n in zip((x, y), height.shape, strict=True)
            )
            with np.errstate(invalid="ignore"):
                hidden = (over & (z < height[i, j] - 0.01)).any(axis=1)
            across = np.cross([0, 0, 1], direction)
            across /= np.linalg.norm(across)
            upward = np.cross(direction, across)
            extent = np.hypot(np.ptp(points @ across), np.ptp(points @ upward))
            return float(np.mean(~hidden) + 0.3 * extent)

        candidates = [eye(azimuth, elevation) for elevation in elevations for azimuth in azimuths]
        # Higher views hide less; a path is worth looking down at only for what it shows more.
        chosen = max(candidates, key=lambda direction: score(direction) - 0.4 * direction[2] ** 2)
    # The higher, the more of the box is below the middle.
    x, y, z = times * (1.1 + 0.85 * (chosen[2] + 0.5 * np.hypot(*chosen[:2]))) * chosen
    return {"eye": {"x": x, "y": y, "z": z}, "center": {"x": 0, "y": 0, "z": -0.13}}
