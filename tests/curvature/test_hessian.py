"""Curvature in input space: against the full Hessian, finite differences and NumPy in float64."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from scipy.sparse.linalg import eigsh
from torch import nn

from fragile_utils import curvature, saliency
from fragile_utils._base import memory
from fragile_utils.models.smooth_pooling import smooth_surrogate
from fragile_utils.models.surrogate import softplus_surrogate

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of torch.func

BETA = 8.0
SHAPE = (3, 16, 16)
D = math.prod(SHAPE)


class Smooth(nn.Module):
    """A small network that is smooth by itself."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(6 * 7 * 7, 5)

    def forward(self, images):
        return self.last(torch.tanh(self.first(images)).flatten(1))


def build(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = (Smooth() if name == "smooth" else Tiny()).double().eval().requires_grad_(False)
    return {"smooth": lambda m: m, "softplus": softplus_surrogate, "no kinks": smooth_surrogate}[name](
        network, *([] if name == "smooth" else [BETA])
    )


@pytest.fixture(params=["smooth", "softplus", "no kinks"])
def model(request):
    return build(request.param)


@pytest.fixture
def images():
    return torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


TARGETS = torch.tensor([0, 3, 4])


def directions(seed=2, count=3):
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def matrices():
    """The full Hessians (N, D, D) of the softplus surrogate, by torch.func, of the network written out."""
    tiny = build("softplus").model

    def score(x, target):
        x = F.softplus(tiny.first(2 * x[None] - 1), BETA, threshold=100)
        x = F.max_pool2d(F.softplus(tiny.second(x), BETA, threshold=100), 2)
        return tiny.last(x.flatten(1))[0, target]

    images = torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = [torch.func.hessian(score)(x, target) for x, target in zip(images, TARGETS.tolist(), strict=True)]
    return torch.stack(found).reshape(3, D, D)


# --- Products --------------------------------------------------------------------------------------------------------


def test_products_equal_the_full_hessian(images, matrices):
    v = directions()
    expected = torch.einsum("nij,nj->ni", matrices, v.flatten(1)).view_as(v)
    got = curvature.product(build("softplus"), images, TARGETS, v)
    assert (got - expected).norm() <= 1e-6 * expected.norm()


def test_products_are_the_same_where_gradients_are_off(model, images):
    v = directions()
    expected = curvature.product(model, images, TARGETS, v)
    assert expected.abs().max() > 0
    with torch.no_grad():
        assert torch.equal(curvature.product(model, images, TARGETS, v), expected)


def test_products_equal_finite_differences(model, images):
    v, step = directions(), 1e-6
    there, back = (saliency.Gradient().explain(model, images + s * v, TARGETS)[0] for s in (step, -step))
    expected = (there - back) / (2 * step)
    got = curvature.product(model, images, TARGETS, v)
    assert (got - expected).norm() <= 1e-6 * expected.norm()


def test_the_operator_is_linear_symmetric_and_keeps_the_gradient(model, images):
    h = curvature.Hessian(model, images, TARGETS)
    v, w = directions(2), directions(3)
    torch.testing.assert_close(h @ (2 * v - w), 2 * (h @ v) - h @ w)
    torch.testing.assert_close(((h @ v) * w).flatten(1).sum(1), ((h @ w) * v).flatten(1).sum(1))
    gradient, logits = saliency.Gradient().explain(model, images, TARGETS)
    torch.testing.assert_close(h.gradient, gradient)
    torch.testing.assert_close(h.scores, logits.gather(1, TARGETS[:, None])[:, 0])
    assert not h.gradient.requires_grad


FUNCTIONS = {
    "product": lambda *a: curvature.product(*a, directions(count=len(a[1]))),
    "eigenpairs": lambda *a: curvature.eigenpairs(*a, k=3, tolerance=1e-9),
    "moments": lambda *a: curvature.moments(*a, probes=3),
    "spectrum": lambda *a: curvature.spectrum(*a, probes=2, steps=5),
    "change": lambda *a: curvature.change(*a, directions(count=len(a[1])), [0.01, 0.1]),
    "curvature": lambda *a: curvature.along(*a, directions(count=len(a[1]))),
}


def tensors(result):
    if isinstance(result, torch.Tensor):
        return {"": result}
    found = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_large_batch_in_parts_equals_the_whole(name, images, monkeypatch):
    model = build("softplus")
    whole = tensors(FUNCTIONS[name](model, images, TARGETS))
    monkeypatch.setattr(memory, "images_at_once", lambda *_: 2)
    parts = tensors(FUNCTIONS[name](model, images, TARGETS))
    for key, value in whole.items():
        got, value = (t.abs() if key == "vectors" else t for t in (parts[key], value))
        torch.testing.assert_close(got, value, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_global_changes_and_the_model_gets_no_gradients(name, images):
    model = build("softplus").requires_grad_(True)
    state = torch.random.get_rng_state()
    for value in tensors(FUNCTIONS[name](model, images, TARGETS)).values():
        assert not value.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in model.parameters())


# --- The spectrum ----------------------------------------------------------------------------------------------------


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


# --- Directions ------------------------------------------------------------------------------------------------------


def test_curvature_along_eigenvectors_and_others(images, matrices):
    model = build("softplus")
    pairs = curvature.eigenpairs(model, images, TARGETS, k=1, tolerance=1e-9)
    of_first = curvature.along(model, images, TARGETS, 7 * pairs.vectors[:, 0])
    torch.testing.assert_close(of_first.along, pairs.values[:, 0], rtol=1e-6, atol=0)
    torch.testing.assert_close(of_first.turning, pairs.values[:, 0].abs(), rtol=1e-6, atol=0)
    v = directions()
    other, flat = curvature.along(model, images, TARGETS, v), v.flatten(1)
    quotient = torch.einsum("ni,nij,nj->n", flat, matrices, flat) / flat.square().sum(1)
    torch.testing.assert_close(other.along, quotient)
    assert (other.along.abs() <= other.turning).all()
    assert (other.turning < of_first.turning).all()


def test_cosine():
    a = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    b = torch.tensor([[0.0, 2.0], [6.0, 8.0], [1.0, 1.0]])
    torch.testing.assert_close(curvature.cosine(a, b), torch.tensor([0, 1, torch.nan]), equal_nan=True)
    with pytest.raises(ValueError, match="one shape"):
        curvature.cosine(a, b[:2])


def test_change_is_what_finite_differences_say(images):
    model, v = build("no kinks"), directions()
    eps = [1e-5, 1e-3, 1e-2, 0.1, 1.0]
    found = curvature.change(model, images, TARGETS, v, eps)
    g = [saliency.Gradient().explain(model, images + e * v, TARGETS)[0].flatten(1) for e in (0, *eps)]
    hd = curvature.product(model, images, TARGETS, v).flatten(1)
    for row, e in enumerate(eps):
        moved = g[row + 1] - g[0]
        torch.testing.assert_close(found.real[row], moved.norm(dim=1) / g[0].norm(dim=1))
        torch.testing.assert_close(found.predicted[row], e * hd.norm(dim=1) / g[0].norm(dim=1))
        torch.testing.assert_close(
            found.error[row], (moved - e * hd).norm(dim=1) / moved.norm(dim=1), rtol=1e-4, atol=1e-7
        )
        torch.testing.assert_close(found.cosine[row], curvature.cosine(moved, hd))
    assert found.eps == tuple(eps)


def test_without_kinks_the_error_falls_with_eps_and_at_a_kink_it_does_not(images):
    """Halving a small eps halves the error of a first-order prediction of something smooth."""
    v, eps = directions(), [1e-4, 2e-4]
    smooth = curvature.change(build("no kinks"), images, TARGETS, v, eps)
    torch.testing.assert_close(smooth.error[1] / smooth.error[0], torch.full((3,), 2.0).double(), rtol=0.05, atol=0)
    assert (smooth.error < 0.02).all()
    relu = build("softplus").model
    measured = curvature.change(build("softplus"), images, TARGETS, v, [0.01, 0.02], measured_on=relu)
    assert not torch.isclose(measured.real, smooth.real).any()
    start, moved = (saliency.Gradient().explain(relu, x, TARGETS)[0].flatten(1) for x in (images, images + 0.02 * v))
    torch.testing.assert_close(measured.real[1], (moved - start).norm(dim=1) / start.norm(dim=1))


def test_reach_is_where_the_error_first_passes_the_level():
    error = torch.tensor([[0.1, 0.6, 0.1], [0.2, 0.9, 0.2], [0.8, 0.3, 0.3], [0.4, 0.9, 0.4]])
    change = curvature.Change((0.1, 1.0, 10.0, 100.0), error, error, error, error)
    reach = change.reach()
    torch.testing.assert_close(reach, torch.tensor([10**0.5, torch.nan, torch.nan]), equal_nan=True)
    assert change.reach(0.25)[2] == pytest.approx(10**0.5)


# --- Networks without a Hessian --------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_a_linear_score_has_none(frozen, images):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(D, 5)).double().eval().requires_grad_(not frozen)
    assert (curvature.product(linear, images, TARGETS, directions()) == 0).all()
    pairs = curvature.eigenpairs(linear, images, TARGETS, k=2)
    assert (pairs.values == 0).all()
    torch.testing.assert_close(pairs.vectors.flatten(2).norm(dim=2), torch.ones(3, 2).double())
    assert (curvature.moments(linear, images, TARGETS, probes=2).squared_norm == 0).all()


KINKS = {
    "nn.ReLU": nn.ReLU(),
    "leaky": nn.LeakyReLU(),
    "functional": lambda x: torch.nn.functional.relu(x, inplace=True),
    "ReLU6": nn.ReLU6(),
}


class Kinked(Smooth):
    def __init__(self, activation):
        super().__init__()
        self.activation = activation

    def forward(self, images):
        return self.last(self.activation(self.first(images)).flatten(1))


@pytest.mark.parametrize("kind", KINKS)
def test_a_network_with_kinks_is_refused_and_told_of_the_surrogate(kind, images):
    model = Kinked(KINKS[kind]).double().eval()
    with pytest.raises(ValueError, match=r"ReLU or another piecewise linear.*take softplus_surrogate\(model\)"):
        curvature.product(model, images, TARGETS, directions())
    assert (curvature.product(softplus_surrogate(model), images, TARGETS, directions()) != 0).any()


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.Softplus()], ids=repr)
def test_smooth_activations_are_not(activation, images):
    assert (curvature.product(Kinked(activation).double().eval(), images, TARGETS, directions()) != 0).any()


