"""Execute the cells of a chapter, and say what its claims find.

    python tests/executed.py NOTEBOOK [--go-on]

It stops at the first claim that does not hold (exit status 3), or where something else fails (4); the last line says
which, after an "@". With `--go-on` claims stop nothing, and each is a line of JSON after an "@": [statement, what was
measured, whether it holds]. ONEDNN=0 does without oneDNN.
"""

import json
import os
import sys

import matplotlib
import nbformat
import torch
from IPython.core.interactiveshell import InteractiveShell

from fragile_utils import claims

check = claims.check


def noted(statement, value, **bounds) -> None:
    """Check a claim, and print what was found."""
    try:
        check(statement, value, **bounds)
        claim, holds = claims.made[-1], True
    except claims.ClaimError as error:
        claim, holds = error.claim, False
    print("\n@" + json.dumps([claim.statement, claim.measured, holds]), flush=True)


def main() -> int:
    matplotlib.use("Agg")
    torch.backends.mkldnn.set_flags(os.environ.get("ONEDNN") != "0")
    if "--go-on" in sys.argv:
        claims.check = noted
    shell = InteractiveShell.instance()
    for cell in nbformat.read(sys.argv[1], as_version=4).cells:
        if cell.cell_type == "code":
            error = shell.run_cell(cell.source, store_history=False).error_in_exec
            if isinstance(error, claims.ClaimError):
                print("\n@" + error.claim.statement)
                return 3
            if error is not None:
                print("\n@" + str(error).splitlines()[0])
                return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
