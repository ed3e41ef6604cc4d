"""An exported step is Python's: the same signs, maps, logits and dissimilarity, on onnxruntime."""

import importlib

import pytest
import torch
from exported import SETTINGS, assert_agrees, residual, run, session
from torch import nn

from fragile_utils import attacks, defences, models, saliency
from fragile_utils.laboratory import export, steps

METHODS = {
    "gradient": saliency.Gradient(),
    "input-x-gradient": saliency.InputXGradient(),
    "deeplift": saliency.DeepLift(),
    "integrated-gradients": saliency.IntegratedGradients(5),
    "guided": saliency.IntegratedGradients(12),  # whose directions are those of 10 other points
    "in-blocks": saliency.IntegratedGradients(4, chunk=2),
    "smoothgrad": saliency.SmoothGrad(samples=3),
    "lrp": saliency.LRP(),
    "zplus": saliency.LRP("zplus"),
    "alphabeta": saliency.LRP("alphabeta"),
    "deep-taylor": saliency.DeepTaylor(),
    "grad-cam": saliency.GradCAM(),
}
EVERYWHERE = ("gradient", "deeplift", "deep-taylor")  # with each objective, and on each network
REGION = torch.zeros(16, 16, dtype=torch.bool)
REGION[2:7, 9:14] = True
ATTACKS = {"topk": attacks.TopK(20), "centre": attacks.MassCenter(), "targeted": attacks.Targeted(REGION)}


def image(size=16, seed=0):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network():
    """A small network with a max pool that pads and overlaps, and a convolution of groups."""
    torch.manual_seed(0)
    body = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)),
        *(nn.Conv2d(8, 8, 3, stride=2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)),
    )
    return models.Classifier(body, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), size=16).eval().requires_grad_(False)


class Readers(saliency.Method):
    """A reader's own, which is no dataclass."""

    def __init__(self, method):
        self.method = method

    def explain(self, *given, **options):
        return self.method.explain(*given, **options)


def test_a_readers_method_steps_as_in_python(network):
    assert_agrees(network, Readers(saliency.IntegratedGradients(4)), attacks.TopK(20), image(seed=1), iterates=2)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("method", [METHODS[name] for name in EVERYWHERE], ids=str)
def test_every_objective_steps_as_in_python(network, method, attack):
    assert_agrees(network, method, attack, image())


@pytest.mark.parametrize("name", [name for name in METHODS if name not in EVERYWHERE])
def test_every_other_method_steps_as_in_python(network, name):
    assert_agrees(network, METHODS[name], attacks.TopK(20), image(seed=1), iterates=2)


@pytest.mark.parametrize("method", [METHODS[name] for name in EVERYWHERE], ids=str)
def test_a_readers_network_steps_as_in_python(method):
    assert_agrees(residual(), method, attacks.MassCenter(), image(seed=2), iterates=2)


@pytest.mark.parametrize("name", ["gradient", "deeplift", "integrated-gradients"])
def test_the_network_of_cifar10_steps_as_in_python(name):
    assert_agrees(models.cifar10_net(), METHODS[name], attacks.TopK(100), image(32), iterates=2)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [attacks.TopK(1000), attacks.MassCenter()], ids=["topk", "centre"])
@pytest.mark.parametrize("name", ["gradient", "deeplift", "integrated-gradients", "zplus", "deep-taylor"])
def test_squeezenet_steps_as_in_python(squeezenet, correct, name, attack):
    images = torch.nn.functional.interpolate(correct.images[:1], (128, 128), mode="bilinear", antialias=True)
    assert_agrees(squeezenet, METHODS[name], attack, images.clamp(0, 1), iterates=3)


@pytest.mark.slow
def test_squeezenet_steps_as_in_python_at_the_papers_size(squeezenet, correct):
    for i in range(3):
        assert_agrees(squeezenet, saliency.Gradient(), attacks.TopK(1000), correct.images[i : i + 1], iterates=3)


# --- One graph serves for all settings -------------------------------------------------------------------------------


def test_k_region_budget_and_step_are_inputs(network):
    x0 = image(seed=3)
    maps, _, label = steps.explanation(network, saliency.Gradient())(x0)
    made = session(export(network, saliency.Gradient(), attacks.TopK(1)))
    for attack, factor in ((attacks.TopK(9), 1), (attacks.TopK(60), 1), (attacks.Targeted(REGION), -1)):
        step = steps.attack_step(network, saliency.Gradient(), attack)
        reference = attack.reference(maps).float()
        for eps, size in ((2 / 255, 2 / 255), (16 / 255, 0.5 / 255), (1e-8, 1 / 255)):
            settings = torch.tensor(eps), torch.tensor(size)
            found = run(made, steps.STEP[0], (x0, x0, label, factor * reference, *settings))
            expected = step(x0, x0, label, reference, *settings)
            assert torch.allclose(found[0], expected[0], rtol=0, atol=1e-6)
            assert torch.allclose(found[3], expected[3], rtol=1e-5)
            assert (found[0] - x0).abs().max() <= eps


