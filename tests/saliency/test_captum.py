"""Captum's methods, to compare with."""

import captum.attr
import pytest
import torch
from references import SIZE, batch, cifar

from fragile_utils.saliency import Baseline, Captum, IntegratedGradients


@pytest.mark.filterwarnings("error")
def test_captum_can_be_compared_with_but_not_attacked():
    model, (images, targets) = cifar(), batch(3)
    ours = IntegratedGradients(steps=9)
    theirs = Captum(captum.attr.IntegratedGradients, baselines=Baseline(), n_steps=9, method="riemann_right")
    torch.testing.assert_close(theirs(model, images, targets), ours(model, images, targets))
    attributions, logits = Captum(captum.attr.DeepLift, baselines=Baseline()).explain(model, images, targets)
    assert not attributions.requires_grad
    torch.testing.assert_close(logits, model(images))
    wrapped = Captum(lambda m: captum.attr.NoiseTunnel(captum.attr.Saliency(m)), nt_samples=2)
    assert wrapped(model, images, targets).shape == (3, SIZE, SIZE)
    with pytest.raises(ValueError, match="cannot be differentiated"):
        theirs(model, images.requires_grad_(), targets, create_graph=True)
    with pytest.raises(ValueError, match="expected attributions of shape"):
        Captum(lambda m: captum.attr.LayerGradCam(m, m.network[5]))(model, images.detach(), targets)


def test_captum_wrappers_are_values():
    a = torch.rand(1, 3, 4, 4)
    one, other = (Captum(captum.attr.DeepLift, baselines=t) for t in (a, a.clone()))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Captum(captum.attr.DeepLift, baselines=a / 2)
    assert one != Captum(captum.attr.DeepLift)


def test_what_is_no_function_of_a_model_is_refused():
    with pytest.raises(ValueError, match="attribution: expected a function"):
        Captum("Saliency")
