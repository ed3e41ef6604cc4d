"""What holds for every method: one interface, maps, gradients of a function of the map, refusals."""

import copy
import dataclasses

import attentive
import pytest
import torch
import torch.nn.functional as F
from references import SIZE, batch, cifar, functional_of, gradient_of

from fragile_utils import attacks, metrics, saliency
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import (
    LRP,
    METHODS,
    DeepLift,
    DeepTaylor,
    GradCAM,
    Gradient,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
)

EXACT = {
    "gradient": Gradient(),
    "input-x-gradient": InputXGradient(),
    "integrated-gradients": IntegratedGradients(steps=7, chunk=3),
    "integrated-gradients-legendre": IntegratedGradients(steps=5, baseline=0.2, rule="gausslegendre", chunk=4),
    "deeplift": DeepLift(),
    "deeplift-grey": DeepLift(baseline=0.7),
    "lrp-epsilon": LRP(epsilon=1e-3),
    "lrp-zplus": LRP("zplus", epsilon=1e-3),
    "lrp-alphabeta": LRP("alphabeta", epsilon=1e-3),
    "deep-taylor": DeepTaylor(epsilon=1e-3),
    "smoothgrad": SmoothGrad(samples=4, chunk=3),
    "smoothgrad-deeplift": SmoothGrad(DeepLift(), samples=3, chunk=2),
    "grad-cam": GradCAM("network.2"),
}
over_methods = pytest.mark.parametrize("method", EXACT.values(), ids=EXACT)


# --- One interface ---------------------------------------------------------------------------------------------------


@over_methods
def test_maps_are_positive_sum_to_one_and_carry_no_graph(method):
    model, (images, targets) = cifar(), batch()
    images.requires_grad_()
    attributions = method.attribute(model, images, targets)
    maps = method(model, images, targets)
    assert attributions.shape == images.shape
    assert maps.shape == (2, SIZE, SIZE)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2, dtype=torch.float64))
    assert not attributions.requires_grad
    assert not maps.requires_grad
    assert attributions.dtype == images.dtype
    assert images.grad is None


