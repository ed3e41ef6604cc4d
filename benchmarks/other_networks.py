"""What a step of an attack costs on networks of CIFAR-10, in gradients: one is a forward and a backward pass.

    python benchmarks/other_networks.py [--sizes 8 32] [--steps 12]

A step of the top-k attack on the gradient is a direction, for which gradient and product with the Hessian are walked,
and the map and prediction of the network itself: six passes through the network, or three gradients, and what Python
does in between. On a smooth network, such as the transformer, the map is that of the direction: four passes. Times are
medians of the processor's time of one thread, in milliseconds.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from batches import of_size
from torch import Tensor

from fragile_utils import attacks, data, models, saliency

NETWORKS = ("cifar10", "cifar10-resnet", "cifar10-vit")
WARM_UP = 2  # that are not counted


def main() -> None:
    """Print a line for each network and batch size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", type=int, nargs="*", default=[8, 32])
    options.add_argument("--steps", type=int, default=12)
    options = options.parse_args()
    torch.set_num_threads(1)
    print("network,batch,gradient,step,ratio")
    for name in NETWORKS:
        model = models.load(name)
        right = data.cifar10_samples().correct(model)
        for size in options.sizes:
            x, labels = of_size(right, size)
            one = gradients(model, x, labels, options.steps)
            step = steps_of_an_attack(model, x, labels, options.steps)
            print(f"{name},{size},{1000 * one:.1f},{1000 * step:.1f},{step / one:.2f}", flush=True)


def gradients(model: Callable, x: Tensor, labels: Tensor, count: int) -> float:
    """Return how many seconds a gradient takes."""
    times = []
    for _ in range(WARM_UP + count):
        start = time.process_time()
        image = x.clone().requires_grad_()
        torch.autograd.grad(model(image).gather(1, labels[:, None]).sum(), image)
        times.append(time.process_time() - start)
    return statistics.median(times[WARM_UP:])


def steps_of_an_attack(model: Callable, x: Tensor, labels: Tensor, count: int) -> float:
    """Return how many seconds a step takes."""
    ends: list[float] = []
    attacks.run(
        attacks.TopK(100),
        model,
        x,
        labels,
        saliency.Gradient(),
        eps=8 / 255,
        steps=WARM_UP + count,
        progress=lambda _: ends.append(time.process_time()),
    )
    return statistics.median(b - a for a, b in itertools.pairwise(ends[WARM_UP - 1 :]))


if __name__ == "__main__":
    main()
