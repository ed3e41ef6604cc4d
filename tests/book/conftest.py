"""What the tests of the book share."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def extension(monkeypatch):
    """Imports a module of book/_ext."""
    pytest.importorskip("myst_nb", reason="the book's packages are not installed")
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "book" / "_ext")
    return importlib.import_module
