"""3-D scenes: polylines and paths above a surface, axes, lighting and the camera."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape.plot.parts import layout
from jaxscape.plot.parts.paths import DrawnPath
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Landscape

LIGHTING = {"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.8}

_MAX_TICKS = 4
_FLOAT32_TOL = 3e-6
"""Range of heights, relative to the heights, below which a browser's float32 distorts them."""
# Invisible ticks keep the numbers away from those of the adjacent axis.
_Z_AXIS = {"title_text": "loss", "ticks": "outside", "tickcolor": "rgba(0, 0, 0, 0)"}
_CAMERA_FACTOR = 1.12
"""Factor on the camera's distance that makes these ticks fit into the scene."""


def add_polyline(
    figure: go.Figure,
    polyline: np.ndarray,
    color: str,
    width: float,
    dash: str | None = None,
    **more: Any,
) -> None:
    """Draw a polyline, (K, 3), with NaN between its pieces.

    It has a legend entry if it has a `name`. Further keyword arguments go to plotly's trace.
    """
    x, y, z = polyline.T
    figure.add_scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        line={"color": color, "width": width, "dash": dash},
        hoverinfo="skip",
        **{"showlegend": "name" in more} | more,
    )


def add_isolated_cells(
    figure: go.Figure,
    a: np.ndarray,
    b: np.ndarray,
    heights: np.ndarray,
    colors: np.ndarray,
    color_range: tuple[float, float],
    hover_values: np.ndarray | None,
) -> list[str]:
    """Draw isolated finite cells as points.

    Plotly draws a square of a surface only if its four corners are finite. A cell that is a corner
    of no such square would be invisible.

    Args:
        figure: the figure, with the surface only.
        a: first coordinate, (m1,) or (m1, m2).
        b: second coordinate, (m2,) or (m1, m2).
        heights: (m1, m2), NaN for cells that are not finite.
        colors: (m1, m2), the values that the color scale shows.
        color_range: the ends of the color scale.
        hover_values: (m1, m2), values for the hover text beside the height; None for none.

    Returns:
        A note that counts the points, if there are any.
    """
    finite = np.isfinite(heights)
    squares = np.pad(finite[1:, 1:] & finite[1:, :-1] & finite[:-1, 1:] & finite[:-1, :-1], 1)
    isolated = finite & ~(squares[1:, 1:] | squares[1:, :-1] | squares[:-1, 1:] | squares[:-1, :-1])
    if not isolated.any():
        return []
    coordinates = np.broadcast_arrays(a[:, None], b) if a.ndim == 1 else (a, b)
    [surface] = figure.data
    position = zip("xyz", (*coordinates, heights), strict=True)
    figure.add_scatter3d(
        **{name: values[isolated] for name, values in position},
        mode="markers",
        marker={
            "size": 3,
            "color": colors[isolated],
            "cmin": color_range[0],
            "cmax": color_range[1],
            "colorscale": surface.colorscale,
        },
        customdata=None if hover_values is None else hover_values[isolated],
        hovertemplate=surface.hovertemplate,
        name=surface.name,
        showlegend=False,
    )
    count = int(isolated.sum())
    if count == 1:
        return ["1 isolated finite cell is drawn as a point"]
    return [f"{count} isolated finite cells are drawn as points"]


def add_paths(
    figure: go.Figure, landscape: Landscape, paths: list[DrawnPath], scale: Scale
) -> None:
    """Draw paths on a 3-D figure: line, recorded points, start and end.

    A path that leaves the plane also has a dotted line on the surface below it.
    """
    for path in paths:
        size = layout.marker_size(path)
        if len(path.on_surface):
            add_polyline(
                figure,
                scale.lift(path.on_surface, 1),
                path.color,
                2 * size,
                dash="dot",
                legendgroup=path.name,
            )
        # A wider black line below the colored one makes the path visible on every color.
        for color, width, lift, dash in (
            ("black", 3, 1, None),
            (path.color, 2, 1.6, path.dash),
        ):
            lifted = scale.lift(path.polyline, lift)
            add_polyline(figure, lifted, color, width * size, dash, legendgroup=path.name)
        x, y, z = scale.lift(path.points[:, :3], 1.6).T
        figure.add_scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            marker={
                "symbol": path.symbol,
                "color": path.color,
                "size": size,
                "line": layout.marker_outline(landscape, path),
            },
            legendgroup=path.name,
            name=path.label,
            customdata=path.points[:, 2:],
            hovertemplate=layout.path_hover_text(landscape, path),
        )
        for position, symbol, text in path.ends:
            x, y, z = scale.lift(position[None], 2.2).T
            figure.add_scatter3d(
                x=x,
                y=y,
                z=z,
                customdata=[position[2:]],
                mode="markers",
                marker=layout.end_marker(path, symbol, 6.5),
                legendgroup=path.name,
                showlegend=False,
                name=text,
                hoverinfo="name",
            )


def precision_notes(scale: Scale) -> list[str]:
    """Return a note if heights differ too little for the float32 of a browser's 3-D graphics."""
    low, high = scale.heights(np.array([scale.lowest, scale.highest], float))
    if not 0 < high - low < _FLOAT32_TOL * max(abs(low), abs(high)):
        return []
    return ["heights are too close together for a 3-D figure: use plot.contour"]


