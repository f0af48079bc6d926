"""Small pictures of results for notebooks, in HTML that holds all it needs: no scripts, no plotly.

They show everywhere where HTML does, also in documents, on pages that run no scripts and offline,
and a notebook of many of them stays small. Figures to look at closely are `plot`'s.
"""

import base64
import html
import itertools
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

# Matplotlib's Viridis (van der Walt and Smith 2015) at ten places, as `plot` has it.
_VIRIDIS = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e",
    "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
# Okabe and Ito's colors for the color-blind.
_KINDS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_HOLE = "#bbbbbb"
_LEFT, _TOP, _WIDTH, _HEIGHT = 64, 8, 320, 220
"""Where the picture is, in pixels."""
_MOST_LINES = 50
_MOST_ROWS = 20


def text(of: object) -> str:
    """A result's own words."""
    return f'<pre style="margin: 0; white-space: pre-wrap">{html.escape(repr(of))}</pre>'


def paragraph(words: str) -> str:
    """A sentence below a table."""
    return f"<p>{html.escape(words)}</p>"


def surface(
    values: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    names: tuple[str, str],
    ends: tuple[float, float],
    lowest: tuple[float, float],
) -> str:
    """Losses, (n1, n2), between two ends as colors over both coordinates; holes are gray.

    The lowest is marked where it is. Of the losses no more is read than is drawn.
    """
    low, high = ends
    anchors = np.array([_rgb(color) for color in _VIRIDIS], float)
    places = np.linspace(0, len(anchors) - 1, 255)
    ramp = np.stack([np.interp(places, range(len(anchors)), part) for part in anchors.T], axis=1)
    # As far apart as float32 is wide, losses have a difference in float64 only.
    shown = _shrunk(values, a, b).astype(float)
    share = np.where(np.isfinite(shown), (shown - low) / ((high - low) or 1), 0)
    index = np.where(np.isfinite(shown), (254 * np.clip(share, 0, 1)).round(), 255)
    picture = _image(index, [*ramp.round().astype(int).tolist(), _rgb(_HOLE)])
    x, y = _across(lowest[0], a), _up(lowest[1], b)
    picture += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="white" stroke="black"/>'
    return _framed(picture, a, b, names)


def kinds(labels: np.ndarray, a: np.ndarray, b: np.ndarray, names: tuple[str, str]) -> str:
    """Whole numbers, (n1, n2), each as a color of its own over both coordinates; -1 is gray."""
    shown = _shrunk(labels, a, b)
    index = np.where(shown < 0, 255, shown % len(_KINDS))
    palette = [_rgb(_KINDS[k % len(_KINDS)]) for k in range(255)] + [_rgb(_HOLE)]
    return _framed(_image(index, palette), a, b, names)


def lines(x: np.ndarray, ys: np.ndarray, names: tuple[str, str]) -> str:
    """Curves, (K, n), over x, (n,); of many, 50 spread evenly over them; gaps are not finite."""
    shown = np.asarray(ys, float)
    shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), _MOST_LINES)).round().astype(int)]
    finite = shown[np.isfinite(shown)]
    ends = np.array([finite.min(), finite.max()] if finite.size else [0, 1], float)
    x = np.asarray(x, float)
    kept = np.linspace(0, len(x) - 1, min(len(x), 400)).round().astype(int)
    color, width = (_KINDS[0], 2) if len(shown) == 1 else (_KINDS[0], 0.8)
    drawn = []
    for y in shown:
        pen, path = "M", []
        for k in kept:
            if np.isfinite(y[k]):
                path.append(f"{pen}{_across(x[k], x):.1f} {_up(y[k], ends):.1f}")
            pen = "L" if np.isfinite(y[k]) else "M"
        style = f'fill="none" stroke="{color}" stroke-width="{width}"'
        drawn.append(f'<path d="{"".join(path)}" {style}/>')
    return _framed("".join(drawn), x, ends, names)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, 20 rows at most."""

    def row(cells: Iterable[str], tag: str) -> str:
        inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inside}</tr>"

    body = "".join(row(cells, "td") for cells in rows[:_MOST_ROWS])
    more = len(rows) - _MOST_ROWS
    rest = f"<p>and {more} more</p>" if more > 0 else ""
    return f"<table><thead>{row(heads, 'th')}</thead><tbody>{body}</tbody></table>{rest}"


def _rgb(color: str) -> list[int]:
    return [int(color[k : k + 2], 16) for k in (1, 3, 5)]


def _across(value: float, ends: np.ndarray) -> float:
    return _LEFT + _WIDTH * float((value - ends[0]) / ((ends[-1] - ends[0]) or 1))


def _up(value: float, ends: np.ndarray) -> float:
    return _TOP + _HEIGHT * (1 - float((value - ends[0]) / ((ends[-1] - ends[0]) or 1)))


def _shrunk(values: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(rows, columns) of a picture: of each pixel the nearest cell's value, b upward."""
    nearest = []
    for axis, pixels in ((a, _WIDTH), (b, _HEIGHT)):
        where = axis[0] + (np.arange(pixels) + 0.5) / pixels * (axis[-1] - axis[0])
        nearest.append(np.searchsorted((axis[1:] + axis[:-1]) / 2, where))
    return values[np.ix_(*nearest)].T[::-1]


def _image(index: np.ndarray, palette: list[list[int]]) -> str:
    """Colors by their index in a palette as a PNG within SVG (ISO/IEC 15948)."""
    rows, columns = index.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    lines_of_pixels = np.pad(index.astype(np.uint8), ((0, 0), (1, 0))).tobytes()
    parts = (
        (b"IHDR", header),
        (b"PLTE", bytes(itertools.chain.from_iterable(palette))),
        (b"IDAT", zlib.compress(lines_of_pixels, 9)),
        (b"IEND", b""),
    )
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    place = f'x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<image {place} preserveAspectRatio="none" href="{source}"/>'


def _framed(inside: str, x: np.ndarray, y: np.ndarray, names: tuple[str, str]) -> str:
    """A picture in a frame, with what its sides are called, where they end and their middle."""
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    words: list[tuple[float, float, str, str]] = []
    for share in (0, 0.5, 1):
        across, up = (ends[0] + share * (ends[-1] - ends[0]) for ends in (x, y))
        words.append((_LEFT + share * _WIDTH, bottom + 16, "middle", f"{across:.4g}"))
        words.append((_LEFT - 6, bottom - share * _HEIGHT + 4, "end", f"{up:.4g}"))
    words.append((_LEFT + 0.25 * _WIDTH, bottom + 16, "middle", names[0]))
    words.append((_LEFT - 6, bottom - 0.25 * _HEIGHT + 4, "end", names[1]))
    labels = "".join(
        f'<text x="{left:.0f}" y="{top:.0f}" text-anchor="{anchor}">{html.escape(word)}</text>'
        for left, top, anchor, word in words
    )
    frame = f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="currentColor"/>'
    return (
        f'<svg width="{right + 30}" height="{bottom + 24}" fill="currentColor" '
        f'font-family="sans-serif" font-size="12">{inside}{frame}{labels}</svg>'
    )
