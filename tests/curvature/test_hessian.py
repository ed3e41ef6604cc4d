"""The Hessian of a score: against the full matrix and finite differences in float64."""

import dataclasses

import pytest
import torch
from bends import BETA, SHAPE, TARGETS, D, Smooth, build, directions
from networks import Tiny
from torch import nn

from fragile_utils import curvature, saliency
from fragile_utils._base import memory
from fragile_utils.models.surrogate import softplus_surrogate

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of torch.func


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


# --- Every function of the room --------------------------------------------------------------------------------------


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


def test_arguments_are_looked_at_once_however_many_parts_there_are(images, monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "images_at_once", lambda *_: 1)
    monkeypatch.setattr("fragile_utils.curvature.hessian.check_arguments", lambda *_: seen.append(1))
    curvature.product(build("softplus"), images, TARGETS, directions())
    assert len(seen) == 1 < len(images)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_global_changes_and_the_model_gets_no_gradients(name, images):
    model = build("softplus").requires_grad_(True)
    state = torch.random.get_rng_state()
    for value in tensors(FUNCTIONS[name](model, images, TARGETS)).values():
        assert not value.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in model.parameters())


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


IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
V = torch.ones(2, *SHAPE)
T = torch.tensor([0, 1])


BAD = {
    "0..255": (lambda m: curvature.product(m, IMAGES * 255, T, V), "divide by 255"),
    "a label too many": (lambda m: curvature.product(m, IMAGES, torch.tensor([0, 5]), V), "targets: expected classes"),
    "shape": (lambda m: curvature.product(m, IMAGES, T, V[:1]), r"directions: expected a tensor \(2, 3, 16, 16\)"),
    "an array": (lambda m: curvature.product(m, IMAGES, T, V.numpy()), "got ndarray"),
    "two images for SciPy": (lambda m: curvature.linear_operator(m, IMAGES, T), "expected one image"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(softplus_surrogate(Tiny().eval(), BETA))


def test_a_hessian_that_is_zero_for_kinks_that_nobody_smooths_is_refused():
    class Kinked(torch.nn.Module):
        def forward(self, images):
            x = images.flatten(1)
            return torch.stack([torch.where(x > 0.5, x, 2 * x).sum(1), x.sum(1)], dim=1)

    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"its Hessian is zero, since it computes .*where"):
        curvature.product(Kinked().eval(), images, torch.tensor([0, 0]), torch.rand_like(images))
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
    assert not curvature.product(linear, images, torch.tensor([0, 1]), torch.rand_like(images)).any()
