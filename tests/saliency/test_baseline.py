"""Baselines."""

import numpy as np
import pytest
import torch
from references import SIZE, batch, cifar
from scipy.ndimage import gaussian_filter

from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import Baseline, DeepLift, IntegratedGradients
from fragile_utils.saliency.baseline import BLUR


def test_the_mean_baseline_is_zero_after_the_normalisation(squeezenet):
    images = torch.rand(2, 3, 8, 8)
    for model in (squeezenet, softplus_surrogate(squeezenet), cifar().float()):
        image = Baseline().image(model, images)
        inner = getattr(model, "model", model)
        assert image.shape == (1, 3, 8, 8)
        assert inner.normalize(image).abs().max() < 1e-4
    mean = torch.tensor([123.68, 116.779, 103.939]) / 255  # red, green, blue
    torch.testing.assert_close(Baseline().image(squeezenet, images)[0, :, 0, 0], mean)


def test_a_number_is_as_exact_as_the_images():
    for dtype in (torch.float64, torch.float32):
        image = Baseline(0.3).image(None, torch.rand(1, 3, 2, 2, dtype=dtype))
        assert torch.equal(image, torch.full_like(image, 0.3))
        assert image.dtype == dtype


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


def test_baselines_of_a_batch_belong_to_its_images():
    model, (images, targets) = cifar(), batch(5)
    references, _ = batch(5, seed=9)
    for make in (DeepLift, lambda baseline: IntegratedGradients(5, baseline, chunk=3)):
        together = make(references).attribute(model, images, targets)
        alone = [make(references[i]).attribute(model, images[i : i + 1], targets[i : i + 1]) for i in range(5)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-12)


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


@pytest.mark.parametrize("shape", [(48, 48), (20, 36), (7, 5)], ids=str)
def test_the_blurred_image_is_that_of_scipy(shape):
    images = torch.rand(2, 3, *shape, dtype=torch.float64)
    sigma = BLUR * min(shape)
    expected = gaussian_filter(
        images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=np.ceil([0, 0] + [3 * sigma] * 2).astype(int)
    )
    torch.testing.assert_close(Baseline("blur").image(None, images), torch.from_numpy(expected))


def test_the_baseline_of_some_of_the_images():
    rows, images = torch.tensor([True, False, True]), torch.rand(3, 3, 4, 4)
    assert Baseline(images).of(rows) == Baseline(images[rows])
    assert Baseline(images).of(rows).of(torch.tensor([False, True])) == Baseline(images[2:])
    for one in ("mean", "blur", 0.5, images[0], images[:1]):
        baseline = Baseline(one)
        assert baseline.of(rows) is baseline
    with pytest.raises(ValueError, match=r"baseline: expected one for each of 4 images, got .*\(3, 3, 4, 4\)"):
        Baseline(images).of(torch.ones(4, dtype=torch.bool))


def test_a_baseline_that_follows_the_image_is_differentiated_with_it():
    model, (images, targets) = cifar(), batch(3)
    method = IntegratedGradients(steps=4, baseline="blur", chunk=5)  # in several blocks
    weights = torch.rand(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(2))
    surrogate = softplus_surrogate(model)

    def value(x):
        return (weights * method.attributions(surrogate, x, targets, True)).sum()

    x = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(x), x)
    h = 1e-5
    differences = (value(images + h * direction) - value(images - h * direction)) / (2 * h)
    torch.testing.assert_close((slope * direction).sum(), differences.detach(), rtol=1e-6, atol=0)


def test_with_a_blurred_baseline_attributions_are_complete():
    model, (images, targets) = cifar(), batch(3)
    blurred = Baseline("blur").image(model, images)
    method = IntegratedGradients(steps=2000, baseline="blur", rule="riemann_middle")
    total = method.attribute(model, images, targets).sum((1, 2, 3))
    scores = (model(images) - model(blurred)).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(total, scores, rtol=1e-3, atol=1e-4)
    alone = [method.attribute(model, images[i : i + 1], targets[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(method.attribute(model, images, targets), torch.cat(alone), rtol=1e-9, atol=1e-12)


def test_deeplift_refuses_a_baseline_that_follows_the_image():
    with pytest.raises(ValueError, match=r"baseline: 'blur' follows the image, .*expected 'mean'"):
        DeepLift("blur")
