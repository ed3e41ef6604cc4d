"""Gradients and products with the Hessian, layer by layer, against autograd's full Hessian in float64."""

import copy
import gc
import weakref
from contextlib import nullcontext, suppress

import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from torch import nn

from fragile_utils import saliency
from fragile_utils._base import once
from fragile_utils._base.layout import is_channels_last
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency.deeplift import Rescale
from fragile_utils.saliency.lrp import AlphaBetaRule, DeepTaylorRule, EpsilonRule
from fragile_utils.saliency.propagation import passes, programs
from fragile_utils.saliency.propagation.elementwise import Elementwise
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.steps import Untraceable


class Residual(nn.Module):
    """Batch norm, a residual sum, concatenation, groups, dilation, average pooling, a reused activation."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x * 2 - 1)))
        y = self.relu(self.grouped(x) + x)
        y = torch.cat([F.avg_pool2d(y, 2), F.adaptive_max_pool2d(x, 2)], dim=1)
        return self.last(y.mean(dim=(2, 3)))


class Smooth(nn.Module):
    """Activations of other kinds, padding by name, and options of one number for both axes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding="same", dilation=(1,))
        self.second = nn.Conv2d(4, 4, 2, stride=(2,), bias=False)
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        x = F.leaky_relu(self.first(x), 0.1)
        x = torch.sigmoid(self.second(x)) - 0.5
        x = F.gelu(F.max_pool2d(x, 2))
        return self.last(torch.tanh(x).flatten(1)) / 2


class Shared(nn.Module):
    """One ReLU that a max pool and another layer read: the pool must not overtake it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        both = torch.cat([F.max_pool2d(x, 4).mean((2, 3)), x.sum((2, 3))], 1)
        return self.last(both)


NETWORKS = {"tiny": (Tiny, 16), "residual": (Residual, 8), "smooth": (Smooth, 8), "shared": (Shared, 8)}


@pytest.fixture(params=NETWORKS)
def case(request):
    """A surrogate, images, targets and vectors, in float64."""
    make, size = NETWORKS[request.param]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().double().eval().requires_grad_(False)
    if isinstance(model, Residual):
        model.norm.running_mean += 0.1
        model.norm.running_var *= 1.5
    images, vectors = (torch.rand(2, 3, size, size, generator=generator, dtype=torch.float64) for _ in range(2))
    return softplus_surrogate(model, 3.0), images, torch.tensor([0, 2]), vectors - 0.5


def by_autograd(model, images, targets):
    """Return gradient and Hessian of each image's score, one image at a time."""
    gradients, hessians = [], []
    for image, target in zip(images, targets, strict=True):

        def score(x, target=target):
            return model(x[None])[0, target]

        gradients.append(torch.autograd.functional.jacobian(score, image))
        hessians.append(torch.autograd.functional.hessian(score, image).flatten(3).flatten(0, 2))
    return torch.stack(gradients), torch.stack(hessians)


