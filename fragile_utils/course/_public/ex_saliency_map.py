"""Public tests of ex-saliency-map. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same, true


class Curved(torch.nn.Module):
    """A tiny smooth network: three classes, any image size up to 4 by 5."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(7)
        self.a = torch.randn(3, 60, generator=draw).double()
        self.b = torch.randn(3, 60, generator=draw).double()

    def forward(self, x):
        flat = x.flatten(1)
        size = flat.shape[1]
        return (
            torch.tanh(flat @ self.a[:, :size].T / 4)
            + flat.square() @ self.b[:, :size].T
        )


def derivatives(model, images, labels):
    """The gradient of each image's score, by finite differences."""
    slopes = finite_differences(lambda x: model(x), images)
    return torch.stack(
        [slopes[n, label, n] for n, label in enumerate(labels.tolist())]
    )


def expected_and_mistakes(model, images, labels):
    slopes = derivatives(model, images, labels)
    first = derivatives(model, images, labels * 0)
    size, signed = slopes.abs().sum(1), slopes.sum(1)
    total = size.sum((1, 2), keepdim=True)
    other = first.abs().sum(1)
    return size / total, {
        "this keeps the sign; take the absolute value": signed
        / signed.sum((1, 2), keepdim=True),
        "take the absolute value of each channel first, and add up then": signed.abs()
        / signed.abs().sum((1, 2), keepdim=True),
        "each map has to be divided by its own total": size / size.sum(),
        "the maps are not divided by their total": size,
        "this is divided by the largest value, not by the total": size
        / size.amax((1, 2), keepdim=True),
        "add the channels up; this takes the largest": slopes.abs().amax(1)
        / slopes.abs().amax(1).sum((1, 2), True),
        "this explains class 0, whatever the label": other
        / other.sum((1, 2), keepdim=True),
    }


def test_one_image(saliency_map):
    """one image: the gradient's absolute value, summed over channels, divided by its total"""
    images = torch.rand(
        1, 3, 2, 3, generator=torch.Generator().manual_seed(1)
    ).double()
    labels = torch.tensor([1])
    expected, mistakes = expected_and_mistakes(Curved(), images, labels)
    same(
        saliency_map(Curved(), images, labels),
        expected,
        "the map of one image",
        mistakes=mistakes,
    )


def test_a_batch(saliency_map):
    """a batch: each image has its own label, and each map its own sum of one"""
    images = torch.rand(
        3, 3, 2, 3, generator=torch.Generator().manual_seed(2)
    ).double()
    labels = torch.tensor([2, 0, 1])
    expected, mistakes = expected_and_mistakes(Curved(), images, labels)
    same(
        saliency_map(Curved(), images, labels),
        expected,
        "the maps of three images",
        mistakes=mistakes,
    )


def test_the_images_stay_as_they_are(saliency_map):
    """the images that were given are not changed, and need no gradient afterwards"""
    images = torch.rand(
        2, 3, 2, 2, generator=torch.Generator().manual_seed(3)
    ).double()
    kept = images.clone()
    saliency_map(Curved(), images, torch.tensor([0, 1]))
    same(images, kept, "the images after the call")
    true(
        not images.requires_grad,
        "your function switched requires_grad on for the caller's images; work on a copy",
    )
