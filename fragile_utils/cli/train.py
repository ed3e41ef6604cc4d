"""``fragile train``: train a network for CIFAR-10, and write its weights, its settings and its learning curve."""

import argparse
import contextlib
import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from fragile_utils import data, defences
from fragile_utils._base import checks, schema
from fragile_utils._base.devices import environment, pick_device
from fragile_utils._base.files import make_folder, sweep_up, write_bytes
from fragile_utils.cli import _common as common
from fragile_utils.models import training
from fragile_utils.models.losses import CrossEntropy, Loss

WEIGHTS, SETTINGS, LOG, CHECKPOINT = "weights.safetensors", "training.json", "log.csv", "checkpoint.pt"
OVERRIDES = {  # options that replace a value of the preset
    "width": (common.whole, "channels of the first convolutions, or the length of a token"),
    "hidden": (common.whole, "units of a dense layer before the last"),
    "depth": (common.whole, "blocks of a transformer, or of each stage of a residual network"),
    "activation": (str, "relu or softplus"),
    "beta": (float, "sharpness of softplus"),
    "epochs": (common.whole, "how often each image is seen"),
    "batch_size": (common.whole, "images a step"),
    "optimiser": (str, "sgd or adam"),
    "learning_rate": (float, "the largest learning rate"),
    "weight_decay": (float, "of all parameters"),
    "label_smoothing": (float, "share of the target spread over all classes"),
    "shift": (common.whole, "move images by up to so many pixels"),
    "precision": (str, "of the convolutions while training: float32 or bfloat16"),
    "seed": (common.whole, "of all that is random"),
}


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "train",
        help="train a network, with its settings, weights and learning curve in a folder",
        description="Train a network for CIFAR-10. An interrupted run, started again, goes on after its last epoch.",
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("task", choices=("cifar10",), help="what the network learns")
    add("--out", type=common.path, required=True, metavar="FOLDER", help=f"for {WEIGHTS}, {SETTINGS}, {LOG}")
    add("--root", type=common.path, default=None, metavar="FOLDER", help="where CIFAR-10 is (default: FRAGILE_DATA)")
    add("--download", action="store_true", help="download CIFAR-10 (170 MB) where there is none")
    add(
        "--preset",
        choices=training.PRESETS,
        default="small",
        help="small: the network of the book (default); paper: the paper's, with 13.6 million parameters; "
        "resnet: a residual network; vit: a vision transformer",
    )
    add("--defence", choices=defences.TRAININGS, help="train for explanations that hold; its settings come first")
    for name, (kind, text) in OVERRIDES.items():
        values = {key: getattr(preset, name) for key, preset in training.PRESETS.items()}
        defaults = ", ".join(f"{key}: {'none' if value is None else value}" for key, value in values.items())
        add(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"{text} ({defaults})")
    add("--limit", type=common.whole, default=None, help="use only so many images of each split, evenly spread")
    add("--device", default="auto", help="auto, cpu, cuda: auto takes a GPU where there is one (default: auto)")
    add("--json", action="store_true", help="print a JSON object a line: one an epoch, and a summary")


def run(options: argparse.Namespace) -> int:
    """Train as the options say, and write what came of it."""
    given = {name: getattr(options, name) for name in OVERRIDES if getattr(options, name) is not None}
    preset, loss = training.PRESETS[options.preset], CrossEntropy()
    if options.defence is not None:
        defence = defences.TRAININGS[options.defence]
        preset, loss = defence.apply(preset), defence.loss
    settings = replace(preset, **given)
    device = pick_device(options.device, "--device")
    summary = find_finished(options.out, settings, loss, options.limit)
    if summary is None:
        where = {"limit": options.limit, "download": options.download, "progress": sys.stderr.isatty()}
        learnt, held_out = (data.cifar10(split, options.root, **where) for split in ("train", "test"))
        summary = train(settings, loss, learnt, held_out, options, device)
    else:
        with contextlib.suppress(OSError):  # it is of a process that was killed when all was written
            (options.out / CHECKPOINT).unlink()
    if options.json:
        found = {name: summary[name] for name in ("test_accuracy", "parameters", "seconds")}
        common.print_json({"summary": True} | found)
    else:
        print(f"{summary['test_accuracy']:.2%} of {summary['test_images']:,} test images right: {options.out}/")
    return 0


