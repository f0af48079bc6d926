"""Several views in one figure: a surface beside its contour, and surfaces beside each other."""

import html
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape.critical.points import CriticalPoints
from jaxscape.plot.parts import layout, legend
from jaxscape.plot.parts import scene as scene_
from jaxscape.plot.parts.scale import Scale, common_scale
from jaxscape.plot.surface import contour, surface
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Projection, Trajectory
from jaxscape.topology.valleys import MinimaxPath, Valley

# A browser draws no more than about 16 scenes of a page, and drops the first without a word.
_MOST_SURFACES = 12
_FEW_SURFACES = 2
"""Of more there is no room for numbers along their axes."""
_DISTANCES = {(1, 2): 1.85, (1, 3): 1.8, (2, 2): 1.1, (2, 3): 1.1, (3, 3): 1.3, (3, 4): 1.3}
"""From how much further away surfaces in rows and columns are seen, tried at 600 × 450."""
# Of the figure's height.
_TITLE_HEIGHT = 0.02


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
    """The loss as a surface that turns, and beside it from above, with descents on both.

    On a page that has the script of `linked`, a point of one under the mouse is marked in the
    other. The legend switches a path in both.

    Args:
        landscape: the surface.
        paths: as for `surface`.
        critical, valley, minimax_path: what `critical_points`, `valley` and `minimax_path` return, drawn on
            both.
        log, clip: as for `surface`.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        ValueError: as of `surface`.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> [trace.type for trace in jxs.plot.side_by_side(sine).data]
        ['surface', 'heatmap', 'contour', 'scatter']
    """
    known: dict[str, Any] = {"critical": critical, "valley": valley, "minimax_path": minimax_path}
    turning = surface(landscape, *paths, **known, log=log, clip=clip)
    above = contour(landscape, *paths, **known, log=log, clip=clip)
    turning.update_traces(showscale=False, selector={"type": "surface"})
    # One entry of the legend for both.
    there = {trace.legendgroup for trace in turning.data if trace.legendgroup}
    for trace in above.data:
        if trace.legendgroup in there:
            trace.showlegend = False
    figure = go.Figure([*turning.data, *above.data])
    legend.drop_path_ends(figure)
    figure.update_layout(
        scene=turning.layout.scene,
        xaxis=above.layout.xaxis,
        yaxis=above.layout.yaxis,
        annotations=above.layout.annotations,
    )
    figure.update_layout(
        scene_domain_x=[0, 0.53],
        xaxis_domain=[0.62, 1],
    )
    layout.move_camera_back(figure, 1.3)
    # In what units axes are is said beside it, where there is room.
    said = [*turning.layout.meta["notes"], *above.layout.meta["notes"]]
    notes = [note for note in dict.fromkeys(said) if note not in scene_.unit_notes(landscape)]
    head = "{}, {} × {}".format(landscape.loss_name, *landscape.shape)
    layout.finish(figure, "Loss surface", notes, dark, head)
    _smaller_words(figure)
    linked = {"log": log, "names": [landscape.a.name, landscape.b.name]}
    return figure.update_layout(meta={"notes": notes, "linked": linked}, margin_l=0)