def unit_notes(landscape: Landscape) -> list[str]:
    """Return a note with the units of the axes; in 3-D, titles with units would be cut off."""
    axes = [axis.title for axis in (landscape.a, landscape.b) if axis.unit]
    return [f"axes: {', '.join(axes)}"] if axes else []


def scene_layout(
    landscape: Landscape,
    a: np.ndarray,
    b: np.ndarray,
    heights: np.ndarray,
    polylines: list[np.ndarray],
    scale: Scale,
) -> dict[str, Any]:
    """Return the layout of a scene: axes, proportions and camera.

    Args:
        landscape: the landscape.
        a: first coordinate of the drawn cells, (m1,) or (m1, m2).
        b: second coordinate of the drawn cells, (m2,) or (m1, m2).
        heights: (m1, m2), the drawn heights, NaN for cells that are not finite.
        polylines: coordinates and losses, (K, 3) each; the camera shows as many of these points as
            possible.
        scale: the scale of the heights.
    """
    # Move the camera back for long numbers at the z axis, which push its title outward.
    largest, spread = max(abs(scale.lowest), abs(scale.highest)), scale.highest - scale.lowest
    has_exponent, has_digits = not 1e-3 <= largest < 1e5, spread < 1e-2 * largest
    factor = 1 + 0.1 * (has_exponent or has_digits)
    factor += 0.15 * (has_exponent and has_digits and not scale.log)
    drawn = [np.column_stack([line[:, :2], scale.heights(line[:, 2])]) for line in polylines]
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
        "zaxis": axis | _Z_AXIS | scale.ticks(max_ticks=_MAX_TICKS),
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.5},
        "camera": choose_camera(a, b, heights, drawn, _CAMERA_FACTOR * factor),
    }


def choose_camera(
    a: np.ndarray,
    b: np.ndarray,
    heights: np.ndarray,
    polylines: list[np.ndarray],
    factor: float = 1.0,
) -> dict[str, Any]:
    """Return the camera that shows as many points of polylines as possible, as large as possible.

    For each candidate direction, a ray from each point to the eye is sampled. The point is hidden
    if the ray passes below the surface.

    Args:
        a: first coordinate of the surface, (m1,) or (m1, m2).
        b: second coordinate of the surface, (m2,) or (m1, m2).
        heights: (m1, m2), NaN for cells that are not finite.
        polylines: coordinates and heights, (K, 3) each, with NaN between pieces.
        factor: the distance of the camera, in units of the default one.
    """

    def direction_to(azimuth: float, elevation: float) -> np.ndarray:
        flat = np.cos(elevation)
        return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])

    azimuths = np.deg2rad(np.arange(-50, 310, 15))
    elevations = np.deg2rad([30, 22, 40, 52])
    chosen = direction_to(azimuths[0], elevations[0])
    polylines = [polyline for polyline in polylines if len(polyline)]
    if polylines:
        lows = [values.min() for values in (a, b)] + [np.nanmin(heights)]
        highs = [values.max() for values in (a, b)] + [np.nanmax(heights)]
        low, spread = np.array(lows), np.array(highs) - lows
        # The drawn scene: a box with sides 1, 1 and 0.5, centered at the origin.
        sides = np.array([1, 1, 0.5])
        points = np.concatenate(polylines)
        # Losses can be infinite at the last points of a run that diverged.
        points = points[np.isfinite(points).all(axis=1)]
        points = points[np.linspace(0, len(points) - 1, min(len(points), 80)).astype(int)]
        points = ((points - low) / np.where(spread > 0, spread, 1) - 0.5) * sides
        surface = ((heights - low[2]) / (spread[2] or 1) - 0.5) * sides[2]
        distances = np.linspace(0.03, 1.6, 60)

        def score(direction: np.ndarray) -> float:
            x, y, z = (points[:, None, :] + distances[:, None] * direction).transpose(2, 0, 1)
            inside = (abs(x) <= 0.5) & (abs(y) <= 0.5)
            i, j = (
                np.clip(((u + 0.5) * (n - 1)).round().astype(int), 0, n - 1)
                for u, n in zip((x, y), surface.shape, strict=True)
            )
            with np.errstate(invalid="ignore"):
                hidden = (inside & (z < surface[i, j] - 0.01)).any(axis=1)
            across = np.cross([0, 0, 1], direction)
            across /= np.linalg.norm(across)
            upward = np.cross(direction, across)
            extent = np.hypot(np.ptp(points @ across), np.ptp(points @ upward))
            return float(np.mean(~hidden) + 0.3 * extent)

        candidates = [
            direction_to(azimuth, elevation) for elevation in elevations for azimuth in azimuths
        ]
        # A high camera hides little but flattens the surface, so it has a penalty.
        chosen = max(candidates, key=lambda direction: score(direction) - 0.4 * direction[2] ** 2)
    # A higher camera has to be farther away to keep the box in the picture.
    x, y, z = factor * (1.1 + 0.85 * (chosen[2] + 0.5 * np.hypot(*chosen[:2]))) * chosen
    return {"eye": {"x": x, "y": y, "z": z}, "center": {"x": 0, "y": 0, "z": -0.13}}
