"""The spectrum of the Hessian: against NumPy and SciPy, and the moments of the full matrix."""

import math

import numpy as np
import pytest
import torch
from bends import BETA, SHAPE, TARGETS, D, build
from networks import Tiny
from scipy.sparse.linalg import eigsh
from torch import nn

from fragile_utils import curvature
from fragile_utils.models.surrogate import softplus_surrogate

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of torch.func


def test_eigenpairs_equal_numpys(images, matrices):
    found = curvature.eigenpairs(build("softplus"), images, TARGETS, k=5, tolerance=1e-9)
    for i in range(3):
        values, vectors = np.linalg.eigh(matrices[i].numpy())
        order = np.argsort(-np.abs(values))[:5]
        np.testing.assert_allclose(found.values[i], values[order], atol=1e-6 * np.abs(values).max())
        overlap = np.abs((found.vectors[i].flatten(1).numpy() * vectors[:, order].T).sum(1))
        np.testing.assert_allclose(overlap, 1, atol=1e-6)


def test_eigenpairs_equal_scipys(images):
    model, one, target = build("no kinks"), images[1:2], TARGETS[1:2]
    operator = curvature.linear_operator(model, one, target)
    assert operator.dtype == np.float64
    values, vectors = eigsh(operator, k=4, which="LM", tol=1e-9)
    order = np.argsort(-np.abs(values))
    found = curvature.eigenpairs(model, one, target, k=4, tolerance=1e-9)
    np.testing.assert_allclose(found.values[0], values[order], rtol=1e-6)
    overlap = np.abs((found.vectors[0].flatten(1).numpy() * vectors[:, order].T).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=1e-6)


def test_residuals_are_those_of_the_eigenpairs(images):
    model = build("softplus")
    found = curvature.eigenpairs(model, images, TARGETS, k=2, tolerance=0.05)
    h = curvature.Hessian(model, images, TARGETS)
    for j in range(2):
        real = h @ found.vectors[:, j] - found.values[:, j, None, None, None] * found.vectors[:, j]
        torch.testing.assert_close(real.flatten(1).norm(dim=1), found.residuals[:, j], atol=1e-9, rtol=1e-6)
    assert (found.residuals <= 0.05 * found.values[:, :1].abs()).all()
    assert 2 <= found.products < 60


def test_moments_are_within_their_errors_and_these_shrink(images, matrices):
    few, many = (curvature.moments(build("softplus"), images, TARGETS, probes=n) for n in (10, 160))
    trace = matrices.diagonal(dim1=1, dim2=2).sum(1)
    norm = matrices.square().sum((1, 2))
    assert ((many.trace - trace).abs() <= 4 * many.trace_error).all()
    assert ((many.squared_norm - norm).abs() <= 4 * many.squared_norm_error).all()
    assert (many.squared_norm_error < 0.5 * few.squared_norm_error).all()
    # The variance of Hutchinson's estimate with signs is twice the sum of the squares off the diagonal.
    expected = (2 * (norm - matrices.diagonal(dim1=1, dim2=2).square().sum(1)) / 160).sqrt()
    torch.testing.assert_close(many.trace_error, expected, atol=0, rtol=0.3)


def test_the_spectrum_has_the_moments_and_the_shape_of_the_matrix(images, matrices):
    spectrum = curvature.spectrum(build("softplus"), images, TARGETS, probes=20, steps=25)
    values = torch.linalg.eigvalsh(matrices)
    assert spectrum.dimension == D
    torch.testing.assert_close(spectrum.mean(torch.ones_like), torch.ones(3).double())
    torch.testing.assert_close(spectrum.mean(torch.square), values.square().mean(1), rtol=0.15, atol=0)
    wide = values.abs().amax().item() / 20
    torch.testing.assert_close(
        spectrum.mean(lambda t: (t.abs() < wide).double()), (values.abs() < wide).double().mean(1), rtol=0, atol=0.05
    )
    grid = torch.linspace(2 * values.min().item(), 2 * values.max().item(), 2001, dtype=torch.float64)
    density = spectrum.density(grid, wide)
    exact = torch.exp(-((grid[:, None] - values[:, None]) / wide).square() / 2).mean(2) / (
        wide * math.sqrt(2 * math.pi)
    )
    assert torch.trapezoid((density - exact).abs(), grid).max() < 0.05
    torch.testing.assert_close(torch.trapezoid(density, grid), torch.ones(3).double(), atol=1e-3, rtol=0)


