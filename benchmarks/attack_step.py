"""One step of the top-k attack on SqueezeNet at 227 x 227, in float32: ms an image and iteration, and peak memory.

A step is a direction on the softplus surrogate, and the map and prediction of the network itself. It is compared, in
one run, with

(a) the same step written straightforwardly in PyTorch as it comes: a copy of the network with ``nn.Softplus`` modules,
    double backward, separate passes for map and prediction, all path points of integrated gradients at once;
(b) that with denormal numbers flushed to zero;
(c) the floor: the direction alone on the network with ReLU itself, by autograd.

Each measurement has a process of its own, so that none gains or loses by what ran before it. Ours and (c) run with the
allocator settings of the Makefile, (a) and (b) without and with (in brackets) them. Ratios are what to quote; times
depend on the machine. Run it alone on the machine: ``make bench``.
"""

import argparse
import copy
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fragile_utils import attacks, data, models, saliency

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
METHODS = {
    "gradient": saliency.Gradient(),
    "deeplift": saliency.DeepLift(),
    "lrp": saliency.LRP(),
    "deep-taylor": saliency.DeepTaylor(),
    "ig-100": saliency.IntegratedGradients(100),
}
REPEATS = 5


def median_ms(step: Callable[[], object], images: int, repeats: int) -> float:
    """Return the median time of a call, in milliseconds an image, after one call to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[1:])[repeats // 2] / images


# --- What is measured ------------------------------------------------------------------------------------------------


def with_softplus(model: nn.Module) -> nn.Module:
    """Return a copy of the model with ``nn.Softplus`` modules in place of its ReLUs."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=1))
    return model


def plain_map(network: nn.Module, x: Tensor, labels: Tensor, steps: int, create_graph: bool) -> Tensor:
    """Return a map (N, H, W) as one would write it: the gradient, or integrated gradients with `steps` points."""
    reference = saliency.Baseline("mean").image(network, x)
    points = x if not steps else torch.cat([torch.lerp(reference, x, (k + 1) / steps) for k in range(steps)])
    scores = network(points).gather(1, labels.repeat(max(1, steps))[:, None]).sum()
    (attribution,) = torch.autograd.grad(scores, x if not steps else points, create_graph=create_graph)
    if steps:
        attribution = (x - reference) * attribution.unflatten(0, (steps, len(x))).mean(0)
    magnitude = attribution.abs().sum(1)
    return magnitude / magnitude.sum((1, 2), keepdim=True)


def plain_step(smooth: nn.Module, model: nn.Module, x: Tensor, labels: Tensor, mask: Tensor, steps: int) -> Tensor:
    """Take one step as one would write it, and return the signs (N, 3, H, W)."""
    x = x.clone().requires_grad_()
    dissimilarity = -(plain_map(smooth, x, labels, steps, True) * mask).sum()
    (gradient,) = torch.autograd.grad(dissimilarity, x)
    plain_map(model, x, labels, steps, False)
    with torch.no_grad():
        model(x).argmax(1)
    return gradient.sign()


def measure(what: str, name: str, size: int, repeats: int) -> dict[str, float]:
    """Return the result of one measurement, in this process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if what == "b":
        torch.set_flush_denormal(True)
    method, attack = METHODS[name], attacks.TopK(1000)
    steps = method.steps if isinstance(method, saliency.IntegratedGradients) else 0
    model = models.squeezenet().to(device)
    right = data.imagenet_samples().to(device).correct(model)
    x, labels = right.images[:size], right.labels[:size]
    mask = attack.reference(method(model, x, labels))
    x_last = x.contiguous(memory_format=torch.channels_last)
    surrogate = models.softplus_surrogate(model)
    network = model if what == "floor" else surrogate
    of_attack = {"attack": attack, "model": model, "surrogate": network, "method": method, "guide": method}
    of_images = {"images": x_last, "labels": labels, "reference": mask, "seeds": tuple(range(size))}
    problem = attacks.MapProblem(eps=8 / 255, **of_attack, **of_images)
    found = {}
    if what in ("a", "b"):
        smooth = with_softplus(model)
        found["ms"] = median_ms(lambda: plain_step(smooth, model, x, labels, mask, steps), size, repeats)
    elif what == "floor":
        found["ms"] = median_ms(lambda: attack.direction(problem, x_last), size, repeats)
    else:
        found["ms"] = median_ms(lambda: (attack.direction(problem, x_last), problem.evaluate(x_last)), size, repeats)
        found["direction"] = median_ms(lambda: attack.direction(problem, x_last), size, repeats)
        if not steps and name == "gradient":
            same = attack.direction(problem, x_last) == plain_step(with_softplus(model), model, x, labels, mask, 0)
            found["signs"] = same.float().mean().item()
    found["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


# --- The table -------------------------------------------------------------------------------------------------------


def apart(what: str, name: str, size: int, settings: bool = True) -> dict[str, float]:
    """Return the result of one measurement, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
    environment |= ALLOCATOR if settings else {}
    repeats = 1 if name == "ig-100" else REPEATS
    command = [sys.executable, __file__, "--one", what, name, str(size), str(repeats)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"ms": float("nan"), "direction": float("nan"), "gigabytes": float("nan")}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a table with one row for each method and batch size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--one", nargs=4, metavar=("WHAT", "METHOD", "SIZE", "REPEATS"), help=argparse.SUPPRESS)
    options.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    options = options.parse_args()
    if options.one:
        what, name, size, repeats = options.one
        print(json.dumps(measure(what, name, int(size), int(repeats))))
        return
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; ms an image and iteration")
    print(
        f"{'method':<12} {'batch':>5} {'step':>8} {'direction':>9} {'GB':>5} {'(a)':>18} {'(b)':>18} {'(c)':>7} "
        f"{'(a)/step':>9} {'(b)/step':>9} {'dir./(c)':>9} {'signs':>8}"
    )
    for name in options.methods:
        for size in (1, 8) if name != "ig-100" else (1,):
            ours = apart("ours", name, size)
            row = f"{name:<12} {size:5} {ours['ms']:8.1f} {ours['direction']:9.1f} {ours['gigabytes']:5.2f} "
            if name in ("gradient", "ig-100"):
                (a, a2), (b, b2) = ([apart(w, name, size, settings)["ms"] for settings in (False, True)] for w in "ab")
                row += f"{a:9.1f} ({a2:6.1f}) {b:9.1f} ({b2:6.1f}) "
                floor = apart("floor", name, size)["ms"]
                row += f"{floor:7.1f} {a / ours['ms']:9.2f} {b / ours['ms']:9.2f} {ours['direction'] / floor:9.2f} "
                row += f"{ours['signs']:8.3%}" if "signs" in ours else ""
            print(row, flush=True)


if __name__ == "__main__":
    main()
