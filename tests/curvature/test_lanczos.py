"""Lanczos's method compared with the eigenvalues of whole matrices, in NumPy alone."""

import jax
import numpy as np
import pytest

from jaxscape.curvature import lanczos
from tests.curvature.helpers import KEY, with_eigenvalues


class Matrix:
    """A stand-in for an `Operator` that holds its matrix."""

    def __init__(self, array):
        self.array, self.size, self.dtype = array, len(array), array.dtype

    def times(self, vectors, progress):
        progress.update(len(vectors))
        with np.errstate(invalid="ignore"):
            return (vectors.astype(self.dtype) @ self.array).astype(float)


class Progress:
    """A progress bar that counts only."""

    count = 0

    def update(self, count):
        self.count += count


def test_the_dense_matrix_is_symmetric():
    array = with_eigenvalues([1.0, 2, 3])
    array[0, 1] += 1e-9
    dense = lanczos.to_dense(Matrix(array), Progress())
    np.testing.assert_array_equal(dense, (array + array.T) / 2)


def test_all_eigenpairs_are_those_of_the_matrix():
    array = with_eigenvalues([1.0, 2, 3])
    values, vectors = lanczos.all_eigenpairs(array)
    np.testing.assert_allclose(values, [1, 2, 3])
    np.testing.assert_allclose(vectors @ array, values[:, None] * vectors, atol=1e-12)
    values, vectors = lanczos.all_eigenpairs(array * np.nan)
    assert np.isnan(values).all()
    assert vectors.shape == (3, 3)


@pytest.mark.parametrize(
    ("which", "expected"),
    [("largest", [3, 4]), ("smallest", [-5, -1]), ("magnitude", [-5, 4])],
)
def test_the_outer_eigenpairs_are_at_the_chosen_end(which, expected):
    array = with_eigenvalues(np.r_[np.linspace(-1, 1, 37), 3, 4, -5])
    values, vectors, norm = lanczos.outer_eigenpairs(
        Matrix(array), 2, KEY, which, 1e-10, Progress()
    )
    assert norm == pytest.approx(5, rel=0.05)
    np.testing.assert_allclose(np.sort(values), expected, rtol=1e-9)
    np.testing.assert_allclose(vectors @ array, values[:, None] * vectors, atol=1e-8)


def test_the_outer_eigenvalues_of_zeros_are_zeros():
    zeros = Matrix(np.zeros((40, 40)))
    values, vectors, norm = lanczos.outer_eigenpairs(zeros, 2, KEY, "largest", 1e-10, Progress())
    assert norm == 0
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(2))


def test_eigenpairs_that_do_not_converge_are_nan(monkeypatch):
    monkeypatch.setattr(lanczos, "_MAX_RESTARTS", 1)
    monkeypatch.setattr(lanczos, "_MAX_DENSE", 299)
    array = with_eigenvalues(np.linspace(0, 1, 300))
    values, vectors, norm = lanczos.outer_eigenpairs(
        Matrix(array), 3, KEY, "largest", 1e-12, Progress()
    )
    assert np.isfinite(norm)
    missing = np.isnan(values)
    assert missing.any()
    assert np.isnan(vectors[missing]).all()


def test_eigenpairs_of_products_that_are_not_finite_are_nan():
    values, vectors, norm = lanczos.outer_eigenpairs(
        Matrix(np.full((40, 40), np.inf)), 2, KEY, "largest", 1e-4, Progress()
    )
    assert np.isnan(norm)
    assert np.isnan(values).all()
    assert np.isnan(vectors).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_quadrature_is_exact_for_polynomials(dtype):
    """With k steps, moments up to 2k - 1 of the probe's measure are exact."""
    array = with_eigenvalues(np.linspace(-1, 1.5, 60), dtype)
    progress, steps = Progress(), 5
    with jax.enable_x64(dtype == np.float64):
        nodes, weights = lanczos.quadrature(Matrix(array), KEY, 2, steps, progress)
        starts = np.asarray(lanczos._normal(jax.random.split(KEY, 2), 60), float)
    assert progress.count == 2 * steps
    for p, start in enumerate(starts / np.linalg.norm(starts, axis=1, keepdims=True)):
        vector = start
        for power in range(2 * steps):
            moment = np.sum(weights[p] * nodes[p] ** power)
            assert moment == pytest.approx(
                start @ vector, abs=1e-5 if dtype == np.float32 else 1e-12
            )
            vector = array.astype(float) @ vector


def test_the_quadrature_finds_no_eigenvalue_twice():
    """Without reorthogonalization, steps after convergence would find the outer one again."""
    array = with_eigenvalues(np.r_[np.linspace(-1, 1, 299), 50], np.float32)
    nodes, _ = lanczos.quadrature(Matrix(array), KEY, 3, 80, Progress())
    assert (np.abs(nodes - 50) < 1).sum(axis=1).tolist() == [1, 1, 1]


def test_an_exhausted_space_has_no_other_nodes():
    low_rank = with_eigenvalues(np.r_[np.zeros(295), 1, 2, 3, 4, 5], np.float32)
    nodes, weights = lanczos.quadrature(Matrix(low_rank), KEY, 3, 80, Progress())
    for probe_nodes, probe_weights in zip(nodes, weights, strict=True):
        kept = probe_nodes[probe_weights > 1e-9]
        assert set(np.abs(kept.round(3)).tolist()) == {0, 1, 2, 3, 4, 5}


def test_probes_in_blocks_give_the_same_quadrature(monkeypatch):
    matrix = Matrix(with_eigenvalues(np.linspace(-1, 2, 90)))
    whole = lanczos.quadrature(matrix, KEY, 5, 20, Progress())
    for numbers in (1, 2 * 20 * 90):
        monkeypatch.setattr(lanczos, "_MAX_NUMBERS", numbers)
        in_blocks = lanczos.quadrature(matrix, KEY, 5, 20, Progress())
        np.testing.assert_allclose(in_blocks, whole, atol=1e-9)


def test_a_probe_whose_product_is_not_finite_is_nan():
    nodes, weights = lanczos.quadrature(Matrix(np.full((9, 9), np.nan)), KEY, 2, 3, Progress())
    assert np.isnan(nodes).all()
    assert np.isnan(weights).all()
    assert np.isnan(lanczos.spectrum_range(nodes, weights)).all()


def test_nodes_of_no_weight_do_not_extend_the_range():
    nodes, weights = (
        np.array([[-9.0, 1, 2], [0, 3, 8]]),
        np.array([[0, 0.5, 0.5], [1, 1e-3, 1e-17]]),
    )
    assert lanczos.spectrum_range(nodes, weights) == (0, 3)


def test_signs_are_a_vector_of_ones_for_each_key():
    signs = lanczos.signs(jax.random.split(KEY, 3), 400)
    assert signs.shape == (3, 400)
    assert set(np.unique(signs).tolist()) == {-1, 1}
    assert (abs(signs.astype(float).mean(axis=1)) < 0.2).all()
    assert (signs[0] != signs[1]).any()
