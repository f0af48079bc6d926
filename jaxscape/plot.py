"""Results to plotly figures: nothing is computed that was not measured, nothing is shown yet.

Figures are ordinary `plotly.graph_objects.Figure`s: `write_html`, `show` and every `update_*` of
plotly apply.
"""

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from jaxscape import fitted, frames, view
from jaxscape.charts import fan, profile, stability, steps
from jaxscape.explorer import explore
from jaxscape.export import write
from jaxscape.fits import Predictions
from jaxscape.interpolations import lines
from jaxscape.layout import HTML_CONFIG
from jaxscape.maps import basins, trainability
from jaxscape.pairs import compare, side_by_side
from jaxscape.results import Landscape
from jaxscape.slopes import curvature, slopes
from jaxscape.spectra import spectrum
from jaxscape.surfaces import contour, surface
from jaxscape.trajectory import Projection, Trajectory

__all__ = [
    "HTML_CONFIG",
    "animation",
    "basins",
    "compare",
    "contour",
    "curvature",
    "explore",
    "fan",
    "fit",
    "lines",
    "profile",
    "side_by_side",
    "slopes",
    "spectrum",
    "stability",
    "steps",
    "surface",
    "trainability",
    "write",
]


def animation(
    landscape: Landscape,
    *paths: Trajectory | Projection,
    kind: Literal["surface", "contour"] = "surface",
    **drawn: Any,
) -> go.Figure:
    """Paths as they were walked, with play, pause and a slider over the epochs.

    The figure opens with the whole of the paths. There is a frame for each recorded epoch, or 100
    spread evenly over them, and a path stands in it at the last point recorded by then. Of a path
    of more than 400 points, 400 are drawn, and the figure says so.

    Args:
        landscape: the surface.
        paths: as in `surface`.
        kind: what they go over, as `surface` or `contour` draws it.
        **drawn: `critical`, `valley`, `barrier`, `log`, `clip` and `dark`, as these take them.

    Returns:
        The figure; its frames hold the paths alone.

    Raises:
        TypeError: what is no path.
        ValueError: no path, none with two points and a part on the grid, another kind, or what
            `surface` and `contour` refuse.

    Example:
        >>> data = jxs.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> len(jxs.plot.animation(surface, path).frames)
        21
    """
    figure, lines, shorter = _still(landscape, paths, kind, drawn)
    return frames.add(figure, lines, frames.moments(shorter))


def fit(
    landscape: Landscape,
    found: Predictions,
    kind: Literal["surface", "contour"] = "surface",
    **drawn: Any,
) -> go.Figure:
    """The path over the surface, and beside it the network's fit to its data at each point.

    One slider moves both, so that each point is seen with its curve; both have one colour. Of more
    than 1,000 samples, 1,000 are drawn, and the figure says so.

    Args:
        landscape: the surface.
        found: what `predictions` returned.
        kind: what the path goes over, as `surface` or `contour` draws it.
        **drawn: `critical`, `valley`, `barrier` and `dark`, as these take them.

    Returns:
        The figure, animated as `animation` does it.

    Raises:
        TypeError: anything else than `Predictions`.
        ValueError: what `animation` refuses.

    Example:
        >>> data = jxs.teacher_student(jax.random.key(0))
        >>> surface = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> path = jxs.descend(jxs.squared_error, jxs.Weights(1.0, 0.2), data,
        ...                    optimizer=optax.sgd(0.5), epochs=20)
        >>> found = jxs.predictions(jxs.squared_error, path, data)
        >>> figure = jxs.plot.fit(surface, found)
        >>> [trace.name for trace in figure.data[-2:]], len(figure.frames)
        (["the network's curve", "the network's curve"], 21)
    """
    if not isinstance(found, Predictions):
        raise TypeError(
            f"found: expected Predictions, got {type(found).__name__}; "
            "jxs.predictions(loss, path, data) computes them"
        )
    figure, lines, shorter = _still(landscape, (found.path,), kind, drawn)
    frames.note(figure, fitted.add(figure, found, lines[0].colour))
    figure.update_layout(title_text="Loss surface, and the fit at each point of the descent")
    epochs = frames.moments(shorter)
    curves = found.y[np.searchsorted(found.path.epoch, epochs, side="right") - 1]
    curve = [{"y": y.astype(np.float32)} for y in curves]
    last = len(figure.data) - 1
    return frames.add(figure, lines, epochs, {last - 1: curve, last: curve})


def _still(
    landscape: Landscape,
    paths: tuple[Trajectory | Projection, ...],
    kind: str,
    drawn: dict[str, Any],
) -> tuple[go.Figure, list[view.Line], list[Trajectory | Projection]]:
    """The figure of paths to their ends, thinned for frames; as lines, and as paths."""
    if kind not in ("surface", "contour"):
        raise ValueError(f"kind: expected 'surface' or 'contour', got {kind!r}")
    view.check_paths(paths)
    if not paths:
        raise ValueError(
            "paths: expected a descent to show as it went, as descend returns, got none"
        )
    shorter, notes = view.thinned(paths, frames.MOST_POINTS)
    draw = surface if kind == "surface" else contour
    figure = draw(landscape, *shorter, **drawn)
    lines, _ = view.lines(landscape, tuple(shorter))
    if not any(len(line.way) for line in lines):
        ends = [
            f"{axis.name} from {axis.values[0]:.4g} to {axis.values[-1]:.4g}"
            for axis in (landscape.a, landscape.b)
        ]
        raise ValueError(
            "paths: expected one of two points or more that is on the grid, got none; the grid has "
            f"{' and '.join(ends)}, and surface and contour draw it with a note"
        )
    frames.note(figure, notes)
    if kind == "contour":
        frames.add_ground(figure)
    return figure, lines, shorter
