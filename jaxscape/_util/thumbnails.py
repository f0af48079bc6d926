"""Small HTML pictures of results for notebooks, without scripts or plotly.

They also work offline, in exported documents, and on pages that forbid scripts. Each takes a few
kilobytes, so notebooks stay small. The package `plot` makes the full figures.
"""

import base64
import html
import itertools
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from jaxscape._util import colors

# Matplotlib's viridis (van der Walt and Smith 2015) at ten points, as in `plot`.
_VIRIDIS = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e",
    "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
_LABEL_COLORS = (
    colors.BLUE, colors.ORANGE, colors.GREEN, colors.PINK,
    colors.SKY_BLUE, colors.VERMILION, colors.YELLOW,
)  # fmt: skip
_GRAY = "#bbbbbb"
"""The color of cells without a value."""
_LEFT, _TOP, _WIDTH, _HEIGHT = 64, 8, 320, 220
"""The position and the size of a picture, in pixels."""
_MAX_CURVES = 50
_MAX_POINTS = 400
"""The most points that are drawn per curve."""
_MAX_ROWS = 20


def text(result: object) -> str:
    """Return the `repr` of a result as preformatted text."""
    return f'<pre style="margin: 0; white-space: pre-wrap">{html.escape(repr(result))}</pre>'


def paragraph(sentence: str) -> str:
    """Return a sentence as a paragraph."""
    return f"<p>{html.escape(sentence)}</p>"


def surface(
    values: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    names: tuple[str, str],
    ends: tuple[float, float],
    lowest: tuple[float, float],
) -> str:
    """Draw losses as colors over both coordinates, with a marker at the lowest loss.

    Only the cells that are drawn are read, so `values` can be a memory map.

    Args:
        values: (n1, n2) the losses; those that are not finite are gray.
        a: (n1,) the first coordinate.
        b: (n2,) the second coordinate, drawn upward.
        names: the names of the coordinates.
        ends: the losses that the first and the last color show.
        lowest: the coordinates of the marker.
    """
    low, high = ends
    anchors = np.array([_rgb(color) for color in _VIRIDIS], float)
    positions = np.linspace(0, len(anchors) - 1, 255)
    ramp = np.stack([np.interp(positions, range(len(anchors)), part) for part in anchors.T], axis=1)
    # The difference of two float32 losses can overflow in float32.
    pixels = _resample(values, a, b).astype(float)
    level = np.where(np.isfinite(pixels), (pixels - low) / ((high - low) or 1), 0)
    index = np.where(np.isfinite(pixels), (254 * np.clip(level, 0, 1)).round(), 255)
    picture = _image(index, [*ramp.round().astype(int).tolist(), _rgb(_GRAY)])
    x, y = _pixel_x(lowest[0], a), _pixel_y(lowest[1], b)
    picture += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="white" stroke="black"/>'
    return _framed(picture, a, b, names)


def label_map(labels: np.ndarray, a: np.ndarray, b: np.ndarray, names: tuple[str, str]) -> str:
    """Draw (n1, n2) integer labels over both coordinates, one color per label; -1 is gray."""
    pixels = _resample(labels, a, b)
    index = np.where(pixels < 0, 255, pixels % len(_LABEL_COLORS))
    palette = [_rgb(_LABEL_COLORS[k % len(_LABEL_COLORS)]) for k in range(255)] + [_rgb(_GRAY)]
    return _framed(_image(index, palette), a, b, names)


