"""Show the figures of a page's cells as data, which `_static/figures.js` draws."""

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
    """Put a figure on the page, without plotly.js, of which the site has one copy."""
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
    """Write an explorer to a file of its own and show it in a frame."""
    name = f"explorer-{hashlib.sha256(page.html.encode()).hexdigest()[:8]}.html"
    page.write_html(Path(os.environ["JAXSCAPE_STATIC"]) / name)
    display(IFrame(f"_static/{name}", width="100%", height=820, extras=['loading="lazy"']))
    return True


def no_bar(*arguments: Any, **options: Any) -> Any:
    """Return a progress bar that is never shown: a slow build would leave it on the page."""
    return tqdm.tqdm(*arguments, **options | {"disable": True})


shown = get_ipython().display_formatter.ipython_display_formatter
shown.for_type(go.Figure, show)
shown.for_type(Explorer, show_page)
tqdm.auto.tqdm = no_bar
