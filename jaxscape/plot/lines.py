"""Figures of losses along lines and curves: each line, their mean and how far they spread."""

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from jaxscape.connectivity.lines import Lines
from jaxscape.plot.parts import layout

# Okabe and Ito's colors for the color-blind.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_BAND = 0.1, 0.9
# More are one gray mass, and slow to draw.
_MOST_THIN_LINES = 400


def lines(*found: Lines, dark: bool = False) -> go.Figure:
    """Losses along lines, several `Lines` on one figure, solutions marked.

    Where `Lines` are of many directions, each of them is drawn thin, up to 400 spread evenly over
    them, with the mean of all and the band of the middle 80 %. Losses that are not finite are gaps,
    also of mean and band, and counted in a note.

    Args:
        found: what `lines`, `interpolate` or the `losses` of a `Curve` returned.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: anything else than `Lines`.
        ValueError: none, or some without a finite loss.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> ends = jxs.Weights(1.5, 0.8), jxs.Weights(-1.5, -0.8)
        >>> straight = jxs.connectivity.interpolate(jxs.squared_error, data, *ends)
        >>> curve = jxs.connectivity.bezier(jxs.squared_error, data, *ends, jax.random.key(1), steps=50)
        >>> figure = jxs.plot.lines(straight, curve.losses(jxs.squared_error, data))
        >>> [trace.name for trace in figure.data]
        ['straight line, barrier 0.4...', 'Bézier curve, barrier 0...', 'solutions']
    """
    _check(found)
    names = [one.name for one in found]
    named = [
        name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})"
        for k, name in enumerate(names)
    ]
    colors = [_COLORS[k % len(_COLORS)] for k in range(len(found))]
    if dark:
        colors = [layout.mix_color(color, 255, 0.35) for color in colors]
    drawn = list(zip(found, named, colors, strict=True))
    figure = go.Figure()
    # Bands below thin lines below means, whichever they belong to.
    for add in (_add_band, _add_thin, _add_mean):
        for one, name, color in drawn:
            add(figure, one, name, color)
    _add_solutions(figure, found)
    notes = [note for one, name, _ in drawn for note in _notes(one, name)]
    figure.update_xaxes(title="t", zeroline=False)
    figure.update_yaxes(title=" / ".join(dict.fromkeys(one.loss_name for one in found)))
    return layout.finish(figure, "Loss along lines", notes, dark)


def _add_band(figure: go.Figure, one: Lines, name: str, color: str) -> None:
    if len(one) == 1:
        return
    t, (low, high) = np.asarray(one.t, float), np.asarray(one.quantiles(_BAND), float)
    kept = np.isfinite(low) & np.isfinite(high)
    # A polygon for each stretch without a gap: one around all would hide it.
    ends = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]])))
    x, y = [], []
    for there in map(slice, ends[::2], ends[1::2]):
        x += [*t[there], *t[there][::-1], np.nan]
        y += [*high[there], *low[there][::-1], np.nan]
    figure.add_scatter(
        x=x,
        y=y,
        fill="toself",
        fillcolor=_faded(color, 0.25),
        line={"width": 0},
        mode="lines",
        name=f"{round(100 * (_BAND[1] - _BAND[0]))} % of {name}",
        legendgroup=name,
        hoverinfo="skip",
    )


def _add_thin(figure: go.Figure, one: Lines, name: str, color: str) -> None:
    if len(one) == 1:
        return
    # All in one trace, a gap after each.
    losses = np.asarray(one.loss, float)[_shown(one)]
    losses = np.pad(losses, ((0, 0), (0, 1)), constant_values=np.nan)
    figure.add_scatter(
        x=np.tile(np.append(np.asarray(one.t, float), np.nan), len(losses)),
        y=_with_gaps(losses).ravel(),
        mode="lines",
        line={"color": _faded(color, 0.35), "width": 1},
        legendgroup=name,
        hoverinfo="skip",
        showlegend=False,
    )


def _add_mean(figure: go.Figure, one: Lines, name: str, color: str) -> None:
    text = name if len(one) == 1 else f"mean of {name}"
    if one.connects and {0.0, 1.0} <= set(np.asarray(one.t).tolist()):
        text += f", barrier {one.barrier:.4g}"
    figure.add_scatter(
        x=np.asarray(one.t, float),
        y=_with_gaps(np.asarray(one.mean, float)),
        mode="lines",
        line={"color": color, "width": 3.5},
        name=text,
        legendgroup=name,
        hovertemplate=f"t %{{x:.5~g}}<br>loss %{{y:.6~g}}<extra>{name}</extra>",
    )


def _add_solutions(figure: go.Figure, found: tuple[Lines, ...]) -> None:
    ends = {
        (float(t), float(loss))
        for one in found
        if one.connects
        for t, loss in zip(np.asarray(one.t), np.asarray(one.mean), strict=True)
        if t in (0, 1) and np.isfinite(loss)
    }
    if ends:
        x, y = zip(*sorted(ends), strict=True)
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"color": "white", "size": 11, "line": layout.OUTLINE | {"width": 2}},
            name="solutions",
            cliponaxis=False,
            hovertemplate="t %{x}<br>loss %{y:.6~g}<extra>solution</extra>",
        )


def _notes(one: Lines, name: str) -> list[str]:
    shown, holes = len(_shown(one)), int((~np.isfinite(np.asarray(one.loss, float))).sum())
    notes = [] if shown == len(one) else [f"{shown} of {name} as thin lines"]
    if holes:
        notes.append(f"{holes} of {one.loss.size} losses of {name} are not finite")
    return notes


def _shown(one: Lines) -> np.ndarray:
    """Which lines are drawn."""
    return np.linspace(0, len(one) - 1, min(len(one), _MOST_THIN_LINES)).round().astype(int)


def _with_gaps(losses: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(losses), losses, np.nan)


def _faded(color: str, opacity: float) -> str:
    parts = hex_to_rgb(color) if color.startswith("#") else color[4:-1].split(",")
    return "rgba({}, {}, {}, {})".format(*parts, opacity)


def _check(found: tuple[Lines, ...]) -> None:
    if not found:
        raise ValueError("lines: expected at least one, got none")
    for one in found:
        if not isinstance(one, Lines):
            raise TypeError(f"lines: expected Lines, got {type(one).__name__}")
        if not np.isfinite(np.asarray(one.loss, float)).any():
            raise ValueError(f"lines: expected a finite loss to draw, got none in {one!r}")
