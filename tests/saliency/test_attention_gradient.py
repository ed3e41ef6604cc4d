"""The generic rule against whole matrices, whose gradients are differences of scores."""

import attentive
import pytest
import torch
from attentive import MAKES

from fragile_utils.saliency import AttentionGradient


@pytest.mark.parametrize("name", [name for name in MAKES if name != "ours"])  # with 65 tokens too many differences
def test_the_rule_is_that_of_the_paper(name):
    model, (x, targets) = MAKES[name](), attentive.images(2)
    got = AttentionGradient()(model, x, targets)[1]
    layers = [matrix[1] for matrix in attentive.matrices(model, x)]
    slopes = attentive.gradients(model, x[1], targets[1])
    relevance = torch.eye(layers[0].shape[-1], dtype=torch.float64)
    for layer, slope in zip(layers, slopes, strict=True):
        relevance = relevance + (slope * layer).clamp(min=0).mean(0) @ relevance
    torch.testing.assert_close(got, attentive.enlarged(attentive.row_read(name, relevance)), rtol=1e-5, atol=1e-8)


def test_another_class_has_another_map():
    model, (x, targets) = attentive.ours(), attentive.images(2)
    a, b = (AttentionGradient()(model, x, t) for t in (targets, (targets + 1) % attentive.CLASSES))
    assert (a - b).abs().sum((1, 2)).min() > 0.05
