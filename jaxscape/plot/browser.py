"""Step a page through a figure's animation in a headless browser and take screenshots."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go

_LOAD_SECONDS = 180
"""The largest time in which the page has to load."""
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
_SHOW_FRAME = """
Plotly.animate("figure", [NAME], {
  mode: "immediate", frame: {duration: 0, redraw: true}, transition: {duration: 0}
}).then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))
"""


def is_installed() -> bool:
    """Return whether there is a browser that kaleido can use."""
    from choreographer.browsers.chromium import Chromium

    path = Chromium.find_browser(skip_local=False)
    return path is not None and Path(path).is_file()


def searched_place() -> str:
    """Return " at PATH, ..." if BROWSER_PATH sets the only path searched for a browser; else ""."""
    path = os.environ.get("BROWSER_PATH")
    return f" at {path}, the value of BROWSER_PATH" if path else ""


async def capture_frames(figure: go.Figure, width: int, height: int) -> AsyncGenerator[bytes, None]:
    """Yield a PNG of each frame of a figure, drawn by one page of kaleido's browser.

    Args:
        figure: a figure with frames.
        width: in pixels.
        height: in pixels.

    Raises:
        RuntimeError: The browser or the page failed.
    """
    # Installed with kaleido.
    from choreographer import Browser
    from choreographer.utils import TmpDirectory

    browser = await Browser()
    # A browser in a sandbox (a snap, for instance) cannot read every temporary folder.
    folder = TmpDirectory(sneak=browser.is_isolated())
    try:
        page = Path(folder.path) / "figure.html"
        script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        page.write_text(_PAGE.format(width=width, height=height, plotly=script.as_uri()), "utf-8")
        page.with_suffix(".js").write_text(f"const FIGURE = {figure.to_json()};", "utf-8")
        # Use the tab in front: browsers draw other tabs rarely or not at all.
        tab = browser.get_tab() or await browser.create_tab("about:blank")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await _send(tab, "Emulation.setDeviceMetricsOverride", size)
        await _send(tab, "Page.enable", {})
        loaded = tab.subscribe_once("Page.loadEventFired")
        await _send(tab, "Page.navigate", {"url": page.as_uri()})
        await asyncio.wait_for(loaded, _LOAD_SECONDS)
        await _evaluate(tab, _DRAW)
        for frame in figure.frames:
            await _evaluate(tab, _SHOW_FRAME.replace("NAME", json.dumps(frame.name)))
            screenshot = await _send(tab, "Page.captureScreenshot", {"format": "png"})
            yield base64.b64decode(screenshot["data"])
    finally:
        await browser.close()
        folder.clean()


async def _evaluate(tab: Any, script: str) -> None:
    """Run a script in the page and wait for its promise; raise its error as `RuntimeError`."""
    result = await _send(tab, "Runtime.evaluate", {"expression": script, "awaitPromise": True})
    if "exceptionDetails" in result:
        thrown = result["exceptionDetails"].get("exception", {})
        message = str(thrown.get("description") or thrown.get("value")).partition("\n")[0]
        raise RuntimeError(f"figure: the browser could not draw it at this size: {message}")


async def _send(tab: Any, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send a command of the Chrome DevTools protocol and return its result."""
    answer = await tab.send_command(command, parameters)
    if "error" in answer:
        raise RuntimeError(f"the browser rejected {command}: {answer['error']}")
    return answer["result"]
