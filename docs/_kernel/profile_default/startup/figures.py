"""How the cells of a page show figures: as data, for `_static/figures.js` to draw."""

import hashlib
import html
import os
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
import tqdm.auto
from IPython import get_ipython
from IPython.display import HTML, IFrame, display

from jaxscape import plot
from jaxscape.plot import scripts
from jaxscape.plot.explorer.page import Explorer


def show(figure: go.Figure) -> bool:
    """Put a figure on the page, without plotly.js, which the site holds once."""
    content = figure.to_json().replace("</", "<\\/")
    after = html.escape(scripts.page_script(figure) or "")
    height = figure.layout.height or 560
    display(
        HTML(
            f'<div class="figure plotly-graph-div" style="height: {height}px" '
            f'data-config="{html.escape(pio.json.to_json_plotly(plot.HTML_CONFIG))}" '
            f'data-after="{after}">'
            f'<script type="application/json">{content}</script></div>'
        )
    )
    return True


def show_page(page: Explorer) -> bool:
    """Put a page on the page: a file of its own beside the others, in a frame."""
    name = f"explorer-{hashlib.sha256(page.html.encode()).hexdigest()[:8]}.html"
    page.write_html(Path(os.environ["JAXSCAPE_STATIC"]) / name)
    display(IFrame(f"_static/{name}", width="100%", height=820, extras=['loading="lazy"']))
    return True


def no_bar(*arguments: Any, **options: Any) -> Any:
    """A bar appears after a second: it would be on the pages that a slow machine built."""
    return tqdm.tqdm(*arguments, **options | {"disable": True})


shown = get_ipython().display_formatter.ipython_display_formatter
shown.for_type(go.Figure, show)
shown.for_type(Explorer, show_page)
tqdm.auto.tqdm = no_bar
