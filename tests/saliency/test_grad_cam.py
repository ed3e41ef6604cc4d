"""Grad-CAM against Captum."""

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from references import SIZE, batch, cifar
from torch import nn

from fragile_utils.saliency import GradCAM


def test_grad_cam_equals_captums():
    model, (images, targets) = cifar(), batch(3)
    layer = captum.attr.LayerGradCam(model, model.network[5])
    expected = layer.attribute(images, target=targets, relu_attributions=True)
    expected = F.interpolate(expected.detach(), (SIZE, SIZE), mode="bilinear", align_corners=False).squeeze(1)
    got = GradCAM("network.5").attribute(model, images, targets)
    torch.testing.assert_close(got.sum(1), expected)
    assert expected.amax((1, 2)).min() > 0


def test_grad_cam_says_which_layer_it_cannot_use():
    model, (images, targets) = cifar(), batch()
    with pytest.raises(ValueError, match=r"expected the name of a module of the model, got 'network\.99'"):
        GradCAM("network.99")(model, images, targets)
    with pytest.raises(ValueError, match=r"layer 'network.9': expected an output \(N, channels, h, w\)"):
        GradCAM("network.9")(model, images, targets)
    with pytest.raises(ValueError, match="has no convolution"):
        GradCAM()(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).double().eval(), images, targets)
    model.network[1] = nn.ReLU(inplace=True).eval()  # after the layer: it must not reach what was kept
    expected = GradCAM("network.0")(cifar(), images, targets)
    torch.testing.assert_close(GradCAM("network.0")(model, images, targets), expected)
    assert not any(module._forward_hooks for module in model.modules())
