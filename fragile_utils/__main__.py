"""The command ``fragile``, also as ``python -m fragile_utils``."""

import os
import sys


def main() -> int:
    """Run the command line.

    Threads of OpenMP that wait for each other turn on their core for a while before they let others compute. The
    variable makes that short. It is read when PyTorch is loaded, which is why nothing is imported before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from fragile_utils.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
