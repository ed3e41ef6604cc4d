"""Compute the stored results `defences`: defended explanations under one protocol, the same for all.

    python book/results/defences.py WORK_FOLDER [--network cifar10] [--images 18] [--steps 12] [--defences NAME ...]
    python book/results/defences.py WORK_FOLDER [--images 18] --collect

The images are the embedded ones that the network gets right, behind thermometers too. Each combination of network,
defence and part of the images is written to WORK_FOLDER when it is done, and skipped when the script is started again.
When the last is done, or after --collect, the results go to fragile_utils/results/. A folder holds runs with one number
of steps. With 12 steps an image of CIFAR-10 takes about a minute of one processor core for all defences together, a
third of it each for SmoothGrad and for votes; SqueezeNet takes about twelve times as long.
"""

import argparse
import itertools
import json
import time
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch

from fragile_utils import attacks, data, defences, models, saliency
from fragile_utils._base.devices import processor
from fragile_utils.data import Batch
from fragile_utils.defences import Aggregate, Defence, SoftplusExplanation, ThermometerNetwork
from fragile_utils.experiments import Protocol, evaluate_defence

RESULTS = Path(__file__).resolve().parents[2] / "fragile_utils" / "results"
NETWORKS = {
    "cifar10": (models.cifar10_net, data.cifar10_samples, 100),
    "squeezenet": (models.squeezenet, data.imagenet_samples, 1000),
}
NAMES = ("none", "softplus", "thermometer", "smoothgrad", "sparsified", "aggregate")
LEVELS = 16  # of the thermometer
NOISE = {"samples": 8, "sigma": 0.1}
BUDGETS = (1, 2, 4, 8)
PART = 3
KEPT = ["network", "method", "attack", "by", "eps", "index", "success", "rms"]
MEASURES = ["topk_intersection", "topk_intersection_error", "rank_correlation"]


def subject(network: str) -> tuple[torch.nn.Module, Batch]:
    """Return a network, and the embedded images that it gets right, behind thermometers too."""
    build, samples, _ = NETWORKS[network]
    model = build()
    coded = ThermometerNetwork(model, LEVELS, decode=True).eval()
    return model, samples().correct(model).correct(coded)


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


def protocol(network: str, steps: int, seed: int) -> Protocol:
    """Return how all defences of a network are evaluated."""
    k = NETWORKS[network][2]
    return Protocol(
        objective=attacks.TopK(k),
        k=k,
        budgets=tuple(eps * attacks.LEVEL for eps in BUDGETS),
        steps=steps,
        step_size=max(1, 12 / steps) * attacks.LEVEL,
        measure_every=max(1, steps // 4),
        restarts=1,
        draws=2,
        more_steps=(),
        seed=seed,
    )


def evaluate(network: str, name: str, start: int, steps: int, path: Path) -> None:
    """Evaluate a defence on a part of the images, and write what was found."""
    begun = time.process_time()
    model, batch = subject(network)
    shown = defence(name, model, batch.images)
    how = protocol(network, steps, start)
    found = evaluate_defence(shown, batch[start : start + PART], how)
    table = found.table.assign(network=network, index=found.table["index"] + start).reindex(columns=KEPT + MEASURES)
    sanity = found.sanity.set_index("condition")["measured"]
    about = {
        "network": network,
        "method": name,
        "images": int(table["index"].nunique()),
        "shown": repr(shown.method),
        "protocol": repr(how).replace(f"seed={start}", "seed=of the first image of its part"),
        "a large budget wins": float(sanity["a large budget wins"]),
        "price": found.price._asdict(),
        "seconds": time.process_time() - begun,
    }
    path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
    partial = path.with_suffix(".part")
    table.to_csv(partial, index=False, float_format="%.4g")
    partial.replace(path)
    means = table[table.attack == "worst"].groupby("eps").topk_intersection.mean().round(3)
    print(path.name, means.to_dict(), f"{about['seconds']:.0f} s", flush=True)


def collect(folder: Path, images: int) -> None:
    """Write what is done of the first `images` to the package."""
    done = [path for path in sorted(folder.glob("*.csv")) if int(path.stem.split("_")[-1]) < images]
    table = pd.concat([pd.read_csv(path, keep_default_na=False) for path in done])
    table = table.sort_values(["network", "method", "attack", "eps", "index"])
    table.to_csv(RESULTS / "defences.csv", index=False)
    notes = pd.DataFrame([json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in done])
    evaluated = []
    for (network, method), parts in notes.groupby(["network", "method"]):
        prices = pd.DataFrame([*parts["price"]]).mul([*parts["images"]], axis=0).sum() / parts["images"].sum()
        large = (parts["a large budget wins"] * parts["images"]).sum() / parts["images"].sum()
        evaluated.append(
            {
                "network": network,
                "method": method,
                "shown": parts["shown"].iloc[0],
                "protocol": parts["protocol"].iloc[0],
                "images": int(parts["images"].sum()),
                "a large budget wins": round(large, 4),
                "price": prices.drop("accuracy").round(5).to_dict(),
                "seconds": round(parts["seconds"].sum()),
            }
        )
    settings = {
        "about": "defended explanations under one protocol, on the embedded images that the network gets right",
        "script": "book/results/defences.py",
        "evaluated": evaluated,
        "versions": {package: metadata.version(package) for package in ("torch", "torchvision")},
        "hardware": processor(),
        "seconds": round(notes["seconds"].sum()),
    }
    (RESULTS / "defences.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run what is not done yet, then collect."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="WORK_FOLDER")
    options.add_argument("--network", choices=NETWORKS, default="cifar10")
    options.add_argument("--defences", nargs="*", choices=NAMES, default=list(NAMES))
    options.add_argument("--images", type=int, default=18, help="at most; fewer where the network gets fewer right")
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--collect", action="store_true", help="only write what is done to the package")
    options = options.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    images = min(options.images, len(subject(options.network)[1]))
    plan = itertools.product(range(0, images, PART), options.defences)
    for start, name in plan if not options.collect else ():
        path = options.folder / f"{options.network}_{options.steps}_{name}_{start:04}.csv"
        if not path.exists():
            evaluate(options.network, name, start, options.steps, path)
    collect(options.folder, options.images)


if __name__ == "__main__":
    main()
