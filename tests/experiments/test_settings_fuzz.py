"""Configurations and folders that anybody may have written: read or refused in a line, and never executed."""

import json
import sys

import nasty
import pytest
import sweeps
from hypothesis import HealthCheck, given, settings

from fragile_utils import experiments

SWEEP = sweeps.SMALL | {"models": ["squeezenet", "cifar10"], "data": "cifar10-samples", "seed": 3, "about": "a remark"}
SUBJECT = {
    "model": "cifar10",
    "data": "cifar10-samples",
    "beta": 8.0,
    "read": 20,
    "right": 12,
    "rows": [0, 3, 5],
    "labels": [1, 0, 2],
    "names": ["0.png", "3.png", "5.png"],
    "pixels": "0" * 64,
    "parameters": "1" * 64,
}
FOLDER = {
    "sweep": sweeps.SMALL | {"models": "cifar10", "data": "cifar10-samples"},
    "shard_size": 2,
    "code": {"planted:function": "2" * 64},
    "subjects": [SUBJECT],
    "began": "2026-01-01T00:00:00Z",
}
few = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
many = settings(few, max_examples=2000)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the module `planted`, which leaves a trace when it is imported, and can be."""
    place = tmp_path_factory.mktemp("place")
    (place / "planted.py").write_text(nasty.MODULE.format(trace=str(place / "trace")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        patch.chdir(place)
        yield place


def read(call, path, text):
    """Read a file, or be refused in a line that names it; True if it was read. Nothing is executed or written."""
    path.write_bytes(text.encode(errors="surrogatepass"))
    before = sorted(path.parent.iterdir())
    said = None
    try:
        call()
    except ValueError as error:
        said = str(error)
    if said is not None:
        assert said.startswith((f"{path}: ", f"cannot read {path}: "))
        assert len(said) < 1500 + len(str(path))
    assert sorted(path.parent.iterdir()) == before
    assert not (path.parent / "trace").exists()
    assert "planted" not in sys.modules
    return said is None


def check_sweep(place, text):
    path = place / "sweep.json"
    made = []
    if read(lambda: made.append(experiments.Sweep.load(path)), path, text):
        assert experiments.Sweep.from_json(made[0].to_json()) == made[0]


def check_folder(place, text):
    read(lambda: experiments.status(place), place / "settings.json", text)


@few
@given(text=nasty.mangled(SWEEP))
def test_a_configuration_is_read_or_refused(place, text):
    check_sweep(place, text)


@few
@given(text=nasty.mangled(FOLDER))
def test_the_settings_of_a_folder_are_read_or_refused(place, text):
    check_folder(place, text)


@pytest.mark.slow
@many
@given(text=nasty.mangled(SWEEP))
def test_2000_configurations_are_read_or_refused(place, text):
    check_sweep(place, text)


@pytest.mark.slow
@many
@given(text=nasty.mangled(FOLDER))
def test_the_settings_of_2000_folders_are_read_or_refused(place, text):
    check_folder(place, text)


def test_what_is_not_mangled_is_read(place):
    for call, name, value in (
        (lambda: experiments.Sweep.load(place / "sweep.json"), "sweep.json", SWEEP),
        (lambda: experiments.status(place), "settings.json", FOLDER),
    ):
        assert read(call, place / name, json.dumps(value))
