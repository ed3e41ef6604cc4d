"""Small audits for tests, of the networks and images of `sweeps`."""

import copy
from pathlib import Path

import torch

from fragile_utils._base.code import Code
from fragile_utils.experiments import audit

CODE = ["sweeps:network", "sweeps:many_images"]
SMALL = {"images": 3, "steps": 2, "step_size": 4.0, "k": 20, "budgets": [1, 2, 8], "patience": None}


def small(**changes):
    fields = {"model": "sweeps:network", "data": "sweeps:many_images", "methods": ["gradient"]}
    return audit.Audit(**fields | SMALL | changes)


def code():
    return Code.allow(CODE)


def follow_alone(plan: audit.Plan, folder: Path) -> None:
    """Run an audit in a process of its own, to be killed."""
    torch.set_num_threads(1)
    audit.follow(plan, folder, code())


def changed(summary, kept, down=(-0.2, -0.1), up=(0.1, 0.2)):
    """A summary in which attacks on gradient leave `kept`, and with these intervals of the differences."""
    made = copy.deepcopy(summary)
    method = made["methods"]["gradient"]
    for cell in method["cells"]:
        if cell["attack"] != "random-sign":
            cell["topk_intersection"] |= {"mean": kept, "low": kept, "high": kept, "worst": kept}
        else:
            cell["topk_intersection"]["mean"] = 1.0
    for kind, (low, high) in (("deletion", down), ("insertion", up)):
        method[kind]["difference"] |= {"low": low, "high": high}
    return made
