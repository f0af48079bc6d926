"""Curvature of any model: eigenvalues, trace and spectrum of its Hessian or Gauss–Newton matrix."""

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
