"""What is known of a surface drawn on it: critical points, valleys and passes, and named places."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape.critical.points import CriticalPoints, format_number
from jaxscape.plot.parts import layout, paths, scene
from jaxscape.plot.parts.scale import Scale
from jaxscape.results.landscape import Landscape
from jaxscape.topology.valleys import MinimaxPath, Valley

# Colors after Okabe and Ito's for the color-blind, none a path's, and shapes that are none of the
# marks of paths: circles and diamonds.
_KINDS = {
    "minimum": ("square", "#0072b2"),
    "saddle": ("x", "#f0e442"),
    "maximum": ("square", "#000000"),
    "degenerate": ("cross", "#cc79a7"),
}
_VALLEY, _BARRIER = "#56b4e9", "#009e73"
_COARSE = 15
"""Values along an axis: what a valley's bottom has between fewer, cells do not tell."""
# Of plotly's symbols in space, crosses come out as boxes or hairs.
_IN_SPACE = {"x": "diamond", "cross": "square"}


def add(
    figure: go.Figure,
    landscape: Landscape,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
    scale: Scale | None = None,
) -> list[str]:
    """Draw what is given, a hair above a surface or, without a scale, on a figure seen from above.

    Returns:
        What to note.

    Raises:
        TypeError: anything else than what `critical_points`, `valley` and `minimax_path` return.
        ValueError: coordinates of other names than the landscape's.
    """
    for name, given, kind in (
        ("critical", critical, CriticalPoints),
        ("valley", valley, Valley),
        ("minimax_path", minimax_path, MinimaxPath),
    ):
        if given is not None and not isinstance(given, kind):
            raise TypeError(f"{name}: expected {kind.__name__}, got {type(given).__name__}")
    names = (landscape.a.name, landscape.b.name)
    for name, theirs in (
        ("critical", critical and critical.names),
        ("valley", valley and (valley.a.name, valley.b_name)),
    ):
        if theirs and theirs != names:
            raise ValueError(f"{name}: expected coordinates {names}, got {theirs}")
    notes, found = [], {}
    if valley is not None:
        bottom = _bottom(valley)
        if min(landscape.shape) >= _COARSE:
            found["the valley"] = bottom
        way = _within(landscape, bottom)
        _line(figure, way, scale, _VALLEY, "dash", "bottom of the valley")
    if minimax_path is not None:
        way = found["the pass"] = _cells(minimax_path)
        name = f"pass, {format_number(minimax_path.height, 4)} high"
        _line(figure, way, scale, _BARRIER, "solid", name)
    if critical is not None:
        found["critical points"] = _found(critical)
        notes += _points(figure, landscape, critical, scale)
    # None of them knows of which loss, data or plane it is.
    apart = [
        paths.mismatch_note(landscape, way[:, :2], way[:, 2], name) for name, way in found.items()
    ]
    return [*notes, *filter(None, apart), *_places(figure, landscape, scale)]


def polylines(
    landscape: Landscape,
    critical: CriticalPoints | None = None,
    valley: Valley | None = None,
    minimax_path: MinimaxPath | None = None,
) -> list[np.ndarray]:
    """What is to be seen of these, each (K, 3), for the choice of a camera."""
    found = []
    if valley is not None:
        found.append(_within(landscape, _bottom(valley)))
    if minimax_path is not None:
        found.append(_cells(minimax_path))
    if critical is not None:
        places = _found(critical)
        (left, right), (bottom, top) = _box(landscape)
        a, b, _ = places.T
        found.append(places[(a >= left) & (a <= right) & (b >= bottom) & (b <= top)])
    return [*found, paths.marks_on_grid(landscape)[1]]


def _found(critical: CriticalPoints) -> np.ndarray:
    return np.array([(p.a, p.b, p.loss) for p in critical.points]).reshape(-1, 3)


def _cells(minimax_path: MinimaxPath) -> np.ndarray:
    return np.array([cell[2:] for cell in minimax_path.path])


def _bottom(valley: Valley) -> np.ndarray:
    """(n, 3) the bottom of a valley, NaN where it flies off to infinity and comes back."""
    way = np.stack([np.asarray(valley.a.values, float), valley.b, valley.loss], axis=1)
    jumps = np.flatnonzero(np.diff(np.sign(valley.b)) * np.sign(valley.b[1:]) == 2) + 1
    steep = abs(valley.b[jumps] - valley.b[jumps - 1]) > np.nanmedian(abs(valley.b))
    return np.insert(way, jumps[steep], np.nan, axis=0)


def _within(landscape: Landscape, way: np.ndarray) -> np.ndarray:
    """A line cut at the grid's edge, NaN between its pieces."""
    pieces, gaps = [], np.flatnonzero(~np.isfinite(way).all(axis=1))
    for piece in np.split(way, gaps):
        piece = piece[np.isfinite(piece).all(axis=1)]
        if len(piece) > 1 and len(inside := paths.clip_polyline(piece, _box(landscape))):
            pieces += [inside, np.full((1, 3), np.nan)]
    return np.concatenate(pieces[:-1]) if pieces else np.zeros((0, 3))


