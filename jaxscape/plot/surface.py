"""Draw a landscape as a 3-D surface, or as a heatmap with contour lines.

The first axis of a loss array is the coordinate a. plotly expects b first, so arrays are transposed
for a trace.
"""

import plotly.graph_objects as go

from jaxscape.critical.points import CriticalPoints
from jaxscape.plot.parts import downsample, layout, legend, overlays, scene
from jaxscape.plot.parts.paths import drawn_paths, mismatch_notes
from jaxscape.plot.parts.scale import common_scale
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Descents, Projection, Trajectory
from jaxscape.topology.valleys import MinimaxPath, Valley

MAX_SURFACE_VALUES = 401
"""The largest number of values along an axis of a surface. Browsers rotate larger ones slowly."""
_MAX_HEATMAP_VALUES = 2001


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
    """Draw the loss as a 3-D surface, with training paths on it.

    The camera is placed so that most of the paths is visible. If an axis has more than 401 values,
    the grid is split into blocks, and one cell of each block is drawn with its own coordinates and
    loss: the block's lowest (highest) cell if it is below (above) all neighboring blocks, so that
    no minimum or maximum is lost; otherwise its middle cell or one on the grid's edge. A note gives
    the number of drawn cells. float64 losses are stored as float32 if the figure shows no
    difference. Finite cells that are not a corner of a square of four finite cells are drawn as
    points.

    Paths are drawn slightly above the surface; their hover text shows their own loss. They are cut
    at the edge of the grid, and a note counts the points outside. Another note names the paths
    whose losses differ from those of the surface below them.

    Args:
        landscape: the loss on a grid.
        *paths: trajectories whose parameters have the names of the landscape's axes, as `Weights`
            do, or results of `project`. A projection that leaves the plane is drawn at its own
            loss, with a dotted line below it on the surface.
        critical: the result of `critical_points`, drawn on the surface.
        valley: the result of `valley`, drawn on the surface.
        minimax_path: the result of `minimax_path`, drawn on the surface.
        log: whether heights and colors use a log scale. Ticks are in units of the loss. Path points
            with a loss below that of the lowest cell are drawn at the height of that cell.
        clip: fraction of the cells, above 0 and at most 1, that have distinct colors. Cells with
            higher losses share the last color; their heights do not change.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: `landscape` has no finite loss, or, for a log scale, a negative loss or none
            above 0; a path or an overlay has other coordinates; or a path is on another plane.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> figure = jxs.plot.surface(sine)
        >>> figure.data[0].z.shape
        (41, 61)
    """
    layout.check_drawable(landscape)
    scale = common_scale([landscape], log, clip)
    a, b, loss, size_notes = downsample.for_surface(landscape, MAX_SURFACE_VALUES)
    drawn, path_notes = drawn_paths(landscape, paths)
    path_notes += mismatch_notes(landscape, paths)
    heights, (low, top) = scale.heights(loss), scale.color_range
    figure = go.Figure(
        go.Surface(
            x=layout.narrow_dtype(a).T,
            y=layout.narrow_dtype(b).T,
            z=layout.narrow_dtype(heights).T,
            # Plotly's hover reads custom data transposed with respect to `z`.
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
    hover_loss = loss if log else None
    lone_notes = scene.add_isolated_cells(figure, a, b, heights, heights, (low, top), hover_loss)
    scene.add_paths(figure, landscape, drawn, scale)
    overlay_notes = overlays.add(figure, landscape, critical, valley, minimax_path, scale)
    polylines = [path.polyline for path in drawn]
    polylines += overlays.polylines(landscape, critical, valley, minimax_path)
    figure.update_layout(scene=scene.scene_layout(landscape, a, b, heights, polylines, scale))
    notes = [
        *scene.unit_notes(landscape),
        *size_notes,
        *lone_notes,
        *scale.notes,
        *scene.precision_notes(scale),
        *path_notes,
        *overlay_notes,
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
    """Draw the loss as a heatmap with contour lines, with training paths on it.

    The heatmap shows up to 2001 values along an axis and the contour lines up to 401. Larger grids
    are reduced as in `surface`, and a note says so. A star marks the lowest cell of the full grid.

    Args:
        landscape: the loss on a grid.
        *paths: trajectories whose parameters have the names of the landscape's axes, as `Weights`
            do, or results of `project`, dotted if they leave the plane. `Descents` are drawn as up
            to 400 thin lines, with the median of the runs that did not diverge.
        critical: the result of `critical_points`, drawn on the heatmap.
        valley: the result of `valley`, drawn on the heatmap.
        minimax_path: the result of `minimax_path`, drawn on the heatmap.
        log: whether colors and contour lines use a log scale. Ticks are in units of the loss. Cells
            of loss 0 have the color of the lowest loss above 0.
        clip: fraction of the cells, above 0 and at most 1, that have distinct colors. Cells with
            higher losses share the last color.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: `landscape` has no finite loss, or, for a log scale, a negative loss or none
            above 0; a path or an overlay has other coordinates; or a path is on another plane.

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
    drawn, path_notes = drawn_paths(landscape, single)
    path_notes += mismatch_notes(landscape, paths)
    low, top = scale.color_range
    figure = go.Figure()
    a, b, loss, size_notes = downsample.for_image(landscape, _MAX_HEATMAP_VALUES, "heatmap")
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
    a, b, loss, line_notes = downsample.for_image(landscape, MAX_SURFACE_VALUES, "contour lines")
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
    notes = [*size_notes, *line_notes, *scale.notes, *path_notes]
    for path, drawn_path in zip(paths, drawn, strict=True):
        if isinstance(path, Descents):
            notes += layout.add_descents(figure, landscape, path, drawn_path)
    layout.add_paths(figure, landscape, drawn)
    notes += overlays.add(figure, landscape, critical, valley, minimax_path)
    layout.name_axes(figure, landscape)
    return layout.finish_landscape(figure, landscape, notes, dark)
