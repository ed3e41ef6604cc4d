"""One step of the top-k attack on the gradient of SqueezeNet at 227 x 227, in float32: ms an image and iteration.

A step is a direction on the softplus surrogate, and the map and prediction of the network itself. It is compared, in
one run, with (a) the same step written straightforwardly in PyTorch as it comes: a copy of the network with
``nn.Softplus`` modules, double backward, separate passes for map and prediction; (b) the floor: the direction alone on
the network with ReLU. Ratios are what to quote; times depend on the machine.

Run it alone on the machine: ``make bench``.
"""

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fragile_utils import attacks, data, models, saliency
from fragile_utils.surrogate import softplus_surrogate

REPEATS = 5


def median_ms(step: Callable[[], object], images: int) -> float:
    """Return the median time of a call, in milliseconds an image, after one call to warm up."""
    step()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[REPEATS // 2] / images


def with_softplus(model: nn.Module) -> nn.Module:
    """Return a copy of the model with ``nn.Softplus`` modules in place of its ReLUs."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=1))
    return model


def straightforward(smooth: nn.Module, model: nn.Module, x: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """One step as one would write it down: signs (N, 3, H, W)."""

    def maps(network: nn.Module, x: Tensor, create_graph: bool) -> Tensor:
        score = network(x).gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, x, create_graph=create_graph)
        magnitude = gradient.abs().sum(1)
        return magnitude / magnitude.sum((1, 2), keepdim=True)

    x = x.clone().requires_grad_()
    dissimilarity = -(maps(smooth, x, True) * mask).sum()
    (gradient,) = torch.autograd.grad(dissimilarity, x)
    maps(model, x, False)
    with torch.no_grad():
        model(x).argmax(1)
    return gradient.sign()


def main() -> None:
    """Print a table with one row for each batch size."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = models.squeezenet().to(device)
    smooth, surrogate = with_softplus(model), softplus_surrogate(model)
    method, attack = saliency.Gradient(), attacks.TopK(1000)
    right = data.imagenet_samples().to(device).correct(model)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        f"{'batch':>5} {'step':>8} {'(a)':>8} {'(a)/step':>9} {'direction':>10} {'(b)':>8} {'dir./(b)':>9} {'signs':>8}"
    )
    for size in (1, 8):
        x, labels = right.images[:size], right.labels[:size]
        reference = attack.reference(method(model, x, labels))
        x_last = x.contiguous(memory_format=torch.channels_last)
        ours = attacks.Problem(model, surrogate, method, x_last, labels, reference, 8 / 255, tuple(range(size)))
        floor = attacks.Problem(model, model, method, x_last, labels, reference, 8 / 255, tuple(range(size)))
        plain = median_ms(lambda: straightforward(smooth, model, x, labels, reference), size)  # noqa: B023
        full = median_ms(lambda: (attack.direction(ours, x_last), ours.evaluate(x_last)), size)  # noqa: B023
        direction = median_ms(lambda: attack.direction(ours, x_last), size)  # noqa: B023
        relu = median_ms(lambda: attack.direction(floor, x_last), size)  # noqa: B023
        same = attack.direction(ours, x_last) == straightforward(smooth, model, x, labels, reference)
        print(
            f"{size:5} {full:8.1f} {plain:8.1f} {plain / full:9.2f} {direction:10.1f} {relu:8.1f} "
            f"{direction / relu:9.2f} {same.float().mean():8.4%}"
        )


if __name__ == "__main__":
    main()
