"""Results to plotly figures: nothing is computed that was not measured, nothing is shown yet.

Figures are ordinary `plotly.graph_objects.Figure`s: `write_html`, `show` and every `update_*` of
plotly apply. This is the one place where a loss array is transposed: plotly wants rows along y.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from jaxscape.results import Landscape, Trajectory

# Viridis rises evenly in lightness, also to the colour-blind, and has no reds; the paths' colours
# (after Okabe and Ito) differ in lightness too and are drawn over a dark line.
_SURFACE_COLOURS = "Viridis"
_PATH_COLOURS = ("#ff4b1f", "#ffffff", "#f3a5d0", "#ffb000", "#9fd8ff", "#d55e00")
_MOST_SURFACE_VALUES = 401
"""An axis with more turns slowly in a browser."""
_MOST_HEATMAP_VALUES = 2001

_OUTLINE = {"color": "black", "width": 1}

HTML_CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
"""For plotly's `write_html(config=...)`: no button that uploads the figure."""


class _Line(NamedTuple):
    """A path as it is drawn."""

    name: str
    colour: str
    way: np.ndarray
    """(K, 3) a, b and loss along it, cut at the grid's edge; NaN between its pieces."""
    points: np.ndarray
    """(P, 4) a, b, loss and epoch of the recorded points within the grid."""
    ends: tuple[tuple[np.ndarray, str, str], ...]
    """Where it starts and ends: position (3,), marker symbol, what the legend says."""


