"""Images over a grid that are no loss surface: where descents end, and where training converges."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape.plot.parts import layout, overlays
from jaxscape.plot.parts import paths as paths_
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Axis, Landscape
from jaxscape.results.trajectory import Trajectory
from jaxscape.training.basins import Basins

# Okabe and Ito's colors for the color-blind.
_LIMIT_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_OTHER_COLORS = {"diverged": "#808080", "unfinished": "#303030"}
_MOST_LIMITS = 8
"""In the legend."""
# Percent of losses whose colors differ: where training nearly diverges they are far larger.
_TOLD_APART = 90


def basins(found: Basins, *paths: Trajectory, dark: bool = False) -> go.Figure:
    """Which limit each start reaches, as an image: a color for each, darker where it takes longer.

    Args:
        found: what `basins` returned.
        paths: descents whose parameters are named as the axes, as `Weights` are.
        dark: light lines on a dark ground.

    Returns:
        The figure; limits that are numbers named as the axes are marked where they lie.

    Raises:
        TypeError: anything else than `Basins`.
        ValueError: a path of other parameters.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.basins(jxs.squared_error, data, optimizer=optax.sgd(0.3),
        ...                    w1=(-3, 3, 24), w2=(-2, 2, 16))
        >>> jxs.plot.basins(found).data[0].z.shape
        (16, 24)
    """
    if not isinstance(found, Basins):
        raise TypeError(f"found: expected Basins, got {type(found).__name__}")
    surface = Landscape(found.loss, found.a, found.b, found.loss_name, "dense", found.marks)
    lines, notes = paths_.drawn_paths(surface, paths)
    colors = _limit_colors(found)
    # The whole part of a value is the limit, the rest the steps to it, on a log scale.
    effort = np.log1p(found.steps) / max(1.0, float(np.log1p(found.steps.max())))
    shades, count = 0.999 * effort, len(colors)
    scale = [
        [(k + end) / count, layout.mix_color(color, other, share)]
        for k, color in enumerate(colors)
        for end, other, share in ((0, 255, 0.6), (0.9999, 0, 0.35))
    ]
    scale[-1][0] = 1
    kinds = np.array([limit.kind for limit in found.limits])[found.label]
    figure = go.Figure(
        go.Heatmap(
            x=np.asarray(found.a.values),
            y=np.asarray(found.b.values),
            z=(found.label + shades).T.astype(np.float32),
            zmin=0,
            zmax=count,
            colorscale=scale,
            showscale=False,
            text=kinds.T,
            customdata=np.stack([found.steps.T, found.loss.T], axis=-1),
            hovertemplate=layout.hover_text(
                surface, "%{customdata[1]:.5~g}<br>%{text} after %{customdata[0]} steps", ""
            ),
        )
    )
    more = len(found.limits) - _MOST_LIMITS
    if more > 0:
        notes = [*notes, f"and {more} limits more, of fewer starts"]
    largest = np.argsort([-limit.starts for limit in found.limits], kind="stable")[:_MOST_LIMITS]
    for limit, color in ((found.limits[k], colors[k]) for k in sorted(largest)):
        share = 100 * limit.starts / found.label.size
        loss = "" if np.isnan(limit.loss) else f", loss {limit.loss:.4g}"
        place = _place(limit.params, (found.a.name, found.b.name))
        where = "" if np.isnan(place[0]) else f" at ({place[0]:.3g}, {place[1]:.3g})"
        figure.add_scatter(
            x=[place[0]],
            y=[place[1]],
            mode="markers",
            marker={
                "symbol": "square" if np.isnan(place[0]) else "star",
                "size": 15,
                "color": color,
                "line": layout.OUTLINE | {"color": "white"},
            },
            name=f"{limit.kind}{where}{loss}: {share:.3g} % of starts",
            hoverinfo="name",
        )
    layout.add_paths(figure, surface, lines)
    notes = [*notes, *overlays.add(figure, surface)]
    layout.name_axes(figure, surface)
    head = "{}, {} × {} starts, darker: more steps".format(found.loss_name, *found.shape)
    return layout.finish(figure, "Basins of attraction", notes, dark, head)


def trainability(surface: Landscape, dark: bool = False) -> go.Figure:
    """The loss after training over two hyperparameters, on a log scale; gray where it diverged.

    An axis whose values grow by one factor, as those of `numpy.geomspace`, is a log axis.

    Args:
        surface: a landscape of a `FinalLoss`.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: anything else than a `Landscape`.
        ValueError: no finite loss, or one that is negative.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.0)
        >>> after = jxs.training.FinalLoss(jxs.squared_error, jxs.Weights(1.0, 0.2), sgd, epochs=30)
        >>> plane = jxs.training.hyperparameter_plane("learning_rate", "momentum")
        >>> surface = jxs.landscape(after, data, plane, learning_rate=(0.1, 1, 4),
        ...                         momentum=(0, 0.9, 3))
        >>> jxs.plot.trainability(surface).data[0].z.shape
        (3, 4)
    """
    layout.check_drawable(surface)
    lowest = surface.lowest
    assert lowest is not None
    if lowest.loss < 0:
        raise ValueError(
            f"surface: expected losses of 0 or more, for a log scale, got {lowest.loss:g}"
        )
    loss = np.asarray(surface.loss, float)
    finite = np.isfinite(loss)
    # A loss of exactly 0, and what rounds to it beside the largest, has the lowest color.
    floor = max(float(np.finfo(surface.loss.dtype).eps) ** 2, lowest.loss)
    highest = float(loss[finite].max())
    top = min(max(float(np.percentile(loss[finite], _TOLD_APART)), 10 * floor), highest)
    scale = Scale(True, floor, highest, max(top, floor))
    figure = go.Figure(
        go.Heatmap(
            x=np.asarray(surface.a.values),
            y=np.asarray(surface.b.values),
            z=layout.narrow_dtype(scale.heights(np.where(finite, loss, np.nan))).T,
            zmin=scale.color_range[0],
            zmax=scale.color_range[1],
            colorscale=layout.COLORS,
            colorbar=layout.color_bar(surface.loss_name, scale.ticks(scale.top)),
            customdata=layout.narrow_dtype(loss).T,
            hovertemplate=layout.hover_text(surface, "%{customdata:.4~g}", ""),
            hoverongaps=False,
        )
    )
    layout.name_axes(figure, surface)
    for update, axis in ((figure.update_xaxes, surface.a), (figure.update_yaxes, surface.b)):
        if _is_geometric(axis):
            ends = np.asarray(axis.values)[[0, -1]]
            update(type="log", range=np.log10(ends), exponentformat="power")
    notes = [*scale.notes, *layout.nonfinite_notes(surface)]
    head = "{}, {} × {}".format(surface.loss_name, *surface.shape)
    layout.finish(figure, "Where training converges", notes, dark, head)
    figure.update_layout(plot_bgcolor="#808080")
    return figure.update_xaxes(showgrid=False).update_yaxes(showgrid=False)


def _is_geometric(axis: Axis) -> bool:
    """Whether each value is the one before times the same factor, as `numpy.geomspace` has it."""
    values = np.asarray(axis.values, float)
    if len(values) < 3 or values[0] <= 0:
        return False
    factors = values[1:] / values[:-1]
    return bool(np.ptp(factors) < 1e-3 * (factors[0] - 1))


def _limit_colors(found: Basins) -> list[str]:
    """A color for each limit; of more limits than colors, few that touch share one."""
    count = len(found.limits)
    borders = np.zeros((count, count), int)
    for label in (found.label, found.label.T):
        np.add.at(borders, (label[1:], label[:-1]), 1)
    borders += borders.T
    chosen: list[str] = []
    for k, limit in enumerate(found.limits):
        alike = {
            color: [j for j, other in enumerate(chosen) if other == color]
            for color in _LIMIT_COLORS
        }
        # Of the colors with the shortest common border, one of those used least.
        best = min(_LIMIT_COLORS, key=lambda c: (borders[k, alike[c]].sum(), len(alike[c])))
        chosen.append(_OTHER_COLORS.get(limit.kind, best))
    return chosen


def _place(params: Any, names: tuple[str, str]) -> tuple[float, float]:
    """Where parameters lie in the plane of these two names; NaN if they are not its numbers."""
    by_name = params._asdict() if hasattr(params, "_asdict") else params
    if not isinstance(by_name, Mapping) or any(np.ndim(by_name.get(name, [0])) for name in names):
        return np.nan, np.nan
    first, second = (float(by_name[name]) for name in names)
    return first, second
