"""Overlays on a surface: critical points, a valley, a minimax path, and the plane's marks."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape._util import colors
from jaxscape._util.checks import check_type
from jaxscape.critical.points import CriticalPoints, format_number
from jaxscape.plot.parts import layout, scene
from jaxscape.plot.parts.paths import (
    EDGE_TOL,
    clip_polyline,
    marks_on_grid,
    mismatch_note,
)
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Landscape
from jaxscape.topology.valleys import MinimaxPath, Valley

# Paths have none of these colors. In 2-D, the ends of paths have none of these symbols.
_MARKERS = {
    "minimum": ("square", colors.BLUE),
    "saddle": ("x", colors.YELLOW),
    "maximum": ("square", "#000000"),
    "degenerate": ("cross", colors.PINK),
}
_VALLEY_COLOR, _MINIMAX_COLOR = colors.SKY_BLUE, colors.GREEN
_MIN_VALUES = 15
"""A grid with fewer values along an axis resolves a valley too coarsely to compare losses."""
# In 3-D, plotly draws its cross symbols as boxes or hairlines.
_SYMBOLS_3D = {"x": "diamond", "cross": "square"}


def add(
    figure: go.Figure,
    landscape: Landscape,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
    scale: Scale | None = None,
) -> list[str]:
    """Draw overlays on a figure, and the landscape's marks.

    Args:
        figure: a 3-D figure of the surface, or a 2-D one.
        landscape: the surface.
        critical: critical points to draw.
        valley: a valley, drawn as the line along its bottom.
        minimax_path: a minimax path, drawn from cell to cell.
        scale: the scale of a 3-D figure, on which overlays are drawn slightly above the surface;
            None for a 2-D figure.

    Returns:
        The notes.

    Raises:
        TypeError: An overlay is not of the type that `critical_points`, `valley` or `minimax_path`
            returns.
        ValueError: An overlay's coordinates are not named like the landscape's axes.
    """
    overlays: dict[str, tuple[Any, type]] = {
        "critical": (critical, CriticalPoints),
        "valley": (valley, Valley),
        "minimax_path": (minimax_path, MinimaxPath),
    }
    for argument, (overlay, kind) in overlays.items():
        if overlay is not None:
            check_type(argument, overlay, kind, kind.__name__)
    axes = (landscape.a.name, landscape.b.name)
    for argument, names in (
        ("critical", critical and critical.names),
        ("valley", valley and (valley.a.name, valley.b_name)),
    ):
        if names and names != axes:
            raise ValueError(f"{argument}: expected coordinates {axes}, got {names}")
    notes, points = [], {}
    if valley is not None:
        bottom = _valley_bottom(valley)
        if min(landscape.shape) >= _MIN_VALUES:
            points["the valley"] = bottom
        clipped = _clip_to_grid(landscape, bottom)
        _add_polyline(figure, clipped, scale, _VALLEY_COLOR, "dash", "bottom of the valley")
    if minimax_path is not None:
        cells = points["the minimax path"] = _path_cells(minimax_path)
        name = f"minimax path, height {format_number(minimax_path.height, 4)}"
        _add_polyline(figure, cells, scale, _MINIMAX_COLOR, "solid", name)
    if critical is not None:
        points["critical points"] = _critical_positions(critical)
        notes += _add_critical_points(figure, landscape, critical, scale)
    # An overlay does not record its loss, data and plane; its losses show whether they differ.
    mismatches = [
        mismatch_note(landscape, position[:, :2], position[:, 2], name)
        for name, position in points.items()
    ]
    return [*notes, *filter(None, mismatches), *_add_marks(figure, landscape, scale)]


def polylines(
    landscape: Landscape,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
) -> list[np.ndarray]:
    """Return the points of overlays and marks within the grid, (K, 3) each, for the camera."""
    found = []
    if valley is not None:
        found.append(_clip_to_grid(landscape, _valley_bottom(valley)))
    if minimax_path is not None:
        found.append(_path_cells(minimax_path))
    if critical is not None:
        positions = _critical_positions(critical)
        (left, right), (bottom, top) = _box(landscape)
        a, b, _ = positions.T
        found.append(positions[(a >= left) & (a <= right) & (b >= bottom) & (b <= top)])
    return [*found, marks_on_grid(landscape)[1]]


def _critical_positions(critical: CriticalPoints) -> np.ndarray:
    """Return the coordinates and losses of critical points, (P, 3)."""
    return np.array([(p.a, p.b, p.loss) for p in critical.points]).reshape(-1, 3)


def _path_cells(minimax_path: MinimaxPath) -> np.ndarray:
    """Return the coordinates and losses of a minimax path's cells, (K, 3)."""
    return np.array([cell[2:] for cell in minimax_path.path])


