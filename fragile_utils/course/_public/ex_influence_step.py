"""Public tests of ex-influence-step. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same, true


class Features(torch.nn.Module):
    """Smooth features of images of 12 numbers."""

    def __init__(self, seed):
        super().__init__()
        self.w = torch.randn(
            12, 4, generator=torch.Generator().manual_seed(seed)
        ).double()

    def forward(self, x):
        return torch.tanh((x.flatten(1) - 0.5) @ self.w)


def a_task(draw, count=3):
    images = (
        torch.rand(count, 3, 2, 2, generator=draw)
        .double()
        .round(decimals=1)
    )
    theta, v = (torch.randn(4, generator=draw).double() for _ in range(2))
    return theta, v, images, torch.randint(2, (count,), generator=draw)


def support(features, theta, v, x, y):
    u = features(x)
    return ((u @ theta).sigmoid() - y) * (u @ v)


def slopes(features, theta, v, images, labels, parts=support):
    pairs = zip(images, labels.tolist(), strict=True)
    return torch.stack(
        [
            finite_differences(
                lambda p, y=y: parts(features, theta, v, p, y),
                x,
                batched=True,
            )
            for x, y in pairs
        ]
    )


def compare(found, features, theta, v, images, labels, eps):
    slope = slopes(features, theta, v, images, labels)

    def step(direction):
        return (images + eps * direction).clamp(0, 1)

    def mistakes():
        fixed = (features(images) @ theta).sigmoid() - labels
        only = slopes(
            features,
            theta,
            v,
            images,
            labels,
            lambda f, t, v, x, y: f(x) @ v,
        )
        return {
            "this goes up: the support of the examples is to be taken away": step(
                slope.sign()
            ),
            "the result leaves the range of an image: clip to [0, 1]": images
            - eps * slope.sign(),
            "the residual p - y depends on the image too; here it is a constant": step(
                -(fixed[:, None, None, None] * only).sign()
            ),
            "the residual p - y is missing": step(-only.sign()),
            "a step has the size eps in each value: take the sign": step(
                -slope
            ),
            "a step moves each value by eps, however small its slope: take the sign": step(
                -slope / slope.abs().max()
            ),
            "this is the direction, not the image": -eps * slope.sign(),
        }

    true(found is not None, "got None; is there a return?")
    same(
        found, step(-slope.sign()), "the attacked images", mistakes=mistakes
    )


def test_one_step(influence_step):
    """three images, against differences"""
    features, task = Features(1), a_task(torch.Generator().manual_seed(1))
    compare(influence_step(features, *task, 0.15), features, *task, 0.15)


def test_many_images(influence_step):
    """many images, of which some need both factors"""
    features, task = (
        Features(2),
        a_task(torch.Generator().manual_seed(2), 12),
    )
    compare(influence_step(features, *task, 0.02), features, *task, 0.02)
