"""What a large experiment consists of: networks x data sets x methods x attacks x budgets, as one value.

A `Sweep` goes to JSON and back unchanged. It names its parts: a network of `models.MODELS`, images of `DATA` or a
folder, a method of `saliency.METHODS`, an attack of `attacks.ATTACKS`; or ``package.module:function``, for your own.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils import attacks, data, models, saliency
from fragile_utils._base import checks
from fragile_utils.attacks import regions
from fragile_utils.experiments.choice import Choice, find, is_function, several

# From a name to a reader with the arguments of `data.load`.
DATA: dict[str, Callable[..., data.Batch]] = {
    "imagenet": lambda *, size, fit, limit: data.imagenet_folder(size=size or data.IMAGENET_SIZE, fit=fit, limit=limit),
    "cifar10-train": lambda *, size, fit, limit: data.cifar10("train", limit=limit),
    "cifar10-test": lambda *, size, fit, limit: data.cifar10("test", limit=limit),
}


@dataclass(frozen=True)
class Cell:
    """One combination of a grid; `method` and `attack` as `Sweep.labels` names them, `eps` in levels of 255."""

    model: str
    data: str
    method: str
    attack: str
    eps: float


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The grid of an experiment, with everything that its results depend on. Budgets and steps are in levels of 255.

    Parameters
    ----------
    models : sequence of str
        Of `models.MODELS`, or ``package.module:function``, which returns a network in evaluation mode.
    data : sequence of str
        Of `DATA` or `data.SAMPLES`, a folder of images, or ``package.module:function``, which takes ``size``, ``fit``
        and ``limit`` as `data.load` does and returns a `data.Batch`.
    methods, attacks : sequence of str, mapping or Choice
        Names, or names with options: ``{"name": "integrated-gradients", "steps": 100}``. The attack topk takes `k` from
        the sweep unless it has its own; targeted has a ``region``: [top, left, bottom, right] in pixels, or
        [row, column] for the superpixel there.
    budgets : sequence of float
    images : int, optional
        How many images are attacked: of those that the network gets right, evenly spread. By default all of them.
    candidates : int, optional
        How many images are read to find them, evenly spread over the data set. By default all of it.
    steps, step_size, random_start, measure_every, patience, tf32
        As for `attacks.run`.
    k : int
        How many pixels count as most salient.
    seed : int
        Image i of the sweep draws what is random from ``seed + i``, in whatever shard or batch it is.
    size : int, optional
        Side of the images, in pixels; by default that of the network, where it has one.
    fit : {"crop", "stretch"}
    about : str
        A line for the reader, on which nothing depends.

    Raises
    ------
    ValueError
        If anything is not as described, or a name is unknown.
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    methods: tuple[Choice, ...]
    attacks: tuple[Choice, ...]
    budgets: tuple[float, ...]
    images: int | None = None
    candidates: int | None = None
    steps: int = 300
    step_size: float = 0.5
    random_start: bool = False
    measure_every: int = 1
    patience: int | None = None
    tf32: bool = False
    k: int = 1000
    seed: int = 0
    size: int | None = None
    fit: data.Fit = "crop"
    about: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("models", "data", "methods", "attacks", "budgets"):
            object.__setattr__(self, name, several(getattr(self, name), name))
        for name in ("models", "data"):
            for part in getattr(self, name):
                if not isinstance(part, str) or not part:
                    raise ValueError(f"{name}: expected names, got {part!r}")
        for name in ("methods", "attacks"):
            object.__setattr__(self, name, tuple(Choice.of(part, name) for part in getattr(self, name)))
        object.__setattr__(self, "budgets", tuple(checks.positive(eps, "budgets") for eps in self.budgets))
        if max(self.budgets) > 255:
            raise ValueError(f"budgets: expected at most 255 levels, got {max(self.budgets):g}")
        object.__setattr__(self, "step_size", checks.positive(self.step_size, "step_size"))
        for name in ("steps", "measure_every", "k"):
            checks.count(getattr(self, name), name)
        for name in ("images", "candidates", "patience", "size"):
            if getattr(self, name) is not None:
                checks.count(getattr(self, name), name)
        for name, kind in (("seed", int), ("random_start", bool), ("tf32", bool), ("about", str)):
            value = getattr(self, name)
            if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):
                raise ValueError(f"{name}: expected {_KINDS[kind]}, got {value!r}")
        if self.fit not in ("crop", "stretch"):
            raise ValueError(f"fit: expected 'crop' or 'stretch', got {self.fit!r}")
        for name in ("models", "data", "methods", "attacks", "budgets"):
            parts = getattr(self, name)
            if len(set(parts)) < len(parts):
                raise ValueError(f"{name}: expected each once, got {', '.join(map(str, parts))}")
        self._check_names()

    def _check_names(self) -> None:
        for name in self.models:
            find(name, models.MODELS, "models", load=False)
        for method in self.methods:
            self.method(method)
        for attack in self.attacks:
            self.attack(attack, None)

    # --- The grid ----------------------------------------------------------------------------------------------------

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """The pairs of a network and a data set."""
        return list(itertools.product(self.models, self.data))

    def cells(self) -> Iterator[tuple[Cell, Choice, Choice]]:
        """Yield each combination, with the choices of its method and attack; those of one subject in sequence."""
        methods, attacks = self.labels("methods"), self.labels("attacks")
        for (model, source), method, attack, eps in itertools.product(self.subjects, methods, attacks, self.budgets):
            yield Cell(model, source, method, attack, eps), methods[method], attacks[attack]

    def labels(self, field: str) -> dict[str, Choice]:
        """Return the methods or the attacks by the name that tables show: with options where a name is used twice."""
        choices = getattr(self, field)
        names = [choice.name for choice in choices]
        return {choice.name if names.count(choice.name) == 1 else str(choice): choice for choice in choices}

    # --- What the names stand for ------------------------------------------------------------------------------------

    def method(self, choice: Choice) -> saliency.Method:
        """Return the method that a choice describes."""
        method = choice.build(saliency.METHODS, "methods")
        if not isinstance(method, saliency.Method):
            raise ValueError(f"methods: expected {choice} to be a saliency method, got {type(method).__name__}")
        return method

    def attack(self, choice: Choice, images: Tensor | None) -> attacks.Attack:
        """Return the attack that a choice describes, on these images (N, 3, H, W); without them only check it."""
        if choice.name == "targeted":
            return _targeted(choice, images)
        defaults = {"k": self.k} if choice.name == "topk" else {}
        attack = choice.build(attacks.ATTACKS, "attacks", **defaults)
        if not isinstance(attack, attacks.Attack):
            raise ValueError(f"attacks: expected {choice} to be an attack, got {type(attack).__name__}")
        return attack

    def read(self, source: str, size: int | None) -> data.Batch:
        """Return the images of a data set of the sweep, brought to `size` unless the sweep has its own."""
        size = self.size if self.size is not None else size
        if source in DATA:
            return DATA[source](size=size, fit=self.fit, limit=self.candidates)
        if is_function(source):
            batch = find(source, {}, "data")(size=size, fit=self.fit, limit=self.candidates)
            if not isinstance(batch, data.Batch):
                raise ValueError(f"data: expected {source} to return a data.Batch, got {type(batch).__name__}")
            return batch
        return data.load(source, size=size, fit=self.fit, limit=self.candidates)

    def network(self, name: str) -> nn.Module:
        """Return a network of the sweep, its parameters frozen."""
        network = find(name, models.MODELS, "models")()
        return checks.evaluation_mode(network).requires_grad_(False)

    # --- JSON --------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the sweep as JSON can hold it; `from_dict` makes the same sweep from it."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: [part.to_json() if isinstance(part, Choice) else part for part in value]
            if isinstance(value, tuple)
            else value
            for name, value in fields.items()
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Sweep":
        """Return the sweep that a JSON object describes; what it does not mention is as by default."""
        if not isinstance(given, Mapping):
            raise ValueError(f"sweep: expected an object with its fields, got {given!r}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := [name for name in given if name not in fields]:
            raise ValueError(f"sweep: unknown {', '.join(map(repr, unknown))}; expected some of {', '.join(fields)}")
        needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        if missing := [name for name in needed if name not in given]:
            raise ValueError(f"sweep: expected {', '.join(missing)}")
        return cls(**given)

    def to_json(self) -> str:
        """Return the sweep as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Sweep":
        """Return the sweep that JSON text describes."""
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"sweep: this is no JSON: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "Sweep":
        """Return the sweep that a JSON file describes; errors name the file."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


_KINDS = {int: "a whole number, 0 or above", bool: "true or false", str: "text"}


def _targeted(choice: Choice, images: Tensor | None) -> attacks.Attack:
    options = dict(choice.options)
    region = options.pop("region", None)
    whole = isinstance(region, tuple) and all(isinstance(place, int) for place in region)
    if options or not whole or len(region) not in (2, 4):
        expected = (
            "attacks: expected targeted with a region, [top, left, bottom, right] or [row, column] of a superpixel"
        )
        raise ValueError(f"{expected}, got {choice}")
    if images is None:
        return attacks.Targeted(torch.ones(1, 1, dtype=torch.bool))
    if len(region) == 2:
        return attacks.Targeted(torch.stack([regions.region_from_slic(image, region) for image in images]))
    edges = dict(zip(("top", "left", "bottom", "right"), region, strict=True))
    return attacks.Targeted(regions.rectangle(*images.shape[-2:], **edges))
