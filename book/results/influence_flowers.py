"""Attack the influence functions of roses against sunflowers, and write what the book quotes.

    FRAGILE_DATA=/path/to/data python book/results/influence_flowers.py WORK_FOLDER

Needs ``flower_photos/{roses,sunflowers}/*.jpg`` in FRAGILE_DATA, or ``--download`` (229 MB). Takes about half an hour
on two CPU cores. Each configuration that is finished is kept in WORK_FOLDER, and skipped when the script is started
again; other settings than those found there are refused. The results go to ``fragile_utils/results/``, from
where `data.results` reads them, so that they come with the installed package.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch
from _common import RESULTS, arguments, store, write

from fragile_utils import influence
from fragile_utils._base.devices import hardware, pick_device, versions

EPS = (1, 2, 4, 8)  # levels of 255
ATTACKS = {
    "random sign": influence.RandomSign(),
    "gradient sign": influence.GradientSign(),
    "gradient sign, harmful": influence.GradientSign(side="harmful"),
    "gradient sign, scale-free": influence.GradientSign(scale_free=True),
    "iterated": influence.Iterated(),
    "iterated, scale-free": influence.Iterated(scale_free=True),
}
SETTINGS = {
    "task": "flowers",
    "backbone": "squeezenet",
    "train": 1000,
    "test": 200,
    "seed": 0,
    "l2": 0.01,
    "damping": 0.0,
    "steps": 10,
    "step_size": "eps / 4",
    "overlap": 5,
    "eps": list(EPS),
    "attacks": {name: repr(attack) for name, attack in ATTACKS.items()},
}


def main() -> None:
    options = parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    noted = options.folder / "settings.json"
    if noted.exists() and json.loads(noted.read_text(encoding="utf-8")) != SETTINGS:
        raise SystemExit(f"{options.folder} holds results of other settings; give another folder")
    noted.write_text(json.dumps(SETTINGS), encoding="utf-8")

    wanted = [(name, eps) for name in ATTACKS for eps in EPS]
    missing = [pair for pair in wanted if not part(options.folder, *pair).exists()][: options.limit]
    if missing:
        trained = learn(options)
        (options.folder / "task.json").write_text(json.dumps(describe(trained)), encoding="utf-8")
        for name, eps in missing:
            attack(options, trained, name, eps)
    if all(part(options.folder, *pair).exists() for pair in wanted):
        collect(options.folder, wanted)


def parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=int, default=None, help="stop after this many configurations")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--device", type=pick_device, default="auto")
    parser.add_argument("--download", action="store_true")
    return parser.parse_args()


def part(work: Path, name: str, eps: int) -> Path:
    return work / f"{name.replace(', ', '_').replace(' ', '_')}_{eps}.csv"


def learn(options: argparse.Namespace) -> influence.Trained:
    """Return the trained task: a minute on two CPU cores."""
    task = influence.flowers(
        SETTINGS["backbone"],
        train=SETTINGS["train"],
        seed=SETTINGS["seed"],
        device=options.device,
        download=options.download,
        progress=True,
    )
    return task.learn(SETTINGS["l2"], influence.Exact(SETTINGS["damping"]))


def same_class(trained: influence.Trained, scores: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Return the share of the three most helpful training images that are of the test image's class."""
    top = influence.most(scores, 3)
    return (trained.task.train.labels.to(top.device)[top] == labels[:, None]).double().mean(dim=1).tolist()


def describe(trained: influence.Trained) -> dict:
    test = trained.test.labels
    scores = trained.explain(trained.test_features, test)
    return {
        "accuracy": trained.accuracy,
        "rest": len(trained.task.rest),
        "right": len(trained.test),
        "top 3 of the same class": sum(same_class(trained, scores, test)) / len(test),
    }


def attack(options: argparse.Namespace, trained: influence.Trained, name: str, eps: int) -> None:
    """Run one configuration on all test images, in batches."""
    start, rows = time.perf_counter(), []
    for first in range(0, SETTINGS["test"], options.batch_size):
        batch = trained.test[first : min(first + options.batch_size, SETTINGS["test"])]
        result = influence.run(
            ATTACKS[name],
            trained.task.features,
            trained.explain,
            batch.images,
            batch.labels,
            eps=eps / 255,
            steps=SETTINGS["steps"],
            seed=SETTINGS["seed"] + first,
        )
        table = result.compare(SETTINGS["overlap"])
        table["linf"] *= 255
        table.insert(0, "image", batch.names)
        for when, scores in {"before": result.scores_before, "after": result.scores}.items():
            table[f"same_class_{when}"] = same_class(trained, scores, batch.labels)
        rows.append(table)
        if (name, eps, first) == ("gradient sign", 8, 0):
            example(options.folder, trained, result)
    table = pd.concat(rows, ignore_index=True)
    table.insert(0, "attack", name)
    table.insert(1, "eps", eps)
    seconds = time.perf_counter() - start
    record = {"seconds": round(seconds, 1), "device": hardware(options.device), "threads": torch.get_num_threads()}
    write(part(options.folder, name, eps), table, record, digits=6)
    print(f"{name}, eps {eps}: {table[table.success].rank_correlation.mean():.3f} in {seconds:.0f} s", flush=True)


def example(folder: Path, trained: influence.Trained, result: influence.InfluenceResult) -> None:
    """Keep all influences on the first test image, before and after the paper's attack."""
    columns = {"label": trained.task.train.labels, "before": result.scores_before[0], "after": result.scores[0]}
    table = pd.DataFrame({name: values.tolist() for name, values in columns.items()})
    write(folder / "example.csv", table, digits=5)


def collect(folder: Path, wanted: list[tuple[str, int]]) -> None:
    """Gather what is finished into the results that come with the package."""
    tables = [pd.read_csv(part(folder, *pair)) for pair in wanted]
    notes = [part(folder, *pair).with_suffix(".json").read_text(encoding="utf-8") for pair in wanted]
    records = [json.loads(note) for note in notes]
    about = {
        "settings": SETTINGS,
        "data": "flower_photos of TensorFlow, roses and sunflowers, copies with a shorter side of at most 299 pixels",
        "task": json.loads((folder / "task.json").read_text(encoding="utf-8")),
        "device": sorted({record["device"] for record in records}),
        "threads": sorted({record["threads"] for record in records}),
        "seconds": round(sum(record["seconds"] for record in records)),
        "versions": versions("torch", "torchvision", "numpy", "ndf"),
        "date": time.strftime("%Y-%m-%d"),
        "made by": "book/results/influence_flowers.py",
    }
    columns = (
        "linf: levels of 255; confidence: probability of the label; top_overlap: of the 5 most influential; "
        "same_class: share of the 3 most helpful training images that are of the image's class"
    )
    store("influence_flowers", pd.concat(tables), about | {"columns": columns}, digits=5)
    columns = "one row for each training image: its class, and its influence on one test image"
    example = pd.read_csv(folder / "example.csv")
    store("influence_flowers_example", example, about | {"columns": columns}, digits=5)
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
