"""Public tests of ex-expected-slope. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same, true


class Curved:
    """Attributions of a score with a known curvature: the gradient of a sum of tanh."""

    def __init__(self, seed):
        draw = torch.Generator().manual_seed(seed)
        self.w = torch.randn(6, 12, generator=draw).double()
        self.v = torch.randn(6, generator=draw).double()

    def __call__(self, x):
        t = torch.tanh(x.flatten(1) @ self.w.T)
        return (((1 - t**2) * self.v) @ self.w).view_as(x)


def mass(attributions, top):
    """The mass of maps (..., N, 3, H, W) in the top."""
    size = attributions.abs().sum(dim=-3)
    return (size * top).sum((-1, -2)) / size.sum((-1, -2))


def of_mean(explain, x, noise, top):
    return -mass(torch.stack([explain(x + n) for n in noise]).mean(0), top)


def mean_of(explain, x, noise, top):
    return -torch.stack([mass(explain(x + n), top) for n in noise]).mean(0)


def slope(function, explain, x, noise, top):
    """By central differences, image by image."""
    found = [
        finite_differences(
            lambda one, i=i: function(
                explain, one[None], noise[:, i : i + 1], top[i : i + 1]
            )[0],
            x[i],
        )
        for i in range(len(x))
    ]
    return torch.stack(found).view_as(x)


def compare(found, explain, x, noise, top):
    true(found is not None, "got None; is there a return?")

    def mistakes():
        right = slope(of_mean, explain, x, noise, top)
        return {
            "this is the slope of the mean of the losses; the map that is displayed is that of the mean": slope(
                mean_of, explain, x, noise, top
            ),
            "this uses one copy; take all of them": slope(
                of_mean, explain, x, noise[:1], top
            ),
            "this is the slope without noise": slope(
                of_mean, explain, x, 0 * noise, top
            ),
            "this is a sign; the gradient is wanted": right.sign(),
        }

    expected = slope(of_mean, explain, x, noise, top)
    same(found, expected, "the slopes", within=1e-6, mistakes=mistakes)


def a_batch(draw, count=2, copies=4):
    x = torch.randn(count, 3, 2, 2, generator=draw).double()
    noise = 0.5 * torch.randn(copies, *x.shape, generator=draw).double()
    order = torch.rand(count, 4, generator=draw).argsort(dim=1)
    return x, noise, (order < 2).view(count, 2, 2)


def test_two_images(expected_slope):
    """two images and four copies, against differences"""
    given = Curved(1), *a_batch(torch.Generator().manual_seed(6))
    compare(expected_slope(*given), *given)


def test_a_single_copy(expected_slope):
    """one copy without noise: the attack of the chapters before"""
    draw = torch.Generator().manual_seed(7)
    x, noise, top = a_batch(draw, copies=1)
    given = Curved(2), x, 0 * noise, top
    compare(expected_slope(*given), *given)
