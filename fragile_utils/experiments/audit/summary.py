"""The numbers of an audit: what is left of each explanation, beside noise, nature and chance; and its verdict."""

from typing import Any

import numpy as np
import pandas as pd

from fragile_utils._base.devices import versions
from fragile_utils.attacks.algorithm import NO_LABEL, NO_MAP
from fragile_utils.experiments.audit import words
from fragile_utils.experiments.audit.running import Findings, explained
from fragile_utils.experiments.audit.settings import ATTACKS, SEARCHES
from fragile_utils.experiments.bootstrap import mean_interval, median_interval
from fragile_utils.experiments.failure import UNCHANGED, budget_to_failure
from fragile_utils.metrics import MEASURES

SCHEMA = "fragile-audit/2"  # the last number changes when a field changes its meaning, or goes
BOUNDED = tuple(name for name, whole in UNCHANGED.items() if whole)  # measures of which more is steadier


def summarise(found: Findings) -> dict[str, Any]:
    """Return what an audit found, as JSON can hold it; ``schema`` says which fields there are.

    ``methods`` has an entry for each method: ``cells`` (an attack at a budget: mean with its 95 % interval, median and
    worst image of each measure), ``noise_rms`` (the same for noise of the size of the top-k attack), ``natural``,
    ``chance``, ``deletion`` and ``insertion``, ``failure`` (the budget at which half of the top pixels are lost),
    ``empty``, ``paragraph``. An image on which an attack did not succeed counts as unchanged: nothing was achieved
    there. One whose answer noise or an everyday change has changed is left out of what these leave, and one whose
    explanation is zero everywhere, or not finite, out of all; ``empty`` says how many these are. A mean of a single
    image has no interval: ``low`` and ``high`` are null. ``left_out`` says what a whole audit does and this one did
    not. Of ``versions``, those of the package and of torch are of the processes that attacked, as ``hardware`` and
    ``computed`` are, several where they differ; the others are of the process that summarises.
    """
    plan, audit = found.plan, found.plan.audit
    names = list(dict.fromkeys(found.attacks["method"]))
    summary = {
        "schema": SCHEMA,
        "model": str(audit.model),
        "network": plan.network,
        "data": audit.data,
        "settings": audit.to_dict(),
        "images": {
            "read": plan.read,
            "labelled": plan.labelled,
            "audited": audit.images,
            "names": list(found.hashes["images"]),
        },
        "refused": plan.refused,
        "left_out": audit.left_out(plan.refused),
        "sha256": {key: found.hashes[key] for key in ("parameters", "pixels")},
        "images_sha256": found.hashes["images"],
        "versions": versions("torchvision", "numpy", "pillow") | found.facts["versions"],
        "hardware": found.facts["hardware"],
        "computed": found.facts["finished"],
        "methods": {name: _method(found, name) for name in names},
    }
    eps = words.budget_of_words(audit.budgets)
    summary["order"] = sorted(names, key=lambda name: -_kept(summary["methods"][name], eps))
    for name in names:
        summary["methods"][name]["paragraph"] = words.paragraph(name, summary)
    summary["not_said"] = list(words.NOT_SAID)
    return summary


def _method(found: Findings, name: str) -> dict[str, Any]:
    rows, natural, controls = (
        table[table["method"] == name] for table in (explained(found.attacks), explained(found.natural), found.controls)
    )
    controls = controls[controls["index"].isin(rows["index"])]
    cells = [
        {"attack": attack, "eps": float(eps), **_cell(group if attack in SEARCHES else _kept_answer(group))}
        for (attack, eps), group in rows.groupby(["attack", "eps"], sort=False)
    ]
    topk = rows[rows["attack"] == "topk"]
    noise = [{"eps": float(eps), **_measures(group, "noise_")} for eps, group in topk.groupby("eps", sort=False)]
    return {
        "empty": found.plan.audit.images - rows["index"].nunique(),
        "cells": cells,
        "noise_rms": noise,
        "natural": {change: _cell(_kept_answer(group)) for change, group in natural.groupby("attack", sort=False)},
        "chance": {kind: {m: _interval(controls[f"{kind}_{m}"]) for m in MEASURES} for kind in ("other", "shuffled")},
        **{
            kind: {
                "map": _interval(controls[kind]),
                "random": _interval(controls[f"random_{kind}"]),
                "difference": _interval(controls[kind] - controls[f"random_{kind}"]),
            }
            for kind in ("deletion", "insertion")
        },
        "failure": {attack: _failure(rows[rows["attack"] == attack]) for attack in ATTACKS}
        | {"noise_rms": _failure(topk, "noise_")},
    }


def _kept_answer(group: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a change that nobody chose, without measures where it left another answer, or no map."""
    values = group[list(MEASURES)].mask(group["reason"].isin([NO_LABEL, NO_MAP]))
    return group.assign(**{measure: values[measure] for measure in MEASURES})


def _cell(group: pd.DataFrame) -> dict[str, Any]:
    """Return how an attack, or a change, went at one budget."""
    return {
        "images": len(group),
        "unchanged": int((~group["success"]).sum()),
        "answer_changed": int((group["reason"] == NO_LABEL).sum()),
        "reasons": {reason: int(count) for reason, count in group["reason"].value_counts().items() if reason},
        **_measures(group),
    }


def _measures(group: pd.DataFrame, prefix: str = "") -> dict[str, Any]:
    found = {}
    for measure in MEASURES:
        values = group[prefix + measure]
        found[measure] = _interval(values) | {"median": _number(values.median())}
        if values.notna().any():
            worst = values.idxmin() if measure in BOUNDED else values.idxmax()
            found[measure] |= {"worst": _number(values[worst]), "worst_image": str(group["name"][worst])}
    return found


def _interval(values: pd.Series) -> dict[str, float | None]:
    """Return the mean and its interval, of which a single value has none."""
    known = values.dropna().to_numpy()
    found = {name: _number(value) for name, value in mean_interval(known)._asdict().items()}
    return found if len(known) > 1 else found | {"low": None, "high": None}


def _failure(rows: pd.DataFrame, prefix: str = "") -> dict[str, Any]:
    """Return the median budget at which half of the top pixels are lost; None where the largest does not suffice.

    An image of which this was never measured is left out: noise of each of the sizes has changed its answer.
    """
    budgets = budget_to_failure(rows, prefix=prefix).dropna().to_numpy()
    found = median_interval(budgets)
    return {name: _number(value) for name, value in found._asdict().items()} | {
        "lost": int(np.isfinite(budgets).sum()),
        "images": len(budgets),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# --- What is asked of a summary --------------------------------------------------------------------------------------


def cell(method: dict[str, Any], attack: str, eps: float) -> dict[str, Any]:
    """Return what an attack did to a method at a budget."""
    return next(found for found in method["cells"] if found["attack"] == attack and found["eps"] == eps)


def _kept(method: dict[str, Any], eps: float) -> float:
    values = [cell(method, attack, eps)["topk_intersection"]["mean"] for attack in SEARCHES]
    return min(value for value in values if value is not None)
