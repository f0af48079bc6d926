"""Layout that figures share: colors, hover texts, titles, notes, legend and margins."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from jaxscape._util.checks import check_type
from jaxscape.plot.parts import legend
from jaxscape.plot.parts.downsample import evenly_spaced
from jaxscape.plot.parts.paths import DrawnPath
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents

# Viridis rises evenly in lightness, also for color-blind readers, and has no red, the first path's
# color.
COLORS = "Viridis"
OUTLINE = {"color": "black", "width": 1}
"""The outline of markers."""
HTML_CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
"""Options for plotly's `write_html(config=...)`, without the button that uploads the figure."""

_MAX_THIN_LINES = 400
_MANY_PATHS = 4
"""The number of paths from which on legend entries leave out the coordinates of the ends."""
_HIGH_LEGEND = 50
"""The height of two rows, in pixels. A higher legend leaves little height for a 3-D scene."""
_OVERLAP_DISTANCE = 0.01
"""About the size of a marker in a small figure, relative to the length of the axes."""


def mix_color(color: str, gray: int, fraction: float) -> str:
    """Mix a color with a gray, from 0 (black) to 255 (white); `fraction` is that of the gray."""
    channels = ((1 - fraction) * channel + fraction * gray for channel in hex_to_rgb(color))
    return "rgb({:.0f}, {:.0f}, {:.0f})".format(*channels)


def narrow_dtype(values: np.ndarray) -> np.ndarray:
    """Convert values to float32, half the bytes, unless the figure would look different.

    The rounding must be at most 1e-7 of each value, because hover texts show six digits, and at
    most 1e-4 of the range of all values, a difference in height and color that cannot be seen.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrowed = values.astype(np.float32)
        rounding = abs(narrowed - values)
    finite = np.isfinite(values)
    rounding, exact = rounding[finite], values[finite]
    spread = exact.max(initial=-np.inf) - exact.min(initial=np.inf)
    invisible = rounding <= np.minimum(1e-7 * abs(exact), 1e-4 * spread)
    return narrowed if invisible.all() else values


def check_drawable(landscape: Landscape, name: str = "landscape") -> None:
    """Check that an argument is a `Landscape` with at least one finite loss.

    Raises:
        TypeError: The argument is not a `Landscape`.
        ValueError: No loss is finite.
    """
    check_type(name, landscape, Landscape)
    if landscape.lowest is None:
        n1, n2 = landscape.shape
        raise ValueError(
            f"{name}: expected at least one finite loss to draw, got none in {n1} × {n2} cells; "
            "check that loss(params, data) is finite in the middle of the grid"
        )


def marker_size(path: DrawnPath) -> float:
    """Return the size of a path's markers, smaller for more than 100 points."""
    return 3.2 if len(path.points) <= 100 else 2


def marker_outline(landscape: Landscape, path: DrawnPath) -> dict[str, Any]:
    """Return the outline of a path's points, or none if most overlap and would look black."""
    extent = [float(np.ptp(axis.values)) or 1.0 for axis in (landscape.a, landscape.b)]
    distances = np.hypot(*(np.diff(path.points[:, :2], axis=0) / extent).T)
    if not len(distances) or np.median(distances) >= _OVERLAP_DISTANCE:
        return OUTLINE
    # White points keep an outline; without it they are invisible in the legend.
    return {"color": "#909090", "width": 1 if path.color == "#ffffff" else 0}


def end_marker(path: DrawnPath, symbol: str, size: float) -> dict[str, Any]:
    """Return the marker of a path's start (a circle) or end."""
    if symbol == "circle":
        rim = "black" if path.color == "#ffffff" else path.color
        outline = {"color": rim, "width": 2}
        return {"symbol": symbol, "size": 0.8 * size, "color": "white", "line": outline}
    return {"symbol": symbol, "size": size, "color": path.color, "line": OUTLINE | {"width": 2}}


def add_paths(figure: go.Figure, landscape: Landscape, paths: list[DrawnPath]) -> None:
    """Draw paths on a 2-D figure: line, recorded points, start and end."""
    for path in paths:
        x, y, _ = path.polyline.T
        size = marker_size(path)
        # A path off the plane is dotted: the colors below it are not its own losses.
        dotted = "dot" if len(path.on_surface) else None
        for color, width, dash in (
            ("black", 1.6 * size, dotted),
            (path.color, 0.8 * size, dotted or path.dash),
        ):
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": color, "width": width, "dash": dash},
                legendgroup=path.name,
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=path.points[:, 0],
            y=path.points[:, 1],
            mode="markers",
            marker={
                "symbol": path.symbol,
                "color": path.color,
                "size": 2 * size,
                "line": marker_outline(landscape, path),
            },
            legendgroup=path.name,
            name=path.label,
            customdata=path.points[:, 2:],
            hovertemplate=path_hover_text(landscape, path),
        )
        for (x, y, loss), symbol, text in path.ends:
            figure.add_scatter(
                x=[x],
                y=[y],
                mode="markers",
                marker=end_marker(path, symbol, 13),
                legendgroup=path.name,
                showlegend=False,
                cliponaxis=False,
                name=text,
                customdata=[[loss]],
                hoverinfo="name",
            )


