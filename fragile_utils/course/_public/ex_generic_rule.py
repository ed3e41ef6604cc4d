"""Public tests of ex-generic-rule. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same, true


def layers(draw, depth, count=2, heads=3, tokens=5):
    """Attention of some layers, and gradients of both signs."""
    shape = (count, heads, tokens, tokens)
    drawn = [
        torch.randn(shape, generator=draw).double() for _ in range(depth)
    ]
    matrices = [z.softmax(dim=-1) for z in drawn]
    return matrices, [
        torch.randn(shape, generator=draw).double() for _ in range(depth)
    ]


def entry_by_entry(matrices, gradients, positive, shortcut=1.0):
    """The whole R (N, T, T), every sum written out."""
    count, _, tokens, _ = matrices[0].shape
    found = torch.zeros(count, tokens, tokens).double()
    for n in range(count):
        r = [[float(i == j) for j in range(tokens)] for i in range(tokens)]
        for a, g in zip(matrices, gradients, strict=True):
            mean = [
                [
                    positive(g[n, :, i, j] * a[n, :, i, j])
                    for j in range(tokens)
                ]
                for i in range(tokens)
            ]
            r = [
                [
                    shortcut * r[i][j]
                    + sum(mean[i][m] * r[m][j] for m in range(tokens))
                    for j in range(tokens)
                ]
                for i in range(tokens)
            ]
        found[n] = torch.tensor(r, dtype=torch.float64)
    return found


def of_each_head(products):
    return float(products.clamp(min=0).mean())


def of_the_mean(products):
    return float(products.mean().clamp(min=0))


def of_both_signs(products):
    return float(products.mean())


def compare(found, matrices, gradients):
    true(found is not None, "got None; is there a return?")
    right = entry_by_entry(matrices, gradients, of_each_head)
    turned = entry_by_entry(matrices[::-1], gradients[::-1], of_each_head)
    mistakes = {
        "the entry of the class token is to be left out": right[:, 0],
        "this is the column of the class token; its row is wanted": right[
            :, 1:, 0
        ],
        "the layers are in the wrong order: a later layer stands on the left": turned[
            :, 0, 1:
        ],
        "first what is positive, then the mean over the heads": entry_by_entry(
            matrices, gradients, of_the_mean
        )[:, 0, 1:],
        "take what is positive of the products": entry_by_entry(
            matrices, gradients, of_both_signs
        )[:, 0, 1:],
        "each layer adds to R, for the shortcut past it": entry_by_entry(
            matrices, gradients, of_each_head, shortcut=0.0
        )[:, 0, 1:],
    }
    same(
        found,
        right[:, 0, 1:],
        "the weights",
        within=1e-9,
        mistakes=mistakes,
    )


def test_three_layers(generic_rule):
    """three layers of three heads, five tokens"""
    given = layers(torch.Generator().manual_seed(1), depth=3)
    compare(generic_rule(*given), *given)


def test_one_layer(generic_rule):
    """one layer: nothing to multiply"""
    given = layers(torch.Generator().manual_seed(2), depth=1)
    compare(generic_rule(*given), *given)
