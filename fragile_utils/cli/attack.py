"""``fragile attack``: change the saliency maps of images without changing their classes."""

import argparse
import sys
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fragile_utils import attacks, data, defences, metrics, models, plots, saliency
from fragile_utils._base import checks
from fragile_utils._base.devices import pick_device
from fragile_utils.attacks import regions
from fragile_utils.cli import _common as common
from fragile_utils.data.batch import class_count
from fragile_utils.experiments import parts
from fragile_utils.models.surrogate import beta_of


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "attack",
        help="change the explanation of images without changing their class",
        description="Attack the saliency maps of images. Budgets and steps are in levels of 255.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    common.add_model_options(parser)
    add("--data", default="imagenet-samples", help=f"{', '.join(data.SAMPLES)}, an image file, or a folder of images")
    add("--label", type=common.whole, help="class index of all images (default: from the data, else as predicted)")
    add(
        "--method",
        type=common.choice,
        default="gradient",
        metavar="METHOD",
        help="the explanation that is attacked: "
        f"{', '.join(saliency.METHODS)}; with options: integrated-gradients:steps=50",
    )
    add(
        "--defence",
        type=common.choice,
        metavar="DEFENCE",
        help=f"show the method defended, and attack what is shown, its noise included: {', '.join(defences.DEFENCES)}; "
        "with options: smoothgrad:samples=32,sigma=0.1",
    )
    add(
        "--attack",
        type=common.choice,
        default="topk",
        metavar="ATTACK",
        help=f"what is climbed, or random-sign, the baseline: {', '.join(attacks.ATTACKS)}; with options: topk:k=500",
    )
    add("--region", default=None, metavar="REGION", help=f"for --attack targeted: {regions.FORMS}")
    add("--k", type=common.whole, help="how many pixels count as most salient (default: 1000; 100 below 100x100)")
    add("--patience", type=common.whole, help="stop an image after so many steps without progress")
    add("--random-start", action="store_true", help="set out from a random point within the budget")
    add("--step-size", type=float, default=0.5, help="the size of a step, in levels of 255")
    common.add_options(
        parser,
        steps=300,
        images="images: the first that the network gets",
        devices="auto, cpu, cuda, mps",
        pictures="before/after picture of each image",
    )


SETTINGS = ("eps", "step_size", "steps", "seed", "patience", "random_start", "label", "region")


def run(options: argparse.Namespace) -> int:
    """Attack the images that the options name, and print or draw what came of it."""
    common.check_options(options, counts=("images", "batch_size", "steps", "patience"), positive=("eps", "step_size"))
    device = pick_device(options.device, "--device")
    method = parts.make_method(options.method, common.allowed(options.method.functions()), "--method")
    if options.defence is not None:
        code = common.allowed(options.defence.functions())
        method = parts.make_defence(options.defence, method, code, "--defence")
    if options.attack.name != "targeted":
        options.attack.check(attacks.ATTACKS, "--attack")
    model = common.load_model(options).to(device)
    batch, note = choose_images(options, model, device)
    pixels = batch.images[0, 0].numel()
    k = metrics.default_k(*batch.images.shape[-2:])
    k = k if options.k is None else checks.count(options.k, "--k", at_most=pixels - 1)
    beta = beta_of(model, batch.images[:256])  # one for all batches

    tables = []
    for start, part in common.batches(options, batch):
        attack, rows = make_attack(options, k, part.images), slice(start, start + len(part))
        result = attacks.run(
            attack,
            model,
            part.images,
            part.labels,
            method.among(rows, len(batch)),
            eps=options.eps * attacks.LEVEL,
            steps=options.steps,
            step_size=options.step_size * attacks.LEVEL,
            seed=options.seed + start,
            beta=beta,
            random_start=options.random_start,
            patience=options.patience,
            progress=sys.stderr.isatty(),
        )
        draw = partial(plots.before_after, part.images, result, k=k, classes=part.classes)
        tables.append(common.report_batch(options, start, part, result.compare(k), result.reasons, draw))

    settings = {"attack": repr(attack), "method": repr(method), "model": options.model, "data": str(options.data)}
    settings |= {"adapted": list(model.adapted)} if isinstance(model, models.Wrapped) else {}
    settings |= {name: getattr(options, name) for name in SETTINGS} | {"beta": beta}
    facts = {"k": k, "device": str(device), "settings": settings}
    common.report_all(options, tables, tuple(metrics.MEASURES), note, facts)
    return 0


def make_attack(options: argparse.Namespace, k: int, images: Tensor) -> attacks.Attack:
    """Return the attack that the options name."""
    chosen = options.attack
    if options.region is not None and (chosen.name != "targeted" or chosen.options):
        raise ValueError(f"--region: expected with --attack targeted only, got --attack {chosen}")
    if chosen.name != "targeted" or chosen.options:
        defaults = {"k": k} if chosen.name == "topk" else {}
        return parts.make_attack(chosen, images, common.allowed(chosen.functions()), "--attack", **defaults)
    try:
        return attacks.Targeted(regions.masks(regions.parse(options.region or ""), images))
    except ValueError as error:
        raise ValueError(f"--region: expected {regions.FORMS}; {error}") from error


def choose_images(
    options: argparse.Namespace, model: models.Classifier, device: torch.device
) -> tuple[data.Batch, str]:
    """Return the images to attack, and a line that says which they are."""
    read = data.load(options.data, size=model.size, limit=None if options.data in data.SAMPLES else 4 * options.images)
    read, names = read.to(device), (options.model, options.data, "--data")
    if options.label is not None:
        classes = class_count(model, read.images)
        if not 0 <= options.label < classes:
            raise ValueError(f"--label: expected a class from 0 to {classes - 1}, got {options.label}")
        batch = read.in_classes_of(model, *names)[: options.images]
        batch = replace(batch, labels=torch.full_like(batch.labels, options.label))
        return batch, f"{len(batch)} images of {options.data}, explained as class {options.label}"
    right = read.right_for(model, *names)
    batch = right[: options.images]
    if (read.labels == data.UNKNOWN).all():
        return batch, f"{len(batch)} images of {options.data}, without labels: explained as the class predicted"
    return batch, f"{len(batch)} images of {options.data}: {options.model} gets {len(right)} of {len(read)} right"
