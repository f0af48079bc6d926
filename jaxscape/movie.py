"""Pictures one after the other as one file: GIF and MP4."""

import io
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_LAST_MILLISECONDS = 2000
"""The last picture stays for longer, so that it can be looked at before all begins again."""
_STEP = 8
"""About how far apart the palette's colours are."""


def _dots(size: int) -> np.ndarray:
    """Bayer's matrix, (size, size), from -_STEP / 2 to _STEP / 2: neighbours differ most."""
    matrix = np.zeros((1, 1))
    while len(matrix) < size:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return np.round(_STEP * ((matrix + 0.5) / matrix.size - 0.5)).astype(np.int16)


_DOTS = _dots(8)


def gif(pictures: Sequence[bytes], milliseconds: int) -> bytes:
    """PNGs as a GIF that goes round and round.

    All have one palette: the colour of the ground, and 255 chosen for the first, the middle and
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
    colours = (numbers[:, None] >> np.array([16, 8, 0]) & 255).astype(np.uint8)
    ground = colours[counts.argmax()]
    sample = np.repeat(colours, np.sqrt(counts).astype(int), axis=0)
    chosen = Image.fromarray(sample[None]).quantize(255, Image.Quantize.MEDIANCUT, kmeans=1)
    chosen_colours = chosen.getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*chosen_colours, *[0] * (765 - len(chosen_colours)), *ground.tolist()])
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


def mp4(pictures: Sequence[bytes], milliseconds: int) -> bytes:
    """PNGs as an MP4, H.264 with the colours that every player knows.

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