def compare(
    surfaces: Mapping[str, Landscape | tuple[Any, ...]],
    *more: Any,
    log: bool = False,
    clip: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Surfaces beside each other, on one scale of heights and colors and from one side.

    All have the same axes, so that a place in one is the same place in the others. On a page that
    has the script of `linked`, turning one turns all. A path of the same name in several has one
    entry in the legend, which switches it in all. Of more than 2 surfaces the ends of the axes are
    in a note, in place of numbers along them.

    Args:
        surfaces: 2 to 12 landscapes by name, or tuples of a landscape and its paths. Their ranges
            and losses may differ, their coordinates' names may not.
        more: nothing; refused, with words about `surfaces`.
        log: heights and colors on a log scale, with ticks in units of the loss.
        clip: the share of all their cells, above 0 to 1, whose colors differ.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: no mapping, or one of anything else.
        ValueError: too few or too many, coordinates of several names, or as of `surface`.

    Example:
        >>> x = jnp.linspace(-2, 2, 50)
        >>> grid = {"w1": (-3, 3, 31), "w2": (-2, 2, 21)}
        >>> found = {
        ...     f"{scale} times": jxs.landscape(
        ...         jxs.squared_error, jxs.Dataset(x, scale * jnp.tanh(x)), **grid
        ...     )
        ...     for scale in (1, 2)
        ... }
        >>> [trace.scene for trace in jxs.plot.compare(found).data]
        ['scene', 'scene2']
    """
    if more:
        raise TypeError(
            "surfaces: expected landscapes by name, as {'one': first, 'other': second}, got "
            f"{1 + len(more)} arguments"
        )
    panels = _panels(surfaces)
    landscapes = [landscape for landscape, *_ in panels.values()]
    scale = common_scale(landscapes, log, clip)
    names = {landscape.loss_name for landscape in landscapes}
    bar = layout.color_bar(names.pop() if len(names) == 1 else "loss", scale.ticks(scale.top))
    drawn = [surface(*panel, log=log) for panel in panels.values()]
    # Cells of loss 0 are each surface's own to tell: its lowest above may be another.
    figure, notes = go.Figure(), scale._replace(zeros=0).notes
    units, said = scene_.unit_notes(landscapes[0]), dict[str, list[str]]()
    entries: set[tuple[str, str]] = set()
    for k, (name, one) in enumerate(zip(panels, drawn, strict=True)):
        legend.drop_path_ends(one)
        for trace in one.data:
            trace.scene = _scene(k)
            if trace.type == "surface":
                trace.update(
                    cmin=scale.color_range[0],
                    cmax=scale.color_range[1],
                    showscale=k == 0,
                    colorbar=bar,
                )
            elif trace.marker.colorscale:
                trace.marker.update(cmin=scale.color_range[0], cmax=scale.color_range[1])
            elif trace.showlegend is not False:
                entry = (trace.legendgroup, trace.name)
                trace.showlegend = entry not in entries
                entries.add(entry)
        figure.add_traces(one.data)
        own = common_scale([landscapes[k]], log)._replace(zeros=0).notes + units
        for note in one.layout.meta["notes"]:
            if note not in own:
                said.setdefault(note, []).append(name)
    for note, of in said.items():
        notes.append(f"{'all' if len(of) == len(panels) else ', '.join(of)}: {note}")
    ends = _place(figure, panels, drawn, scale)
    few = len(panels) <= _FEW_SURFACES
    if not few:
        sides = zip((landscapes[0].a.name, landscapes[0].b.name), ends[:2], strict=True)
        notes.append(
            ", ".join(f"{name} from {low:.4g} to {high:.4g}" for name, (low, high) in sides)
        )
    notes += units
    layout.finish(figure, "Loss surfaces", notes, dark, "one scale of heights and colors")
    _smaller_words(figure, few)
    linked = {"log": log, "names": [landscapes[0].a.name, landscapes[0].b.name]}
    return figure.update_layout(meta={"notes": notes, "linked": linked})


def _smaller_words(figure: go.Figure, few: bool = True) -> None:
    """Names and ticks of axes in space that have less room than in a figure of their own.

    What the heights are is said by the bar of colors, which are the same.
    """
    words = {"title_font_size": 14 if few else 11, "tickfont_size": 11, "showticklabels": few}
    across = words | {"nticks": 4}
    figure.update_scenes(xaxis=across, yaxis=across, zaxis=words | {"title_text": ""})


def _panels(surfaces: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Landscapes with their paths, by name."""
    if not isinstance(surfaces, Mapping):
        raise TypeError(
            f"surfaces: expected landscapes by name, as a dictionary, got {type(surfaces).__name__}"
        )
    if not 2 <= len(surfaces) <= _MOST_SURFACES:
        raise ValueError(f"surfaces: expected 2 to {_MOST_SURFACES}, got {len(surfaces)}")
    panels = {
        html.escape(str(name), False): given if isinstance(given, tuple) and given else (given,)
        for name, given in surfaces.items()
    }
    expected: tuple[str, ...] = ()
    for name, (landscape, *_) in panels.items():
        layout.check_drawable(landscape, f"surfaces[{name!r}]")
        axes = landscape.a.name, landscape.b.name
        expected = expected or axes
        if axes != expected:
            raise ValueError(
                f"surfaces[{name!r}]: expected coordinates {expected}, as of the first, got {axes}"
            )
    return panels


def _scene(k: int) -> str:
    return f"scene{k + 1}" if k else "scene"


def _place(
    figure: go.Figure,
    panels: dict[str, tuple[Any, ...]],
    drawn: list[go.Figure],
    scale: Scale,
) -> list[list[float]]:
    """Put the scenes in rows, with names above, the same axes and the same camera; their ends."""
    # Three beside each other are larger than in two rows.
    columns = 3 if len(panels) == 3 else math.ceil(math.sqrt(len(panels)))
    rows = -(-len(panels) // columns)
    landscapes = [landscape for landscape, *_ in panels.values()]
    ranges = []
    for axis in ("a", "b"):
        values = [getattr(landscape, axis).values for landscape in landscapes]
        ranges.append([min(float(v[0]) for v in values), max(float(v[-1]) for v in values)])
    heights = [np.asarray(trace.z, float) for trace in figure.data]
    heights = [z[np.isfinite(z)] for z in heights if np.isfinite(z).any()]
    low, high = min(z.min() for z in heights), max(z.max() for z in heights)
    ranges.append([float(low), float(high) if high > low else float(low) + 1])
    first = next((k for k, (_, *paths) in enumerate(panels.values()) if paths), 0)
    # In more than one row an axis is short.
    ticks = scale.ticks(most=4 if rows == 1 else 3) or {"nticks": 5 if rows == 1 else 3}
    layout.move_camera_back(drawn[first], _DISTANCES[rows, columns])
    camera = drawn[first].layout.scene.camera
    for k, (name, landscape) in enumerate(zip(panels, landscapes, strict=True)):
        row, column = divmod(k, columns)
        left, top = column / columns, 1 - row / rows
        scene = drawn[k].layout.scene
        scene.update(camera=camera, zaxis=ticks)
        for axis, ends in zip((scene.xaxis, scene.yaxis, scene.zaxis), ranges, strict=True):
            axis.range = ends
        scene.domain.update(x=[left, left + 1 / columns], y=[top - 1 / rows, top - _TITLE_HEIGHT])
        figure.update_layout({_scene(k): scene})
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