def test_the_label_is_an_input_and_need_not_be_the_prediction(network):
    x = image(seed=4)
    made = session(export(network, saliency.Gradient(), attacks.MassCenter()))
    step = steps.attack_step(network, saliency.Gradient(), attacks.MassCenter())
    maps = []
    for label in range(4):
        arguments = (x, x, torch.tensor([label]), torch.tensor([[7.0, 7.0]]), *SETTINGS)
        maps.append(run(made, steps.STEP[0], arguments)[1])
        assert torch.allclose(maps[-1], step(*arguments)[1], atol=1e-6)
    assert not torch.allclose(maps[0], maps[1])


def test_what_is_exported_is_the_same_every_time(network):
    first, second = (export(network, saliency.IntegratedGradients(3), attacks.TopK(5)) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_several_at_once_are_those_one_by_one_and_the_network_is_looked_at_once(network, monkeypatch):
    looked, module = [], importlib.import_module("fragile_utils.laboratory.export")
    once = module.check_model
    monkeypatch.setattr(module, "check_model", lambda *given: looked.append(given) or once(*given))
    wanted = [None, attacks.TopK(5), attacks.MassCenter()]
    together = module.export_all(network, saliency.Gradient(), wanted)
    assert len(looked) == 1
    for attack, made in zip(wanted, together, strict=True):
        alone = export(network, saliency.Gradient(), attack)
        assert made.SerializeToString(deterministic=True) == alone.SerializeToString(deterministic=True)


def test_the_network_is_left_as_it_was(network):
    before = [value.clone() for value in network.state_dict().values()]
    export(network, saliency.DeepLift(), attacks.TopK(5))
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


# --- What cannot be exported -----------------------------------------------------------------------------------------


def classifier(*layers, **options):
    return models.Classifier(nn.Sequential(*layers), (0.5,) * 3, (0.5,) * 3, **{"size": 8} | options).eval()


class Sorted(nn.Module):
    def forward(self, x):
        return x.flatten(1).sort(dim=1)[0][:, :4]


class Undecided(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4] * (2 if x.sum() > 0 else 3)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (classifier(nn.Conv2d(3, 4, 8), nn.Flatten(), Sorted()), r"aten\.sort\.default cannot be exported"),
        (classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), Undecided()), "expected one that computes the same for every image"),
        (classifier(nn.Conv2d(3, 4, 8), nn.Flatten()).double(), r"expected float32 .* got torch\.float64"),
        (classifier(nn.Conv2d(3, 4, 8), nn.Flatten()).train(), "training mode"),
        (classifier(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Softmax(1)), "got probabilities"),
        (classifier(nn.Conv2d(3, 4, 8), nn.Flatten(), size=None), "size: expected the side"),
        (classifier(nn.Flatten(), nn.Linear(3 * 64, 4), size=9), "cannot take images"),
        (nn.Conv2d(3, 4, 8), r"model: expected a value such as Classifier"),
    ],
    ids=["operator", "condition", "float64", "training", "probabilities", "no size", "other size", "no classifier"],
)
def test_a_network_that_cannot_be_exported_is_refused_by_name(model, said):
    with pytest.raises(ValueError, match=said):
        export(model, saliency.Gradient(), attacks.TopK(5))


DRAWN = saliency.SmoothGrad(samples=2, seed=torch.Generator())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attack": attacks.RandomSign()}, "attack: expected one that climbs a dissimilarity, got RandomSign"),
        ({"attack": attacks.TopK}, "attack: expected a value such as"),
        ({"method": saliency.Gradient}, "method: expected a value such as"),
        ({"method": DRAWN}, "method: expected noise of a seed, the same each time, got a generator"),
        ({"method": defences.Aggregate((saliency.Gradient(), DRAWN))}, "got a generator"),
        ({"size": (16, 24)}, "size: expected a whole number"),
        ({"size": 0}, "size: expected a whole number"),
        ({"size": 5000}, "size: expected a whole number from 1 to 1024"),
        ({"attack": attacks.TopK(257)}, "k: expected a whole number from 1 to 255"),
    ],
)
def test_what_is_no_argument_is_refused(network, given, said):
    with pytest.raises(ValueError, match=said):
        export(**{"model": network, "method": saliency.Gradient(), "attack": attacks.TopK(5)} | given)


def test_what_the_walks_refuse_is_refused_by_its_name():
    model = classifier(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.LayerNorm(4))
    with pytest.raises(ValueError, match=r"network\.2 .*no propagation rule of DeepLIFT"):
        export(model, saliency.DeepLift(), attacks.TopK(5))


def test_captum_is_refused():
    import captum.attr

    model = classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="cannot be differentiated"):
        export(model, saliency.Captum(captum.attr.Saliency), attacks.TopK(5))
