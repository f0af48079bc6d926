"""The legend below a figure: how high it is, and what of it is left out where it is too high."""

import html
import math

import plotly.graph_objects as go

FONT_SIZE = 13
_LETTER = 0.47
"""How wide one is, in parts of that size."""
_MOST_ROWS = 8
_HIGHEST = 90
"""In pixels: four rows. A longer one says less."""
_MOST_LETTERS = 20
"""Of a path's name, then."""
LOWEST_CELL = "lowest cell"
_WITHOUT_ENTRY = ("surface", "heatmap")


def drop_path_ends(figure: go.Figure) -> None:
    """Name paths in the legend without their ends, which the hover of these tells."""
    for trace in figure.data:
        head, *more = (trace.name or "").split("<br>")
        group = trace.legendgroup
        if group and (head.startswith(f"{group}: ") or head == _cut(group)):
            trace.name = "<br>".join([group, *more])


def shorten(figure: go.Figure) -> None:
    """Say less in a legend of more than four rows, if that makes it shorter, and hover tells it.

    First where paths end is left out, then how low the lowest cell is, then the middle of names.
    """
    whole, before = [trace.name for trace in figure.data], estimate_height(figure)
    for step in (drop_path_ends, _shorten_lowest, _cut_names):
        if estimate_height(figure) > _HIGHEST:
            step(figure)
    if estimate_height(figure) == before:
        for trace, name in zip(figure.data, whole, strict=True):
            trace.name = name


def _shorten_lowest(figure: go.Figure) -> None:
    for trace in figure.data:
        if (trace.name or "").startswith(f"{LOWEST_CELL}: "):
            trace.name = LOWEST_CELL


def _cut_names(figure: go.Figure) -> None:
    for trace in figure.data:
        head, *more = (trace.name or "").split("<br>")
        if head and head == trace.legendgroup and trace.hovertemplate:
            trace.name = "<br>".join([_cut(head), *more])


def _cut(name: str) -> str:
    """A name that a narrow legend has room for: how it begins and ends, by which names differ."""
    # A tag is written in it as a browser shows it.
    plain = html.unescape(name)
    if len(plain) <= _MOST_LETTERS:
        return name
    half = _MOST_LETTERS // 2
    return html.escape(f"{plain[: half - 1].rstrip()}…{plain[-half:].lstrip()}", False)


def estimate_height(figure: go.Figure) -> int:
    """In pixels, of a figure 600 wide, where fewer entries stand side by side than on others."""
    kinds = {trace.type for trace in figure.data}
    # That of the panels: beside them are the names of axes, and a bar of colors.
    room = 590 if kinds & {"surface", "scatter3d"} else 510
    room -= 85 if kinds & {"surface", "heatmap"} else 0
    widths, lines = [], []
    for trace in figure.data:
        if not trace.name or trace.showlegend is False or trace.type in _WITHOUT_ENTRY:
            continue
        lines.append(trace.name.split("<br>"))
        widths.append(52 + _LETTER * FONT_SIZE * max(map(len, lines[-1])))
    # Side by side if all fit, or else in columns as wide as the widest.
    columns = len(lines) if sum(widths) <= room else int(room / max(widths))
    step = max(1, columns)
    rows = sum(max(map(len, lines[k : k + step])) for k in range(0, len(lines), step))
    return (10 + math.ceil(1.4 * FONT_SIZE) * min(rows, _MOST_ROWS)) if rows else 0
