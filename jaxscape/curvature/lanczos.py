"""Eigenvalues of a symmetric matrix from its products with vectors, by Lanczos's method."""

import functools
from typing import Any, Literal

import jax
import numpy as np
import scipy.linalg
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from jaxscape._util.checks import Key
from jaxscape.curvature.operators import Operator

Which = Literal["largest", "smallest", "magnitude"]

ARPACK_NAMES: dict[Which, str] = {"largest": "LA", "smallest": "SA", "magnitude": "LM"}
"""ARPACK's names for the ends of a spectrum."""

# Each of ARPACK's restarts takes about 15 products.
_MAX_RESTARTS = 100
# If ARPACK does not converge, a matrix over up to this many parameters is computed as a whole,
# which takes no more products.
_MAX_DENSE = 1500
# The number of products to estimate the norm.
_ESTIMATE_STEPS = 10
# Tolerances are relative to the eigenvalue at the end of the spectrum, down to this fraction of the
# norm.
_MIN_END = 1e-2
# The shift of a matrix of norm 1. With 1 itself, the shifted matrix could be zero.
_SHIFT = 1.5
# The most numbers in the Lanczos vectors of the probes in a block, half a gigabyte in float32.
_MAX_NUMBERS = 2**27
# Smaller weights are rounding errors at the end of an invariant space. The weight of one in a
# billion eigenvalues is larger.
_WEIGHT_TOL = 1e-16


class _NotFiniteError(ArithmeticError):
    """A product of the matrix with a vector is not finite."""


def norm(vector: np.ndarray) -> float:
    """Return the norm of a vector, without underflow or overflow of the squares."""
    return float(scipy.linalg.norm(vector.astype(float), check_finite=False))


def to_dense(matrix: Operator, progress: Any) -> np.ndarray:
    """Return the matrix as a symmetric array, (n, n) float64."""
    array = matrix.times(np.eye(matrix.size), progress)
    return (array + array.T) / 2


def all_eigenpairs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all eigenvalues, (n,), and the eigenvectors as rows, (n, n); NaN if not finite."""
    if not np.isfinite(matrix).all():
        return np.full(len(matrix), np.nan), np.full(matrix.shape, np.nan)
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors.T


def outer_eigenpairs(
    matrix: Operator, k: int, key: Key, which: Which, tolerance: float, progress: Any
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the k outermost eigenvalues, their eigenvectors, and the norm of the matrix.

    ARPACK first multiplies the starting vector by its matrix, which removes the components along
    eigenvalues 0, and its tolerances have absolute floors. So it gets the matrix divided by its
    norm and shifted away from 0, toward the chosen end of the spectrum.

    From one starting vector, only one vector of an eigenspace is found for certain. If an
    eigenvalue is 0, as for parameters without effect, which are often several, the eigenvectors are
    removed from the matrix and the search is repeated, until it finds nothing further out.

    Args:
        matrix: a matrix over more than 2k + 1 parameters.
        k: the number of eigenpairs.
        key: a JAX random key, for the starting vectors.
        which: the end of the spectrum.
        tolerance: the largest residual, relative to the norm. It is relative to the |eigenvalue| at
            the end of the spectrum, if that is reached.
        progress: a progress bar, which counts products.

    Returns:
        Eigenvalues, (k,), and eigenvectors as rows, (k, n), in no particular order, NaN for each
        pair that did not converge; and an estimate of the norm, NaN if a product is not finite. If
        pairs of a matrix over up to 1500 parameters did not converge, all n pairs.
    """
    n = matrix.size
    start = np.asarray(jax.random.normal(key, (n,)), np.float64)
    low, high = _estimate_ends(matrix, start, progress)
    size = max(abs(low), abs(high))
    if size == 0:
        # Every vector is an eigenvector.
        return np.zeros(k), np.eye(k, n), size
    if np.isnan(size):
        return np.full(k, np.nan), np.full((k, n), np.nan), size
    sign = {"largest": 1, "smallest": -1, "magnitude": 0}[which]
    end = {"largest": abs(high), "smallest": abs(low), "magnitude": size}[which] / size
    shift, removed = sign * _SHIFT, np.empty((0, n))

    def multiply(vector: np.ndarray) -> np.ndarray:
        vector = np.ravel(vector) - removed.T @ (removed @ np.ravel(vector))
        product = matrix.times(vector[None], progress)[0] / size
        if not np.isfinite(product).all():
            raise _NotFiniteError
        result = product + shift * vector
        return result - removed.T @ (removed @ result)

    shifted = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    # Halve the tolerance: ARPACK estimates residuals, which differ by rounding. Divide it by the
    # norm of the shifted matrix.
    goal, last_resort = (
        tolerance / 2 * relative / (1 + abs(shift)) for relative in (max(end, _MIN_END), 1.0)
    )
    values, vectors = np.empty(0), np.empty((0, n))
    try:
        for search in range(k + 1):
            if search:
                start = np.asarray(jax.random.normal(jax.random.fold_in(key, search), (n,)), float)
                removed = vectors
            found, found_vectors, converged = _run_arpack(shifted, k, which, start, goal)
            if not converged and n <= _MAX_DENSE:
                return *all_eigenpairs(to_dense(matrix, progress)), size
            if not converged:
                found, found_vectors, _ = _run_arpack(shifted, k, which, start, last_resort)
            outermost = sign * np.r_[values, found - shift]
            order = np.argsort(-outermost, kind="stable")[:k]
            is_new = order >= len(values)
            gain = outermost[order].sum() - sign * values.sum() if len(values) == k else np.inf
            values = np.r_[values, found - shift][order]
            vectors = np.concatenate([vectors, found_vectors])[order]
            is_flat = sign and (np.abs(values) <= tolerance).any()
            if not is_flat or not is_new.any() or gain <= tolerance * _MIN_END:
                break
    except _NotFiniteError:
        values, vectors, size = np.empty(0), np.empty((0, n)), np.nan
    missing = k - len(values)
    return (
        np.pad(values * size, (0, missing), constant_values=np.nan),
        np.pad(vectors, ((0, missing), (0, 0)), constant_values=np.nan),
        size,
    )


