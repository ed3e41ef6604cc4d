"""Each saliency method against Captum, its axioms, its gradient, and its refusals."""

import copy
import dataclasses
import functools

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum._utils.gradient import compute_gradients
from references import SIZE, apart, batch, captum_deep_lift, cifar, relative_error
from torch import nn

from fragile_utils import attacks, metrics, models, saliency
from fragile_utils._base import memory
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import (
    LRP,
    METHODS,
    Baseline,
    Captum,
    DeepLift,
    DeepTaylor,
    GradCAM,
    Gradient,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
    _sums,
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
RANDOM = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
BASELINES = {"mean": Baseline(), "black": Baseline(0), "random": Baseline(RANDOM)}
over_baselines = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)


# --- Equal to Captum -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["cifar", "squeezenet"])
def case(request, samples):
    """A model, images and targets, in float64."""
    if request.param == "cifar":
        return cifar(bgr=True), *batch(3)
    model = models.squeezenet().double()
    images = F.interpolate(samples.images[:2].double(), 67)
    return model, images, model(images).argmax(1)


def reference_of(baseline, model, images):
    if isinstance(baseline.value, torch.Tensor):  # drawn for the small network
        baseline = Baseline(F.interpolate(baseline.value[None], images.shape[-2:]))
    return baseline, baseline.image(model, images)


RULES = {"riemann_right": 20, "riemann_left": 5, "riemann_middle": 5, "riemann_trapezoid": 5, "gausslegendre": 6}


@pytest.mark.parametrize("rule", RULES)
def test_integrated_gradients_equal_captums(case, rule):
    model, images, targets = case
    method = IntegratedGradients(steps=RULES[rule], rule=rule)
    expected = captum.attr.IntegratedGradients(model).attribute(
        images, method.baseline.image(model, images), target=targets, n_steps=RULES[rule], method=rule
    )
    assert relative_error(method.attribute(model, images, targets), expected) < 1e-10


@pytest.mark.parametrize(
    ("method", "attribution", "options"),
    [(Gradient(), captum.attr.Saliency, {"abs": False}), (InputXGradient(), captum.attr.InputXGradient, {})],
    ids=["gradient", "input-x-gradient"],
)
def test_gradients_equal_captums(case, method, attribution, options):
    model, images, targets = case
    expected = attribution(model).attribute(images.clone().requires_grad_(), target=targets, **options)
    assert relative_error(method.attribute(model, images, targets), expected.detach()) < 1e-10


@over_baselines
def test_deep_lift_equals_captums(case, baseline):
    model, images, targets = case
    baseline, reference = reference_of(baseline, model, images)
    expected, off = captum_deep_lift(apart(model), images, reference, targets)
    assert off.abs().max() < 1e-9
    assert relative_error(DeepLift(baseline).attribute(model, images, targets), expected) < 1e-6


def test_without_overlapping_pools_captums_deep_lift_needs_no_correction_but_modules_apart():
    model, (images, targets) = cifar(), batch(3)
    reference = Baseline(RANDOM).image(model, images)
    got = DeepLift(RANDOM).attribute(model, images, targets)
    expected, off = captum_deep_lift(apart(model), images, reference, targets, sum_windows=False)
    assert relative_error(got, expected) < 1e-6
    assert off.abs().max() < 1e-9
    _, off = captum_deep_lift(model, images, reference, targets, sum_windows=False)
    assert off.abs().max() > 1e-4  # ReLU directly before a max pool: Captum's attributions are not complete


def test_captums_deep_lift_of_squeezenet_is_incomplete_and_ours_is_not(samples):
    model = models.squeezenet().double()
    images = F.interpolate(samples.images[:1].double(), 67)
    targets = model(images).argmax(1)
    reference = Baseline().image(model, images)
    difference = (model(images) - model(reference)).gather(1, targets[:, None]).squeeze()
    _, off = captum_deep_lift(model, images, reference, targets, sum_windows=False)
    assert abs(off) > 0.1 * abs(difference)
    assert abs(DeepLift().attribute(model, images, targets).sum() - difference) < 1e-9 * abs(difference)


def test_lrp_epsilon_equals_captums(case):
    model, images, targets = case
    other = apart(model)
    expected = captum.attr.LRP(other.network).attribute(other.normalize(images).requires_grad_(), target=targets)
    expected = expected.detach().flip(1)  # both networks take blue, green, red
    assert relative_error(LRP("epsilon", epsilon=1e-9).attribute(model, images, targets), expected) < 1e-6


