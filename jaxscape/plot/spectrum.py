"""Draw the spectral density of a curvature matrix and single eigenvalues."""

import math

import numpy as np
import plotly.graph_objects as go

from jaxscape._util import colors
from jaxscape._util.checks import check_type
from jaxscape.curvature.spectrum import Eigenpairs, SpectralDensity
from jaxscape.plot.parts import layout

_FLOOR = 0.03
"""The lower end of the density axis, relative to the peak of one isolated eigenvalue."""


def spectrum(
    density: SpectralDensity, eigenpairs: Eigenpairs | None = None, dark: bool = False
) -> go.Figure:
    """Draw the density of eigenvalues on a log scale, with its error and single eigenvalues.

    Single eigenvalues are marked at the density's peak for one isolated eigenvalue. A lower peak of
    the density stands for less than one eigenvalue. The density axis begins at 3 % of this height.

    Args:
        density: the result of `spectral_density`.
        eigenpairs: the result of `eigenpairs`. Markers of those that did not converge are open.
        dark: whether the background is dark.

    Returns:
        The figure.

    Raises:
        TypeError: An argument has another type than described above.
        ValueError: The density is not finite.

    Example:
        >>> data, key = jxs.data.teacher_student(jax.random.key(0)), jax.random.key(1)
        >>> point = jxs.squared_error, data, jxs.Weights(1.5, 0.8)
        >>> density = jxs.curvature.spectral_density(*point, key)
        >>> figure = jxs.plot.spectrum(density, jxs.curvature.eigenpairs(*point, 1, key))
        >>> [trace.name for trace in figure.data]
        ['density', '1 eigenvalue']
    """
    check_type("density", density, SpectralDensity)
    if eigenpairs is not None:
        check_type("eigenpairs", eigenpairs, Eigenpairs, "Eigenpairs")
    if not np.isfinite(density.density).all():
        raise ValueError(
            "density: expected a finite density, got one of a matrix whose products are not finite"
        )
    figure = go.Figure()
    peak = 1 / (density.size * density.width * math.sqrt(2 * math.pi))
    floor = _FLOOR * peak
    density_color, marker_color = (
        layout.mix_color(color, 255, 0.35 * dark) for color in (colors.BLUE, colors.VERMILION)
    )
    if density.error.any() and np.isfinite(density.error).all():
        _add_error(figure, density, floor, density_color)
    figure.add_scatter(
        x=density.eigenvalues,
        # A log scale cannot show 0.
        y=np.where(density.density > 0, density.density, np.nan),
        mode="lines",
        line={"color": density_color, "width": 2.5},
        name="density",
        hovertemplate="eigenvalue %{x:.5~g}<br>density %{y:.3~g}<extra></extra>",
    )
    if eigenpairs is not None:
        _add_eigenvalues(figure, eigenpairs, peak, marker_color)
    top = (density.density + np.nan_to_num(density.error)).max()
    figure.update_xaxes(
        title="eigenvalue", zeroline=True, zerolinewidth=2, zerolinecolor=colors.GRAY
    )
    figure.update_yaxes(
        title="density",
        type="log",
        exponentformat="power",
        dtick=max(1, math.ceil(math.log10(top / floor) / 8)),
        range=[math.log10(floor), math.log10(2 * top)],
    )
    return layout.finish(figure, f"Spectrum of the {density.name}", _notes(density), dark)


def _add_error(figure: go.Figure, density: SpectralDensity, floor: float, color: str) -> None:
    """Fill the range of one standard error around the density; values below 0 go off the axis."""
    low, high = density.density - density.error, density.density + density.error
    off_axis = floor / 10
    figure.add_scatter(
        x=np.concatenate([density.eigenvalues, density.eigenvalues[::-1]]),
        y=np.concatenate([np.maximum(high, off_axis), np.maximum(low, off_axis)[::-1]]),
        fill="toself",
        fillcolor=f"rgba{color[3:-1]}, 0.35)",
        line={"width": 0},
        mode="lines",
        name="± standard error",
        hoverinfo="skip",
    )


def _add_eigenvalues(figure: go.Figure, pairs: Eigenpairs, height: float, color: str) -> None:
    """Mark single eigenvalues, without those that are not finite."""
    for converged in (True, False):
        shown = (pairs.converged == converged) & np.isfinite(pairs.values)
        count = int(shown.sum())
        if not count:
            continue
        figure.add_scatter(
            x=pairs.values[shown],
            y=np.full(count, height),
            customdata=pairs.residual[shown],
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
            hovertemplate="eigenvalue %{x:.6~g}<br>± %{customdata:.2~g}<extra></extra>",
        )


def _notes(density: SpectralDensity) -> list[str]:
    probes, steps = density.nodes.shape
    if steps == density.size:
        source = "all computed"
    else:
        source = f"from {probes} random vector{'s' * (probes > 1)} with {steps} Lanczos steps each"
    return [
        f"{density.size:,} eigenvalues, {source}",
        f"Gaussian kernel with standard deviation {density.width:.3g}",
    ]
