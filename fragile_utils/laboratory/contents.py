"""What a laboratory of the package's own networks holds: their titles, those of methods, and sizes that are quick."""

import re
from collections.abc import Sequence

import torch

from fragile_utils import data, models, saliency
from fragile_utils.laboratory.folder import Explanation, Network

NETWORKS = {"squeezenet": "SqueezeNet 1.1 (ImageNet)", "cifar10": "small network (CIFAR-10)"}  # others by their name
METHODS = {
    "gradient": "simple gradient",
    "input-x-gradient": "gradient times image",
    "integrated-gradients": "integrated gradients",
    "deeplift": "DeepLIFT",
    "lrp": "LRP-epsilon",
    "lrp-zplus": "LRP, z-plus",
    "lrp-alphabeta": "LRP, alpha-beta",
    "deep-taylor": "deep Taylor decomposition",
    "smoothgrad": "SmoothGrad",
    "grad-cam": "Grad-CAM",
}
POINTS = {"integrated-gradients": "steps", "smoothgrad": "samples"}  # what a method calls how often it computes
FEW = 5  # of these
LONGEST = 64  # characters of a name in names of files


def explanation(name: str, size: int | None = None, points: int = FEW) -> Explanation:
    """Return the method of this name in `saliency.METHODS`, for images of this size.

    Integrated gradients and SmoothGrad take `points` of their path or samples, and say so on the page.
    """
    if name not in saliency.METHODS:
        raise ValueError(f"method: expected one of {', '.join(saliency.METHODS)}, got {name!r}")
    title = METHODS.get(name, name)
    if name not in POINTS:
        return Explanation(name, title, saliency.METHODS[name](), size)
    return Explanation(name, f"{title}, {points} points", saliency.METHODS[name](**{POINTS[name]: points}), size)


def network(
    name: str, model: models.Classifier, methods: Sequence[Explanation], source: str | None = None, limit: int = 12
) -> Network:
    """Return a network under this name, as `models.load` takes it, with images of a `source` as `data.load` takes it.

    By default the images are the embedded samples of what it was trained on, or, for a network of other classes, those
    of ImageNet without their labels. Images without labels are those of the classes that the network predicts; of the
    others, those that it gets wrong are left out. Those that it is surest of come first: an attack keeps their labels
    most easily.
    """
    samples = "cifar10-samples" if model.classes == data.CIFAR10_CLASSES else "imagenet-samples"
    chosen = samples if source is None else source
    read = data.load(chosen, size=model.size, limit=None if chosen in data.SAMPLES else 4 * limit)
    if source is None and not read.has_classes_of(model):
        read = data.Batch(read.images, torch.full_like(read.labels, data.UNKNOWN), names=read.names)
    right = read.right_for(model, name, chosen)[:limit]
    with torch.no_grad():
        surest = model(right.images).softmax(1).amax(1).argsort(descending=True, stable=True)
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].strip("-") or "network"
    return Network(short, NETWORKS.get(name, name), model, methods, right[surest])


def of_the_book() -> list[Network]:
    """Return the networks of the book's laboratory, with what takes about a second a step in a browser, or less."""
    of_photographs = [explanation(name) for name in ("gradient", "deeplift", "deep-taylor")]
    of_photographs.append(explanation("integrated-gradients", size=128))
    of_small_images = [explanation(name) for name in ("gradient", "deeplift", "integrated-gradients")]
    return [
        network("squeezenet", models.squeezenet(), of_photographs),
        network("cifar10", models.cifar10_net(), of_small_images),
    ]
