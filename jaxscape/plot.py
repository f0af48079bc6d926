"""Results to plotly figures: nothing is computed that was not measured, nothing is shown yet.

Figures are ordinary `plotly.graph_objects.Figure`s: `write_html`, `show` and every `update_*` of
plotly apply. This is the one place where a loss array is transposed: plotly wants rows along y.
"""

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from jaxscape import fitted, frames, layout, marks, spatial, view
from jaxscape.charts import fan, profile, stability, steps
from jaxscape.explorer import explore
from jaxscape.export import write
from jaxscape.fits import Predictions
from jaxscape.interpolations import lines
from jaxscape.layout import HTML_CONFIG
from jaxscape.maps import basins, trainability
from jaxscape.points import CriticalPoints
from jaxscape.results import Landscape
from jaxscape.slopes import curvature, slopes
from jaxscape.spectra import spectrum
from jaxscape.trajectory import Descents, Projection, Trajectory
from jaxscape.valleys import Barrier, Valley

__all__ = [
    "HTML_CONFIG",
    "animation",
    "basins",
    "contour",
    "curvature",
    "explore",
    "fan",
    "fit",
    "lines",
    "profile",
    "slopes",
    "spectrum",
    "stability",
    "steps",
    "surface",
    "trainability",
    "write",
]

_MOST_SURFACE_VALUES = 401
"""An axis with more turns slowly in a browser."""
_MOST_HEATMAP_VALUES = 2001


def surface(
    landscape: Landscape,
    *paths: Trajectory | Projection,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    barrier: Barrier | None = None,
    dark: bool = False,
) -> go.Figure:
    """The loss as a surface that turns, with descents on it.

    The camera is placed so that as much of the paths as possible is in view. Of a landscape with
    more than 401 values along an axis, one cell of each block is drawn, where it is and with its
    own loss: the lowest (highest) of a block that reaches below (above) all blocks around it, so
    that no pit or peak is lost; the figure says so. Paths are drawn a hair above the surface, their
    hover shows their own loss; what leaves the grid is cut at its edge and counted in a note.

    Args:
        landscape: the surface.
        paths: descents whose parameters are named as the landscape's axes, as `Weights` are, or
            what `project` makes of any other's. One that leaves the plane hangs at its own loss,
            dotted on the surface under it.
        critical, valley, barrier: what `critical_points`, `valley` and `barrier` return, drawn on
            it.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        ValueError: a landscape without a finite cell, or paths or points of other coordinates.

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
    lift = spatial.lift_of(loss)
    figure = go.Figure(
        go.Surface(
            x=a.T if a.ndim == 2 else a,
            y=b.T if b.ndim == 2 else b,
            z=loss.T,
            colorscale=layout.COLOURS,
            colorbar=layout.colour_bar(landscape),
            hovertemplate=layout.cell_hover(landscape),
            name=landscape.loss_name,
            lighting=spatial.LIGHTING,
        )
    )
    spatial.add_paths(figure, landscape, lines, lift)
    known = marks.add(figure, landscape, critical, valley, barrier, lift)
    ways = [line.way for line in lines] + marks.ways(landscape, critical, valley, barrier)
    figure.update_layout(scene=spatial.scene(landscape, a, b, loss, ways))
    return layout.finish(figure, landscape, notes + more + known, dark)


def contour(
    landscape: Landscape,
    *paths: Trajectory | Projection | Descents,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    barrier: Barrier | None = None,
    dark: bool = False,
) -> go.Figure:
    """The loss from above: a heatmap with contour lines, with descents on it.

    The heatmap shows every cell up to 2001 values along an axis; the contour lines, up to 401,
    follow every k-th cell beyond. The lowest cell is marked from the full grid.

    Args:
        landscape: the surface.
        paths: descents whose parameters are named as the landscape's axes, as `Weights` are, or
            what `project` makes of any other's, dotted if the plane's loss is not its own.
            `Descents` are drawn as thin lines, up to 400 spread evenly over them, with the
            median of all that have not diverged.
        critical, valley, barrier: what `critical_points`, `valley` and `barrier` return, drawn on
            it.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        ValueError: a landscape without a finite cell, or paths or points of other coordinates.

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
    notes = [*notes, *marks.add(figure, landscape, critical, valley, barrier)]
    layout.name_axes(figure, landscape)
    return layout.finish(figure, landscape, notes, dark)


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
        **drawn: `critical`, `valley`, `barrier` and `dark`, as these take them.

    Returns:
        The figure; its frames hold the paths alone.

    Raises:
        TypeError: what is no path.
        ValueError: no path, none with two points and a part on the grid, another kind, or what
            `surface` and `contour` refuse.

    Example:
        >>> data = jxs.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> len(jxs.plot.animation(surface, path).frames)
        21
    """
    figure, lines, shorter = _still(landscape, paths, kind, drawn)
    return frames.add(figure, lines, frames.moments(shorter))


def fit(
    landscape: Landscape,
    found: Predictions,
    kind: Literal["surface", "contour"] = "surface",
    **drawn: Any,
) -> go.Figure:
    """The path over the surface, and beside it the network's fit to its data at each point.

    One slider moves both, so that each point is seen with its curve; both have one colour. Of more
    than 1,000 samples, 1,000 are drawn, and the figure says so.

    Args:
        landscape: the surface.
        found: what `predictions` returned.
        kind: what the path goes over, as `surface` or `contour` draws it.
        **drawn: `critical`, `valley`, `barrier` and `dark`, as these take them.

    Returns:
        The figure, animated as `animation` does it.

    Raises:
        TypeError: anything else than `Predictions`.
        ValueError: what `animation` refuses.

    Example:
        >>> data = jxs.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> found = jxs.predictions(jxs.squared_error, path, data)
        >>> figure = jxs.plot.fit(surface, found)
        >>> [trace.name for trace in figure.data[-2:]], len(figure.frames)
        (["the network's curve", "the network's curve"], 21)
    """
    if not isinstance(found, Predictions):
        raise TypeError(f"found: expected Predictions, got {type(found).__name__}")
    figure, lines, shorter = _still(landscape, (found.path,), kind, drawn)
    frames.note(figure, fitted.add(figure, found, lines[0].colour))
    figure.update_layout(title_text="Loss surface, and the fit at each point of the descent")
    epochs = frames.moments(shorter)
    curves = found.y[np.searchsorted(found.path.epoch, epochs, side="right") - 1]
    curve = [{"y": y.astype(np.float32)} for y in curves]
    last = len(figure.data) - 1
    return frames.add(figure, lines, epochs, {last - 1: curve, last: curve})


def _still(
    landscape: Landscape,
    paths: tuple[Trajectory | Projection, ...],
    kind: str,
    drawn: dict[str, Any],
) -> tuple[go.Figure, list[view.Line], list[Trajectory | Projection]]:
    """The figure of paths to their ends, thinned for frames; as lines, and as paths."""
    if kind not in ("surface", "contour"):
        raise ValueError(f"kind: expected 'surface' or 'contour', got {kind!r}")
    view.check_paths(paths)
    shorter, notes = view.thinned(paths, frames.MOST_POINTS)
    draw = surface if kind == "surface" else contour
    figure = draw(landscape, *shorter, **drawn)
    lines, _ = view.lines(landscape, tuple(shorter))
    if not any(len(line.way) for line in lines):
        raise ValueError("paths: expected one of two points or more that is on the grid, got none")
    frames.note(figure, notes)
    return figure, lines, shorter
