"""``fragile fetch``: download data or weights ahead of their first use."""

import argparse
import sys
from collections.abc import Callable

from fragile_utils import data, models

THINGS: dict[str, tuple[str, Callable[[bool], object]]] = {  # what it is, and what finds or downloads it
    "cifar10": (
        "CIFAR-10, 60,000 images (170 MB)",
        lambda progress: data.cifar10(limit=1, download=True, progress=progress),
    ),
    "flowers": (
        "TensorFlow's photos of roses and sunflowers (229 MB)",
        lambda progress: data.flowers(limit=1, download=True, progress=progress),
    ),
    "squeezenet-torchvision": (
        "torchvision's weights of SqueezeNet (5 MB)",
        lambda _: models.squeezenet("torchvision"),
    ),
    "inception": ("torchvision's weights of Inception v3 (109 MB)", lambda _: models.inception()),
}

LIBRARIES = ("torchvision", "timm")  # whose weights are downloaded when a network is made


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "fetch",
        help="download data or weights ahead of their first use",
        description="Download what is not at hand yet. Each file is checked, and in place only when it is complete.",
    )
    parser.set_defaults(command=run)
    names = "; ".join(f"{name}: {what}" for name, (what, _) in THINGS.items())
    names += "; torchvision:NAME, timm:NAME: the weights of a network of these libraries"
    parser.add_argument("names", nargs="+", type=thing, metavar="NAME", help=names)


def thing(text: str) -> str:
    """Return the name of what is to be fetched, if there is such a thing."""
    family, _, name = text.partition(":")
    if text not in THINGS and not (family in LIBRARIES and name):
        known = ", ".join([*THINGS, "torchvision:NAME", "timm:NAME"])
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {known})")
    return text


def run(options: argparse.Namespace) -> int:
    """Find or download each thing that was named."""
    for name in options.names:
        what, find = THINGS.get(name, ("its weights", lambda _, name=name: models.load(name)))
        find(sys.stderr.isatty())
        print(f"{name}: {what}, at hand")
    return 0
