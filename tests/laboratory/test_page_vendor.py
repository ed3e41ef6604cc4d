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
ON_REQUEST = {  # for the graphics card
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm.gz": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
TEXTS = {"LICENSE.txt", "README.md", "ThirdPartyNotices.txt"}


def contents(name):
    found = (VENDOR / name).read_bytes()
    return gzip.decompress(found) if name.endswith(".gz") else found


@pytest.mark.parametrize("name", FILES | ON_REQUEST)
def test_a_file_is_that_of_the_pinned_version(name):
    assert hashlib.sha256(contents(name)).hexdigest() == (FILES | ON_REQUEST)[name]


def test_nothing_else_is_there():
    assert {path.name for path in VENDOR.iterdir()} == {*FILES, *ON_REQUEST, *TEXTS}


def test_all_names_the_version_and_the_licence():
    for module in ("ort.wasm.min.mjs", "ort.webgpu.min.mjs"):
        assert f"ONNX Runtime Web v{VERSION}" in contents(module).decode()
    for text in (VENDOR / "README.md", PAGE / "js" / "engine.js"):
        assert VERSION in text.read_text(encoding="utf-8")
    assert "MIT License" in (VENDOR / "LICENSE.txt").read_text(encoding="utf-8")
    assert "THIRD PARTY SOFTWARE NOTICES" in (VENDOR / "ThirdPartyNotices.txt").read_text(encoding="utf-8")


def test_the_page_expects_this_machine_code():
    source = (PAGE / "js" / "engine.js").read_text(encoding="utf-8")
    found = re.findall(r"file: '(\S+)',\s+bytes: (\d+),\s+sha256: '(\w+)'", source)
    assert len(found) == 2
    for file, size, digest in found:
        assert digest == (FILES | ON_REQUEST)[file]
        assert int(size) == len((VENDOR / file).read_bytes())


def test_the_start_loads_less_than_ten_megabytes():
    weights_of_squeezenet, graphs = 4_950_000, 150_000
    code = sum(len((VENDOR / name).read_bytes()) for name in FILES)
    assert code + weights_of_squeezenet + graphs < 10e6


def test_the_graphics_card_costs_less_than_seven_megabytes():
    assert sum(len((VENDOR / name).read_bytes()) for name in ON_REQUEST) < 7e6
