"""Throughput of a sweep, and what of its time is not the network's: CIFAR-10's network and SqueezeNet, embedded images.

A sweep of the top-k attack at eps 8 is computed as `fragile sweep` computes it, shard by shard, with its files; what
happens once (reading data, choosing images) is not counted. For each network and method:

rate      images times iterations a second; an iteration is a direction on the surrogate, and the map and prediction of
          the network itself
outside   the share of the time that is not spent in the network's own operations. Those are its layers, activations
          included, and their derivatives: each operation of a program in each of the walks of the room
          ``saliency.propagation``; where autograd does it instead, the forward pass and the gradient of a score.
          Outside are the gradient of the dissimilarity by the map, signs and steps, the choice of the best iterate,
          measures, files, and what Python does in between.

On a GPU the time of the operations is taken on the device, by events in its stream. Without a GPU the target is under
15 %, with one under 25 %. Run it alone on the machine: ``make bench``.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from fragile_utils import experiments, models, saliency
from fragile_utils.experiments.folder import begin
from fragile_utils.saliency.propagation.operation import Operation

METHODS = ("gradient", "deeplift", "deep-taylor")
NETWORKS = {  # a data set, its top-k, steps of the attack on a CPU and on a GPU
    "cifar10": ("cifar10-samples", 100, 20, 300),
    "squeezenet": ("imagenet-samples", 1000, 5, 300),
}
WALKS = ("forward", "propagate", "differentiate", "transposed")


class Clock:
    """Adds up the time spent within the functions that it is put around, however they call each other."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.depth = 0
        self.spans: list[tuple[Any, Any]] = []

    def around(self, function: Callable) -> Callable:
        """Return the function with its time taken."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            start = self.now() if not self.depth else None
            self.depth += 1
            try:
                return function(*arguments, **options)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.spans.append((start, self.now()))

        return timed

    def now(self) -> Any:
        """Return a moment: of this process, or in the stream of the GPU."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        """Return the time so far, and begin again."""
        if self.cuda:
            torch.cuda.synchronize()
        spans, self.spans = self.spans, []
        return sum(a.elapsed_time(b) / 1000 if self.cuda else b - a for a, b in spans)


@contextmanager
def network_timed(clock: Clock) -> Iterator[None]:
    """Within it, the clock runs in the network's own operations."""
    places = [(models.Classifier, "forward"), (models.SoftplusSurrogate, "forward"), (saliency.Gradient, "explain")]
    kinds = [Operation]
    for kind in kinds:
        kinds += kind.__subclasses__()
        places += [(kind, name) for name in WALKS if name in vars(kind)]
    before = [(kind, name, vars(kind)[name]) for kind, name in places]
    for kind, name, function in before:
        timed = clock.around(function)
        if kind is saliency.Gradient:  # with a graph it is a program, the operations of which are timed

            def timed(*given: Any, plain: Callable = timed, other: Callable = function, **options: Any) -> Any:
                return (other if options.get("create_graph") or len(given) > 4 else plain)(*given, **options)

        setattr(kind, name, timed)
    try:
        yield
    finally:
        for kind, name, function in before:
            setattr(kind, name, function)


def measure(network: str, method: str, device: str) -> tuple[int, int, float, float]:
    """Return images, iterations, seconds, and seconds in the network's own operations."""
    data, k, *steps = NETWORKS[network]
    sweep = experiments.Sweep(
        models=network, data=data, methods=method, attacks="topk", budgets=8, k=k, steps=steps[device == "cuda"]
    )
    executor = experiments.InProcess(device, batch_size=32)
    parts, clock = experiments.Parts(sweep), Clock(device)
    with tempfile.TemporaryDirectory() as folder, network_timed(clock):
        made = begin(parts, folder, None, executor.choose)
        first = replace(made.shards[0], last=1)  # to warm up: the network and the data are read
        list(executor.compute(parts, made, [first]))
        clock.seconds()
        start = time.perf_counter()
        experiments.run(sweep, folder, executor=executor)
        inside = clock.seconds()
        return len(made.subjects[0]), sweep.steps, time.perf_counter() - start, inside


def main() -> None:
    """Print a table with one row for each network and method."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    options = options.parse_args()
    gpu = torch.cuda.is_available()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'device':<24} {'network':<12} {'method':<12} {'images':>6} {'steps':>6} {'rate':>8} {'outside':>8}")
    for device in ("cpu", "cuda") if gpu else ("cpu",):
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        for network in options.networks:
            for method in options.methods:
                images, steps, seconds, inside = measure(network, method, device)
                row = f"{name:<24} {network:<12} {method:<12} {images:6} {steps:6} "
                print(f"{row}{images * steps / seconds:8.1f} {1 - inside / seconds:8.1%}", flush=True)


if __name__ == "__main__":
    main()
