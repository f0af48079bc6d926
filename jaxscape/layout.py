"""What figures have in common: colours, hover texts, titles and legends."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from jaxscape import view
from jaxscape.results import Landscape
from jaxscape.trajectory import Descents

# Viridis rises evenly in lightness, also to the colour-blind, and leaves the reds to the paths.
COLOURS = "Viridis"
_MOST_THIN_LINES = 400
OUTLINE = {"color": "black", "width": 1}

HTML_CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
"""For plotly's `write_html(config=...)`: no button that uploads the figure."""


def mixed(colour: str, other: int, share: float) -> str:
    """A colour with so much of black (0) or white (255)."""
    parts = ((1 - share) * part + share * other for part in hex_to_rgb(colour))
    return "rgb({:.0f}, {:.0f}, {:.0f})".format(*parts)


def check_finite(landscape: Landscape) -> None:
    """Refuse a landscape of which nothing can be drawn."""
    if not isinstance(landscape, Landscape):
        raise TypeError(f"landscape: expected a Landscape, got {type(landscape).__name__}")
    if landscape.lowest is None:
        n1, n2 = landscape.shape
        raise ValueError(
            f"landscape: expected at least one finite loss to draw, got none in {n1} × {n2} cells"
        )


def marker_size(line: view.Line) -> float:
    """Small where points are too many to be told apart."""
    return 3.2 if len(line.points) <= 100 else 2


def end_marker(line: view.Line, symbol: str, size: float) -> dict[str, Any]:
    """How the start or the end of a path is marked."""
    colour = "white" if symbol == "circle" else line.colour
    return {"symbol": symbol, "size": size, "color": colour, "line": OUTLINE | {"width": 2}}


def add_paths(figure: go.Figure, landscape: Landscape, lines: list[view.Line]) -> None:
    """Draw paths on a figure seen from above."""
    for line in lines:
        x, y, _ = line.way.T
        size = marker_size(line)
        for colour, width in (("black", 1.6 * size), (line.colour, 0.8 * size)):
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                # What is seen under it is not the surface that it went over.
                line={"color": colour, "width": width, "dash": "dot" if len(line.below) else None},
                legendgroup=line.name,
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=line.points[:, 0],
            y=line.points[:, 1],
            mode="markers",
            marker={"color": line.colour, "size": 2 * size, "line": OUTLINE},
            legendgroup=line.name,
            name=line.label,
            customdata=line.points[:, 2:],
            hovertemplate=path_hover(landscape, line),
        )
        for (x, y, _), symbol, label in line.ends:
            figure.add_scatter(
                x=[x],
                y=[y],
                mode="markers",
                marker=end_marker(line, symbol, 13),
                legendgroup=line.name,
                showlegend=False,
                cliponaxis=False,
                name=label,
                hoverinfo="name",
            )


def add_ensemble(
    figure: go.Figure, landscape: Landscape, descents: Descents, line: view.Line
) -> list[str]:
    """Draw many descents as thin lines of the colour of their median's; what to note of them."""
    count = len(descents)
    shown = np.linspace(0, count - 1, min(count, _MOST_THIN_LINES)).round().astype(int)
    # All in one trace, a gap after each; what is not finite is a gap, too.
    x, y = (
        np.pad(descents.coordinate(axis.name)[shown], ((0, 0), (0, 1)), constant_values=np.nan)
        for axis in (landscape.a, landscape.b)
    )
    finite = np.isfinite(x) & np.isfinite(y)
    figure.add_scatter(
        x=np.where(finite, x, np.nan).ravel(),
        y=np.where(finite, y, np.nan).ravel(),
        mode="lines",
        line={"color": line.colour, "width": 1},
        opacity=0.45,
        legendgroup=line.name,
        hoverinfo="skip",
        showlegend=False,
    )
    notes = [] if len(shown) == count else [f"{len(shown)} of {count} descents as thin lines"]
    lost = int(descents.diverged.sum())
    return [*notes, f"{lost} of {count} descents diverged"] if lost else notes


def name_axes(figure: go.Figure, landscape: Landscape) -> None:
    """Name the axes of a figure seen from above, and end them where the grid ends."""
    for update, axis in (
        (figure.update_xaxes, landscape.a),
        (figure.update_yaxes, landscape.b),
    ):
        ends = [float(axis.values[0]), float(axis.values[-1])]
        update(title=axis.title, title_font_size=15 if axis.unit else 18, range=ends)


def hover(landscape: Landscape, loss: str, name: str) -> str:
    """The hover text of a point of a landscape."""
    a, b = landscape.a.name, landscape.b.name
    return f"{a} %{{x:.5~g}}<br>{b} %{{y:.5~g}}<br>loss {loss}<extra>{name}</extra>"


def cell_hover(landscape: Landscape) -> str:
    """The hover text of a cell: what is drawn is its loss."""
    return hover(landscape, "%{z:.6~g}", landscape.loss_name)


def path_hover(landscape: Landscape, line: view.Line) -> str:
    """The recorded loss (the drawn height is lifted), the epoch and how far off the plane."""
    text = "%{customdata[0]:.6~g}<br>epoch %{customdata[1]:.5~g}"
    if line.points.shape[1] > 4:
        text += "<br>off the plane by %{customdata[2]:.4~g}"
    return hover(landscape, text, line.name)


def colour_bar(landscape: Landscape) -> dict[str, Any]:
    """The bar beside a landscape."""
    return {"title": {"text": landscape.loss_name, "side": "right"}, "thickness": 18, "len": 0.75}


def finish(figure: go.Figure, landscape: Landscape, notes: list[str], dark: bool) -> go.Figure:
    """Title, notes, legend and margins."""
    (n1, n2), holes = landscape.shape, int(landscape.nonfinite.sum())
    if holes:
        notes = [*notes, f"{holes} of {n1 * n2} cells are not finite"]
    subtitle = "<br>".join([f"{landscape.loss_name}, {n1} × {n2}", *notes])
    entries = sum(bool(trace.name) and trace.showlegend is not False for trace in figure.data)
    turns = figure.data[0].type == "surface"
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        title={"text": "Loss surface", "subtitle": {"text": subtitle}, "x": 0.02, "y": 0.97},
        legend={
            "x": 0.02,
            "y": 0.01,
            "yref": "container",
            "yanchor": "bottom",
            "itemsizing": "constant",
            "tracegroupgap": 0,
        },
        margin={
            "l": 0 if turns else 60,
            "r": 10,
            "t": 92 + 18 * len(notes),
            "b": (10 if turns else 75) + 22 * min(entries, 8),
        },
        font_size=15,
        meta={"notes": notes},
    )
    return figure