def curves(x: np.ndarray, ys: np.ndarray, names: tuple[str, str]) -> str:
    """Draw curves, (K, n), over values of x, (n,), with gaps at values that are not finite.

    Of more than 50 curves, only 50 are drawn, evenly spaced.
    """
    ys = np.asarray(ys, float)
    ys = ys[_evenly_spaced(len(ys), _MAX_CURVES)]
    finite = ys[np.isfinite(ys)]
    ends = np.array([finite.min(), finite.max()] if finite.size else [0, 1], float)
    x = np.asarray(x, float)
    width = 2 if len(ys) == 1 else 0.8
    style = f'fill="none" stroke="{_LABEL_COLORS[0]}" stroke-width="{width}"'
    elements = []
    for y in ys:
        command, path = "M", []
        for k in _evenly_spaced(len(x), _MAX_POINTS):
            if np.isfinite(y[k]):
                path.append(f"{command}{_pixel_x(x[k], x):.1f} {_pixel_y(y[k], ends):.1f}")
            command = "L" if np.isfinite(y[k]) else "M"
        elements.append(f'<path d="{"".join(path)}" {style}/>')
    return _framed("".join(elements), x, ends, names)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of at most 20 rows; a line below it has the number of other rows."""

    def row(cells: Iterable[str], tag: str) -> str:
        content = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{content}</tr>"

    body = "".join(row(cells, "td") for cells in rows[:_MAX_ROWS])
    others = len(rows) - _MAX_ROWS
    rest = f"<p>and {others} more</p>" if others > 0 else ""
    return f"<table><thead>{row(heads, 'th')}</thead><tbody>{body}</tbody></table>{rest}"


def _rgb(color: str) -> list[int]:
    return [int(color[k : k + 2], 16) for k in (1, 3, 5)]


def _evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spaced indices, the first and the last included."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def _pixel_x(value: float, ends: np.ndarray) -> float:
    """Return the horizontal position of a value between the first and the last of `ends`."""
    return _LEFT + _WIDTH * float((value - ends[0]) / ((ends[-1] - ends[0]) or 1))


def _pixel_y(value: float, ends: np.ndarray) -> float:
    """Return the vertical position of a value, with the last of `ends` at the top."""
    return _TOP + _HEIGHT * (1 - float((value - ends[0]) / ((ends[-1] - ends[0]) or 1)))


def _resample(values: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the value of the cell nearest to each pixel, (height, width), with b upward."""
    nearest = []
    for axis, pixels in ((a, _WIDTH), (b, _HEIGHT)):
        centers = axis[0] + (np.arange(pixels) + 0.5) / pixels * (axis[-1] - axis[0])
        nearest.append(np.searchsorted((axis[1:] + axis[:-1]) / 2, centers))
    return values[np.ix_(*nearest)].T[::-1]


def _image(index: np.ndarray, palette: list[list[int]]) -> str:
    """Return an SVG image element that contains indices into a palette as a PNG (ISO/IEC 15948)."""
    rows, columns = index.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    # Each row begins with its filter type, 0.
    filtered_rows = np.pad(index.astype(np.uint8), ((0, 0), (1, 0))).tobytes()
    chunks = (
        (b"IHDR", header),
        (b"PLTE", bytes(itertools.chain.from_iterable(palette))),
        (b"IDAT", zlib.compress(filtered_rows, 9)),
        (b"IEND", b""),
    )
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    rectangle = f'x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<image {rectangle} preserveAspectRatio="none" href="{source}"/>'


def _framed(picture: str, x: np.ndarray, y: np.ndarray, names: tuple[str, str]) -> str:
    """Return an SVG of a picture with two axes, their names, and ticks at the ends and middles."""
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    ticks: list[tuple[float, float, str, str]] = []
    for fraction in (0, 0.5, 1):
        across, up = (ends[0] + fraction * (ends[-1] - ends[0]) for ends in (x, y))
        ticks.append((_LEFT + fraction * _WIDTH, bottom + 16, "middle", f"{across:.4g}"))
        ticks.append((_LEFT - 6, bottom - fraction * _HEIGHT + 4, "end", f"{up:.4g}"))
    ticks.append((_LEFT + 0.25 * _WIDTH, bottom + 16, "middle", names[0]))
    ticks.append((_LEFT - 6, bottom - 0.25 * _HEIGHT + 4, "end", names[1]))
    labels = "".join(
        f'<text x="{left:.0f}" y="{top:.0f}" text-anchor="{anchor}">{html.escape(label)}</text>'
        for left, top, anchor, label in ticks
    )
    frame = f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="currentColor"/>'
    return (
        f'<svg width="{right + 30}" height="{bottom + 24}" fill="currentColor" '
        f'font-family="sans-serif" font-size="12">{picture}{frame}{labels}</svg>'
    )
