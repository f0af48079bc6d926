"""Animate training paths with frames, play and pause buttons and a slider over the epochs."""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale, hex_to_rgb

from jaxscape._util.checks import check_choice
from jaxscape.critical.points import CriticalPoints
from jaxscape.plot.parts import layout, legend
from jaxscape.plot.parts.downsample import evenly_spaced
from jaxscape.plot.parts.paths import DrawnPath, check_paths, drawn_paths, thin
from jaxscape.plot.surface import contour, surface
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Projection, Trajectory
from jaxscape.topology.valleys import MinimaxPath, Valley

_MAX_POINTS = 400
"""The largest number of points drawn of each path. Every frame holds a copy of the path so far."""
_MAX_FRAMES = 100
_MAX_ENTRIES = 7
"""If the legend has more entries, the longest, that of the lowest cell, is dropped."""
_TOTAL_MS = 8000
"""The duration of an animation, within the limits for a frame."""
_MAX_FRAME_MS, _MIN_FRAME_MS = 300, 50
_IMAGE_PIXELS = 400
"""Width and height of the image under a heatmap."""

Frames = Mapping[int, Sequence[dict[str, Any]]]
"""Changes of traces: for the index of each trace, one dictionary of plotly properties per frame."""


class Options(TypedDict, total=False):
    """Keyword arguments that `surface` and `contour` have in common."""

    critical: CriticalPoints | None
    valley: Valley | None
    minimax_path: MinimaxPath | None
    log: bool
    clip: float | None
    dark: bool


