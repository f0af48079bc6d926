"""What figures have in common: colors, hover texts, titles and legends."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from jaxscape.plot.parts import legend, paths
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents

# Viridis rises evenly in lightness, also to the color-blind, and leaves the reds to the paths.
COLORS = "Viridis"
_MOST_THIN_LINES = 400
_MANY_PATHS = 4
_HIGH_LEGEND = 50
"""In pixels, two rows: above a longer one a scene is low."""
OUTLINE = {"color": "black", "width": 1}
_APART = 0.01
"""Points, in parts of the axes: fewer than the size of a mark in a small figure."""

HTML_CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
"""For plotly's `write_html(config=...)`: no button that uploads the figure."""


def mix_color(color: str, other: int, share: float) -> str:
    """A color with so much of black (0) or white (255)."""
    parts = ((1 - share) * part + share * other for part in hex_to_rgb(color))
    return "rgb({:.0f}, {:.0f}, {:.0f})".format(*parts)


def narrow_dtype(values: np.ndarray) -> np.ndarray:
    """The values in float32, in half the bytes, where a figure shows them as it would in float64.

    Hover tells six digits, and two values that a ten-thousandth of their range is between have one
    height and one color.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrowed = values.astype(np.float32)
        off = abs(narrowed - values)
    known = np.isfinite(values)
    off, size = off[known], values[known]
    spread = size.max(initial=-np.inf) - size.min(initial=np.inf)
    told_apart = off <= np.minimum(1e-7 * abs(size), 1e-4 * spread)
    return narrowed if told_apart.all() else values


def check_drawable(landscape: Landscape, name: str = "landscape") -> None:
    """Refuse a landscape of which nothing can be drawn."""
    if not isinstance(landscape, Landscape):
        raise TypeError(f"{name}: expected a Landscape, got {type(landscape).__name__}")
    if landscape.lowest is None:
        n1, n2 = landscape.shape
        raise ValueError(
            f"{name}: expected at least one finite loss to draw, got none in {n1} × {n2} cells; "
            "is loss(params, data) finite in the middle of the axes?"
        )


def marker_size(line: paths.DrawnPath) -> float:
    """Small where points are too many to be told apart."""
    return 3.2 if len(line.points) <= 100 else 2


def marker_outline(landscape: Landscape, line: paths.DrawnPath) -> dict[str, Any]:
    """Around the points of a path: none where most lie on each other, and would be black."""
    extent = [float(np.ptp(axis.values)) or 1.0 for axis in (landscape.a, landscape.b)]
    apart = np.hypot(*(np.diff(line.points[:, :2], axis=0) / extent).T)
    if not len(apart) or np.median(apart) >= _APART:
        return OUTLINE
    # White would not be seen in the legend.
    return {"color": "#909090", "width": 1 if line.color == "#ffffff" else 0}


def end_marker(line: paths.DrawnPath, symbol: str, size: float) -> dict[str, Any]:
    """How the start or the end of a path is marked."""
    if symbol == "circle":
        # Of a white path, too.
        rim = "black" if line.color == "#ffffff" else line.color
        rimmed = {"color": rim, "width": 2}
        return {"symbol": symbol, "size": 0.8 * size, "color": "white", "line": rimmed}
    return {"symbol": symbol, "size": size, "color": line.color, "line": OUTLINE | {"width": 2}}


def add_paths(figure: go.Figure, landscape: Landscape, lines: list[paths.DrawnPath]) -> None:
    """Draw paths on a figure seen from above."""
    for line in lines:
        x, y, _ = line.polyline.T
        size = marker_size(line)
        below = "dot" if len(line.on_surface) else None
        for color, width, dash in (
            ("black", 1.6 * size, below),
            (line.color, 0.8 * size, below or line.dash),
        ):
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                # What is seen under it is not the surface that it went over.
                line={"color": color, "width": width, "dash": dash},
                legendgroup=line.name,
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=line.points[:, 0],
            y=line.points[:, 1],
            mode="markers",
            marker={
                "symbol": line.symbol,
                "color": line.color,
                "size": 2 * size,
                "line": marker_outline(landscape, line),
            },
            legendgroup=line.name,
            name=line.label,
            customdata=line.points[:, 2:],
            hovertemplate=path_hover_text(landscape, line),
        )
        for (x, y, loss), symbol, label in line.ends:
            figure.add_scatter(
                x=[x],
                y=[y],
                mode="markers",
                marker=end_marker(line, symbol, 13),
                legendgroup=line.name,
                showlegend=False,
                cliponaxis=False,
                name=label,
                customdata=[[loss]],
                hoverinfo="name",
            )


def add_descents(
    figure: go.Figure, landscape: Landscape, descents: Descents, line: paths.DrawnPath
) -> list[str]:
    """Draw many descents as thin lines of the color of their median's; what to note of them."""
    count = len(descents)
    shown = np.linspace(0, count - 1, min(count, _MOST_THIN_LINES)).round().astype(int)
    # All in one trace, a gap after each; what is not finite is a gap, too.
    x, y = (
        np.pad(descents.coordinate(axis.name)[shown], ((0, 0), (0, 1)), constant_values=np.nan)
        for axis in (landscape.a, landscape.b)
    )
    finite = np.isfinite(x) & np.isfinite(y)
    figure.add_scatter(
        x=np.where(finite, x, np.nan).ravel(),
        y=np.where(finite, y, np.nan).ravel(),
        mode="lines",
        # Of the median's color they would drown in the dark of low losses.
        line={"color": "white", "width": 1},
        opacity=0.55,
        legendgroup=line.name,
        hoverinfo="skip",
        showlegend=False,
    )
    notes = [] if len(shown) == count else [f"{len(shown)} of {count} descents as thin lines"]
    lost = int(descents.diverged.sum())
    return [*notes, f"{lost} of {count} descents diverged"] if lost else notes


