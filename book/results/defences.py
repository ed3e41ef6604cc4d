"""Compute the stored results `defences`: defended explanations under one protocol, the same for all.

    python book/results/defences.py WORK_FOLDER [--network cifar10] [--images 18] [--steps 12] [--defences NAME ...]
    python book/results/defences.py WORK_FOLDER --network trained --trained FOLDER [--images 200] [--later NAME ...]
    python book/results/defences.py WORK_FOLDER --collect [--add]

The images are those of FRAGILE_DATA if it is set, else the embedded ones: those that the network gets right, behind
thermometers too, evenly spread. With --trained, the networks are those of FOLDER/NAME/weights.safetensors, as `fragile
train` writes them, "none" among them, and the images those that all of them get right; a network that came --later is
evaluated on those of the others' images that it gets right itself. Each combination of network, defence and part of the
images is written to WORK_FOLDER when it is done, and skipped when the script is started again. When the last is done,
or after --collect, the results go to fragile_utils/results/; with --add, beside those that are stored there. A folder
holds runs with one number of steps and one number of images. With 12 steps an image of CIFAR-10 takes about a minute of
one processor core for all defences together, a third of it each for SmoothGrad and for votes; SqueezeNet takes about
twelve times as long.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _common import arguments, evenly, store, write

from fragile_utils import attacks, data, defences, models, saliency
from fragile_utils._base.devices import environment, pick_device
from fragile_utils.data import Batch
from fragile_utils.defences import Aggregate, Defence, SoftplusExplanation, ThermometerNetwork
from fragile_utils.experiments import Protocol, evaluate_defence

NETWORKS = ("cifar10", "squeezenet", "trained")
NAMES = ("none", "softplus", "thermometer", "smoothgrad", "sparsified", "aggregate")
LEVELS = 16  # of the thermometer
NOISE = {"samples": 8, "sigma": 0.1}
BUDGETS = (0.5, 1, 2, 4, 8)
KEPT = ["network", "method", "attack", "by", "eps", "index", "success", "rms"]
MEASURES = ["topk_intersection", "topk_intersection_error", "rank_correlation"]


def images_of(network: str, networks: Iterable[torch.nn.Module], count: int, device: torch.device) -> Batch:
    """Return images that all of some networks get right, at most `count`, evenly spread."""
    own = bool(os.environ.get("FRAGILE_DATA"))
    if network == "squeezenet":
        batch = data.imagenet_folder() if own else data.imagenet_samples()
    else:
        batch = data.cifar10("test", limit=10 * count) if own else data.cifar10_samples()
    batch = batch.to(device)
    for model in networks:
        batch = batch.correct(model)
    return batch[evenly(len(batch), count)]


def subject(options: argparse.Namespace) -> tuple[dict[str, Defence], Batch]:
    """Return the defences by name, and the images on which they are evaluated."""
    device = pick_device(options.device)
    if options.network == "trained":
        folders = sorted(path.parent for path in options.trained.glob("*/weights.safetensors"))
        trained = {folder.name: models.cifar10_net(folder / "weights.safetensors").to(device) for folder in folders}
        plain = trained["none"]
        found = {
            name: Defence(name, model, saliency.Gradient(), undefended_model=None if name == "none" else plain)
            for name, model in trained.items()
        }
        first = [network for name, network in trained.items() if name not in options.later]
        return found, images_of("cifar10", first, options.images, device)
    model = (models.squeezenet() if options.network == "squeezenet" else models.cifar10_net()).to(device)
    coded = ThermometerNetwork(model, LEVELS, decode=True).eval()
    batch = images_of(options.network, (model, coded), options.images, device)
    return {name: defence(name, model, batch.images) for name in options.defences or NAMES}, batch


def defence(name: str, model: torch.nn.Module, images: torch.Tensor) -> Defence:
    """Return a defence by its name; the softplus has the smallest power of two that predicts as the network does."""
    methods = {
        "softplus": lambda: SoftplusExplanation(models.choose_beta(model, images)),
        "smoothgrad": lambda: saliency.SmoothGrad(**NOISE),
        "sparsified": lambda: defences.sparsified_smoothgrad(share=0.1, **NOISE),
        "aggregate": lambda: Aggregate((saliency.Gradient(), saliency.InputXGradient(), saliency.DeepTaylor())),
    }
    if name == "thermometer":
        coded = ThermometerNetwork(model, LEVELS, decode=True).eval()
        return Defence(name, coded, saliency.Gradient(), undefended_model=model)
    return Defence(name, model, methods.get(name, saliency.Gradient)())


def protocol(options: argparse.Namespace, seed: int) -> Protocol:
    """Return how all defences of a network are evaluated."""
    k, steps = 1000 if options.network == "squeezenet" else 100, options.steps
    return Protocol(
        objective=attacks.TopK(k),
        k=k,
        budgets=tuple(eps * attacks.LEVEL for eps in BUDGETS),
        steps=steps,
        step_size=max(0.5, 12 / steps) * attacks.LEVEL,
        measure_every=options.measure_every or max(1, steps // 20),
        restarts=options.restarts,
        draws=2,
        more_steps=tuple(options.more_steps),
        seed=seed,
        batch_size=options.batch_size,
    )


def evaluate(shown: Defence, batch: Batch, start: int, options: argparse.Namespace, path: Path) -> None:
    """Evaluate a defence on a part of the images, and write what was found."""
    begun = time.perf_counter()
    network, name, how = options.network, shown.name, protocol(options, start)
    part = batch[start : start + options.part]
    right = (data.predict(shown.model, part.images) == part.labels).nonzero().flatten().tolist()
    found = evaluate_defence(shown, part[right], how)
    index = start + np.array(right)[found.table["index"]]
    table = found.table.assign(network=network, index=index).reindex(columns=KEPT + MEASURES)
    sanity = found.sanity.set_index("condition")["measured"]
    about = {
        "network": network,
        "method": name,
        "images": int(table["index"].nunique()),
        "shown": repr(shown.method),
        "protocol": repr(how).replace(f"seed={start}", "seed=of the first image of its part"),
        "a large budget wins": float(sanity["a large budget wins"]),
        "price": found.price._asdict(),
        "steps": found.steps.to_dict("records"),
        "sanity": found.sanity.to_dict("records"),
        "seconds": time.perf_counter() - begun,
        "hardware": environment(batch.images.device)["hardware"],
    }
    write(path, table, about, digits=4)
    means = table[table.attack == "worst"].groupby("eps").topk_intersection.mean().round(3)
    print(path.name, means.to_dict(), f"{about['seconds']:.0f} s", flush=True)


def collect(folder: Path, add: bool) -> None:
    """Write what is done to the package; to `add` it, keep what is stored of other networks and defences."""
    done = sorted(folder.glob("*.csv"))
    table = pd.concat([pd.read_csv(path, keep_default_na=False) for path in done])
    notes = pd.DataFrame([json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in done])
    evaluated = [summary(*pair, parts) for pair, parts in notes.groupby(["network", "method"])]
    settings = {
        "about": "defended explanations and networks trained for explanations that hold, under one protocol",
        "script": "book/results/defences.py",
    }
    if add:
        before, stored = data.results("defences")
        new = {(entry["network"], entry["method"]) for entry in evaluated}
        kept = [entry for entry in before["evaluated"] if (entry["network"], entry["method"]) not in new]
        evaluated = sorted(kept + evaluated, key=lambda entry: (entry["network"], entry["method"]))
        others = [pair not in new for pair in zip(stored.network, stored.method, strict=True)]
        table = pd.concat([stored[others], table])
    settings["evaluated"] = evaluated
    settings["seconds"] = sum(entry["seconds"] for entry in evaluated)
    table = table.sort_values(["network", "method", "attack", "eps", "index"])
    store("defences", table, settings, digits=None, packed=True)  # parts are rounded, and other columns are text


def summary(network: str, method: str, parts: pd.DataFrame) -> dict:
    """Return what the settings say of the evaluation of one defence, from those of its parts."""
    prices = pd.DataFrame([*parts["price"]]).mul([*parts["images"]], axis=0).sum() / parts["images"].sum()
    large = (parts["a large budget wins"] * parts["images"]).sum() / parts["images"].sum()
    whole = len(parts) == 1
    return {
        "network": network,
        "method": method,
        "shown": parts["shown"].iloc[0],
        "protocol": parts["protocol"].iloc[0],
        "images": int(parts["images"].sum()),
        "a large budget wins": round(large, 4),
        "price": prices.drop("accuracy").round(5).to_dict(),
        "steps": parts["steps"].iloc[0] if whole else [],
        "sanity": parts["sanity"].iloc[0] if whole else [],
        "seconds": round(parts["seconds"].sum()),
        "hardware": ", ".join(sorted(parts["hardware"].unique())),
        "versions": {package: metadata.version(package) for package in ("torch", "torchvision")},
    }


def main() -> None:
    """Run what is not done yet, then collect."""
    options = arguments(__doc__)
    options.add_argument("--network", choices=NETWORKS, default="cifar10")
    options.add_argument("--trained", type=Path, help="the folder of the folders of trained networks")
    options.add_argument("--defences", nargs="*", help="by default all")
    options.add_argument("--images", type=int, default=18, help="at most; fewer where the networks get fewer right")
    options.add_argument("--part", type=int, default=3, help="images evaluated at a time; only whole sets have curves")
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--more-steps", type=int, nargs="*", default=[], help="of the curve over steps")
    options.add_argument("--measure-every", type=int, help="by default so that twenty iterates are measured, or all")
    options.add_argument("--restarts", type=int, default=1)
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--device", default="auto")
    options.add_argument("--later", nargs="*", default=[], help="trained networks that have no say in the images")
    options.add_argument("--collect", action="store_true", help="only write what is done to the package")
    options.add_argument("--add", action="store_true", help="keep what is stored of other networks and defences")
    options = options.parse_args()
    if options.collect:
        collect(options.folder, options.add)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    defences_of, batch = subject(options)
    plan = itertools.product(range(0, len(batch), options.part), options.defences or defences_of)
    for start, name in plan:
        path = options.folder / f"{options.network}_{options.steps}_{name}_{start:04}.csv"
        if not path.exists():
            evaluate(defences_of[name], batch, start, options, path)
    collect(options.folder, options.add)


if __name__ == "__main__":
    main()
