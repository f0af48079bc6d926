"""Figures of what descents do over time: how they spread, how far they step, how steep it is."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from jaxscape.critical.points import CriticalPoints
from jaxscape.curvature.sharpness import Stability
from jaxscape.plot.parts import layout
from jaxscape.plot.parts import paths as paths_
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Axis, Landscape
from jaxscape.results.trajectory import Descents, Trajectory
from jaxscape.topology.valleys import Valley

# Okabe and Ito's colors for the color-blind.
_MEDIAN, _BAND = "#d55e00", "rgba(0, 114, 178, {})"
_LINES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def fan(descents: Descents, dark: bool = False) -> go.Figure:
    """The losses of many descents by epoch: their median, and the middle 50 and 90 % of them.

    Args:
        descents: runs of one loss; those that diverged are left out, and counted in a note.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: anything else than `Descents`.
        ValueError: no run that has not diverged.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> runs = jxs.descend(jxs.squared_error, jxs.Weights(-1.0, 0.5), data, batch_size=20,
        ...                    key=jax.random.split(jax.random.key(1), 9),
        ...                    optimizer=optax.sgd(0.1), epochs=5)
        >>> [trace.name for trace in jxs.plot.fan(runs).data if trace.name]
        ['90 % of runs', '50 % of runs', 'median of 9 runs']
    """
    if not isinstance(descents, Descents):
        raise TypeError(f"descents: expected Descents, got {type(descents).__name__}")
    kept = np.asarray(descents.loss)[~descents.diverged]
    if not len(kept):
        raise ValueError(f"descents: expected a run that has not diverged, got {descents!r}")
    figure, epoch = go.Figure(), descents.epoch
    for share, opacity in ((90, 0.2), (50, 0.4)):
        low, high = np.percentile(kept, [50 - share / 2, 50 + share / 2], axis=0)
        figure.add_scatter(
            x=np.concatenate([epoch, epoch[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor=_BAND.format(opacity),
            line={"width": 0},
            mode="lines",
            name=f"{share} % of runs",
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=epoch,
        y=np.median(kept, axis=0),
        mode="lines+markers" if len(epoch) <= 100 else "lines",
        line={"color": _MEDIAN, "width": 3},
        name=f"median of {len(kept)} runs",
        hovertemplate="epoch %{x:.5~g}<br>loss %{y:.6~g}<extra></extra>",
    )
    lost = len(descents) - len(kept)
    notes = [f"{lost} of {len(descents)} runs diverged and are left out"] if lost else []
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="loss")
    return layout.finish(figure, "Loss of many descents", notes, dark)


def steps(*paths: Trajectory, landscape: Landscape | None = None, dark: bool = False) -> go.Figure:
    """How far every recorded step went, and the learning rate where it is known, on a log scale.

    Args:
        paths: what `descend` returned, best recorded at every step.
        landscape: a grid whose finest cell is drawn as a line: shorter steps cannot be seen on it.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: anything else than a `Trajectory`, of `Descents` one of the runs.
        ValueError: no path, or one without step sizes.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data, record="step",
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> len(jxs.plot.steps(path).data[0].y)
        20
    """
    for path in paths:
        if not isinstance(path, Trajectory):
            raise TypeError(f"paths: expected Trajectory objects, got {type(path).__name__}")
    if not paths or any(path.step_size is None for path in paths):
        raise ValueError("paths: expected at least one that descend returned, with step sizes")
    figure = go.Figure()
    names = paths_.unique_names(paths)
    # Learning rates last, on top of the steps, which go up and down a lot.
    for what, width, opacity, dash in (
        ("length of the step", 1.2, 0.75, "solid"),
        ("learning rate", 3.5, 1, "dash"),
    ):
        for k, (name, path) in enumerate(zip(names, paths, strict=True)):
            values = path.learning_rate if dash == "dash" else path.step_size
            if values is None:
                continue
            # The first point is the start, which no step led to; nor has a log scale a zero.
            values = np.where(np.asarray(values) > 0, values, np.nan)[1:]
            color = _LINES[k % len(_LINES)]
            figure.add_scatter(
                x=np.asarray(path.step)[1:],
                y=values,
                mode="lines",
                line={
                    "color": color if dash == "solid" else layout.mix_color(color, 255 * dark, 0.4),
                    "width": width,
                    "dash": dash,
                },
                opacity=opacity,
                name=f"{name}, {what}",
                hovertemplate=f"step %{{x}}<br>{what} %{{y:.4~g}}<extra>{name}</extra>",
            )
    if landscape is not None:
        axes = landscape.a, landscape.b
        cell = min(float(np.diff(np.asarray(axis.values)).min()) for axis in axes)
        figure.add_scatter(
            x=[0, max(int(path.step[-1]) for path in paths)],
            y=[cell, cell],
            mode="lines",
            line={"color": "white" if dark else "black", "width": 2, "dash": "dot"},
            name=f"a cell of the grid, {cell:.3g}",
            hoverinfo="name",
        )
    figure.update_xaxes(title="step")
    lengths = [np.asarray(trace.y, float) for trace in figure.data]
    figure.update_yaxes(title="length", **_log(np.concatenate(lengths)))
    return layout.finish(figure, "Step sizes", [], dark)


def stability(found: Stability, dark: bool = False) -> go.Figure:
    """Sharpness along a path beside 2 / learning rate, the gradient's norm, and the angle of steps.

    Args:
        found: what `edge_of_stability` returned.
        dark: light lines on a dark ground.

    Returns:
        The figure, three panels over the steps.

    Raises:
        TypeError: anything else than `Stability`.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> found = jxs.curvature.edge_of_stability(jxs.squared_error, path, data)
        >>> len(jxs.plot.stability(found).data)
        3
    """
    if not isinstance(found, Stability):
        raise TypeError(f"found: expected Stability, got {type(found).__name__}")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    panels = (
        (1, found.sharpness, "sharpness", _LINES[1], "solid"),
        (1, found.threshold, "2 / learning rate", _LINES[0], "dash"),
        (2, found.gradient_norm, "norm of the gradient", _LINES[2], "solid"),
        (3, found.angle, "angle of step to −gradient", _LINES[3], "solid"),
    )
    for row, values, name, color, dash in panels:
        if values is None:
            continue
        figure.add_scatter(
            x=found.step,
            y=np.where(np.isfinite(values), values, np.nan),
            mode="lines",
            line={"color": color, "width": 2.5, "dash": dash},
            name=name,
            # Its axis says as much.
            showlegend=row != 2,
            hovertemplate=f"step %{{x}}<br>{name} %{{y:.5~g}}<extra></extra>",
            row=row,
            col=1,
        )
    # As the learning rate falls to 0 the threshold rises without end.
    shown = [found.sharpness[np.isfinite(found.sharpness)]]
    if found.threshold is not None and np.isfinite(found.threshold).any():
        shown.append(np.min(found.threshold, keepdims=True))
    low, high = (float(f(np.append(np.concatenate(shown), 0))) for f in (np.min, np.max))
    margin = 0.1 * (high - low) or 1.0
    figure.update_yaxes(title="sharpness", range=[low - margin, high + margin], nticks=5, row=1)
    figure.update_yaxes(title="gradient", **_log(found.gradient_norm), row=2, col=1)
    figure.update_yaxes(title="angle, °", range=[0, 180], dtick=90, row=3, col=1)
    figure.update_xaxes(title="step", row=3, col=1)
    return layout.finish(figure, "Edge of stability", [], dark)


def _log(values: np.ndarray) -> dict:
    """A log axis with few enough ticks to be read on a small figure, and with two at least."""
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 10.0)
    decades = np.log10(high / low)
    if decades >= 2:
        return {"type": "log", "exponentformat": "power", "dtick": int(np.ceil(decades / 6))}
    # Plotly leaves out the power of ten of what lies between two.
    ticks = Scale(True, low, high, high).ticks()
    return {"type": "log", "tickvals": 10 ** ticks["tickvals"], "ticktext": ticks["ticktext"]}


def profile(
    valley: Valley, critical: CriticalPoints | None = None, dark: bool = False
) -> go.Figure:
    """The lowest loss over the second coordinate, along the first, and where it is lowest.

    Args:
        valley: what `valley` returned.
        critical: what `critical_points` returned: those on the bottom of the valley are marked, and
            the limits far away drawn as lines.
        dark: light lines on a dark ground.

    Returns:
        The figure, the loss above, the second coordinate below.

    Raises:
        TypeError: anything else.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> bottom = jxs.topology.valley(jxs.squared_error, data, w1=(0.2, 3, 60))
        >>> [trace.name for trace in jxs.plot.profile(bottom).data]
        ['lowest loss over w2', 'w2 of the lowest loss']
    """
    if not isinstance(valley, Valley):
        raise TypeError(f"valley: expected a Valley, got {type(valley).__name__}")
    if not isinstance(critical, CriticalPoints | None):
        raise TypeError(f"critical: expected CriticalPoints, got {type(critical).__name__}")
    a, (first, second) = np.asarray(valley.a.values, float), (valley.a.name, valley.b_name)
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.62, 0.38])
    for row, values, name, color in (
        (1, valley.loss, f"lowest loss over {second}", _LINES[1]),
        (2, valley.b, f"{second} of the lowest loss", _LINES[2]),
    ):
        figure.add_scatter(
            x=a, y=values, name=name, line={"color": color, "width": 3}, row=row, col=1
        )
    for key, where in (("w1_to_0", f"{first} → 0"), ("w1_to_infinity", f"{first} → ±∞")):
        if critical is not None and key in critical.limits:
            level = critical.limits[key]
            figure.add_scatter(
                x=a[[0, -1]],
                y=[level, level],
                mode="lines",
                line={"color": "#808080", "dash": "dash" if key == "w1_to_0" else "dot"},
                name=f"{level:.6g} as {where}",
                row=1,
                col=1,
            )
    for kind, symbol, color in (("minimum", "circle", _LINES[0]), ("saddle", "x", _LINES[4])):
        points = [
            point
            for point in (critical.of_kind(kind) if critical else ())
            if a[0] <= point.a <= a[-1] and point.b != 0
        ]
        for row, part in ((1, "loss"), (2, "b")):
            if points:
                figure.add_scatter(
                    x=[point.a for point in points],
                    y=[getattr(point, part) for point in points],
                    mode="markers",
                    marker={"symbol": symbol, "color": color, "size": 12, "line": layout.OUTLINE},
                    name=f"{kind} of the surface",
                    legendgroup=kind,
                    showlegend=row == 1,
                    row=row,
                    col=1,
                )
    # Where w2 flies off to infinity the rest would be flat.
    low, high = np.nanpercentile(valley.b, [4, 96])
    margin = 0.15 * (high - low) or 1.0
    beside = Axis(valley.b, second, valley.b_unit).title
    figure.update_yaxes(title=beside, range=[low - margin, high + margin], row=2, col=1)
    figure.update_yaxes(title="loss", row=1, col=1)
    figure.update_xaxes(title=valley.a.title, row=2, col=1)
    return layout.finish(figure, "Bottom of the valley", [], dark, valley.loss_name)
