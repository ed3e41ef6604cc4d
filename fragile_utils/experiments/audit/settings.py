"""What is audited, and how: as one value."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fragile_utils import attacks, data
from fragile_utils._base import schema
from fragile_utils.experiments.audit import words
from fragile_utils.experiments.choice import Choice
from fragile_utils.experiments.sweep import Sweep

METHODS = ("gradient", "input-x-gradient", "integrated-gradients", "deeplift", "deep-taylor", "smoothgrad", "grad-cam")
QUICK = ("gradient", "grad-cam")
BUDGETS = (0.5, 1.0, 2.0, 4.0, 8.0)
SEARCHES = ("topk", "mass-center")  # attacks that look for what does harm
ATTACKS = (*SEARCHES, "random-sign")
ALL_LEVELS = 255.0


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is audited, and how. Budgets and steps are in levels of 255.

    Parameters
    ----------
    model : str, mapping or Choice
        As for a `Sweep`.
    data : str
        A folder of images, an image, or a name as for a `Sweep`.
    methods : sequence of str, mapping or Choice
    budgets : sequence of float
    images : int
        How many images at most, of those that the network gets right; images without a label count as right.
    steps, step_size, patience, seed, fit
        As for a `Sweep`.
    k : int, optional
        How many pixels count as most salient. By default `metrics.default_k` of the size of the images.
    """

    model: Choice
    data: str
    methods: tuple[Choice, ...] = METHODS
    budgets: tuple[float, ...] = BUDGETS
    images: int = 16
    steps: int = 100
    step_size: float = 0.5
    patience: int | None = 30
    seed: int = 0
    k: int | None = None
    fit: data.Fit = "crop"

    def __post_init__(self) -> None:
        sweep = self.sweep("attacks", k=1)  # which checks all of it
        object.__setattr__(self, "methods", sweep.methods)
        object.__setattr__(self, "budgets", tuple(sorted(sweep.budgets)))
        object.__setattr__(self, "model", sweep.models[0])
        if self.k is not None:
            schema.whole(self.k, "k")

    def sweep(self, part: str, **changes: Any) -> Sweep:
        """Return the sweep of a part: "attacks" or "natural"."""
        fields = {
            "models": [self.model],
            "data": [self.data],
            "methods": self.methods,
            "attacks": list(ATTACKS if part == "attacks" else attacks.CHANGES),
            "budgets": self.budgets if part == "attacks" else [ALL_LEVELS],
            "images": self.images,
            "candidates": 4 * self.images,
            "fit": self.fit,
            "k": self.k,
        }
        fields |= {name: getattr(self, name) for name in ("steps", "step_size", "patience", "seed")}
        return Sweep(**fields | changes)

    def left_out(self, refused: Mapping[str, str]) -> list[str]:
        """Return what a whole audit does and this one does not, a sentence each; `refused` are what does not apply."""
        whole = {field.name: field.default for field in dataclasses.fields(self)}
        tried = {method.name for method in self.methods} | {label.partition("(")[0] for label in refused}
        said = []
        if missing := [name for name in METHODS if name not in tried]:
            said.append(f"Not audited: {', '.join(missing)}.")
        if any(eps not in self.budgets for eps in BUDGETS):
            tried, besides = (", ".join(f"{eps:g}" for eps in budgets) for budgets in (self.budgets, BUDGETS))
            said.append(f"Budgets: {tried}, in place of {besides}.")
        if self.steps < whole["steps"]:
            said.append(
                f"Steps of an attack: at most {self.steps} of {self.step_size:g}, in place of {whole['steps']} of "
                f"{whole['step_size']:g}; a longer search may leave less."
            )
        if self.images < whole["images"]:
            said.append(f"Images: {self.images}, in place of {whole['images']}; {words.caution(self.images)}.")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        made = dataclasses.asdict(self)
        made["model"], made["budgets"] = self.model.to_json(), list(self.budgets)
        return made | {"methods": [method.to_json() for method in self.methods]}


def quick(model: Any, data: str, **changes: Any) -> Audit:
    """Return an audit of minutes: 8 images, two methods, few and large steps; `Audit.left_out` puts it in words.

    With SqueezeNet it takes a processor about four minutes.
    """
    few = {"images": 8, "steps": 6, "step_size": 2.0, "patience": None}
    return Audit(
        model=model, data=data, **{"methods": [Choice.parse(name, "methods") for name in QUICK]} | few | changes
    )
