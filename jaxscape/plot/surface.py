"""The loss over a plane as a figure: a surface that turns, or from above.

This is the one place where a loss array is transposed: plotly wants rows along y.
"""

import plotly.graph_objects as go

from jaxscape.critical.points import CriticalPoints
from jaxscape.plot.parts import downsample, layout, legend, overlays, scene
from jaxscape.plot.parts import paths as paths_
from jaxscape.plot.parts.scale import common_scale
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents, Projection, Trajectory
from jaxscape.topology.valleys import MinimaxPath, Valley

_MOST_SURFACE_VALUES = 401
"""An axis with more turns slowly in a browser."""
_MOST_HEATMAP_VALUES = 2001


def surface(
    landscape: Landscape,
    *paths: Trajectory | Projection,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
    log: bool = False,
    clip: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """The loss as a surface that turns, with descents on it.

    The camera is placed so that as much of the paths as possible is in view. Of a landscape with
    more than 401 values along an axis, one cell of each block is drawn, where it is and with its
    own loss: the lowest (highest) of a block that reaches below (above) all blocks around it, so
    that no pit or peak is lost; the figure says so. Losses in float64 are drawn in float32 where
    that shows nowhere, in half the bytes. Finite cells that no square of four has are drawn as
    points. Paths are drawn a hair above the surface, their hover shows their own loss; what leaves
    the grid is cut at its edge and counted in a note, and a path whose losses are not the surface's
    where it passes is named in one.

    Args:
        landscape: the surface.
        paths: descents whose parameters are named as the landscape's axes, as `Weights` are, or
            what `project` makes of any other's. One that leaves the plane hangs at its own loss,
            dotted on the surface under it.
        critical, valley, minimax_path: what `critical_points`, `valley` and `minimax_path` return, drawn on
            it.
        log: heights and colors on a log scale, with ticks in units of the loss. What is lower than
            the lowest cell is drawn at its height then.
        clip: the share of cells, above 0 to 1, whose colors differ: those of higher loss have one
            color, and their heights.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        ValueError: a landscape without a finite cell, or for a log scale with one below 0, or none
            above; paths or points of other coordinates, or paths of another plane.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> figure = jxs.plot.surface(sine)
        >>> figure.data[0].z.shape
        (41, 61)
    """
    layout.check_drawable(landscape)
    scale = common_scale([landscape], log, clip)
    a, b, loss, notes = downsample.for_surface(landscape, _MOST_SURFACE_VALUES)
    lines, more = paths_.drawn_paths(landscape, paths)
    more += paths_.mismatch_notes(landscape, paths)
    heights, (low, top) = scale.heights(loss), scale.color_range
    figure = go.Figure(
        go.Surface(
            x=layout.narrow_dtype(a).T,
            y=layout.narrow_dtype(b).T,
            z=layout.narrow_dtype(heights).T,
            # Plotly's hover reads these the other way round than `z`.
            customdata=layout.narrow_dtype(loss) if log else None,
            cmin=low if clip is not None else None,
            cmax=top if clip is not None else None,
            colorscale=layout.COLORS,
            colorbar=layout.color_bar(landscape.loss_name, scale.ticks(scale.top)),
            hovertemplate=layout.cell_hover_text(landscape, scale),
            name=landscape.loss_name,
            lighting=scene.LIGHTING,
        )
    )
    told = loss if log else None
    notes += scene.add_lone_cells(figure, a, b, heights, heights, (low, top), told)
    scene.add_paths(figure, landscape, lines, scale)
    known = overlays.add(figure, landscape, critical, valley, minimax_path, scale)
    ways = [line.polyline for line in lines] + overlays.polylines(
        landscape, critical, valley, minimax_path
    )
    figure.update_layout(scene=scene.scene_layout(landscape, a, b, heights, ways, scale))
    notes = [
        *scene.unit_notes(landscape),
        *notes,
        *scale.notes,
        *scene.precision_notes(scale),
        *more,
        *known,
    ]
    return layout.finish_landscape(figure, landscape, notes, dark)


def contour(
    landscape: Landscape,
    *paths: Trajectory | Projection | Descents,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
    log: bool = False,
    clip: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """The loss from above: a heatmap with contour lines, with descents on it.

    The heatmap shows every cell up to 2001 values along an axis, and the contour lines follow every
    cell up to 401; beyond, one of each block of cells, the lowest (highest) where it is below
    (above) all blocks around it, so that no pit or peak is lost; the figure says so. The lowest
    cell is marked where it is in the full grid.

    Args:
        landscape: the surface.
        paths: descents whose parameters are named as the landscape's axes, as `Weights` are, or
            what `project` makes of any other's, dotted if the plane's loss is not its own.
            `Descents` are drawn as thin lines, up to 400 spread evenly over them, with the
            median of all that have not diverged.
        critical, valley, minimax_path: what `critical_points`, `valley` and `minimax_path` return, drawn on
            it.
        log: colors and contour lines on a log scale, with ticks in units of the loss; cells of
            loss 0 are drawn as the lowest above.
        clip: the share of cells, above 0 to 1, whose colors differ: those of higher loss have one
            color.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        ValueError: a landscape without a finite cell, or for a log scale with one below 0, or none
            above; paths or points of other coordinates, or paths of another plane.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> figure = jxs.plot.contour(sine)
        >>> figure.data[0].type, figure.data[0].z.shape
        ('heatmap', (41, 61))
    """
    layout.check_drawable(landscape)
    scale = common_scale([landscape], log, clip)
    single = tuple(path.median if isinstance(path, Descents) else path for path in paths)
    lines, more = paths_.drawn_paths(landscape, single)
    more += paths_.mismatch_notes(landscape, paths)
    low, top = scale.color_range
    figure = go.Figure()
    a, b, loss, notes = downsample.for_image(landscape, _MOST_HEATMAP_VALUES, "heatmap")
    figure.add_heatmap(
        x=a,
        y=b,
        z=layout.narrow_dtype(scale.heights(loss)).T,
        customdata=layout.narrow_dtype(loss).T if log else None,
        zmin=low if clip is not None else None,
        zmax=top if clip is not None else None,
        colorscale=layout.COLORS,
        colorbar=layout.color_bar(landscape.loss_name, scale.ticks(scale.top)),
        hovertemplate=layout.cell_hover_text(landscape, scale),
        hoverongaps=False,
        name=landscape.loss_name,
    )
    a, b, loss, thinned = downsample.for_image(landscape, _MOST_SURFACE_VALUES, "contour lines")
    figure.add_contour(
        x=a,
        y=b,
        z=layout.narrow_dtype(scale.heights(loss)).T,
        contours_coloring="none",
        ncontours=24,
        line={"color": "white", "width": 0.7},
        opacity=0.7,
        hoverinfo="skip",
        showscale=False,
        showlegend=False,
    )
    cell = landscape.lowest
    assert cell is not None
    edge = ", on the edge" if landscape.lowest_is_on_edge else ""
    figure.add_scatter(
        x=[cell.a],
        y=[cell.b],
        mode="markers",
        marker={"symbol": "star", "size": 15, "color": "white", "line": layout.OUTLINE},
        name=f"{legend.LOWEST_CELL}: {cell.loss:.5g}{edge}",
        customdata=[[cell.loss]],
        cliponaxis=False,
        hovertemplate=layout.hover_text(landscape, f"{cell.loss:.6g}", legend.LOWEST_CELL),
    )
    notes = [*notes, *thinned, *scale.notes, *more]
    for path, line in zip(paths, lines, strict=True):
        if isinstance(path, Descents):
            notes = [*notes, *layout.add_descents(figure, landscape, path, line)]
    layout.add_paths(figure, landscape, lines)
    notes = [*notes, *overlays.add(figure, landscape, critical, valley, minimax_path)]
    layout.name_axes(figure, landscape)
    return layout.finish_landscape(figure, landscape, notes, dark)
