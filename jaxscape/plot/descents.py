"""Draw training over time: losses of many runs, step sizes, sharpness; and a valley's profile."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from jaxscape._util import colors
from jaxscape._util.checks import check_type
from jaxscape.critical.points import CriticalPoints
from jaxscape.curvature.sharpness import Stability
from jaxscape.plot.parts import layout
from jaxscape.plot.parts.paths import unique_names
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Axis, Landscape
from jaxscape.results.trajectory import Descents, Trajectory
from jaxscape.topology.valleys import Valley

_PATH_COLORS = (
    colors.VERMILION,
    colors.BLUE,
    colors.GREEN,
    colors.PINK,
    colors.ORANGE,
    colors.SKY_BLUE,
)


def fan(descents: Descents, dark: bool = False) -> go.Figure:
    """Draw the losses of many runs by epoch: the median and the central 50 % and 90 % ranges.

    Args:
        descents: runs with the same loss. Diverged runs are left out; a note counts them.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: `descents` is not a `Descents`.
        ValueError: All runs diverged.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> runs = jxs.descend(jxs.squared_error, jxs.Weights(-1.0, 0.5), data, batch_size=20,
        ...                    key=jax.random.split(jax.random.key(1), 9),
        ...                    optimizer=optax.sgd(0.1), epochs=5)
        >>> [trace.name for trace in jxs.plot.fan(runs).data if trace.name]
        ['90 % of runs', '50 % of runs', 'median of 9 runs']
    """
    check_type("descents", descents, Descents, "Descents")
    losses = np.asarray(descents.loss)[~descents.diverged]
    if not len(losses):
        raise ValueError(f"descents: expected a run that has not diverged, got {descents!r}")
    figure, epoch = go.Figure(), descents.epoch
    for percent, opacity in ((90, 0.2), (50, 0.4)):
        low, high = np.percentile(losses, [50 - percent / 2, 50 + percent / 2], axis=0)
        figure.add_scatter(
            x=np.concatenate([epoch, epoch[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor=f"rgba(0, 114, 178, {opacity})",
            line={"width": 0},
            mode="lines",
            name=f"{percent} % of runs",
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=epoch,
        y=np.median(losses, axis=0),
        mode="lines+markers" if len(epoch) <= 100 else "lines",
        line={"color": colors.VERMILION, "width": 3},
        name=f"median of {len(losses)} runs",
        hovertemplate="epoch %{x:.5~g}<br>loss %{y:.6~g}<extra></extra>",
    )
    diverged = len(descents) - len(losses)
    notes = [f"{diverged} of {len(descents)} runs diverged and are left out"] if diverged else []
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="loss")
    return layout.finish(figure, "Loss of many descents", notes, dark)


def steps(*paths: Trajectory, landscape: Landscape | None = None, dark: bool = False) -> go.Figure:
    """Draw the length of each recorded step, and the learning rate if recorded, on a log scale.

    Args:
        *paths: results of `descend`, with `record="step"` to show every step.
        landscape: a grid. A line shows its smallest spacing: shorter steps are not visible on it.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: A path is not a `Trajectory`. Select one run of `Descents` by its index.
        ValueError: There is no path, or one has no step sizes.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data, record="step",
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> len(jxs.plot.steps(path).data[0].y)
        20
    """
    for path in paths:
        check_type("paths", path, Trajectory, "Trajectory objects")
    if not paths or any(path.step_size is None for path in paths):
        got = "one without" if paths else "none"
        raise ValueError(
            f"paths: expected at least one result of descend, with step sizes, got {got}"
        )
    figure = go.Figure()
    # Learning rates come last, on top of the step lengths, which vary a lot.
    for quantity, width, opacity, dash in (
        ("length of the step", 1.2, 0.75, "solid"),
        ("learning rate", 3.5, 1, "dash"),
    ):
        for k, (name, path) in enumerate(zip(unique_names(paths), paths, strict=True)):
            values = path.learning_rate if quantity == "learning rate" else path.step_size
            if values is None:
                continue
            # The first point is the start, before any step. A log scale cannot show 0.
            values = np.where(np.asarray(values) > 0, values, np.nan)[1:]
            color = _PATH_COLORS[k % len(_PATH_COLORS)]
            if quantity == "learning rate":
                color = layout.mix_color(color, 255 * dark, 0.4)
            figure.add_scatter(
                x=np.asarray(path.step)[1:],
                y=values,
                mode="lines",
                line={"color": color, "width": width, "dash": dash},
                opacity=opacity,
                name=f"{name}, {quantity}",
                hovertemplate=f"step %{{x}}<br>{quantity} %{{y:.4~g}}<extra>{name}</extra>",
            )
    if landscape is not None:
        axes = landscape.a, landscape.b
        cell = min(float(np.diff(np.asarray(axis.values)).min()) for axis in axes)
        figure.add_scatter(
            x=[0, max(int(path.step[-1]) for path in paths)],
            y=[cell, cell],
            mode="lines",
            line={"color": "white" if dark else "black", "width": 2, "dash": "dot"},
            name=f"grid spacing, {cell:.3g}",
            hoverinfo="name",
        )
    figure.update_xaxes(title="step")
    values = np.concatenate([np.asarray(trace.y, float) for trace in figure.data])
    figure.update_yaxes(title="length", **_log_axis(values))
    return layout.finish(figure, "Step sizes", [], dark)


def stability(stability: Stability, dark: bool = False) -> go.Figure:
    """Draw sharpness and its threshold, gradient norm, and the steps' angle to the −gradient.

    Args:
        stability: the result of `edge_of_stability`.
        dark: whether the background is dark.

    Returns:
        The figure, with three panels over the steps. For Adam, the first one has the preconditioned
        sharpness.

    Raises:
        TypeError: `stability` is not a `Stability`.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> stability = jxs.curvature.edge_of_stability(jxs.squared_error, path, data)
        >>> len(jxs.plot.stability(stability).data)
        3
    """
    check_type("stability", stability, Stability, "Stability")
    sharpness, threshold = stability.sharpness, stability.threshold
    sharpness_name = "sharpness"
    if stability.preconditioned_sharpness is not None:
        sharpness = stability.preconditioned_sharpness
        threshold = stability.preconditioned_threshold
        sharpness_name = "preconditioned sharpness"
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, values, name, color, dash in (
        (1, sharpness, sharpness_name, colors.BLUE, "solid"),
        (1, threshold, stability.threshold_name, colors.VERMILION, "dash"),
        (2, stability.gradient_norm, "gradient norm", colors.GREEN, "solid"),
        (3, stability.angle, "step angle to −gradient", colors.PINK, "solid"),
    ):
        if values is None:
            continue
        figure.add_scatter(
            x=stability.step,
            y=np.where(np.isfinite(values), values, np.nan),
            mode="lines",
            line={"color": color, "width": 2.5, "dash": dash},
            name=name,
            # The axis title names the gradient.
            showlegend=row != 2,
            hovertemplate=f"step %{{x}}<br>{name} %{{y:.5~g}}<extra></extra>",
            row=row,
            col=1,
        )
    # The threshold is unbounded as the learning rate falls to 0: only its minimum must be visible.
    visible = [np.zeros(1), sharpness[np.isfinite(sharpness)]]
    if threshold is not None and np.isfinite(threshold).any():
        visible.append(np.min(threshold, keepdims=True))
    visible_range = _with_margin(np.concatenate(visible), 0.1)
    figure.update_yaxes(title="sharpness", range=visible_range, nticks=5, row=1)
    figure.update_yaxes(title="gradient", **_log_axis(stability.gradient_norm), row=2, col=1)
    figure.update_yaxes(title="angle, °", range=[0, 180], dtick=90, row=3, col=1)
    figure.update_xaxes(title="step", row=3, col=1)
    return layout.finish(figure, "Edge of stability", [], dark)


def profile(
    valley: Valley, critical: CriticalPoints | None = None, dark: bool = False
) -> go.Figure:
    """Draw the loss and the second coordinate of a valley's bottom over the first coordinate.

    Args:
        valley: the result of `valley`.
        critical: the result of `critical_points`. Its minima and saddles in the valley are marked,
            and its limits as w1 → 0 and w1 → ±∞ are drawn as horizontal lines.
        dark: whether the background is dark.

    Returns:
        The figure, with the loss above and the second coordinate below.

    Raises:
        TypeError: An argument has another type than described above.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> valley = jxs.topology.valley(jxs.squared_error, data, w1=(0.2, 3, 60))
        >>> [trace.name for trace in jxs.plot.profile(valley).data]
        ['lowest loss over w2', 'w2 of the lowest loss']
    """
    check_type("valley", valley, Valley)
    if critical is not None:
        check_type("critical", critical, CriticalPoints, "CriticalPoints")
    a, first, second = np.asarray(valley.a.values, float), valley.a.name, valley.b_name
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.62, 0.38])
    for row, values, name, color in (
        (1, valley.loss, f"lowest loss over {second}", colors.BLUE),
        (2, valley.b, f"{second} of the lowest loss", colors.GREEN),
    ):
        figure.add_scatter(
            x=a, y=values, name=name, line={"color": color, "width": 3}, row=row, col=1
        )
    if critical is not None:
        _add_limits(figure, critical, a, first)
        _add_critical_points(figure, critical, a)
    # Percentiles, because the second coordinate may go to infinity.
    visible_range = _with_margin(np.nanpercentile(valley.b, [4, 96]), 0.15)
    second_title = Axis(valley.b, second, valley.b_unit).title
    figure.update_yaxes(title=second_title, range=visible_range, row=2, col=1)
    figure.update_yaxes(title="loss", row=1, col=1)
    figure.update_xaxes(title=valley.a.title, row=2, col=1)
    return layout.finish(figure, "Bottom of the valley", [], dark, valley.loss_name)


def _add_limits(figure: go.Figure, critical: CriticalPoints, a: np.ndarray, name: str) -> None:
    """Draw the limits of the lowest loss as the first coordinate goes to 0 and to infinity."""
    for loss, limit, dash in (
        (critical.limits.get("w1_to_0"), f"{name} → 0", "dash"),
        (critical.limits.get("w1_to_infinity"), f"{name} → ±∞", "dot"),
    ):
        if loss is not None:
            figure.add_scatter(
                x=a[[0, -1]],
                y=[loss, loss],
                mode="lines",
                line={"color": colors.GRAY, "dash": dash},
                name=f"{loss:.6g} as {limit}",
                row=1,
                col=1,
            )


def _add_critical_points(figure: go.Figure, critical: CriticalPoints, a: np.ndarray) -> None:
    """Mark the critical points in the valley in both panels; those with b = 0 are not in it."""
    for kind, symbol, color in (
        ("minimum", "circle", colors.VERMILION),
        ("saddle", "x", colors.ORANGE),
    ):
        points = [
            point for point in critical.of_kind(kind) if a[0] <= point.a <= a[-1] and point.b != 0
        ]
        for row, values in ((1, [p.loss for p in points]), (2, [p.b for p in points])):
            if points:
                figure.add_scatter(
                    x=[point.a for point in points],
                    y=values,
                    mode="markers",
                    marker={"symbol": symbol, "color": color, "size": 12, "line": layout.OUTLINE},
                    name=f"{kind} of the surface",
                    legendgroup=kind,
                    showlegend=row == 1,
                    row=row,
                    col=1,
                )


def _with_margin(values: np.ndarray, fraction: float) -> list[float]:
    """Return the range of the values with a margin on both sides, a fraction of the range."""
    low, high = float(np.min(values)), float(np.max(values))
    margin = fraction * (high - low) or 1.0
    return [low - margin, high + margin]


def _log_axis(values: np.ndarray) -> dict[str, Any]:
    """Return properties of a log axis with at least two ticks and few enough for small figures."""
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 10.0)
    decades = np.log10(high / low)
    if decades >= 2:
        return {"type": "log", "exponentformat": "power", "dtick": int(np.ceil(decades / 6))}
    # Plotly's own ticks between two powers of ten omit the power.
    ticks = Scale(True, low, high, high).ticks()
    return {"type": "log", "tickvals": 10 ** ticks["tickvals"], "ticktext": ticks["ticktext"]}
