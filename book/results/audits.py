"""Store audits as results of the package, `audit_NAME`, which chapter 23 reads: from the folders that these wrote.

    fragile audit --model squeezenet --quick --method gradient --method ig:steps=10 --method grad-cam --out squeezenet
    fragile audit --model efficientnet-lite0 --quick --images 4 --budgets 0.5,2,8 --out efficientnet_lite0
    python book/results/audits.py squeezenet efficientnet_lite0

The second was made when a limit took the first of the samples, so that its photographs are 00, 04, 08 and 11; made
again, it takes 00, 05, 11 and 15, and what chapter 23 says of it has to follow. The name of a folder is NAME. The
report of the first goes into the built site as an example, as it is.
"""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
from _common import PACKAGE, store

from fragile_utils import experiments
from fragile_utils.experiments import audit

EXAMPLE = PACKAGE.parent / "book" / "_static" / "audit_example.html"
CONSTANT = ["model", "data"]  # columns that the summary says once


def store_audit(folder: Path) -> None:
    """Store an audit's summary and rows, and how long its attacks took."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    seconds = sum(experiments.results(folder / audit.WORK / part)[0]["seconds"] for part in audit.PARTS)
    about = {"about": f"fragile audit of {summary['model']}", "script": "book/results/audits.py", "seconds": seconds}
    table = pd.read_parquet(folder / "results.parquet").drop(columns=CONSTANT)
    store(f"audit_{folder.name}", table, about | summary, digits=6)


if __name__ == "__main__":
    folders = [Path(given) for given in sys.argv[1:]]
    for given in folders:
        store_audit(given)
    shutil.copyfile(folders[0] / "report.html", EXAMPLE)
