"""One step of the top-k attack on SqueezeNet at 227 x 227, in float32, beside other ways to compute it.

A step is what `attacks.run` does between two iterates: a direction on the softplus surrogate, the map and prediction of
the network itself, and the choice of the best. For each method and batch size, in one run:

ours      this checkout
base      another commit, with --base COMMIT (``make bench BASE=COMMIT``)
plain     the same step written straightforwardly in PyTorch as it comes: a copy of the network with ``nn.Softplus``
          modules, double backward, separate passes for map and prediction, all path points of integrated gradients at
          once, without the allocator settings of the Makefile
floor     the convolutions of a step of the gradient alone, each by the fastest call that PyTorch has for it: forward
          and transposed, for the values, the multipliers and the tangents of both on the surrogate, of whose last layer
          one row is needed, and for value and gradient on the network

Each has a process of its own, and they take their steps in turn. Times are medians, in milliseconds an image and
iteration. On a CPU they are the processor's time of one thread, which other processes disturb little; on a GPU, and
with --wall, they are times of the clock, of all threads. Two rows at the end, on a CPU, are times of the clock with all
threads: on the machine as it is, and beside two busy processes. Ratios are what to quote. --out writes JSON.
"""

import argparse
import copy
import io
import json
import os
import queue
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from batches import of_size
from torch import Tensor, nn

from fragile_utils import attacks, data, models, saliency

ROOT = Path(__file__).resolve().parents[1]
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
METHODS = {
    "gradient": saliency.Gradient(),
    "deeplift": saliency.DeepLift(),
    "lrp": saliency.LRP(),
    "deep-taylor": saliency.DeepTaylor(),
    "ig-5": saliency.IntegratedGradients(5),
    "ig-100": saliency.IntegratedGradients(100),
}
WARM_UP = 2  # steps that are not counted
CANDIDATE_REPEATS = 3  # of each call that could be a convolution's fastest


# --- What takes steps, in a process of its own -----------------------------------------------------------------------


def work(what: str, name: str, size: int, wall: bool) -> None:
    """Take a step for each line that is read, and print how many seconds it took."""
    on_gpu = torch.cuda.is_available()
    model = models.squeezenet().to("cuda" if on_gpu else "cpu")
    right = data.imagenet_samples().to("cuda" if on_gpu else "cpu").correct(model)
    x, labels = of_size(right, size)
    clock = time.perf_counter if wall or on_gpu else time.process_time

    def turn(step: Callable[[], object]) -> bool:
        if not sys.stdin.readline():
            return False
        start = clock()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        memory = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps([clock() - start, memory / (2**30 if on_gpu else 2**20)]), flush=True)
        return True

    if what == "ours":
        run_in_turns(METHODS[name], model, x, labels, turn)
        return
    if what == "signs":
        print(json.dumps(first_signs(model, x, labels)), flush=True)
        return
    if what == "floor":
        step = floor(model, x)
    else:
        method = METHODS[name]
        points = method.steps if isinstance(method, saliency.IntegratedGradients) else 0
        smooth, mask = with_softplus(model), attacks.TopK(1000).reference(method(model, x, labels))

        def step() -> Tensor:
            return plain_step(smooth, model, x, labels, mask, points)

    while turn(step):
        pass


def run_in_turns(
    method: saliency.Method, model: nn.Module, x: Tensor, labels: Tensor, turn: Callable[[Callable], bool]
) -> None:
    """Run an attack that waits before each step. `attacks.run` is all that is asked of a checkout."""
    begin, done = queue.SimpleQueue(), queue.SimpleQueue()

    def reached(p: int) -> None:
        done.put(p)
        if not begin.get():
            raise KeyboardInterrupt

    def attack() -> None:
        begin.get()
        attacks.run(
            attacks.TopK(1000), model, x, labels, method, eps=8 / 255, steps=10**6, guide=method, progress=reached
        )

    thread = threading.Thread(target=attack)
    thread.start()
    while turn(lambda: (begin.put(True), done.get())):
        pass
    begin.put(False)
    thread.join()


def first_signs(model: nn.Module, x: Tensor, labels: Tensor) -> dict[str, list[int]]:
    """Return the signs of our first direction and of the straightforward step, where an attack succeeds."""
    small = 1e-4  # a step that leaves the range of pixels alone
    x, attack = x.clamp(small, 1 - small), attacks.TopK(1000)
    moved = attacks.run(attack, model, x, labels, saliency.Gradient(), eps=small, steps=1, step_size=small)
    mask = attack.reference(saliency.Gradient()(model, x, labels))
    plain = plain_step(with_softplus(model), model, x, labels, mask, 0)
    found = {"ours": (moved.images - x).sign(), "plain": plain}
    return {what: values[moved.success].int().flatten().tolist() for what, values in found.items()}


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
    if not points.requires_grad:
        points.requires_grad_()
    scores = network(points).gather(1, labels.repeat(max(1, steps))[:, None]).sum()
    (attribution,) = torch.autograd.grad(scores, points, create_graph=create_graph)
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


