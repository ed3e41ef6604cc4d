"""Compute the stored results `image_size`: the same photographs at several sizes, attacked, beside noise.

    python book/results/image_size.py WORK_FOLDER [--images 12] [--spectra 6] [--only NETWORK:PIXELS ...]
    python book/results/image_size.py WORK_FOLDER --collect

One network with the same weights sees smaller and larger copies of a photograph (SqueezeNet, EfficientNet-Lite0), and
the three sizes of one architecture see each their own (Lite0, Lite1, Lite2). The photographs are those of FRAGILE_DATA
that all of them get right at all their sizes, of 60 that are tried. The top of a map are 2 % of its pixels. The gain is
that of a direction of largest curvature over a random one, sqrt(d / r), on the smooth surrogate, of the first images
alone. What is done is skipped when the script is started again. On one core of a processor it takes about an hour.
"""

import json
from pathlib import Path

import pandas as pd
import torch
from _common import arguments, store, write

from fragile_utils import attacks, curvature, data, metrics, models, saliency
from fragile_utils._base.devices import environment, pick_device
from fragile_utils.data import Batch
from fragile_utils.data.folders import spread

SUBJECTS = [
    *(("squeezenet", size) for size in (160, 227, 320)),
    *(("efficientnet-lite0", size) for size in (112, 160, 224, 320)),
    ("efficientnet-lite1", 240),
    ("efficientnet-lite2", 260),
]
CANDIDATES = 60  # photographs, of which those are taken that all get right
SHARE = 0.02  # of the pixels are the top
BUDGETS = {  # levels of 255
    "topk": (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1),
    "random-sign": (0.5, 1, 2, 4, 8),
}
STEPS = {"steps": 20, "measure_every": 5}
SPECTRUM = {"tolerance": 0.1, "probes": 3}


def photographs(count: int, device: torch.device) -> list[str]:
    """Return the names of the photographs that every network gets right at every size, at most `count`."""
    names = None
    for name, size in SUBJECTS:
        model = models.load(name).to(device)
        right = {*data.imagenet_folder(size=size, limit=CANDIDATES).to(device).correct(model).names}
        names = right if names is None else names & right
    return spread(sorted(names), count)


def read(names: list[str], size: int) -> Batch:
    """Return the photographs of these names, at a size."""
    batch = data.imagenet_folder(size=size, limit=CANDIDATES)
    return batch[[batch.names.index(name) for name in names]]


def attacked(model: torch.nn.Module, batch: Batch) -> pd.DataFrame:
    """Return, of each attack, budget and image, what is left of the top of its gradient map."""
    k = round(SHARE * batch.images[0, 0].numel())
    given = model, batch.images, batch.labels, saliency.Gradient()
    tables = []
    for attack, budgets in BUDGETS.items():
        objective = attacks.TopK(k) if attack == "topk" else attacks.RandomSign()
        for levels in budgets:
            eps = levels * attacks.LEVEL
            how = {**STEPS, "step_size": eps / 5} if attack == "topk" else {}
            run = attacks.run(objective, *given, eps=eps, **how)
            left = metrics.topk_intersection(run.maps_before, run.maps, k).cpu()
            columns = {"success": run.success.cpu(), "topk_intersection": left, "index": range(len(batch))}
            tables.append(pd.DataFrame(columns).assign(attack=attack, eps=levels))
    return pd.concat(tables)


def spectra(model: torch.nn.Module, batch: Batch) -> pd.DataFrame:
    """Return the stable rank of the Hessian at each image, and the gain of its first eigenvector over a random step."""
    smooth, rows = models.smooth_surrogate(model), []
    for i in range(len(batch)):  # a batch of the larger ones takes too much memory
        where = smooth, batch.images[i : i + 1], batch.labels[i : i + 1]
        largest = curvature.eigenpairs(*where, k=1, tolerance=SPECTRUM["tolerance"]).values[0, 0].item()
        total = curvature.moments(*where, probes=SPECTRUM["probes"]).squared_norm.item()
        rank = total / largest**2
        rows.append({"index": i, "stable_rank": rank, "gain": (batch.images[i].numel() / rank) ** 0.5})
    return pd.DataFrame(rows).assign(attack="spectrum")


def collect(folder: Path) -> None:
    """Write what is done to the package."""
    table = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("*.csv"))], ignore_index=True)
    settings = {
        "about": "the same photographs at several sizes, attacked, beside noise",
        "script": "book/results/image_size.py",
        "share": SHARE,
        "attack": STEPS,
        "spectrum": SPECTRUM,
        **json.loads((folder / "about.json").read_text(encoding="utf-8")),
    }
    columns = ["network", "pixels", "attack", "eps", "index", "success", "topk_intersection", "stable_rank", "gain"]
    store("image_size", table.sort_values(columns[:5])[columns], settings)


def main() -> None:
    """Run what is not done yet, then collect."""
    options = arguments(__doc__)
    options.add_argument("--images", type=int, default=12)
    options.add_argument("--spectra", type=int, default=6, help="of the first images")
    options.add_argument("--only", nargs="*", help="NETWORK:PIXELS, by default all")
    options.add_argument("--device", default="auto")
    options.add_argument("--collect", action="store_true", help="compute nothing")
    options = options.parse_args()
    device = pick_device(options.device)
    options.folder.mkdir(parents=True, exist_ok=True)
    about = options.folder / "about.json"
    if not about.exists():
        names = photographs(options.images, device)
        about.write_text(json.dumps({"photographs": names, **environment(device)}), encoding="utf-8")
    names = json.loads(about.read_text(encoding="utf-8"))["photographs"]
    for name, size in SUBJECTS if not options.collect else ():
        if options.only and f"{name}:{size}" not in options.only:
            continue
        model, batch = models.load(name).to(device), read(names, size).to(device)
        for compute, images in ((attacked, batch), (spectra, batch[: options.spectra])):
            path = options.folder / f"{name}_{size}_{compute.__name__}.csv"
            if not path.exists():
                write(path, compute(model, images).assign(network=name, pixels=size))
                print(path.name, flush=True)
    collect(options.folder)


if __name__ == "__main__":
    main()
