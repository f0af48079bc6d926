"""Draw derivatives of the loss: gradient arrows, and curvature as the color of a surface."""

from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from jaxscape._util.checks import check_type
from jaxscape.grid.derivatives import Derivatives
from jaxscape.plot.parts import downsample, layout, overlays, scene
from jaxscape.plot.parts.paths import drawn_paths
from jaxscape.plot.parts.scale import common_scale
from jaxscape.plot.surface import MAX_SURFACE_VALUES
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Trajectory

_ARROWS = 20
"""The number of arrows along an axis."""
_MAX_LENGTH, _MIN_LENGTH = 0.85, 0.35
"""The limits of an arrow's length, in units of the distance between arrows."""
_COLOR_PERCENTILE = 85
"""Curvatures above this percentile share a color; a few large ones would use up the colors."""
# People with color blindness can distinguish orange and blue. Zero curvature is the lightest.
_DIVERGING = ["#a84300", "#e07b22", "#f0b87c", "#cecece", "#86b9dc", "#3a86c2", "#0a4a8f"]
_NEGATIVE, _BOUNDARY = "#ff7ae0", "#c8007c"
_BOUNDARY_NAME = "boundary of negative curvature"
_CURVATURE_NAME = "smaller eigenvalue"


class _Nodes(NamedTuple):
    """The nodes that are drawn: all, or one of each block of a large grid."""

    axes: tuple[np.ndarray, np.ndarray]
    """(m1,) and (m2,): the centers of the blocks."""
    coordinates: tuple[np.ndarray, np.ndarray]
    """(m1, m2) each: the coordinates of each node; the same as `axes` for a grid without blocks."""
    loss: np.ndarray
    """(m1, m2), NaN where the loss is not finite."""
    curvature: np.ndarray
    """(m1, m2): the smaller eigenvalue."""


