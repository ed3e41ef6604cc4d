"""The rule of the gradient."""

import torch
from references import batch, cifar

from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule


def test_local_derivatives_give_the_gradient():
    model, (images, targets) = cifar(), batch()
    got, logits = propagate(model, images, targets, Rule())
    x = images.clone().requires_grad_()
    expected = model(x)
    (gradient,) = torch.autograd.grad(expected.gather(1, targets[:, None]).sum(), x)
    torch.testing.assert_close(got, gradient)
    torch.testing.assert_close(logits, expected.detach())
