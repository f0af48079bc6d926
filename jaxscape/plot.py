"""Results to plotly figures: nothing is computed that was not measured, nothing is shown yet.

Figures are ordinary `plotly.graph_objects.Figure`s: `write_html`, `show` and every `update_*` of
plotly apply. This is the one place where a loss array is transposed: plotly wants rows along y.
"""

import numpy as np
import plotly.graph_objects as go

from jaxscape import layout, view
from jaxscape.charts import fan, stability, steps
from jaxscape.layout import HTML_CONFIG
from jaxscape.maps import basins, trainability
from jaxscape.results import Landscape
from jaxscape.trajectory import Descents, Trajectory

__all__ = [
    "HTML_CONFIG",
    "basins",
    "contour",
    "fan",
    "stability",
    "steps",
    "surface",
    "trainability",
]

_MOST_SURFACE_VALUES = 401
"""An axis with more turns slowly in a browser."""
_MOST_HEATMAP_VALUES = 2001


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
    layout.check_finite(landscape)
    a, b, loss, notes = view.thin(landscape, _MOST_SURFACE_VALUES)
    lines, more = view.lines(landscape, paths)
    spread = float(np.nanmax(loss) - np.nanmin(loss)) or 1.0
    lift = 0.012 * spread
    figure = go.Figure(
        go.Surface(
            x=a.T if a.ndim == 2 else a,
            y=b.T if b.ndim == 2 else b,
            z=loss.T,
            colorscale=layout.COLOURS,
            colorbar=layout.colour_bar(landscape),
            hovertemplate=layout.cell_hover(landscape),
            name=landscape.loss_name,
            lighting={"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.8},
        )
    )
    for line in lines:
        x, y, z = line.way.T
        size = layout.marker_size(line)
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
            marker={"color": line.colour, "size": size, "line": layout.OUTLINE},
            legendgroup=line.name,
            name=line.label,
            customdata=line.points[:, 2:],
            hovertemplate=layout.path_hover(landscape, line),
        )
        for (x, y, z), symbol, label in line.ends:
            figure.add_scatter3d(
                x=[x],
                y=[y],
                z=[z + 2.2 * lift],
                mode="markers",
                marker=layout.end_marker(line, symbol, 6.5),
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
    return layout.finish(figure, landscape, notes + more, dark)


def contour(landscape: Landscape, *paths: Trajectory | Descents, dark: bool = False) -> go.Figure:
    """The loss from above: a heatmap with contour lines, with descents on it.

    The heatmap shows every cell up to 2001 values along an axis; the contour lines, up to 401,
    follow every k-th cell beyond. The lowest cell is marked from the full grid.

    Args:
        landscape: the surface.
        paths: descents whose parameters are named as the landscape's axes, as `Weights` are.
            `Descents` are drawn as thin lines, up to 400 spread evenly over them, with the
            median of all that have not diverged.
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
    layout.check_finite(landscape)
    single = tuple(path.median if isinstance(path, Descents) else path for path in paths)
    lines, notes = view.lines(landscape, single)
    figure = go.Figure()
    for most, trace in (
        (
            _MOST_HEATMAP_VALUES,
            {
                "type": "heatmap",
                "colorscale": layout.COLOURS,
                "colorbar": layout.colour_bar(landscape),
                "hovertemplate": layout.cell_hover(landscape),
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
        marker={"symbol": "star", "size": 15, "color": "white", "line": layout.OUTLINE},
        name=f"lowest cell: {cell.loss:.5g}{edge}",
        cliponaxis=False,
        hovertemplate=layout.hover(landscape, f"{cell.loss:.6g}", "lowest cell"),
    )
    for path, line in zip(paths, lines, strict=True):
        if isinstance(path, Descents):
            notes = [*notes, *layout.add_ensemble(figure, landscape, path, line)]
    layout.add_paths(figure, landscape, lines)
    layout.name_axes(figure, landscape)
    return layout.finish(figure, landscape, notes, dark)
