"""Draw several scenes in one figure: a surface with its contour plot, or several surfaces."""

import html
import math
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import plotly.graph_objects as go

from jaxscape._util.checks import check_type
from jaxscape.critical.points import CriticalPoints
from jaxscape.plot.parts import layout, legend, scene
from jaxscape.plot.parts.scale import Scale, common_scale
from jaxscape.plot.surface import contour, surface
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Projection, Trajectory
from jaxscape.topology.valleys import MinimaxPath, Valley

Panel = tuple[Landscape, *tuple[Trajectory | Projection, ...]]
"""A landscape and the paths to draw on it."""

# A browser shows at most about 16 WebGL scenes per page; it drops the oldest without a warning.
_MAX_SURFACES = 12
_MAX_SURFACES_WITH_TICKS = 2
"""More surfaces leave no space for numbers along their axes."""
_DISTANCES = {(1, 2): 1.85, (1, 3): 1.8, (2, 2): 1.1, (2, 3): 1.1, (3, 3): 1.3, (3, 4): 1.3}
"""Factor on the camera's distance by (rows, columns), chosen by eye for 600 × 450 pixels."""
_TITLE_HEIGHT = 0.02
"""Space above a scene, as a fraction of the figure's height."""


class _Overlays(TypedDict):
    critical: CriticalPoints | None
    valley: Valley | None
    minimax_path: MinimaxPath | None


