"""Pictures one after the other as one file: GIF and MP4.

Figures as files: pages, images, and animations as GIF and MP4.
"""

import asyncio
import contextlib
import importlib.util
import io
import os
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape._util import files
from jaxscape._util.progress import bar
from jaxscape.plot import browser, scripts
from jaxscape.plot.parts.layout import HTML_CONFIG

_LAST_MILLISECONDS = 2000
"""The last picture stays for longer, so that it can be looked at before all begins again."""
_STEP = 8
"""About how far apart the palette's colors are."""


def _dots(size: int) -> np.ndarray:
    """Bayer's matrix, (size, size), from -_STEP / 2 to _STEP / 2: neighbors differ most."""
    matrix = np.zeros((1, 1))
    while len(matrix) < size:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return np.round(_STEP * ((matrix + 0.5) / matrix.size - 0.5)).astype(np.int16)


_DOTS = _dots(8)


def encode_gif(pictures: Sequence[bytes], milliseconds: int) -> bytes:
    """PNGs as a GIF that goes round and round.

    All have one palette: the color of the ground, and 255 chosen for the first, the middle and
    the last picture, frequent ones finer. What falls between two of them is made from dots of both,
    each at its own place (Bayer 1973): a surface stays smooth, and what stands still does not
    flicker.

    Args:
        pictures: PNGs of one size.
        milliseconds: for which each is shown.

    Returns:
        What the file holds.
    """
    from PIL import Image

    images = [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in pictures]
    some = np.stack([images[0], images[len(images) // 2], images[-1]])
    numbers, counts = np.unique(some @ np.array([65536, 256, 1]), return_counts=True)
    colors = (numbers[:, None] >> np.array([16, 8, 0]) & 255).astype(np.uint8)
    ground = colors[counts.argmax()]
    sample = np.repeat(colors, np.sqrt(counts).astype(int), axis=0)
    chosen = Image.fromarray(sample[None]).quantize(255, Image.Quantize.MEDIANCUT, kmeans=1)
    chosen_colors = chosen.getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*chosen_colors, *[0] * (765 - len(chosen_colors)), *ground.tolist()])
    height, width, _ = some[0].shape
    dots = np.tile(_DOTS, (-(-height // 8), -(-width // 8)))[:height, :width, None]
    frames = []
    for image in images:
        dotted = np.clip(image + dots, 0, 255).astype(np.uint8)
        index = Image.fromarray(dotted).quantize(palette=palette, dither=Image.Dither.NONE)
        frame = Image.fromarray(
            np.where((image == ground).all(axis=2), 255, np.asarray(index)).astype(np.uint8)
        )
        frame.putpalette(palette.getpalette() or [])
        frames.append(frame)
    file = io.BytesIO()
    frames[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[milliseconds] * (len(frames) - 1) + [_LAST_MILLISECONDS],
        loop=0,
    )
    return file.getvalue()


def encode_mp4(pictures: Sequence[bytes], milliseconds: int) -> bytes:
    """PNGs as an MP4, H.264 with the colors that every player knows.

    Args:
        pictures: PNGs of one size, its sides even.
        milliseconds: for which each is shown.

    Returns:
        What the file holds.

    Raises:
        RuntimeError: ffmpeg failed; its own words.
    """
    import imageio_ffmpeg

    held = [*pictures, *[pictures[-1]] * (_LAST_MILLISECONDS // milliseconds)]
    read = f"-f image2pipe -c:v png -framerate {1000 / milliseconds:.6g} -i -"
    write = "-c:v libx264 -crf 18 -pix_fmt yuv420p -movflags +faststart"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.mp4"
        program = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
        # Its own writer would fork this process, threads of JAX and all.
        done = subprocess.run(
            [*program, *read.split(), *write.split(), str(path)],
            input=b"".join(held),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()}")
        return path.read_bytes()


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
_MOVIES: dict[str, Callable[[list[bytes], int], bytes]] = {".gif": encode_gif, ".mp4": encode_mp4}


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
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> jxs.plot.write(jxs.plot.contour(sine), "sine.html")
        >>> Path("sine.html").stat().st_size > 1_000_000
        True
    """
    if not isinstance(figure, go.Figure):
        page = "; its write_html(file) writes it" if hasattr(figure, "write_html") else ""
        raise TypeError(f"figure: expected a plotly figure, got {type(figure).__name__}{page}")
    check_file(file)
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
    with files.replacing(file) as place:
        place.write(content)


def check_file(file: str | os.PathLike) -> None:
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
    files.check_target_file(path, "file")
    missing = [
        _PACKAGES[module] for module in _MODULES[suffix] if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise ImportError(f"file: {suffix} needs more packages: pip install {' '.join(missing)}")
    if _MODULES[suffix] and not browser.is_installed():
        raise RuntimeError(
            f"file: {suffix} needs a browser, and none was found{browser.searched_place()}: install "
            "Chromium or Chrome, or run kaleido_get_chrome"
        )


def _page(figure: go.Figure, cdn: bool, width: int | None, height: int | None) -> str:
    page = figure.to_html(
        config=HTML_CONFIG,
        include_plotlyjs="cdn" if cdn else True,
        div_id="jaxscape",
        auto_play=False,
        post_script=scripts.page_script(figure),
        default_width=f"{width}px" if width else "100%",
        default_height=f"{height}px" if height else "100vh",
    )
    # A browser's own margin would make it higher than the window.
    return page.replace("<head>", "<head><style>body { margin: 0 }</style>", 1)


def _movie(figure: go.Figure, suffix: str, size: tuple[int, int]) -> bytes:
    milliseconds = scripts.figure_meta(figure).get("milliseconds", _MILLISECONDS)
    # H.264 halves the resolution of colors.
    width, height = (side + side % 2 if suffix == ".mp4" else side for side in size)

    async def draw() -> list[bytes]:
        shots = browser.capture_frames(figure, width, height)
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
