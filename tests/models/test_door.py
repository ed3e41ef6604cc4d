"""Networks that are not what everything takes them for are refused in words, with the name of the layer."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from torch import nn

from fragile_utils import attacks, saliency
from fragile_utils._base import checks
from fragile_utils.models import Classifier, check_network, softplus_surrogate


class Calls(nn.Module):
    """A network called `inner`, and a function of what it gives."""

    def __init__(self, function, inner=None):
        super().__init__()
        self.inner, self.function = inner or Tiny(), function

    def forward(self, images):
        return self.function(self.inner, images)


class InPlace(nn.Module):
    def forward(self, images):
        return images.sub_(0.5).div_(0.25)


class Mixing(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0)


class Recurrent(nn.Module):
    """A recurrence over the first axis, where it was to be one over the places of an image."""

    def __init__(self, kind, **options):
        super().__init__()
        self.recurrence, self.last = kind(3, 8, **options), nn.Linear(8, 5)

    def forward(self, x):
        return self.last(self.recurrence(x.flatten(2).transpose(1, 2)[:, ::16])[0][:, -1])


MASK = torch.tensor([0, -1e4, -1e4, 0, -1e4])  # of classes that are not asked for


def batch_statistics():
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3, track_running_stats=False), Tiny())


class Random(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5)


REFUSED = {
    "probabilities": (Calls(lambda net, x: net(x).softmax(1)), "got probabilities; leave out the softmax"),
    "log-probabilities": (Calls(lambda net, x: net(x).log_softmax(1)), "got log-probabilities"),
    "dict": (Calls(lambda net, x: {"logits": net(x)}), r"expected logits \(2, classes\), got dict"),
    "tuple": (Calls(lambda net, x: (net(x), x)), r"expected logits \(2, classes\), got tuple"),
    "other shape": (Calls(lambda net, x: net(x)[:, :, None]), r"got \(2, 5, 1\)"),
    "not finite": (Calls(lambda net, x: net(x) / 0), "expected finite logits"),
    "its input": (nn.Sequential(InPlace(), Tiny()), r"^model: 0 changes the images that it is given"),
    "the batch": (nn.Sequential(Mixing(), Tiny()), r"^model: 0 gives an image other values alone than in a batch"),
    "batch statistics": (batch_statistics(), r"^model: 1 gives an image other values alone than in a batch"),
    "batch statistics of pixels": (
        nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), Tiny()),
        r"^model: 0 gives an image other values alone than in a batch",
    ),
    "batch statistics beside masked classes": (
        Calls(lambda net, x: net(x) + MASK, batch_statistics()),
        r"^model: inner.1 gives an image other values alone than in a batch",
    ),
    "batch statistics beside a class filled in": (
        Calls(lambda net, x: net(x).masked_fill(MASK < 0, -1e4), batch_statistics()),
        r"^model: inner.1 gives an image other values alone than in a batch",
    ),
    "images before": (Calls(lambda net, x: net(x).cumsum(0)), "^model: it gives an image other values alone than in a"),
    "the first image": (Calls(lambda net, x: net(x) - net(x[:1])), "it mixes the images"),
    "the brightest image": (Calls(lambda net, x: net(x / x.max())), "it mixes the images"),
    **{
        f"{kind.__name__} over the batch": (Recurrent(kind), "^model: recurrence gives an image other values alone")
        for kind in (nn.GRU, nn.LSTM, nn.RNN)
    },
    "random": (
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), Random(), Tiny()),
        r"^model: 1 gives the same images other",
    ),
    "another size": (
        nn.Sequential(nn.Flatten(), nn.Linear(3, 5)),
        r"^model: it cannot take images \(3, 16, 16\) of torch.f",
    ),
    "another type": (Tiny().double(), r"^model: it cannot take images \(3, 16, 16\) of torch.float32 on cpu: "),
    "half precision": (Tiny().half(), r"^model: it cannot take images"),
}


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("count", [1, 3], ids=["one image", "three images"])
def test_what_is_no_classifier_is_refused_in_words(name, count, images):
    model, message = REFUSED[name]
    model, images = model.eval(), images[:count]
    before, targets = images.clone(), torch.zeros(count, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        check_network(model, images)
    for method in (saliency.Gradient(), saliency.DeepLift(baseline=0.5)):
        with pytest.raises(ValueError, match=message):
            method(model, images, targets)
        with pytest.raises(ValueError, match=message):
            attacks.run(attacks.TopK(5), model, images, targets, method, eps=0.1, steps=1)
    assert torch.equal(images, before)


def test_masked_classes_and_recurrences_over_the_image_are_no_mixing(images):
    check_network(Calls(lambda net, x: net(x) + MASK).eval(), images)
    check_network(Calls(lambda net, x: net(x).masked_fill(MASK < 0, -1e4)).eval(), images)
    check_network(Recurrent(nn.GRU, batch_first=True).eval(), images)
    for same in (images[:1].expand(3, -1, -1, -1), torch.zeros_like(images)):
        check_network(Tiny().eval(), same)


def test_one_column_is_explained_but_decides_nothing(images):
    model = Calls(lambda net, x: net(x)[:, :1]).eval()
    targets = torch.zeros(3, dtype=torch.long)
    for method in (saliency.Gradient(), saliency.DeepLift(baseline=0.5)):
        ours, wide = method(model, images, targets), method(model.inner, images, targets)
        assert torch.allclose(ours, wide, atol=1e-6)
        with pytest.raises(ValueError, match="at least 2 classes, got 1 column; give two, z and 0"):
            attacks.run(attacks.TopK(5), model, images, targets, method, eps=0.1, steps=1)
    with pytest.raises(ValueError, match="at least 2 classes, got 1 column"):
        check_network(model, images)
    ones = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1)).eval()
    nn.init.zeros_(ones[1].weight), nn.init.ones_(ones[1].bias)
    assert check_network(ones, images, classes=1).classes == 1  # no probability, although it is one


def test_a_classifier_is_looked_at_once_and_again_when_it_has_changed(images, tiny):
    calls = []
    tiny.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    found = check_network(tiny, images)
    assert (found.classes, found.channels_last) == (5, True)
    once = len(calls)
    assert 0 < once <= 4
    check_network(tiny, images[:1])
    assert len(calls) == once
    tiny.scale = 2
    check_network(tiny, images)
    assert len(calls) == 2 * once


def test_a_network_of_views_is_given_images_in_the_layout_that_it_takes(images):
    class Tutorial(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16 * 16, 5)

        def forward(self, x):
            return self.last(F.relu(self.first(x)).view(-1, 4 * 16 * 16))

    torch.manual_seed(0)
    model = Tutorial().eval()
    assert not check_network(model, images).channels_last
    labels = model(images).argmax(1)
    for method in (saliency.Gradient(), saliency.DeepLift(0.5), saliency.IntegratedGradients(3, 0.5), saliency.LRP()):
        result = attacks.run(attacks.TopK(20), model, images, labels, method, eps=0.1, steps=4, step_size=0.05)
        assert result.success.all()


KINKS = {
    "prelu": (nn.PReLU(), nn.LeakyReLU(0.25)),
    "threshold at 0": (lambda x: x.clamp(min=0), F.relu),
    "clamp_min": (lambda x: torch.clamp_min(x, 0), F.relu),
    "clamp on both sides": (lambda x: x.clamp(-1, 1), F.hardtanh),
    "clamp from above": (lambda x: x.clamp(max=0), lambda x: -F.relu(-x)),
    "maximum": (lambda x: torch.maximum(x, torch.zeros_like(x)), F.relu),
    "minimum": (lambda x: torch.minimum(x, torch.zeros_like(x)), lambda x: -F.relu(-x)),
    "abs": (torch.abs, lambda x: 2 * F.relu(x) - x),
    "aten": (lambda x: torch.ops.aten.relu(x), F.relu),
    "hard sigmoid": (F.hardsigmoid, lambda x: F.relu6(x + 3) / 6),
    "hard swish": (F.hardswish, lambda x: x * F.relu6(x + 3) / 6),
    "soft shrinkage": (F.softshrink, lambda x: F.relu(x - 0.5) - F.relu(-x - 0.5)),
    "rrelu": (nn.RReLU(), nn.LeakyReLU((1 / 8 + 1 / 3) / 2)),
    "selu": (F.selu, lambda x: 1.0507009873554805 * (F.relu(x) + 1.6732632423543772 * torch.expm1(-F.relu(-x)))),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_smoothed_like_the_relus_that_they_are_made_of(name):
    activation, made_of_relu = KINKS[name]

    class One(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function.eval() if isinstance(function, nn.Module) else function

        def forward(self, images):
            return self.function(8 * images - 4).flatten(1)

    images = torch.linspace(0, 1, 48, dtype=torch.float64).view(1, 3, 4, 4)
    ours, theirs = (One(f).double().eval() for f in (activation, made_of_relu))
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-6, atol=1e-7)
    smooth = [softplus_surrogate(model, 2.0)(images) for model in (ours, theirs)]
    torch.testing.assert_close(*smooth, rtol=1e-6, atol=1e-7)
    assert (smooth[0] - ours(images)).abs().max() > 0.05


def test_a_bound_that_keeps_numbers_in_range_is_no_activation():
    class Norm(nn.Module):
        def forward(self, images):
            return (images / images.norm().clamp(min=1e-6)).flatten(1)

    images = torch.rand(1, 3, 4, 4)
    model = Norm().eval()
    assert torch.equal(softplus_surrogate(model, 1.0)(images), model(images))


@pytest.mark.parametrize(
    ("function", "kink"),
    [
        (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), "torch.where"),
        (lambda x: x * (x > 0), "torch.Tensor.__gt__"),
        (lambda x: F.threshold(x, 0.1, 0.0), "torch.nn.functional.threshold"),
    ],
    ids=["where", "mask", "threshold"],
)
def test_an_attack_without_a_direction_says_so_and_is_no_proof_of_robustness(function, kink, images):
    class Kinked(Tiny):
        def forward(self, x):
            return self.last(self.pool(function(self.second(function(self.first(x))))).flatten(1))

    torch.manual_seed(0)
    model = Classifier(Kinked(), (0.5,) * 3, (0.5,) * 3).eval()
    labels = model(images).argmax(1)
    result = attacks.run(attacks.TopK(20), model, images, labels, saliency.Gradient(), eps=0.1, steps=3)
    assert not result.success.any()
    for reason in result.reasons:
        assert reason.startswith("no direction: to first order the explanation does not change")
        assert kink.split(".")[-1].strip("_") in reason


class Configured(Tiny):
    """A network of which a setting, in an object that nobody can watch, says what it returns."""

    def __init__(self):
        super().__init__()
        self.settings = SimpleNamespace(end=None)

    def forward(self, x):
        logits = super().forward(x)
        return logits if self.settings.end is None else getattr(logits, self.settings.end)(1)


@pytest.mark.parametrize("count", [1, 3], ids=["one image", "three images"])
@pytest.mark.parametrize(("end", "name"), [("softmax", "probabilities"), ("log_softmax", "log-probabilities")])
def test_logits_that_became_probabilities_behind_the_door_are_refused(images, count, end, name):
    model, images, targets = Configured().eval(), images[:count], torch.zeros(count, dtype=torch.long)
    saliency.Gradient()(model, images, targets)
    model.settings.end = end
    for method in (saliency.Gradient(), saliency.IntegratedGradients(baseline=0.5)):
        with pytest.raises(ValueError, match=f"^model: expected logits, got {name}; leave out"):
            method(model, images, targets)
        with pytest.raises(ValueError, match=f"^model: expected logits, got {name}; leave out"):
            attacks.run(attacks.TopK(5), model, images, targets, method, eps=0.1, steps=1)


def test_two_numbers_are_probabilities_by_accident():
    """A single image and two classes: that they sum to one says nothing yet."""
    assert checks.logits(torch.tensor([[0.25, 0.75]]), 1).shape == (1, 2)
    with pytest.raises(ValueError, match="got probabilities"):
        checks.logits(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), 2)


def test_scores_beside_a_zero_are_no_log_probabilities():
    """Two classes, z and 0, as one column is to be given; and scores less their largest."""
    scores = torch.tensor([[-18.0, 0.0], [-9.0, 0.0]])
    assert checks.logits(scores, 2) is scores
    three = torch.tensor([[-18.0, 0.0, -20.0], [0.0, -30.0, -9.0]])
    assert checks.logits(three, 2) is three
    with pytest.raises(ValueError, match="got log-probabilities"):
        checks.logits(torch.randn(2, 3).log_softmax(1), 2)


def test_rounding_of_few_bits_excuses_no_random_network(images):
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.l = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.l(F.dropout(F.relu(self.c(x)).mean((2, 3)), 0.5, True))

    with pytest.raises(ValueError, match="random in evaluation mode"):
        check_network(Dropping().eval(), images)


def test_a_network_far_from_zero_that_mixes_images_is_refused(images):
    far = Calls(lambda net, x: net(x) - net(x).mean(0) + 100).eval()
    with pytest.raises(ValueError, match="it mixes the images"):
        check_network(far, images)


def test_a_network_on_several_devices_is_refused(images):
    model = nn.DataParallel(Tiny())
    model.device_ids = [0, 1]
    with pytest.raises(ValueError, match=r"model: expected a network on one device, got nn.DataParallel on several"):
        check_network(Calls(lambda inner, x: inner(x), model).eval(), images)
