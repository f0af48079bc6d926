"""The scale of a figure, linear or logarithmic: heights, color range and ticks."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxscape._util.checks import check_number
from jaxscape.results.landscape import Landscape

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# More ticks would overlap in a small figure.
_MAX_TICKS = 7
# Distance of overlays above a surface, relative to the surface's height. Without it, overlay and
# surface alternate from pixel to pixel.
_LIFT = 0.012


class Scale(NamedTuple):
    """The scale that all losses of a figure share."""

    log: bool
    """Whether heights and colors show the decimal logarithm of the loss."""
    lowest: float
    """The lowest finite loss of the surfaces; on a log scale, the lowest positive one."""
    highest: float
    """The highest finite loss of the surfaces."""
    top: float
    """The loss at which the colors end; all higher losses have the last color."""
    zeros: int = 0
    """The number of cells with loss 0, which a log scale draws at the lowest positive loss."""

    def heights(self, loss: np.ndarray) -> np.ndarray:
        """Return the drawn heights of losses; a log scale raises losses below `lowest` to it."""
        return np.log10(np.maximum(loss, self.lowest)) if self.log else loss

    def lift(self, points: np.ndarray, factor: float) -> np.ndarray:
        """Return the drawn positions of points slightly above the surface.

        Args:
            points: (K, 3) coordinates and losses.
            factor: the distance above the surface, in units of the default one.
        """
        low, high = self.heights(np.array([self.lowest, self.highest]))
        lift = factor * _LIFT * ((high - low) or 1.0)
        return np.column_stack([points[:, :2], self.heights(points[:, 2]) + lift])

    @property
    def color_range(self) -> tuple[float, float]:
        """The drawn heights at which the colors begin and end."""
        low, top = self.heights(np.array([self.lowest, self.top]))
        return float(low), float(top)

    @property
    def notes(self) -> list[str]:
        """The figure's notes about the scale."""
        parts = ["log scale"] if self.log else []
        if self.top < self.highest:
            parts.append(f"colors end at {self.top:.4g}, losses at {self.highest:.4g}")
        notes = [", ".join(parts)] if parts else []
        if self.zeros:
            cells = (
                "1 cell with loss 0 is"
                if self.zeros == 1
                else f"{self.zeros} cells with loss 0 are"
            )
            notes.append(f"{cells} drawn at the lowest positive loss, {self.lowest:.4g}")
        return notes

    def ticks(self, top: float | None = None, max_ticks: int = _MAX_TICKS) -> dict[str, Any]:
        """Return plotly's tick options for a log scale, labeled with losses.

        For a linear scale, there are no options: plotly chooses the ticks.

        Args:
            top: the highest tick; None for the highest loss.
            max_ticks: about how many ticks there may be.
        """
        if not self.log:
            return {}
        values = _log_ticks(self.lowest, self.highest if top is None else top, max_ticks)
        return {"tickvals": np.log10(values), "ticktext": _tick_labels(values)}


def common_scale(
    landscapes: Sequence[Landscape], log: bool = False, clip: float | None = None
) -> Scale:
    """Return one scale for several landscapes.

    Args:
        landscapes: the surfaces, each with a finite loss.
        log: whether heights and colors show the decimal logarithm of the loss.
        clip: the fraction of finite cells, above 0 and at most 1, that the color range covers;
            all higher losses have the last color. None for all cells.

    Raises:
        TypeError: `clip` is not a number.
        ValueError: `clip` is not above 0 and at most 1; or `log` is set and a loss is negative or
            none is positive.
    """
    if clip is not None and not 0 < check_number("clip", clip) <= 1:
        raise ValueError(f"clip: expected a fraction above 0 and at most 1, got {clip}")
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
        grids = [np.asarray(landscape.loss) for landscape in landscapes]
        finite = np.concatenate([loss[np.isfinite(loss)] for loss in grids])
        top = float(np.quantile(finite, clip))
        # A color range of length 0 has no colors.
        top = top if top > lowest else highest
    return Scale(log, lowest, highest, top, zeros)


def _log_ticks(low: float, high: float, max_ticks: int) -> np.ndarray:
    """Return about `max_ticks` round losses between two positive ones.

    They are powers of ten; if there are at most two of these, 1, 2 and 5 times powers of ten; and
    if there are at most two of these as well, multiples of a round number.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = np.arange(first, last + 1)
    if len(powers) > 2:
        return 10.0 ** powers[:: -(-len(powers) // max_ticks)]
    steps = 10.0 ** np.arange(first - 1, last + 2)[:, None] * np.array([1, 2, 5])
    values = steps[(steps >= low) & (steps <= high)]
    # Keep every second or third of too many; linear steps would crowd near the highest loss.
    values = values[:: -(-len(values) // max_ticks) or 1]
    if len(values) > 2:
        return values
    if low == high:
        return np.array([low])
    rough = (high - low) / (max_ticks - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(k for k in (1, 2, 5, 10) if k * unit >= rough)
    return step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)


def _tick_labels(values: np.ndarray) -> list[str]:
    """Return plain numbers, or powers of ten for numbers that would be long."""
    if values[0] >= 1e-3 and values[-1] < 1e5:
        # Ticks that are close together need more digits to differ.
        candidates = [[f"{value:.{digits}g}" for value in values] for digits in (6, 12)]
        return next(
            (texts for texts in candidates if len(set(texts)) == len(texts)), candidates[-1]
        )
    return [_power_of_ten(value) for value in values]


def _power_of_ten(value: float) -> str:
    mantissa, exponent = f"{value:.3e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if float(mantissa) == 1 else f"{float(mantissa):g}·{power}"