def test_the_density_is_where_the_spectrum_is():
    values, grid = torch.ones(2, 4, device="meta"), torch.linspace(0, 1, 3)
    assert curvature.Spectrum(values, values, D).density(grid, 0.1).device == values.device


def test_moments_and_spectrum_of_the_same_signs_agree(images):
    model = build("softplus")
    moments = curvature.moments(model, images, TARGETS, probes=3, seed=5)
    spectrum = curvature.spectrum(model, images, TARGETS, probes=3, steps=4, seed=5)
    torch.testing.assert_close(D * spectrum.mean(lambda t: t), moments.trace)
    torch.testing.assert_close(D * spectrum.mean(torch.square), moments.squared_norm)


def test_seeds(images):
    model = build("softplus")
    first, again, other = (curvature.moments(model, images, TARGETS, probes=2, seed=s).trace for s in (3, 3, 30))
    assert torch.equal(first, again)
    assert (first != other).all()
    alone = curvature.moments(model, images[1:2], TARGETS[1:2], probes=2, seed=4)
    torch.testing.assert_close(alone.trace, first[1:2])


def test_the_top_of_squeezenets_spectrum(squeezenet, correct):
    """154,587 dimensions."""
    one = correct[1]
    found = curvature.eigenpairs(softplus_surrogate(squeezenet), one.images, one.labels, k=10)
    assert (found.residuals <= 1e-3 * found.values[:, :1].abs()).all()
    products = torch.stack(
        [
            curvature.product(softplus_surrogate(squeezenet), one.images, one.labels, found.vectors[:, j])[0]
            for j in range(10)
        ]
    )
    real = (products - found.values[0, :, None, None, None] * found.vectors[0]).flatten(1).norm(dim=1)
    assert (real <= 2e-3 * found.values[:, 0].abs()).all()
    overlaps = found.vectors[0].flatten(1) @ found.vectors[0].flatten(1).T
    torch.testing.assert_close(overlaps, torch.eye(10), atol=1e-4, rtol=0)


# --- Bad input -------------------------------------------------------------------------------------------------------


class NotFinite(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :5] * torch.nan


IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0, 1])
SPECTRUM = curvature.Spectrum(torch.zeros(2, 3), torch.ones(2, 3) / 3, D)


BAD = {
    "labels": (lambda m: curvature.moments(m, IMAGES, T[:1]), r"targets: expected an integer tensor \(2,\)"),
    "labels of another type": (lambda m: curvature.moments(m, IMAGES, T.int()), "targets: .* got dtype torch.int32"),
    "no finite score": (lambda m: curvature.moments(NotFinite().eval(), IMAGES, T), "model: expected finite logits"),
    "k": (lambda m: curvature.eigenpairs(m, IMAGES, T, k=769), "k: expected a whole number from 1 to 768"),
    "too few steps": (lambda m: curvature.eigenpairs(m, IMAGES, T, k=5, steps=4), "steps: expected at least k = 5"),
    "tolerance": (lambda m: curvature.eigenpairs(m, IMAGES, T, tolerance=0), "tolerance: expected a number above 0"),
    "one probe": (lambda m: curvature.moments(m, IMAGES, T, probes=1), "probes: expected at least 2"),
    "seed": (lambda m: curvature.eigenpairs(m, IMAGES, T, seed="a"), "seed: expected a whole number, got 'a'"),
    "half a seed": (lambda m: curvature.spectrum(m, IMAGES, T, seed=1.5), "seed: expected a whole number, got 1.5"),
    "seed of moments": (
        lambda m: curvature.moments(m, IMAGES, T, seed=None),
        "seed: expected a whole number, got None",
    ),
    "list": (lambda m: SPECTRUM.density([1, 2], 1.0), r"grid: expected a tensor \(G,\), got list"),
    "number": (lambda m: SPECTRUM.density(torch.tensor(1.0), 1.0), r"grid: expected a tensor \(G,\), got \(\)"),
    "no probe": (lambda m: curvature.spectrum(m, IMAGES, T, probes=0), "probes: expected a whole number"),
    "training": (lambda m: curvature.moments(m.train(), IMAGES, T), "expected evaluation mode"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(softplus_surrogate(Tiny().eval(), BETA))
