"""What is known of the eigenvalues of a model's curvature.

Eigenvalues of a model's curvature: the outermost, their sum, and how all of them lie.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from scipy.linalg import qr

from jaxscape._util import thumbnails
from jaxscape._util.checks import Key, check_key
from jaxscape._util.progress import bar
from jaxscape.curvature import lanczos
from jaxscape.curvature.operators import Curvature, operator_of
from jaxscape.planes.plane import Plane


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
        return thumbnails.table(
            ("eigenvalue", "off by at most", "converged"), rows
        ) + thumbnails.text(self)


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
        return thumbnails.lines(self.eigenvalues, self.density[None], names) + thumbnails.text(self)


# Up to so many parameters the whole matrix is made; of more, products are all that is needed.
_DENSE = 64
# Kernels are cut off so many of their widths away (1e-9 of them), and drawn so many times a width.
_REACH, _PER_WIDTH = 6, 8


def eigenpairs(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    params: Any,
    k: int,
    key: Key,
    *,
    which: Literal["largest", "smallest", "magnitude"] = "largest",
    curvature: Curvature = "hessian",
    tolerance: float = 1e-4,
    leaves: Callable[[str], bool] | None = None,
) -> Eigenpairs:
    """The k outermost eigenvalues of the Hessian, and their eigenvectors.

    Found from products with vectors, by Lanczos's method with implicit restarts (ARPACK); of up to
    64 parameters, or where k is half of them, by the whole matrix. It holds 20 vectors in float64,
    or 2k + 1 if more. Of several equal eigenvalues it may find fewer than there are.

    Args:
        loss: (params, data) -> scalar of a floating dtype; for "gauss-newton" a `PointwiseLoss` or
            a `ComposedLoss`.
        data: what the loss takes; or a `Stream` of it, for which the loss has to be a mean over
            samples. Every product goes through it once.
        params: where; leaves that are not floating numbers stay as they are.
        k: how many, from 1 to the number of parameters.
        key: a JAX random key, for the vector that it starts from.
        which: "largest" and "smallest" go by sign, so that the smallest are the most negative;
            "magnitude" by absolute value.
        curvature: "hessian", the second derivatives; or "gauss-newton", Jᵀ·H·J of the model's
            Jacobian J and the loss's second derivatives H by its outputs, which is the Hessian
            without the model's own curvature.
        tolerance: of the residuals, as a part of the largest |value|.
        leaves: path of a leaf, as `jax.tree_util.keystr` writes it, -> whether its numbers are
            among the parameters of the matrix: so that batch statistics, say, are not.

    Returns:
        `Eigenpairs`.

    Raises:
        TypeError: a loss that does not return a floating scalar, or is not in two parts.
        ValueError: k under 1 or over the number of parameters, a tolerance outside (0, 1),
            parameters that are not finite, a stream without batches.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> weights = jxs.Weights(1.5, 0.8)
        >>> found = jxs.curvature.eigenpairs(jxs.squared_error, data, weights, 2, jax.random.key(1))
        >>> found
        Eigenpairs(2 of the Hessian of squared error, from 1.28... to 0.02..., 2 converged)
        >>> found.plane(weights).units
        ('eigenvector 1, λ = 1.28...', 'eigenvector 2, λ = 0.02...')
    """
    check_key(key)
    if which not in lanczos.WHICH:
        raise ValueError(f"which: expected 'largest', 'smallest' or 'magnitude', got {which!r}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a number between 0 and 1, got {tolerance}")
    _check_count("k", k, 1)
    matrix = operator_of(loss, data, params, curvature, leaves)
    if k > matrix.size:
        raise ValueError(f"k: expected 1 to {matrix.size}, the number of parameters, got {k}")
    with bar(None, "products") as progress:
        if matrix.size <= max(_DENSE, 2 * k + 1):
            whole = lanczos.whole(matrix, progress)
            values, vectors = lanczos.all_pairs(whole)
            product = whole.__matmul__
        else:
            product = lambda v: matrix.times(v[None], progress)[0]  # noqa: E731
            values, vectors = lanczos.outermost(product, matrix.size, k, key, which, tolerance)
        order = {"largest": -values, "smallest": values, "magnitude": -np.abs(values)}[which]
        kept = np.argsort(order)[:k]
        values, vectors = values[kept], vectors[kept]
        pairs = zip(values, vectors, strict=True)
        residual = np.array([np.linalg.norm(product(v) - value * v) for value, v in pairs])
    size = np.max(np.abs(values), initial=0, where=np.isfinite(values))
    return Eigenpairs(
        values, matrix.directions(vectors), residual, residual <= tolerance * size, matrix.name
    )


def hessian_trace(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    params: Any,
    key: Key,
    *,
    samples: int = 100,
    method: Literal["hutch++", "hutchinson"] = "hutch++",
    curvature: Curvature = "hessian",
    leaves: Callable[[str], bool] | None = None,
) -> TraceEstimate:
    """The trace of the Hessian, which is the sum of its eigenvalues.

    Hutchinson's estimate (1990) is the mean of vᵀ·H·v over vectors v of random signs. Hutch++
    (Meyer et al. 2021, arXiv 2010.09649) takes the trace over the directions in which the largest
    eigenvalues lie as it is, and estimates what is left: far better where few eigenvalues are
    large, worse where all are alike. It holds samples / 3 vectors in float64, twice.

    Args:
        loss, data, params, curvature, leaves: as in `eigenpairs`.
        key: a JAX random key, for the vectors.
        samples: how many products with vectors: 2 or more, 6 of Hutch++. With one for each
            parameter or more, the trace is computed and not estimated.
        method: which of the two.

    Returns:
        `TraceEstimate(value, error)`, the error being one standard deviation.

    Raises:
        TypeError, ValueError: as `eigenpairs`; too few samples; an unknown method.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> found = jxs.curvature.hessian_trace(jxs.squared_error, data, jxs.Weights(1.5, 0.8), jax.random.key(1))
        >>> round(found.value, 3), found.error
        (1.30..., 0.0)
    """
    check_key(key)
    if method not in ("hutch++", "hutchinson"):
        raise ValueError(f"method: expected 'hutch++' or 'hutchinson', got {method!r}")
    _check_count("samples", samples, 2 if method == "hutchinson" else 6)
    matrix = operator_of(loss, data, params, curvature, leaves)
    with bar(min(samples, matrix.size), "products") as progress:
        if samples >= matrix.size:
            return TraceEstimate(float(np.trace(lanczos.whole(matrix, progress))), 0.0)
        keys = jax.random.split(key, samples)
        third = samples // 3 if method == "hutch++" else 0
        exact, basis = 0.0, np.zeros((0, matrix.size))
        if third:
            basis = matrix.times(lanczos.signs(keys[:third], matrix.size), progress)
            # In place: of large models this is what needs the memory.
            basis = qr(basis.T, overwrite_a=True, mode="economic", check_finite=False)[0].T
            exact = np.einsum("kn,kn->", basis, matrix.times(basis, progress))
        parts: list[float] = []
        rest = keys[2 * third :]
        for start in range(0, len(rest), matrix.rows):
            vectors = lanczos.signs(rest[start : start + matrix.rows], matrix.size).astype(float)
            vectors -= (vectors @ basis.T) @ basis
            parts += np.sum(vectors * matrix.times(vectors, progress), axis=1).tolist()
        error = np.std(parts, ddof=1) / math.sqrt(len(parts))
    return TraceEstimate(float(exact + np.mean(parts)), float(error))


def spectral_density(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    params: Any,
    key: Key,
    *,
    probes: int = 10,
    steps: int = 100,
    width: float | None = None,
    curvature: Curvature = "hessian",
    leaves: Callable[[str], bool] | None = None,
) -> SpectralDensity:
    """The density of all eigenvalues of the Hessian, by stochastic Lanczos quadrature.

    As Ghorbani et al. (2019, arXiv 1901.10159): for each of some random vectors, so many steps of
    Lanczos's method with full reorthogonalization give eigenvalues that stand for all, and for how
    many. It holds one vector for every step. Of no more parameters than steps, all eigenvalues are
    computed.

    Args:
        loss, data, params, curvature, leaves: as in `eigenpairs`.
        key: a JAX random key, for the vectors.
        probes: how many vectors.
        steps: how many products for each.
        width: the kernel's standard deviation as a part of the range of the eigenvalues, from 1e-4
            to 1. None for 1 / steps, which so many steps resolve wherever eigenvalues lie, so that
            the error between probes is all there is; far from the bulk they resolve finer ones.

    Returns:
        `SpectralDensity`, for `plot.spectrum`.

    Raises:
        TypeError, ValueError: as `eigenpairs`; fewer than 1 probe or 2 steps; a width that is
            out of bounds.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> jxs.curvature.spectral_density(jxs.squared_error, data, jxs.Weights(1.5, 0.8), jax.random.key(1))
        SpectralDensity(Hessian of squared error, 2 eigenvalues from 0.02... to 1.28..., ...)
    """
    check_key(key)
    _check_count("probes", probes, 1)
    _check_count("steps", steps, 2)
    if width is not None and not 1e-4 <= width <= 1:
        raise ValueError(f"width: expected a part of the range, 1e-4 to 1, or None, got {width}")
    matrix = operator_of(loss, data, params, curvature, leaves)
    all_of_them = matrix.size <= steps
    with bar(matrix.size if all_of_them else probes * steps, "products") as progress:
        if all_of_them:
            nodes = lanczos.all_pairs(lanczos.whole(matrix, progress))[0][None]
            weights = np.full(nodes.shape, 1 / matrix.size)
        else:
            nodes, weights = lanczos.quadrature(matrix, key, probes, steps, progress)
    share = 1 / steps if width is None else width
    low, high = lanczos.ends(nodes, weights)
    # Where all eigenvalues are equal there is no range, to rounding.
    sigma = share * (max(high - low, 1e-3 * max(abs(low), abs(high))) or 1.0)
    count = math.ceil(_PER_WIDTH * (1 / share + 2 * _REACH)) + 1
    at = np.linspace(low - _REACH * sigma, high + _REACH * sigma, count)
    each = np.stack([_smoothed(*probe, sigma, at) for probe in zip(nodes, weights, strict=True)])
    error = np.full(count, 0.0 if all_of_them else np.nan)
    if len(each) > 1:
        error = np.std(each, axis=0, ddof=1) / math.sqrt(probes)
    return SpectralDensity(
        at, each.mean(axis=0), error, float(sigma), nodes, weights, matrix.size, matrix.name
    )


def _check_count(name: str, count: Any, least: int) -> None:
    if not hasattr(count, "__index__") or isinstance(count, bool):
        raise TypeError(f"{name}: expected a whole number, got {count!r}")
    if count < least:
        raise ValueError(f"{name}: expected {least} or more, got {count}")


def _smoothed(nodes: np.ndarray, weights: np.ndarray, sigma: float, at: np.ndarray) -> np.ndarray:
    """The density of weighted points under a Gaussian kernel."""
    kernel = np.exp(-(((at[:, None] - nodes) / sigma) ** 2) / 2)
    return kernel @ weights / (math.sqrt(2 * math.pi) * sigma)
