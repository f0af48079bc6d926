"""The figure of a spectrum: how the eigenvalues of a model's curvature lie."""

import math

import numpy as np
import plotly.graph_objects as go

from jaxscape.curvature.spectrum import Eigenpairs, SpectralDensity
from jaxscape.plot.parts import layout

# Okabe and Ito's colors for the color-blind.
_COLORS = "#0072b2", "#d55e00"
# The axis goes so far below the height of a single eigenvalue.
_BELOW_ONE = 0.03


def spectrum(
    density: SpectralDensity, eigenpairs: Eigenpairs | None = None, dark: bool = False
) -> go.Figure:
    """The density of eigenvalues on a log scale, with its error, and single eigenvalues as marks.

    A mark stands at the height that the density has about one eigenvalue alone, so that a peak of
    the density below it is of less than one. The axis ends a little below that.

    Args:
        density: what `spectral_density` returned.
        eigenpairs: what `eigenpairs` returned; those that have not converged are open.
        dark: light lines on a dark ground.

    Returns:
        The figure.

    Raises:
        TypeError: anything else.
        ValueError: a density that is not finite.

    Example:
        >>> data, key = jxs.data.teacher_student(jax.random.key(0)), jax.random.key(1)
        >>> point = jxs.squared_error, data, jxs.Weights(1.5, 0.8)
        >>> density = jxs.curvature.spectral_density(*point, key)
        >>> figure = jxs.plot.spectrum(density, jxs.curvature.eigenpairs(*point, 1, key))
        >>> [trace.name for trace in figure.data]
        ['density', '1 eigenvalue']
    """
    if not isinstance(density, SpectralDensity):
        raise TypeError(f"density: expected a SpectralDensity, got {type(density).__name__}")
    if not isinstance(eigenpairs, Eigenpairs | None):
        raise TypeError(f"eigenpairs: expected Eigenpairs, got {type(eigenpairs).__name__}")
    if not np.isfinite(density.density).all():
        raise ValueError("density: expected a finite one, got one with products that are not")
    figure = go.Figure()
    single = 1 / (density.size * density.width * math.sqrt(2 * math.pi))
    floor = _BELOW_ONE * single
    blue, red = (layout.mix_color(color, 255, 0.35 * dark) for color in _COLORS)
    if density.error.any() and np.isfinite(density.error).all():
        _add_band(figure, density, floor, blue)
    figure.add_scatter(
        x=density.eigenvalues,
        # A log scale has no zero.
        y=np.where(density.density > 0, density.density, np.nan),
        mode="lines",
        line={"color": blue, "width": 2.5},
        name="density",
        hovertemplate="eigenvalue %{x:.5~g}<br>density %{y:.3~g}<extra></extra>",
    )
    if eigenpairs is not None:
        _add_marks(figure, eigenpairs, single, red)
    top = (density.density + np.nan_to_num(density.error)).max()
    figure.update_xaxes(title="eigenvalue", zeroline=True, zerolinewidth=2, zerolinecolor="#808080")
    figure.update_yaxes(
        title="density",
        type="log",
        exponentformat="power",
        dtick=max(1, math.ceil(math.log10(top / floor) / 8)),
        range=[math.log10(floor), math.log10(2 * top)],
    )
    return layout.finish(figure, f"Spectrum of the {density.name}", _notes(density), dark)


def _add_band(figure: go.Figure, density: SpectralDensity, floor: float, color: str) -> None:
    """The density give or take its error, down to below the axis where that is under 0."""
    low, high = (density.density + sign * density.error for sign in (-1, 1))
    below = floor / 10
    figure.add_scatter(
        x=np.concatenate([density.eigenvalues, density.eigenvalues[::-1]]),
        y=np.concatenate([np.maximum(high, below), np.maximum(low, below)[::-1]]),
        fill="toself",
        fillcolor=f"rgba{color[3:-1]}, 0.35)",
        line={"width": 0},
        mode="lines",
        name="± standard error",
        hoverinfo="skip",
    )


def _add_marks(figure: go.Figure, pairs: Eigenpairs, height: float, color: str) -> None:
    """Single eigenvalues; those that were not found are no marks."""
    for converged in (True, False):
        kept = (pairs.converged == converged) & np.isfinite(pairs.values)
        count = int(kept.sum())
        if not count:
            continue
        figure.add_scatter(
            x=pairs.values[kept],
            y=np.full(count, height),
            customdata=pairs.residual[kept],
            mode="markers",
            marker={
                "symbol": "diamond" if converged else "diamond-open",
                "color": color,
                "size": 11,
                "line": layout.OUTLINE if converged else {"width": 2},
            },
            name=f"{count} eigenvalue{'s' * (count > 1)}"
            if converged
            else f"{count} not converged",
            cliponaxis=False,
            hovertemplate="eigenvalue %{x:.6~g}<br>give or take %{customdata:.2~g}<extra></extra>",
        )


def _notes(density: SpectralDensity) -> list[str]:
    probes, steps = density.nodes.shape
    how = f"from {probes} random vector{'s' * (probes > 1)}, {steps} steps of Lanczos's method each"
    if steps == density.size:
        how = "all of them computed"
    return [
        f"{density.size:,} eigenvalues, {how}",
        f"Gaussian kernel of standard deviation {density.width:.3g}",
    ]
