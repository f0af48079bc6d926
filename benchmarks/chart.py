"""Charts of the timings that the benchmarks write.

python -m benchmarks.chart docs/benchmarks/grid.json docs/images/grid_speed.png
"""

import argparse
import json
import re
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

# Colors that color-blind people can distinguish (Okabe and Ito), each with its own symbol.
_STYLES = {
    "jaxscape exact": ("#0072B2", "circle", "solid"),
    "jaxscape dense": ("#009E73", "square", "solid"),
    "a user's loss": ("#56B4E9", "triangle-up", "solid"),
    "numba loop": ("#D55E00", "diamond", "dash"),
    "numba parabola": ("#E69F00", "x", "dash"),
    "PyTorch compiled": ("#CC79A7", "cross", "dot"),
    "PyTorch vmap": ("#999999", "star", "dot"),
    "PyTorch, the article's loop": ("#882255", "hexagram", "dot"),
    "NumPy loop": ("#332288", "triangle-down", "dot"),
    "JAX, a jitted call a cell": ("#117733", "bowtie", "dot"),
    "NumPy, a row at once": ("#000000", "pentagon", "dot"),
}
_FLOOR = "floor of this machine"
_POINTS = 3000


def speed(figures: dict[str, Any], error: str = "squared") -> go.Figure:
    """Draw the throughput of each contender by grid size.

    Args:
        figures: the timings that `benchmarks.grid` wrote.
        error: `"squared"` or `"absolute"`.
    """
    figure = go.Figure()
    sizes = _add_lines(figure, figures, error)
    figure.update_xaxes(type="log", title="cells per side", tickvals=sizes)
    rates = np.log10(np.concatenate([trace.y for trace in figure.data]))
    # Extend the axis to whole powers of ten, so that it has at least two ticks.
    whole = [np.floor(rates.min()), np.ceil(rates.max())]
    figure.update_yaxes(type="log", dtick=1, exponentformat="power", range=whole)
    figure.update_yaxes(title="cell·points per second")
    machine = figures["machine"]
    return figure.update_layout(
        template="plotly_white",
        title={
            "text": f"Mean {error} error, {_POINTS:,} points",
            "subtitle": {
                "text": f"{machine['processor']}, {machine['cores']} cores, jax {machine['jax']}, "
                f"{machine['date']}; medians<br>dotted without markers: the limit of this machine"
            },
            "x": 0.02,
        },
        font_size=14,
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom"},
        margin={"t": 116, "r": 10},
        showlegend=True,
    )


def bars(figures: dict[str, Any], case: str) -> go.Figure:
    """Draw the time of each contender in one case as bars, the fastest on top.

    Args:
        figures: the timings that a benchmark wrote.
        case: the name of the case.

    Returns:
        The figure. Bars of jaxscape have their own color; bars of extrapolated times are hatched.
    """
    timings = sorted(figures["cases"][case].items(), key=lambda item: -item[1]["median"])
    names, times = zip(*timings, strict=True)
    ours = [name.startswith("jaxscape") for name in names]
    figure = go.Figure(
        go.Bar(
            y=names,
            x=[timing["median"] for timing in times],
            orientation="h",
            text=[_duration(timing["median"]) for timing in times],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": ["#0072B2" if own else "#999999" for own in ours],
                "pattern": {"shape": ["/" if t["part"] < t["whole"] else "" for t in times]},
            },
            customdata=[(t["fastest"], t["slowest"], t["repeats"]) for t in times],
            hovertemplate="%{y}: %{x:.3~s}s<br>%{customdata[0]:.3~s}s to %{customdata[1]:.3~s}s "
            "in %{customdata[2]} runs<extra></extra>",
        )
    )
    machine = figures["machine"]
    extrapolated = any(timing["part"] < timing["whole"] for timing in times)
    # The title fits the width of a phone.
    title = textwrap.wrap(case, 42)
    figure.update_xaxes(title="seconds, median")
    least, most = (end(timing["median"] for timing in times) for end in (min, max))
    if most < 20 * least:
        figure.update_xaxes(range=[0, 1.3 * most])
    else:
        low, high = np.log10([least, most])
        ends = [low - 0.5, high + 0.3 * (high - low) + 0.5]
        figure.update_xaxes(type="log", dtick=1, exponentformat="power", range=ends)
    figure.update_yaxes(ticksuffix=" ", automargin=True)
    return figure.update_layout(
        template="plotly_white",
        title={
            "text": "<br>".join(title),
            "subtitle": {
                "text": f"{machine['processor']}, {machine['cores']} cores, Python "
                f"{machine['python']}, jax {machine['jax']}, {machine['date']}"
                + ("<br>hatched: extrapolated from a part of the work" if extrapolated else "")
            },
            "font_size": 17,
            "x": 0.02,
        },
        height=176 + 22 * len(title) + 36 * len(times),
        margin={"t": 106 + 22 * len(title), "b": 50, "l": 10, "r": 10},
        font_size=14,
    )


def _duration(seconds: float) -> str:
    """Format seconds with three digits, in milliseconds or seconds."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"


def _add_lines(figure: go.Figure, figures: dict[str, Any], error: str) -> list[int]:
    """Draw one polyline per contender and return the grid sizes."""
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for case, methods in figures["cases"].items():
        found = re.fullmatch(rf"mean {error} error, (\d+) × \1 cells, {_POINTS:,} points", case)
        if not found:
            continue
        n = int(found[1])
        for method, timing in methods.items():
            lines[method].append((n, n * n * _POINTS / timing["median"]))
            if timing["floor"] and method.startswith("jaxscape"):
                lines[f"{_FLOOR}, {method}"].append((n, n * n * _POINTS / timing["floor"]))
    for method, places in lines.items():
        name = method.removeprefix(f"{_FLOOR}, ")
        color, symbol, dash = _STYLES.get(name, ("#666666", "circle", "dot"))
        is_floor = method != name
        sizes, rates = zip(*sorted(places), strict=True)
        figure.add_scatter(
            x=sizes,
            y=rates,
            name=method,
            legendgroup=method,
            showlegend=not is_floor,
            mode="lines" if is_floor else "lines+markers",
            line={"color": color, "dash": "dot" if is_floor else dash, "width": 2},
            marker={"symbol": symbol, "size": 10},
        )
    return sorted({n for places in lines.values() for n, _ in places})


def main() -> None:
    """Write the chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=__doc__)
    parser.add_argument("figures", type=Path, help="the JSON file of benchmarks.grid")
    parser.add_argument("output", type=Path, help=".png, .svg, .pdf or .html")
    arguments = parser.parse_args()
    figure = speed(json.loads(arguments.figures.read_text(encoding="utf-8")))
    if arguments.output.suffix == ".html":
        figure.write_html(arguments.output, include_plotlyjs="cdn")
    else:
        figure.write_image(arguments.output, width=1200, height=700)


if __name__ == "__main__":
    main()
