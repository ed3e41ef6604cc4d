"""Attention rollout against the product of whole matrices, image by image."""

import attentive
import pytest
import torch
from attentive import MAKES

from fragile_utils.saliency import Rollout


@pytest.mark.parametrize("name", MAKES)
def test_rollout_is_the_product_of_the_matrices(name):
    model, (x, targets) = MAKES[name](), attentive.images(2)
    got = Rollout()(model, x, targets)
    for i in range(2):
        layers = [matrix[i].mean(0) for matrix in attentive.matrices(model, x)]
        product = torch.eye(layers[0].shape[-1], dtype=torch.float64)
        for layer in layers:
            raised = layer + torch.eye(len(layer), dtype=torch.float64)
            product = (raised / raised.sum(dim=1, keepdim=True)) @ product
        torch.testing.assert_close(product.sum(dim=1), torch.ones(len(product), dtype=torch.float64))
        torch.testing.assert_close(got[i], attentive.enlarged(attentive.row_read(name, product)))


def test_rollout_asks_for_no_class():
    model, (x, targets) = attentive.ours(), attentive.images(2)
    torch.testing.assert_close(Rollout()(model, x, targets), Rollout()(model, x, (targets + 1) % attentive.CLASSES))
