"""The fit to the data at a point of a path, drawn to the right of the surface."""

import numpy as np
import plotly.graph_objects as go

from jaxscape import layout
from jaxscape.fits import Predictions

_MOST_SAMPLES = 1000
_DATA = "#8a8a8a"


def add(figure: go.Figure, found: Predictions, colour: str) -> list[str]:
    """Make room on the right of a surface or a contour, and draw data and the last curve there.

    The curve is the last trace, in the path's colour.

    Returns:
        What to note.
    """
    turns = figure.data[0].type == "surface"
    if turns:
        figure.update_layout(scene_domain_x=[0, 0.5])
        layout.step_back(figure, 1.25)
        words = {"title_font_size": 14, "tickfont_size": 11}
        # What the heights are is said by the bar of colours, which are the same.
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
    for part, width in (("black", 5.5), (colour, 3.5)):
        figure.add_scatter(
            x=found.x,
            y=last,
            mode="lines",
            line={"color": part, "width": width},
            name="the network's curve",
            showlegend=part == colour,
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
