"""SmoothGrad: the mean over noisy images."""

import pytest
import torch
from references import SIZE, batch, cifar

from fragile_utils.saliency import DeepLift, Gradient, SmoothGrad


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
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
