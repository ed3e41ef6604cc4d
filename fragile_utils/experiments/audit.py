"""The audit of a model: how far its explanations move, under attack and by nature, beside chance; as one value.

An `Audit` is two sweeps, of attacks and of natural changes, and controls beside them. Each part is a file that is
written once, so that an audit that was stopped goes on where it was.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from fragile_utils import attacks, data, metrics, saliency
from fragile_utils._base import schema
from fragile_utils._base.code import Code
from fragile_utils._base.devices import pick_device
from fragile_utils._base.files import is_unfinished, sweep_up, write_bytes
from fragile_utils._base.pixels import in_bytes
from fragile_utils.attacks.algorithm import EMPTY_MAP, NOT_FINITE
from fragile_utils.experiments import audit_controls, tables
from fragile_utils.experiments.choice import Choice
from fragile_utils.experiments.folder import SweepFolder, duration
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.running import InProcess, run
from fragile_utils.experiments.subject import labelled
from fragile_utils.experiments.sweep import Sweep

METHODS = ("gradient", "input-x-gradient", "integrated-gradients", "deeplift", "deep-taylor", "smoothgrad", "grad-cam")
QUICK = ("gradient", "grad-cam")
BUDGETS = (0.5, 1.0, 2.0, 4.0, 8.0)
ATTACKS = ("topk", "mass-center", "random-sign")
SETTINGS, WORK, PARTS = "audit.json", "work", ("attacks", "natural")
SHARD = 8  # images: little is lost when an audit is stopped
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
            said.append(
                f"Images: {self.images}, in place of {whole['images']}; intervals from so few tend to be too narrow."
            )
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


# --- The plan --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What an audit will do, found by a try with one image.

    Attributes
    ----------
    audit : Audit
        With the number of images that there are, the methods that apply, and k.
    refused : dict
        From each method that does not apply to the reason.
    seconds : dict
        From each method to the time that it will take, on this machine.
    network : str
        What the network is, in words.
    read, labelled : int
        How many images were read, and of how many the class is known. Of the others the network's answer is taken.
    """

    audit: Audit
    refused: dict[str, str]
    seconds: dict[str, float]
    network: str
    read: int
    labelled: int

    def known(self) -> str:
        """Return how many images were read, and what is known of their classes."""
        if self.labelled == self.read:
            return f"{self.read} read"
        if not self.labelled:
            return f"{self.read} read, none with a class: what the network answers counts as right"
        return f"{self.read} read, {self.labelled} with a class; of the others what the network answers counts as right"

    def describe(self) -> str:
        """Return it as a few lines."""
        audit = self.audit
        budgets = ", ".join(f"{eps:g}" for eps in audit.budgets)
        lines = [
            self.network,
            f"{audit.images} image{'s' * (audit.images > 1)} of {audit.data} ({self.known()}), k = {audit.k} pixels",
            f"budgets {budgets} of 255 levels; {audit.steps} step{'s' * (audit.steps > 1)} of {audit.step_size:g}; "
            f"{', '.join(ATTACKS)}; {', '.join(attacks.CHANGES)}",
        ]
        lines += [f"  {name}: about {duration(seconds)}" for name, seconds in self.seconds.items()]
        lines += [f"  {name} does not apply: {reason}" for name, reason in self.refused.items()]
        lines += audit.left_out(self.refused)
        return "\n".join([*lines, f"expected time: {duration(sum(self.seconds.values()))}"])


def plan(audit: Audit, code: Code = Code(), device: str = "auto") -> Plan:  # noqa: B008 - a frozen value
    """Try each method with one image, and return what the audit will do.

    Raises
    ------
    ValueError
        If the network or the images cannot be used, or no method applies.
    """
    parts, where = Parts(audit.sweep("attacks", k=1), code), pick_device(device)
    (name,) = parts.sweep.labels("models")
    network = parts.network(name).to(where)
    batch = parts.read(audit.data, getattr(network, "size", None)).to(where)
    right = labelled(batch, network, audit.data, name).correct(network)
    if not len(right):
        raise ValueError(f"data: {name} gets none of the {len(batch)} images of {audit.data} right")
    one = right[:1]
    height, width = one.images.shape[2:]
    k = metrics.default_k(height, width) if audit.k is None else audit.k
    if k >= height * width:  # all pixels are the same pixels, whatever the map
        raise ValueError(f"k: expected at most {height * width - 1}, less than the pixels of an image, got {k}")
    images = min(audit.images, len(right))
    methods, refused, seconds = [], {}, {}
    for label, choice in parts.sweep.labels("methods").items():
        try:
            method = parts.method(choice)
            of_map, of_step = _times(method, network, one, k, audit.budgets[0])
        except ValueError as error:
            refused[label] = str(error)
            continue
        methods.append(choice)
        maps = len(audit.budgets) * 6 + len(attacks.CHANGES) * 2 + 4
        seconds[label] = images * (maps * of_map + 2 * len(audit.budgets) * audit.steps * of_step)
    if not methods:
        raise ValueError(f"methods: none applies to {name}: " + "; ".join(f"{m}: {why}" for m, why in refused.items()))
    resolved = dataclasses.replace(audit, methods=tuple(methods), images=images, k=k)
    words = repr(network) if hasattr(network, "adapted") else name
    return Plan(resolved, refused, seconds, words, len(batch), int((batch.labels != data.UNKNOWN).sum()))


