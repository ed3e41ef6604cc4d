"""Attack the influence functions of roses against sunflowers, and write what the book quotes.

    FRAGILE_DATA=/path/to/data python book/results/influence_flowers.py --work /tmp/influence

Needs ``flower_photos/{roses,sunflowers}/*.jpg`` in FRAGILE_DATA, or ``--download`` (229 MB). Takes about half an hour
on two CPU cores. Each configuration that is finished is kept in the folder ``--work``, and skipped when the script is
started again; other settings than those found there are refused. The results go to ``fragile_utils/results/``, from
where `data.results` reads them, so that they come with the installed package.
"""

import argparse
import json
import platform
import time
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch

import fragile_utils
from fragile_utils import influence

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
OUT = Path(fragile_utils.__file__).parent / "results"


def main() -> None:
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    noted = options.work / "settings.json"
    if noted.exists() and json.loads(noted.read_text()) != SETTINGS:
        raise SystemExit(f"{options.work} holds results of other settings; give another --work")
    noted.write_text(json.dumps(SETTINGS))

    wanted = [(name, eps) for name in ATTACKS for eps in EPS]
    missing = [pair for pair in wanted if not part(options.work, *pair).exists()][: options.limit]
    if missing:
        trained = learn(options)
        (options.work / "task.json").write_text(json.dumps(describe(trained)))
        for name, eps in missing:
            attack(options, trained, name, eps)
    if all(part(options.work, *pair).exists() for pair in wanted):
        write(options.work, wanted)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for what is finished")
    parser.add_argument("--limit", type=int, default=None, help="stop after this many configurations")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
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
            example(options.work, trained, result)
    table = pd.concat(rows, ignore_index=True)
    table.insert(0, "attack", name)
    table.insert(1, "eps", eps)
    seconds = time.perf_counter() - start
    record = {"seconds": round(seconds, 1), "device": device_name(options.device), "threads": torch.get_num_threads()}
    part(options.work, name, eps).with_suffix(".json").write_text(json.dumps(record))
    table.to_csv(part(options.work, name, eps), index=False, float_format="%.6g")
    print(f"{name}, eps {eps}: {table[table.success].rank_correlation.mean():.3f} in {seconds:.0f} s", flush=True)


def example(work: Path, trained: influence.Trained, result: influence.InfluenceResult) -> None:
    """Keep all influences on the first test image, before and after the paper's attack."""
    columns = {"label": trained.task.train.labels, "before": result.scores_before[0], "after": result.scores[0]}
    table = pd.DataFrame({name: values.tolist() for name, values in columns.items()})
    table.to_csv(work / "example.csv", index=False, float_format="%.5g")


def device_name(device: str) -> str:
    if device == "cpu":
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return torch.cuda.get_device_name(device)


def write(work: Path, wanted: list[tuple[str, int]]) -> None:
    """Gather what is finished into the results that come with the package."""
    OUT.mkdir(exist_ok=True)
    tables = [pd.read_csv(part(work, *pair)) for pair in wanted]
    records = [json.loads(part(work, *pair).with_suffix(".json").read_text()) for pair in wanted]
    versions = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "ndf")}
    about = {
        "settings": SETTINGS,
        "data": "flower_photos of TensorFlow, roses and sunflowers, copies with a shorter side of at most 299 pixels",
        "task": json.loads((work / "task.json").read_text()),
        "device": sorted({record["device"] for record in records}),
        "threads": sorted({record["threads"] for record in records}),
        "seconds": round(sum(record["seconds"] for record in records)),
        "versions": versions | {"python": platform.python_version(), "fragile_utils": fragile_utils.__version__},
        "date": time.strftime("%Y-%m-%d"),
        "made by": "book/results/influence_flowers.py",
    }
    columns = (
        "linf: levels of 255; confidence: probability of the label; top_overlap: of the 5 most influential; "
        "same_class: share of the 3 most helpful training images that are of the image's class"
    )
    save("influence_flowers", about | {"columns": columns}, pd.concat(tables))
    columns = "one row for each training image: its class, and its influence on one test image"
    save("influence_flowers_example", about | {"columns": columns}, pd.read_csv(work / "example.csv"))
    print(f"written to {OUT}")


def save(name: str, about: dict, table: pd.DataFrame) -> None:
    (OUT / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    table.to_csv(OUT / f"{name}.csv", index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
