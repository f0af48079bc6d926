"""Scripts that a page needs in addition to plotly.js: linked panels, slider, narrow windows."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import plotly.graph_objects as go


def figure_meta(figure: go.Figure) -> Mapping[str, Any]:
    """Return the figure's metadata if it is a mapping, as in the library's figures; otherwise {}.

    Plotly accepts any value as a figure's `meta`.

    Example:
        >>> import plotly.graph_objects as go
        >>> from jaxscape.plot import scripts
        >>> scripts.figure_meta(go.Figure(layout_meta=["linked"]))
        {}
    """
    meta = figure.layout.meta
    return meta if isinstance(meta, Mapping) else {}


def page_script(figure: go.Figure) -> str | None:
    """Return a figure's script for plotly's `write_html(post_script=...)`, or None.

    `write` adds it to its pages.

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
    needed = {
        "linked_panels.js": "linked" in figure_meta(figure),
        "slider.js": bool(figure.layout.sliders),
        "narrow_window.js": scenes == {None} or scenes == {"scene"},
    }
    folder = resources.files("jaxscape.plot") / "js"
    scripts = [(folder / name).read_text(encoding="utf-8") for name in needed if needed[name]]
    return "\n".join(scripts) or None
