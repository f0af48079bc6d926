"""Eigenvalues of a model's curvature: the outermost ones, their sum, and their density."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from scipy.linalg import qr

from jaxscape._util import thumbnails
from jaxscape._util.checks import Key, check_choice, check_count, check_key
from jaxscape._util.progress import bar
from jaxscape._util.pytree import Params
from jaxscape._util.warnings import NonFiniteWarning, warn
from jaxscape.curvature import lanczos
from jaxscape.curvature.operators import Curvature, make_operator
from jaxscape.losses.checks import ScalarLoss
from jaxscape.planes.directions import Direction
from jaxscape.planes.plane import Plane

# A matrix over up to this many parameters is computed as a whole, which takes few products.
_MAX_DENSE = 64
# The density is computed up to this many kernel widths beyond the outermost eigenvalues, where a
# kernel is 1.5e-8 of its peak, at this many points per width.
_KERNEL_WIDTHS, _POINTS_PER_WIDTH = 6, 8


class Eigenpairs(NamedTuple):
    """The k outermost eigenvalues of a matrix over n parameters, and their eigenvectors."""

    values: np.ndarray
    """(k,) float64, the outermost first; NaN for each that was not found."""
    vectors: Direction
    """The eigenvectors, of length 1, as a pytree of the structure of the parameters, with a leading
    axis k for each leaf that moves, and `None` for the others. `lines` accepts them."""
    residual: np.ndarray
    """(k,) float64, the norms ‖H·v - value·v‖. Within this distance of each value there is an
    eigenvalue."""
    converged: np.ndarray
    """(k,) bool, whether the residual is at most the tolerance times the norm of the matrix, which
    is its largest |eigenvalue|."""
    name: str
    """The matrix's name in figures."""

    def plane(self, params: Params, pairs: tuple[int, int] = (0, 1)) -> Plane:
        """Return the plane spanned by two eigenvectors.

        Args:
            params: the parameters at (0, 0), at which the eigenvectors were computed.
            pairs: the indices of the two eigenpairs; 0 is the outermost.

        Returns:
            The plane, with the eigenvalues in its units.

        Raises:
            ValueError: `pairs` is not two different indices of eigenpairs that were found.
        """
        units, available = [], np.flatnonzero(np.isfinite(self.values)).tolist()
        if len(pairs) != 2 or len(set(pairs)) != 2 or not set(pairs) <= set(available):
            raise ValueError(
                f"pairs: expected different indices of two of the {len(available)} eigenpairs that "
                f"were found, got {pairs}"
            )
        for k in pairs:
            note = "" if self.converged[k] else ", not converged"
            units.append(f"eigenvector {k + 1}, λ = {self.values[k]:.4g}{note}")
        u, v = (jax.tree.map(lambda leaf, k=k: leaf[k], self.vectors) for k in pairs)
        return Plane(params, u, v, units=(units[0], units[1]), marks=((0, 0, "origin"),))

    def __repr__(self) -> str:
        first, last = self.values[0], self.values[-1]
        return (
            f"Eigenpairs({len(self.values)} of the {self.name}, from {first:.6g} to {last:.6g}, "
            f"{int(self.converged.sum())} converged)"
        )

    def _repr_html_(self) -> str:
        """Show a table of the eigenvalues and the bounds on their errors in a notebook."""
        rows = [
            (f"{value:.6g}", f"{bound:.3g}", "yes" if converged else "no")
            for value, bound, converged in zip(
                self.values, self.residual, self.converged, strict=True
            )
        ]
        return thumbnails.table(
            ("eigenvalue", "off by at most", "converged"), rows
        ) + thumbnails.text(self)


class TraceEstimate(NamedTuple):
    """An estimate of the trace, the sum of all eigenvalues."""

    value: float
    """The estimate, whose mean over keys is the trace."""
    error: float
    """Its standard error, apart from rounding; 0 if the trace was computed exactly, NaN if it is
    not finite."""


