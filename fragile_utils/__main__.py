"""The command ``fragile``, also as ``python -m fragile_utils``."""

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt, in the C library of GNU


def main() -> int:
    """Run the command line.

    Threads of OpenMP that wait for each other turn on their core for a while before they let others compute. The
    variable makes that short. It is read when PyTorch is loaded, which is why nothing is imported before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    keep_memory()
    from fragile_utils.cli import main as command

    return command()


def keep_memory() -> bool:
    """Let the C library keep the memory of large tensors for the next step, where it is GNU's; return whether it does.

    It gives it back to the system otherwise, which clears it page by page when it is asked for again. Nothing is done
    where the environment says something of it.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & set(os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another system, or another library
        return False
    return bool(mallopt(MMAP_THRESHOLD, 2**30) and mallopt(TRIM_THRESHOLD, 2**31 - 1))


if __name__ == "__main__":
    sys.exit(main())
