"""Where the time of an attack's step goes on a GPU: SqueezeNet at 227 x 227, top-k, in float32.

    python benchmarks/gpu_step.py [--methods gradient deeplift integrated-gradients] [--sizes 1 8 64 256] [--steps 20]

For each method and batch size: milliseconds a step and an image, of the clock; of these, how long kernels ran; which
share of that they were convolutions; how many kernels a step launches, and the memory at its highest. Where kernels run
for a small part of the time, the rest is Python's, and a larger batch costs nothing more.
"""

import argparse
import time

import torch
from batches import of_size
from torch.profiler import ProfilerActivity, profile

from fragile_utils import attacks, data, models, saliency

METHODS = {
    "gradient": saliency.Gradient(),
    "deeplift": saliency.DeepLift(),
    "integrated-gradients": saliency.IntegratedGradients(steps=10),
}
CONVOLUTIONS = ("conv", "gemm", "grad_engine", "fprop", "cutlass", "winograd", "xmma")  # in the names of kernels
FEW, PROFILED = 10, 5  # steps


def seconds(run, steps: int) -> float:
    """Return how long a run of some steps takes, its beginning and end included."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    run(steps)
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def measured(run, steps: int) -> tuple[float, float, float, int]:
    """Return milliseconds a step, of kernels a step, the share of convolutions in these, and launches a step."""
    run(3)
    step = (seconds(run, FEW + steps) - seconds(run, FEW)) / steps
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        seconds(run, PROFILED)
    kernels = [e for e in found.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    total = sum(e.self_device_time_total for e in kernels)
    of_convolutions = [e for e in kernels if any(word in e.key.lower() for word in CONVOLUTIONS)]
    share = sum(e.self_device_time_total for e in of_convolutions) / total
    evaluated = PROFILED + 1  # the original is evaluated as an iterate is
    return 1000 * step, total / 1000 / evaluated, share, sum(e.count for e in kernels) // evaluated


def main() -> None:
    """Print a table with one row for each method and batch size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--methods", nargs="*", choices=METHODS, default=["gradient", "deeplift"])
    options.add_argument("--sizes", nargs="*", type=int, default=[1, 8, 64, 256])
    options.add_argument("--steps", type=int, default=20)
    options = options.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU: see attack_step.py for processors")
    model = models.squeezenet().cuda()
    right = data.imagenet_samples().to("cuda").correct(model)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    numbers = f"{'ms a step':>11}{'an image':>10}{'kernels':>9}{'conv.':>7}{'launches':>10}{'GiB':>6}"
    print(f"{'method':<21}{'batch':>6}{numbers}")
    for name in options.methods:
        for size in options.sizes:
            x, labels = of_size(right, size)

            def run(steps: int, method=METHODS[name], x=x, labels=labels) -> None:
                attacks.run(attacks.TopK(1000), model, x, labels, method, eps=8 / 255, steps=steps)

            torch.cuda.reset_peak_memory_stats()
            step, kernels, share, launches = measured(run, options.steps)
            memory = torch.cuda.max_memory_allocated() / 2**30
            row = f"{step:>11.1f}{step / size:>10.3f}{kernels:>9.1f}{share:>7.2f}{launches:>10}{memory:>6.1f}"
            print(f"{name:<21}{size:>6}{row}")


if __name__ == "__main__":
    main()
