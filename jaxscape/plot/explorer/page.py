"""The explorer: a self-contained page on which the reader starts descents on a loss surface."""

import base64
import html
import importlib.resources
import json
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from jaxscape._util.checks import check_type
from jaxscape._util.files import replacing
from jaxscape.data.dataset import Dataset
from jaxscape.plot.explorer.polynomials import DEGREE, PiecewisePolynomials, fit_polynomials
from jaxscape.plot.parts.paths import PATH_COLORS

_MAX_DRAWN_SAMPLES = 400
"""More samples of a data set would hide each other."""
_SCRIPTS = ("numerics", "drawing", "explorer")
# Forbid network access. plotly.js needs 'unsafe-eval' to draw surfaces: it compiles functions from
# text.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


@dataclass(frozen=True)
class Explorer:
    """A page that runs descents from the points that its reader clicks.

    A notebook shows it in a frame.
    """

    html: str
    """The content of the page."""

    def write_html(self, file: str | os.PathLike) -> None:
        """Write the page to a file, which replaces an existing file in one step.

        Args:
            file: the file, by convention ending in `.html`.

        Raises:
            ValueError: The file's folder does not exist, or the file is a folder.

        Example:
            >>> page = jxs.plot.explore(jxs.data.noisy_sine(jax.random.key(0)))
            >>> page.write_html("explorer.html")
            >>> Path("explorer.html").stat().st_size < 6e6
            True
        """
        with replacing(file) as target:
            target.write(self.html.encode())

    def __repr__(self) -> str:
        return f"Explorer({len(self.html.encode()) / 1e6:.1f} MB, write_html(file) saves it)"

    def _repr_html_(self) -> str:
        page = html.escape(self.html)
        return f'<iframe srcdoc="{page}" style="width:100%; height:820px; border:0"></iframe>'


def explore(
    train: Dataset,
    test: Dataset | None = None,
    *,
    w1: tuple[float, float] = (-3.0, 3.0),
    w2: tuple[float, float] = (-3.0, 3.0),
) -> Explorer:
    """Create a page on which every click starts a descent of the two-weight network.

    The loss is the mean squared error of f(x) = w2·tanh(w1·x), a parabola in w2 for each w1. The
    page holds the parabola's coefficients as polynomials of w1, so a step costs the same for any
    number of samples. At every w1, also outside of the drawn range, the error is at most 1e-13 of
    the loss plus the mean of y². The polynomials are computed here in float64, in about 3 s per
    100,000 samples. The optimizers are those of optax, with full-batch steps.

    Args:
        train: the training set, x and y of shape (n,), with or without sample weights.
        test: a test set, whose loss the page shows, too; None for none.
        w1: (lo, hi), the drawn range of w1.
        w2: (lo, hi), the drawn range of w2.

    Returns:
        The page, for `write_html` or as the output of a notebook's cell.

    Raises:
        TypeError: `train` or `test` is not a `Dataset`, or a range is not two numbers.
        ValueError: Inputs or targets do not have shape (n,), they or their sum of squares are not
            finite, or a range does not have lo < hi.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.plot.explore(data, w1=(-2, 3), w2=(-1, 2))
        Explorer(4... MB, write_html(file) saves it)
    """
    content = {
        "train": _page_data("train", train),
        "test": None if test is None else _page_data("test", test),
        "box": {"w1": _check_range("w1", w1), "w2": _check_range("w2", w2)},
        "colors": PATH_COLORS,
    }
    folder = importlib.resources.files("jaxscape.plot.explorer")
    parts = {name: (folder / f"js/{name}.js").read_text("utf-8") for name in _SCRIPTS} | {
        "css": (folder / "explorer.css").read_text("utf-8"),
        "plotly": get_plotlyjs(),
        "policy": _CONTENT_SECURITY_POLICY,
        # "</script>" in the data would end the script element.
        "data": json.dumps(content, allow_nan=False).replace("</", "<\\/"),
    }
    template = (folder / "explorer.html").read_text("utf-8")
    return Explorer(re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template))


def _page_data(name: str, data: Any) -> dict[str, Any]:
    """Return the page's data of a data set: the polynomials, the size, and samples to draw."""
    check_type(name, data, Dataset, "a Dataset(x, y)")
    x, y = (np.asarray(array).astype(np.float64) for array in (data.x, data.y))
    for letter, array in (("x", x), ("y", y)):
        if array.ndim != 1:
            raise ValueError(
                f"{name}: expected one input and one target per sample, {letter} of shape (n,), "
                f"got {array.shape}"
            )
        with np.errstate(over="ignore"):
            if not np.isfinite(array @ array):
                raise ValueError(
                    f"{name}: expected finite numbers with a finite sum of squares, got {letter} "
                    f"from {array.min():g} to {array.max():g}"
                )
    weight = None if data.sample_weight is None else np.asarray(data.sample_weight, np.float64)
    # Evenly spaced samples in the order of x are distributed like all samples.
    order = np.argsort(x, kind="stable")
    count = min(len(x), _MAX_DRAWN_SAMPLES)
    drawn = order[np.linspace(0, len(x) - 1, count).round().astype(int)]
    return {
        "polynomials": _pack(fit_polynomials(x, y, weight)),
        "samples": len(x),
        "weighted": weight is not None,
        "drawn": {"x": _round(x[drawn]), "y": _round(y[drawn])},
    }


def _pack(polynomials: PiecewisePolynomials) -> dict[str, Any]:
    """Return polynomials for JSON, with arrays as base64 of little-endian float64 numbers."""
    arrays = {name: getattr(polynomials, name) for name in ("ends", "coefficients", "limits")}
    return {
        "scale": polynomials.scale,
        "terms": DEGREE + 1,
        **{name: base64.b64encode(a.astype("<f8")).decode() for name, a in arrays.items()},
    }


def _round(values: np.ndarray) -> list[float]:
    """Round numbers to six digits, enough to draw them."""
    return [float(f"{value:.6g}") for value in values]


def _check_range(name: str, ends: Any) -> tuple[float, float]:
    """Return a range (lo, hi) as floats.

    Raises:
        TypeError: The range is not two numbers.
        ValueError: The numbers are not finite, or lo is not below hi.
    """
    expected = f"{name}: expected (lo, hi), two finite numbers lo < hi"
    if not (isinstance(ends, tuple | list) and len(ends) == 2):
        raise TypeError(f"{expected}, got {ends!r}")
    try:
        lo, hi = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, got {ends!r}") from None
    if not -np.inf < lo < hi < np.inf:
        raise ValueError(f"{expected}, got {ends!r}")
    return lo, hi
