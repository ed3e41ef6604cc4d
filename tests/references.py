"""What the tests of explanations share: a small CIFAR network in two spellings, and Captum with its traps avoided."""

import copy
import warnings

import captum.attr
import torch
import torch.nn.functional as F
from captum.attr._core import deep_lift
from torch import nn

from fragile_utils import saliency
from fragile_utils.models import Classifier

MEAN, STD = (0.48, 0.45, 0.41), (0.25, 0.24, 0.26)
SIZE, CLASSES = 16, 5


def gradient_and_product(network, images, targets, vectors):
    """Return the gradient of the targets' scores, and its derivative along `vectors`, both by torch.func."""

    def along(x):
        gradient = torch.func.grad(lambda y: network(y).gather(1, targets[:, None]).sum())(x)
        return (gradient * vectors).sum(), gradient

    product, gradient = torch.func.grad(along, has_aux=True)(images)
    return gradient, product


def cifar(seed: int = 0, bias: bool = True, bgr: bool = False) -> Classifier:
    """Return a small float64 network on images (N, 3, 16, 16): convolutions, max and average pool, dense layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, groups=2, bias=bias),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 2, bias=bias),
            nn.ReLU(),
            nn.AvgPool2d(2, stride=1, padding=1),
            nn.Flatten(),
            nn.Linear(12 * 3 * 3, 16, bias=bias),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(16, CLASSES, bias=bias),
        )
    return Classifier(network, MEAN, STD, bgr=bgr, beta=5.0).double().eval().requires_grad_(False)


class Functional(nn.Module):
    """The network of `cifar` written with functions, one reused ReLU module, methods and operators."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.normalize, self.layers, self.relu = model.normalize, model.network, nn.ReLU()

    def forward(self, images):
        layers = self.layers
        x = images.flip(1) if self.normalize.bgr else images
        x = (x - self.normalize.mean) / self.normalize.std
        x = F.relu(layers[0](x))
        x = self.relu(F.conv2d(x, layers[2].weight, layers[2].bias, stride=2, groups=2))
        x = self.relu(layers[5](F.max_pool2d(x, 2)))
        x = F.avg_pool2d(x, 2, stride=1, padding=1)
        x = x.view(x.size(0), -1)
        x = F.dropout(layers[9](x).relu(), training=self.training)
        return F.linear(x, layers[12].weight, layers[12].bias)


def batch(count: int = 2, seed: int = 1, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random float64 images and targets."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (count,), generator=generator)


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return ((got - want).norm() / want.norm()).item()


# --- Captum, its traps avoided ---------------------------------------------------------------------------------------


class Apart(nn.Module):
    """Run modules one after another, each on memory of its own, flattening before the first linear one.

    Captum 0.9 hooks the tensors between modules: when one non-linear module follows another directly, the rule of the
    later one is lost (ReLU before a max pool). And its LRP refuses nn.Flatten.
    """

    def __init__(self, modules) -> None:
        super().__init__()
        self.list = nn.ModuleList(m for m in modules if not isinstance(m, nn.Flatten))

    def forward(self, x):
        for module in self.list:
            x = module((x.flatten(1) if isinstance(module, nn.Linear) else x).clone())
        return x


def apart(model: Classifier) -> Classifier:
    """Return a copy of `model` that Captum explains by its own rules."""
    model = copy.deepcopy(model)
    if isinstance(model.network, nn.Sequential):
        model.network = Apart(model.network)
    else:
        for parent in list(model.network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.MaxPool2d):
                    setattr(parent, name, Apart([child]))
    return model


def captum_deep_lift(model: Classifier, images, baselines, targets, sum_windows: bool = True):
    """Return Captum's DeepLIFT attributions, image by image, and how far each is from completeness.

    By image, since in a max pool Captum takes the first image's gradient wherever input and reference are equal.
    With `sum_windows`, a pixel that is the maximum of several windows gets the sum of their shares; Captum keeps one.
    """
    functions = deep_lift.F
    results = []
    try:
        deep_lift.F = _SummingUnpool() if sum_windows else functions
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
            for x, x0, target in zip(images, baselines.expand_as(images), targets, strict=True):
                attribution = captum.attr.DeepLift(model)
                x, x0 = x[None].clone().requires_grad_(), x0[None].contiguous()
                results.append(attribution.attribute(x, x0, target=target, return_convergence_delta=True))
    finally:
        deep_lift.F = functions
    return tuple(torch.cat(parts).detach() for parts in zip(*results, strict=True))


class _SummingUnpool:
    def __getattr__(self, name):
        return self.unpool if name == "max_unpool2d" else getattr(F, name)

    @staticmethod
    def unpool(values, indices, kernel_size, stride, padding, shape):
        plane = torch.zeros(shape, dtype=values.dtype).flatten(2)
        return plane.scatter_add(2, indices.flatten(2), values.flatten(2)).view(shape)


def functional_of(attributions, seed=7):
    """A function of the maps that no method is made for: linear plus quadratic, with random coefficients."""
    generator = torch.Generator().manual_seed(seed)
    maps = saliency.normalize(attributions)
    pixels = maps.shape[1] * maps.shape[2]
    linear = torch.randn(maps.shape[1:], generator=generator, dtype=maps.dtype)
    mixed = torch.randn(maps.shape[1:], generator=generator, dtype=maps.dtype)
    return (maps * linear).sum() + pixels * (maps * maps.roll((1, 2), (1, 2)) * mixed).sum()


def gradient_of(explain, images):
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(functional_of(explain(x)), x)
    return gradient


def score_difference(model, images, reference, targets):
    return (model(images) - model(reference)).gather(1, targets[:, None]).squeeze(1)