class SpectralDensity(NamedTuple):
    """The density of the n eigenvalues of a matrix, smoothed by a Gaussian kernel."""

    eigenvalues: np.ndarray
    """(m,) float64, evenly spaced points that extend beyond the outermost eigenvalues."""
    density: np.ndarray
    """(m,) float64, the density at these points; it integrates to 1."""
    error: np.ndarray
    """(m,) float64, the standard error of the density; 0 if all eigenvalues were computed, NaN for
    a single probe."""
    width: float
    """The kernel's standard deviation."""
    nodes: np.ndarray
    """(probes, steps) float64, the nodes of each probe's quadrature; (1, n), all eigenvalues, if
    there are no more parameters than steps."""
    weights: np.ndarray
    """The weights of the nodes, of the same shape, which estimate fractions of all eigenvalues. The
    weights of a probe sum to 1."""
    size: int
    """The number of parameters, n."""
    name: str
    """The matrix's name in figures."""

    def __repr__(self) -> str:
        low, high = lanczos.spectrum_range(self.nodes, self.weights)
        method = "{} probes of {} steps".format(*self.nodes.shape)
        if self.nodes.shape[1] == self.size:
            method = "all computed"
        return (
            f"SpectralDensity({self.name}, {self.size} eigenvalues from {low:.6g} to {high:.6g}, "
            f"{method}, width {self.width:.3g})"
        )

    def _repr_html_(self) -> str:
        """Show the density in a notebook."""
        names = ("eigenvalue", "density")
        return thumbnails.curves(self.eigenvalues, self.density[None], names) + thumbnails.text(
            self
        )


def eigenpairs(
    loss: ScalarLoss,
    data: Any,
    params: Params,
    k: int,
    key: Key,
    *,
    which: lanczos.Which = "largest",
    curvature: Curvature = "hessian",
    tolerance: float = 1e-4,
    leaves: Callable[[str], bool] | None = None,
) -> Eigenpairs:
    """Compute the k outermost eigenvalues of the Hessian, and their eigenvectors.

    Lanczos's method with implicit restarts (ARPACK) only needs products with vectors, and memory
    for 20 vectors in float64, or 2k + 1 if that is more. For up to 64 parameters, or up to 2k + 1,
    the whole matrix is computed, and for up to 1500 if Lanczos's method does not converge. If an
    eigenvalue is 0, as for parameters without effect, the search is repeated without the
    eigenvectors that were found, up to k times. If other eigenvalues are equal, Lanczos's method
    can miss some.

    Args:
        loss: (params, data) -> scalar of a floating dtype; for "gauss-newton" a `PointwiseLoss` or
            a `ComposedLoss`.
        data: the second argument of the loss, or a `Stream` of batches of it if the loss is a mean
            over samples. Each product takes one pass over the stream, and one more computes the
            loss, with which the losses of all other passes are compared.
        params: the parameters at which the Hessian is computed. The matrix is over their floating
            numbers.
        k: the number of eigenpairs, from 1 to the number of parameters.
        key: a JAX random key, for the starting vector.
        which: "largest" or "smallest", with signs, so that the smallest are the most negative; or
            "magnitude", the largest absolute values.
        curvature: "hessian", the second derivatives; or "gauss-newton", which omits the curvature
            of the model: Jᵀ·H·J with the model's Jacobian J and the second derivatives H of the
            loss with respect to the model's outputs.
        tolerance: the largest residual of a converged eigenpair, relative to the norm of the
            matrix, its largest |eigenvalue|.
        leaves: tree path, as `jax.tree_util.keystr` writes it -> whether the matrix is over the
            leaf's numbers; it can exclude batch statistics, for instance.

    Returns:
        The `Eigenpairs`.

    Raises:
        TypeError: The loss does not return a floating scalar; `curvature` is "gauss-newton", and
            the loss is neither a `PointwiseLoss` nor a `ComposedLoss`; `k` is not a whole number;
            or `key` is not a JAX random key.
        ValueError: `k` is not from 1 to the number of parameters, `tolerance` is not in (0, 1),
            `which` or `curvature` is unknown, the parameters are not finite, or the stream has no
            batches or other samples in a later pass.

    Warns:
        NonFiniteWarning: Eigenpairs are NaN, because a product of the Hessian with a vector is not
            finite, or because they did not converge.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> weights = jxs.Weights(1.5, 0.8)
        >>> pairs = jxs.curvature.eigenpairs(jxs.squared_error, data, weights, 2, jax.random.key(1))
        >>> pairs
        Eigenpairs(2 of the Hessian of squared error, from 1.28... to 0.02..., 2 converged)
        >>> pairs.plane(weights).units
        ('eigenvector 1, λ = 1.28...', 'eigenvector 2, λ = 0.02...')
    """
    check_key(key)
    check_choice("which", which, lanczos.ARPACK_NAMES)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a number between 0 and 1, got {tolerance}")
    k = check_count("k", k)
    matrix = make_operator(loss, data, params, curvature, leaves)
    if k > matrix.size:
        raise ValueError(f"k: expected 1 to {matrix.size}, the number of parameters, got {k}")
    with bar(None, "products") as progress:
        if matrix.size <= max(_MAX_DENSE, 2 * k + 1):
            values, vectors = lanczos.all_eigenpairs(lanczos.to_dense(matrix, progress))
            norm = float(np.abs(values).max())
        else:
            values, vectors, norm = lanczos.outer_eigenpairs(
                matrix, k, key, which, tolerance, progress
            )
        order = {"largest": -values, "smallest": values, "magnitude": -np.abs(values)}[which]
        outer = np.argsort(order)[:k]
        values, vectors = values[outer], vectors[outer]
        found = np.isfinite(values)
        # The estimate of the norm may be lower than the largest |eigenvalue|.
        norm = np.max(np.abs(values[found]), initial=norm)
        residual = np.full(k, np.nan)
        for row in np.flatnonzero(found):
            difference = matrix.times(vectors[row][None], progress)[0] - values[row] * vectors[row]
            residual[row] = lanczos.norm(difference)
    if not found.all():
        missing = f"{k - int(found.sum())} of {k} eigenpairs"
        warn(
            f"{missing} are NaN, because a product of the {matrix.name} with a vector is not finite"
            if np.isnan(norm)
            else f"{missing} did not converge and are NaN; choose a larger tolerance",
            NonFiniteWarning,
        )
    return Eigenpairs(
        values, matrix.directions(vectors), residual, residual <= tolerance * norm, matrix.name
    )


