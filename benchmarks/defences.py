"""What a defended explanation costs, in float32: ms an image, and how many plain gradients that is.

SqueezeNet at 227 x 227, or the CIFAR-10 network with ``--model cifar10``. A SmoothGrad costs its samples, and so does a
vote, which sorts each of their maps too; an aggregate costs its members. Times are the processor's on a CPU: the median
of interleaved repetitions. Ratios are what to quote.
"""

import argparse
import json
import time

import torch
from torch import Tensor, nn

from fragile_utils import data, defences, models, saliency


def explanations(samples: int, beta: float) -> dict[str, saliency.Method]:
    """Return what is measured, by name."""
    members = (saliency.Gradient(), saliency.InputXGradient(), saliency.LRP())
    return {
        "gradient": saliency.Gradient(),
        f"softplus, beta {beta:g}": defences.SoftplusExplanation(beta),
        f"smoothgrad, {samples} samples": saliency.SmoothGrad(samples=samples, sigma=0.1),
        f"sparsified smoothgrad, {samples} samples": defences.sparsified_smoothgrad(samples=samples),
        f"aggregate of {len(members)}": defences.Aggregate(members),
    }


def seconds(method: saliency.Method, model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return how long an explanation takes, for each image."""
    clock = time.perf_counter if images.is_cuda else time.process_time
    start = clock()
    method(model, images, labels)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return (clock() - start) / len(images)


def measure(name: str, images: int, samples: int, repeats: int, device: str) -> list[dict[str, object]]:
    """Return a row for each explanation."""
    model = models.MODELS[name]().requires_grad_(False).to(device)
    samples_of = data.imagenet_samples if name == "squeezenet" else data.cifar10_samples
    batch = samples_of().to(device).correct(model)[:images]
    methods = explanations(samples, model.beta / 20)
    times: dict[str, list[float]] = {what: [] for what in methods}
    for _ in range(repeats + 1):  # the first is to warm up
        for what, method in methods.items():
            times[what].append(seconds(method, model, batch.images, batch.labels))
    medians = {what: sorted(found[1:])[repeats // 2] for what, found in times.items()}
    return [
        {"explanation": what, "ms": 1000 * found, "gradients": found / medians["gradient"]}
        for what, found in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("squeezenet", "cifar10"), default="squeezenet")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.model, options.images, options.samples, options.repeats, options.device)
    for row in rows:
        print(
            json.dumps(row) if options.json else f"{row['explanation']:42}{row['ms']:10.1f} ms{row['gradients']:8.1f}"
        )


if __name__ == "__main__":
    main()
