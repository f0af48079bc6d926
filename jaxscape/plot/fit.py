"""The fit to the data at a point of a path, drawn to the right of the surface."""

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from jaxscape.plot.animation import add_frames, moments, note, still
from jaxscape.plot.parts import layout
from jaxscape.results.landscape import Landscape
from jaxscape.training.predictions import Predictions


def fit(
    landscape: Landscape,
    found: Predictions,
    kind: Literal["surface", "contour"] = "surface",
    **drawn: Any,
) -> go.Figure:
    """The path over the surface, and beside it the network's fit to its data at each point.

    One slider moves both, so that each point is seen with its curve; both have one color. Of more
    than 1,000 samples, 1,000 are drawn, and the figure says so.

    Args:
        landscape: the surface.
        found: what `predictions` returned.
        kind: what the path goes over, as `surface` or `contour` draws it.
        **drawn: `critical`, `valley`, `minimax_path` and `dark`, as these take them.

    Returns:
        The figure, animated as `animation` does it.

    Raises:
        TypeError: anything else than `Predictions`.
        ValueError: what `animation` refuses.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> found = jxs.training.predictions(jxs.squared_error, path, data)
        >>> figure = jxs.plot.fit(surface, found)
        >>> [trace.name for trace in figure.data[-2:]], len(figure.frames)
        (["the network's curve", "the network's curve"], 21)
    """
    if not isinstance(found, Predictions):
        raise TypeError(
            f"found: expected Predictions, got {type(found).__name__}; "
            "jxs.training.predictions(loss, path, data) computes them"
        )
    figure, lines, shorter = still(landscape, (found.path,), kind, drawn)
    note(figure, add_fit(figure, found, lines[0].color))
    figure.update_layout(title_text="Loss surface, and the fit at each point of the descent")
    epochs = moments(shorter)
    curves = found.y[np.searchsorted(found.path.epoch, epochs, side="right") - 1]
    curve = [{"y": y.astype(np.float32)} for y in curves]
    last = len(figure.data) - 1
    return add_frames(figure, lines, epochs, {last - 1: curve, last: curve})


_MOST_SAMPLES = 1000
_DATA = "#8a8a8a"


def add_fit(figure: go.Figure, found: Predictions, color: str) -> list[str]:
    """Make room on the right of a surface or a contour, and draw data and the last curve there.

    The curve is the last trace, in the path's color.

    Returns:
        What to note.
    """
    turns = figure.data[0].type == "surface"
    if turns:
        figure.update_layout(scene_domain_x=[0, 0.5])
        layout.move_camera_back(figure, 1.25)
        words = {"title_font_size": 14, "tickfont_size": 11}
        # What the heights are is said by the bar of colors, which are the same.
        few = {"title_text": "", "nticks": 4}
        figure.update_scenes(xaxis=words, yaxis=words, zaxis=words | few)
    else:
        figure.update_xaxes(domain=[0, 0.43])
    # Without its title, which is below the figure's.
    figure.data[0].colorbar.update(x=0.51 if turns else 0.44, thickness=14, title_text="")
    x, y = (np.asarray(part, float).reshape(-1) for part in (found.data.x, found.data.y))
    count = len(x)
    shown = np.linspace(0, count - 1, min(count, _MOST_SAMPLES)).round().astype(int)
    axes = {"xaxis": "x2", "yaxis": "y2"}
    figure.add_scatter(
        x=x[shown],
        y=y[shown],
        mode="markers",
        marker={"color": _DATA, "size": 5, "opacity": 0.8},
        name="data",
        hovertemplate="x %{x:.5~g}<br>y %{y:.5~g}<extra>data</extra>",
        **axes,
    )
    last = found.y[-1]
    for part, width in (("black", 5.5), (color, 3.5)):
        figure.add_scatter(
            x=found.x,
            y=last,
            mode="lines",
            line={"color": part, "width": width},
            name="the network's curve",
            showlegend=part == color,
            hovertemplate="x %{x:.5~g}<br>prediction %{y:.5~g}<extra></extra>",
            **axes,
        )
    # All curves are seen, but those that fly off would flatten the data.
    low, high = float(y[shown].min()), float(y[shown].max())
    span = (high - low) or 1.0
    curves = found.y[np.isfinite(found.y)]
    if curves.size:
        low = max(low - span, min(low, float(curves.min())))
        high = min(high + span, max(high, float(curves.max())))
    margin = 0.05 * (high - low) or 1.0
    figure.update_layout(
        # For labels as wide as −4e-4: a picture is drawn before plotly has made room for them.
        margin_r=84,
        xaxis2={
            "domain": [0.62, 1],
            "anchor": "y2",
            "title": {"text": "x"},
            "exponentformat": "e",
        },
        yaxis2={
            "anchor": "x2",
            "side": "right",
            "title": {"text": "y"},
            "exponentformat": "e",
            "range": [low - margin, high + margin],
        },
    )
    return [] if len(shown) == count else [f"{len(shown)} of {count} samples are drawn"]
