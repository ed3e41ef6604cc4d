"""The command line: ``fragile info`` and ``fragile attack``. Budgets are in levels of 255."""

import argparse
import io
import json
import math
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch

from fragile_utils import __version__, attacks, checks, data, models, plots, saliency

MEASURES = ("topk_intersection", "rank_correlation", "center_shift")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 2 for wrong input, 130 after an interrupt."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options)
    except ValueError as error:
        print(f"fragile: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `fragile ... | head` closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="fragile", description="Attack the explanations of neural networks.")
    top.add_argument("--version", action="version", version=f"fragile {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="say what is installed, on which device, with which data")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(command=run_info)

    attack = commands.add_parser(
        "attack",
        help="change the explanation of images without changing their class",
        description="Attack the saliency maps of images. Budgets and steps are in levels of 255.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    attack.set_defaults(command=run_attack)
    add = attack.add_argument
    add("--model", choices=models.MODELS, default="squeezenet", help="the network")
    add("--data", default="imagenet-samples", help=f"{', '.join(data.SAMPLES)}, an image file, or a folder of images")
    add("--method", choices=saliency.METHODS, default="gradient", help="the explanation that is attacked")
    add("--attack", choices=attacks.ATTACKS, default="topk", help="what is climbed, or random-sign, the baseline")
    add("--eps", type=float, default=8.0, help="the largest change of a pixel, in levels of 255")
    add("--step-size", type=float, default=0.5, help="the size of a step, in levels of 255")
    add("--steps", type=int, default=300, help="the number of steps")
    add("--k", type=int, default=None, help="how many pixels count as most salient (default: 1000; 100 below 100x100)")
    add("--images", type=int, default=4, help="how many images: the first that the network gets right")
    add("--label", type=int, default=None, help="class index of all images (default: from the data, else as predicted)")
    add("--seed", type=int, default=0, help="seed of all that is random")
    add("--device", default="auto", help="auto, cpu, cuda, mps: auto takes a GPU where there is one")
    add("--batch-size", type=int, default=16, help="how many images are attacked at a time")
    add("--json", action="store_true", help="print a JSON object a line: one an image, and a summary")
    add("--out", type=Path, default=None, metavar="FOLDER", help="write a before/after picture of each image here")
    return top


# --- fragile attack --------------------------------------------------------------------------------------------------


def run_attack(options: argparse.Namespace) -> int:
    """Attack the images that the options name, and print or draw what came of it."""
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out: expected a folder, got the file {options.out}")
    for name in ("images", "batch_size", "steps"):
        checks.count(getattr(options, name), f"--{name.replace('_', '-')}")
    for name in ("eps", "step_size"):
        checks.positive(getattr(options, name), f"--{name.replace('_', '-')}")
    device = pick_device(options.device)
    model = models.MODELS[options.model]().to(device)
    if options.label is not None and not 0 <= options.label < len(model.classes):
        raise ValueError(f"--label: expected a class from 0 to {len(model.classes) - 1}, got {options.label}")
    batch, note = choose_images(options, model, device)
    k = options.k if options.k is not None else 1000 if batch.images[0, 0].numel() >= 100 * 100 else 100
    method = saliency.METHODS[options.method]()
    attack = attacks.ATTACKS[options.attack](k=k) if options.attack == "topk" else attacks.ATTACKS[options.attack]()

    tables = []
    for start in range(0, len(batch), options.batch_size):
        part = batch[start : start + options.batch_size]
        result = attacks.run(
            attack,
            model,
            part.images,
            part.labels,
            method,
            eps=options.eps * attacks.LEVEL,
            steps=options.steps,
            step_size=options.step_size * attacks.LEVEL,
            seed=options.seed + start,
            progress=sys.stderr.isatty(),
        )
        table = describe(part, result, k)
        tables.append(table)
        if options.json:
            for row in table.to_dict("records"):
                print_json(row)
        if options.out is not None:
            draw(options.out, start, part, result, k)

    table = pd.concat(tables, ignore_index=True)
    summary = summarise(table)
    if options.json:
        settings = {"attack": repr(attack), "method": repr(method), "model": options.model, "data": str(options.data)}
        settings |= {name: getattr(options, name) for name in ("eps", "step_size", "steps", "seed")}
        print_json(summary | {"k": k, "device": str(device), "note": note, "settings": settings})
    else:
        print(note)
        print(table.drop(columns=["label", "label_after"]).to_string(index=False, float_format="{:.3f}".format))
        means = ", ".join(f"{name} {summary[name]:.3f}" for name in MEASURES if summary[name] is not None)
        print(f"mean over {summary['successes']} of {summary['images']} images: {means or 'none succeeded'}")
        if options.out is not None:
            print(f"pictures: {options.out}/")
    return 0


def choose_images(
    options: argparse.Namespace, model: models.Classifier, device: torch.device
) -> tuple[data.Batch, str]:
    """Return the images to attack, and a line that says which they are."""
    read = data.load(options.data, size=model.size, limit=None if options.data in data.SAMPLES else 4 * options.images)
    read = read.to(device)
    if read.classes and read.classes != model.classes:
        raise ValueError(f"--data: {options.data} has other classes than {options.model}")
    if options.label is not None:
        labels = torch.full_like(read.labels, options.label)
        batch = data.Batch(read.images, labels, model.classes, read.names)[: options.images]
        return batch, f"{len(batch)} images of {options.data}, explained as class {options.label}"
    unlabelled = bool((read.labels == data.UNKNOWN).all())
    right = read.labelled_by(model).correct(model)
    if not len(right):
        raise ValueError(f"{options.data}: {options.model} gets none of the {len(read)} images right")
    batch = right[: options.images]
    batch = data.Batch(batch.images, batch.labels, model.classes, batch.names)
    if unlabelled:
        return batch, f"{len(batch)} images of {options.data}, without labels: explained as the class predicted"
    return batch, f"{len(batch)} images of {options.data}: {options.model} gets {len(right)} of {len(read)} right"


def describe(batch: data.Batch, result: attacks.Result, k: int) -> pd.DataFrame:
    """Return one row for each image, with the changes in levels of 255."""
    table = result.compare(k)
    table["linf"] /= attacks.LEVEL
    table.insert(0, "image", batch.names)
    table.insert(1, "class", [data.class_name(batch.classes, label) for label in table["label"]])
    table["reason"] = result.reasons
    return table


def summarise(table: pd.DataFrame) -> dict:
    """Return the counts, and the means over the images on which the attack succeeded."""
    succeeded = table[table["success"]]
    means = succeeded[list(MEASURES)].mean() if len(succeeded) else dict.fromkeys(MEASURES)
    return {
        "summary": True,
        "images": len(table),
        "successes": len(succeeded),
        "failures": len(table) - len(succeeded),
        **{name: means[name] for name in MEASURES},
    }


def draw(folder: Path, start: int, batch: data.Batch, result: attacks.Result, k: int) -> None:
    """Write one PNG for each image; a file appears only when it is complete."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(batch.names):
            picture = io.BytesIO()
            figure = plots.before_after(batch.images, result, i, k=k, classes=batch.classes)
            figure.savefig(picture, format="png", dpi=120)
            target = folder / f"{start + i:03d}_{Path(name).stem}.png"
            partial = target.with_suffix(".part")
            partial.write_bytes(picture.getvalue())
            partial.replace(target)
    except OSError as error:
        raise ValueError(f"--out: cannot write to {folder}: {error.strerror}") from error


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: {name!r} is not available here: {str(error).splitlines()[0]}") from error
    return device


def print_json(record: dict) -> None:
    """Print a record as one line of JSON, with null for what is not a number."""
    missing = {key for key, value in record.items() if isinstance(value, float) and not math.isfinite(value)}
    print(json.dumps(record | dict.fromkeys(missing)), flush=True)


# --- fragile info ----------------------------------------------------------------------------------------------------


def run_info(options: argparse.Namespace) -> int:
    """Print what is installed, on which device, and which data are at hand."""
    facts = gather()
    if options.json:
        print(json.dumps(facts))
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name:<{width}}  {value}")
    return 0


def gather() -> dict[str, str]:
    """Return the facts that a report of a problem should contain."""
    device = pick_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    facts = {"fragile_utils": __version__, "python": platform.python_version()}
    facts |= {package: metadata.version(package) for package in ("torch", "torchvision", "captum", "numpy")}
    facts |= {"device": f"{device} ({name})", "threads": str(torch.get_num_threads())}
    for sample, load in data.SAMPLES.items():
        facts[sample] = attempt(lambda load=load: f"{len(load())} images")
    facts["squeezenet"] = attempt(lambda: f"{sum(p.numel() for p in models.squeezenet().parameters()):,} parameters")
    facts["FRAGILE_DATA"] = attempt(describe_root)
    return facts


def describe_root() -> str:
    """Return the folder of larger data and what is in it."""
    root = data.data_root()
    return f"{root} ({', '.join(sorted(path.name for path in root.iterdir()))})"


def attempt(action) -> str:
    """Return what `action` says, or why it cannot."""
    try:
        return action()
    except ValueError as error:
        return f"missing: {error}"


if __name__ == "__main__":
    sys.exit(main())
