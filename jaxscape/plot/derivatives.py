"""The derivatives of a loss as figures: which way is down, and where the loss curves downward.

The line on a surface along which a field is 0.
"""

from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from jaxscape.grid.derivatives import Derivatives
from jaxscape.plot.parts import downsample, layout, overlays, scene
from jaxscape.plot.parts import paths as paths_
from jaxscape.plot.parts.scale import common_scale
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Trajectory

_MOST_VALUES = 401
_ARROWS = 20
"""Along an axis."""
# Of the distance between arrows.
_LONGEST, _SHORTEST = 0.85, 0.35
# Percent of cells whose curvature the colors tell apart: few far larger ones would leave all
# others without color.
_TOLD_APART = 85
# Orange and blue are told apart by the color-blind as well; lightest where there is no curvature.
_TWO_SIDED = ["#a84300", "#e07b22", "#f0b87c", "#cecece", "#86b9dc", "#3a86c2", "#0a4a8f"]
_NEGATIVE, _BORDER = "#ff7ae0", "#c8007c"
_SMALLER = "smaller eigenvalue"


class _Nodes(NamedTuple):
    """The nodes that are drawn, one of each block of a grid with too many."""

    axes: tuple[np.ndarray, np.ndarray]
    """(m1,) and (m2,): the middles of the blocks."""
    places: tuple[np.ndarray, np.ndarray]
    """(m1, m2) both: where each node is; the axes of a grid that is drawn whole."""
    loss: np.ndarray
    """(m1, m2), holes as NaN."""
    smaller: np.ndarray
    """(m1, m2) the smaller eigenvalue."""
    lines: list[paths_.DrawnPath]
    notes: list[str]