def name_axes(figure: go.Figure, landscape: Landscape) -> None:
    """Name the axes of a figure seen from above, and end them where the grid ends."""
    for update, axis in (
        (figure.update_xaxes, landscape.a),
        (figure.update_yaxes, landscape.b),
    ):
        ends = [float(axis.values[0]), float(axis.values[-1])]
        update(
            exponentformat="e",
            title=axis.title,
            title_font_size=15 if axis.unit else 18,
            range=ends,
        )


def hover_text(landscape: Landscape, loss: str, name: str) -> str:
    """The hover text of a point of a landscape."""
    a, b = landscape.a.name, landscape.b.name
    # The name is in the box: beside it it would have the path's color, too light to be read.
    return f"<b>{name}</b><br>{a} %{{x:.5~g}}<br>{b} %{{y:.5~g}}<br>loss {loss}<extra></extra>"


def cell_hover_text(landscape: Landscape, scale: Scale) -> str:
    """The hover text of a cell: what is drawn is its loss, or it is custom data."""
    return hover_text(
        landscape, "%{customdata:.6~g}" if scale.log else "%{z:.6~g}", landscape.loss_name
    )


def path_hover_text(landscape: Landscape, line: paths.DrawnPath) -> str:
    """The recorded loss (the drawn height is lifted), the epoch and how far off the plane."""
    text = "%{customdata[0]:.6~g}<br>epoch %{customdata[1]:.5~g}"
    if line.points.shape[1] > 4:
        text += "<br>off the plane by %{customdata[2]:.4~g}"
    return hover_text(landscape, text, line.name)


def color_bar(name: str, ticks: dict[str, Any] | None = None) -> dict[str, Any]:
    """The bar beside a landscape."""
    return {
        "title": {"text": name, "side": "right"},
        "thickness": 18,
        "len": 0.75,
        "exponentformat": "e",
    } | (ticks or {})


def finish_landscape(
    figure: go.Figure, landscape: Landscape, notes: list[str], dark: bool
) -> go.Figure:
    """Title, notes, legend and margins of a figure of one landscape."""
    notes = [*notes, *nonfinite_notes(landscape)]
    n1, n2 = landscape.shape
    head = f"{landscape.loss_name}, {n1} × {n2}"
    return finish(figure, "Loss surface", notes, dark, head)


def nonfinite_notes(landscape: Landscape) -> list[str]:
    """What to note of cells that are not finite."""
    (n1, n2), cell = landscape.shape, landscape.first_nonfinite
    if cell is None:
        return []
    where = f"{landscape.a.name} = {cell.a:.4g}, {landscape.b.name} = {cell.b:.4g}"
    count = landscape.nonfinite_count
    return [f"{count} of {n1 * n2} cells are not finite, the first at {where}"]


def finish(
    figure: go.Figure, title: str, notes: list[str], dark: bool, head: str = ""
) -> go.Figure:
    """Title, notes, legend and margins, so that nothing lies over anything else at 600 × 450.

    Args:
        figure: with all its traces.
        title: what is shown.
        notes: what is to be said of it, a line each.
        dark: light lines on a dark ground.
        head: a line above the notes.
    """
    said = [*([head] if head else []), *notes]
    in_space = all(trace.type in ("surface", "scatter3d") for trace in figure.data)
    ends = sum((t.name or "").startswith(f"{t.legendgroup}: ") for t in figure.data)
    if ends >= _MANY_PATHS:
        legend.drop_path_ends(figure)
    legend.shorten(figure)
    height = legend.estimate_height(figure)
    if height > _HIGH_LEGEND:
        shrink_axis_titles(figure)
        # Surfaces beside each other have one camera of their own.
        if in_space and len({trace.scene for trace in figure.data}) == 1:
            move_camera_back(figure, 1.12)
    return figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        title={
            "text": title,
            "subtitle": {"text": "<br>".join(said), "font_size": 13},
            "x": 0.02,
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "pad": {"t": 12},
            "font_size": 19,
        },
        # Plotly has one for a single trace only where it is asked for it.
        showlegend=height > 0,
        legend={
            "orientation": "h",
            "x": 0.01,
            "xref": "container",
            "y": 0.01,
            "yref": "container",
            "yanchor": "bottom",
            "itemsizing": "constant",
            "tracegroupgap": 0,
            "traceorder": "normal",
            "font_size": legend.FONT_SIZE,
        },
        margin={
            "l": 0 if in_space else 70,
            "r": 10 if in_space else 20,
            "t": 56 + 17 * len(said),
            "b": (4 if in_space else 56) + height,
        },
        font_size=15,
        meta={"notes": notes},
    )


def shrink_axis_titles(figure: go.Figure) -> None:
    """Names of axes in space that a low scene does not cut at its edge."""
    figure.update_scenes({f"{axis}axis_title_font_size": 14 for axis in "xyz"})


def move_camera_back(figure: go.Figure, times: float) -> None:
    """Move the camera away from a scene that is lower or narrower, and would be cut at its edge."""
    eye = figure.layout.scene.camera.eye
    figure.update_layout(scene_camera_eye={axis: times * eye[axis] for axis in "xyz"})
