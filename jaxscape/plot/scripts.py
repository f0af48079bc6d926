"""What a figure needs in a browser beside plotly: a mark under the mouse, cameras, a slider."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import plotly.graph_objects as go


def figure_meta(figure: go.Figure) -> Mapping[str, Any]:
    """What a figure says of itself by name: plotly lets its `meta` be anything.

    Example:
        >>> import plotly.graph_objects as go
        >>> from jaxscape.plot import scripts
        >>> scripts.figure_meta(go.Figure(layout_meta=["linked"]))
        {}
    """
    said = figure.layout.meta
    return said if isinstance(said, Mapping) else {}


def page_script(figure: go.Figure) -> str | None:
    """For plotly's `write_html(post_script=...)`; None for a figure with nothing to link.

    Example:
        >>> from jaxscape.plot import scripts
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> "plotly_hover" in scripts.page_script(jxs.plot.side_by_side(sine))
        True
        >>> scripts.page_script(jxs.plot.contour(sine)) is None
        True
    """
    scenes = {trace.scene for trace in figure.select_traces({"type": "surface"})}
    parts = {
        "linked.js": "linked" in figure_meta(figure),
        "slider.js": bool(figure.layout.sliders),
        "scene.js": scenes == {None} or scenes == {"scene"},
    }
    page = resources.files("jaxscape.plot") / "js"
    scripts = [(page / name).read_text(encoding="utf-8") for name, there in parts.items() if there]
    return "\n".join(scripts) or None
