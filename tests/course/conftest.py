"""What the tests of the course share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sources():
    """The folder of the exercises' sources."""
    return Path(__file__).resolve().parents[2] / "book" / "exercises"