def hessian_trace(
    loss: ScalarLoss,
    data: Any,
    params: Params,
    key: Key,
    *,
    samples: int = 100,
    method: Literal["hutch++", "hutchinson"] = "hutch++",
    curvature: Curvature = "hessian",
    leaves: Callable[[str], bool] | None = None,
) -> TraceEstimate:
    """Estimate the trace of the Hessian, the sum of its eigenvalues.

    Hutchinson's estimate (1990) is the mean of vᵀ·H·v over vectors v of random signs. Hutch++
    (Meyer et al. 2021, arXiv 2010.09649) computes the trace exactly on a subspace that
    approximately contains the eigenvectors of the largest eigenvalues, and estimates the rest. It
    is much more accurate if few eigenvalues are large, and less accurate if all have a similar
    size. It needs memory for 2/3 · `samples` vectors in float64.

    Args:
        loss: as in `eigenpairs`.
        data: as in `eigenpairs`.
        params: as in `eigenpairs`.
        key: a JAX random key, for the vectors.
        samples: the number of products with vectors, at least 2, or 6 for Hutch++. If it is the
            number of parameters or more, the trace is exact.
        method: "hutch++" or "hutchinson".
        curvature: as in `eigenpairs`.
        leaves: as in `eigenpairs`.

    Returns:
        A `TraceEstimate` with the value and its standard error.

    Raises:
        TypeError: As in `eigenpairs`.
        ValueError: As in `eigenpairs`; or `samples` is too small, or `method` is unknown.

    Warns:
        NonFiniteWarning: The trace is NaN or infinite.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> loss, weights, key = jxs.squared_error, jxs.Weights(1.5, 0.8), jax.random.key(1)
        >>> trace = jxs.curvature.hessian_trace(loss, data, weights, key)
        >>> round(trace.value, 3), trace.error
        (1.30..., 0.0)
    """
    check_key(key)
    check_choice("method", method, ("hutch++", "hutchinson"))
    samples = check_count("samples", samples, 2 if method == "hutchinson" else 6)
    matrix = make_operator(loss, data, params, curvature, leaves)
    with bar(min(samples, matrix.size), "products") as progress:
        if samples >= matrix.size:
            trace = float(np.trace(lanczos.to_dense(matrix, progress)))
            _warn_unless_finite("trace", trace, matrix.name)
            return TraceEstimate(trace, 0.0 if math.isfinite(trace) else math.nan)
        keys = jax.random.split(key, samples)
        third = samples // 3 if method == "hutch++" else 0
        exact, basis = 0.0, np.zeros((0, matrix.size))
        if third:
            basis = matrix.times(lanczos.signs(keys[:third], matrix.size), progress)
            # Orthonormalize in place, because these vectors take the most memory.
            basis = qr(basis.T, overwrite_a=True, mode="economic", check_finite=False)[0].T
            exact = np.einsum("kn,kn->", basis, matrix.times(basis, progress))
        estimates: list[float] = []
        rest = keys[2 * third :]
        for start in range(0, len(rest), matrix.rows):
            vectors = lanczos.signs(rest[start : start + matrix.rows], matrix.size).astype(float)
            vectors -= (vectors @ basis.T) @ basis
            estimates += np.sum(vectors * matrix.times(vectors, progress), axis=1).tolist()
    trace = float(exact + np.mean(estimates))
    _warn_unless_finite("trace", trace, matrix.name)
    # The squares of very small or large numbers underflow or overflow.
    unit = np.abs(estimates).max() or 1.0
    error = unit * np.std(np.divide(estimates, unit), ddof=1) / math.sqrt(len(estimates))
    return TraceEstimate(trace, float(error))


