"""Animate a training path together with the network's fit to its data."""

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from jaxscape.critical.points import CriticalPoints
from jaxscape.plot.animation import add_frames, add_notes, draw_complete_paths
from jaxscape.plot.parts import layout
from jaxscape.plot.parts.downsample import evenly_spaced
from jaxscape.results.landscape import Landscape
from jaxscape.topology.valleys import MinimaxPath, Valley
from jaxscape.training.predictions import Predictions

_MAX_SAMPLES = 1000
_SAMPLE_COLOR = "#8a8a8a"


def fit(
    landscape: Landscape,
    predictions: Predictions,
    kind: Literal["surface", "contour"] = "surface",
    *,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
    log: bool = False,
    clip: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Animate a path on a surface next to the network's predictions for its data.

    One slider moves both: each frame shows a point of the path and the predictions there, in the
    same color. At most 1,000 samples are drawn; a note counts them if there are more.

    Args:
        landscape: the loss on a grid.
        predictions: the result of `predictions`, which holds the path.
        kind: the figure on which the path is drawn.
        critical: the result of `critical_points`, drawn in every frame.
        valley: the result of `valley`, drawn in every frame.
        minimax_path: the result of `minimax_path`, drawn in every frame.
        log: whether heights and colors use a log scale, as in `surface`.
        clip: fraction of the cells that have distinct colors, as in `surface`.
        dark: whether the background is dark.

    Returns:
        The figure, with frames as in `animation`.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: `animation` would raise it for the same arguments.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> predictions = jxs.training.predictions(jxs.squared_error, path, data)
        >>> figure = jxs.plot.fit(surface, predictions)
        >>> [trace.name for trace in figure.data[-2:]], len(figure.frames)
        (['prediction', 'prediction'], 21)
    """
    if not isinstance(predictions, Predictions):
        raise TypeError(
            f"predictions: expected Predictions, got {type(predictions).__name__}; "
            "jxs.training.predictions(loss, path, data) computes them"
        )
    figure, [path], epochs = draw_complete_paths(
        landscape,
        (predictions.path,),
        kind,
        critical=critical,
        valley=valley,
        minimax_path=minimax_path,
        log=log,
        clip=clip,
        dark=dark,
    )
    _add_fit(figure, predictions, path.color)
    figure.update_layout(title_text="Loss surface and fit during training")
    points = np.searchsorted(predictions.path.epoch, epochs, side="right") - 1
    curve = [{"y": y.astype(np.float32)} for y in predictions.y[points]]
    last = len(figure.data) - 1
    return add_frames(figure, [path], epochs, {last - 1: curve, last: curve})


def _add_fit(figure: go.Figure, predictions: Predictions, color: str) -> None:
    """Draw the samples and the last predictions in a new panel on the right of the figure.

    The last two traces are the predictions: a black line under one of the given color.
    """
    is_surface = figure.data[0].type == "surface"
    if is_surface:
        figure.update_layout(scene_domain_x=[0, 0.5])
        layout.move_camera_back(figure, 1.25)
        text = {"title_font_size": 14, "tickfont_size": 11}
        # The color bar shows the same values as the height axis.
        height: dict[str, Any] = {"title_text": "", "nticks": 4}
        figure.update_scenes(xaxis=text, yaxis=text, zaxis=text | height)
    else:
        figure.update_xaxes(domain=[0, 0.43])
    # The subtitle of the figure names the loss.
    bar_x = 0.51 if is_surface else 0.44
    figure.data[0].colorbar.update(x=bar_x, thickness=14, title_text="")
    data = predictions.data
    x, y = (np.asarray(part, float).reshape(-1) for part in (data.x, data.y))
    shown = evenly_spaced(len(x), _MAX_SAMPLES)
    axes = {"xaxis": "x2", "yaxis": "y2"}
    figure.add_scatter(
        x=x[shown],
        y=y[shown],
        mode="markers",
        marker={"color": _SAMPLE_COLOR, "size": 5, "opacity": 0.8},
        name="data",
        hovertemplate="x %{x:.5~g}<br>y %{y:.5~g}<extra>data</extra>",
        **axes,
    )
    for line_color, width in (("black", 5.5), (color, 3.5)):
        figure.add_scatter(
            x=predictions.x,
            y=predictions.y[-1],
            mode="lines",
            line={"color": line_color, "width": width},
            name="prediction",
            showlegend=line_color == color,
            hovertemplate="x %{x:.5~g}<br>prediction %{y:.5~g}<extra></extra>",
            **axes,
        )
    low, high = _vertical_range(y[shown], predictions.y)
    figure.update_layout(
        # Space for tick labels as wide as −4e-4: a picture is taken before plotly reserves it.
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
            "range": [low, high],
        },
    )
    if len(shown) < len(x):
        add_notes(figure, [f"{len(shown)} of {len(x)} samples are drawn"])


def _vertical_range(targets: np.ndarray, predictions: np.ndarray) -> tuple[float, float]:
    """Return a range with all targets, and predictions up to the targets' range away from them."""
    low, high = float(targets.min()), float(targets.max())
    span = (high - low) or 1.0
    finite = predictions[np.isfinite(predictions)]
    if finite.size:
        low = max(low - span, min(low, float(finite.min())))
        high = min(high + span, max(high, float(finite.max())))
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
