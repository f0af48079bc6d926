"""What links the parts of a figure in a browser: a mark that follows the mouse, and cameras."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import plotly.graph_objects as go


def meta(figure: go.Figure) -> Mapping[str, Any]:
    """What a figure says of itself by name: plotly lets its `meta` be anything.

    Example:
        >>> from jaxscape import linked
        >>> linked.meta(jxs.plot.go.Figure(layout_meta=["linked"]))
        {}
    """
    said = figure.layout.meta
    return said if isinstance(said, Mapping) else {}


def script(figure: go.Figure) -> str | None:
    """For plotly's `write_html(post_script=...)`; None for a figure with nothing to link.

    Example:
        >>> from jaxscape import linked
        >>> data = jxs.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> "plotly_hover" in linked.script(jxs.plot.side_by_side(sine))
        True
        >>> linked.script(jxs.plot.surface(sine)) is None
        True
    """
    if "linked" not in meta(figure):
        return None
    return resources.files("jaxscape").joinpath("page/linked.js").read_text(encoding="utf-8")
