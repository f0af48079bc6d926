"""One page of a browser, without a window, in which a figure is stepped frame by frame."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go

_SECONDS = 180
"""For the page to load."""
_PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"></head><body style="margin: 0">
<div id="figure" style="width: {width}px; height: {height}px"></div>
<script src="{plotly}"></script><script src="figure.js"></script>
</body></html>
"""
_DRAW = """
Plotly.newPlot("figure", FIGURE.data, FIGURE.layout, {displayModeBar: false})
  .then(() => Plotly.addFrames("figure", FIGURE.frames))
"""
_STEP = """
Plotly.animate("figure", [NAME], {
  mode: "immediate", frame: {duration: 0, redraw: true}, transition: {duration: 0}
}).then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))
"""


def is_installed() -> bool:
    """Whether there is a browser that kaleido would use."""
    from choreographer.browsers.chromium import Chromium

    found = Chromium.find_browser(skip_local=False)
    return found is not None and Path(found).is_file()


def searched_place() -> str:
    """Where alone it was looked for, if the environment says so."""
    path = os.environ.get("BROWSER_PATH")
    return f" at {path}, which BROWSER_PATH names" if path else ""


async def capture_frames(figure: go.Figure, width: int, height: int) -> AsyncGenerator[bytes, None]:
    """A PNG of each of a figure's frames, (height, width), from one page that goes through them.

    The browser is the one that kaleido uses for images.

    Raises:
        RuntimeError: the browser or the page failed.
    """
    # It comes with kaleido.
    from choreographer import Browser
    from choreographer.utils import TmpDirectory

    browser = await Browser()
    # Where a browser that is locked up in its own folders can read, too.
    folder = TmpDirectory(sneak=browser.is_isolated())
    try:
        page = Path(folder.path) / "figure.html"
        script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        page.write_text(_PAGE.format(width=width, height=height, plotly=script.as_uri()), "utf-8")
        page.with_suffix(".js").write_text(f"const FIGURE = {figure.to_json()};", "utf-8")
        # The one that is in front: others are drawn less often, or not at all.
        tab = browser.get_tab() or await browser.create_tab("about:blank")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await _send(tab, "Emulation.setDeviceMetricsOverride", size)
        await _send(tab, "Page.enable", {})
        loaded = tab.subscribe_once("Page.loadEventFired")
        await _send(tab, "Page.navigate", {"url": page.as_uri()})
        await asyncio.wait_for(loaded, _SECONDS)
        await _run(tab, _DRAW)
        for frame in figure.frames:
            await _run(tab, _STEP.replace("NAME", json.dumps(frame.name)))
            shot = await _send(tab, "Page.captureScreenshot", {"format": "png"})
            yield base64.b64decode(shot["data"])
    finally:
        await browser.close()
        folder.clean()


async def _run(tab: Any, script: str) -> None:
    asked = {"expression": script, "awaitPromise": True}
    result = await _send(tab, "Runtime.evaluate", asked)
    if "exceptionDetails" in result:
        thrown = result["exceptionDetails"].get("exception", {})
        what = str(thrown.get("description") or thrown.get("value")).partition("\n")[0]
        raise RuntimeError(f"figure: the browser could not draw it at this size: {what}")


async def _send(tab: Any, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
    answer = await tab.send_command(command, parameters)
    if "error" in answer:
        raise RuntimeError(f"the browser refused {command}: {answer['error']}")
    return answer["result"]
