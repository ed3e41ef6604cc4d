"""``python -m fragile_utils`` is the command ``fragile``."""

import sys

from fragile_utils.cli import main

if __name__ == "__main__":
    sys.exit(main())
