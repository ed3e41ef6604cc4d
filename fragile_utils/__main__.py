"""The command line: ``fragile info``, ``fragile attack``, ``fragile influence``. Budgets are in levels of 255."""

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
from matplotlib.figure import Figure
from torch import Tensor

from fragile_utils import (
    __version__,
    attacks,
    checks,
    data,
    influence,
    influence_attack,
    models,
    plots,
    regions,
    saliency,
    tasks,
)

SOLVERS = {"exact": influence.Exact, "cg": influence.ConjugateGradients}
REGIONS = "TOP,LEFT,BOTTOM,RIGHT in pixels, or slic:ROW,COLUMN for the superpixel there"
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
    add("--region", default=None, metavar="REGION", help=f"for --attack targeted: {REGIONS}")
    add("--eps", type=float, default=8.0, help="the largest change of a pixel, in levels of 255")
    add("--step-size", type=float, default=0.5, help="the size of a step, in levels of 255")
    add("--steps", type=int, default=300, help="the number of steps")
    add("--patience", type=int, default=None, help="stop an image after so many steps without progress")
    add("--random-start", action="store_true", help="set out from a random point within the budget")
    add("--k", type=int, default=None, help="how many pixels count as most salient (default: 1000; 100 below 100x100)")
    add("--images", type=int, default=4, help="how many images: the first that the network gets right")
    add("--label", type=int, default=None, help="class index of all images (default: from the data, else as predicted)")
    add("--seed", type=int, default=0, help="seed of all that is random")
    add("--device", default="auto", help="auto, cpu, cuda, mps: auto takes a GPU where there is one")
    add("--batch-size", type=int, default=16, help="how many images are attacked at a time")
    add("--json", action="store_true", help="print a JSON object a line: one an image, and a summary")
    add("--out", type=Path, default=None, metavar="FOLDER", help="write a before/after picture of each image here")

    example = commands.add_parser(
        "influence",
        help="change which training images explain a prediction, without changing the prediction",
        description="Attack the influence of training images on test images. Budgets and steps are in levels of 255.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    example.set_defaults(command=run_influence)
    add = example.add_argument
    add(
        "--data", choices=("digits", "flowers"), default="digits", help="flowers: photos in FRAGILE_DATA, or --download"
    )
    add("--download", action="store_true", help="download the flower photos (229 MB) where there are none")
    add("--backbone", choices=tasks.BACKBONES, default="squeezenet", help="the frozen network for flowers")
    add("--train", type=int, default=None, help="how many training images (default: 1000 flowers, 700 digits)")
    add("--l2", type=float, default=0.01, help="of the last layer")
    add("--solver", choices=SOLVERS, default="exact", help="how to divide by the Hessian")
    add("--damping", type=float, default=0.0, help="added to the Hessian's diagonal, beside l2")
    add("--attack", choices=influence_attack.ATTACKS, default="gradient-sign", help="random-sign is the baseline")
    add("--top", type=int, default=3, help="how many of the most influential training images are attacked")
    add("--side", choices=("helpful", "harmful"), default="helpful", help="which training images are most influential")
    add("--scale-free", action="store_true", help="spend nothing on making the prediction more confident")
    add("--overlap", type=int, default=5, help="how many of the most influential are compared before and after")
    add("--eps", type=float, default=8.0, help="the largest change of a pixel, in levels of 255")
    add("--step-size", type=float, default=None, help="of the iterated attack, in levels of 255 (default: eps / 4)")
    add("--steps", type=int, default=10, help="of the iterated attack")
    add("--images", type=int, default=4, help="how many test images: the first that the last layer gets right")
    add("--seed", type=int, default=0, help="seed of all that is random")
    add("--device", default="auto", help="auto, cpu, cuda: auto takes a GPU where there is one")
    add("--batch-size", type=int, default=16, help="how many images are attacked at a time")
    add("--json", action="store_true", help="print a JSON object a line: one an image, and a summary")
    add("--out", type=Path, default=None, metavar="FOLDER", help="write a picture of each image's examples here")
    return top


# --- fragile attack --------------------------------------------------------------------------------------------------


def run_attack(options: argparse.Namespace) -> int:
    """Attack the images that the options name, and print or draw what came of it."""
    check_options(options, counts=("images", "batch_size", "steps"), positive=("eps", "step_size"))
    device = pick_device(options.device)
    model = models.MODELS[options.model]().to(device)
    if options.label is not None and not 0 <= options.label < len(model.classes):
        raise ValueError(f"--label: expected a class from 0 to {len(model.classes) - 1}, got {options.label}")
    batch, note = choose_images(options, model, device)
    k = options.k if options.k is not None else 1000 if batch.images[0, 0].numel() >= 100 * 100 else 100
    method = saliency.METHODS[options.method]()

    tables = []
    for start in range(0, len(batch), options.batch_size):
        part = batch[start : start + options.batch_size]
        attack = make_attack(options, k, part.images)
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
            random_start=options.random_start,
            patience=options.patience,
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
    summary = summarise(table, MEASURES)
    if options.json:
        settings = {"attack": repr(attack), "method": repr(method), "model": options.model, "data": str(options.data)}
        settings |= {name: getattr(options, name) for name in ("eps", "step_size", "steps", "seed", "region")}
        print_json(summary | {"k": k, "device": str(device), "note": note, "settings": settings})
    else:
        print(note)
        print(table.drop(columns=["label", "label_after"]).to_string(index=False, float_format="{:.3f}".format))
        means = ", ".join(f"{name} {summary[name]:.3f}" for name in MEASURES if summary[name] is not None)
        print(f"mean over {summary['successes']} of {summary['images']} images: {means or 'none succeeded'}")
        if options.out is not None:
            print(f"pictures: {options.out}/")
    return 0


def make_attack(options: argparse.Namespace, k: int, images: Tensor) -> attacks.Attack:
    """Return the attack that the options name."""
    if options.attack != "targeted":
        if options.region is not None:
            raise ValueError(f"--region: expected with --attack targeted only, got --attack {options.attack}")
        return attacks.TopK(k) if options.attack == "topk" else attacks.ATTACKS[options.attack]()
    kind, _, places = (options.region or "").rpartition(":")
    try:
        numbers = [int(place) for place in places.split(",")]
        if kind == "slic" and len(numbers) == 2:
            at = (numbers[0], numbers[1])
            return attacks.Targeted(torch.stack([regions.region_from_slic(image, at) for image in images]))
        if kind == "" and len(numbers) == 4:
            edges = dict(zip(("top", "left", "bottom", "right"), numbers, strict=True))
            return attacks.Targeted(regions.rectangle(*images.shape[-2:], **edges))
        raise ValueError(f"got {options.region!r}")
    except ValueError as error:
        raise ValueError(f"--region: expected {REGIONS}; {error}") from error


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


def summarise(table: pd.DataFrame, measures: tuple[str, ...]) -> dict:
    """Return the counts, and the means over the images on which the attack succeeded."""
    succeeded = table[table["success"]]
    means = succeeded[list(measures)].mean() if len(succeeded) else dict.fromkeys(measures)
    return {
        "summary": True,
        "images": len(table),
        "successes": len(succeeded),
        "failures": len(table) - len(succeeded),
        **{name: means[name] for name in measures},
    }


def draw(folder: Path, start: int, batch: data.Batch, result: attacks.Result, k: int) -> None:
    """Write one PNG for each image."""
    for i, name in enumerate(batch.names):
        figure = plots.before_after(batch.images, result, i, k=k, classes=batch.classes)
        write_picture(folder, f"{start + i:03d}_{Path(name).stem}.png", figure)


# --- fragile influence -----------------------------------------------------------------------------------------------


def run_influence(options: argparse.Namespace) -> int:
    """Attack the most influential training images of test images, and print or draw what came of it."""
    step = () if options.step_size is None else ("step_size",)
    counts = ("images", "batch_size", "steps", "top", "overlap") + (() if options.train is None else ("train",))
    check_options(options, counts=counts, positive=("eps", *step))
    for name in ("l2", "damping"):
        checks.non_negative(getattr(options, name), f"--{name}")
    attack = influence_attack.ATTACKS[options.attack](options.top, options.side, options.scale_free)
    trained = choose_task(options).learn(options.l2, SOLVERS[options.solver](options.damping))
    checks.count(max(options.top, options.overlap), "--top, --overlap", at_most=len(trained.task.train))
    test = trained.test[: options.images]
    if not len(test):
        raise ValueError(f"--data: the last layer gets none of the {len(trained.task.rest)} images right")

    tables = []
    for start in range(0, len(test), options.batch_size):
        part = test[start : start + options.batch_size]
        result = influence_attack.run(
            attack,
            trained.task.features,
            trained.explain,
            part.images,
            part.labels,
            eps=options.eps * attacks.LEVEL,
            steps=options.steps,
            step_size=options.step_size and options.step_size * attacks.LEVEL,
            seed=options.seed + start,
            progress=sys.stderr.isatty(),
        )
        table = result.compare(options.overlap)
        table["linf"] /= attacks.LEVEL
        table.insert(0, "image", part.names)
        table.insert(1, "class", part.label_names)
        table["reason"] = result.reasons
        tables.append(table)
        if options.json:
            for row in table.to_dict("records"):
                print_json(row)
        if options.out is not None:
            for i, name in enumerate(part.names):
                figure = plots.exemplars(part, result, trained.task.train, i, count=options.top)
                write_picture(options.out, f"{start + i:03d}_{Path(name).stem}.png", figure)

    table = pd.concat(tables, ignore_index=True)
    measures = ("rank_correlation", "top_overlap")
    summary = summarise(table, measures)
    note = f"{trained.task.name}: {trained.accuracy:.1%} of {len(trained.task.rest)} images right"
    if options.json:
        names = ("data", "backbone", "l2", "solver", "damping", "overlap", "eps", "steps", "step_size", "seed")
        settings = {name: getattr(options, name) for name in names} | {"attack": repr(attack)}
        settings |= {"backbone": options.backbone if options.data == "flowers" else None}
        settings |= {"train": len(trained.task.train)}
        device = str(test.images.device)
        print_json(summary | {"accuracy": trained.accuracy, "device": device, "note": note, "settings": settings})
    else:
        print(note)
        print(table.drop(columns=["label", "label_after"]).to_string(index=False, float_format="{:.3f}".format))
        means = ", ".join(f"{name} {summary[name]:.3f}" for name in measures if summary[name] is not None)
        print(f"mean over {summary['successes']} of {summary['images']} images: {means or 'none succeeded'}")
        if options.out is not None:
            print(f"pictures: {options.out}/")
    return 0


def choose_task(options: argparse.Namespace) -> tasks.Task:
    """Return the task that the options name."""
    given = {"seed": options.seed, "device": pick_device(options.device)}
    given |= {} if options.train is None else {"train": options.train}
    if options.data == "digits":
        return tasks.digits(**given)
    return tasks.flowers(options.backbone, **given, download=options.download, progress=sys.stderr.isatty())


# --- What the commands share -----------------------------------------------------------------------------------------


def check_options(options: argparse.Namespace, *, counts: tuple[str, ...], positive: tuple[str, ...]) -> None:
    """Refuse numbers that are out of range, by the names of their options, and a file where a folder is to be."""
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out: expected a folder, got the file {options.out}")
    for name in counts:
        checks.count(getattr(options, name), f"--{name.replace('_', '-')}")
    for name in positive:
        checks.positive(getattr(options, name), f"--{name.replace('_', '-')}")


def write_picture(folder: Path, name: str, figure: Figure) -> None:
    """Write a PNG; the file appears only when it is complete."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = (folder / name).with_suffix(".part")
        partial.write_bytes(picture.getvalue())
        partial.replace(folder / name)
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