def slopes(derivatives: Derivatives, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """The loss from above with arrows down its steepest slope, and where it curves downward.

    Arrows point along the negative gradient in the two coordinates, so that in the plane as it is
    drawn they need not be at a right angle to the contour lines, unless both axes have one scale.
    The longer, the steeper, but by the cube root. A line is drawn where the smaller eigenvalue of
    the Hessian is 0; on its one side, that of the pink arrows, there is a direction in which the
    loss curves downward. Of more than 401 values along an axis one cell of each block is drawn, as
    `surface` chooses it.

    Args:
        derivatives: what `derivatives` returned.
        paths: descents whose parameters are named as the axes, as `Weights` are.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: anything else than `Derivatives`.
        ValueError: no finite loss, or a path of other parameters.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.derivatives(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-2, 2, 41))
        >>> figure = jxs.plot.slopes(found)
        >>> figure.data[0].type, figure.data[0].z.shape
        ('heatmap', (41, 61))
    """
    nodes = _nodes(derivatives, paths)
    surface = derivatives.landscape
    on_axes = dict(zip("xy", nodes.axes, strict=True))
    contour = on_axes | {"contours_coloring": "none", "showscale": False, "hoverinfo": "skip"}
    figure = go.Figure(
        go.Heatmap(
            **on_axes,
            **_colored(surface),
            z=layout.narrow_dtype(nodes.loss).T,
            customdata=layout.narrow_dtype(nodes.smaller).T,
            colorscale=layout.COLORS,
            colorbar=layout.color_bar(surface.loss_name),
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
    if (nodes.smaller < 0).any():
        for color, width in (("black", 6), (_NEGATIVE, 3)):
            figure.add_contour(
                **contour,
                z=layout.narrow_dtype(nodes.smaller).T,
                autocontour=False,
                contours={"start": 0, "end": 0, "size": 1},
                line={"color": color, "width": width, "smoothing": 0},
                name="border of negative curvature",
                legendgroup="negative curvature",
                showlegend=color == _NEGATIVE,
            )
    tails, heads, curves_down = _arrows(derivatives)
    for color, chosen, name in (
        ("white", ~curves_down, "downhill: the longer, the steeper"),
        (_NEGATIVE, curves_down, "downhill, where curvature is negative"),
    ):
        if chosen.any():
            _add_arrows(figure, tails[chosen], heads[chosen], color, name)
    layout.add_paths(figure, surface, nodes.lines)
    notes = [*nodes.notes, *overlays.add(figure, surface)]
    layout.name_axes(figure, surface)
    return layout.finish_landscape(figure, surface, notes, dark).update_layout(title_text="Slopes")


def curvature(derivatives: Derivatives, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """The loss as a surface in the colors of its curvature: the Hessian's smaller eigenvalue.

    Orange where it is negative, so that there is a direction in which the loss curves downward;
    blue where the loss curves upward in all directions; a line between the two. Of more than 401
    values along an axis one cell of each block is drawn, as `surface` chooses it. The seventh of
    cells of largest curvature share the outermost colors.

    Args:
        derivatives: what `derivatives` returned.
        paths: descents whose parameters are named as the axes, as `Weights` are.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: anything else than `Derivatives`.
        ValueError: no finite loss, or a path of other parameters.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.derivatives(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-2, 2, 41))
        >>> jxs.plot.curvature(found).data[0].surfacecolor.shape
        (41, 61)
    """
    nodes = _nodes(derivatives, paths)
    surface = derivatives.landscape
    (a, b), loss, smaller, notes = nodes.places, nodes.loss, nodes.smaller, nodes.notes
    size = abs(smaller[np.isfinite(smaller)])
    largest = float(size.max(initial=0))
    end = float(np.percentile(size, _TOLD_APART)) if size.size else 0.0
    end = end or largest or 1.0
    if largest > end:
        notes = [*notes, f"colors end at ±{end:.3g}, eigenvalues at ±{largest:.3g}"]
    scale = common_scale([surface])
    figure = go.Figure(
        go.Surface(
            **_colored(surface),
            x=layout.narrow_dtype(a).T,
            y=layout.narrow_dtype(b).T,
            z=layout.narrow_dtype(loss).T,
            surfacecolor=layout.narrow_dtype(smaller).T,
            # Plotly's hover reads these the other way round than `z` and `surfacecolor`.
            customdata=layout.narrow_dtype(smaller),
            cmin=-end,
            cmax=end,
            colorscale=_TWO_SIDED,
            colorbar=layout.color_bar(_SMALLER),
            lighting=scene.LIGHTING,
        )
    )
    lone = scene.add_lone_cells(figure, a, b, loss, smaller, (-end, end), smaller)
    notes = [*scene.unit_notes(surface), *notes, *lone]
    border = zero_line(smaller, a, b, loss)
    if len(border):
        lifted = scale.lift(border, 0.5)
        scene.add_polyline(figure, lifted, _BORDER, 6, name="border of negative curvature")
    scene.add_paths(figure, surface, nodes.lines, scale)
    notes = [*notes, *overlays.add(figure, surface, scale=scale)]
    ways = [line.polyline for line in nodes.lines] + overlays.polylines(surface)
    figure.update_layout(scene=scene.scene_layout(surface, a, b, loss, ways, scale))
    layout.finish_landscape(figure, surface, notes, dark)
    return figure.update_layout(title_text="Curvature")


def _nodes(derivatives: Derivatives, paths: tuple[Trajectory, ...]) -> _Nodes:
    if not isinstance(derivatives, Derivatives):
        raise TypeError(f"derivatives: expected Derivatives, got {type(derivatives).__name__}")
    surface = derivatives.landscape
    layout.check_drawable(surface)
    loss, smaller = np.asarray(derivatives.loss), np.asarray(derivatives.eigenvalues[..., 0])
    found = downsample.choose_cells(loss, _MOST_VALUES)
    values = np.asarray(surface.a.values), np.asarray(surface.b.values)
    axes, places = ((values[0][i], values[1][j]) for i, j in (found.axes, found.cells))
    lines, notes = paths_.drawn_paths(surface, paths)
    if found.rows.shape == loss.shape:
        places = axes
    else:
        notes = [found.note("drawn {} × {}"), *notes]
    # Of all cells, drawn or not.
    if not (smaller < 0).any():
        notes = [*notes, "no negative curvature here"]
    loss, smaller = loss[found.cells], smaller[found.cells]
    loss = np.where(np.isfinite(loss), loss, np.nan)
    return _Nodes(axes, places, loss, smaller, lines, notes)


def _colored(surface: Landscape) -> dict[str, str]:
    """Name and hover text of a heatmap or surface with the smaller eigenvalue as custom data."""
    value = f"%{{z:.6~g}}<br>{_SMALLER} %{{customdata:.4~g}}"
    name = surface.loss_name
    return {"name": name, "hovertemplate": layout.hover_text(surface, value, name)}


def _arrows(derivatives: Derivatives) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrows down the slope, none where it is flat or not finite.

    Returns:
        Tails and heads, (n, 2), and where the smaller eigenvalue is negative, (n,).
    """
    axes = [np.asarray(axis.values, float) for axis in (derivatives.a, derivatives.b)]
    counts = np.array([min(len(values), _ARROWS) for values in axes])
    chosen = [
        ((np.arange(m) + 0.5) * len(values) / m).astype(int)
        for m, values in zip(counts, axes, strict=True)
    ]
    tails = np.stack(np.meshgrid(*(v[k] for v, k in zip(axes, chosen, strict=True)), indexing="ij"))
    down = -np.asarray(derivatives.gradient, float)[np.ix_(*chosen)].reshape(-1, 2)
    tails = tails.reshape(2, -1).T
    steep = np.hypot(*down.T)
    kept = np.isfinite(steep) & (steep > 0)
    curves_down = np.asarray(derivatives.eigenvalues)[..., 0][np.ix_(*chosen)].ravel() < 0
    tails, down, steep, curves_down = (x[kept] for x in (tails, down, steep, curves_down))
    if not len(steep):
        return tails, tails, curves_down
    # In units of the distance between arrows, which is as long on the screen to all sides.
    spacing = np.array([values[-1] - values[0] for values in axes]) / counts
    down = down / steep[:, None]
    seen = np.hypot(*(down / spacing).T)
    length = _LONGEST * np.cbrt(steep / np.percentile(steep, 95))
    heads = tails + down * (np.clip(length, _SHORTEST, _LONGEST) / seen)[:, None]
    return tails, heads, curves_down


def _add_arrows(
    figure: go.Figure, tails: np.ndarray, heads: np.ndarray, color: str, name: str
) -> None:
    x, y = np.stack([tails, heads, np.full_like(tails, np.nan)], axis=1).reshape(-1, 2).T
    for line, width in (("black", 4), (color, 2)):
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line={"color": line, "width": width},
            # The head follows the line as it is on the screen, however the axes are stretched.
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
            showlegend=line == color,
            hoverinfo="skip",
        )


def zero_line(field: np.ndarray, a: np.ndarray, b: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Where a field is 0, by marching squares: pieces (start, end, NaN) of a line on a surface.

    Args:
        field, height: (n1, n2) values at the nodes.
        a, b: (n1,) and (n2,) where these are; or (n1, n2) both, where each of them is.

    Returns:
        (3·pieces, 3) a, b and height, interpolated along the sides of cells; pieces in cells with
        a node that is not finite are left out.
    """
    on_grid = np.meshgrid(a, b, indexing="ij") if np.ndim(a) == 1 else (a, b)
    nodes = np.stack([*on_grid, height, field], axis=-1).astype(float)
    i, j = (part.ravel() for part in np.indices([n - 1 for n in field.shape]))
    # The corners of each cell, around it.
    corners = np.stack([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]], axis=1)
    corners = corners[np.isfinite(corners).all(axis=(1, 2))]
    following = np.roll(corners, -1, axis=1)
    below = corners[..., 3] < 0
    crossed = below != np.roll(below, -1, axis=1)
    step = following[..., 3] - corners[..., 3]
    part = np.where(crossed, -corners[..., 3] / np.where(crossed, step, 1), 0)
    points = (corners + part[..., None] * (following - corners))[..., :3]
    cells, sides = np.nonzero(crossed & (crossed.sum(axis=1) == 2)[:, None])
    pieces = [points[cells, sides].reshape(-1, 2, 3)]
    # Where all four sides are crossed, the two corners that differ from the middle are cut off.
    four = np.flatnonzero(crossed.all(axis=1))
    first = np.where(below[four, 0] != (corners[four, :, 3].mean(axis=1) < 0), 3, 0)
    for k in (0, 2):
        pair = np.stack([first + k, first + k + 1], axis=1) % 4
        pieces.append(points[four[:, None], pair])
    ends = np.concatenate(pieces)
    return np.concatenate([ends, np.full_like(ends[:, :1], np.nan)], axis=1).reshape(-1, 3)
