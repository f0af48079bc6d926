"""Eigenvalues of a symmetric matrix from its products with vectors: Lanczos's method."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from jaxscape._util.checks import Key
from jaxscape.curvature.operators import Operator

WHICH = {"largest": "LA", "smallest": "SA", "magnitude": "LM"}
"""What ARPACK calls them."""

# ARPACK starts anew so often with what it found, with some 15 products each time.
_RESTARTS = 100
# Numbers of the Lanczos vectors of the probes that go together: half a gigabyte in float32.
_AT_ONCE = 2**27
# What rounding leaves where a space has ended; of a billion eigenvalues, one has more.
_NO_WEIGHT = 1e-16


class _NotFiniteError(ArithmeticError):
    """A product has numbers that are not finite."""


def whole(matrix: Operator, progress: Any) -> np.ndarray:
    """The matrix itself, (n, n) float64, symmetric."""
    found = matrix.times(np.eye(matrix.size), progress)
    return (found + found.T) / 2


def all_pairs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All n eigenvalues, and the eigenvectors as rows, (n, n); NaN of one that is not finite."""
    if not np.isfinite(matrix).all():
        return np.full(len(matrix), np.nan), np.full(matrix.shape, np.nan)
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors.T


def outermost(
    product: Callable[[np.ndarray], np.ndarray],
    n: int,
    k: int,
    key: Key,
    which: Literal["largest", "smallest", "magnitude"],
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The k outermost eigenvalues, and their eigenvectors, (k, n), as rows.

    Args:
        product: (n,) -> (n,), the matrix times a vector.
        n: the matrix's size, more than 2k + 1.
        k: how many.
        key: a JAX random key, for the vector to start from.
        which: a key of `WHICH`.
        tolerance: of residuals, as a part of |eigenvalue|.

    Returns:
        Values and vectors in no order, NaN for each that was not found.
    """

    is_zero = True

    def checked(vector: np.ndarray) -> np.ndarray:
        nonlocal is_zero
        found = product(np.ravel(vector))
        if not np.isfinite(found).all():
            raise _NotFiniteError
        is_zero &= not found.any()
        return found

    matrix = LinearOperator((n, n), matvec=checked, dtype=np.float64)
    start = np.asarray(jax.random.normal(key, (n,)), np.float64)
    values, vectors = np.empty(0), np.empty((n, 0))
    try:
        values, vectors = eigsh(
            # What ARPACK estimates a residual to be and what it is differ by rounding.
            matrix, k, which=WHICH[which], v0=start, maxiter=_RESTARTS, tol=tolerance / 2
        )  # fmt: skip
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    except ArpackError:
        # It has no space to span with a matrix of zeros, of which any vectors will do.
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
    """Eigenvalues that stand for all, from random vectors, and for how many each of them does.

    For a vector v of length 1 it is Gauss's quadrature of the measure that puts (v·u)² at each
    eigenvalue of eigenvector u, which on average over v is 1 / n: exact for polynomials of degree
    2 · steps - 1.

    Args:
        matrix: of more than `steps` parameters.
        key: a JAX random key.
        probes: how many vectors.
        steps: how many products for each.
        progress: a bar, which moves by one a product.

    Returns:
        Nodes and weights, (probes, steps) each; NaN for a probe with a product that is not finite.
    """
    together = max(1, _AT_ONCE // (steps * matrix.size))
    keys = jax.random.split(key, probes)
    nodes, weights = np.full((2, probes, steps), np.nan)
    for first in range(0, probes, together):
        starts = _normal(keys[first : first + together], matrix.size)
        parts = zip(*_tridiagonal(matrix, starts, steps, progress), strict=True)
        for k, (diagonal, beside) in enumerate(parts, first):
            if np.isfinite(diagonal).all() and np.isfinite(beside).all():
                nodes[k], vectors = eigh_tridiagonal(diagonal, beside[:-1])
                weights[k] = vectors[0] ** 2
    return nodes, weights


def ends(nodes: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest eigenvalue that stands for any; NaN if one of them is."""
    kept = nodes[~(weights <= _NO_WEIGHT)]
    return float(kept.min()), float(kept.max())


def _tridiagonal(
    matrix: Operator, starts: np.ndarray, steps: int, progress: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The matrix on the spaces that it spans from some vectors, as tridiagonal ones.

    The steps are taken here and not in a compiled loop: each may be a pass over a stream.

    Args:
        starts: (p, n).

    Returns:
        What is on the diagonal, and beside it, (p, steps) each, zeros from where a space ends.
    """
    dtype = np.float64 if matrix.dtype == np.float64 else np.float32
    basis = np.zeros((len(starts), steps, matrix.size), dtype)
    diagonal, beside = np.zeros((2, len(starts), steps))
    basis[:, 0] = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    for k in range(steps):
        for p, product in enumerate(matrix.times(basis[:, k], progress)):
            if not np.isfinite(product).all():
                diagonal[p] = np.nan
                continue
            vector, before = product.astype(dtype), basis[p, : k + 1]
            diagonal[p, k] = vector @ basis[p, k]
            # Twice is enough: what one pass leaves of the older directions is rounding.
            for _ in range(2):
                vector -= (before @ vector) @ before
            length = np.linalg.norm(vector)
            # What is left then is rounding: the vectors so far span all that there is.
            if not length > 8 * np.finfo(dtype).eps * np.abs(diagonal[p]).max():
                continue
            beside[p, k] = length
            if k + 1 < steps:
                basis[p, k + 1] = vector / length
    return diagonal, beside


def signs(keys: Key, n: int) -> np.ndarray:
    """A vector of random signs for each key, (m, n) int8."""
    return np.asarray(_signs(keys, n))


@functools.partial(jax.jit, static_argnums=1)
def _signs(keys: Key, n: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.rademacher(key, (n,), np.int8))(keys)


@functools.partial(jax.jit, static_argnums=1)
def _normal(keys: Key, n: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(key, (n,)))(keys)
