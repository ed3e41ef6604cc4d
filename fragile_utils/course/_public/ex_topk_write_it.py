"""Public tests of ex-topk-write-it. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same, true


class Small(torch.nn.Module):
    """A network of one hidden layer, for images of 3 by 3 pixels."""

    def __init__(self, draw, bend):
        super().__init__()
        self.bend = bend
        self.w = torch.randn(8, 27, generator=draw).double()
        self.b = torch.randn(8, generator=draw).double()
        self.v = torch.randn(3, 8, generator=draw).double()

    def forward(self, x):
        return (
            self.bend((x.flatten(1) - 0.5) @ self.w.T + self.b) @ self.v.T
        )


def pair(seed):
    """The network with ReLU, and its surrogate."""
    draws = (torch.Generator().manual_seed(seed) for _ in range(2))
    return [
        Small(draw, bend)
        for draw, bend in zip(
            draws, (torch.relu, torch.nn.functional.softplus), strict=True
        )
    ]


def maps_of(network, points, label):
    """The maps of several points, for one class."""
    x = points.detach().requires_grad_()
    (g,) = torch.autograd.grad(network(x)[:, label].sum(), x)
    size = g.abs().sum(1)
    return size / size.sum((1, 2), keepdim=True)


def naive(model, surrogate, image, label, k, eps, steps, alpha, mistake=""):
    """Algorithm 1 for one image, with slopes by finite differences: no second derivative is taken anywhere."""
    old = maps_of(model, image[None], label)
    top = (old >= old.flatten().topk(k).values[-1]).double()

    def d(network, points):
        return -(maps_of(network, points, label) * top).sum((1, 2))

    x, best, highest = image, image, -torch.inf
    for _ in range(steps):
        slope = finite_differences(
            lambda points: d(surrogate, points), x, batched=True
        )
        x = x + (-1 if mistake == "down" else 1) * alpha * slope.sign()
        x = (
            x.clamp(0, 1)
            if mistake == "no ball"
            else x.clamp(image - eps, image + eps).clamp(0, 1)
        )
        found = d(
            surrogate if mistake == "judged" else model, x[None]
        ).item()
        kept = model(x[None]).argmax() == label or mistake == "any label"
        if mistake == "last" or (kept and found > highest):
            best, highest = x, found
    return best


MISTAKES = {
    "down": "this goes down: D is minus the mass in the top, and it is to grow",
    "no ball": "what has left the ball of radius eps around the original is not put back",
    "any label": "an iterate that changes the label is kept",
    "last": "this is the last iterate; return the best",
    "judged": "D of an iterate is to be measured on the network; this measures it on the surrogate",
}


def compare(attack_topk, model, surrogate, images, k, eps, steps, alpha):
    labels = model(images).argmax(1)
    found = attack_topk(
        model, surrogate, images, labels, k, eps, steps, alpha
    )
    true(found is not None, "got None; is there a return?")
    if isinstance(found, torch.Tensor) and found.shape == images.shape:
        moved = (found - images).abs().max().item()
        true(
            moved > 0,
            "nothing moves: the slope of D on the network itself is zero, take it on the surrogate; or no iterate is kept, though each image has a best of its own",
        )

    def run(mistake=""):
        given = k, eps, steps, alpha, mistake
        return torch.stack(
            [
                naive(model, surrogate, x, y, *given)
                for x, y in zip(images, labels, strict=True)
            ]
        )

    same(
        found,
        run(),
        "the attacked images",
        mistakes=lambda: {
            words: run(name) for name, words in MISTAKES.items()
        },
    )


def some_images(draw, count=2):
    return torch.rand(count, 3, 3, 3, generator=draw).double()


def test_two_steps(attack_topk):
    """two steps inside the ball"""
    images = some_images(torch.Generator().manual_seed(9))
    compare(
        attack_topk, *pair(9), images, k=3, eps=0.1, steps=2, alpha=0.02
    )


def test_the_ball_and_the_range(attack_topk):
    """steps that reach the border of the ball, and of the range of an image"""
    images = some_images(torch.Generator().manual_seed(9)).round(decimals=1)
    compare(
        attack_topk, *pair(9), images, k=3, eps=0.05, steps=4, alpha=0.02
    )


def test_the_best_iterate(attack_topk):
    """large steps: the best iterate is not the last"""
    images = some_images(torch.Generator().manual_seed(5), count=3)
    compare(
        attack_topk, *pair(5), images, k=2, eps=0.3, steps=6, alpha=0.15
    )


def test_the_label(attack_topk):
    """steps large enough to change the label"""
    images = some_images(torch.Generator().manual_seed(4), count=4)
    compare(attack_topk, *pair(4), images, k=3, eps=0.4, steps=4, alpha=0.2)
