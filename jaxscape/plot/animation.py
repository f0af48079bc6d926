"""Results to plotly figures: nothing is computed that was not measured, nothing is shown yet.

Figures are ordinary `plotly.graph_objects.Figure`s: `write_html`, `show` and every `update_*` of
plotly apply.

Figures that move: paths as they were walked, frame by frame, with play, pause and a slider.
"""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale, hex_to_rgb

from jaxscape.plot.parts import layout, legend
from jaxscape.plot.parts import paths as paths_
from jaxscape.plot.surface import contour, surface
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Projection, Trajectory


def animation(
    landscape: Landscape,
    *paths: Trajectory | Projection,
    kind: Literal["surface", "contour"] = "surface",
    **drawn: Any,
) -> go.Figure:
    """Paths as they were walked, with play, pause and a slider over the epochs.

    The figure opens with the whole of the paths. There is a frame for each recorded epoch, or 100
    spread evenly over them, and a path stands in it at the last point recorded by then. Of a path
    of more than 400 points, 400 are drawn, and the figure says so.

    Args:
        landscape: the surface.
        paths: as in `surface`.
        kind: what they go over, as `surface` or `contour` draws it.
        **drawn: `critical`, `valley`, `minimax_path`, `log`, `clip` and `dark`, as these take them.

    Returns:
        The figure; its frames hold the paths alone.

    Raises:
        TypeError: what is no path.
        ValueError: no path, none with two points and a part on the grid, another kind, or what
            `surface` and `contour` refuse.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> len(jxs.plot.animation(surface, path).frames)
        21
    """
    figure, lines, shorter = still(landscape, paths, kind, drawn)
    return add_frames(figure, lines, moments(shorter))


def still(
    landscape: Landscape,
    paths: tuple[Trajectory | Projection, ...],
    kind: str,
    drawn: dict[str, Any],
) -> tuple[go.Figure, list[paths_.DrawnPath], list[Trajectory | Projection]]:
    """The figure of paths to their ends, thinned for frames; as lines, and as paths."""
    if kind not in ("surface", "contour"):
        raise ValueError(f"kind: expected 'surface' or 'contour', got {kind!r}")
    paths_.check_paths(paths)
    if not paths:
        raise ValueError(
            "paths: expected a descent to show as it went, as descend returns, got none"
        )
    shorter, notes = paths_.thin(paths, MOST_POINTS)
    draw = surface if kind == "surface" else contour
    figure = draw(landscape, *shorter, **drawn)
    lines, _ = paths_.drawn_paths(landscape, tuple(shorter))
    if not any(len(line.polyline) for line in lines):
        ends = [
            f"{axis.name} from {axis.values[0]:.4g} to {axis.values[-1]:.4g}"
            for axis in (landscape.a, landscape.b)
        ]
        raise ValueError(
            "paths: expected one of two points or more that is on the grid, got none; the grid has "
            f"{' and '.join(ends)}, and surface and contour draw it with a note"
        )
    note(figure, notes)
    if kind == "contour":
        add_ground(figure)
    return figure, lines, shorter


MOST_POINTS = 400
"""Of each path: every frame holds the path as far as it goes, in a page all of them."""
_MOST_FRAMES = 100
_MOST_ENTRIES = 7
"""Of the legend, with the surface, which has none: of more the longest is left out."""
_MILLISECONDS = 8000
"""Of the whole walk, and of a frame at most and at least:"""
_SLOWEST, _FASTEST = 300, 50
_PIXELS = 400
"""Along each side of the image under a heatmap."""


def moments(paths: Sequence[Trajectory | Projection]) -> np.ndarray:
    """(F,) the epochs at which there is a frame: all that were recorded, or 100 of them."""
    epochs = np.unique(np.concatenate([path.epoch for path in paths]))
    count = min(len(epochs), _MOST_FRAMES)
    return epochs[np.linspace(0, len(epochs) - 1, count).round().astype(int)]


def add_frames(
    figure: go.Figure,
    lines: list[paths_.DrawnPath],
    epochs: np.ndarray,
    more: Mapping[int, Sequence[dict[str, Any]]] | None = None,
) -> go.Figure:
    """Give a figure, on which paths are drawn to their ends, frames and what plays them.

    A frame holds the traces that move, and of them no more than where they are: each line as far
    as it was walked by then, the points on it, and its end where it had come to.

    Args:
        figure: what the frames are added to.
        lines: the paths on it.
        epochs: (F,) of each frame, in increasing order.
        more: what else changes: traces, by index, and of each what is new in each of F frames.

    Returns:
        The figure.
    """
    moving: dict[int, Sequence[dict[str, Any]]] = {}
    for line in lines:
        moving |= _walk(figure, line, epochs)
    moving |= more or {}
    figure.frames = [
        {
            "name": f"{epoch:.6g}",
            "traces": list(moving),
            "data": [{"type": figure.data[k].type, **parts[f]} for k, parts in moving.items()],
        }
        for f, epoch in enumerate(epochs)
    ]
    _add_controls(figure, [frame.name for frame in figure.frames])
    return figure


