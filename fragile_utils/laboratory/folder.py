"""A laboratory: a folder that any web server serves, with page, graphs, weights, photographs, and a manifest."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor

from fragile_utils import data, metrics, models, saliency
from fragile_utils._base import checks
from fragile_utils._base.files import whole_folder
from fragile_utils._base.pixels import data_url, encoded, picture
from fragile_utils.attacks import Attack, MassCenter, TopK
from fragile_utils.laboratory.export import check_model, check_size, export_all
from fragile_utils.laboratory.weights import Weights

VERSION = 1
PAGE = Path(__file__).parent / "page"  # what is the same in every laboratory
MODELS, EXAMPLES, MANIFEST = "models", "examples", "manifest.json"
GRAPHS: dict[str, Attack | None] = {  # what each method is exported as; k and region are inputs, not part of a graph
    "explain": None,
    "topk": TopK(1),  # and targeted, with minus the region as reference
    "centre": MassCenter(),
}
THUMBNAIL = 64  # pixels
NAME = r"[a-z0-9][a-z0-9-]{0,63}"  # what a file may be called, on any system


@dataclass(frozen=True)
class Explanation:
    """A method of the laboratory.

    Parameters
    ----------
    name, title : str
        In names of files, and on the page.
    method : Method
    size : int, optional
        The side of its images in pixels; by default that of the network. Smaller is faster.
    """

    name: str
    title: str
    method: saliency.Method
    size: int | None = None

    def __post_init__(self) -> None:
        _check_names(self.name, self.title)
        checks.instance(self.method, saliency.Method, "method", "Gradient()")


@dataclass(frozen=True)
class Network:
    """A network of the laboratory, its methods, and photographs to begin with.

    Parameters
    ----------
    name, title : str
        In names of files, and on the page.
    model : Classifier
        In evaluation mode, on the CPU, in float32.
    methods : sequence of Explanation
        The first is what the page begins with.
    examples : Batch
        Images that the page offers, each with a label. Give those that the network gets right:
        ``batch.labelled_by(model).correct(model)``; of others the page says that the network is wrong.
    """

    name: str
    title: str
    model: models.Classifier = field(repr=False)
    methods: Sequence[Explanation]
    examples: data.Batch

    def __post_init__(self) -> None:
        _check_names(self.name, self.title)
        checks.instance(self.model, models.Classifier, "model", "Classifier(network, mean, std)")
        checks.instance(self.examples, data.Batch, "examples", "data.imagenet_samples()")
        if (self.examples.labels == data.UNKNOWN).any():
            raise ValueError("examples: expected a label for each image, got some without; see Batch.labelled_by")
        object.__setattr__(self, "methods", tuple(self.methods))
        if not self.methods:
            raise ValueError("methods: expected at least one, got none")
        for method in self.methods:
            checks.instance(method, Explanation, "methods", 'Explanation("gradient", "simple gradient", Gradient())')
        _check_distinct([f"{one.name}-{check_size(self.model, one.size)}" for one in self.methods], "methods")


def write(folder: Path, networks: Sequence[Network]) -> dict:
    """Write a laboratory, and return its manifest. It appears whole or not at all; an earlier one is replaced.

    Parameters
    ----------
    folder : path
        New, empty, or of an earlier laboratory.
    networks : sequence of Network
        The first is what the page begins with.

    Raises
    ------
    ValueError
        If the folder holds something else, an argument is not as described, or something cannot be exported.
    """
    folder = Path(folder)
    networks = tuple(networks)
    if not networks:
        raise ValueError("networks: expected at least one, got none")
    for network in networks:
        checks.instance(network, Network, "networks", "laboratory.Network(...)")
    _check_distinct([network.name for network in networks], "networks")
    replaced = _check_folder(folder)
    with whole_folder(folder) as new:
        shutil.copytree(PAGE, new, dirs_exist_ok=True)
        (new / MODELS).mkdir()
        (new / EXAMPLES).mkdir()
        manifest = {"version": VERSION, "networks": [], "examples": []}
        for network in networks:
            manifest["networks"].append(_write_network(new / MODELS, network))
            manifest["examples"] += _write_examples(new / EXAMPLES, network, len(manifest["examples"]))
        (new / MODELS / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if replaced:
            shutil.rmtree(folder)
    return manifest


# --- The parts -------------------------------------------------------------------------------------------------------


def _write_network(folder: Path, network: Network) -> dict:
    """Write the graphs of a network and their weights, and return what the manifest says of it."""
    weights = Weights(f"{network.name}.weights")
    methods = []
    for one in network.methods:
        size = check_size(network.model, one.size)
        graphs = {}
        for what, made in zip(GRAPHS, export_all(network.model, one.method, [*GRAPHS.values()], size), strict=True):
            graphs[what] = _write(folder / f"{network.name}-{one.name}-{size}-{what}.onnx", weights.take(made))
        k = metrics.default_k(size, size)
        methods.append({"name": one.name, "title": one.title, "size": size, "k": min(k, size * size), "graphs": graphs})
    return {
        "name": network.name,
        "title": network.title,
        "classes": _classes(network),
        "weights": _write(folder / weights.name, weights.contents()),
        "methods": methods,
    }


def _classes(network: Network) -> list[str]:
    """Return the name of each class, or something readable where there is none."""
    count, names = check_model(network.model, network.examples.images[:1]), network.model.classes
    if names and len(names) != count:
        raise ValueError(f"model: expected a name for each of {count} classes, got {len(names)}")
    return [data.class_name(names, i) for i in range(count)]


def _write_examples(folder: Path, network: Network, first: int) -> list[dict]:
    """Write the examples as PNG, and return what the manifest says of them."""
    found, given = [], network.examples
    for number, (image, label) in enumerate(zip(given.images, given.labels.tolist(), strict=True), start=first):
        title = data.class_name(network.model.classes, label)
        kept = _write(folder / f"{number:02d}.png", encoded(picture(image), "png", optimize=True))
        facts = {"network": network.name, "label": label, "title": title, "thumbnail": _thumbnail(image)}
        found.append({**kept, **facts})
    return found


def _thumbnail(image: Tensor) -> str:
    """Return a small picture of an image (3, H, W) as a URL of its own, so that a page with many is light."""
    small = picture(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return data_url(encoded(small, "webp", quality=70), "webp")


def _write(path: Path, contents: bytes) -> dict:
    """Write a file, and return what the manifest says of it."""
    path.write_bytes(contents)
    return {"file": path.name, "bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}


# --- Checks ----------------------------------------------------------------------------------------------------------


def _check_folder(folder: Path) -> bool:
    """Return whether there is a laboratory already; refuse to replace anything else."""
    if not folder.exists():
        return False
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MODELS / MANIFEST).is_file()):
        raise ValueError(f"{folder}: expected a new or empty folder, or one of a laboratory, got something else")
    return True


def _check_names(name: str, title: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(NAME, name, re.ASCII):
        raise ValueError(f"name: expected small letters, digits and hyphens, got {name!r}")
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"title: expected a text, got {title!r}")


def _check_distinct(names: list[str], what: str) -> None:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{what}: expected each once, got {twice[0]} twice")