def test_gradient_and_products_equal_the_full_hessian(case):
    model, images, targets, vectors = case
    made = passes.Pass(model, images, targets)
    gradients, hessians = by_autograd(model, images, targets)
    wanted = (hessians @ vectors.flatten(1)[:, :, None]).view_as(vectors)
    assert wanted.abs().amax() > 1e-4
    torch.testing.assert_close(made.multipliers, gradients, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(made.logits, model(images))
    for _ in range(2):  # the second product must not meet what the first has left
        torch.testing.assert_close(made.product(vectors), wanted, rtol=1e-9, atol=1e-13)


class Mobile(nn.Module):
    """What networks for small devices are made of."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu6(self.norm(self.first(x)))
        y = F.leaky_relu(self.depthwise(x)) + x
        return self.last(F.avg_pool2d(F.silu(y), 2).mean((2, 3)) + F.adaptive_avg_pool2d(F.hardswish(y), 1).flatten(1))


def test_all_values_of_a_walk_have_the_layout_of_the_images(monkeypatch):
    """Elementwise products of two layouts take several times as long."""
    with torch.random.fork_rng():
        model = softplus_surrogate(Mobile().double().eval().requires_grad_(False), 2.0)
    seen = []

    def watched(name):
        original = getattr(Elementwise, name)

        def method(self, values, kept, *rest):
            seen.extend(values if isinstance(values, list) else [values])
            return original(self, values, kept, *rest)

        monkeypatch.setattr(Elementwise, name, method)

    for name in ("propagate", "differentiate", "transposed_and_bent"):
        watched(name)
    images, vectors = torch.rand(2, 2, 3, 17, 17, dtype=torch.float64)
    passes.Pass(model, images.contiguous(memory_format=torch.channels_last), torch.arange(2)).product(vectors)
    assert len(seen) >= 3 * 4
    assert all(is_channels_last(value) for value in seen)


def test_channels_last_makes_no_difference(case):
    model, images, targets, vectors = case
    plain = passes.Pass(model, images, targets)
    last = passes.Pass(model, images.contiguous(memory_format=torch.channels_last), targets)
    torch.testing.assert_close(last.multipliers, plain.multipliers)
    torch.testing.assert_close(last.product(vectors), plain.product(vectors))


def test_the_function_differentiates_gradient_and_logits(case):
    model, images, targets, vectors = case
    x = images.clone().requires_grad_()
    gradient, logits = passes.multipliers(model, x, targets)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view_as(logits)
    (found,) = torch.autograd.grad((gradient * vectors).sum() + (logits * weights).sum(), x)
    y = images.clone().requires_grad_()
    outputs = model(y)
    (g,) = torch.autograd.grad(outputs.gather(1, targets[:, None]).sum(), y, create_graph=True)
    (wanted,) = torch.autograd.grad((g * vectors).sum() + (outputs * weights).sum(), y)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-13)


RULES = {
    "gradient": Rule(),
    "deeplift": Rescale(),
    "lrp-epsilon": EpsilonRule(1e-2),
    "zplus": AlphaBetaRule(1e-2),
    "alphabeta": AlphaBetaRule(1e-2, 2.0, 1.0),
    "deep-taylor": DeepTaylorRule(1e-2),
}


def test_each_rule_changes_with_the_image_as_differences_say(case):
    """Central differences of <v, M(x)> in float64, along several directions at once."""
    model, images, targets, vectors = case
    generator = torch.Generator().manual_seed(3)
    reference = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    directions = torch.randn(4, *images.shape, generator=generator, dtype=torch.float64)
    for name, rule in RULES.items():

        def value(x, rule=rule):
            found, logits = propagate(model, x, targets, rule, reference, create_graph=True)
            return (found * vectors).sum() + logits[:, 1].square().sum()

        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value(x), x)
        assert gradient.abs().amax() > 1e-4, name
        for d in directions:
            expected = (value(images + 1e-6 * d) - value(images - 1e-6 * d)) / 2e-6
            assert abs((gradient * d).sum() - expected) <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("rule", [Rescale(), DeepTaylorRule()], ids=["deeplift", "deep-taylor"])
def test_on_squeezenet_each_rule_changes_with_the_image_as_differences_say(rule, squeezenet):
    model = softplus_surrogate(copy.deepcopy(squeezenet).double())
    generator = torch.Generator().manual_seed(0)
    images, vectors, direction = torch.rand(3, 2, 3, 63, 63, generator=generator, dtype=torch.float64)

    def value(x):
        reference = images.new_full((1, 3, 63, 63), 0.45)
        return (propagate(model, x, torch.tensor([0, 1]), rule, reference, create_graph=True)[0] * vectors).sum()

    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x)
    step = 1e-7 * (direction - 0.5)
    expected = value(images + step) - value(images - step)
    assert abs(2 * (gradient * step).sum() - expected) <= 1e-4 * abs(expected)


@pytest.mark.parametrize("case", ["tiny", "residual", "shared"], indirect=True)
def test_where_the_image_is_the_reference_the_slope_still_bends(case):
    model, images, targets, vectors = case

    def value(x):
        return (propagate(model, x, targets, Rescale(), images, create_graph=True)[0] * vectors).sum()

    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x)
    shift = 1e-4 * (vectors.roll(1) - 0.1)
    expected = (value(images + shift) - value(images - shift)) / 2
    assert abs((gradient * shift).sum() - expected) <= 1e-3 * abs(expected)


def test_in_a_run_a_program_is_traced_once(case, monkeypatch):
    surrogate, images, targets, _ = case
    traced, trace = [], programs.trace
    monkeypatch.setattr(programs, "trace", lambda *given: traced.append(given) or trace(*given))
    reference = torch.full_like(images[:1], 0.5)
    propagate(surrogate.model, images, targets, Rescale(), reference)  # compared with autograd
    for in_a_run, times in ((nullcontext, 4), (once.run, 2)):  # of the images, and of the reference
        traced.clear()
        with in_a_run():
            for _ in range(2):
                propagate(surrogate.model, images, targets, Rescale(), reference)
        assert len(traced) == times


def test_a_pass_is_freed_with_its_gradient(case, monkeypatch):
    model, images, targets, vectors = case
    made = []

    class Noted(passes.Pass):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(passes, "Pass", Noted)
    gc.disable()
    try:
        for used in (False, True):
            x = images.clone().requires_grad_()
            gradient, logits = passes.multipliers(model, x, targets)
            if used:
                torch.autograd.grad((gradient * vectors).sum(), x)
            assert made[-1]() is not None
            del gradient, logits, x
            assert made[-1]() is None
    finally:
        gc.enable()


def test_images_come_out_as_they_went_in(case):
    model, images, targets, vectors = case
    copies = images.clone(), vectors.clone()
    passes.Pass(model, images, targets).product(vectors)
    assert torch.equal(images, copies[0])
    assert torch.equal(vectors, copies[1])


def test_a_max_pool_after_relu_comes_first_unless_others_read_the_relu():
    def order(model, size):
        operations = programs.program_of(softplus_surrogate(model.eval(), 1.0), torch.rand(1, 3, size, size)).operations
        return [type(operation).__name__ for operation in operations]

    assert order(Tiny(), 16)[-4:] == ["MaxPool", "Softplus", "SameOrder", "Weighted"]
    shared = order(Shared(), 8)
    assert shared.index("Softplus") < shared.index("MaxPool")


def test_what_is_computed_from_parameters_is_traced_once_in_a_run(tiny, tiny_batch, monkeypatch):
    images, targets = tiny_batch
    torch.nn.utils.parametrizations.weight_norm(tiny.first).eval()
    surrogate, traced = softplus_surrogate(tiny.requires_grad_(False), 8.0), []
    trace = programs.trace
    monkeypatch.setattr(programs, "trace", lambda *given: traced.append(given) or trace(*given))

    def explained(times):
        traced.clear()
        found = [passes.Pass(surrogate, images, targets).multipliers for _ in range(times)]
        return len(traced), found[-1]

    explained(1)  # which is compared with autograd, on fewer images
    count, before = explained(3)
    assert count == 3
    with once.run():
        count, found = explained(3)
    assert count == 1
    assert torch.equal(found, before)
    tiny.first.parametrizations.weight.original0.mul_(2)
    with once.run():
        count, found = explained(1)
    assert count == 1
    assert (found - before).norm() > 0.1 * before.norm()


class Drawing(Tiny):
    """It draws random numbers, which no walk repeats."""

    def forward(self, x):
        return super().forward(x) * torch.rand_like(x).mean()


@pytest.mark.parametrize("kind", [Tiny, Drawing])
@pytest.mark.parametrize("run", [nullcontext, once.run])
def test_programs_do_not_keep_a_network_alive(kind, run, tiny_batch):
    def explain(model):
        with run(), suppress(Untraceable):
            passes.Pass(softplus_surrogate(model, 8.0), *tiny_batch)

    model = kind().eval().requires_grad_(False)
    alive = weakref.ref(model)
    gc.disable()
    try:
        explain(model)
        del model
        assert alive() is None
    finally:
        gc.enable()


def test_a_program_that_could_not_be_compared_is_compared_later(tiny, tiny_batch, monkeypatch):
    def out_of_memory(*_):
        raise MemoryError

    surrogate = softplus_surrogate(tiny.requires_grad_(False), 8.0)
    with once.run():
        monkeypatch.setattr(programs, "_by_autograd", out_of_memory)
        with pytest.raises(MemoryError):
            passes.Pass(surrogate, *tiny_batch)
        monkeypatch.setattr(programs, "_by_autograd", lambda model, images, *_: [1 + model(images)])
        with pytest.raises(Untraceable, match="autograd finds another value"):
            passes.Pass(surrogate, *tiny_batch)


def test_parameters_that_learn_keep_their_gradients(tiny, tiny_batch):
    """A regulariser of the gradient needs derivatives by the parameters, which only autograd gives."""
    images, targets = tiny_batch
    surrogate = softplus_surrogate(tiny.requires_grad_(True), 8.0)
    assert not passes.stands_in_for_autograd(surrogate)
    gradient, _ = saliency.Gradient().explain(surrogate, images.clone().requires_grad_(), targets, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), tiny.first.weight)[0].abs().amax() > 0
    assert passes.stands_in_for_autograd(softplus_surrogate(tiny, 8.0, constant=True))


def test_a_linear_score_has_no_curvature():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2)).eval().requires_grad_(False)
    images = torch.rand(2, 3, 4, 4)
    made = passes.Pass(softplus_surrogate(model, 1.0), images, torch.tensor([0, 1]))
    assert torch.equal(made.product(torch.rand_like(images)), torch.zeros_like(images))
