"""ONNX Runtime Web in the package: exactly the files of one version, with their licence."""

import gzip
import hashlib
import re
from importlib import resources

import pytest

PAGE = resources.files("fragile_utils") / "laboratory" / "page"
VENDOR = PAGE / "vendor" / "ort"
VERSION = "1.30.0"
FILES = {  # SHA-256 of what stands in dist/ of the npm package onnxruntime-web
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm.gz": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
TEXTS = {"LICENSE.txt", "README.md", "ThirdPartyNotices.txt"}


def contents(name):
    found = (VENDOR / name).read_bytes()
    return gzip.decompress(found) if name.endswith(".gz") else found


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_that_of_the_pinned_version(name):
    assert hashlib.sha256(contents(name)).hexdigest() == FILES[name]


def test_nothing_else_is_there():
    assert {path.name for path in VENDOR.iterdir()} == {*FILES, *TEXTS}


def test_all_names_the_version_and_the_licence():
    assert f"ONNX Runtime Web v{VERSION}" in contents("ort.wasm.min.mjs").decode()
    for text in (VENDOR / "README.md", PAGE / "js" / "engine.js"):
        assert VERSION in text.read_text(encoding="utf-8")
    assert "MIT License" in (VENDOR / "LICENSE.txt").read_text(encoding="utf-8")
    assert "THIRD PARTY SOFTWARE NOTICES" in (VENDOR / "ThirdPartyNotices.txt").read_text(encoding="utf-8")


def test_the_page_expects_this_machine_code():
    source = (PAGE / "js" / "engine.js").read_text(encoding="utf-8")
    file, size, digest = re.search(r"file: '(\S+)',\s+bytes: (\d+),\s+sha256: '(\w+)'", source).groups()
    assert digest == FILES[file]
    assert int(size) == len((VENDOR / file).read_bytes())


def test_the_start_loads_less_than_ten_megabytes():
    weights_of_squeezenet, graphs = 4_950_000, 150_000
    code = sum(len((VENDOR / name).read_bytes()) for name in FILES)
    assert code + weights_of_squeezenet + graphs < 10e6