@over_methods
def test_a_batch_equals_its_images_one_by_one(method):
    model, (images, targets) = cifar(), batch(5)
    together = method.attribute(model, images, targets)
    alone = [method.attribute(model, images[i : i + 1], targets[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-12)


@over_methods
def test_float32_is_close_to_float64(method):
    model, (images, targets) = cifar(), batch()
    expected = method(model, images, targets)
    got = method(model.float(), images.float(), targets)
    assert got.dtype == torch.float32
    assert (got.double() - expected).abs().sum() < 1e-3 * len(images)


@pytest.mark.parametrize("name", METHODS)
def test_methods_by_name_can_be_attacked(name, squeezenet, correct):
    method = METHODS[name]()
    if name == "integrated-gradients":
        method = dataclasses.replace(method, steps=3)
    if name == "smoothgrad":
        method = dataclasses.replace(method, samples=3)
    model, images = squeezenet, F.interpolate(correct.images[:2], 99)
    if name in attentive.METHODS:
        model, images = attentive.ours().float(), F.interpolate(correct.images[:2], attentive.SIZE)
    labels = model(images).argmax(1)
    attack = attacks.TopK(k=300)
    result = attacks.run(attack, model, images, labels, method, eps=8 / 255, steps=4, step_size=2 / 255)
    assert result.success.any()
    assert metrics.topk_intersection(result.maps_before, result.maps, 300)[result.success].max() < 0.9
    assert hash(method) == hash(METHODS[name]() if name not in ("integrated-gradients", "smoothgrad") else method)


@pytest.mark.parametrize("method", [Gradient(), InputXGradient(), IntegratedGradients(steps=5), DeepLift()], ids=repr)
def test_explanations_are_linear_in_the_score(method):
    model, (images, _) = cifar(), batch()
    a, b = (method.attribute(model, images, torch.full((2,), i)) for i in (0, 1))
    both = copy.deepcopy(model)
    last = both.network[-1]
    last.weight[2], last.bias[2] = 2 * last.weight[0] - 3 * last.weight[1], 2 * last.bias[0] - 3 * last.bias[1]
    torch.testing.assert_close(method.attribute(both, images, torch.full((2,), 2)), 2 * a - 3 * b)


def test_a_method_without_explain_says_so():
    model, (images, targets) = cifar(), batch()
    with pytest.raises(TypeError, match="Method does not say how it explains"):
        saliency.Method()(model, images, targets)


def test_a_map_of_zeros_stays_zero():
    assert (saliency.normalize(torch.zeros(2, 3, 4, 4)) == 0).all()


@over_methods
def test_training_mode_and_wrong_classes_are_refused(method):
    model, (images, targets) = cifar(), batch()
    with pytest.raises(ValueError, match="targets: expected classes from 0 to 4, got 5"):
        method.attribute(model, images, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"got dtype torch.int16; convert with targets.long\(\)"):
        method.attribute(model, images, targets.short())
    with pytest.raises(ValueError, match=r"targets: .* on cpu, where the images are, got one on meta"):
        method.attribute(model, images, targets.to("meta"))
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        method(model.train(), images, targets)


# --- The gradient of a function of the map ---------------------------------------------------------------------------


@over_methods
@pytest.mark.parametrize("smooth", [True, False], ids=["softplus", "relu"])
def test_the_gradient_equals_central_differences(method, smooth):
    model, (images, targets) = cifar(), batch()
    model = softplus_surrogate(model) if smooth else model
    gradient = gradient_of(lambda x: method.explain(model, x, targets, create_graph=True)[0], images)
    generator = torch.Generator().manual_seed(11)
    for _ in range(3):
        direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        step = 1e-6 * direction
        ahead, behind = (functional_of(method.explain(model, images + s, targets)[0]) for s in (step, -step))
        expected, got = (ahead - behind) / 2e-6, (gradient * direction).sum()
        assert abs(got - expected) <= 1e-5 * max(abs(expected), gradient.norm())
    assert (gradient.norm() > 1e-3) == (smooth or not _piecewise_constant(method))


def _piecewise_constant(method):
    """Whether the method's map of a ReLU network is constant but for jumps, so that it has no gradient to climb."""
    return isinstance(method, Gradient) or (isinstance(method, SmoothGrad) and isinstance(method.method, Gradient))


@over_methods
def test_logits_are_those_of_the_model_and_have_its_gradient(method):
    model, (images, targets) = softplus_surrogate(cifar()), batch()
    _, logits = method.explain(model, images, targets)
    torch.testing.assert_close(logits, model(images))
    assert not logits.requires_grad
    x = images.clone().requires_grad_()
    _, logits = method.explain(model, x, targets, create_graph=True)
    (got,) = torch.autograd.grad(logits.square().sum(), x)
    (want,) = torch.autograd.grad(model(x).square().sum(), x)
    torch.testing.assert_close(got, want)


def test_a_map_adds_the_magnitudes_of_the_channels():
    """Channels of opposite signs do not cancel."""
    attributions = torch.tensor([[[[1.0, 0.0]], [[-1.0, 2.0]], [[0.0, -4.0]]]])
    assert torch.equal(saliency.normalize(attributions), torch.tensor([[[0.25, 0.75]]]))


# --- For some of the images ------------------------------------------------------------------------------------------


class OfReader(saliency.Method):
    """A reader's own, no dataclass, with baselines wherever one may be kept."""

    __slots__ = ("slot",)

    def __init__(self, *methods, slot=None, **named):
        self.methods, self.named, self.slot, self.title = methods, named, slot, "mine"


def test_whatever_a_method_holds_for_each_image_is_cut_with_the_batch():
    images, rows = torch.rand(3, 3, 4, 4), torch.tensor([True, False, True])
    each, one = IntegratedGradients(baseline=images), IntegratedGradients(baseline=0.5)
    cut = IntegratedGradients(baseline=images[rows])
    whole = OfReader(each, (one, each), [each], slot=each, own=each.baseline, other=one, number=3)
    some = whole.of(rows)
    assert some.methods == (cut, (one, cut), [cut])
    assert some.named == {"own": cut.baseline, "other": one, "number": 3}
    assert (some.title, some.slot) == ("mine", cut)
    assert whole.methods == (each, (one, each), [each])
    assert whole.slot is each
    nothing = OfReader(one, slot=one, number=3)
    assert nothing.of(rows) is nothing
    assert Gradient().of(rows) == Gradient()
    assert each.among(slice(1, 3), 3) == IntegratedGradients(baseline=images[1:])