def add_descents(
    figure: go.Figure, landscape: Landscape, descents: Descents, median: DrawnPath
) -> list[str]:
    """Draw many descents as thin lines that share the legend entry of their median.

    Returns:
        The notes.
    """
    count = len(descents)
    shown = evenly_spaced(count, _MAX_THIN_LINES)
    # All lines are one trace, with a gap after each descent and at values that are not finite.
    x, y = (
        np.pad(descents.coordinate(axis.name)[shown], ((0, 0), (0, 1)), constant_values=np.nan)
        for axis in (landscape.a, landscape.b)
    )
    finite = np.isfinite(x) & np.isfinite(y)
    figure.add_scatter(
        x=np.where(finite, x, np.nan).ravel(),
        y=np.where(finite, y, np.nan).ravel(),
        mode="lines",
        # White, because the median's color is hard to see on the dark colors of low losses.
        line={"color": "white", "width": 1},
        opacity=0.55,
        legendgroup=median.name,
        hoverinfo="skip",
        showlegend=False,
    )
    notes = [] if len(shown) == count else [f"{len(shown)} of {count} descents are drawn"]
    diverged = int(descents.diverged.sum())
    return [*notes, f"{diverged} of {count} descents diverged"] if diverged else notes


def name_axes(figure: go.Figure, landscape: Landscape) -> None:
    """Set the titles and the ranges of a 2-D figure's axes to those of the grid."""
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
    """Return plotly's template for the hover text of a point.

    Args:
        landscape: the landscape, which names the coordinates.
        loss: the text for the loss.
        name: the first line.
    """
    a, b = landscape.a.name, landscape.b.name
    # Plotly writes a trace's name outside of the box in the trace's color, often too light to read.
    return f"<b>{name}</b><br>{a} %{{x:.5~g}}<br>{b} %{{y:.5~g}}<br>loss {loss}<extra></extra>"


def cell_hover_text(landscape: Landscape, scale: Scale) -> str:
    """Return the hover text of a cell, whose loss is `z`, or on a log scale the custom data."""
    return hover_text(
        landscape, "%{customdata:.6~g}" if scale.log else "%{z:.6~g}", landscape.loss_name
    )


def path_hover_text(landscape: Landscape, path: DrawnPath) -> str:
    """Return the hover text of a path's point: recorded loss, epoch, and distance to the plane."""
    text = "%{customdata[0]:.6~g}<br>epoch %{customdata[1]:.5~g}"
    if path.points.shape[1] > 4:
        text += "<br>distance to the plane %{customdata[2]:.4~g}"
    return hover_text(landscape, text, path.name)


def color_bar(name: str, ticks: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return plotly's options for the color bar beside a landscape."""
    return {
        "title": {"text": name, "side": "right"},
        "thickness": 18,
        "len": 0.75,
        "exponentformat": "e",
    } | (ticks or {})


def finish_landscape(
    figure: go.Figure, landscape: Landscape, notes: list[str], dark: bool
) -> go.Figure:
    """Add title, notes, legend and margins to a figure of one landscape."""
    notes = [*notes, *nonfinite_notes(landscape)]
    n1, n2 = landscape.shape
    head = f"{landscape.loss_name}, {n1} × {n2}"
    return finish(figure, "Loss surface", notes, dark, head)


def nonfinite_notes(landscape: Landscape) -> list[str]:
    """Return a note that counts the cells that are not finite, if there are any."""
    (n1, n2), cell = landscape.shape, landscape.first_nonfinite
    if cell is None:
        return []
    position = f"{landscape.a.name} = {cell.a:.4g}, {landscape.b.name} = {cell.b:.4g}"
    count = landscape.nonfinite_count
    return [f"{count} of {n1 * n2} cells are not finite, the first at {position}"]


def finish(
    figure: go.Figure, title: str, notes: list[str], dark: bool, head: str = ""
) -> go.Figure:
    """Add title, notes, legend and margins, which do not overlap at 600 × 450 pixels.

    Args:
        figure: a figure with all its traces.
        title: the title.
        notes: lines below the title, also stored in the figure's metadata.
        dark: whether the background is dark.
        head: a line above the notes, not in the metadata.
    """
    subtitle = [*([head] if head else []), *notes]
    is_3d = all(trace.type in ("surface", "scatter3d") for trace in figure.data)
    entries_with_ends = sum((t.name or "").startswith(f"{t.legendgroup}: ") for t in figure.data)
    if entries_with_ends >= _MANY_PATHS:
        legend.drop_path_ends(figure)
    legend.shorten(figure)
    height = legend.estimate_height(figure)
    if height > _HIGH_LEGEND:
        shrink_axis_titles(figure)
        # Figures of several scenes set their own camera.
        if is_3d and len({trace.scene for trace in figure.data}) == 1:
            move_camera_back(figure, 1.12)
    return figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        title={
            "text": title,
            "subtitle": {"text": "<br>".join(subtitle), "font_size": 13},
            "x": 0.02,
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "pad": {"t": 12},
            "font_size": 19,
        },
        # By default, plotly shows no legend for a single trace.
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
            "l": 0 if is_3d else 70,
            "r": 10 if is_3d else 20,
            "t": 56 + 17 * len(subtitle),
            "b": (4 if is_3d else 56) + height,
        },
        font_size=15,
        meta={"notes": notes},
    )


def shrink_axis_titles(figure: go.Figure) -> None:
    """Make the axis titles of 3-D scenes smaller, so that a low scene does not cut them off."""
    figure.update_scenes({f"{axis}axis_title_font_size": 14 for axis in "xyz"})


def move_camera_back(figure: go.Figure, factor: float) -> None:
    """Multiply the distance of the camera, so that a small scene is not cut off at its edges."""
    eye = figure.layout.scene.camera.eye
    figure.update_layout(scene_camera_eye={axis: factor * eye[axis] for axis in "xyz"})