def _valley_bottom(valley: Valley) -> np.ndarray:
    """Return the bottom of a valley, (n, 3), with NaN at poles of b, where its sign jumps.

    At a pole, the curvature along b vanishes.
    """
    bottom = np.stack([np.asarray(valley.a.values, float), valley.b, valley.loss], axis=1)
    jumps = np.flatnonzero(np.diff(np.sign(valley.b)) * np.sign(valley.b[1:]) == 2) + 1
    steep = abs(valley.b[jumps] - valley.b[jumps - 1]) > np.nanmedian(abs(valley.b))
    return np.insert(bottom, jumps[steep], np.nan, axis=0)


def _clip_to_grid(landscape: Landscape, polyline: np.ndarray) -> np.ndarray:
    """Clip a polyline with gaps, (K, 3), at the grid's edge; NaN separates the pieces."""
    pieces, gaps = [], np.flatnonzero(~np.isfinite(polyline).all(axis=1))
    for piece in np.split(polyline, gaps):
        piece = piece[np.isfinite(piece).all(axis=1)]
        if len(piece) > 1 and len(inside := clip_polyline(piece, _box(landscape))):
            pieces += [inside, np.full((1, 3), np.nan)]
    return np.concatenate(pieces[:-1]) if pieces else np.zeros((0, 3))


def _add_polyline(
    figure: go.Figure,
    polyline: np.ndarray,
    scale: Scale | None,
    color: str,
    dash: str,
    name: str,
) -> None:
    """Draw a polyline, (K, 3), over a wider black one, so that it is visible on every color."""
    if not len(polyline):
        return
    for drawn_color, width, drawn_dash in (("black", 5, "solid"), (color, 2.5, dash)):
        style: dict[str, Any] = {
            "name": name,
            "legendgroup": name,
            "showlegend": drawn_color == color,
        }
        if scale is None:
            line = {"color": drawn_color, "width": width, "dash": drawn_dash}
            x, y, _ = polyline.T
            figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", **style)
        else:
            lifted = scale.lift(polyline, 1 if drawn_color == "black" else 1.6)
            # Solid: dashes are hard to see over the black line in 3-D.
            scene.add_polyline(figure, lifted, drawn_color, 1.6 * width, **style)


