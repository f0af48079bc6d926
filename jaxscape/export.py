"""Figures as files: pages, images, and animations as GIF and MP4."""

import asyncio
import contextlib
import importlib.util
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from jaxscape import archive, browser, linked, movie
from jaxscape.layout import HTML_CONFIG
from jaxscape.progress import bar

_SIZE = (1200, 900)
_MILLISECONDS = 100
"""For which a frame is shown, if the figure does not say."""
_MODULES = {
    ".html": (),
    ".png": ("kaleido",),
    ".svg": ("kaleido",),
    ".pdf": ("kaleido",),
    ".gif": ("kaleido", "PIL"),
    ".mp4": ("kaleido", "imageio_ffmpeg"),
}
"""What a format takes beside plotly."""
_PACKAGES = {"kaleido": "kaleido", "PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg"}
_MOVIES: dict[str, Callable[[list[bytes], int], bytes]] = {".gif": movie.gif, ".mp4": movie.mp4}


def write(
    figure: go.Figure,
    file: str | os.PathLike,
    *,
    cdn: bool = False,
    width: int | None = None,
    height: int | None = None,
) -> None:
    """Write a figure to a file, in the format that its name ends with.

    A page opens offline, turns, animates and fills its window; the same figure gives the same
    bytes. Images are drawn by kaleido. A GIF or an MP4 goes through an animation's frames, which
    one page of kaleido's browser draws one after the other. An existing file is replaced in one
    step, when the new one is complete.

    Args:
        figure: any plotly figure; for `.gif` and `.mp4` one with frames, as `animation` makes.
        file: a name ending in `.html`, `.png`, `.svg`, `.pdf`, `.gif` or `.mp4`.
        cdn: a page that holds the figure's data alone, and loads plotly.js from the network when it
            is opened.
        width, height: in pixels; 1200 × 900 for images if the figure says no other.

    Raises:
        TypeError: what is no figure, or a size that is no number.
        ValueError: another format, a folder that is not there, a GIF of a figure without frames,
            a size that is not positive, `cdn` for an image.
        ImportError: a package is missing; the message says which.
        RuntimeError: no browser is found, or it fails.

    Example:
        >>> data = jxs.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> jxs.plot.write(jxs.plot.contour(sine), "sine.html")
        >>> Path("sine.html").stat().st_size > 1_000_000
        True
    """
    if not isinstance(figure, go.Figure):
        page = "; its write_html(file) writes it" if hasattr(figure, "write_html") else ""
        raise TypeError(f"figure: expected a plotly figure, got {type(figure).__name__}{page}")
    check(file)
    suffix = Path(file).suffix.lower()
    if suffix in _MOVIES and not figure.frames:
        raise ValueError(
            f"figure: expected frames for {suffix}, got a figure without; plot.animation makes one"
        )
    if cdn and suffix != ".html":
        raise ValueError(f"cdn: expected a file ending in .html, got {str(file)!r}")
    for name, pixels in (("width", width), ("height", height)):
        if pixels is not None and (isinstance(pixels, bool) or not isinstance(pixels, Real)):
            raise TypeError(f"{name}: expected a number of pixels, got {pixels!r}")
        if pixels is not None and not pixels >= 1:
            raise ValueError(f"{name}: expected 1 pixel or more, got {pixels}")
    if suffix == ".html":
        content = _page(figure, cdn, width, height).encode()
    else:
        size = (
            int(width or figure.layout.width or _SIZE[0]),
            int(height or figure.layout.height or _SIZE[1]),
        )
        still = go.Figure(figure)
        # Nothing to be pressed on an image.
        still.layout.updatemenus = []
        if suffix in _MOVIES:
            content = _movie(still, suffix, size)
        else:
            still.layout.sliders = []
            with bar(1, "picture") as progress:
                content = still.to_image(suffix[1:], width=size[0], height=size[1])
                progress.update()
    with archive.replacing(file) as place:
        place.write(content)


def check(file: str | os.PathLike) -> None:
    """Refuse a file that could not be written: before any work is done for it.

    Raises:
        ValueError: a format that is not known, a folder that is not there.
        ImportError: a package is missing.
        RuntimeError: no browser is found.
    """
    path = Path(file)
    suffix = path.suffix.lower()
    if suffix not in _MODULES:
        raise ValueError(
            f"file: expected a name ending in {', '.join(_MODULES)}, got {str(file)!r}"
        )
    archive.check_place(path, "file")
    missing = [
        _PACKAGES[module] for module in _MODULES[suffix] if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise ImportError(f"file: {suffix} needs more packages: pip install {' '.join(missing)}")
    if _MODULES[suffix] and not browser.is_there():
        raise RuntimeError(
            f"file: {suffix} needs a browser, and none was found{browser.where()}: install "
            "Chromium or Chrome, or run kaleido_get_chrome"
        )


def _page(figure: go.Figure, cdn: bool, width: int | None, height: int | None) -> str:
    page = figure.to_html(
        config=HTML_CONFIG,
        include_plotlyjs="cdn" if cdn else True,
        div_id="jaxscape",
        auto_play=False,
        post_script=linked.script(figure),
        default_width=f"{width}px" if width else "100%",
        default_height=f"{height}px" if height else "100vh",
    )
    # A browser's own margin would make it higher than the window.
    return page.replace("<head>", "<head><style>body { margin: 0 }</style>", 1)


def _movie(figure: go.Figure, suffix: str, size: tuple[int, int]) -> bytes:
    milliseconds = linked.meta(figure).get("milliseconds", _MILLISECONDS)
    # H.264 halves the resolution of colours.
    width, height = (side + side % 2 if suffix == ".mp4" else side for side in size)

    async def draw() -> list[bytes]:
        shots = browser.pictures(figure, width, height)
        drawn = []
        with bar(len(figure.frames), "frame") as progress:
            async with contextlib.aclosing(shots):
                async for shot in shots:
                    drawn.append(shot)
                    progress.update()
        return drawn

    return _MOVIES[suffix](_run(draw()), milliseconds)


def _run(work: Coroutine[Any, Any, list[bytes]]) -> list[bytes]:
    """Run what is asynchronous, also in a notebook, whose thread runs something already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
