"""Public tests of ex-hessian-product. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same, true


class Curved(torch.nn.Module):
    """Scores with a Hessian that is known in closed form: a sum of tanh of linear functions."""

    def __init__(self, seed):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.w = torch.randn(5, 12, generator=draw).double()
        self.v = torch.randn(3, 5, generator=draw).double()

    def forward(self, x):
        return torch.tanh(x.flatten(1) @ self.w.T) @ self.v.T


def products(model, images, labels, directions):
    """By hand: the second derivative of tanh is -2 tanh (1 - tanh^2)."""
    t = torch.tanh(images.flatten(1) @ model.w.T)
    bend = -2 * t * (1 - t**2) * model.v[labels]
    return ((bend * (directions.flatten(1) @ model.w.T)) @ model.w).view_as(
        images
    )


def compare(found, model, images, labels, directions):
    true(found is not None, "got None; is there a return?")

    def mistakes():
        slope = torch.stack(
            [
                finite_differences(
                    lambda x, c=c: model(x)[:, c], i, batched=True
                )
                for i, c in zip(images, labels.tolist(), strict=True)
            ]
        )
        return {
            "this is the gradient, times v value by value": slope
            * directions,
            "this is the gradient": slope,
            "v is missing: this is H times a vector of ones": products(
                model, images, labels, torch.ones_like(images)
            ),
            "this is the Hessian of class 0, whatever the label": products(
                model, images, labels * 0, directions
            ),
            "this is the Hessian of the sum of all scores": sum(
                products(model, images, labels * 0 + c, directions)
                for c in range(3)
            ),
        }

    same(
        found,
        products(model, images, labels, directions),
        "the products",
        mistakes=mistakes,
    )


def a_batch(draw, count=3):
    images, directions = (
        torch.randn(count, 3, 2, 2, generator=draw).double()
        for _ in range(2)
    )
    return images, torch.randint(3, (count,), generator=draw), directions


def test_a_batch(hessian_product):
    """three images, against the Hessian by hand"""
    given = Curved(1), *a_batch(torch.Generator().manual_seed(4))
    compare(hessian_product(*given), *given)


def test_it_is_linear(hessian_product):
    """twice the direction, twice the product"""
    model, (images, labels, directions) = (
        Curved(2),
        a_batch(torch.Generator().manual_seed(5)),
    )
    once, twice = (
        hessian_product(model, images, labels, k * directions)
        for k in (1, 2)
    )
    true(once is not None, "got None; is there a return?")
    same(
        twice,
        2 * once,
        "the product with 2 v, compared with twice that with v",
    )
