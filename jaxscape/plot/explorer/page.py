"""One page, to descend on a loss surface by hand: no server, no network, all of it in one file."""

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

from jaxscape._util.files import replacing
from jaxscape.data.dataset import Dataset
from jaxscape.plot.explorer.polynomials import DEGREE, Panels, panels
from jaxscape.plot.parts import paths

_MOST_DRAWN = 400
"""Points of a set; more hide each other."""
# plotly draws surfaces with functions that it makes from text.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


@dataclass(frozen=True)
class Explorer:
    """A page that runs descents where its reader clicks; a notebook shows it in a frame."""

    html: str
    """The whole page."""

    def write_html(self, file: str | os.PathLike) -> None:
        """Write the page; an existing file is replaced in one step.

        Args:
            file: by convention ending in `.html`.

        Raises:
            ValueError: a folder that is not there, or a folder where the file should be.

        Example:
            >>> page = jxs.plot.explore(jxs.data.noisy_sine(jax.random.key(0)))
            >>> page.write_html("explorer.html")
            >>> Path("explorer.html").stat().st_size < 6e6
            True
        """
        with replacing(file) as target:
            target.write(self.html.encode())

    def __repr__(self) -> str:
        return f"Explorer({len(self.html.encode()) / 1e6:.1f} MB, write_html(file) keeps it)"

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
    """A page on which every click starts a descent of the two-weight network, to be watched.

    The mean squared error (no other loss) of f(x) = w2·tanh(w1·x) is a parabola in w2; what it is
    along w1 goes into the page as polynomials, so that a step there costs the same for any number
    of samples. They are right to 1e-13 of the loss plus the mean of y², beyond the box and at any
    w1 as well, and are summed here in float64, in about 3 s per 100,000 samples. The optimizers
    are optax's, with all samples in every step.

    Args:
        train: the training set, x and y of shape (n,); weighted if it has sample weights.
        test: a second set whose loss is shown beside.
        w1, w2: (lo, hi) of each weight, what is drawn.

    Returns:
        The page, for `write_html` or as a notebook's output.

    Raises:
        TypeError: data that are no Dataset, or ends that are no numbers.
        ValueError: inputs or targets of another shape, numbers that are not finite or whose
            squares are not, or lo that is not below hi.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.plot.explore(data, w1=(-2, 3), w2=(-1, 2))
        Explorer(4... MB, write_html(file) keeps it)
    """
    given = {
        "train": _described("train", train),
        "test": None if test is None else _described("test", test),
        "box": {"w1": _ends("w1", w1), "w2": _ends("w2", w2)},
        "colors": paths.PATH_COLORS,
    }
    page = importlib.resources.files("jaxscape.plot.explorer")
    parts = {name: (page / f"js/{name}.js").read_text("utf-8") for name in _SCRIPTS} | {
        "css": (page / "explorer.css").read_text("utf-8"),
        "plotly": get_plotlyjs(),
        "policy": _POLICY,
        # A "</script>" could not come from numbers and names of ours, and shall not.
        "data": json.dumps(given, allow_nan=False).replace("</", "<\\/"),
    }
    template = (page / "explorer.html").read_text("utf-8")
    return Explorer(re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template))


_SCRIPTS = ("numerics", "drawing", "explorer")


def _described(name: str, data: Any) -> dict[str, Any]:
    """What the page knows of a set: its error along w1, its size, and points to draw."""
    if not isinstance(data, Dataset):
        raise TypeError(f"{name}: expected a Dataset(x, y), got {type(data).__name__}")
    x, y = (np.asarray(array).astype(np.float64) for array in (data.x, data.y))
    for letter, array in (("x", x), ("y", y)):
        if array.ndim != 1:
            raise ValueError(
                f"{name}: expected one input and one target a sample, {letter} of shape (n,), "
                f"got {array.shape}"
            )
        with np.errstate(over="ignore"):
            if not np.isfinite(array @ array):
                raise ValueError(
                    f"{name}: expected finite numbers with a finite sum of squares, got {letter} "
                    f"from {array.min():g} to {array.max():g}"
                )
    weight = None if data.sample_weight is None else np.asarray(data.sample_weight, np.float64)
    # Every k-th in the order of x, so that they are spread as all are.
    order = np.argsort(x, kind="stable")
    drawn = order[np.linspace(0, len(x) - 1, min(len(x), _MOST_DRAWN)).round().astype(int)]
    return {
        "panels": _packed(panels(x, y, weight)),
        "samples": len(x),
        "weighted": weight is not None,
        "drawn": {"x": _short(x[drawn]), "y": _short(y[drawn])},
    }


def _packed(of: Panels) -> dict[str, Any]:
    arrays = {name: getattr(of, name) for name in ("ends", "coefficients", "limits")}
    return {
        "scale": of.scale,
        "terms": DEGREE + 1,
        **{name: base64.b64encode(a.astype("<f8")).decode() for name, a in arrays.items()},
    }


def _short(values: np.ndarray) -> list[float]:
    """Numbers as a picture needs them."""
    return [float(f"{value:.6g}") for value in values]


def _ends(name: str, ends: Any) -> tuple[float, float]:
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
