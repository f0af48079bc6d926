"""What figures of surfaces that turn have in common: paths a hair above them, light and scene."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape import camera, layout, view
from jaxscape.results import Landscape
from jaxscape.scale import Scale

_MOST_TICKS = 4
_FINEST = 3e-6
"""Heights closer together, in parts of themselves, are torn by a browser's float32."""
# Ticks that are not seen move their numbers off the first ones of the next axis.
_HEIGHTS = {"title_text": "loss", "ticks": "outside", "tickcolor": "rgba(0, 0, 0, 0)"}
_BACK = 1.12
"""How far the camera moves back for them."""
LIGHTING = {"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.8}


def add_line(
    figure: go.Figure,
    way: np.ndarray,
    colour: str,
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
        line={"color": colour, "width": width, "dash": dash},
        hoverinfo="skip",
        **{"showlegend": "name" in more} | more,
    )


def add_lone_cells(
    figure: go.Figure,
    a: np.ndarray,
    b: np.ndarray,
    heights: np.ndarray,
    colours: np.ndarray,
    ends: tuple[float, float],
    told: np.ndarray | None,
) -> list[str]:
    """Draw as points the finite cells that no square of four has, and say how many they are.

    Plotly draws a surface where all four corners of a square are finite, and nothing elsewhere.

    Args:
        figure: with the surface alone.
        a, b: its coordinates, (m1,) and (m2,) or both (m1, m2).
        heights, colours: (m1, m2), holes as NaN.
        ends: of the scale of colours.
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
            "color": colours[lone],
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
    figure: go.Figure, landscape: Landscape, lines: list[view.Line], scale: Scale
) -> None:
    """Draw descents with their points, starts and ends."""
    for line in lines:
        size = layout.marker_size(line)
        if len(line.below):
            # On the surface, under a path that is not on it; between them, how far apart they are.
            add_line(
                figure,
                scale.above(line.below, 1),
                line.colour,
                2 * size,
                dash="dot",
                legendgroup=line.name,
            )
        # A dark line under the coloured one, so that the path shows on every colour.
        for colour, width, height, dash in (
            ("black", 3, 1, None),
            (line.colour, 2, 1.6, line.dash),
        ):
            lifted = scale.above(line.way, height)
            add_line(figure, lifted, colour, width * size, dash, legendgroup=line.name)
        x, y, z = scale.above(line.points[:, :3], 1.6).T
        figure.add_scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            marker={
                "symbol": line.symbol,
                "color": line.colour,
                "size": size,
                "line": layout.outline(landscape, line),
            },
            legendgroup=line.name,
            name=line.label,
            customdata=line.points[:, 2:],
            hovertemplate=layout.path_hover(landscape, line),
        )
        for place, symbol, label in line.ends:
            x, y, z = scale.above(place[None], 2.2).T
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


def notes(scale: Scale) -> list[str]:
    """What to note of heights that a browser cannot tell apart in space."""
    low, high = scale.height(np.array([scale.lowest, scale.highest], float))
    if not 0 < high - low < _FINEST * max(abs(low), abs(high)):
        return []
    return ["heights are too close together to be drawn in space: plot.contour shows them"]


def units(landscape: Landscape) -> list[str]:
    """What to note of axes in space, whose names would be cut off with their units."""
    axes = [axis.title for axis in (landscape.a, landscape.b) if axis.unit]
    return [f"axes: {', '.join(axes)}"] if axes else []


def scene(
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
    seen = [np.column_stack([way[:, :2], scale.height(way[:, 2])]) for way in ways]
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
        "camera": camera.facing(a, b, loss, seen, _BACK * times),
    }
