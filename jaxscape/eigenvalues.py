"""What is known of the eigenvalues of a model's curvature."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxscape import lanczos, sketch
from jaxscape.plane import Plane


class Eigenpairs(NamedTuple):
    """The k outermost eigenvalues of a matrix of n parameters by n, and their eigenvectors."""

    values: np.ndarray
    """(k,) float64: the outermost first; NaN for one that was not found."""
    vectors: Any
    """The structure of the parameters, each floating leaf with a leading axis k, `None` for others:
    directions of length 1, as `lines` and `Plane` take them."""
    residual: np.ndarray
    """(k,) float64: ‖H·v - value·v‖. The matrix has an eigenvalue no farther than this away."""
    converged: np.ndarray
    """(k,) bool: whether the residual is within the tolerance."""
    name: str
    """What the matrix is called in figures."""

    def plane(self, params: Any, pairs: tuple[int, int] = (0, 1)) -> Plane:
        """The plane of two eigenvectors, through the parameters that they were found at.

        Args:
            params: the parameters at (0, 0).
            pairs: which two, from 0, the outermost, on.

        Raises:
            ValueError: not two; a pair that is not there, or was not found.
        """
        units, there = [], np.flatnonzero(np.isfinite(self.values)).tolist()
        if len(pairs) != 2 or len(set(pairs)) != 2 or not set(pairs) <= set(there):
            raise ValueError(f"pairs: expected two of {len(there)} found, got {pairs}")
        for k in pairs:
            lost = "" if self.converged[k] else ", not converged"
            units.append(f"eigenvector {k + 1}, λ = {self.values[k]:.4g}{lost}")
        u, v = (jax.tree.map(lambda leaf, k=k: leaf[k], self.vectors) for k in pairs)
        return Plane(params, u, v, units=(units[0], units[1]), marks=((0, 0, "origin"),))

    def __repr__(self) -> str:
        first, last = self.values[0], self.values[-1]
        return (
            f"Eigenpairs({len(self.values)} of the {self.name}, from {first:.6g} to {last:.6g}, "
            f"{int(self.converged.sum())} converged)"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the eigenvalues and how far they can be off."""
        rows = [
            (f"{value:.6g}", f"{off:.3g}", "yes" if found else "no")
            for value, off, found in zip(self.values, self.residual, self.converged, strict=True)
        ]
        return sketch.table(("eigenvalue", "off by at most", "converged"), rows) + sketch.text(self)


class TraceEstimate(NamedTuple):
    """The sum of all eigenvalues, as it was estimated."""

    value: float
    """The estimate; it is right on average over keys."""
    error: float
    """Its standard error, beside rounding: 0 where the trace was not estimated but computed."""


class SpectralDensity(NamedTuple):
    """How the n eigenvalues of a matrix lie: their density, smoothed by a Gaussian kernel."""

    eigenvalues: np.ndarray
    """(m,) float64: where the density is taken, evenly, from below the smallest to above the
    largest eigenvalue."""
    density: np.ndarray
    """(m,) float64: the part of all eigenvalues per unit; it integrates to 1."""
    error: np.ndarray
    """(m,) float64: its standard error between probes; 0 where all eigenvalues were computed, NaN
    where there was one probe."""
    width: float
    """The kernel's standard deviation."""
    nodes: np.ndarray
    """(probes, steps) float64: the eigenvalues that stand for all in each probe's quadrature."""
    weights: np.ndarray
    """(probes, steps) float64: the part of all eigenvalues that each stands for, in sum 1."""
    size: int
    """n, the number of parameters."""
    name: str
    """What the matrix is called in figures."""

    def __repr__(self) -> str:
        low, high = lanczos.ends(self.nodes, self.weights)
        how = "{} probes of {} steps".format(*self.nodes.shape)
        if self.nodes.shape[1] == self.size:
            how = "all computed"
        return (
            f"SpectralDensity({self.name}, {self.size} eigenvalues from {low:.6g} to {high:.6g}, "
            f"{how}, width {self.width:.3g})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the density."""
        names = ("eigenvalue", "density")
        return sketch.lines(self.eigenvalues, self.density[None], names) + sketch.text(self)
