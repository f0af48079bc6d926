"""Write figures to files: pages (HTML), images (PNG, SVG, PDF) and animations (GIF, MP4)."""

import asyncio
import contextlib
import importlib.util
import io
import os
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxscape._util import files
from jaxscape._util.checks import check_number
from jaxscape._util.progress import bar
from jaxscape.plot import browser, scripts
from jaxscape.plot.parts.layout import HTML_CONFIG

_SIZE = (1200, 900)
"""Width and height of images in pixels, if neither the caller nor the figure sets them."""
_FRAME_MILLISECONDS = 100
"""Duration of a frame, if the figure does not set it."""
_LAST_MILLISECONDS = 2000
"""Duration of the last frame, longer so that it can be read before the animation repeats."""
_MODULES = {
    ".html": (),
    ".png": ("kaleido",),
    ".svg": ("kaleido",),
    ".pdf": ("kaleido",),
    ".gif": ("kaleido", "PIL"),
    ".mp4": ("kaleido", "imageio_ffmpeg"),
}
"""The modules that each format needs in addition to plotly."""
_PACKAGES = {"kaleido": "kaleido", "PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg"}
"""The package that provides each module."""


def write(
    figure: go.Figure,
    file: str | os.PathLike,
    *,
    cdn: bool = False,
    width: int | None = None,
    height: int | None = None,
) -> None:
    """Write a figure to a file, in the format of the file's ending.

    An HTML page fills its window and, unless `cdn` is set, works offline; the same figure gives the
    same bytes. kaleido draws images. For a GIF or an MP4, kaleido's browser draws the animation
    frame by frame. An existing file is replaced in one step when the new one is complete.

    Args:
        figure: any plotly figure; for `.gif` and `.mp4` one with frames, as from `animation`.
        file: a path ending in `.html`, `.png`, `.svg`, `.pdf`, `.gif` or `.mp4`.
        cdn: whether an HTML page loads plotly.js from the network, which makes the file small.
        width: in pixels. For an image, the default is the figure's own width, or 1200. On an HTML
            page, the figure's own width takes precedence, and the default is the window's.
        height: in pixels. For an image, the default is the figure's own height, or 900. On an HTML
            page, the figure's own height takes precedence, and the default is the window's.

    Raises:
        TypeError: `figure` is not a plotly figure, or a size is not a number.
        ValueError: The format is unknown, the folder does not exist, a figure for a GIF or an MP4
            has no frames, a size is below 1, or `cdn` is set for an image.
        ImportError: A package is missing; the message names it.
        RuntimeError: No browser is installed, or it failed.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0))
        >>> sine = jxs.landscape(jxs.squared_error, data, w1=(-3, 3, 61), w2=(-3, 3, 41))
        >>> jxs.plot.write(jxs.plot.contour(sine), "sine.html")
        >>> Path("sine.html").stat().st_size > 1_000_000
        True
    """
    if not isinstance(figure, go.Figure):
        hint = "; use its write_html(file)" if hasattr(figure, "write_html") else ""
        raise TypeError(f"figure: expected a plotly figure, got {type(figure).__name__}{hint}")
    check_file(file)
    suffix = Path(file).suffix.lower()
    if suffix in _ENCODERS and not figure.frames:
        raise ValueError(
            f"figure: expected frames for {suffix}, got none; plot.animation adds frames"
        )
    if cdn and suffix != ".html":
        raise ValueError(f"cdn: expected a file ending in .html, got {str(file)!r}")
    for name, pixels in (("width", width), ("height", height)):
        if pixels is not None and not check_number(name, pixels) >= 1:
            raise ValueError(f"{name}: expected 1 pixel or more, got {pixels}")
    if suffix == ".html":
        content = _page(figure, cdn, width, height).encode()
    else:
        size = (
            int(width or figure.layout.width or _SIZE[0]),
            int(height or figure.layout.height or _SIZE[1]),
        )
        image = go.Figure(figure)
        # Images have no controls.
        image.layout.updatemenus = []
        if suffix in _ENCODERS:
            content = _animate(image, suffix, size)
        else:
            image.layout.sliders = []
            with bar(1, "picture") as progress:
                content = image.to_image(suffix[1:], width=size[0], height=size[1])
                progress.update()
    with files.replacing(file) as target:
        target.write(content)


