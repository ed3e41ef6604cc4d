"""Public tests of ex-integrated-gradients. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same


class Curved(torch.nn.Module):
    """A tiny smooth network of three classes, for images of 12 numbers."""

    def __init__(self, seed=1):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.a = torch.randn(4, 12, generator=draw).double()
        self.b = torch.randn(3, 4, generator=draw).double()

    def forward(self, x):
        return torch.tanh(x.flatten(1) @ self.a.T) @ self.b.T


def naive(model, images, baseline, labels, times):
    """The mean slope at some times, image by image, by finite differences, times what each value has moved."""
    found = []
    for image, label in zip(images, labels.tolist(), strict=True):
        points = [baseline[0] + a * (image - baseline[0]) for a in times]
        slopes = [
            finite_differences(
                lambda x, c=label: model(x)[:, c], p, batched=True
            )
            for p in points
        ]
        found.append(torch.stack(slopes).mean(0))
    return torch.stack(found)


def compare(found, model, images, baseline, labels, steps):
    right, left = (
        [k / steps for k in range(1, steps + 1)],
        [k / steps for k in range(steps)],
    )
    slopes = naive(model, images, baseline, labels, right)
    moved = images - baseline

    def mistakes():
        middle = [(k + 0.5) / steps for k in range(steps)]
        return {
            "multiply the mean gradient by x - x0, what each value has moved": slopes,
            "multiply by x - x0, not by x": slopes * images,
            "divide by the number of steps: it is a mean": slopes
            * moved
            * steps,
            "this begins at the baseline and stops a step before the image: k goes from 1 to M": moved
            * naive(model, images, baseline, labels, left),
            "these points are in the middle of the steps, which is more precise but not what is asked": moved
            * naive(model, images, baseline, labels, middle),
            "this walks from black, not from the baseline that is given": moved
            * naive(model, images, 0 * baseline, labels, right),
            "this explains class 0, whatever the label": moved
            * naive(model, images, baseline, 0 * labels, right),
            "these are absolute values; keep the signs": (
                slopes * moved
            ).abs(),
        }

    same(
        found,
        slopes * moved,
        f"the attributions with {steps} steps",
        mistakes=mistakes,
    )


def a_batch(draw, count=3):
    images, baseline = (
        torch.rand(n, 3, 2, 2, generator=draw).double() for n in (count, 1)
    )
    return images, baseline, torch.randint(3, (count,), generator=draw)


def test_the_sum(integrated_gradients):
    """three images, four steps: the sum, written out"""
    images, baseline, labels = a_batch(torch.Generator().manual_seed(7))
    given = Curved(), images, baseline, labels, 4
    compare(integrated_gradients(*given), *given)


def test_completeness(integrated_gradients):
    """with many steps, the attributions sum to the difference of the scores"""
    model, (images, baseline, labels) = (
        Curved(2),
        a_batch(torch.Generator().manual_seed(8)),
    )
    total = integrated_gradients(model, images, baseline, labels, 500).sum(
        (1, 2, 3)
    )
    scores = (model(images) - model(baseline)).gather(1, labels[:, None])[
        :, 0
    ]
    same(
        total,
        scores,
        "the sums of the attributions with 500 steps, which are S(x) - S(x0)",
        within=1e-2,
    )