def animation(
    landscape: Landscape,
    *paths: Trajectory | Projection,
    kind: Literal["surface", "contour"] = "surface",
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
    log: bool = False,
    clip: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Animate training paths on a surface or a contour plot, with a slider over the epochs.

    The figure first shows the complete paths. There is one frame per recorded epoch, or 100 evenly
    spaced ones if there are more. In each frame, a path ends at the last point recorded up to that
    epoch. At most 400 points of a path are drawn; a note counts them if there are more.

    Args:
        landscape: the loss on a grid.
        *paths: trajectories or projections, as in `surface`; at least one.
        kind: the figure on which the paths are drawn.
        critical: the result of `critical_points`, drawn in every frame.
        valley: the result of `valley`, drawn in every frame.
        minimax_path: the result of `minimax_path`, drawn in every frame.
        log: whether heights and colors use a log scale, as in `surface`.
        clip: fraction of the cells that have distinct colors, as in `surface`.
        dark: whether the background is dark.

    Returns:
        The figure; its frames hold only the paths.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: `kind` is neither "surface" nor "contour"; there is no path; no path has two or
            more points and a section on the grid; or `surface` would raise it for the same
            arguments.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> len(jxs.plot.animation(surface, path).frames)
        21
    """
    figure, drawn, epochs = draw_complete_paths(
        landscape,
        paths,
        kind,
        critical=critical,
        valley=valley,
        minimax_path=minimax_path,
        log=log,
        clip=clip,
        dark=dark,
    )
    return add_frames(figure, drawn, epochs)


def draw_complete_paths(
    landscape: Landscape,
    paths: tuple[Trajectory | Projection, ...],
    kind: Literal["surface", "contour"],
    **options: Unpack[Options],
) -> tuple[go.Figure, list[DrawnPath], np.ndarray]:
    """Draw the figure that an animation starts with.

    Returns:
        The figure, the paths as they are drawn, and the epochs (F,) of the frames.

    Raises:
        TypeError, ValueError: As in `animation`.
    """
    check_choice("kind", kind, ("surface", "contour"))
    check_paths(paths)
    if not paths:
        raise ValueError("paths: expected at least one result of descend or project, got none")
    thinned, notes = thin(paths, _MAX_POINTS)
    draw = surface if kind == "surface" else contour
    figure = draw(landscape, *thinned, **options)
    drawn, _ = drawn_paths(landscape, tuple(thinned))
    if not any(len(path.polyline) for path in drawn):
        ranges = [
            f"{axis.name} from {axis.values[0]:.4g} to {axis.values[-1]:.4g}"
            for axis in (landscape.a, landscape.b)
        ]
        raise ValueError(
            "paths: expected one with two or more points on the grid, got none; the grid has "
            f"{' and '.join(ranges)}; plot.surface and plot.contour accept other paths, with a note"
        )
    add_notes(figure, notes)
    if kind == "contour":
        _add_heatmap_image(figure)
    return figure, drawn, _frame_epochs(thinned)


def _frame_epochs(paths: Sequence[Trajectory | Projection]) -> np.ndarray:
    """Return the recorded epochs of all paths, (F,), or 100 evenly spaced ones if they are more."""
    epochs = np.unique(np.concatenate([path.epoch for path in paths]))
    return epochs[evenly_spaced(len(epochs), _MAX_FRAMES)]


def add_notes(figure: go.Figure, notes: list[str]) -> None:
    """Add notes to those below the title of a figure."""
    subtitle = figure.layout.title.subtitle
    figure.update_layout(
        title_subtitle_text="<br>".join([subtitle.text, *notes]),
        margin_t=figure.layout.margin.t + 18 * len(notes),
        meta=figure.layout.meta | {"notes": [*figure.layout.meta["notes"], *notes]},
    )


def add_frames(
    figure: go.Figure,
    drawn: list[DrawnPath],
    epochs: np.ndarray,
    more: Frames | None = None,
) -> go.Figure:
    """Add frames, buttons and a slider to a figure with complete paths.

    A frame holds only what changes: the coordinates of the traces of each path up to that epoch,
    and the name of its end marker.

    Args:
        figure: the figure, which is changed.
        drawn: the paths on it.
        epochs: (F,) the epoch of each frame, in increasing order.
        more: changes of other traces.

    Returns:
        The same figure.
    """
    changes: dict[int, Sequence[dict[str, Any]]] = {}
    for path in drawn:
        changes |= _path_frames(figure, path, epochs)
    changes |= more or {}
    figure.frames = [
        {
            "name": f"{epoch:.6g}",
            "traces": list(changes),
            "data": [{"type": figure.data[k].type, **parts[f]} for k, parts in changes.items()],
        }
        for f, epoch in enumerate(epochs)
    ]
    _add_controls(figure, [frame.name for frame in figure.frames])
    return figure


def _path_frames(figure: go.Figure, path: DrawnPath, epochs: np.ndarray) -> Frames:
    """Return the changes of the traces of one path in every frame.

    Also drop the coordinates of the end from the path's legend entry, because they hold only for
    the last frame.
    """
    # A gap between two pieces belongs to the next piece.
    path_epochs = np.fmin.accumulate(path.epochs[::-1])[::-1]
    line_counts = np.searchsorted(path_epochs, epochs, side="right")
    point_counts = np.searchsorted(path.points[:, 3], epochs, side="right")
    changes: dict[int, Sequence[dict[str, Any]]] = {}
    top_line: list[np.ndarray] = []
    for k, trace in enumerate(figure.data):
        if trace.legendgroup != path.name or not len(path.polyline):
            continue
        axes = "xyz" if trace.type == "scatter3d" else "xy"
        coordinates = [np.asarray(trace[axis], np.float32) for axis in axes]
        if trace.mode == "lines":
            counts, top_line = line_counts, coordinates
        elif trace.hovertemplate:
            counts, trace.name = point_counts, path.name
        elif trace.name == path.ends[-1][2]:
            # The end marker moves along the line and keeps its distance above it.
            offsets = [end[0] - line[-1] for end, line in zip(coordinates, top_line, strict=True)]
            lifted = [line + offset for line, offset in zip(top_line, offsets, strict=True)]
            labels = [f"epoch {epoch:.6g}" for epoch in epochs[:-1]] + [trace.name]
            changes[k] = [
                {axis: part[max(n - 1, 0) : n] for axis, part in zip(axes, lifted, strict=True)}
                | {"name": label}
                for n, label in zip(line_counts, labels, strict=True)
            ]
            continue
        else:
            continue
        changes[k] = [
            {axis: part[:n] for axis, part in zip(axes, coordinates, strict=True)} for n in counts
        ]
    return changes


def _add_heatmap_image(figure: go.Figure) -> None:
    """Put an image of a figure's heatmap, its first trace, under the heatmap.

    plotly.js redraws a heatmap in each frame and finishes after the frame, so most frames would
    have a white background. It does not redraw layout images.
    """
    heatmap = figure.data[0]
    cells = np.asarray(heatmap.z, float)
    ranges, nearest = [], []
    for values in (np.asarray(heatmap.x, float), np.asarray(heatmap.y, float)):
        centers = (np.arange(_IMAGE_PIXELS) + 0.5) / _IMAGE_PIXELS
        centers = values[0] + (values[-1] - values[0]) * centers
        ranges.append((values[0], values[-1]))
        nearest.append(np.searchsorted((values[1:] + values[:-1]) / 2, centers))
    low = np.nanmin(cells) if heatmap.zmin is None else heatmap.zmin
    high = np.nanmax(cells) if heatmap.zmax is None else heatmap.zmax
    # The first row of an image is at the top.
    heights = (cells[np.ix_(nearest[1][::-1], nearest[0])] - low) / ((high - low) or 1)
    stops, colors = zip(*get_colorscale(layout.COLORS), strict=True)
    channels = np.array([hex_to_rgb(color) for color in colors]).T
    hole = np.isnan(heights)
    parts = [np.interp(np.where(hole, 0, heights), stops, channel) for channel in channels]
    pixels = np.stack([*parts, np.where(hole, 0, 255)], axis=-1).round().astype(np.uint8)
    (left, right), (bottom, top) = ranges
    figure.add_layout_image(
        source="data:image/png;base64," + base64.b64encode(_png(pixels)).decode(),
        xref="x",
        yref="y",
        x=left,
        y=top,
        sizex=right - left,
        sizey=top - bottom,
        sizing="stretch",
        layer="below",
    )


def _png(pixels: np.ndarray) -> bytes:
    """Encode (height, width, 4) bytes as PNG (W3C, "Portable Network Graphics", 2003)."""
    height, width, _ = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0))).tobytes()
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")):
        checksum = zlib.crc32(kind + data)
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
    return content


def _add_controls(figure: go.Figure, names: list[str]) -> None:
    """Add play and pause buttons and a slider over the frames in a row below the figure."""
    duration = round(min(_MAX_FRAME_MS, max(_MIN_FRAME_MS, _TOTAL_MS / len(names))))
    at_once = {"mode": "immediate", "transition": {"duration": 0}}
    play = at_once | {"frame": {"duration": duration, "redraw": True}, "fromcurrent": True}
    stop = at_once | {"frame": {"duration": 0, "redraw": True}}
    entries = [trace for trace in figure.data if trace.name and trace.showlegend is not False]
    if len(entries) > _MAX_ENTRIES:
        # The long entry of the lowest cell limits the legend to two columns. Its hover text shows
        # the same.
        for trace in entries:
            if trace.name.startswith(legend.LOWEST_CELL):
                trace.showlegend = False
    legend.shorten(figure)
    layout.shrink_axis_titles(figure)
    if figure.data[0].type == "surface":
        layout.move_camera_back(figure, 1.2)
    # The controls are below the scene, or below the axis titles of a contour plot.
    offset = 64 if any(trace.type == "scatter" for trace in figure.data) else 14
    figure.update_layout(
        # A horizontal legend under the controls leaves more space for the picture on a small page.
        legend_orientation="h",
        meta=(figure.layout.meta or {}) | {"milliseconds": duration},
        margin_b=offset + 80 + legend.estimate_height(figure),
        updatemenus=[
            {
                "type": "buttons",
                "direction": "left",
                "showactive": False,
                "x": 1,
                "xanchor": "right",
                "y": 0,
                "yanchor": "top",
                "pad": {"t": offset - 14},
                "font_size": 13,
                "buttons": [
                    {"label": "Play", "method": "animate", "args": [None, play]},
                    {"label": "Pause", "method": "animate", "args": [[None], stop]},
                ],
            }
        ],
        sliders=[
            {
                "x": 0,
                "len": 1,
                "y": 0,
                "yanchor": "top",
                "pad": {"t": offset, "l": 10, "r": 10},
                "active": len(names) - 1,
                "currentvalue": {"prefix": "epoch ", "font_size": 16},
                "font_size": 12,
                "steps": [
                    {"label": name, "method": "animate", "args": [[name], stop]} for name in names
                ],
            }
        ],
    )