def side_by_side(
    landscape: Landscape,
    *paths: Trajectory | Projection,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
    log: bool = False,
    clip: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw the loss as a 3-D surface next to its contour plot, with training paths on both.

    On a page written by `write`, the point under the mouse in one panel is marked in the other. A
    click on a path in the legend hides it in both.

    Args:
        landscape: the loss on a grid.
        *paths: trajectories or projections, as in `surface`.
        critical: the result of `critical_points`, drawn on both.
        valley: the result of `valley`, drawn on both.
        minimax_path: the result of `minimax_path`, drawn on both.
        log: whether heights and colors use a log scale, as in `surface`.
        clip: fraction of the cells that have distinct colors, as in `surface`.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: `surface` would raise it for the same arguments.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> [trace.type for trace in jxs.plot.side_by_side(sine).data]
        ['surface', 'heatmap', 'contour', 'scatter']
    """
    shown: _Overlays = {"critical": critical, "valley": valley, "minimax_path": minimax_path}
    left = surface(landscape, *paths, **shown, log=log, clip=clip)
    right = contour(landscape, *paths, **shown, log=log, clip=clip)
    left.update_traces(showscale=False, selector={"type": "surface"})
    # One legend entry for both panels.
    groups = {trace.legendgroup for trace in left.data if trace.legendgroup}
    for trace in right.data:
        if trace.legendgroup in groups:
            trace.showlegend = False
    figure = go.Figure([*left.data, *right.data])
    legend.drop_path_ends(figure)
    figure.update_layout(
        scene=left.layout.scene,
        xaxis=right.layout.xaxis,
        yaxis=right.layout.yaxis,
        annotations=right.layout.annotations,
        scene_domain_x=[0, 0.53],
        xaxis_domain=[0.62, 1],
    )
    layout.move_camera_back(figure, 1.3)
    # The axis titles of the contour plot include the units.
    notes = dict.fromkeys([*left.layout.meta["notes"], *right.layout.meta["notes"]])
    for note in scene.unit_notes(landscape):
        notes.pop(note, None)
    head = "{}, {} × {}".format(landscape.loss_name, *landscape.shape)
    layout.finish(figure, "Loss surface", [*notes], dark, head)
    _shrink_axis_text(figure)
    linked = {"log": log, "names": [landscape.a.name, landscape.b.name]}
    return figure.update_layout(meta={"notes": [*notes], "linked": linked}, margin_l=0)


def compare(
    surfaces: Mapping[str, Landscape | Panel],
    *others: object,
    log: bool = False,
    clip: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw several surfaces next to each other, with common axes, heights, colors and camera.

    On a page written by `write`, rotating one surface rotates all. Paths with the same name share
    one legend entry; a click on it hides them on all surfaces. With more than two surfaces, a note
    gives the ranges of the axes, and there are no numbers along the axes.

    Args:
        surfaces: 2 to 12 landscapes by name, or tuples of a landscape and its paths. The ranges of
            the axes and the losses may differ; the names of the axes must be equal.
        *others: not accepted; the error message says how to pass several landscapes.
        log: whether heights and colors use a log scale. Ticks are in units of the loss.
        clip: fraction of all cells, above 0 and at most 1, that have distinct colors.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: `surfaces` is not a mapping of landscapes or of tuples as above.
        ValueError: There are fewer than 2 or more than 12 surfaces, their axes have different
            names, or `surface` would raise it for the same arguments.

    Example:
        >>> x = jnp.linspace(-2, 2, 50)
        >>> surfaces = {
        ...     f"{scale} times": jxs.landscape(
        ...         jxs.squared_error,
        ...         jxs.Dataset(x, scale * jnp.tanh(x)),
        ...         w1=(-3, 3, 31),
        ...         w2=(-2, 2, 21),
        ...     )
        ...     for scale in (1, 2)
        ... }
        >>> [trace.scene for trace in jxs.plot.compare(surfaces).data]
        ['scene', 'scene2']
    """
    if others:
        raise TypeError(
            "surfaces: expected landscapes by name, as {'one': first, 'other': second}, got "
            f"{1 + len(others)} arguments"
        )
    panels = _panels(surfaces)
    landscapes = [landscape for landscape, *_ in panels.values()]
    scale = common_scale(landscapes, log, clip)
    loss_names = {landscape.loss_name for landscape in landscapes}
    bar_name = loss_names.pop() if len(loss_names) == 1 else "loss"
    bar = layout.color_bar(bar_name, scale.ticks(scale.top))
    single = [surface(*panel, log=log) for panel in panels.values()]
    figure = go.Figure()
    entries: set[tuple[str, str]] = set()
    for k, one in enumerate(single):
        legend.drop_path_ends(one)
        for trace in one.data:
            trace.scene = _scene_name(k)
            if trace.type == "surface":
                low, top = scale.color_range
                trace.update(cmin=low, cmax=top, showscale=k == 0, colorbar=bar)
            elif trace.marker.colorscale:
                trace.marker.update(cmin=scale.color_range[0], cmax=scale.color_range[1])
            elif trace.showlegend is not False:
                entry = (trace.legendgroup, trace.name)
                trace.showlegend = entry not in entries
                entries.add(entry)
        figure.add_traces(one.data)
    units = scene.unit_notes(landscapes[0])
    notes = [*scale._replace(zeros=0).notes, *_panel_notes(panels, single, log, units)]
    axis_ranges = _arrange(figure, panels, single, scale)
    with_ticks = len(panels) <= _MAX_SURFACES_WITH_TICKS
    names = landscapes[0].a.name, landscapes[0].b.name
    if not with_ticks:
        notes.append(
            ", ".join(
                f"{name} from {low:.4g} to {high:.4g}"
                for name, (low, high) in zip(names, axis_ranges[:2], strict=True)
            )
        )
    notes += units
    layout.finish(figure, "Loss surfaces", notes, dark, "same scale for heights and colors")
    _shrink_axis_text(figure, with_ticks)
    return figure.update_layout(
        meta={"notes": notes, "linked": {"log": log, "names": [*names]}},
    )


def _panels(surfaces: Mapping[str, Landscape | Panel]) -> dict[str, Panel]:
    """Check the argument of `compare`; return landscapes and paths by name, as HTML."""
    check_type("surfaces", surfaces, Mapping, "landscapes by name, as a dictionary")
    if not 2 <= len(surfaces) <= _MAX_SURFACES:
        raise ValueError(f"surfaces: expected 2 to {_MAX_SURFACES}, got {len(surfaces)}")
    panels: dict[str, Panel] = {
        html.escape(str(name), False): value if isinstance(value, tuple) and value else (value,)
        for name, value in surfaces.items()
    }
    first: tuple[str, ...] = ()
    for name, (landscape, *_) in panels.items():
        layout.check_drawable(landscape, f"surfaces[{name!r}]")
        axes = landscape.a.name, landscape.b.name
        first = first or axes
        if axes != first:
            raise ValueError(
                f"surfaces[{name!r}]: expected coordinates {first}, as in the first, got {axes}"
            )
    return panels


def _panel_notes(
    panels: dict[str, Panel], single: list[go.Figure], log: bool, units: list[str]
) -> list[str]:
    """Collect the notes of single surfaces, each preceded by the names of its surfaces."""
    names_by_note: dict[str, list[str]] = {}
    for (name, (landscape, *_)), one in zip(panels.items(), single, strict=True):
        # Keep the note on cells with loss 0: the lowest loss above 0 differs between surfaces.
        common = common_scale([landscape], log)._replace(zeros=0).notes + units
        for note in one.layout.meta["notes"]:
            if note not in common:
                names_by_note.setdefault(note, []).append(name)
    return [
        f"{'all' if len(names) == len(panels) else ', '.join(names)}: {note}"
        for note, names in names_by_note.items()
    ]


def _arrange(
    figure: go.Figure, panels: dict[str, Panel], single: list[go.Figure], scale: Scale
) -> list[list[float]]:
    """Place the scenes in rows under their names, with the same axis ranges and the same camera.

    Returns:
        The ranges (low, high) of a, b and the height.
    """
    # Three surfaces are larger in one row than in two rows.
    columns = 3 if len(panels) == 3 else math.ceil(math.sqrt(len(panels)))
    rows = -(-len(panels) // columns)
    landscapes = [landscape for landscape, *_ in panels.values()]
    ranges = []
    for axis in ("a", "b"):
        values = [getattr(landscape, axis).values for landscape in landscapes]
        ranges.append([min(float(v[0]) for v in values), max(float(v[-1]) for v in values)])
    heights = np.concatenate([np.ravel(np.asarray(trace.z, float)) for trace in figure.data])
    heights = heights[np.isfinite(heights)]
    low, high = float(heights.min()), float(heights.max())
    ranges.append([low, high if high > low else low + 1])
    # The camera of the first surface with paths shows them best.
    with_paths = next((k for k, (_, *paths) in enumerate(panels.values()) if paths), 0)
    layout.move_camera_back(single[with_paths], _DISTANCES[rows, columns])
    camera = single[with_paths].layout.scene.camera
    # The height axis is short if there are several rows.
    ticks = scale.ticks(max_ticks=4 if rows == 1 else 3) or {"nticks": 5 if rows == 1 else 3}
    for k, (name, landscape) in enumerate(zip(panels, landscapes, strict=True)):
        row, column = divmod(k, columns)
        left, top = column / columns, 1 - row / rows
        own = single[k].layout.scene
        own.update(camera=camera, zaxis=ticks)
        for axis, axis_range in zip((own.xaxis, own.yaxis, own.zaxis), ranges, strict=True):
            axis.range = axis_range
        own.domain.update(x=[left, left + 1 / columns], y=[top - 1 / rows, top - _TITLE_HEIGHT])
        figure.update_layout({_scene_name(k): own})
        shape = "{}, {} × {}".format(landscape.loss_name, *landscape.shape)
        figure.add_annotation(
            text=f"<b>{name}</b><br><span style='font-size:12px'>{shape}</span>",
            x=left + 0.5 / columns,
            y=top,
            xref="paper",
            yref="paper",
            xanchor="center",
            yanchor="top",
            showarrow=False,
        )
    return ranges


def _scene_name(k: int) -> str:
    return f"scene{k + 1}" if k else "scene"


def _shrink_axis_text(figure: go.Figure, with_ticks: bool = True) -> None:
    """Shrink the axis text of small scenes, and drop the height's title: the color bar shows it."""
    text = {
        "title_font_size": 14 if with_ticks else 11,
        "tickfont_size": 11,
        "showticklabels": with_ticks,
    }
    horizontal = text | {"nticks": 4}
    figure.update_scenes(xaxis=horizontal, yaxis=horizontal, zaxis=text | {"title_text": ""})