def slopes(derivatives: Derivatives, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """Draw a contour plot with negative-gradient arrows and the boundary of negative curvature.

    The arrows are the negative gradient with respect to the two coordinates. They are
    perpendicular to the contour lines only if both axes have the same scale. Their length is
    proportional to the cube root of the gradient norm, within limits. On the boundary, the smaller
    eigenvalue of the Hessian changes sign. On its negative side, where the arrows are pink, the
    loss curves downward in some direction. Grids with more than 401 values along an axis
    are reduced as in `surface`.

    Args:
        derivatives: the result of `derivatives`.
        *paths: trajectories whose parameters have the names of the axes, as `Weights` do.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: There is no finite loss, or a path's parameters do not have the names of the
            axes.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> derivatives = jxs.derivatives(
        ...     jxs.squared_error, data, w1=(-3, 3, 61), w2=(-2, 2, 41)
        ... )
        >>> figure = jxs.plot.slopes(derivatives)
        >>> figure.data[0].type, figure.data[0].z.shape
        ('heatmap', (41, 61))
    """
    nodes, notes = _nodes(derivatives)
    landscape = derivatives.landscape
    drawn, path_notes = drawn_paths(landscape, paths)
    x, y = nodes.axes
    contour = {"x": x, "y": y, "contours_coloring": "none", "showscale": False, "hoverinfo": "skip"}
    figure = go.Figure(
        go.Heatmap(
            x=x,
            y=y,
            z=layout.narrow_dtype(nodes.loss).T,
            customdata=layout.narrow_dtype(nodes.curvature).T,
            colorscale=layout.COLORS,
            colorbar=layout.color_bar(landscape.loss_name),
            **_name_and_hover(landscape),
        )
    )
    figure.add_contour(
        **contour,
        z=layout.narrow_dtype(nodes.loss).T,
        ncontours=24,
        line={"color": "white", "width": 0.7},
        opacity=0.5,
        showlegend=False,
    )
    if (nodes.curvature < 0).any():
        for color, width in (("black", 6), (_NEGATIVE, 3)):
            figure.add_contour(
                **contour,
                z=layout.narrow_dtype(nodes.curvature).T,
                autocontour=False,
                contours={"start": 0, "end": 0, "size": 1},
                line={"color": color, "width": width, "smoothing": 0},
                name=_BOUNDARY_NAME,
                legendgroup="negative curvature",
                showlegend=color == _NEGATIVE,
            )
    tails, heads, is_negative = _arrows(derivatives)
    for color, shown, name in (
        ("white", ~is_negative, "downhill: longer is steeper"),
        (_NEGATIVE, is_negative, "downhill, negative curvature"),
    ):
        if shown.any():
            _add_arrows(figure, tails[shown], heads[shown], color, name)
    layout.add_paths(figure, landscape, drawn)
    notes += [*path_notes, *_curvature_notes(derivatives), *overlays.add(figure, landscape)]
    layout.name_axes(figure, landscape)
    layout.finish_landscape(figure, landscape, notes, dark)
    return figure.update_layout(title_text="Slopes")


def curvature(derivatives: Derivatives, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """Draw the loss as a 3-D surface with the smaller Hessian eigenvalue as its color.

    Orange is negative: the loss curves downward in some direction. Blue is positive: it curves
    upward in all directions. A line separates the two. The 15 % of the cells with the largest
    curvature have the two outermost colors. Grids with more than 401 values along an axis are
    reduced as in `surface`.

    Args:
        derivatives: the result of `derivatives`.
        *paths: trajectories whose parameters have the names of the axes, as `Weights` do.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: There is no finite loss, or a path's parameters do not have the names of the
            axes.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> derivatives = jxs.derivatives(
        ...     jxs.squared_error, data, w1=(-3, 3, 61), w2=(-2, 2, 41)
        ... )
        >>> jxs.plot.curvature(derivatives).data[0].surfacecolor.shape
        (41, 61)
    """
    nodes, notes = _nodes(derivatives)
    landscape = derivatives.landscape
    drawn, path_notes = drawn_paths(landscape, paths)
    (a, b), loss, curvature = nodes.coordinates, nodes.loss, nodes.curvature
    notes += [*path_notes, *_curvature_notes(derivatives)]
    size = abs(curvature[np.isfinite(curvature)])
    largest = float(size.max(initial=0))
    end = float(np.percentile(size, _COLOR_PERCENTILE)) if size.size else 0.0
    end = end or largest or 1.0
    if largest > end:
        notes.append(f"colors end at ±{end:.3g}, eigenvalues at ±{largest:.3g}")
    scale = common_scale([landscape])
    figure = go.Figure(
        go.Surface(
            x=layout.narrow_dtype(a).T,
            y=layout.narrow_dtype(b).T,
            z=layout.narrow_dtype(loss).T,
            surfacecolor=layout.narrow_dtype(curvature).T,
            # Plotly's hover reads custom data transposed with respect to `z`.
            customdata=layout.narrow_dtype(curvature),
            cmin=-end,
            cmax=end,
            colorscale=_DIVERGING,
            colorbar=layout.color_bar(_CURVATURE_NAME),
            lighting=scene.LIGHTING,
            **_name_and_hover(landscape),
        )
    )
    notes = [*scene.unit_notes(landscape), *notes]
    notes += scene.add_isolated_cells(figure, a, b, loss, curvature, (-end, end), curvature)
    boundary = zero_line(curvature, a, b, loss)
    if len(boundary):
        lifted = scale.lift(boundary, 0.5)
        scene.add_polyline(figure, lifted, _BOUNDARY, 6, name=_BOUNDARY_NAME)
    scene.add_paths(figure, landscape, drawn, scale)
    notes += overlays.add(figure, landscape, scale=scale)
    polylines = [path.polyline for path in drawn] + overlays.polylines(landscape)
    figure.update_layout(scene=scene.scene_layout(landscape, a, b, loss, polylines, scale))
    layout.finish_landscape(figure, landscape, notes, dark)
    return figure.update_layout(title_text="Curvature")


def _nodes(derivatives: Derivatives) -> tuple[_Nodes, list[str]]:
    """Choose the nodes to draw, and return them with notes."""
    check_type("derivatives", derivatives, Derivatives, "Derivatives")
    layout.check_drawable(derivatives.landscape)
    loss, curvature = np.asarray(derivatives.loss), np.asarray(derivatives.eigenvalues[..., 0])
    blocks = downsample.choose_cells(loss, MAX_SURFACE_VALUES)
    a, b = np.asarray(derivatives.a.values), np.asarray(derivatives.b.values)
    axes = a[blocks.axes[0]], b[blocks.axes[1]]
    coordinates, notes = (a[blocks.rows], b[blocks.columns]), [blocks.note("drawn grid")]
    if blocks.rows.shape == loss.shape:
        coordinates, notes = axes, []
    loss, curvature = loss[blocks.cells], curvature[blocks.cells]
    return _Nodes(axes, coordinates, np.where(np.isfinite(loss), loss, np.nan), curvature), notes


def _curvature_notes(derivatives: Derivatives) -> list[str]:
    """Return a note if no cell of the full grid has negative curvature."""
    is_negative = np.asarray(derivatives.eigenvalues)[..., 0] < 0
    return [] if is_negative.any() else ["no negative curvature on this grid"]


def _name_and_hover(landscape: Landscape) -> dict[str, Any]:
    """Return properties of a trace whose custom data are the smaller eigenvalues."""
    values = f"%{{z:.6~g}}<br>{_CURVATURE_NAME} %{{customdata:.4~g}}"
    name = landscape.loss_name
    return {"name": name, "hovertemplate": layout.hover_text(landscape, values, name)}


def _arrows(derivatives: Derivatives) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute negative-gradient arrows, without nodes whose gradient is 0 or not finite.

    Returns:
        Tails and heads, (n, 2), and whether the smaller eigenvalue is negative, (n,).
    """
    axes = [np.asarray(axis.values, float) for axis in (derivatives.a, derivatives.b)]
    counts = np.array([min(len(values), _ARROWS) for values in axes])
    nodes = np.ix_(
        *(
            ((np.arange(m) + 0.5) * len(values) / m).astype(int)
            for m, values in zip(counts, axes, strict=True)
        )
    )
    a, b = np.broadcast_arrays(axes[0][nodes[0]], axes[1][nodes[1]])
    tails = np.stack([a.ravel(), b.ravel()], axis=1)
    down = -np.asarray(derivatives.gradient, float)[nodes].reshape(-1, 2)
    norm = np.hypot(*down.T)
    is_negative = np.asarray(derivatives.eigenvalues)[..., 0][nodes].ravel() < 0
    shown = np.isfinite(norm) & (norm > 0)
    tails, down, norm, is_negative = (x[shown] for x in (tails, down, norm, is_negative))
    if not len(norm):
        return tails, tails, is_negative
    # Lengths are in units of the distance between arrows, which is about the same on the screen
    # along both axes.
    spacing = np.array([values[-1] - values[0] for values in axes]) / counts
    unit = down / norm[:, None]
    unit_length = np.hypot(*(unit / spacing).T)
    length = _MAX_LENGTH * np.cbrt(norm / np.percentile(norm, 95))
    heads = tails + unit * (np.clip(length, _MIN_LENGTH, _MAX_LENGTH) / unit_length)[:, None]
    return tails, heads, is_negative


def _add_arrows(
    figure: go.Figure, tails: np.ndarray, heads: np.ndarray, color: str, name: str
) -> None:
    """Draw arrows with a black outline, all in one trace, with a gap after each."""
    x, y = np.stack([tails, heads, np.full_like(tails, np.nan)], axis=1).reshape(-1, 2).T
    for line_color, width in (("black", 4), (color, 2)):
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line={"color": line_color, "width": width},
            # The head points along the line on the screen, whatever the scales of the axes.
            marker={
                "symbol": "arrow",
                "angleref": "previous",
                "size": np.tile([0, 10, 0], len(tails)),
                "color": color,
                "opacity": 1,
                "line": layout.OUTLINE,
            },
            name=name,
            legendgroup=name,
            showlegend=line_color == color,
            hoverinfo="skip",
        )


def zero_line(field: np.ndarray, a: np.ndarray, b: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Compute the line on a surface where a field is 0, by marching squares.

    Args:
        field: (n1, n2) values at the nodes.
        a: (n1,) or (n1, n2) the first coordinate of the nodes.
        b: (n2,) or (n1, n2) the second coordinate of the nodes.
        height: (n1, n2) heights of the surface at the nodes.

    Returns:
        (3·pieces, 3) a, b and height, interpolated along the sides of cells: start, end and NaN of
        each piece. Cells with a node that is not finite have no piece.
    """
    coordinates = np.meshgrid(a, b, indexing="ij") if np.ndim(a) == 1 else (a, b)
    nodes = np.stack([*coordinates, height, field], axis=-1).astype(float)
    i, j = (index.ravel() for index in np.indices([n - 1 for n in field.shape]))
    # (cells, 4 corners in order around the cell, 4 values)
    corners = np.stack([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]], axis=1)
    corners = corners[np.isfinite(corners).all(axis=(1, 2))]
    following = np.roll(corners, -1, axis=1)
    is_negative = corners[..., 3] < 0
    crossed = is_negative != np.roll(is_negative, -1, axis=1)
    change = following[..., 3] - corners[..., 3]
    fraction = np.where(crossed, -corners[..., 3] / np.where(crossed, change, 1), 0)
    points = (corners + fraction[..., None] * (following - corners))[..., :3]
    cells, sides = np.nonzero(crossed & (crossed.sum(axis=1) == 2)[:, None])
    pieces = [points[cells, sides].reshape(-1, 2, 3)]
    # If all four sides are crossed, cut off the two corners whose sign differs from the mean's.
    saddles = np.flatnonzero(crossed.all(axis=1))
    mean_is_negative = corners[saddles, :, 3].mean(axis=1) < 0
    first = np.where(is_negative[saddles, 0] != mean_is_negative, 3, 0)
    for k in (0, 2):
        pair = np.stack([first + k, first + k + 1], axis=1) % 4
        pieces.append(points[saddles[:, None], pair])
    ends = np.concatenate(pieces)
    return np.concatenate([ends, np.full_like(ends[:, :1], np.nan)], axis=1).reshape(-1, 3)
