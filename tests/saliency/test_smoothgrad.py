"""SmoothGrad: the mean over noisy images."""

import pytest
import torch
from references import SIZE, batch, cifar, gradient_of

from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency import DeepLift, Gradient, IntegratedGradients, SmoothGrad
from fragile_utils.saliency.smoothgrad import _noise


def test_smooth_grad_is_the_mean_over_noisy_images():
    model, (images, targets) = cifar(), batch()
    method = SmoothGrad(DeepLift(), samples=5, sigma=0.2, seed=3)
    noise = torch.randn(5, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).double()
    copies = [DeepLift().explain(model, images + 0.2 * noise[i], targets)[0] for i in range(5)]
    torch.testing.assert_close(method.attribute(model, images, targets), torch.stack(copies).mean(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmoothGrad(Gradient), "method: expected a saliency method"),
        (lambda: SmoothGrad(samples=0), "samples: expected a whole number"),
        (lambda: SmoothGrad(sigma=0), "sigma: expected a number above 0"),
        (lambda: SmoothGrad(seed=0.5), "seed: expected a whole number, got 0.5"),
        (lambda: SmoothGrad(shared=1), "shared: expected true or false, got 1"),
        (lambda: SmoothGrad(seed=(1, 2)), "seed: expected one, of noise that all images share, got several"),
        (lambda: SmoothGrad(seed=(1, 0.5), shared=False), "seed: expected a whole number, got 0.5"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_generator_gives_new_noise_on_each_call_and_the_same_from_the_same_state():
    model, (images, targets) = cifar(), batch()
    noise = torch.randn(2, 4, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(9)).double()
    method = SmoothGrad(samples=4, sigma=0.2, seed=torch.Generator().manual_seed(9))
    for drawn in noise:
        expected = sum(Gradient().explain(model, images + 0.2 * copy, targets)[0] for copy in drawn) / 4
        torch.testing.assert_close(method.attribute(model, images, targets), expected)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("seed", [5, None])
def test_its_noise_is_the_same_whatever_the_default_type(seed, shared):
    model, (images, targets) = cifar(), batch()

    def attributed():
        _noise.cache_clear()
        noise = torch.Generator().manual_seed(5) if seed is None else seed
        return SmoothGrad(samples=4, sigma=0.2, seed=noise, shared=shared).attribute(model, images, targets)

    expected, before = attributed(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        torch.testing.assert_close(attributed(), expected)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_noise_that_is_not_shared_is_each_image_s_own(chunk):
    model, (images, targets) = cifar(), batch(3)
    method = SmoothGrad(samples=4, sigma=0.2, seed=5, shared=False, chunk=chunk)
    got = method.attribute(model, images, targets)
    for i in range(3):
        alone = SmoothGrad(samples=4, sigma=0.2, seed=5 + i)
        torch.testing.assert_close(got[i : i + 1], alone.attribute(model, images[i : i + 1], targets[i : i + 1]))


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_each_image_can_have_a_seed(chunk):
    model, (images, targets) = cifar(), batch(3)
    method = SmoothGrad(samples=4, sigma=0.2, seed=(9, 2, 5), shared=False, chunk=chunk)
    got = method.attribute(model, images, targets)
    for i, seed in enumerate((9, 2, 5)):
        alone = SmoothGrad(samples=4, sigma=0.2, seed=seed)
        torch.testing.assert_close(got[i : i + 1], alone.attribute(model, images[i : i + 1], targets[i : i + 1]))
    with pytest.raises(ValueError, match="seed: expected one for each of 2 images, got 3"):
        method.attribute(model, images[:2], targets[:2])


def test_some_of_the_images_keep_their_noise():
    some, others = torch.tensor([False, True, False, True]), torch.tensor([True, False])
    own = SmoothGrad(samples=4, seed=5, shared=False)
    assert own.of(some) == SmoothGrad(samples=4, seed=(6, 8), shared=False)
    assert own.of(some).of(others) == SmoothGrad(samples=4, seed=(6,), shared=False)
    assert SmoothGrad(samples=4).of(some) == SmoothGrad(samples=4)
    new = SmoothGrad(seed=torch.Generator(), shared=False)
    assert new.of(some) == new


@pytest.mark.parametrize("seed", [3, None])
@pytest.mark.parametrize("shared", [True, False])
def test_where_it_is_computed_twice_the_noise_is_the_same(seed, shared):
    """In chunks, the backward pass computes each once more: that must not draw again."""
    model, (images, targets) = softplus_surrogate(cifar(), 3.0), batch()

    def gradient(chunk):
        noise = torch.Generator().manual_seed(2) if seed is None else seed
        method = SmoothGrad(samples=4, sigma=0.2, seed=noise, shared=shared, chunk=chunk)
        return gradient_of(lambda x: method.explain(model, x, targets, True)[0], images)

    torch.testing.assert_close(gradient(1), gradient(None))


def test_its_guide_is_the_mean_of_its_method_s_guide():
    assert SmoothGrad(IntegratedGradients(100), 7).guide() == SmoothGrad(IntegratedGradients(100).guide(), 7)
    assert SmoothGrad(samples=7).guide() == SmoothGrad(samples=7)


@pytest.mark.parametrize("chunk", [None, 1, 2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_what_is_averaged_holds_the_same_for_each_copy(shared, chunk):
    """References and noise of their own, image by image, in whatever blocks the copies come; copy by copy in a loop."""
    model, (images, targets) = cifar(), batch()
    inner = SmoothGrad(DeepLift(images.flip(0)), samples=2, sigma=0.1, seed=3, shared=False)
    method = SmoothGrad(inner, samples=3, sigma=0.2, seed=9, shared=shared, chunk=chunk)
    total = torch.zeros_like(images)
    for i in range(len(images)):
        outer = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(9 if shared else 9 + i))
        within = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3 + i))
        for a in outer:
            for b in within:
                x = (images[i] + 0.2 * a.double() + 0.1 * b.double())[None]
                total[i] += DeepLift(images.flip(0)[i]).explain(model, x, targets[i : i + 1])[0][0] / 6
    torch.testing.assert_close(method.attribute(model, images, targets), total)
