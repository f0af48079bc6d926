"""What figures of surfaces that turn have in common: paths a hair above them, light and scene.

From where most of what lies on a surface shows: plain NumPy, no plotly.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape.plot.parts import layout, paths
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Landscape

_MOST_TICKS = 4
_FINEST = 3e-6
"""Heights closer together, in parts of themselves, are torn by a browser's float32."""
# Ticks that are not seen move their numbers off the first ones of the next axis.
_HEIGHTS = {"title_text": "loss", "ticks": "outside", "tickcolor": "rgba(0, 0, 0, 0)"}
_BACK = 1.12
"""How far the camera moves back for them."""
LIGHTING = {"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.8}


def add_polyline(
    figure: go.Figure,
    way: np.ndarray,
    color: str,
    width: float,
    dash: str | None = None,
    **more: Any,
) -> None:
    """Draw a line, (K, 3), NaN between its pieces; named ones are in the legend."""
    x, y, z = way.T
    figure.add_scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        line={"color": color, "width": width, "dash": dash},
        hoverinfo="skip",
        **{"showlegend": "name" in more} | more,
    )


def add_lone_cells(
    figure: go.Figure,
    a: np.ndarray,
    b: np.ndarray,
    heights: np.ndarray,
    colors: np.ndarray,
    ends: tuple[float, float],
    told: np.ndarray | None,
) -> list[str]:
    """Draw as points the finite cells that no square of four has, and say how many they are.

    Plotly draws a surface where all four corners of a square are finite, and nothing elsewhere.

    Args:
        figure: with the surface alone.
        a, b: its coordinates, (m1,) and (m2,) or both (m1, m2).
        heights, colors: (m1, m2), holes as NaN.
        ends: of the scale of colors.
        told: (m1, m2) what hover tells beside the height, if anything.
    """
    known = np.isfinite(heights)
    squares = np.pad(known[1:, 1:] & known[1:, :-1] & known[:-1, 1:] & known[:-1, :-1], 1)
    lone = known & ~(squares[1:, 1:] | squares[1:, :-1] | squares[:-1, 1:] | squares[:-1, :-1])
    if not lone.any():
        return []
    places = np.broadcast_arrays(a[:, None], b) if a.ndim == 1 else (a, b)
    [surface] = figure.data
    figure.add_scatter3d(
        **{name: values[lone] for name, values in zip("xyz", (*places, heights), strict=True)},
        mode="markers",
        marker={
            "size": 3,
            "color": colors[lone],
            "cmin": ends[0],
            "cmax": ends[1],
            "colorscale": surface.colorscale,
        },
        customdata=None if told is None else told[lone],
        hovertemplate=surface.hovertemplate,
        name=surface.name,
        showlegend=False,
    )
    count = int(lone.sum())
    cells = (
        "1 finite cell beside holes is" if count == 1 else f"{count} finite cells beside holes are"
    )
    return [f"{cells} drawn as points"]


def add_paths(
    figure: go.Figure, landscape: Landscape, lines: list[paths.DrawnPath], scale: Scale
) -> None:
    """Draw descents with their points, starts and ends."""
    for line in lines:
        size = layout.marker_size(line)
        if len(line.on_surface):
            # On the surface, under a path that is not on it; between them, how far apart they are.
            add_polyline(
                figure,
                scale.lift(line.on_surface, 1),
                line.color,
                2 * size,
                dash="dot",
                legendgroup=line.name,
            )
        # A dark line under the colored one, so that the path shows on every color.
        for color, width, height, dash in (
            ("black", 3, 1, None),
            (line.color, 2, 1.6, line.dash),
        ):
            lifted = scale.lift(line.polyline, height)
            add_polyline(figure, lifted, color, width * size, dash, legendgroup=line.name)
        x, y, z = scale.lift(line.points[:, :3], 1.6).T
        figure.add_scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            marker={
                "symbol": line.symbol,
                "color": line.color,
                "size": size,
                "line": layout.marker_outline(landscape, line),
            },
            legendgroup=line.name,
            name=line.label,
            customdata=line.points[:, 2:],
            hovertemplate=layout.path_hover_text(landscape, line),
        )
        for place, symbol, label in line.ends:
            x, y, z = scale.lift(place[None], 2.2).T
            figure.add_scatter3d(
                x=x,
                y=y,
                z=z,
                customdata=[place[2:]],
                mode="markers",
                marker=layout.end_marker(line, symbol, 6.5),
                legendgroup=line.name,
                showlegend=False,
                name=label,
                hoverinfo="name",
            )


def precision_notes(scale: Scale) -> list[str]:
    """What to note of heights that a browser cannot tell apart in space."""
    low, high = scale.heights(np.array([scale.lowest, scale.highest], float))
    if not 0 < high - low < _FINEST * max(abs(low), abs(high)):
        return []
    return ["heights are too close together to be drawn in space: plot.contour shows them"]


def unit_notes(landscape: Landscape) -> list[str]:
    """What to note of axes in space, whose names would be cut off with their units."""
    axes = [axis.title for axis in (landscape.a, landscape.b) if axis.unit]
    return [f"axes: {', '.join(axes)}"] if axes else []


def scene_layout(
    landscape: Landscape,
    a: np.ndarray,
    b: np.ndarray,
    loss: np.ndarray,
    ways: list[np.ndarray],
    scale: Scale,
) -> dict[str, Any]:
    """Axes, proportions and the camera from which most of the ways shows, each (K, 3)."""
    # The name of the heights would be cut off beside numbers with exponents or many digits.
    largest, spread = max(abs(scale.lowest), abs(scale.highest)), scale.highest - scale.lowest
    power, digits = not 1e-3 <= largest < 1e5, spread < 1e-2 * largest
    times = 1 + 0.1 * (power or digits) + 0.15 * (power and digits and not scale.log)
    seen = [np.column_stack([way[:, :2], scale.heights(way[:, 2])]) for way in ways]
    axis = {
        "showgrid": False,
        "zeroline": False,
        "title_font_size": 18,
        "nticks": 5,
        "tickfont_size": 13,
        "exponentformat": "e",
    }
    return {
        "xaxis": axis | {"title_text": landscape.a.name},
        "yaxis": axis | {"title_text": landscape.b.name},
        "zaxis": axis | _HEIGHTS | scale.ticks(most=_MOST_TICKS),
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.5},
        "camera": choose_camera(a, b, loss, seen, _BACK * times),
    }


def choose_camera(
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