def test_grad_cam_equals_captums():
    model, (images, targets) = cifar(), batch(3)
    layer = captum.attr.LayerGradCam(model, model.network[5])
    expected = layer.attribute(images, target=targets, relu_attributions=True)
    expected = F.interpolate(expected.detach(), (SIZE, SIZE), mode="bilinear", align_corners=False).squeeze(1)
    got = GradCAM("network.5").attribute(model, images, targets)
    torch.testing.assert_close(got.sum(1), expected)
    assert expected.amax((1, 2)).min() > 0


def test_smooth_grad_is_the_mean_over_noisy_images():
    model, (images, targets) = cifar(), batch()
    method = SmoothGrad(DeepLift(), samples=5, sigma=0.2, seed=3)
    noise = torch.randn(5, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).double()
    copies = [DeepLift().explain(model, images + 0.2 * noise[i], targets)[0] for i in range(5)]
    torch.testing.assert_close(method.attribute(model, images, targets), torch.stack(copies).mean(0))


@pytest.mark.slow
def test_deep_lift_and_lrp_equal_captums_at_full_size(samples):
    model = models.squeezenet().double()
    images = samples.images[:1].double()
    targets = model(images).argmax(1)
    other = apart(model)
    expected, _ = captum_deep_lift(other, images, Baseline().image(model, images), targets)
    assert relative_error(DeepLift().attribute(model, images, targets), expected) < 1e-6
    expected = captum.attr.LRP(other.network).attribute(other.normalize(images).requires_grad_(), target=targets)
    assert relative_error(LRP(epsilon=1e-9).attribute(model, images, targets), expected.detach().flip(1)) < 1e-6


# --- The axioms ------------------------------------------------------------------------------------------------------


def score_difference(model, images, reference, targets):
    return (model(images) - model(reference)).gather(1, targets[:, None]).squeeze(1)