def add_ground(figure: go.Figure) -> None:
    """Lay an image of a figure's heatmap, its first trace, under it.

    A browser draws a heatmap anew in each frame, and is done only some time after the frame: most
    frames would be on white. Images of the layout stay.
    """
    heatmap = figure.data[0]
    cells = np.asarray(heatmap.z, float)
    ends, near = [], []
    for axis in (np.asarray(heatmap.x, float), np.asarray(heatmap.y, float)):
        places = axis[0] + (axis[-1] - axis[0]) * (np.arange(_PIXELS) + 0.5) / _PIXELS
        ends.append((axis[0], axis[-1]))
        near.append(np.searchsorted((axis[1:] + axis[:-1]) / 2, places))
    low = np.nanmin(cells) if heatmap.zmin is None else heatmap.zmin
    high = np.nanmax(cells) if heatmap.zmax is None else heatmap.zmax
    # From the top down, as images are.
    drawn = (cells[np.ix_(near[1][::-1], near[0])] - low) / ((high - low) or 1)
    stops, colors = zip(*get_colorscale(layout.COLORS), strict=True)
    channels = np.array([hex_to_rgb(color) for color in colors]).T
    hole = np.isnan(drawn)
    parts = [np.interp(np.where(hole, 0, drawn), stops, one) for one in channels]
    pixels = np.stack([*parts, np.where(hole, 0, 255)], axis=-1).round().astype(np.uint8)
    (left, right), (bottom, top) = ends
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
    """A PNG of (height, width, 4) bytes (W3C, "Portable Network Graphics", 2003)."""
    height, width, _ = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0))).tobytes()
    content = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")):
        check = zlib.crc32(kind + data)
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
    return content


def note(figure: go.Figure, notes: list[str]) -> None:
    """Say more below a figure's title."""
    title = figure.layout.title.subtitle
    figure.update_layout(
        title_subtitle_text="<br>".join([title.text, *notes]),
        margin_t=figure.layout.margin.t + 18 * len(notes),
        meta=figure.layout.meta | {"notes": [*figure.layout.meta["notes"], *notes]},
    )


def _walk(
    figure: go.Figure, line: paths_.DrawnPath, epochs: np.ndarray
) -> dict[int, Sequence[dict[str, Any]]]:
    """The traces of one path, by index, and where each of them is in every frame.

    The legend's words about where it ends are left out, as it is not there yet.
    """
    # A gap between two pieces belongs to the one after it.
    along = np.fmin.accumulate(line.epochs[::-1])[::-1]
    rows = np.searchsorted(along, epochs, side="right")
    points = np.searchsorted(line.points[:, 3], epochs, side="right")
    moving: dict[int, Sequence[dict[str, Any]]] = {}
    top: list[np.ndarray] = []
    for k, trace in enumerate(figure.data):
        if trace.legendgroup != line.name or not len(line.polyline):
            continue
        axes = "xyz" if trace.type == "scatter3d" else "xy"
        drawn = [np.asarray(trace[axis], np.float32) for axis in axes]
        if trace.mode == "lines":
            counts, top = rows, drawn
        elif trace.hovertemplate:
            counts, trace.name = points, line.name
        elif trace.name == line.ends[-1][2]:
            # It goes along with the line, as far above it as it is at the end.
            above = [ends[0] - ways[-1] for ends, ways in zip(drawn, top, strict=True)]
            drawn = [ways + offset for ways, offset in zip(top, above, strict=True)]
            label = [f"epoch {epoch:.6g}" for epoch in epochs[:-1]] + [trace.name]
            moving[k] = [
                {axis: part[max(n - 1, 0) : n] for axis, part in zip(axes, drawn, strict=True)}
                | {"name": label[f]}
                for f, n in enumerate(rows)
            ]
            continue
        else:
            continue
        moving[k] = [
            {axis: part[:n] for axis, part in zip(axes, drawn, strict=True)} for n in counts
        ]
    return moving


def _add_controls(figure: go.Figure, names: list[str]) -> None:
    """Play, pause, and a slider that says the epoch, in a row below the figure."""
    pause = round(min(_SLOWEST, max(_FASTEST, _MILLISECONDS / len(names))))
    at_once = {"mode": "immediate", "transition": {"duration": 0}}
    play = at_once | {"frame": {"duration": pause, "redraw": True}, "fromcurrent": True}
    stop = at_once | {"frame": {"duration": 0, "redraw": True}}
    entries = [trace for trace in figure.data if trace.name and trace.showlegend is not False]
    if len(entries) > _MOST_ENTRIES:
        # The longest, which would leave room for two in a row only. Its hover tells it, too.
        for trace in entries:
            if trace.name.startswith(legend.LOWEST_CELL):
                trace.showlegend = False
    legend.shorten(figure)
    layout.shrink_axis_titles(figure)
    if figure.data[0].type == "surface":
        layout.move_camera_back(figure, 1.2)
    # Below the scene, or below the names of axes.
    below = 64 if any(trace.type == "scatter" for trace in figure.data) else 14
    figure.update_layout(
        # Names in a row, and the controls above them: also a small page has room for the picture.
        legend_orientation="h",
        meta=(figure.layout.meta or {}) | {"milliseconds": pause},
        margin_b=below + 80 + legend.estimate_height(figure),
        updatemenus=[
            {
                "type": "buttons",
                "direction": "left",
                "showactive": False,
                "x": 1,
                "xanchor": "right",
                "y": 0,
                "yanchor": "top",
                "pad": {"t": below - 14},
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
                "pad": {"t": below, "l": 10, "r": 10},
                "active": len(names) - 1,
                "currentvalue": {"prefix": "epoch ", "font_size": 16},
                "font_size": 12,
                "steps": [
                    {"label": name, "method": "animate", "args": [[name], stop]} for name in names
                ],
            }
        ],
    )
