"""Draw losses along lines and curves: each line, their mean and their quantiles."""

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from jaxscape._util import colors
from jaxscape._util.checks import check_type
from jaxscape.connectivity.lines import Lines
from jaxscape.plot.parts import layout
from jaxscape.plot.parts.downsample import evenly_spaced

_COLORS = (
    colors.BLUE,
    colors.VERMILION,
    colors.GREEN,
    colors.PINK,
    colors.ORANGE,
    colors.SKY_BLUE,
)
_QUANTILES = 0.1, 0.9
_MAX_THIN_LINES = 400
"""More lines are indistinguishable, and slow to draw."""


def lines(*lines: Lines, dark: bool = False) -> go.Figure:
    """Draw losses along lines, several `Lines` in one figure, and mark the solutions they connect.

    For `Lines` with several directions, the figure shows up to 400 of them as thin lines, their
    mean, and the range of the central 80 %. Losses that are not finite leave gaps, also in the mean
    and in the range; a note counts them.

    Args:
        *lines: results of `lines`, of `interpolate`, or of the method `losses` of a `Curve`.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: an argument is not a `Lines`.
        ValueError: There is no argument, or an argument has no finite loss.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> ends = jxs.Weights(1.5, 0.8), jxs.Weights(-1.5, -0.8)
        >>> straight = jxs.connectivity.interpolate(jxs.squared_error, data, *ends)
        >>> curve = jxs.connectivity.bezier(
        ...     jxs.squared_error, data, *ends, jax.random.key(1), steps=50
        ... )
        >>> figure = jxs.plot.lines(straight, curve.losses(jxs.squared_error, data))
        >>> [trace.name for trace in figure.data]
        ['straight line, barrier 0.4...', 'Bézier curve, barrier 0...', 'solutions']
    """
    _check(lines)
    names = [group.name for group in lines]
    unique_names = [
        name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})"
        for k, name in enumerate(names)
    ]
    line_colors = [_COLORS[k % len(_COLORS)] for k in range(len(lines))]
    if dark:
        line_colors = [layout.mix_color(color, 255, 0.35) for color in line_colors]
    groups = list(zip(lines, unique_names, line_colors, strict=True))
    figure = go.Figure()
    # Draw all ranges below all thin lines, and these below all means.
    for add in (_add_range, _add_thin_lines, _add_mean):
        for group, name, color in groups:
            add(figure, group, name, color)
    _add_solutions(figure, lines)
    notes = [note for group, name, _ in groups for note in _notes(group, name)]
    figure.update_xaxes(title="t", zeroline=False)
    figure.update_yaxes(title=" / ".join(dict.fromkeys(group.loss_name for group in lines)))
    return layout.finish(figure, "Loss along lines", notes, dark)


def _check(lines: tuple[Lines, ...]) -> None:
    if not lines:
        raise ValueError("lines: expected at least one, got none")
    for group in lines:
        check_type("lines", group, Lines, "Lines")
        if not np.isfinite(np.asarray(group.loss, float)).any():
            raise ValueError(f"lines: expected a finite loss to draw, got none in {group!r}")


def _add_range(figure: go.Figure, group: Lines, name: str, color: str) -> None:
    """Fill the range between the quantiles of several lines."""
    if len(group) == 1:
        return
    t, (low, high) = np.asarray(group.t, float), np.asarray(group.quantiles(_QUANTILES), float)
    finite = np.isfinite(low) & np.isfinite(high)
    # A polygon for each section between gaps; a single polygon would cover the gaps.
    ends = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]])))
    x, y = [], []
    for section in map(slice, ends[::2], ends[1::2]):
        x += [*t[section], *t[section][::-1], np.nan]
        y += [*high[section], *low[section][::-1], np.nan]
    figure.add_scatter(
        x=x,
        y=y,
        fill="toself",
        fillcolor=_with_opacity(color, 0.25),
        line={"width": 0},
        mode="lines",
        name=f"{round(100 * (_QUANTILES[1] - _QUANTILES[0]))} % of {name}",
        legendgroup=name,
        hoverinfo="skip",
    )


def _add_thin_lines(figure: go.Figure, group: Lines, name: str, color: str) -> None:
    """Draw several lines, all in one trace, with a gap after each."""
    if len(group) == 1:
        return
    losses = np.asarray(group.loss, float)[evenly_spaced(len(group), _MAX_THIN_LINES)]
    losses = np.pad(losses, ((0, 0), (0, 1)), constant_values=np.nan)
    figure.add_scatter(
        x=np.tile(np.append(np.asarray(group.t, float), np.nan), len(losses)),
        y=_with_gaps(losses).ravel(),
        mode="lines",
        line={"color": _with_opacity(color, 0.35), "width": 1},
        legendgroup=name,
        hoverinfo="skip",
        showlegend=False,
    )


def _add_mean(figure: go.Figure, group: Lines, name: str, color: str) -> None:
    label = name if len(group) == 1 else f"mean of {name}"
    if group.connects and {0.0, 1.0} <= set(np.asarray(group.t).tolist()):
        label += f", barrier {group.barrier:.4g}"
    figure.add_scatter(
        x=np.asarray(group.t, float),
        y=_with_gaps(np.asarray(group.mean, float)),
        mode="lines",
        line={"color": color, "width": 3.5},
        name=label,
        legendgroup=name,
        hovertemplate=f"t %{{x:.5~g}}<br>loss %{{y:.6~g}}<extra>{name}</extra>",
    )


def _add_solutions(figure: go.Figure, lines: tuple[Lines, ...]) -> None:
    """Mark the different solutions at t = 0 and t = 1."""
    solutions = {
        (float(t), float(loss))
        for group in lines
        if group.connects
        for t, loss in zip(np.asarray(group.t), np.asarray(group.mean), strict=True)
        if t in (0, 1) and np.isfinite(loss)
    }
    if solutions:
        x, y = zip(*sorted(solutions), strict=True)
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"color": "white", "size": 11, "line": layout.OUTLINE | {"width": 2}},
            name="solutions",
            cliponaxis=False,
            hovertemplate="t %{x}<br>loss %{y:.6~g}<extra>solution</extra>",
        )


def _notes(group: Lines, name: str) -> list[str]:
    notes = []
    if len(group) > _MAX_THIN_LINES:
        notes.append(f"{name}: {_MAX_THIN_LINES} of {len(group)} lines are drawn")
    nonfinite = int((~np.isfinite(np.asarray(group.loss, float))).sum())
    if nonfinite:
        notes.append(f"{nonfinite} of {group.loss.size} losses of {name} are not finite")
    return notes


def _with_gaps(losses: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(losses), losses, np.nan)


def _with_opacity(color: str, opacity: float) -> str:
    channels = hex_to_rgb(color) if color.startswith("#") else color[4:-1].split(",")
    return "rgba({}, {}, {}, {})".format(*channels, opacity)
