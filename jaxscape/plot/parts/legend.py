"""The legend below a figure: its height, and shorter entries if it is too high."""

import html
import math

import plotly.graph_objects as go

FONT_SIZE = 13
"""The font size of the entries, in pixels."""
_LETTER_WIDTH = 0.47
"""The average width of a letter, relative to the font size."""
_MAX_ROWS = 8
_MAX_HEIGHT = 90
"""The height of four rows, in pixels; the entries of a higher legend are shortened."""
_MAX_LETTERS = 20
"""The number of letters of a shortened name."""
LOWEST_CELL = "lowest cell"
"""The beginning of the lowest cell's entry."""
_WITHOUT_ENTRY = ("surface", "heatmap")


def drop_path_ends(figure: go.Figure) -> None:
    """Remove the coordinates of the ends from the entries of paths; hover texts show them."""
    for trace in figure.data:
        head, *more = (trace.name or "").split("<br>")
        group = trace.legendgroup
        if group and (head.startswith(f"{group}: ") or head == _abbreviate(group)):
            trace.name = "<br>".join([group, *more])


def shorten(figure: go.Figure) -> None:
    """Shorten the entries of a legend of more than four rows, if that makes it lower.

    The ends of paths are dropped first, then the loss of the lowest cell, then the middle of
    names. Hover texts show all of these.
    """
    names, before = [trace.name for trace in figure.data], estimate_height(figure)
    for shorten_step in (drop_path_ends, _drop_lowest_loss, _abbreviate_names):
        if estimate_height(figure) > _MAX_HEIGHT:
            shorten_step(figure)
    if estimate_height(figure) == before:
        for trace, name in zip(figure.data, names, strict=True):
            trace.name = name


def _drop_lowest_loss(figure: go.Figure) -> None:
    for trace in figure.data:
        if (trace.name or "").startswith(f"{LOWEST_CELL}: "):
            trace.name = LOWEST_CELL


def _abbreviate_names(figure: go.Figure) -> None:
    for trace in figure.data:
        head, *more = (trace.name or "").split("<br>")
        if head and head == trace.legendgroup and trace.hovertemplate:
            trace.name = "<br>".join([_abbreviate(head), *more])


def _abbreviate(name: str) -> str:
    """Return the beginning and the end of a long name, in which names usually differ."""
    # Count letters as a browser shows them: names are escaped.
    plain = html.unescape(name)
    if len(plain) <= _MAX_LETTERS:
        return name
    half = _MAX_LETTERS // 2
    return html.escape(f"{plain[: half - 1].rstrip()}…{plain[-half:].lstrip()}", False)


def estimate_height(figure: go.Figure) -> int:
    """Return the legend's height in pixels for a figure 600 pixels wide.

    In wider figures, more entries fit into a row.
    """
    kinds = {trace.type for trace in figure.data}
    # The width of the plot, without axis titles and color bar.
    width = 590 if kinds & {"surface", "scatter3d"} else 510
    width -= 85 if kinds & {"surface", "heatmap"} else 0
    widths, entries = [], []
    for trace in figure.data:
        if not trace.name or trace.showlegend is False or trace.type in _WITHOUT_ENTRY:
            continue
        entries.append(trace.name.split("<br>"))
        widths.append(52 + _LETTER_WIDTH * FONT_SIZE * max(map(len, entries[-1])))
    # Entries share one row if all fit; otherwise each column is as wide as the widest entry.
    columns = len(entries) if sum(widths) <= width else int(width / max(widths))
    step = max(1, columns)
    rows = sum(max(map(len, entries[k : k + step])) for k in range(0, len(entries), step))
    return (10 + math.ceil(1.4 * FONT_SIZE) * min(rows, _MAX_ROWS)) if rows else 0
