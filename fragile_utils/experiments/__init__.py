"""Large experiments: sweeps, audits, the evaluation of a defence, transfer between networks, deletion of pixels.

A sweep is a grid of attacks on many images, computed shard by shard, stopped and gone on with at any time. Reading a
configuration or results imports nothing and calls nothing that they name. A shard is a file; what is finished is never
computed again, and what is damaged is. An audit, in `experiments.audit`, is two sweeps of a network that is given, with
controls, and a summary in words::

    sweep = experiments.Sweep.load("sweep.json")
    experiments.run(sweep, "folder")
    settings, table = experiments.results("folder")  # one row for each image, method, attack and budget
    experiments.summary(table)  # means, intervals, medians
"""

from fragile_utils.experiments.bootstrap import mean_interval, median_interval
from fragile_utils.experiments.choice import Choice
from fragile_utils.experiments.cluster import Cluster
from fragile_utils.experiments.costs import Price, price
from fragile_utils.experiments.defended import (
    Evaluation,
    Protocol,
    compare_defences,
    evaluate_defence,
)
from fragile_utils.experiments.defended_tables import paired_difference
from fragile_utils.experiments.failure import budget_to_failure
from fragile_utils.experiments.folder import Shard, Status, SweepFolder
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.running import InProcess, run
from fragile_utils.experiments.subject import Subject
from fragile_utils.experiments.sweep import MAX_CELLS, Sweep
from fragile_utils.experiments.tables import CELL, MEASURES, results, status, summary
from fragile_utils.experiments.transferring import transfer, transfer_summary

__all__ = [
    "CELL",
    "MAX_CELLS",
    "MEASURES",
    "Choice",
    "Cluster",
    "Evaluation",
    "InProcess",
    "Parts",
    "Price",
    "Protocol",
    "Shard",
    "Status",
    "Subject",
    "Sweep",
    "SweepFolder",
    "budget_to_failure",
    "compare_defences",
    "evaluate_defence",
    "mean_interval",
    "median_interval",
    "paired_difference",
    "price",
    "results",
    "run",
    "status",
    "summary",
    "transfer",
    "transfer_summary",
]