def _times(
    method: saliency.Method, network: nn.Module, one: data.Batch, k: int, smallest: float
) -> tuple[float, float]:
    """Return the seconds of a map, and of a step of an attack, with one image; also tried is the smallest budget."""
    began = time.perf_counter()
    maps = method(network, one.images, one.labels)
    of_map = time.perf_counter() - began
    if not maps.sum() > 0:
        raise ValueError("its map of the first image is zero everywhere")
    ends = [time.perf_counter()]
    for eps, steps in ((smallest, 1), (1, 1), (1, 4)):  # the first also prepares what later ones find ready
        attacks.run(attacks.TopK(k), network, one.images, one.labels, method, eps=eps * attacks.LEVEL, steps=steps)
        ends.append(time.perf_counter())
    short, long = ends[2] - ends[1], ends[3] - ends[2]
    return min(of_map, short), max((long - short) / 3, 0.0)


# --- The run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What an audit found.

    Attributes
    ----------
    plan : Plan
    facts : dict
        Of the sweep of attacks, as `experiments.results` returns them.
    attacks, natural, controls : DataFrame
        A row for each image under each method, and attack or change.
    hashes : dict
        SHA-256 of the network's parameters, of all images, and of each.
    """

    plan: Plan
    facts: dict[str, Any]
    attacks: pd.DataFrame
    natural: pd.DataFrame
    controls: pd.DataFrame
    hashes: dict[str, Any]


def check_folder(folder: Path) -> None:
    """Refuse what can be no folder of an audit: a file, a folder of other things, or where nothing can be written."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        raise ValueError(f"folder: expected a folder, got the file {place}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"folder: cannot write to {place}")
    others = folder.exists() and any(not is_unfinished(path) for path in folder.iterdir())
    if others and not (folder / SETTINGS).exists():
        raise ValueError(f"folder: expected a new folder, or that of an audit, got {folder}, with other files")


def begin(plan: Plan, folder: Path, code: Code) -> None:
    """Write the settings of an audit to its folder, or refuse a folder that was begun with others."""
    check_folder(folder)
    sweep_up(folder)
    settings = plan.audit.to_dict() | {"code": dict(code.files)}
    path = folder / SETTINGS
    if not path.exists():
        write_bytes(path, (json.dumps(settings, indent=1) + "\n").encode())
        return
    try:
        before: Mapping[str, Any] = schema.fields(schema.parse(path.read_text(encoding="utf-8")), SETTINGS, ())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: these are not the settings of an audit: {error}") from error
    now = json.loads(json.dumps(settings))
    other = [f"{name} {before.get(name)} (now {now[name]})" for name in now if before.get(name) != now[name]]
    if other:
        raise ValueError(f"{folder} was begun with other settings: {'; '.join(other)}; choose another folder")


def follow(
    plan: Plan,
    folder: Path,
    code: Code = Code(),  # noqa: B008 - a frozen value
    executor: InProcess | None = None,
    progress: bool = False,
) -> Found:
    """Compute what is missing of an audit in its folder, and return what was found.

    Raises
    ------
    ValueError
        If the folder was begun with other settings, or something cannot be computed.
    """
    executor = InProcess() if executor is None else executor
    begin(plan, folder, code)
    found = {}
    for part in PARTS:
        inside = folder / WORK / part
        run(
            plan.audit.sweep(part),
            inside,
            shard_size=SHARD,
            executor=executor,
            progress=progress,
            allow_code=bool(code.files),
            trust=code.pickles,
        )
        found[part] = tables.results(inside)
    sweep_folder = SweepFolder.load(folder / WORK / "attacks")
    parts, (subject,) = Parts(sweep_folder.sweep, code), sweep_folder.subjects
    device = getattr(executor, "device", "auto")
    network, batch = subject.load(parts, str(pick_device(device)))
    controls = audit_controls.follow(parts, subject, network, batch, folder / WORK / "controls")
    hashes = {
        "parameters": subject.parameters,
        "pixels": subject.pixels,
        "images": {name: digest_of(image) for name, image in zip(batch.names, batch.images, strict=True)},
    }
    return Found(plan, found["attacks"][0], found["attacks"][1], found["natural"][1], controls, hashes)


def digest_of(image: torch.Tensor) -> str:
    """Return the SHA-256 of an image's pixels in 8 bits."""
    return hashlib.sha256(in_bytes(image).cpu().numpy().tobytes()).hexdigest()


def explained(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images that have an explanation: not one that is zero everywhere, or not finite."""
    return rows[~rows["reason"].isin([EMPTY_MAP, NOT_FINITE])]


def examples(found: Found, folder: Path, code: Code, device: str, method: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the worst, the median and the best image of a method under the top-k attack, attacked again.

    Each with its name, the batch of it alone, with the names of the network's classes, and the results at all budgets:
    the same as in the sweep.
    """
    sweep_folder = SweepFolder.load(folder / WORK / "attacks")
    parts, (subject,) = Parts(sweep_folder.sweep, code), sweep_folder.subjects
    network, batch = subject.load(parts, str(pick_device(device)))
    batch = dataclasses.replace(batch, classes=batch.classes or getattr(network, "classes", ()))
    sweep = parts.sweep
    rows = explained(found.attacks)
    rows = rows[(rows["method"] == method) & (rows["attack"] == "topk")]
    left = rows.groupby("index")["topk_intersection"].mean().sort_values(kind="stable")
    places = {"worst": left.index[0], "median": left.index[len(left) // 2], "best": left.index[-1]}
    chosen = parts.method(sweep.labels("methods")[method])
    for word, place in places.items():
        index = int(place)
        part = batch[index]
        yield (
            word,
            part,
            attacks.run_budgets(
                parts.attack(sweep.labels("attacks")["topk"], part.images),
                network,
                part.images,
                part.labels,
                chosen.among(slice(index, index + 1), len(batch)),
                budgets=[eps * attacks.LEVEL for eps in sweep.budgets],
                steps=sweep.steps,
                step_size=sweep.step_size * attacks.LEVEL,
                seed=sweep.seed + index,
                beta=subject.beta,
                patience=sweep.patience,
            ),
        )