def _line(
    figure: go.Figure,
    way: np.ndarray,
    scale: Scale | None,
    color: str,
    dash: str,
    name: str,
) -> None:
    """A line with a black one under it."""
    if not len(way):
        return
    for part, width, line in (("black", 5, "solid"), (color, 2.5, dash)):
        style: dict[str, Any] = {
            "name": name,
            "legendgroup": name,
            "showlegend": part == color,
        }
        if scale is None:
            line_style = {"color": part, "width": width, "dash": line}
            x, y, _ = way.T
            figure.add_scatter(x=x, y=y, mode="lines", line=line_style, hoverinfo="skip", **style)
        else:
            lifted = scale.lift(way, 1 if part == "black" else 1.6)
            # Dashes drown in the black below.
            scene.add_polyline(figure, lifted, part, 1.6 * width, **style)


def _points(
    figure: go.Figure, landscape: Landscape, critical: CriticalPoints, scale: Scale | None
) -> list[str]:
    (left, right), (bottom, top) = _box(landscape)
    slack = 1e-6
    inside = [
        point
        for point in critical.points
        if left - slack * (right - left) <= point.a <= right + slack * (right - left)
        and bottom - slack * (top - bottom) <= point.b <= top + slack * (top - bottom)
    ]
    for kind, (symbol, color) in _KINDS.items():
        of_kind = [point for point in inside if point.kind == kind]
        if not of_kind:
            continue
        losses = [point.loss for point in of_kind]
        dark = color == "#000000"
        # In the legend there is little room; the hover has all digits.
        span, highest = format_number(min(losses), 4), format_number(max(losses), 4)
        if highest != span:
            span += f" to {highest}"
        plural = {"minimum": "minima", "maximum": "maxima", "degenerate": "degenerate points"}
        word = kind if len(of_kind) == 1 else plural.get(kind, f"{kind}s")
        style: dict[str, Any] = {
            "x": [point.a for point in of_kind],
            "y": [point.b for point in of_kind],
            "mode": "markers",
            "marker": {
                "symbol": symbol if scale is None else _IN_SPACE.get(symbol, symbol),
                "color": color,
                "size": 13 if scale is None else 6,
                "line": layout.OUTLINE | {"width": 2} | ({"color": "white"} if dark else {}),
            },
            "name": f"{len(of_kind)} {word}: loss {span}",
            "legendgroup": word,
            "customdata": [[point.loss, *point.eigenvalues] for point in of_kind],
            "hovertemplate": layout.hover_text(
                landscape,
                "%{customdata[0]:.6~g}<br>eigenvalues %{customdata[1]:.4~g}, %{customdata[2]:.4~g}",
                kind,
            ),
        }
        if scale is None:
            figure.add_scatter(**style, cliponaxis=False)
        else:
            places = np.column_stack([style["x"], style["y"], losses])
            figure.add_scatter3d(**style, z=scale.lift(places, 2.2)[:, 2])
    beyond = len(critical.points) - len(inside)
    notes = [f"{beyond} critical points lie beyond the grid"] if beyond else []
    known = {
        "proved": "critical points: proved to be all",
        "index": "critical points: as many as their indices ask for",
        "incomplete": "critical points: maybe not all",
    }
    return [*notes, known[critical.completeness]]


def _places(figure: go.Figure, landscape: Landscape, scale: Scale | None) -> list[str]:
    """The plane's own marks, as the solutions that it was laid through."""
    names, places = paths.marks_on_grid(landscape)
    x, y, _ = places.T
    style: dict[str, Any] = {
        "x": x,
        "y": y,
        "mode": "markers",
        "marker": {
            "symbol": "square",
            "color": "white",
            "size": 11 if scale is None else 5,
            "line": layout.OUTLINE | {"width": 2},
        },
        "showlegend": True,
        "legendgroup": "marks",
        "text": names,
        "name": ", ".join(
            f"{name} ({a:.3g}, {b:.3g})" for name, (a, b, _) in zip(names, places, strict=True)
        ),
        "hovertemplate": f"{landscape.a.name} %{{x:.5~g}}<br>{landscape.b.name} %{{y:.5~g}}"
        "<extra>%{text}</extra>",
    }
    # On a ground of their own, so that they can be read on every color.
    words: list[dict[str, Any]] = [
        {
            "x": place[0],
            "y": place[1],
            "text": name,
            "showarrow": False,
            "yshift": 18,
            "bgcolor": "rgba(255, 255, 255, 0.8)",
            "font": {"color": "black", "size": 14},
        }
        for name, place in zip(names, places, strict=True)
    ]
    if not names:
        pass
    elif scale is None:
        figure.add_scatter(**style, cliponaxis=False)
        figure.update_layout(annotations=words)
    else:
        heights = scale.lift(places, 2.2)[:, 2]
        figure.add_scatter3d(**style, z=heights)
        raised = [word | {"z": height} for word, height in zip(words, heights, strict=True)]
        figure.update_layout(scene_annotations=raised)
    beyond = len(landscape.marks) - len(names)
    return [f"{beyond} of the plane's marks lie beyond the grid"] if beyond else []


def _box(landscape: Landscape) -> np.ndarray:
    ends = [(axis.values[0], axis.values[-1]) for axis in (landscape.a, landscape.b)]
    return np.array(ends, float)
