"""Networks of other libraries by name, with random weights: nothing is downloaded."""

import sys
from urllib.error import URLError

import pytest
import torch
import torchvision
from references import functional_of, gradient_of, score_difference

from fragile_utils import attacks, data, models, saliency

SIDES = {"resnet50": 64, "vgg16": 64, "convnext_tiny": 64, "vit_b_16": 224}
TIMM = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"]
REFUSED = {  # by DeepLIFT and LRP, which have no rule for normalisation by the image's own statistics, or attention
    "convnext_tiny": r"network\.\S* \(.*layer_norm\) has no propagation rule",
    "vit_b_16": r"network\.\S* \(.*\) has no propagation rule",
    "test_vit": r"network\.\S* \(.*\) has no propagation rule",
    "test_convnext": r"network\.\S* \(.*\) has no propagation rule",
    "test_efficientnet": r"network\.\S* \(.*\) has no propagation rule",  # squeeze-and-excitation
}


def build(name):
    """Return the network, in float64, and two images of a size that it takes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name in TIMM:
            pytest.importorskip("timm")
            model, side = models.from_timm(name, pretrained=False), 64 if name != "test_vit" else 160
        else:
            model, side = models.from_torchvision(name, None), SIDES[name]
        if name == "vit_b_16":  # two of the twelve layers, which are alike
            model.network.encoder.layers = model.network.encoder.layers[:2].eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and not module.weight.any():  # as the last of vision transformers
                torch.nn.init.normal_(module.weight, std=0.1)
    images = data.imagenet_samples(side).images[:2].double()
    return model.double(), images


@pytest.fixture(scope="module", params=[*(pytest.param(n, marks=pytest.mark.slow) for n in SIDES), *TIMM])
def case(request):
    model, images = build(request.param)
    return request.param, model, images, model(images).argmax(1)


def test_the_direction_of_the_gradient_equals_central_differences(case):
    _, model, images, targets = case
    surrogate, method = models.softplus_surrogate(model), saliency.Gradient()
    gradient = gradient_of(lambda x: method.explain(surrogate, x, targets, create_graph=True)[0], images)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    shifted = (images + s * direction for s in (1e-7, -1e-7))
    ahead, behind = (functional_of(method.explain(surrogate, x, targets)[0]) for x in shifted)
    expected, got = (ahead - behind) / 2e-7, (gradient * direction).sum()
    assert gradient.norm() > 1e-6
    assert abs(got - expected) <= 1e-4 * max(abs(expected), gradient.norm())


def test_deep_lift_is_complete_or_refused_by_name(case):
    name, model, images, targets = case
    method = saliency.DeepLift()
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name] + " of DeepLIFT"):
            method.attribute(model, images, targets)
        return
    total = method.attribute(model, images, targets).sum((1, 2, 3))
    difference = score_difference(model, images, method.baseline.image(model, images), targets)
    torch.testing.assert_close(total, difference, rtol=1e-6, atol=1e-9)


def test_relevance_is_propagated_or_refused_by_name(case):
    name, model, images, targets = case
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name] + " of LRP"):
            saliency.LRP().attribute(model, images, targets)
        return
    attributions = saliency.LRP().attribute(model, images, targets)
    assert attributions.isfinite().all()
    assert attributions.any()


def test_a_step_of_the_attack_moves_the_explanation(case):
    _, model, images, targets = case
    model, images = model.float(), images.float()
    options = {"eps": 8 / 255, "steps": 3, "step_size": 2 / 255}
    result = attacks.run(attacks.TopK(100), model, images, targets, saliency.Gradient(), **options)
    model.double()
    assert not torch.equal(result.maps, result.maps_before)
    assert (result.images - images).abs().amax() <= 8 / 255 + 1e-6
    before, after = (o.dissimilarity for o in (result.before, result.after))
    assert (after >= before).all()
    assert (after > before).any()


# --- Names -----------------------------------------------------------------------------------------------------------


def test_a_network_of_torchvision_has_the_normalisation_size_and_classes_of_its_weights(monkeypatch):
    asked = {}

    def build(name, weights=None):
        asked.update(name=name, weights=weights)
        return original("squeezenet1_0", weights=None)

    original = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", build)
    model = models.load("torchvision:efficientnet_b3")
    weights = torchvision.models.EfficientNet_B3_Weights.IMAGENET1K_V1
    assert asked == {"name": "efficientnet_b3", "weights": weights}
    preset = weights.transforms()
    torch.testing.assert_close(model.normalize.mean.flatten(), torch.tensor(preset.mean))
    torch.testing.assert_close(model.normalize.std.flatten(), torch.tensor(preset.std))
    assert (model.size, model.classes) == (300, tuple(weights.meta["categories"]))
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    models.from_torchvision("resnet50", None)
    assert asked == {"name": "resnet50", "weights": None}


def test_classes_are_those_of_the_embedded_images():
    """ResNet-50, ViT-B/16, ConvNeXt-T and VGG-16 can be tried on them."""
    for name in SIDES:
        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        assert tuple(weights.meta["categories"]) == data.imagenet_samples(32).classes


def test_weights_that_cannot_be_downloaded_are_one_clear_error(monkeypatch):
    def offline(name, weights=None):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*no route to host"):
        models.load("torchvision:vgg16")


def test_a_network_of_timm_has_the_values_of_its_configuration(monkeypatch):
    timm = pytest.importorskip("timm")
    model = models.from_timm("vit_tiny_patch16_224.augreg_in21k", pretrained=False)
    about = timm.get_pretrained_cfg("vit_tiny_patch16_224.augreg_in21k")
    torch.testing.assert_close(model.normalize.mean.flatten(), torch.tensor(about.mean))
    assert (model.size, model.classes) == (224, ())  # 21,843 classes, whose names are not at hand
    model = models.from_timm("test_resnet", pretrained=False)
    assert (model.size, model.classes) == (160, data.imagenet_samples(32).classes)

    def offline(name, pretrained):
        raise RuntimeError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"^timm cannot make resnet18: no route to host; .*file\.py:function$"):
        models.load("timm:resnet18")


def test_without_timm_its_networks_are_refused_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"need the package timm: pip install 'fragile_utils\[timm\]'"):
        models.load("timm:resnet18")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "model: expected one of squeezenet, .*torchvision:..., timm:.*got 'resnet50'"),
        ("torchvision:", "model: expected one of squeezenet"),
        ("os:system", "os:system is code of your own"),
        (3, "model: expected a value such as 'squeezenet', got 3"),
        ("torchvision:resnet51", "classifier of torchvision, resnet101, .* got 'resnet51'"),
        ("torchvision:fcn_resnet50", "classifier of torchvision"),  # it segments
        ("timm:resnet51x", "network of timm, .* got 'resnet51x'"),
        ("timm:hf-hub:somebody/something", "network of timm"),
        ("timm:local-dir:/tmp", "network of timm"),
    ],
)
def test_unknown_names_are_refused(name, message):
    if str(name).startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=message):
        models.load(name)


def test_unknown_weights_are_refused_with_those_that_there_are():
    with pytest.raises(
        ValueError, match="weights: expected one of IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT or None, got 'V3'"
    ):
        models.from_torchvision("resnet50", "V3")


def test_a_network_of_these_libraries_has_its_own_normalisation():
    with pytest.raises(ValueError, match=r"^model: vgg16 has its own size; leave them out$"):
        models.load("torchvision:vgg16", size=32)
