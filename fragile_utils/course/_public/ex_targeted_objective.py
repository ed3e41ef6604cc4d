"""Public tests of ex-targeted-objective. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same, true


class Curved(torch.nn.Module):
    """A tiny smooth network of three classes, for images of 3 by 3 pixels."""

    def __init__(self, seed):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.w = torch.randn(6, 27, generator=draw).double()
        self.v = torch.randn(3, 6, generator=draw).double()

    def forward(self, x):
        return (
            torch.nn.functional.softplus((x.flatten(1) - 0.5) @ self.w.T)
            @ self.v.T
        )


def region():
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[0, 1:] = True
    return mask


def share(model, points, label, mask, divided=True):
    """D of many points at once, with first derivatives only."""
    x = points.detach().requires_grad_()
    (g,) = torch.autograd.grad(model(x)[:, label].sum(), x)
    size = g.abs().sum(1)
    inside = (size * mask).sum((1, 2))
    return inside / size.sum((1, 2)) if divided else inside


def slopes(model, images, labels, mask, divided=True):
    pairs = zip(images, labels.tolist(), strict=True)
    return torch.stack(
        [
            finite_differences(
                lambda p, y=y: share(model, p, y, mask, divided),
                x,
                batched=True,
            )
            for x, y in pairs
        ]
    )


def compare_directions(found, model, images, labels, mask):
    expected = slopes(model, images, labels, mask)

    def mistakes():
        return {
            "this is the slope; its sign is asked for": expected,
            "this goes down: D is to grow": -expected.sign(),
            "the map is not divided by its total: mass in the region then grows with all gradients": slopes(
                model, images, labels, mask, divided=False
            ).sign(),
        }

    true(found is not None, "got None; is there a return?")
    true(
        torch.as_tensor(found).abs().max() > 0,
        "the direction is zero everywhere: does the map keep its graph?",
    )
    same(found, expected.sign(), "the directions", mistakes=mistakes)


def test_the_share(targeted_objective):
    """the mass in the region"""
    maps = torch.rand(
        3, 3, 3, generator=torch.Generator().manual_seed(1)
    ).double()
    maps = maps / maps.sum((1, 2), keepdim=True)
    expected = torch.tensor([m[0, 1].item() + m[0, 2].item() for m in maps])
    mistakes = {
        "this is the mean over the region; take the sum": expected / 2,
        "this is minus the mass; D grows as mass comes in": -expected,
        "this is the mass outside the region": 1 - expected,
        "one number for each map is wanted; this is their sum": expected.sum(),
    }
    same(
        targeted_objective(maps, region()),
        expected,
        "the shares",
        mistakes=mistakes,
    )


def test_the_direction(targeted_direction):
    """the direction is the sign of differences of D"""
    images = torch.rand(
        2, 3, 3, 3, generator=torch.Generator().manual_seed(2)
    ).double()
    given = Curved(1), images, torch.tensor([2, 0]), region()
    compare_directions(targeted_direction(*given), *given)
