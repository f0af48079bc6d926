"""Eigenvalues, trace and spectrum of the Hessian or the Gauss–Newton matrix of any model."""

from jaxscape.curvature.sharpness import Stability, edge_of_stability
from jaxscape.curvature.spectrum import (
    Eigenpairs,
    SpectralDensity,
    TraceEstimate,
    eigenpairs,
    hessian_trace,
    spectral_density,
)
from jaxscape.losses.composed import ComposedLoss

__all__ = [
    "ComposedLoss",
    "Eigenpairs",
    "SpectralDensity",
    "Stability",
    "TraceEstimate",
    "edge_of_stability",
    "eigenpairs",
    "hessian_trace",
    "spectral_density",
]
