"""What a large experiment consists of: networks x data sets x methods x attacks x budgets, as one value.

A `Sweep` goes to JSON and back unchanged. It names its parts: a network of `models.MODELS`, images of `parts.DATA` or a
folder, a method of `saliency.METHODS` or a defended one of `defences.DEFENCES`, an attack of `attacks.ATTACKS` or
`attacks.CHANGES`; or ``package.module:function``, for your own.
Reading a sweep imports nothing and calls nothing of yours: `Parts` makes what the names stand for, when it runs.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fragile_utils import attacks, data, defences, models, saliency
from fragile_utils._base import schema
from fragile_utils._base.code import is_function
from fragile_utils.attacks import regions
from fragile_utils.experiments.choice import LONGEST, Choice, several

MAX_CELLS = 10_000  # of a grid, unless one asks for more: a mistyped list should not plan for years
COUNTS = {  # the largest values of what counts; all but the first three may be left out
    "steps": 10**6,
    "measure_every": 10**6,
    "k": data.LARGEST_SIDE**2,
    "images": 10**8,
    "candidates": 10**8,
    "patience": 10**6,
    "size": data.LARGEST_SIDE,
}
MADE_OF_OTHERS = {"guided": saliency.Guided, "of-probability": saliency.OfProbability}
METHODS = saliency.METHODS | defences.DEFENCES | MADE_OF_OTHERS
ATTACKS = {**attacks.ATTACKS, **attacks.CHANGES}
NETWORK_OPTIONS = ("mean", "std", "size", "classes")  # of `models.load`
LONGEST_NAME, LONGEST_REMARK = 4096, 10_000  # characters


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
    models : sequence of str, mapping or Choice
        Names, as `models.load` takes them: of `models.MODELS`, or ``package.module:function``, which returns a network
        in evaluation mode, for example. Or names with its options: ``{"name": "net.py:make", "size": 64}``.
    data : sequence of str
        Of `parts.DATA` or `data.SAMPLES`, a folder of images, or ``package.module:function``, which takes ``size``,
        ``fit`` and ``limit`` as `data.load` does and returns a `data.Batch`.
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

    models: tuple[Choice, ...]
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
        for name, longest in (("models", LONGEST_NAME), ("methods", LONGEST), ("attacks", LONGEST)):
            object.__setattr__(self, name, tuple(Choice.of(part, name, longest) for part in getattr(self, name)))
        for part in self.data:
            if not isinstance(part, str) or not part:
                raise ValueError(f"data: expected names, got {schema.shown(part)}")
            schema.label(part, "data", LONGEST_NAME)
        self._check_numbers()
        for name in ("models", "data", "methods", "attacks", "budgets"):
            parts = [*map(str, getattr(self, name))]
            if len(set(parts)) < len(parts) or len({*getattr(self, name)}) < len(parts):
                got = ", ".join(parts[:20]) + (", ..." if len(parts) > 20 else "")
                raise ValueError(f"{name}: expected each once, got {got}")
        self._check_names()

    def _check_numbers(self) -> None:
        object.__setattr__(self, "budgets", tuple(schema.number(eps, "budgets") for eps in self.budgets))
        if max(self.budgets) > 255:
            raise ValueError(f"budgets: expected at most 255 levels, got {max(self.budgets):g}")
        object.__setattr__(self, "step_size", schema.number(self.step_size, "step_size"))
        for name, most in COUNTS.items():
            if getattr(self, name) is not None or name in ("steps", "measure_every", "k"):
                schema.whole(getattr(self, name), name, high=most)
        schema.whole(self.seed, "seed", low=0)
        schema.flag(self.random_start, "random_start")
        schema.flag(self.tf32, "tf32")
        schema.text(self.about, "about", LONGEST_REMARK)
        if self.fit not in ("crop", "stretch"):
            raise ValueError(f"fit: expected 'crop' or 'stretch', got {schema.shown(self.fit)}")

    def _check_names(self) -> None:
        for model in self.models:
            models.loading.check_name(model.name, "models")
            if unknown := [key for key, _ in model.options if key not in NETWORK_OPTIONS]:
                expected = f"expected some of {', '.join(NETWORK_OPTIONS)}"
                raise ValueError(f"models: {model.name}: unknown option {schema.listed(unknown)}; {expected}")
        for method in self.methods:
            method.check(METHODS, "methods")
        for attack in self.attacks:
            if attack.name == "targeted":
                target(attack)
            else:
                attack.check(ATTACKS, "attacks", **self.defaults(attack))

    def search(self, first: int, beta: float | None) -> dict[str, Any]:
        """Return how an attack searches, as `attacks.run` takes it, for images from row `first` of a subject on."""
        how = {name: getattr(self, name) for name in ("steps", "random_start", "measure_every", "patience", "tf32")}
        return how | {"step_size": self.step_size * attacks.LEVEL, "seed": self.seed + first, "beta": beta}

    # --- The grid ----------------------------------------------------------------------------------------------------

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """The pairs of a network, as `labels` names it, and a data set."""
        return list(itertools.product(self.labels("models"), self.data))

    def cells(self) -> Iterator[tuple[Cell, Choice, Choice]]:
        """Yield each combination, with the choices of its method and attack; those of one subject in sequence."""
        methods, attacks = self.labels("methods"), self.labels("attacks")
        for (model, source), method, attack, eps in itertools.product(self.subjects, methods, attacks, self.budgets):
            yield Cell(model, source, method, attack, eps), methods[method], attacks[attack]

    def labels(self, field: str) -> dict[str, Choice]:
        """Return models, methods or attacks by the name that tables show: with options where a name is used twice."""
        choices = getattr(self, field)
        names = [choice.name for choice in choices]
        return {choice.name if names.count(choice.name) == 1 else str(choice): choice for choice in choices}

    def defaults(self, attack: Choice) -> dict[str, Any]:
        """Return the options that an attack takes from the sweep unless it has its own."""
        return {"k": self.k} if attack.name == "topk" else {}

    @property
    def functions(self) -> list[str]:
        """The names of the reader's own functions in it; see `code`."""
        own = [name for model in self.models for name in models.loading.code_of(model.name)]
        own += [name for name in self.data if is_function(name)]
        return own + [name for choice in (*self.methods, *self.attacks) for name in choice.functions()]

    def check_cells(self, at_most: int = MAX_CELLS) -> None:
        """Refuse a grid of more cells than `at_most`, saying how large it is."""
        parts = {
            "networks": self.models,
            "data sets": self.data,
            "methods": self.methods,
            "attacks": self.attacks,
            "budgets": self.budgets,
        }
        cells = math.prod(map(len, parts.values()))
        if cells > at_most:
            product = " x ".join(f"{len(values)} {name}" for name, values in parts.items())
            raise ValueError(
                f"sweep: expected at most {at_most:,} cells, got {cells:,} ({product}), about {cells * self.steps:,} "
                "steps for each image; max_cells (on the command line --max-cells) allows more"
            )

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
    def from_dict(cls, given: Mapping[str, Any], max_cells: int = MAX_CELLS) -> "Sweep":
        """Return the sweep that a JSON object describes; what it does not mention is as by default."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        if unknown := [name for name in schema.fields(given, "sweep", ()) if name not in fields]:
            raise ValueError(f"sweep: unknown {schema.listed(unknown)}; expected some of {', '.join(fields)}")
        sweep = cls(**schema.fields(given, "sweep", needed))
        sweep.check_cells(max_cells)
        return sweep

    def to_json(self) -> str:
        """Return the sweep as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str, max_cells: int = MAX_CELLS) -> "Sweep":
        """Return the sweep that JSON text describes."""
        try:
            given = schema.parse(text)
        except ValueError as error:
            raise ValueError(f"sweep: {error}") from error
        return cls.from_dict(given, max_cells)

    @classmethod
    def load(cls, path: str | Path, max_cells: int = MAX_CELLS) -> "Sweep":
        """Return the sweep that a JSON file describes; errors name the file."""
        return schema.load(path, lambda given: cls.from_dict(given, max_cells))


def target(attack: Choice) -> tuple[int, ...]:
    """Return the region of a targeted attack, as `regions.masks` takes it."""
    options = dict(attack.options)
    region = options.pop("region", None)
    if options or not regions.is_region(region):
        expected = "expected targeted with a region, [top, left, bottom, right] or [row, column] of a superpixel"
        raise ValueError(f"attacks: {expected}, got {attack}")
    return region