def surface(landscape: Landscape, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """The loss as a surface that turns, with descents on it.

    The camera is placed so that as much of the paths as possible is in view. A landscape of more
    than 401 values along an axis is thinned for display: of every block of cells the one that
    stands out most is drawn, where it is and with its own loss; the figure says so. Paths are
    drawn a hair above the surface, their hover shows their own loss; what leaves the grid is cut
    at its edge and counted in a note.

    Args:
        landscape: the surface.
        paths: descents whose parameters are named as the landscape's axes, as `Weights` are.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        ValueError: a landscape without a finite cell, or a path of other parameters.

    Example:
        >>> data = jxs.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> figure = jxs.plot.surface(sine)
        >>> figure.data[0].z.shape
        (41, 61)
    """
    _check_finite(landscape)
    a, b, loss, notes = _thin(landscape)
    lines, more = _lines(landscape, paths)
    spread = float(np.nanmax(loss) - np.nanmin(loss)) or 1.0
    lift = 0.012 * spread
    figure = go.Figure(
        go.Surface(
            x=a.T if a.ndim == 2 else a,
            y=b.T if b.ndim == 2 else b,
            z=loss.T,
            colorscale=_SURFACE_COLOURS,
            colorbar=_colour_bar(landscape),
            hovertemplate=_hover(landscape, "z"),
            name=landscape.loss_name,
            lighting={"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.8},
        )
    )
    for line in lines:
        x, y, z = line.way.T
        # A dark line under the coloured one, so that the path shows on every colour.
        for colour, width in (("black", 10), (line.colour, 6)):
            figure.add_scatter3d(
                x=x,
                y=y,
                z=z + lift,
                mode="lines",
                line={"color": colour, "width": width},
                legendgroup=line.name,
                hoverinfo="skip",
                showlegend=False,
            )
        x, y, z, _ = line.points.T
        figure.add_scatter3d(
            x=x,
            y=y,
            z=z + lift,
            mode="markers",
            marker={"color": line.colour, "size": 3.2, "line": _OUTLINE},
            legendgroup=line.name,
            name=line.name,
            customdata=line.points[:, 2:],
            hovertemplate=_path_hover(landscape),
        )
        for (x, y, z), symbol, label in line.ends:
            figure.add_scatter3d(
                x=[x],
                y=[y],
                z=[z + 2 * lift],
                mode="markers",
                marker={
                    "color": "white" if symbol == "circle" else line.colour,
                    "size": 6.5,
                    "symbol": symbol,
                    "line": _OUTLINE,
                },
                legendgroup=line.name,
                name=label,
                hoverinfo="name",
            )
    axis = {
        "showgrid": False,
        "zeroline": False,
        "title_font_size": 18,
        "nticks": 6,
        "tickfont_size": 13,
    }
    figure.update_layout(
        scene={
            "xaxis": axis | {"title": landscape.a.name},
            "yaxis": axis | {"title": landscape.b.name},
            "zaxis": axis | {"title": "loss"},
            "aspectmode": "manual",
            "aspectratio": {"x": 1, "y": 1, "z": 0.5},
            "camera": _camera(a, b, loss, lines),
        },
    )
    return _finish(figure, landscape, notes + more, dark)


def contour(landscape: Landscape, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """The loss from above: a heatmap with contour lines, with descents on it.

    The heatmap shows every cell up to 2001 values along an axis; the contour lines, up to 401,
    follow every k-th cell beyond. The lowest cell is marked from the full grid.

    Args:
        landscape: the surface.
        paths: descents whose parameters are named as the landscape's axes, as `Weights` are.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        ValueError: a landscape without a finite cell, or a path of other parameters.

    Example:
        >>> data = jxs.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> figure = jxs.plot.contour(sine)
        >>> figure.data[0].type, figure.data[0].z.shape
        ('heatmap', (41, 61))
    """
    _check_finite(landscape)
    lines, notes = _lines(landscape, paths)
    figure = go.Figure()
    for most, trace in (
        (
            _MOST_HEATMAP_VALUES,
            {
                "type": "heatmap",
                "colorscale": _SURFACE_COLOURS,
                "colorbar": _colour_bar(landscape),
                "hovertemplate": _hover(landscape, "z"),
                "name": landscape.loss_name,
            },
        ),
        (
            _MOST_SURFACE_VALUES,
            {
                "type": "contour",
                "contours_coloring": "none",
                "ncontours": 24,
                "line": {"color": "white", "width": 0.7},
                "opacity": 0.7,
                "hoverinfo": "skip",
                "showscale": False,
                "showlegend": False,
            },
        ),
    ):
        every = tuple(-(-n // most) for n in landscape.shape)
        if max(every) > 1:
            notes = [*notes, f"{trace['type']} of every {every[0]}th × {every[1]}th cell"]
        figure.add_trace(
            {
                **trace,
                "x": np.asarray(landscape.a.values)[:: every[0]],
                "y": np.asarray(landscape.b.values)[:: every[1]],
                "z": np.asarray(landscape.loss)[:: every[0], :: every[1]].T,
            }
        )
    cell = landscape.lowest
    assert cell is not None
    edge = ", on the edge" if landscape.lowest_is_on_edge else ""
    figure.add_scatter(
        x=[cell.a],
        y=[cell.b],
        mode="markers",
        marker={"symbol": "star", "size": 15, "color": "white", "line": _OUTLINE},
        name=f"lowest cell: {cell.loss:.5g}{edge}",
        cliponaxis=False,
        hovertemplate=_hover(landscape, f"{cell.loss:.6g}"),
    )
    for line in lines:
        x, y, _ = line.way.T
        for colour, width in (("black", 5), (line.colour, 2.5)):
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": colour, "width": width},
                legendgroup=line.name,
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=line.points[:, 0],
            y=line.points[:, 1],
            mode="markers",
            marker={"color": line.colour, "size": 6, "line": _OUTLINE},
            legendgroup=line.name,
            name=line.name,
            customdata=line.points[:, 2:],
            hovertemplate=_path_hover(landscape),
        )
        for (x, y, _), symbol, label in line.ends:
            figure.add_scatter(
                x=[x],
                y=[y],
                mode="markers",
                marker={
                    "color": "white" if symbol == "circle" else line.colour,
                    "size": 13,
                    "symbol": symbol,
                    "line": {"color": "black", "width": 2},
                },
                legendgroup=line.name,
                cliponaxis=False,
                name=label,
                hoverinfo="name",
            )
    ranges = (
        [float(axis.values[0]), float(axis.values[-1])] for axis in (landscape.a, landscape.b)
    )
    figure.update_xaxes(title=landscape.a.name, title_font_size=18, range=next(ranges))
    figure.update_yaxes(title=landscape.b.name, title_font_size=18, range=next(ranges))
    return _finish(figure, landscape, notes, dark)


def _check_finite(landscape: Landscape) -> None:
    if landscape.lowest is None:
        n1, n2 = landscape.shape
        raise ValueError(
            f"landscape: expected at least one finite loss to draw, got none in {n1} × {n2} cells"
        )


def _hover(landscape: Landscape, loss: str) -> str:
    value = f"%{{{loss}:.6g}}" if loss == "z" else loss
    a, b = landscape.a.name, landscape.b.name
    return f"{a} %{{x:.5g}}<br>{b} %{{y:.5g}}<br>loss {value}<extra>%{{fullData.name}}</extra>"


def _path_hover(landscape: Landscape) -> str:
    """As `_hover`, with the recorded loss (the drawn height is lifted) and the epoch."""
    return _hover(landscape, "%{customdata[0]:.6g}<br>epoch %{customdata[1]:.5~g}")


def _colour_bar(landscape: Landscape) -> dict[str, Any]:
    return {"title": {"text": landscape.loss_name, "side": "right"}, "thickness": 18, "len": 0.75}


def _finish(figure: go.Figure, landscape: Landscape, notes: list[str], dark: bool) -> go.Figure:
    (n1, n2), holes = landscape.shape, int(landscape.nonfinite.sum())
    if holes:
        notes = [*notes, f"{holes} of {n1 * n2} cells are not finite"]
    subtitle = f"{landscape.loss_name}, {n1} × {n2}" + "".join(f"; {note}" for note in notes)
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        title={"text": "Loss surface", "subtitle": {"text": subtitle}, "x": 0.02, "y": 0.97},
        legend={
            "orientation": "h",
            "x": 0.02,
            "y": 0.0,
            "yanchor": "top",
            "itemsizing": "constant",
        },
        margin={"l": 60, "r": 20, "t": 100, "b": 90},
        font_size=15,
        meta={"notes": notes},
    )
    if figure.layout.scene.camera.eye.x is not None:
        figure.update_layout(margin={"l": 0, "r": 10, "t": 70, "b": 30}, legend_y=0.02)
    else:
        figure.update_layout(legend_y=-0.13)
    return figure


def _thin(landscape: Landscape) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The landscape as a surface that a browser can turn, holes as NaN.

    Returns:
        Coordinates and losses: axes (n1,), (n2,) and losses (n1, n2) as they are, or of each
        block of cells the one to draw, all three (m1, m2); and what to note.
    """
    a, b = np.asarray(landscape.a.values), np.asarray(landscape.b.values)
    loss = np.asarray(landscape.loss)
    loss = np.where(np.isfinite(loss), loss, np.nan)
    size = [-(-n // _MOST_SURFACE_VALUES) for n in loss.shape]
    if max(size) == 1:
        return a, b, loss, []
    blocks = [-(-n // k) for n, k in zip(loss.shape, size, strict=True)]
    missing = [(0, m * k - n) for n, k, m in zip(loss.shape, size, blocks, strict=True)]
    block = np.pad(loss, missing, constant_values=np.nan)
    block = block.reshape(blocks[0], size[0], blocks[1], size[1]).swapaxes(1, 2)
    block = block.reshape(*blocks, -1)
    # Of most blocks the middle cell, so that the mesh is even, and of those along the border the
    # border's, so that it reaches the edge. Of a block whose lowest (highest) cell is below
    # (above) those of all blocks around it, that cell: no valley bottom or peak is lost.
    drawn = [
        np.clip(np.arange(m) * k + k // 2, 0, n - 1)
        for n, k, m in zip(loss.shape, size, blocks, strict=True)
    ]
    for index, n in zip(drawn, loss.shape, strict=True):
        index[0], index[-1] = 0, n - 1
    rows, columns = (index.copy() for index in np.meshgrid(*drawn, indexing="ij"))
    for sign in (1, -1):
        heights = np.where(np.isnan(block), np.inf, sign * block)
        lowest = heights.min(axis=2)
        around = np.pad(lowest, 1, constant_values=np.inf)
        neighbours = [
            around[1 + di : 1 + di + blocks[0], 1 + dj : 1 + dj + blocks[1]]
            for di in (-1, 0, 1)
            for dj in (-1, 0, 1)
            if (di, dj) != (0, 0)
        ]
        stands_out = lowest < np.min(neighbours, axis=0)
        within = np.unravel_index(heights.argmin(axis=2), size)
        for index, inside, k in zip((rows, columns), within, size, strict=True):
            start = (index // k) * k
            index[stands_out] = (start + inside)[stands_out]
    note = f"drawn {blocks[0]} × {blocks[1]}, keeping every block's lowest and highest points"
    return a[rows], b[columns], loss[rows, columns], [note]


def _lines(landscape: Landscape, paths: tuple[Trajectory, ...]) -> tuple[list[_Line], list[str]]:
    lines, notes = [], []
    for k, path in enumerate(paths):
        name = "descent" if len(paths) == 1 else f"descent {k + 1}"
        line, note = _line(landscape, path, name, _PATH_COLOURS[k % len(_PATH_COLOURS)])
        lines.append(line)
        notes += note
    return lines, notes


def _line(
    landscape: Landscape, path: Trajectory, name: str, colour: str
) -> tuple[_Line, list[str]]:
    axes = (landscape.a, landscape.b)
    kept = path.until_divergence()
    points = np.stack(
        [*(_coordinate(kept, axis.name) for axis in axes), kept.loss, kept.epoch], axis=1
    ).astype(float)
    box = np.array([[float(axis.values[0]), float(axis.values[-1])] for axis in axes])
    # Half a float32 rounding of slack: a point set on the border is on the grid.
    slack = 1e-6 * (box[:, 1] - box[:, 0])
    inside = ((points[:, :2] >= box[:, 0] - slack) & (points[:, :2] <= box[:, 1] + slack)).all(1)
    way = _cut(points[:, :3], box)
    end = "end" if not path.diverged else f"diverged at step {int(path.diverged_step)}, last"
    ends = []
    for index, symbol, label in ((0, "circle", "start"), (-1, "diamond", end)):
        a, b = points[index, :2]
        if inside[index]:
            ends.append((points[index, :3], symbol, f"{label} ({a:.3g}, {b:.3g})"))
        elif len(way):
            ends.append((way[index], symbol, f"{label} beyond the edge ({a:.3g}, {b:.3g})"))
    out = int((~inside).sum())
    note = [f"{out} of {len(points)} points of the {name} lie beyond the grid"] if out else []
    return _Line(name, colour, way, points[inside], tuple(ends)), note


def _coordinate(path: Trajectory, name: str) -> np.ndarray:
    params: Any = path.params
    by_name = params._asdict() if hasattr(params, "_asdict") else params
    if not isinstance(by_name, Mapping) or name not in by_name or np.ndim(by_name[name]) != 1:
        raise ValueError(
            f"paths: expected parameters with a number {name!r} at every point, as the "
            f"landscape's axis is called, got {params!r}"
        )
    return np.asarray(by_name[name])


def _cut(way: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The parts of a polyline (K, 3) within `box`, (2, 2) of low and high; NaN between parts."""
    pieces: list[np.ndarray] = []
    for p, q in itertools.pairwise(way):
        # Liang and Barsky (1984): the range of t for which p + t (q - p) is within all sides.
        first, last = 0.0, 1.0
        for k in (0, 1):
            with np.errstate(divide="ignore", invalid="ignore"):
                sides = np.sort((box[k] - p[k]) / (q[k] - p[k]))
            if p[k] == q[k]:
                sides = np.array([-np.inf, np.inf] if box[k, 0] <= p[k] <= box[k, 1] else [2, -1])
            first, last = max(first, sides[0]), min(last, sides[1])
        if first > last:
            continue
        start, end = p + first * (q - p), p + last * (q - p)
        if not pieces or not np.array_equal(pieces[-1], start):
            pieces += [np.full(3, np.nan)] * bool(pieces) + [start]
        pieces.append(end)
    return np.array(pieces).reshape(-1, 3)


def _camera(a: np.ndarray, b: np.ndarray, loss: np.ndarray, lines: list[_Line]) -> dict[str, Any]:
    """The camera from which most of the paths shows, seen as large as may be.

    From every candidate direction a ray goes from each drawn point to the eye; where it passes
    under the surface, the point is hidden.
    """

    def eye(azimuth: float, elevation: float) -> np.ndarray:
        flat = np.cos(elevation)
        return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])

    azimuths = np.deg2rad(np.arange(-50, 310, 15))
    elevations = np.deg2rad([30, 22, 40, 52])
    chosen = eye(azimuths[0], elevations[0])
    ways = [line.way for line in lines if len(line.way)]
    if ways:
        lows = [values.min() for values in (a, b)] + [np.nanmin(loss)]
        highs = [values.max() for values in (a, b)] + [np.nanmax(loss)]
        low, spread = np.array(lows), np.array(highs) - lows
        # The scene as it is drawn: sides 1, 1 and 0.5 around the origin.
        sides = np.array([1, 1, 0.5])
        way = np.concatenate(ways)
        way = way[~np.isnan(way).any(axis=1)]
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
    x, y, z = 1.6 * chosen
    return {"eye": {"x": x, "y": y, "z": z}, "center": {"x": 0, "y": 0, "z": -0.08}}
