"""Published architectures with random weights, in float64: products with the Hessian as torch.func finds them."""

import pytest
import torch
import torchvision
from references import gradient_and_product
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency.propagation import passes

NETWORKS = {  # and the side of the images
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnet50": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 48,
    "swin_t": 32,
    "vgg11_bn": 32,
    "vit_b_16": 32,
}
OPTIONS = {
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False, "transform_input": True},
    "vit_b_16": {"image_size": 32},
}


def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None, num_classes=7, **OPTIONS.get(name, {}))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training: not the identity
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, nn.Linear) and not module.weight.any():  # as the last layers of vision transformers
                nn.init.normal_(module.weight, std=0.1)
    return model.double().eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_products_are_those_of_torch_func(name):
    model = network(name)
    surrogate = softplus_surrogate(model, 5.0)
    generator = torch.Generator().manual_seed(1)
    images, vectors = torch.rand(2, 2, 3, NETWORKS[name], NETWORKS[name], generator=generator, dtype=torch.float64)
    targets = torch.tensor([1, 4])
    made = passes.Pass(surrogate, images, targets)

    with sdpa_kernel(SDPBackend.MATH):
        wanted, product = gradient_and_product(surrogate, images, targets, vectors)
    assert product.any()
    assert (made.multipliers - wanted).norm() <= 1e-6 * wanted.norm()
    assert (made.product(vectors) - product).norm() <= 1e-6 * product.norm()
