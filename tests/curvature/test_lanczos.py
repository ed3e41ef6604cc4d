"""The Lanczos method against NumPy's eigenvalues of matrices that are small enough to write down."""

import numpy as np
import pytest
import torch

from fragile_utils.curvature import lanczos

SIZE = 40


def matrices(*spectra, seed=0):
    """Symmetric matrices with these eigenvalues, (N, D, D)."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for values in spectra:
        values = torch.as_tensor(values, dtype=torch.float64)
        basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=generator))
        found.append(basis * values @ basis.T)
    return torch.stack(found)


def operator(matrix):
    return lambda v: torch.einsum("nij,nj->ni", matrix, v)


def starts(count, size=SIZE):
    return torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


SPREAD = np.linspace(-1, 1.5, SIZE) ** 3
GAUSSIAN = np.random.default_rng(0).normal(size=SIZE)


@pytest.mark.parametrize("steps", [1, 7, SIZE, 3 * SIZE])
def test_the_decomposition_is_tridiagonal_and_orthonormal(steps):
    matrix = matrices(SPREAD, GAUSSIAN)
    done = lanczos.tridiagonalize(operator(matrix), starts(2), steps)
    m = min(steps, SIZE)
    assert done.basis.shape == (2, m, SIZE)
    torch.testing.assert_close(done.basis @ done.basis.mT, torch.eye(m).double().expand(2, -1, -1))
    projected = done.basis @ matrix @ done.basis.mT
    beside = done.beside[:, : m - 1]
    expected = torch.diag_embed(done.diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    torch.testing.assert_close(projected, expected)


@pytest.mark.parametrize("k", [1, 5])
def test_the_top_eigenpairs_equal_numpys(k):
    matrix = matrices(SPREAD, GAUSSIAN)
    values, vectors, residuals, products = lanczos.top(operator(matrix), starts(2), k, tolerance=1e-10)
    assert products <= SIZE
    for i in range(2):
        exact, exact_vectors = np.linalg.eigh(matrix[i].numpy())
        order = np.argsort(-np.abs(exact))[:k]
        np.testing.assert_allclose(values[i], exact[order], atol=1e-9)
        overlap = np.abs((vectors[i].numpy() * exact_vectors[:, order].T).sum(1))
        np.testing.assert_allclose(overlap, 1, atol=1e-9)
    real = operator(matrix)(vectors[:, 0]) - values[:, :1] * vectors[:, 0]
    assert (real.norm(dim=1) <= residuals[:, 0] + 1e-9).all()


def test_it_stops_as_soon_as_the_residuals_are_small():
    spectrum = np.concatenate([[50.0, -40.0], np.linspace(-1, 1, 298)])
    matrix = matrices(spectrum)
    values, vectors, residuals, products = lanczos.top(operator(matrix), starts(1, 300), 2, tolerance=1e-4)
    assert products <= 25
    assert (residuals <= 1e-4 * 50).all()
    real = torch.stack([operator(matrix)(vectors[:, j])[0] - values[0, j] * vectors[0, j] for j in range(2)])
    torch.testing.assert_close(real.norm(dim=1), residuals[0], atol=1e-8, rtol=1e-3)
    np.testing.assert_allclose(values[0], [50, -40], atol=1e-4)


DEGENERATE = {
    "zero": np.zeros(8),
    "the identity": np.ones(8),
    "rank two": np.r_[3.0, -2.0, np.zeros(6)],
    "repeated": np.r_[3.0, 3.0, 3.0, -1, -1, 0.5, 0.5, 0.5],
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_it_goes_on_where_the_space_is_exhausted(name):
    matrix = matrices(DEGENERATE[name])
    values, vectors, _, _ = lanczos.top(operator(matrix), starts(1, 8), 8, tolerance=1e-12)
    expected = DEGENERATE[name][np.argsort(-np.abs(DEGENERATE[name]), kind="stable")]
    np.testing.assert_allclose(np.abs(values[0]), np.abs(expected), atol=1e-12)
    np.testing.assert_allclose(np.sort(values[0]), np.sort(expected), atol=1e-12)
    torch.testing.assert_close(vectors[0] @ vectors[0].T, torch.eye(8).double())


def test_a_matrix_that_is_done_waits_for_the_others():
    matrix = matrices(np.r_[3.0, -2.0, np.zeros(SIZE - 2)], SPREAD)
    values, *_ = lanczos.top(operator(matrix), starts(2), 4, tolerance=1e-10)
    np.testing.assert_allclose(values[0], [3, -2, 0, 0], atol=1e-10)
    np.testing.assert_allclose(values[1], SPREAD[np.argsort(-np.abs(SPREAD))[:4]], atol=1e-9)


@pytest.mark.parametrize("steps", [3, 6])
def test_the_quadrature_is_exact_for_polynomials_of_degree_2m_minus_1(steps):
    matrix, start = matrices(SPREAD, GAUSSIAN), starts(2)
    nodes, weights = lanczos.quadrature(operator(matrix), start, steps)
    torch.testing.assert_close(weights.sum(1), torch.ones(2).double())
    q = start / start.norm(dim=1, keepdim=True)
    for degree in range(2 * steps):
        exact = torch.stack([q[i] @ torch.linalg.matrix_power(matrix[i], degree) @ q[i] for i in range(2)])
        torch.testing.assert_close((weights * nodes**degree).sum(1), exact)


def test_float32_finds_the_same_within_its_precision():
    matrix = matrices(SPREAD, GAUSSIAN)
    exact, *_ = lanczos.top(operator(matrix), starts(2), 3, tolerance=1e-10)
    values, vectors, _, _ = lanczos.top(operator(matrix.float()), starts(2).float(), 3, tolerance=1e-5)
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close(values.double(), exact, atol=1e-4, rtol=0)


def test_products_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="expected finite products"):
        lanczos.tridiagonalize(lambda v: v * torch.nan, starts(1), 3)
    with pytest.raises(ValueError, match="expected finite products"):  # also where it looks on the way
        lanczos.top(lambda v: v * torch.nan, starts(1), 2, steps=7)
