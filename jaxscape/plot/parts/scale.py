"""How losses become heights and colors: linear or logarithmic, and where the colors end."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from jaxscape.results.landscape import Landscape

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# More would run into one another on a small figure.
_MOST_TICKS = 7
# Above a surface, in parts of its height: on it things would fight with it for every pixel.
_LIFT = 0.012


class Scale(NamedTuple):
    """One scale for all losses of a figure."""

    log: bool
    """Whether heights and colors are the losses' decimal logarithms."""
    lowest: float
    highest: float
    """The lowest and the highest finite loss of the surfaces; of logarithms the lowest above 0."""
    top: float
    """The loss at which the colors end; higher ones have the same color."""
    zeros: int = 0
    """How many cells have a loss of 0, which has no logarithm: they are drawn as the lowest."""

    def heights(self, loss: np.ndarray) -> np.ndarray:
        """Losses as they are drawn; on a log scale none is lower than the surfaces' lowest."""
        return np.log10(np.maximum(loss, self.lowest)) if self.log else loss

    def lift(self, way: np.ndarray, times: float) -> np.ndarray:
        """Points (K, 3) of coordinates and loss, as drawn so many times a hair above a surface."""
        low, high = self.heights(np.array([self.lowest, self.highest]))
        lift = times * _LIFT * ((high - low) or 1.0)
        return np.column_stack([way[:, :2], self.heights(way[:, 2]) + lift])

    @property
    def color_range(self) -> tuple[float, float]:
        """Where the colors begin and end, as drawn."""
        low, top = self.heights(np.array([self.lowest, self.top]))
        return float(low), float(top)

    @property
    def notes(self) -> list[str]:
        """What to say of it in the figure."""
        said = ["log scale"] if self.log else []
        if self.top < self.highest:
            said.append(f"colors end at {self.top:.4g}, losses at {self.highest:.4g}")
        notes = [", ".join(said)] if said else []
        if self.zeros:
            cells = (
                "1 cell of loss 0 is" if self.zeros == 1 else f"{self.zeros} cells of loss 0 are"
            )
            notes.append(f"{cells} drawn as the lowest above, {self.lowest:.4g}")
        return notes

    def ticks(self, top: float | None = None, most: int = _MOST_TICKS) -> dict[str, Any]:
        """Ticks in units of the loss, up to `top`; none on a linear scale, where plotly's are."""
        if not self.log:
            return {}
        values = _log_ticks(self.lowest, self.highest if top is None else top, most)
        return {"tickvals": np.log10(values), "ticktext": _texts(values)}


def common_scale(
    landscapes: Sequence[Landscape], log: bool = False, clip: float | None = None
) -> Scale:
    """One scale for some landscapes, each with a finite loss.

    Args:
        landscapes: what is drawn.
        log: decimal logarithms.
        clip: the share of finite cells, above 0 to 1, whose colors differ.

    Raises:
        TypeError, ValueError: no such share, or losses below 0 or none above it for logarithms.
    """
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, Real)):
        raise TypeError(f"clip: expected a number above 0, at most 1, got {clip!r}")
    if clip is not None and not 0 < clip <= 1:
        raise ValueError(f"clip: expected a share of cells above 0, at most 1, got {clip}")
    extents = [(landscape.lowest, landscape.highest) for landscape in landscapes]
    lowest = min(cell.loss for cell, _ in extents if cell is not None)
    highest = max(high for _, high in extents if high is not None)
    zeros = 0
    if log and lowest <= 0:
        losses = np.concatenate([np.ravel(landscape.loss) for landscape in landscapes])
        zeros, negative = int((losses == 0).sum()), int((losses < 0).sum())
        if negative or highest <= 0:
            raise ValueError(
                f"log: expected losses above 0, got {negative} of {losses.size} cells below 0 and "
                f"{zeros} at 0"
            )
        lowest = float(losses[(losses > 0) & np.isfinite(losses)].min())
    top = highest
    if clip is not None:
        losses = [np.asarray(landscape.loss) for landscape in landscapes]
        finite = np.concatenate([loss[np.isfinite(loss)] for loss in losses])
        top = float(np.quantile(finite, clip))
        # A scale of no length has no colors.
        top = top if top > lowest else highest
    return Scale(log, lowest, highest, top, zeros)


def _log_ticks(low: float, high: float, most: int) -> np.ndarray:
    """Round losses between two above 0: powers of ten, or where these are few, others too."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = np.arange(first, last + 1)
    if len(powers) > 2:
        return 10.0 ** powers[:: -(-len(powers) // most)]
    steps = 10.0 ** np.arange(first - 1, last + 2)[:, None] * np.array([1, 2, 5])
    values = steps[(steps >= low) & (steps <= high)]
    # Every second or third of too many, as linear steps would all lie near the highest.
    values = values[:: -(-len(values) // most) or 1]
    if len(values) > 2:
        return values
    if low == high:
        return np.array([low])
    rough = (high - low) / (most - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(k for k in (1, 2, 5, 10) if k * unit >= rough)
    return step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)


def _texts(values: np.ndarray) -> list[str]:
    """Ticks' texts: plain numbers, or powers of ten where these would be long."""
    if values[0] >= 1e-3 and values[-1] < 1e5:
        # More digits where ticks lie close together.
        texts = [[f"{value:.{digits}g}" for value in values] for digits in (6, 12)]
        return next((text for text in texts if len(set(text)) == len(text)), texts[-1])
    return [_power(value) for value in values]


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.3e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if float(mantissa) == 1 else f"{float(mantissa):g}·{power}"
