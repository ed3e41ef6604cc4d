"""Public tests of ex-lrp-zplus. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same, true


def naive(layer, x, relevance, mistake=""):
    """Term by term."""
    w, b = layer.weight.tolist(), layer.bias.tolist()
    found = torch.zeros_like(x)
    for n, values in enumerate(x.tolist()):
        for k, row in enumerate(w):
            terms = [v * c for v, c in zip(values, row, strict=True)]
            if mistake == "weights":
                terms = [
                    v * max(c, 0) for v, c in zip(values, row, strict=True)
                ]
            raised = (
                terms
                if mistake in ("weights", "all")
                else [max(t, 0) for t in terms]
            )
            bias = {"no bias": 0, "all": b[k], "bias": b[k]}.get(
                mistake, max(b[k], 0)
            )
            total = sum(raised) + bias
            for j, term in enumerate(raised):
                found[n, j] += (
                    term / total * relevance[n, k].item() if total else 0
                )
    return found


MISTAKES = {
    "weights": "this keeps positive weights; keep positive terms x_j w_jk, for x_j may be negative",
    "all": "this pays all terms, those that lower the unit too",
    "no bias": "the positive part of the bias belongs into the sum below",
    "bias": "of the bias too, only the positive part counts",
}


def compare(found, layer, x, relevance):
    def mistakes():
        return {
            words: naive(layer, x, relevance, name)
            for name, words in MISTAKES.items()
        }

    same(
        found,
        naive(layer, x, relevance),
        "the relevance of the inputs",
        mistakes=mistakes,
    )


def a_layer(draw, inputs=4, outputs=5):
    layer = torch.nn.Linear(inputs, outputs).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=draw))
        layer.bias.copy_(torch.randn(outputs, generator=draw))
    return (
        layer,
        torch.randn(3, inputs, generator=draw).double(),
        torch.rand(3, outputs, generator=draw).double(),
    )


def test_inputs_of_both_signs(zplus_rule):
    """inputs of both signs, term by term"""
    given = a_layer(torch.Generator().manual_seed(1))
    compare(zplus_rule(*given), *given)


def test_a_unit_that_nothing_raises(zplus_rule):
    """a unit that nothing raises passes nothing on"""
    layer, x, relevance = a_layer(torch.Generator().manual_seed(2))
    with torch.no_grad():
        layer.weight[0], layer.bias[0] = -1.0, -1.0
    x = x.abs()
    found = zplus_rule(layer, x, relevance)
    true(found is not None, "got None; is there a return?")
    true(
        not found.isnan().any(),
        "NaN: nothing raises one of the units, and its share 0/0 counts as 0",
    )
    compare(found, layer, x, relevance)
