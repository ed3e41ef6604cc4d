"""Grad-CAM on tokens, image by image, from the outputs of a module that is named."""

import attentive
import pytest
import torch
from attentive import MAKES

from fragile_utils.saliency import TokenGradCAM


@pytest.mark.parametrize("name", MAKES)
def test_the_map_is_that_of_the_layer_before_the_last_attention(name):
    model, (x, targets) = MAKES[name](), attentive.images(4)
    got = TokenGradCAM()(model, x, targets)
    kept = []
    hook = attentive.first_norm(attentive.layers(model)[-1]).register_forward_hook(lambda *args: kept.append(args[2]))
    empty = 0
    for i, target in enumerate(targets):
        logits = model(x[i : i + 1].clone().requires_grad_())
        tokens = kept.pop()
        (gradient,) = torch.autograd.grad(logits[0, target], tokens)
        side = int(tokens.shape[1] ** 0.5)
        patches, slopes = tokens[0, -side * side :], gradient[0, -side * side :]
        weights = torch.stack([sum(slopes[t, c] for t in range(side**2)) / side**2 for c in range(tokens.shape[2])])
        cam = torch.stack([torch.dot(weights, patch) for patch in patches]).relu()
        empty += int(cam.sum() == 0)
        torch.testing.assert_close(got[i], attentive.enlarged(cam) if cam.sum() else torch.zeros_like(got[i]))
    hook.remove()
    assert empty < len(targets)