# --- The floor: convolutions alone, each by its fastest call ---------------------------------------------------------


@torch.no_grad()
def floor(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return what calls the convolutions of a step of the gradient, and nothing else."""
    layers: list[tuple[nn.Conv2d, Tensor]] = []
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    handles = [
        module.register_forward_pre_hook(lambda module, given: layers.append((module, given[0].clone())))
        for module in convolutions
    ]
    model(x)
    for handle in handles:
        handle.remove()
    calls: list[Callable[[], Tensor]] = []
    for layer, given in layers:
        last = layer is convolutions[-1]
        forward, back = (fastest(of(layer, given, None)) for of in (forward_calls, transposed_calls))
        calls += [forward] * (2 if last else 3) + [back]  # the evaluation needs all rows of the last layer
        one = slice(0, 1) if last else None
        forward, back = (fastest(of(layer, given, one)) for of in (forward_calls, transposed_calls))
        calls += [forward] * last + [back] * (1 if last else 2)
    return lambda: [call() for call in calls] and None


def fastest(candidates: list[Callable[[], Tensor]]) -> Callable[[], Tensor]:
    def seconds(call: Callable[[], Tensor]) -> float:
        times = []
        for _ in range(CANDIDATE_REPEATS + 1):
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times[1:])

    return min(candidates, key=seconds)


def layouts(*tensors: Tensor) -> Iterator[list[Tensor]]:
    for layout in (torch.channels_last, torch.contiguous_format):
        yield [tensor.contiguous(memory_format=layout) for tensor in tensors]


def forward_calls(layer: nn.Conv2d, x: Tensor, rows: slice | None) -> list[Callable[[], Tensor]]:
    weight = layer.weight[rows] if rows else layer.weight
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return [lambda a=a, w=w: F.conv2d(a, w, None, *options) for a, w in layouts(x, weight)]


def transposed_calls(layer: nn.Conv2d, x: Tensor, rows: slice | None) -> list[Callable[[], Tensor]]:
    weight = layer.weight[rows] if rows else layer.weight
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    m = F.conv2d(x, weight, None, *options)
    found = []
    for grad, given, w in layouts(m, x, weight):
        found.append(
            lambda g=grad, a=given, w=w: torch.ops.aten.convolution_backward(
                g, a, w, None, *options[:3], False, [0, 0], options[3], [True, False, False]
            )[0]
        )
        if layer.stride == (1, 1) and layer.groups == 1:
            turned = w.transpose(0, 1).flip(2, 3).contiguous(
                memory_format=torch.channels_last if w.is_contiguous(memory_format=torch.channels_last)
                else torch.contiguous_format
            )  # fmt: skip
            padding = [
                d * (k - 1) - p for k, d, p in zip(layer.kernel_size, layer.dilation, layer.padding, strict=True)
            ]
            found.append(lambda g=grad, w=turned, p=padding: F.conv2d(g, w, None, 1, p, layer.dilation))
    return found


# --- The processes and their turns -----------------------------------------------------------------------------------


class Worker:
    """A process that takes steps when it is told to.

    Parameters
    ----------
    what, name, size
        As for `work`.
    checkout : Path
        Whose package it imports.
    threads : int, optional
        By default as many as there are cores, and times of the clock.
    """

    def __init__(self, what: str, name: str, size: int, checkout: Path, threads: int | None) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
        environment |= {"PYTHONPATH": str(checkout)} | (ALLOCATOR if what != "plain" else {})
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        command = [sys.executable, __file__, "--work", what, name, str(size), str(int(threads is None))]
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.images = size
        self.times: list[float] = []
        self.gigabytes = float("nan")

    def step(self) -> None:
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            seconds, self.gigabytes = json.loads(self.process.stdout.readline())
            self.times.append(1000 * seconds / self.images)
        except (BrokenPipeError, json.JSONDecodeError):  # out of memory, perhaps
            self.times.append(float("nan"))

    def end(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def in_turns(workers: dict[str, Worker], rounds: int) -> dict[str, float]:
    """Return the median time of each worker, and of the ratios to ours in one round."""
    with ExitStack() as stack:
        for worker in workers.values():
            stack.callback(worker.end)
        for _ in range(WARM_UP + rounds):
            for worker in workers.values():
                worker.step()
    times = {what: worker.times[WARM_UP:] for what, worker in workers.items()}
    found = {what: statistics.median(taken) for what, taken in times.items()}
    for what, other in (("ours", "base"), ("ours", "floor"), ("plain", "ours")):
        if what in times and other in times:
            ratios = [a / b for a, b in zip(times[what], times[other], strict=True)]
            found[f"{what}/{other}"] = statistics.median(ratios)
    return found | {f"{what} GB": worker.gigabytes for what, worker in workers.items() if what in ("ours", "base")}


@contextmanager
def checkout_of(commit: str | None) -> Iterator[Path | None]:
    """Make the package of a commit in a folder of its own."""
    if commit is None:
        yield None
        return
    packed = subprocess.run(
        ["git", "archive", commit, "fragile_utils"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Let so many processes compute beside this one."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


# --- The table -------------------------------------------------------------------------------------------------------

COLUMNS = ("ours", "base", "floor", "plain", "ours/base", "ours/floor", "plain/ours", "ours GB", "base GB")


def row(label: str, size: int, found: dict[str, float]) -> None:
    cells = (f"{found[column]:10.2f}" if column in found else " " * 10 for column in COLUMNS)
    print(f"{label:<26}{size:5} {' '.join(cells)}", flush=True)


def measured(name: str, size: int, rounds: int, whats: list[str], base: Path | None, threads: int | None) -> dict:
    workers = {}
    for what in whats:
        if what == "base" and base is None:
            continue
        checkout = base if what == "base" else ROOT
        workers[what] = Worker("ours" if what == "base" else what, name, size, checkout, threads)
    return in_turns(workers, rounds)


def signs(size: int, base: Path | None) -> None:
    """Print on which share of the pixels the signs of two first directions are the same."""
    found = {}
    for what, checkout in (("ours", ROOT), ("base", base)):
        if checkout is not None:
            worker = Worker("signs", "gradient", size, checkout, 1)
            found[what] = json.loads(worker.process.stdout.readline())
            worker.end()
    pairs = {f"{what} as straightforward": (of["ours"], of["plain"]) for what, of in found.items()}
    if base is not None:
        pairs["ours as base"] = found["ours"]["ours"], found["base"]["ours"]
    for name, (one, other) in pairs.items():
        same = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
        print(f"signs of the first direction, {name}: {same:.6f}")


def main() -> None:
    """Print a table with one row for each method and batch size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options.add_argument("--base", metavar="COMMIT", help="compare with another commit")
    options.add_argument(
        "--methods", nargs="*", choices=METHODS, default=[name for name in METHODS if name != "ig-100"]
    )
    options.add_argument(
        "--sizes", nargs="*", type=int, default=[1, 8, 64, 256] if torch.cuda.is_available() else [1, 8]
    )
    options.add_argument("--rounds", type=int, default=7, help="steps that are counted")
    options.add_argument("--only", nargs="*", choices=("ours", "base", "floor", "plain"), help="columns")
    options.add_argument("--wall", action="store_true", help="times of the clock, of all threads")
    options.add_argument("--no-busy", action="store_true", help="leave out the rows beside busy processes")
    options.add_argument("--out", metavar="FILE", help="write the numbers as JSON")
    options = options.parse_args()
    if options.work:
        what, name, size, wall = options.work
        work(what, name, int(size), wall == "1")
        return
    gpu = torch.cuda.is_available()
    threads = None if options.wall or gpu else 1
    device = torch.cuda.get_device_name() if gpu else "CPU"
    kind = "clock, all threads" if threads is None else "processor time of one thread"
    print(f"{device}, torch {torch.__version__}; ms an image and iteration, {kind}")
    print(f"{'method':<26}{'batch':>5} {' '.join(f'{column:>10}' for column in COLUMNS)}")
    rows: list[dict[str, Any]] = []

    def add(label: str, *arguments: Any) -> None:
        found = measured(*arguments)
        row(label, arguments[1], found)
        rows.append({"row": label, "batch": arguments[1], **found})

    with checkout_of(options.base) as base:
        for name in options.methods:
            derivatives = name == "gradient"
            comparable = derivatives or name.startswith("ig")
            whats = ["ours", "base"] + ["floor"] * derivatives + ["plain"] * comparable
            chosen = [what for what in whats if options.only is None or what in options.only]
            for size in options.sizes:
                add(name, name, size, options.rounds, chosen, base, threads)
        if not gpu and not options.no_busy:
            both = [what for what in ("ours", "base", "plain") if options.only is None or what in options.only]
            add("gradient, all threads", "gradient", 8, options.rounds, both, base, None)
            with busy(2):
                add("with two busy competitors", "gradient", 8, options.rounds, both, base, None)
        signs(8, base)
    if options.out:
        about = {"device": device, "torch": torch.__version__, "time": kind, "base": options.base}
        Path(options.out).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