def spectral_density(
    loss: ScalarLoss,
    data: Any,
    params: Params,
    key: Key,
    *,
    probes: int = 10,
    steps: int = 100,
    width: float | None = None,
    curvature: Curvature = "hessian",
    leaves: Callable[[str], bool] | None = None,
) -> SpectralDensity:
    """Estimate the density of all eigenvalues of the Hessian, by stochastic Lanczos quadrature.

    For each random vector (probe), Lanczos's method with full reorthogonalization gives the nodes
    and weights of a quadrature of the spectrum (Ghorbani et al. 2019, arXiv 1901.10159). It needs
    memory for `steps` vectors per probe; probes share a pass over the data as long as their vectors
    hold at most 2²⁷ numbers. If there are no more parameters than steps, all eigenvalues are
    computed.

    Args:
        loss: as in `eigenpairs`.
        data: as in `eigenpairs`.
        params: as in `eigenpairs`.
        key: a JAX random key, for the vectors.
        probes: the number of random vectors, 1 or more.
        steps: the number of products with each, 2 or more.
        width: the kernel's standard deviation relative to the range of the eigenvalues, from 1e-4
            to 1. None for 1 / steps, which the quadrature resolves everywhere, so that `error`
            covers the whole error. Far from the bulk, the quadrature also resolves smaller widths.
        curvature: as in `eigenpairs`.
        leaves: as in `eigenpairs`.

    Returns:
        A `SpectralDensity`, which `plot.spectrum` draws.

    Raises:
        TypeError: As in `eigenpairs`.
        ValueError: As in `eigenpairs`; or `probes`, `steps` or `width` is out of its range.

    Warns:
        NonFiniteWarning: The density is NaN.

    Example:
        >>> data = jxs.data.teacher_student(jax.random.key(0))
        >>> loss, weights, key = jxs.squared_error, jxs.Weights(1.5, 0.8), jax.random.key(1)
        >>> jxs.curvature.spectral_density(loss, data, weights, key)
        SpectralDensity(Hessian of squared error, 2 eigenvalues from 0.02... to 1.28..., ...)
    """
    check_key(key)
    probes, steps = check_count("probes", probes), check_count("steps", steps, 2)
    if width is not None and not 1e-4 <= width <= 1:
        raise ValueError(
            f"width: expected a fraction of the range, 1e-4 to 1, or None, got {width}"
        )
    matrix = make_operator(loss, data, params, curvature, leaves)
    is_complete = matrix.size <= steps
    with bar(matrix.size if is_complete else probes * steps, "products") as progress:
        if is_complete:
            nodes = lanczos.all_eigenpairs(lanczos.to_dense(matrix, progress))[0][None]
            weights = np.full(nodes.shape, 1 / matrix.size)
        else:
            nodes, weights = lanczos.quadrature(matrix, key, probes, steps, progress)
    fraction = 1 / steps if width is None else width
    low, high = lanczos.spectrum_range(nodes, weights)
    _warn_unless_finite("density", high, matrix.name)
    # If all eigenvalues are equal up to rounding, the range is 0; then use their size instead.
    sigma = fraction * (max(high - low, 1e-3 * max(abs(low), abs(high))) or 1.0)
    count = math.ceil(_POINTS_PER_WIDTH * (1 / fraction + 2 * _KERNEL_WIDTHS)) + 1
    at = np.linspace(low - _KERNEL_WIDTHS * sigma, high + _KERNEL_WIDTHS * sigma, count)
    densities = np.stack([_smooth(*probe, sigma, at) for probe in zip(nodes, weights, strict=True)])
    error = np.full(count, 0.0 if is_complete else np.nan)
    if len(densities) > 1:
        error = np.std(densities, axis=0, ddof=1) / math.sqrt(probes)
    return SpectralDensity(
        at,
        densities.mean(axis=0) / sigma,
        error / sigma,
        float(sigma),
        nodes,
        weights,
        matrix.size,
        matrix.name,
    )


def _smooth(nodes: np.ndarray, weights: np.ndarray, sigma: float, at: np.ndarray) -> np.ndarray:
    """Return the density of weighted nodes times sigma, smoothed by a Gaussian kernel."""
    kernel = np.exp(-(((at[:, None] - nodes) / sigma) ** 2) / 2)
    return kernel @ weights / math.sqrt(2 * math.pi)


def _warn_unless_finite(what: str, value: float, matrix_name: str) -> None:
    if not math.isfinite(value):
        warn(
            f"the {what} is {value}, because a product of the {matrix_name} with a vector is not "
            "finite",
            NonFiniteWarning,
        )