def _run_arpack(
    matrix: LinearOperator, k: int, which: Which, start: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the eigenvalues and eigenvectors (rows) that converged, and whether all k did."""
    try:
        values, vectors = eigsh(
            matrix, k, which=ARPACK_NAMES[which], v0=start, maxiter=_MAX_RESTARTS, tol=tolerance
        )
    except ArpackNoConvergence as error:
        return error.eigenvalues, error.eigenvectors.T, False
    return values, vectors.T, True


def _estimate_ends(matrix: Operator, start: np.ndarray, progress: Any) -> tuple[float, float]:
    """Return estimates of the smallest and the largest eigenvalue, NaN if a product is not finite.

    They are between these eigenvalues.
    """
    steps = min(_ESTIMATE_STEPS, matrix.size)
    (diagonal,), (off_diagonal,) = _tridiagonalize(matrix, start[None], steps, progress)
    if not np.isfinite(diagonal).all():
        return np.nan, np.nan
    ends = eigh_tridiagonal(diagonal, off_diagonal[:-1], eigvals_only=True)
    return float(ends[0]), float(ends[-1])


def quadrature(
    matrix: Operator, key: Key, probes: int, steps: int, progress: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Compute quadrature nodes and weights of the spectrum, from random vectors.

    For a unit vector v, it is the Gauss quadrature of a measure that has the mass (v·u)² at the
    eigenvalue of each eigenvector u. Averaged over v, each mass is 1 / n. The quadrature is exact
    for polynomials of degree up to 2 · steps - 1.

    Args:
        matrix: a matrix over more than `steps` parameters.
        key: a JAX random key.
        probes: the number of random vectors.
        steps: the number of products for each.
        progress: a progress bar, which counts products.

    Returns:
        Nodes and weights, (probes, steps) each; NaN for a probe with a product that is not finite.
    """
    probes_per_block = max(1, _MAX_NUMBERS // (steps * matrix.size))
    keys = jax.random.split(key, probes)
    nodes, weights = np.full((2, probes, steps), np.nan)
    for first in range(0, probes, probes_per_block):
        starts = _normal(keys[first : first + probes_per_block], matrix.size)
        matrices = zip(*_tridiagonalize(matrix, starts, steps, progress), strict=True)
        for k, (diagonal, off_diagonal) in enumerate(matrices, first):
            if np.isfinite(diagonal).all() and np.isfinite(off_diagonal).all():
                nodes[k], vectors = eigh_tridiagonal(diagonal, off_diagonal[:-1])
                weights[k] = vectors[0] ** 2
    return nodes, weights


def spectrum_range(nodes: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest node of nonzero weight; NaN if a node is NaN."""
    kept = nodes[~(weights <= _WEIGHT_TOL)]
    return float(kept.min()), float(kept.max())


def _tridiagonalize(
    matrix: Operator, starts: np.ndarray, steps: int, progress: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Restrict the matrix to the Krylov spaces of vectors, as tridiagonal matrices.

    The loop over steps is not compiled, because each step may be a pass over a stream.

    Args:
        matrix: a symmetric matrix.
        starts: (p, n) starting vectors.
        steps: the number of products for each.
        progress: a progress bar, which counts products.

    Returns:
        The diagonals and the off-diagonals, (p, steps) each, zero once a space is exhausted.
    """
    dtype = np.float64 if matrix.dtype == np.float64 else np.float32
    basis = np.zeros((len(starts), steps, matrix.size), dtype)
    diagonal, off_diagonal = np.zeros((2, len(starts), steps))
    basis[:, 0] = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    for k in range(steps):
        for p, product in enumerate(matrix.times(basis[:, k], progress)):
            if not np.isfinite(product).all():
                diagonal[p] = np.nan
                continue
            vector, previous = product.astype(dtype), basis[p, : k + 1]
            diagonal[p, k] = vector @ basis[p, k]
            # Two passes of orthogonalization leave rounding errors only.
            for _ in range(2):
                vector -= (previous @ vector) @ previous
            length = norm(vector)
            # A shorter vector consists of rounding errors: the space is exhausted.
            if not length > 8 * np.finfo(dtype).eps * np.abs(diagonal[p]).max():
                continue
            off_diagonal[p, k] = length
            if k + 1 < steps:
                basis[p, k + 1] = vector / length
    return diagonal, off_diagonal


def signs(keys: Key, n: int) -> np.ndarray:
    """Return a vector of random signs for each key, (m, n) int8."""
    return np.asarray(_signs(keys, n))


@functools.partial(jax.jit, static_argnums=1)
def _signs(keys: Key, n: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.rademacher(key, (n,), np.int8))(keys)


@functools.partial(jax.jit, static_argnums=1)
def _normal(keys: Key, n: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(key, (n,)))(keys)