def find_finished(folder: Path, settings: training.Training, loss: Loss, limit: int | None) -> dict | None:
    """Return the summary of the same training if `folder` holds it whole; refuse another one's, and a damaged one."""
    common.check_folder(folder)
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        summary = schema.load(path, dict)
        learnt = training.Training.from_json(json.dumps(summary["settings"]))
        found = learnt, summary.get("loss", repr(CrossEntropy())), summary["limit"]
        for name in ("test_accuracy", "parameters", "seconds"):
            checks.non_negative(summary[name], name)
        schema.whole(summary["test_images"], "test_images")
        sha256 = schema.label(summary["sha256"], "sha256", 64)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--out: {path} is not what `fragile train` writes; choose another folder") from error
    if found != (settings, repr(loss), limit):
        raise ValueError(f"--out: {path} is of a training with other settings; choose another folder")
    check_written(folder, sha256)
    return summary


def check_written(folder: Path, sha256: str) -> None:
    """Refuse a finished training without its log, or without its weights as they were written."""
    again = f"; remove {SETTINGS} from that folder to train again"
    for path in (folder / WEIGHTS, folder / LOG):
        if not path.is_file():
            raise ValueError(f"--out: expected the file {path} of a finished training, got none{again}")
    if hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != sha256:
        raise ValueError(f"--out: expected {folder / WEIGHTS} with the SHA-256 in {SETTINGS}, got another{again}")


def train(
    settings: training.Training,
    loss: Loss,
    learnt: data.Batch,
    held_out: data.Batch,
    options: argparse.Namespace,
    device: torch.device,
) -> dict:
    """Train, write the files, and return the summary that was written; what cannot be written is not lost."""
    summary = {}

    def report(row: dict[str, float]) -> None:
        if options.json:
            common.print_json(row)
        elif sys.stderr.isatty():
            print(
                f"epoch {row['epoch']} of {settings.epochs}: training loss {row['train_loss']:.3f}, "
                f"test accuracy {row['test_accuracy']:.2%}, {row['seconds']:.0f} s",
                file=sys.stderr,
            )

    def save(trained: training.Trained) -> None:
        summary.update(write(trained, len(learnt), len(held_out), options, device))

    make_folder(options.out)
    sweep_up(options.out)
    how = {"loss": loss, "device": device, "checkpoint": options.out / CHECKPOINT, "report": report, "save": save}
    training.train(settings, learnt, held_out, **how)
    return summary


def write(
    trained: training.Trained, learnt: int, held_out: int, options: argparse.Namespace, device: torch.device
) -> dict:
    """Write the files, the settings last, and return what was written of them; so many images were used."""
    folder = options.out
    trained.stored.save(folder / WEIGHTS)
    summary = {
        "about": "a network for CIFAR-10: how it was trained, and what it reaches",
        "command": " ".join(["fragile train cifar10", *describe(options)]),
        "settings": asdict(trained.settings),
        "loss": repr(trained.loss),
        "limit": options.limit,
        "train_images": learnt,
        "test_images": held_out,
        "test_accuracy": trained.log["test_accuracy"].iloc[-1],
        "parameters": sum(p.numel() for p in trained.stored.network.parameters()),
        "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "seconds": round(trained.log["seconds"].sum()),
        **environment(device, "numpy", "safetensors"),
    }
    write_bytes(folder / LOG, trained.log.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())
    write_bytes(folder / SETTINGS, (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def describe(options: argparse.Namespace) -> list[str]:
    """Return the options that were given, as one would type them."""
    names = ("preset", "defence", *OVERRIDES, "limit")
    return [
        f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names if getattr(options, name) is not None
    ]
