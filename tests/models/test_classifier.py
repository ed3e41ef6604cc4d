"""A network that takes images in [0, 1], with its normalisation inside."""

import numpy as np
import pytest
import torch

from fragile_utils import models, saliency


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


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            lambda: models.Classifier(torch.nn.Flatten(), (0,) * 3, (1,) * 3, beta=0),
            "beta: expected a number above 0",
        ),
        (lambda: models.Normalize(0.5, (1,) * 3), r"mean: expected 3 numbers or an image \(3, H, W\), got 0.5"),
        (lambda: models.Normalize(torch.zeros(4, 4, 3), (1,) * 3), "mean: expected 3 numbers or an image"),
        (lambda: models.Normalize((0,) * 3, (1, 1)), r"std: expected 3 numbers, got \(1, 1\)"),
        (lambda: models.Normalize((0,) * 3, (0, 1, 1)), r"std: expected numbers above 0, got \[0.0, 1.0, 1.0\]"),
    ],
    ids=["beta", "mean of one number", "mean and its channels last", "two stds", "std of 0"],
)
def test_bad_input_is_refused_with_a_message(action, message):
    with pytest.raises(ValueError, match=message):
        action()


METHODS = [saliency.Gradient(), saliency.IntegratedGradients(steps=10), saliency.DeepLift(), saliency.DeepTaylor()]


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "net"}, "network: expected a value such as a torch.nn.Module, got 'net'"),
        ({"classes": None}, "classes: expected a sequence of names, got None"),
        ({"classes": "cat"}, "classes: expected a sequence of names, got 'cat'"),
        ({"mean": (float("nan"),) * 3}, "mean: expected finite numbers"),
        ({"size": 0}, "size: expected a whole number"),
    ],
    ids=["network", "no classes", "one name", "mean", "size"],
)
def test_arguments_that_are_none_are_refused_in_words(change, message):
    given = {"network": torch.nn.Flatten(), "mean": (0.5,) * 3, "std": (0.5,) * 3} | change
    with pytest.raises(ValueError, match=message):
        models.Classifier(**given)
