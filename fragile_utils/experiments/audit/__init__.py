"""The audit of a model: how far its explanations move, under attack and by nature, beside chance.

An `Audit` is two sweeps, of attacks and of natural changes, and controls beside them. Each part is a file that is
written once, so that an audit that was stopped goes on where it was::

    wanted = audit.Audit(model="squeezenet", data="imagenet-samples")
    plan = audit.plan(wanted)  # which methods apply, and how long it will take
    found = audit.follow(plan, Path("report"))
    audit.summarise(found)  # its numbers, and what they say in words
    plots.audit_report.write_report(found, Path("report"))  # a page that needs nothing but itself
"""

from fragile_utils.experiments.audit.conditions import Condition
from fragile_utils.experiments.audit.planning import Plan, plan
from fragile_utils.experiments.audit.running import PARTS, WORK, Findings, check_folder, examples, follow
from fragile_utils.experiments.audit.settings import ATTACKS, BUDGETS, METHODS, Audit, quick
from fragile_utils.experiments.audit.summary import cell, summarise

__all__ = [
    "ATTACKS",
    "BUDGETS",
    "METHODS",
    "PARTS",
    "WORK",
    "Audit",
    "Condition",
    "Findings",
    "Plan",
    "cell",
    "check_folder",
    "examples",
    "follow",
    "plan",
    "quick",
    "summarise",
]