@over_baselines
def test_deep_lift_is_complete(case, baseline):
    model, images, targets = case
    baseline, reference = reference_of(baseline, model, images)
    total = DeepLift(baseline).attribute(model, images, targets).sum((1, 2, 3))
    torch.testing.assert_close(total, score_difference(model, images, reference, targets), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("baseline", ["mean", 0], ids=["mean", "black"])
@pytest.mark.parametrize("rule", ["riemann_right", "riemann_trapezoid", "gausslegendre"])
def test_integrated_gradients_are_complete_to_one_percent(baseline, rule, squeezenet, samples):
    images = F.interpolate(samples.images[:2], 67)
    targets = squeezenet(images).argmax(1)
    method = IntegratedGradients(steps=300, baseline=baseline, rule=rule)
    total = method.attribute(squeezenet, images, targets).sum((1, 2, 3))
    difference = score_difference(squeezenet, images, method.baseline.image(squeezenet, images), targets)
    torch.testing.assert_close(total, difference, rtol=0.01, atol=0)


@pytest.mark.parametrize("method", [LRP(), LRP("zplus"), DeepTaylor()], ids=repr)
def test_relevance_is_conserved_where_there_are_no_biases(method):
    model, (images, targets) = cifar(bias=False), batch(4)
    attributions, logits = method.explain(model, images, targets)
    torch.testing.assert_close(
        attributions.sum((1, 2, 3)), logits.gather(1, targets[:, None]).squeeze(1), rtol=1e-5, atol=1e-7
    )


def test_deep_taylor_relevances_of_a_positive_score_are_not_negative():
    model, (images, _) = cifar(bias=False), batch(8)
    logits = model(images)
    attributions = DeepTaylor().attribute(model, images, logits.argmax(1))
    assert (logits.amax(1) > 0).all()
    assert attributions.min() >= -1e-12


@pytest.mark.parametrize("method", [Gradient(), InputXGradient(), IntegratedGradients(steps=5), DeepLift()], ids=repr)
def test_explanations_are_linear_in_the_score(method):
    model, (images, _) = cifar(), batch()
    a, b = (method.attribute(model, images, torch.full((2,), i)) for i in (0, 1))
    both = copy.deepcopy(model)
    last = both.network[-1]
    last.weight[2], last.bias[2] = 2 * last.weight[0] - 3 * last.weight[1], 2 * last.bias[0] - 3 * last.bias[1]
    torch.testing.assert_close(method.attribute(both, images, torch.full((2,), 2)), 2 * a - 3 * b)


# --- The gradient of a function of the map ---------------------------------------------------------------------------


def functional_of(attributions, seed=7):
    """A function of the maps that no method is made for: linear plus quadratic, with random coefficients."""
    generator = torch.Generator().manual_seed(seed)
    maps = saliency.normalize(attributions)
    pixels = maps.shape[1] * maps.shape[2]
    linear = torch.randn(maps.shape[1:], generator=generator, dtype=maps.dtype)
    mixed = torch.randn(maps.shape[1:], generator=generator, dtype=maps.dtype)
    return (maps * linear).sum() + pixels * (maps * maps.roll((1, 2), (1, 2)) * mixed).sum()


def gradient_of(explain, images):
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(functional_of(explain(x)), x)
    return gradient


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


def with_graph(forward_fn, inputs, target_ind=None, additional_forward_args=None):
    """What Captum calls `gradient_func`, keeping the graph."""
    with torch.enable_grad():
        scores = forward_fn(*inputs).gather(1, target_ind[:, None])
        return torch.autograd.grad(scores.sum(), inputs, create_graph=True)


@pytest.mark.parametrize(
    ("method", "attribution", "options"),
    [
        (Gradient(), captum.attr.Saliency, {"abs": False}),
        (InputXGradient(), captum.attr.InputXGradient, {}),
        (
            IntegratedGradients(steps=6, baseline=0.5, chunk=4),
            captum.attr.IntegratedGradients,
            {"baselines": 0.5, "n_steps": 6, "method": "riemann_right"},
        ),
    ],
    ids=["gradient", "input-x-gradient", "integrated-gradients"],
)
def test_the_gradient_equals_captums_with_a_graph_and_not_without(method, attribution, options):
    model, (images, targets) = softplus_surrogate(cifar()), batch()
    got = gradient_of(lambda x: method.explain(model, x, targets, create_graph=True)[0], images)
    other = attribution(model)
    other.gradient_func = with_graph
    want = gradient_of(lambda x: other.attribute(x, target=targets, **options), images)
    assert relative_error(got, want) < 1e-6  # Captum rounds the places on the path to float32
    if attribution is not captum.attr.Saliency:  # whose attributions have no graph at all
        other.gradient_func = compute_gradients
        wrong = gradient_of(lambda x: other.attribute(x, target=targets, **options), images)
        assert relative_error(wrong, want) > 0.1  # as Captum comes: a gradient, and the wrong one


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


def test_baselines_of_a_batch_belong_to_its_images():
    model, (images, targets) = cifar(), batch(5)
    references, _ = batch(5, seed=9)
    for make in (DeepLift, lambda baseline: IntegratedGradients(5, baseline, chunk=3)):
        together = make(references).attribute(model, images, targets)
        alone = [make(references[i]).attribute(model, images[i : i + 1], targets[i : i + 1]) for i in range(5)]
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
    images = F.interpolate(correct.images[:2], 99)
    labels = squeezenet(images).argmax(1)
    attack = attacks.TopK(k=300)
    result = attacks.run(attack, squeezenet, images, labels, method, eps=8 / 255, steps=4, step_size=2 / 255)
    assert result.success.any()
    assert metrics.topk_intersection(result.maps_before, result.maps, 300)[result.success].max() < 0.9
    assert hash(method) == hash(METHODS[name]() if name not in ("integrated-gradients", "smoothgrad") else method)


# --- Many points in little memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [IntegratedGradients, SmoothGrad], ids=["integrated-gradients", "smoothgrad"])
def test_no_more_images_at_a_time_than_asked_for(make):
    model, (images, targets) = softplus_surrogate(cifar()), batch(3)
    model.programs = None  # by autograd, which calls the model each time
    sizes = []
    handle = model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    results = []
    for chunk in (1, 2, 4, 7, 100):
        method = make(**{"steps" if make is IntegratedGradients else "samples": 9}, chunk=chunk)
        explain = functools.partial(method.explain, model, targets=targets, create_graph=True)
        sizes.clear()
        results.append(gradient_of(lambda x, explain=explain: explain(images=x)[0], images))
        assert max(sizes) <= chunk
    handle.remove()
    for result in results[:-1]:
        torch.testing.assert_close(result, results[-1], rtol=1e-9, atol=1e-12)


def test_the_graph_of_many_points_is_not_kept():
    model, (images, targets) = softplus_surrogate(cifar()), batch(2)
    model.programs = None  # by autograd, whose graph can be counted
    kept = {}
    for chunk in (2, 40):
        method = IntegratedGradients(steps=20, chunk=chunk)
        attributions, _ = method.explain(model, images.clone().requires_grad_(), targets, create_graph=True)
        kept[chunk] = len(_reachable(attributions.grad_fn))
    assert kept[2] < 10 < kept[40]


def _reachable(node):
    seen, todo = set(), [node]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return seen


def test_blocks_cover_each_pair_of_image_and_point_once():
    for rows, points, at_once in [(1, 100, 8), (3, 5, 7), (10, 4, 3), (8, 1, 8), (2, 3, 100)]:
        count = torch.zeros(rows, points, dtype=torch.long)
        for row, point in _sums.blocks(rows, points, at_once):
            count[row, point] += 1
            assert count[row, point].numel() <= at_once
        assert (count == 1).all()


def test_the_number_at_once_follows_the_free_memory(monkeypatch):
    model, (images, _) = cifar(), batch()
    one = memory.saved_bytes(model, images[:1])
    assert memory.saved_bytes(model, images) == pytest.approx(2 * one, rel=0.01)
    assert one > images[0].nbytes
    most = memory.BLOCK_ON_CPU // one
    for free, plain, graph in [(10**12, most // 2, most // 4), (4 * 12 * one, 6, 3), (0, 1, 1)]:
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert memory.images_at_once(model, images, create_graph=False) == plain
        assert memory.images_at_once(model, images, create_graph=True) == graph
    monkeypatch.undo()
    assert 10**7 < memory.free_bytes(torch.device("cpu")) < 10**14


# --- Baselines -------------------------------------------------------------------------------------------------------


def test_the_mean_baseline_is_zero_after_the_normalisation(squeezenet):
    images = torch.rand(2, 3, 8, 8)
    for model in (squeezenet, softplus_surrogate(squeezenet), cifar().float()):
        image = Baseline().image(model, images)
        inner = getattr(model, "model", model)
        assert image.shape == (1, 3, 8, 8)
        assert inner.normalize(image).abs().max() < 1e-4
    mean = torch.tensor([123.68, 116.779, 103.939]) / 255  # red, green, blue
    torch.testing.assert_close(Baseline().image(squeezenet, images)[0, :, 0, 0], mean)


def test_baselines_are_values():
    a = torch.rand(3, 4, 4)
    assert Baseline(a) == Baseline(a.clone())
    assert hash(Baseline(a)) == hash(Baseline(a.clone()))
    assert Baseline(a) != Baseline(a.double())
    assert Baseline(a) != Baseline(a + 0.001 * (1 - a))
    assert Baseline("mean") != Baseline(0.5)
    assert DeepLift(a) == DeepLift(Baseline(a)) != DeepLift()
    assert len({IntegratedGradients(), IntegratedGradients(baseline="mean"), IntegratedGradients(baseline=a)}) == 2
    assert repr(Baseline(0.5)) == "Baseline(0.5)"
    assert repr(Baseline(a)).startswith("Baseline(tensor (3, 4, 4), sha256 ")
    baseline = Baseline(a)
    a.zero_()
    assert baseline.value.max() > 0  # a copy


@pytest.mark.parametrize(
    "value",
    [
        *("black", -0.1, 127, True, None, np.full((3, 4, 4), 0.5)),
        *(torch.rand(4, 4), torch.rand(1, 4, 4), 255 * torch.rand(3, 4, 4)),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'shape', value)}",
)
def test_what_is_no_baseline_is_refused(value):
    with pytest.raises(ValueError, match="baseline"):
        DeepLift(value)


def test_a_baseline_must_fit_the_images_and_the_model():
    model, (images, targets) = cifar(), batch(3)
    for value in (torch.rand(3, 8, 8), torch.rand(2, 3, SIZE, SIZE)):
        with pytest.raises(ValueError, match=r"baseline: expected one for images of shape \(3, 3, 16, 16\)"):
            DeepLift(value).attribute(model, images, targets)
    with pytest.raises(ValueError, match=r"baseline 'mean': .*models\.Classifier"):
        DeepLift().attribute(model.network, images, targets)
    assert DeepLift(0.5).attribute(model.network, images, targets).isfinite().all()


# --- Refusals, and Captum --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegratedGradients(steps=0), "steps: expected a whole number at least 1, got 0"),
        (lambda: IntegratedGradients(rule="simpson"), "rule: expected one of riemann_right"),
        (lambda: IntegratedGradients(steps=1, rule="riemann_trapezoid"), "steps: expected at least 2"),
        (lambda: IntegratedGradients(chunk=0), "chunk: expected a whole number"),
        (lambda: LRP("gamma"), "rule: expected 'epsilon', 'zplus' or 'alphabeta', got 'gamma'"),
        (lambda: LRP(epsilon=0), "epsilon: expected a number above 0, got 0"),
        (lambda: LRP("alphabeta", alpha=2, beta=2), "alpha - beta = 1"),
        (lambda: LRP("alphabeta", alpha=0.5, beta=-0.5), "beta >= 0"),
        (lambda: LRP("alphabeta", beta="1"), "beta >= 0"),
        (lambda: DeepTaylor(epsilon=-1), "epsilon: expected a number above 0"),
        (lambda: SmoothGrad(Gradient), "method: expected a saliency method"),
        (lambda: SmoothGrad(samples=0), "samples: expected a whole number"),
        (lambda: SmoothGrad(sigma=0), "sigma: expected a number above 0"),
        (lambda: SmoothGrad(seed=0.5), "seed: expected a whole number, got 0.5"),
        (lambda: Captum("Saliency"), "attribution: expected a function"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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


def test_grad_cam_says_which_layer_it_cannot_use():
    model, (images, targets) = cifar(), batch()
    with pytest.raises(ValueError, match=r"expected the name of a module of the model, got 'network\.99'"):
        GradCAM("network.99")(model, images, targets)
    with pytest.raises(ValueError, match=r"layer 'network.9': expected an output \(N, channels, h, w\)"):
        GradCAM("network.9")(model, images, targets)
    with pytest.raises(ValueError, match="has no convolution"):
        GradCAM()(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).double().eval(), images, targets)
    model.network[1] = nn.ReLU(inplace=True).eval()  # after the layer: it must not reach what was kept
    expected = GradCAM("network.0")(cifar(), images, targets)
    torch.testing.assert_close(GradCAM("network.0")(model, images, targets), expected)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.filterwarnings("error")
def test_captum_can_be_compared_with_but_not_attacked():
    model, (images, targets) = cifar(), batch(3)
    ours = IntegratedGradients(steps=9)
    theirs = Captum(captum.attr.IntegratedGradients, baselines=Baseline(), n_steps=9, method="riemann_right")
    torch.testing.assert_close(theirs(model, images, targets), ours(model, images, targets))
    attributions, logits = Captum(captum.attr.DeepLift, baselines=Baseline()).explain(model, images, targets)
    assert not attributions.requires_grad
    torch.testing.assert_close(logits, model(images))
    wrapped = Captum(lambda m: captum.attr.NoiseTunnel(captum.attr.Saliency(m)), nt_samples=2)
    assert wrapped(model, images, targets).shape == (3, SIZE, SIZE)
    with pytest.raises(ValueError, match="cannot be differentiated"):
        theirs(model, images.requires_grad_(), targets, create_graph=True)
    with pytest.raises(ValueError, match="expected attributions of shape"):
        Captum(lambda m: captum.attr.LayerGradCam(m, m.network[5]))(model, images.detach(), targets)


def test_captum_wrappers_are_values():
    a = torch.rand(1, 3, 4, 4)
    one, other = (Captum(captum.attr.DeepLift, baselines=t) for t in (a, a.clone()))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Captum(captum.attr.DeepLift, baselines=a / 2)
    assert one != Captum(captum.attr.DeepLift)


def test_a_method_without_explain_says_so():
    model, (images, targets) = cifar(), batch()
    with pytest.raises(TypeError, match="Method does not say how it explains"):
        saliency.Method()(model, images, targets)


def test_a_map_of_zeros_stays_zero():
    assert (saliency.normalize(torch.zeros(2, 3, 4, 4)) == 0).all()
