"""Public tests of ex-lrp-epsilon. Written by `make exercises` from book/exercises."""

import itertools

import torch

from fragile_utils.course import same


def a_network(draw, sizes=(4, 6, 5, 3), bias=True):
    made = [
        torch.nn.Linear(a, b).double() for a, b in itertools.pairwise(sizes)
    ]
    with torch.no_grad():
        for layer in made:
            layer.weight.copy_(
                torch.randn(layer.weight.shape, generator=draw)
            )
            layer.bias.copy_(
                bias * torch.randn(layer.bias.shape, generator=draw)
            )
    return made


def naive(layers, x, labels, epsilon, mistake=""):
    """Relevance, image by image and term by term."""
    found = []
    for values, label in zip(x.tolist(), labels.tolist(), strict=True):
        received, outputs = [], []
        for layer in layers:
            values = [max(v, 0) for v in values] if received else values
            received.append(values)
            w, b = layer.weight.tolist(), layer.bias.tolist()
            bias = [0.0] * len(b) if mistake == "bias" else b
            outputs.append(
                [
                    c + sum(p * q for p, q in zip(row, values, strict=True))
                    for row, c in zip(w, bias, strict=True)
                ]
            )
            values = [
                c + sum(p * q for p, q in zip(row, values, strict=True))
                for row, c in zip(w, b, strict=True)
            ]
        top = [
            float(k == label) if mistake == "one" else v * (k == label)
            for k, v in enumerate(values)
        ]
        relevance = values if mistake == "all" else top
        for layer, inputs, z in zip(
            layers[::-1], received[::-1], outputs[::-1], strict=True
        ):
            w = layer.weight.tolist()
            signs = [1 if mistake == "sign" or v >= 0 else -1 for v in z]
            terms = list(zip(w, z, signs, relevance, strict=True))
            relevance = [
                sum(
                    v * row[j] / (k + epsilon * s) * r
                    for row, k, s, r in terms
                )
                for j, v in enumerate(inputs)
            ]
        found.append(relevance)
    return torch.tensor(found, dtype=torch.float64)


MISTAKES = {
    "bias": "the bias belongs into the sum z",
    "sign": "epsilon has to have the sign of z: added to a negative sum, it brings it nearer to zero",
    "one": "at the top the relevance is the score of the class, not one",
    "all": "at the top the relevance of all other classes is zero",
}


def compare(found, layers, x, labels, epsilon):
    def mistakes():
        return {
            words: naive(layers, x, labels, epsilon, name)
            for name, words in MISTAKES.items()
        }

    expected = naive(layers, x, labels, epsilon)
    same(
        found,
        expected,
        f"the relevance with epsilon = {epsilon}",
        within=1e-7,
        mistakes=mistakes,
    )


def test_two_layers(lrp_epsilon):
    """two layers, a large epsilon"""
    draw = torch.Generator().manual_seed(1)
    given = (
        a_network(draw, (4, 5, 3)),
        torch.randn(3, 4, generator=draw).double(),
        torch.tensor([2, 0, 1]),
        0.5,
    )
    compare(lrp_epsilon(*given), *given)


def test_three_layers(lrp_epsilon):
    """three layers, a small epsilon"""
    draw = torch.Generator().manual_seed(2)
    given = (
        a_network(draw),
        torch.randn(3, 4, generator=draw).double(),
        torch.tensor([1, 1, 2]),
        0.01,
    )
    compare(lrp_epsilon(*given), *given)