def _add_critical_points(
    figure: go.Figure, landscape: Landscape, critical: CriticalPoints, scale: Scale | None
) -> list[str]:
    """Draw the critical points within the grid, one trace for each kind; return the notes."""
    (left, right), (bottom, top) = _box(landscape)
    inside = [
        point
        for point in critical.points
        if left - EDGE_TOL * (right - left) <= point.a <= right + EDGE_TOL * (right - left)
        and bottom - EDGE_TOL * (top - bottom) <= point.b <= top + EDGE_TOL * (top - bottom)
    ]
    for kind, (symbol, color) in _MARKERS.items():
        of_kind = [point for point in inside if point.kind == kind]
        if not of_kind:
            continue
        losses = [point.loss for point in of_kind]
        is_black = color == "#000000"
        # Few digits, for a short legend; the hover text shows more.
        loss, highest = format_number(min(losses), 4), format_number(max(losses), 4)
        if highest != loss:
            loss += f" to {highest}"
        plural = {"minimum": "minima", "maximum": "maxima", "degenerate": "degenerate points"}
        word = kind if len(of_kind) == 1 else plural.get(kind, f"{kind}s")
        style: dict[str, Any] = {
            "x": [point.a for point in of_kind],
            "y": [point.b for point in of_kind],
            "mode": "markers",
            "marker": {
                "symbol": symbol if scale is None else _SYMBOLS_3D.get(symbol, symbol),
                "color": color,
                "size": 13 if scale is None else 6,
                "line": layout.OUTLINE | {"width": 2} | ({"color": "white"} if is_black else {}),
            },
            "name": f"{len(of_kind)} {word}: loss {loss}",
            "legendgroup": word,
            "customdata": [[point.loss, *point.eigenvalues] for point in of_kind],
            "hovertemplate": layout.hover_text(
                landscape,
                "%{customdata[0]:.6~g}<br>eigenvalues %{customdata[1]:.4~g}, %{customdata[2]:.4~g}",
                kind,
            ),
        }
        if scale is None:
            figure.add_scatter(**style, cliponaxis=False)
        else:
            positions = np.column_stack([style["x"], style["y"], losses])
            figure.add_scatter3d(**style, z=scale.lift(positions, 2.2)[:, 2])
    outside = len(critical.points) - len(inside)
    notes = [f"critical points outside the grid: {outside}"] if outside else []
    completeness = {
        "proved": "critical points: proved to be complete",
        "index": "critical points: complete by the sum of their indices",
        "incomplete": "critical points: possibly incomplete",
    }
    return [*notes, completeness[critical.completeness]]


def _add_marks(figure: go.Figure, landscape: Landscape, scale: Scale | None) -> list[str]:
    """Draw the plane's marks within the grid, such as its solutions; return the notes."""
    names, positions = marks_on_grid(landscape)
    x, y, _ = positions.T
    style: dict[str, Any] = {
        "x": x,
        "y": y,
        "mode": "markers",
        "marker": {
            "symbol": "square",
            "color": "white",
            "size": 11 if scale is None else 5,
            "line": layout.OUTLINE | {"width": 2},
        },
        "showlegend": True,
        "legendgroup": "marks",
        "text": names,
        "name": ", ".join(
            f"{name} ({a:.3g}, {b:.3g})" for name, (a, b, _) in zip(names, positions, strict=True)
        ),
        "hovertemplate": f"{landscape.a.name} %{{x:.5~g}}<br>{landscape.b.name} %{{y:.5~g}}"
        "<extra>%{text}</extra>",
    }
    # The labels have a background, so that they are readable on every color.
    labels: list[dict[str, Any]] = [
        {
            "x": position[0],
            "y": position[1],
            "text": name,
            "showarrow": False,
            "yshift": 18,
            "bgcolor": "rgba(255, 255, 255, 0.8)",
            "font": {"color": "black", "size": 14},
        }
        for name, position in zip(names, positions, strict=True)
    ]
    if not names:
        pass
    elif scale is None:
        figure.add_scatter(**style, cliponaxis=False)
        figure.update_layout(annotations=labels)
    else:
        heights = scale.lift(positions, 2.2)[:, 2]
        figure.add_scatter3d(**style, z=heights)
        lifted = [label | {"z": height} for label, height in zip(labels, heights, strict=True)]
        figure.update_layout(scene_annotations=lifted)
    outside = len(landscape.marks) - len(names)
    return [f"marks outside the grid: {outside}"] if outside else []


def _box(landscape: Landscape) -> np.ndarray:
    """Return the ends of both axes, (2, 2)."""
    ends = [(axis.values[0], axis.values[-1]) for axis in (landscape.a, landscape.b)]
    return np.array(ends, float)
