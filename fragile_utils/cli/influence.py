"""``fragile influence``: change which training images explain a prediction, without changing the prediction."""

import argparse
import sys
from functools import partial

from fragile_utils import attacks, influence, plots
from fragile_utils._base import checks
from fragile_utils._base.devices import pick_device
from fragile_utils.cli import _common as common

SOLVERS = {"exact": influence.Exact, "cg": influence.ConjugateGradients}
MEASURES = ("rank_correlation", "top_overlap")
ONLY = {  # options that do something only where another has some value
    "steps": ("attack", ("iterated",)),
    "step_size": ("attack", ("iterated",)),
    "scale_free": ("attack", ("gradient-sign", "iterated")),
    "backbone": ("data", ("flowers",)),
    "download": ("data", ("flowers",)),
}
SETTINGS = ("data", "l2", "solver", "damping", "overlap", "eps", "steps", "step_size", "seed")


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "influence",
        help="change which training images explain a prediction, without changing the prediction",
        description="Attack the influence of training images on test images. Budgets and steps are in levels of 255.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=run, default_of=parser.get_default)
    add = parser.add_argument
    photos = "flowers: photos in FRAGILE_DATA, or --download"
    add("--data", choices=("digits", "flowers"), default="digits", help=photos)
    add("--download", action="store_true", help="download the flower photos (229 MB) where there are none")
    add("--backbone", choices=influence.BACKBONES, default="squeezenet", help="the frozen network for flowers")
    add("--train", type=common.whole, default=None, help="how many training images (default: 1000 flowers, 700 digits)")
    add("--l2", type=float, default=0.01, help="of the last layer")
    add("--solver", choices=SOLVERS, default="exact", help="how to divide by the Hessian")
    add("--damping", type=float, default=0.0, help="added to the Hessian's diagonal, beside l2")
    add("--attack", choices=influence.ATTACKS, default="gradient-sign", help="random-sign is the baseline")
    add("--top", type=common.whole, default=3, help="how many of the most influential training images are attacked")
    add("--side", choices=("helpful", "harmful"), default="helpful", help="which training images are most influential")
    add("--scale-free", action="store_true", help="spend nothing on making the prediction more confident")
    add("--overlap", type=common.whole, default=5, help="how many of the most influential are compared")
    add("--step-size", type=float, default=None, help="of the iterated attack, in levels of 255 (default: eps / 4)")
    common.add_options(
        parser,
        steps=10,
        of_steps=" of the iterated attack",
        images="test images: the first that the last layer gets",
        devices="auto, cpu, cuda",
        pictures="picture of each image's examples",
    )


def run(options: argparse.Namespace) -> int:
    """Attack the most influential training images of test images, and print or draw what came of it."""
    counts = ("images", "batch_size", "steps", "top", "overlap", "train")
    common.check_options(options, counts=counts, positive=("eps", "step_size"))
    for name in ("l2", "damping"):
        checks.non_negative(getattr(options, name), f"--{name}")
    for mode in ("attack", "data"):
        value = getattr(options, mode)
        idle = {name for name, (other, values) in ONLY.items() if other == mode and value not in values}
        common.check_apply(options, f"{mode} {value}", vars(options).keys() - idle)
    attack = influence.ATTACKS[options.attack](options.top, options.side, options.scale_free)
    trained = choose_task(options).learn(options.l2, SOLVERS[options.solver](options.damping))
    checks.count(max(options.top, options.overlap), "--top, --overlap", at_most=len(trained.task.train))
    test = trained.test[: options.images]
    if not len(test):
        raise ValueError(f"--data: the last layer gets none of the {len(trained.task.rest)} images right")

    tables = []
    for start, part in common.batches(options, test):
        result = influence.run(
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
        draw = partial(plots.exemplars, part, result, trained.task.train, count=options.top)
        table = result.compare(options.overlap)
        tables.append(common.report_batch(options, start, part, table, result.reasons, draw))

    note = f"{trained.task.name}: {trained.accuracy:.1%} of {len(trained.task.rest)} images right"
    settings = {name: getattr(options, name) for name in SETTINGS} | {"attack": repr(attack)}
    settings |= {"backbone": options.backbone if options.data == "flowers" else None}
    settings |= {"train": len(trained.task.train)}
    facts = {"accuracy": trained.accuracy, "device": str(test.images.device), "settings": settings}
    common.report_all(options, tables, MEASURES, note, facts)
    return 0


def choose_task(options: argparse.Namespace) -> influence.Task:
    """Return the task that the options name."""
    given = {"seed": options.seed, "device": pick_device(options.device, "--device")}
    given |= {} if options.train is None else {"train": options.train}
    if options.data == "digits":
        return influence.digits(**given)
    return influence.flowers(options.backbone, **given, download=options.download, progress=sys.stderr.isatty())
