"""Eigenvalues of a symmetric matrix from its products with vectors, by Lanczos's method."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from jaxscape._util.checks import Key
from jaxscape.curvature.operators import Operator

Which = Literal["largest", "smallest", "magnitude"]

ARPACK_NAMES: dict[Which, str] = {"largest": "LA", "smallest": "SA", "magnitude": "LM"}
"""ARPACK's names for the ends of a spectrum."""

# Each of ARPACK's restarts takes about 15 products.
_MAX_RESTARTS = 100
# The most numbers in the Lanczos vectors of the probes in a block, half a gigabyte in float32.
_MAX_NUMBERS = 2**27
# Smaller weights are rounding errors at the end of an invariant space. The weight of one in a
# billion eigenvalues is larger.
_WEIGHT_TOL = 1e-16


class _NotFiniteError(ArithmeticError):
    """A product of the matrix with a vector is not finite."""


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
    product: Callable[[np.ndarray], np.ndarray],
    n: int,
    k: int,
    key: Key,
    which: Which,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k outermost eigenvalues, (k,), and their eigenvectors as rows, (k, n).

    Args:
        product: (n,) -> (n,), the matrix times a vector.
        n: the matrix's size, more than 2k + 1.
        k: the number of eigenpairs.
        key: a JAX random key, for the starting vector.
        which: the end of the spectrum.
        tolerance: the largest residual, relative to |eigenvalue|.

    Returns:
        Eigenvalues and eigenvectors in no particular order, NaN for each pair that did not
        converge.
    """

    is_zero = True

    def multiply(vector: np.ndarray) -> np.ndarray:
        nonlocal is_zero
        result = product(np.ravel(vector))
        if not np.isfinite(result).all():
            raise _NotFiniteError
        is_zero &= not result.any()
        return result

    matrix = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    start = np.asarray(jax.random.normal(key, (n,)), np.float64)
    values, vectors = np.empty(0), np.empty((n, 0))
    try:
        values, vectors = eigsh(
            # Halve the tolerance: ARPACK estimates residuals, which differ by rounding.
            matrix, k, which=ARPACK_NAMES[which], v0=start, maxiter=_MAX_RESTARTS, tol=tolerance / 2
        )  # fmt: skip
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    except ArpackError:
        # ARPACK fails on a matrix of zeros; every vector is an eigenvector of it.
        if is_zero:
            values, vectors = np.zeros(k), np.eye(n, k)
    except _NotFiniteError:
        pass
    missing = k - len(values)
    return (
        np.pad(values, (0, missing), constant_values=np.nan),
        np.pad(vectors.T, ((0, missing), (0, 0)), constant_values=np.nan),
    )


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
            length = np.linalg.norm(vector)
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