# --- Bad input -------------------------------------------------------------------------------------------------------


class NotFinite(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :5] * torch.nan


IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
V = torch.ones(2, *SHAPE)
T = torch.tensor([0, 1])
BAD = {
    "0..255": (lambda m: curvature.product(m, IMAGES * 255, T, V), "divide by 255"),
    "a label too many": (lambda m: curvature.product(m, IMAGES, torch.tensor([0, 5]), V), "targets: expected classes"),
    "labels": (lambda m: curvature.moments(m, IMAGES, T[:1]), r"targets: expected an integer tensor \(2,\)"),
    "labels of another type": (lambda m: curvature.moments(m, IMAGES, T.int()), "targets: .* got dtype torch.int32"),
    "no finite score": (lambda m: curvature.moments(NotFinite().eval(), IMAGES, T), "model: expected finite logits"),
    "shape": (lambda m: curvature.product(m, IMAGES, T, V[:1]), r"directions: expected a tensor \(2, 3, 16, 16\)"),
    "dtype": (lambda m: curvature.along(m, IMAGES, T, V.double()), "got .* of torch.float64"),
    "an array": (lambda m: curvature.product(m, IMAGES, T, V.numpy()), "got ndarray"),
    "NaN": (lambda m: curvature.change(m, IMAGES, T, V * torch.nan, [0.1]), "not finite"),
    "no direction": (lambda m: curvature.along(m, IMAGES, T, 0 * V), "no direction of length zero"),
    "k": (lambda m: curvature.eigenpairs(m, IMAGES, T, k=769), "k: expected a whole number from 1 to 768"),
    "too few steps": (lambda m: curvature.eigenpairs(m, IMAGES, T, k=5, steps=4), "steps: expected at least k = 5"),
    "tolerance": (lambda m: curvature.eigenpairs(m, IMAGES, T, tolerance=0), "tolerance: expected a number above 0"),
    "one probe": (lambda m: curvature.moments(m, IMAGES, T, probes=1), "probes: expected at least 2"),
    "no probe": (lambda m: curvature.spectrum(m, IMAGES, T, probes=0), "probes: expected a whole number"),
    "eps falls": (lambda m: curvature.change(m, IMAGES, T, V, [0.2, 0.1]), "eps: expected increasing"),
    "no eps": (lambda m: curvature.change(m, IMAGES, T, V, []), "eps: expected increasing"),
    "eps 0": (lambda m: curvature.change(m, IMAGES, T, V, [0.0, 0.1]), "eps: expected a number above 0"),
    "two images for SciPy": (lambda m: curvature.linear_operator(m, IMAGES, T), "expected one image"),
    "training": (lambda m: curvature.moments(m.train(), IMAGES, T), "expected evaluation mode"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(softplus_surrogate(Tiny().eval(), BETA))


# --- SqueezeNet ------------------------------------------------------------------------------------------------------


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