def check_file(file: str | os.PathLike) -> None:
    """Check that `write` can write a file, for use before a long computation.

    Raises:
        ValueError: The format is unknown, or the folder does not exist.
        ImportError: A package is missing.
        RuntimeError: No browser is installed.
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
        raise ImportError(
            f"file: {suffix} needs other packages; run pip install {' '.join(missing)}"
        )
    if _MODULES[suffix] and not browser.is_installed():
        raise RuntimeError(
            f"file: {suffix} needs a browser, and none was found{browser.searched_place()}; "
            "install Chromium or Chrome, or run kaleido_get_chrome"
        )


def encode_gif(pictures: Sequence[bytes], milliseconds: int) -> bytes:
    """Encode PNGs as a GIF that repeats.

    All frames share one palette: the background color, and 255 colors chosen from the first, the
    middle and the last picture, where frequent colors count more. Other colors are dithered with a
    fixed pattern (Bayer 1973), so that surfaces look smooth and static parts do not flicker.

    Args:
        pictures: PNGs of one size.
        milliseconds: the duration of a frame.

    Returns:
        The content of the file.
    """
    from PIL import Image

    images = [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in pictures]
    samples = np.stack([images[0], images[len(images) // 2], images[-1]])
    numbers, counts = np.unique(samples @ np.array([65536, 256, 1]), return_counts=True)
    colors = (numbers[:, None] >> np.array([16, 8, 0]) & 255).astype(np.uint8)
    background = colors[counts.argmax()]
    weighted = np.repeat(colors, np.sqrt(counts).astype(int), axis=0)
    quantized = Image.fromarray(weighted[None]).quantize(255, Image.Quantize.MEDIANCUT, kmeans=1)
    chosen = quantized.getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*chosen, *[0] * (765 - len(chosen)), *background.tolist()])
    height, width, _ = samples[0].shape
    pattern = np.tile(_DITHER, (-(-height // 8), -(-width // 8)))[:height, :width, None]
    frames = []
    for image in images:
        dithered = np.clip(image + pattern, 0, 255).astype(np.uint8)
        index = Image.fromarray(dithered).quantize(palette=palette, dither=Image.Dither.NONE)
        frame = Image.fromarray(
            np.where((image == background).all(axis=2), 255, np.asarray(index)).astype(np.uint8)
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
    """Encode PNGs as an MP4: H.264 in yuv420p, which every player supports.

    Args:
        pictures: PNGs of one size with even sides.
        milliseconds: the duration of a frame.

    Returns:
        The content of the file.

    Raises:
        RuntimeError: ffmpeg failed; the message has its error output.
    """
    import imageio_ffmpeg

    repeated = [*pictures, *[pictures[-1]] * (_LAST_MILLISECONDS // milliseconds)]
    source = f"-f image2pipe -c:v png -framerate {1000 / milliseconds:.6g} -i -"
    target = "-c:v libx264 -crf 18 -pix_fmt yuv420p -movflags +faststart"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.mp4"
        program = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
        # The package's own writer forks this process, which is unsafe with JAX's threads.
        done = subprocess.run(
            [*program, *source.split(), *target.split(), str(path)],
            input=b"".join(repeated),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()}")
        return path.read_bytes()


_ENCODERS: dict[str, Callable[[list[bytes], int], bytes]] = {
    ".gif": encode_gif,
    ".mp4": encode_mp4,
}


def _page(figure: go.Figure, cdn: bool, width: int | None, height: int | None) -> str:
    """Return a figure as an HTML page, with the scripts that it needs."""
    page = figure.to_html(
        config=HTML_CONFIG,
        include_plotlyjs="cdn" if cdn else True,
        div_id="jaxscape",
        auto_play=False,
        post_script=scripts.page_script(figure),
        default_width=f"{width}px" if width else "100%",
        default_height=f"{height}px" if height else "100vh",
    )
    # With the browser's default margin the page would be higher than the window.
    return page.replace("<head>", "<head><style>body { margin: 0 }</style>", 1)


def _animate(figure: go.Figure, suffix: str, size: tuple[int, int]) -> bytes:
    """Draw a figure's frames and encode them as a GIF or an MP4."""
    milliseconds = scripts.figure_meta(figure).get("milliseconds", _FRAME_MILLISECONDS)
    # H.264 in yuv420p needs even sides, because colors have half the resolution.
    width, height = (side + side % 2 if suffix == ".mp4" else side for side in size)

    async def draw() -> list[bytes]:
        screenshots = browser.capture_frames(figure, width, height)
        pictures = []
        with bar(len(figure.frames), "frame") as progress:
            async with contextlib.aclosing(screenshots):
                async for screenshot in screenshots:
                    pictures.append(screenshot)
                    progress.update()
        return pictures

    return _ENCODERS[suffix](_run_coroutine(draw()), milliseconds)


def _run_coroutine(coroutine: Coroutine[Any, Any, list[bytes]]) -> list[bytes]:
    """Run a coroutine to its end, in a new thread if this one has an event loop (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _bayer_matrix(size: int, amplitude: int) -> np.ndarray:
    """Return Bayer's dither matrix, (size, size), from -amplitude / 2 to amplitude / 2."""
    matrix = np.zeros((1, 1))
    while len(matrix) < size:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return np.round(amplitude * ((matrix + 0.5) / matrix.size - 0.5)).astype(np.int16)


# The amplitude is about the distance between colors of the palette.
_DITHER = _bayer_matrix(8, amplitude=8)
