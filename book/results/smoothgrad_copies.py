"""Compute the stored results `smoothgrad_copies`: SmoothGrad against itself, and attacked, by the number of copies.

    python book/results/smoothgrad_copies.py WORK_FOLDER [--images 32] [--copies 8 32 128 512]

The images are test images of CIFAR-10 from FRAGILE_DATA that the book's network gets right, evenly spread. For each
number of copies an attacker who does not know the seed climbs the expectation over noise, with 32 new copies at each
step, and keeps the iterate that moves a map of as many copies as are displayed. What is displayed is then compared
with the original's: with the same noise, and with other noise, as for a reader who asks twice. With more than 128
copies nobody attacks: it takes long. What is done is skipped when the script is started again. In all it takes about
twenty minutes of one processor core.
"""

import time

import pandas as pd
import torch
from _common import arguments, evenly, store, write

from fragile_utils import attacks, data, defences, metrics, models, saliency
from fragile_utils._base.devices import environment, pick_device
from fragile_utils.data import Batch

COPIES = (8, 32, 128, 512)
ATTACKED = 128  # copies, at most
SIGMA = 0.1
K = 100
EPS, STEP = 4 * attacks.LEVEL, attacks.LEVEL
STEPS = {"steps": 40, "measure_every": 10}
IN_A_STEP = 32  # copies, of the attack
DRAWS = 2  # of the held-out noise
PART = 8  # images at a time


def attacked(model: torch.nn.Module, part: Batch, first: int, shown: saliency.SmoothGrad) -> dict[str, torch.Tensor]:
    """Return the images after each attack, and with noise of the adaptive one's size."""
    attackers = defences.Defence("smoothgrad", model, shown).attackers(attacks.TopK(K), samples=IN_A_STEP)
    how = {"eps": EPS, "step_size": STEP, "seed": first, **STEPS}
    found = {name: attackers[name].run(part.images, part.labels, **how) for name in ("adaptive", "non-adaptive")}
    noise = attacks.matched_noise(found["adaptive"], model)
    return {name: run.images for name, run in found.items()} | {"noise": noise.images}


def rows_of(model: torch.nn.Module, part: Batch, first: int, copies: int) -> pd.DataFrame:
    """Return what is left of the top of each image's displayed map, by what was done to the image."""
    x, labels = part.images, part.labels
    shown = saliency.SmoothGrad(samples=copies, sigma=SIGMA)
    images = {"none": x} | (attacked(model, part, first, shown) if copies <= ATTACKED else {})
    seen, again = (defences.held_out(shown, DRAWS, seed) for seed in (0, 1))
    before = [method(model, x, labels) for method in seen]
    tables = []
    for name, changed in images.items():
        kept = data.predict(model, changed) == labels
        for noise, methods in (("same", seen), ("other", again)):
            if name == "none" and noise == "same":  # the same map
                continue
            after = [method(model, changed, labels) for method in methods]
            each = [metrics.topk_intersection(a, b, K) for a, b in zip(before, after, strict=True)]
            columns = {
                "index": range(first, first + len(x)),
                "kept": kept.cpu(),
                "topk": torch.stack(each).mean(0).cpu(),
            }
            tables.append(pd.DataFrame(columns).assign(copies=copies, attack=name, noise=noise))
    return pd.concat(tables)


def main() -> None:
    """Run what is not done yet, then write the results."""
    options = arguments(__doc__)
    options.add_argument("--images", type=int, default=32)
    options.add_argument("--copies", type=int, nargs="+", default=list(COPIES))
    options.add_argument("--device", default="auto")
    options = options.parse_args()
    device = pick_device(options.device)
    options.folder.mkdir(parents=True, exist_ok=True)
    model = models.cifar10_net().to(device)
    right = data.cifar10("test", limit=10 * options.images).to(device).correct(model)
    batch = right[evenly(len(right), options.images)]
    for copies in options.copies:
        for first in range(0, len(batch), PART):
            path = options.folder / f"{copies:04d}_{first:03d}.csv"
            if path.exists():
                continue
            begun = time.perf_counter()
            table = rows_of(model, batch[first : first + PART], first, copies)
            write(path, table)
            means = table.groupby(["attack", "noise"]).topk.mean().round(3).to_dict()
            print(f"{path.stem}: {time.perf_counter() - begun:.0f} s, {means}", flush=True)
    table = pd.concat([pd.read_csv(path) for path in sorted(options.folder.glob("*.csv"))], ignore_index=True)
    columns = ["copies", "attack", "noise", "index", "kept", "topk"]
    settings = {
        "about": "SmoothGrad by the number of its copies: against itself, and attacked by an expectation over noise",
        "script": "book/results/smoothgrad_copies.py",
        "network": "cifar10",
        "images": [batch.names[i] for i in sorted(table["index"].unique())],
        "sigma": SIGMA,
        "k": K,
        "eps": EPS / attacks.LEVEL,
        "step_size": STEP / attacks.LEVEL,
        **STEPS,
        "copies_in_a_step": IN_A_STEP,
        "draws": DRAWS,
        **environment(device),
    }
    store("smoothgrad_copies", table.sort_values(columns[:4])[columns], settings)


if __name__ == "__main__":
    main()
