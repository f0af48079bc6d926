"""Draw where training ends: basins of attraction, and the loss over two hyperparameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape._util import colors
from jaxscape._util.checks import check_type
from jaxscape.plot.parts import layout, overlays
from jaxscape.plot.parts.paths import drawn_paths
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Axis, Landscape
from jaxscape.results.trajectory import Trajectory
from jaxscape.training.basins import Basins

_LIMIT_COLORS = (
    colors.BLUE,
    colors.ORANGE,
    colors.GREEN,
    colors.PINK,
    colors.SKY_BLUE,
    colors.VERMILION,
    colors.YELLOW,
)
_COLORS_BY_KIND = {"diverged": colors.GRAY, "unfinished": "#303030"}
_MAX_ENTRIES = 8
"""The largest number of limits in the legend."""
_COLOR_PERCENTILE = 90
"""Losses above this percentile share a color: where training almost diverges, they are huge."""


def basins(basins: Basins, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """Draw the limit that training reaches from each start, darker where it takes more steps.

    Args:
        basins: the result of `basins`.
        *paths: trajectories whose parameters have the names of the axes, as `Weights` do.
        dark: whether the background is dark.

    Returns:
        The figure. A star marks each limit whose parameters are two numbers with the names of the
        axes.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: A path's parameters do not have the names of the axes.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> basins = jxs.basins(jxs.squared_error, data, optimizer=optax.sgd(0.3),
        ...                     w1=(-3, 3, 24), w2=(-2, 2, 16))
        >>> jxs.plot.basins(basins).data[0].z.shape
        (16, 24)
    """
    check_type("basins", basins, Basins, "Basins")
    landscape = Landscape(basins.loss, basins.a, basins.b, basins.loss_name, "dense", basins.marks)
    drawn, notes = drawn_paths(landscape, paths)
    limit_colors = _limit_colors(basins)
    count = len(limit_colors)
    # The integer part of a value is the limit; the fraction is the number of steps, on a log scale.
    shade = 0.999 * np.log1p(basins.steps) / max(1.0, float(np.log1p(basins.steps.max())))
    color_scale = [
        [(k + end) / count, layout.mix_color(color, gray, fraction)]
        for k, color in enumerate(limit_colors)
        for end, gray, fraction in ((0, 255, 0.6), (0.9999, 0, 0.35))
    ]
    color_scale[-1][0] = 1
    kinds = np.array([limit.kind for limit in basins.limits])[basins.label]
    figure = go.Figure(
        go.Heatmap(
            x=np.asarray(basins.a.values),
            y=np.asarray(basins.b.values),
            z=(basins.label + shade).T.astype(np.float32),
            zmin=0,
            zmax=count,
            colorscale=color_scale,
            showscale=False,
            text=kinds.T,
            customdata=np.stack([basins.steps.T, basins.loss.T], axis=-1),
            hovertemplate=layout.hover_text(
                landscape, "%{customdata[1]:.5~g}<br>%{text} after %{customdata[0]} steps", ""
            ),
        )
    )
    _add_limits(figure, basins, limit_colors)
    hidden = len(basins.limits) - _MAX_ENTRIES
    if hidden > 0:
        notes.append(f"{hidden} more limits with fewer starts")
    layout.add_paths(figure, landscape, drawn)
    notes += overlays.add(figure, landscape)
    layout.name_axes(figure, landscape)
    head = "{}, {} × {} starts, darker: more steps".format(basins.loss_name, *basins.shape)
    return layout.finish(figure, "Basins of attraction", notes, dark, head)


def _add_limits(figure: go.Figure, basins: Basins, limit_colors: list[str]) -> None:
    """Add a legend entry for each limit with many starts, and a star if it has coordinates."""
    by_starts = np.argsort([-limit.starts for limit in basins.limits], kind="stable")
    for k in sorted(by_starts[:_MAX_ENTRIES]):
        limit = basins.limits[k]
        percent = 100 * limit.starts / basins.label.size
        loss = "" if np.isnan(limit.loss) else f", loss {limit.loss:.4g}"
        a, b = _coordinates(limit.params, (basins.a.name, basins.b.name))
        position = "" if np.isnan(a) else f" at ({a:.3g}, {b:.3g})"
        figure.add_scatter(
            x=[a],
            y=[b],
            mode="markers",
            marker={
                "symbol": "square" if np.isnan(a) else "star",
                "size": 15,
                "color": limit_colors[k],
                "line": layout.OUTLINE | {"color": "white"},
            },
            name=f"{limit.kind}{position}{loss}: {percent:.3g} % of starts",
            hoverinfo="name",
        )


def _limit_colors(basins: Basins) -> list[str]:
    """Choose a color for each limit; with more limits than colors, avoid equal neighbors."""
    count = len(basins.limits)
    borders = np.zeros((count, count), int)
    for label in (basins.label, basins.label.T):
        np.add.at(borders, (label[1:], label[:-1]), 1)
    borders += borders.T
    chosen: list[str] = []
    for k, limit in enumerate(basins.limits):
        users = {
            color: [j for j, other in enumerate(chosen) if other == color]
            for color in _LIMIT_COLORS
        }
        # The color with the shortest common border; if several are equal, the one used least.
        best = min(_LIMIT_COLORS, key=lambda c: (borders[k, users[c]].sum(), len(users[c])))
        chosen.append(_COLORS_BY_KIND.get(limit.kind, best))
    return chosen


def _coordinates(params: Any, names: tuple[str, str]) -> tuple[float, float]:
    """Return the two parameters with these names, or NaN if they are not two numbers."""
    by_name = params._asdict() if hasattr(params, "_asdict") else params
    if not isinstance(by_name, Mapping) or any(np.ndim(by_name.get(name, [0])) for name in names):
        return np.nan, np.nan
    a, b = (float(by_name[name]) for name in names)
    return a, b


def trainability(landscape: Landscape, dark: bool = False) -> go.Figure:
    """Draw the loss after training over two hyperparameters on a log scale, gray for diverged runs.

    An axis with geometric spacing, as from `numpy.geomspace`, is drawn on a log scale.

    Args:
        landscape: a landscape of a `FinalLoss`.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: `landscape` is not a `Landscape`.
        ValueError: `landscape` has no finite loss or a negative loss.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.0)
        >>> final = jxs.training.FinalLoss(jxs.squared_error, jxs.Weights(1.0, 0.2), sgd, epochs=30)
        >>> plane = jxs.training.hyperparameter_plane("learning_rate", "momentum")
        >>> landscape = jxs.landscape(final, data, plane, learning_rate=(0.1, 1, 4),
        ...                           momentum=(0, 0.9, 3))
        >>> jxs.plot.trainability(landscape).data[0].z.shape
        (3, 4)
    """
    layout.check_drawable(landscape)
    lowest = landscape.lowest
    assert lowest is not None
    if lowest.loss < 0:
        raise ValueError(
            f"landscape: expected losses of 0 or more, for a log scale, got {lowest.loss:g}"
        )
    loss = np.asarray(landscape.loss, float)
    finite = np.isfinite(loss)
    # Losses from 0 to eps² have the lowest color.
    floor = max(float(np.finfo(landscape.loss.dtype).eps) ** 2, lowest.loss)
    highest = float(loss[finite].max())
    top = min(max(float(np.percentile(loss[finite], _COLOR_PERCENTILE)), 10 * floor), highest)
    scale = Scale(True, floor, highest, max(top, floor))
    figure = go.Figure(
        go.Heatmap(
            x=np.asarray(landscape.a.values),
            y=np.asarray(landscape.b.values),
            z=layout.narrow_dtype(scale.heights(np.where(finite, loss, np.nan))).T,
            zmin=scale.color_range[0],
            zmax=scale.color_range[1],
            colorscale=layout.COLORS,
            colorbar=layout.color_bar(landscape.loss_name, scale.ticks(scale.top)),
            customdata=layout.narrow_dtype(loss).T,
            hovertemplate=layout.hover_text(landscape, "%{customdata:.4~g}", ""),
            hoverongaps=False,
        )
    )
    layout.name_axes(figure, landscape)
    for update, axis in ((figure.update_xaxes, landscape.a), (figure.update_yaxes, landscape.b)):
        if _is_geometric(axis):
            ends = np.asarray(axis.values)[[0, -1]]
            update(type="log", range=np.log10(ends), exponentformat="power")
    notes = [*scale.notes, *layout.nonfinite_notes(landscape)]
    head = "{}, {} × {}".format(landscape.loss_name, *landscape.shape)
    layout.finish(figure, "Where training converges", notes, dark, head)
    figure.update_layout(plot_bgcolor=colors.GRAY)
    return figure.update_xaxes(showgrid=False).update_yaxes(showgrid=False)


def _is_geometric(axis: Axis) -> bool:
    """Return whether the values have a constant ratio, as from `numpy.geomspace`."""
    values = np.asarray(axis.values, float)
    if len(values) < 3 or values[0] <= 0:
        return False
    ratios = values[1:] / values[:-1]
    return bool(np.ptp(ratios) < 1e-3 * (ratios[0] - 1))
