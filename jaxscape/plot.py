"""Results to plotly figures: nothing is computed that was not measured, nothing is shown yet.

Figures are ordinary `plotly.graph_objects.Figure`s: `write_html`, `show` and every `update_*` of
plotly apply. This is the one place where a loss array is transposed: plotly wants rows along y.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape import view
from jaxscape.results import Landscape
from jaxscape.trajectory import Trajectory

# Viridis rises evenly in lightness, also to the colour-blind, and leaves the reds to the paths.
_SURFACE_COLOURS = "Viridis"
_MOST_SURFACE_VALUES = 401
"""An axis with more turns slowly in a browser."""
_MOST_HEATMAP_VALUES = 2001

_OUTLINE = {"color": "black", "width": 1}

HTML_CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
"""For plotly's `write_html(config=...)`: no button that uploads the figure."""


def surface(landscape: Landscape, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """The loss as a surface that turns, with descents on it.

    The camera is placed so that as much of the paths as possible is in view. Of a landscape with
    more than 401 values along an axis, one cell of each block is drawn, where it is and with its
    own loss: the lowest (highest) of a block that reaches below (above) all blocks around it, so
    that no pit or peak is lost; the figure says so. Paths are drawn a hair above the surface, their
    hover shows their own loss; what leaves the grid is cut at its edge and counted in a note.

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
    a, b, loss, notes = view.thin(landscape, _MOST_SURFACE_VALUES)
    lines, more = view.lines(landscape, paths)
    spread = float(np.nanmax(loss) - np.nanmin(loss)) or 1.0
    lift = 0.012 * spread
    figure = go.Figure(
        go.Surface(
            x=a.T if a.ndim == 2 else a,
            y=b.T if b.ndim == 2 else b,
            z=loss.T,
            colorscale=_SURFACE_COLOURS,
            colorbar=_colour_bar(landscape),
            hovertemplate=_cell_hover(landscape),
            name=landscape.loss_name,
            lighting={"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.8},
        )
    )
    for line in lines:
        x, y, z = line.way.T
        size = _marker_size(line)
        # A dark line under the coloured one, so that the path shows on every colour; at the same
        # height the two would fight for every pixel.
        for colour, width, height in (
            ("black", 3 * size, lift),
            (line.colour, 2 * size, 1.6 * lift),
        ):
            figure.add_scatter3d(
                x=x,
                y=y,
                z=z + height,
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
            z=z + 1.6 * lift,
            mode="markers",
            marker={"color": line.colour, "size": size, "line": _OUTLINE},
            legendgroup=line.name,
            name=line.label,
            customdata=line.points[:, 2:],
            hovertemplate=_path_hover(landscape, line),
        )
        for (x, y, z), symbol, label in line.ends:
            figure.add_scatter3d(
                x=[x],
                y=[y],
                z=[z + 2.2 * lift],
                mode="markers",
                marker=_end_marker(line, symbol, 6.5),
                legendgroup=line.name,
                showlegend=False,
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
            "camera": view.camera(a, b, loss, lines),
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
    lines, notes = view.lines(landscape, paths)
    figure = go.Figure()
    for most, trace in (
        (
            _MOST_HEATMAP_VALUES,
            {
                "type": "heatmap",
                "colorscale": _SURFACE_COLOURS,
                "colorbar": _colour_bar(landscape),
                "hovertemplate": _cell_hover(landscape),
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
        hovertemplate=_hover(landscape, f"{cell.loss:.6g}", "lowest cell"),
    )
    for line in lines:
        x, y, _ = line.way.T
        size = _marker_size(line)
        for colour, width in (("black", 1.6 * size), (line.colour, 0.8 * size)):
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
            marker={"color": line.colour, "size": 2 * size, "line": _OUTLINE},
            legendgroup=line.name,
            name=line.label,
            customdata=line.points[:, 2:],
            hovertemplate=_path_hover(landscape, line),
        )
        for (x, y, _), symbol, label in line.ends:
            figure.add_scatter(
                x=[x],
                y=[y],
                mode="markers",
                marker=_end_marker(line, symbol, 13),
                legendgroup=line.name,
                showlegend=False,
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
    if not isinstance(landscape, Landscape):
        raise TypeError(f"landscape: expected a Landscape, got {type(landscape).__name__}")
    if landscape.lowest is None:
        n1, n2 = landscape.shape
        raise ValueError(
            f"landscape: expected at least one finite loss to draw, got none in {n1} × {n2} cells"
        )


def _marker_size(line: view.Line) -> float:
    """Small where points are too many to be told apart."""
    return 3.2 if len(line.points) <= 100 else 2


def _end_marker(line: view.Line, symbol: str, size: float) -> dict[str, Any]:
    colour = "white" if symbol == "circle" else line.colour
    return {"symbol": symbol, "size": size, "color": colour, "line": _OUTLINE | {"width": 2}}


def _hover(landscape: Landscape, loss: str, name: str) -> str:
    a, b = landscape.a.name, landscape.b.name
    return f"{a} %{{x:.5~g}}<br>{b} %{{y:.5~g}}<br>loss {loss}<extra>{name}</extra>"


def _cell_hover(landscape: Landscape) -> str:
    return _hover(landscape, "%{z:.6~g}", landscape.loss_name)


def _path_hover(landscape: Landscape, line: view.Line) -> str:
    """The recorded loss (the drawn height is lifted) and the epoch."""
    return _hover(landscape, "%{customdata[0]:.6~g}<br>epoch %{customdata[1]:.5~g}", line.name)


def _colour_bar(landscape: Landscape) -> dict[str, Any]:
    return {"title": {"text": landscape.loss_name, "side": "right"}, "thickness": 18, "len": 0.75}


def _finish(figure: go.Figure, landscape: Landscape, notes: list[str], dark: bool) -> go.Figure:
    (n1, n2), holes = landscape.shape, int(landscape.nonfinite.sum())
    if holes:
        notes = [*notes, f"{holes} of {n1 * n2} cells are not finite"]
    subtitle = "<br>".join([f"{landscape.loss_name}, {n1} × {n2}", *notes])
    entries = sum(bool(trace.name) and trace.showlegend is not False for trace in figure.data)
    turns = figure.data[0].type == "surface"
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        title={"text": "Loss surface", "subtitle": {"text": subtitle}, "x": 0.02, "y": 0.97},
        legend={
            "x": 0.02,
            "y": 0.01,
            "yref": "container",
            "yanchor": "bottom",
            "itemsizing": "constant",
            "tracegroupgap": 0,
        },
        margin={
            "l": 0 if turns else 60,
            "r": 10,
            "t": 80 + 18 * len(notes),
            "b": (10 if turns else 75) + 22 * min(entries, 8),
        },
        font_size=15,
        meta={"notes": notes},
    )
    return figure
