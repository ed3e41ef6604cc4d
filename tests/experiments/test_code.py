"""The reader's own functions: never imported where something is read, and only when allowed where something runs."""

import hashlib
import json
import shutil
import sys

import pytest
import sweeps
from command_line import assert_refused

from fragile_utils import experiments
from fragile_utils._base.code import Code

MODULE = """
from pathlib import Path

Path({trace!r}).write_text("imported")

import sweeps
from fragile_utils import attacks, saliency


def network():
    return sweeps.network()


def images(size, fit, limit):
    return sweeps.many_images(size, fit, limit)


def method(**options):
    return saliency.Gradient()


def attack():
    return attacks.RandomSign()


def stop():
    raise SystemExit(0)


def stumble():
    raise KeyError("a key")
"""
PLACES = {
    "a network": {"models": "planted:network"},
    "data": {"data": "planted:images"},
    "a method": {"methods": "planted:method"},
    "a method with options": {"methods": {"name": "planted:method", "cmd": "touch trace"}},
    "a method within another": {"methods": {"name": "smoothgrad", "samples": 2, "method": {"name": "planted:method"}}},
    "a method in a list": {"methods": {"name": "planted:method", "parts": [{"name": "planted:method"}]}},
    "an attack": {"attacks": "planted:attack"},
}
FOREIGN = {
    "subprocess": {"methods": [{"name": "subprocess:getoutput", "cmd": "touch trace"}]},
    "os": {"models": "os:abort"},
    "sys": {"methods": "sys:exit", "attacks": "sys:exit"},
    "a part of a package": {"methods": "planted.deep.er:method"},
}


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """The file that is written when the module `planted`, which can be imported, is; and the working folder."""
    (tmp_path / "modules").mkdir()
    trace = tmp_path / "trace"
    (tmp_path / "modules" / "planted.py").write_text(MODULE.format(trace=str(trace)))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path)
    yield trace
    sys.modules.pop("planted", None)


def written(sweep, folder):
    """A folder of results whose settings name what `sweep` names."""
    settings = json.loads((folder / "settings.json").read_text())
    settings["sweep"] |= sweep
    settings["subjects"][0] |= {name: sweep[of] for name, of in (("model", "models"), ("data", "data")) if of in sweep}
    settings["code"] = {"planted:network": "0" * 64}
    (folder / "settings.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("case", [*PLACES, *FOREIGN])
def test_nothing_that_is_read_is_imported_or_called(case, trace, finished, tmp_path, fragile):
    changes = (PLACES | FOREIGN)[case]
    sweep = experiments.Sweep.from_dict(sweeps.SMALL | changes)
    assert experiments.Sweep.from_json(sweep.to_json()) == sweep
    (tmp_path / "sweep.json").write_text(sweep.to_json())
    assert experiments.Sweep.load("sweep.json") == sweep
    shutil.copytree(finished, tmp_path / "folder")
    written(changes, tmp_path / "folder")
    assert experiments.SweepFolder.load("folder").shards
    assert experiments.status("folder").to_do
    with pytest.raises(ValueError, match="run the sweep again"):
        experiments.results("folder")
    assert fragile("sweep", "--status", "folder")[0] == 0
    assert fragile("report", "folder")[0] in (0, 2)
    outcome = fragile("sweep", "sweep.json", "--out", "out")
    assert_refused(outcome, "which is imported only with allow_code=True (on the command line --allow-code)")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()
    assert "planted" not in sys.modules


@pytest.mark.parametrize("case", PLACES)
def test_a_sweep_that_runs_calls_what_it_is_allowed_to(case, trace, tmp_path):
    sweep = sweeps.small(**{"methods": "gradient", "attacks": "random-sign", "budgets": 8} | PLACES[case])
    with pytest.raises(ValueError, match="is code of your own"):
        experiments.run(sweep, tmp_path / "folder")
    with pytest.raises(ValueError, match="is code of your own"):
        experiments.Subject.choose(experiments.Parts(sweep), *sweep.subjects[0])
    assert not trace.exists()
    assert experiments.run(sweep, tmp_path / "folder", allow_code=True).to_do == []
    assert trace.exists()
    recorded = json.loads((tmp_path / "folder" / "settings.json").read_text())["code"]
    name = next(name for name in recorded if name.startswith("planted:"))
    file = tmp_path / "modules" / "planted.py"
    assert recorded[name] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_file_is_refused_before_it_is_imported(trace, tmp_path):
    sweep = sweeps.small(methods="planted:method", attacks="random-sign")
    experiments.run(sweep, tmp_path / "folder", allow_code=True)
    assert experiments.run(sweep, tmp_path / "folder", allow_code=True).to_do == []
    allowed = Code.allow(["planted:method"])
    del sys.modules["planted"]
    trace.unlink()
    with (tmp_path / "modules" / "planted.py").open("a") as file:
        file.write("\n\nCHANGED = True\n")
    with pytest.raises(ValueError, match="was begun with other settings: the file of planted:method; choose another"):
        experiments.run(sweep, tmp_path / "folder", allow_code=True)
    with pytest.raises(ValueError, match="methods: the file of planted:method is not the one that was allowed"):
        allowed.find("planted:method", "methods")  # as a worker does
    assert not trace.exists()


def test_a_folder_of_before_files_were_recorded_is_read_and_goes_on(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "folder")
    path = tmp_path / "folder" / "settings.json"
    settings = json.loads(path.read_text())
    recorded = settings.pop("code")
    path.write_text(json.dumps(settings))
    assert experiments.status(tmp_path / "folder").to_do == []
    sweeps.same(sweeps.rows(tmp_path / "folder"), sweeps.rows(finished))
    assert sweeps.run(sweeps.small(), tmp_path / "folder").to_do == []
    assert json.loads(path.read_text())["code"] == recorded


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("planted:stop", "models: planted:stop: SystemExit: 0"),
        ("planted:stumble", "models: planted:stumble: KeyError: 'a key'"),
        ("sys:exit", "cannot find a file of the module sys, for sys:exit"),
    ],
)
def test_mistakes_of_such_functions_are_errors_that_name_them(name, message, trace, tmp_path):
    with pytest.raises(ValueError, match=message):
        experiments.run(sweeps.small(models=name), tmp_path / "folder", allow_code=True)


def test_a_package_is_not_imported_to_find_a_module_in_it(trace, tmp_path):
    package = tmp_path / "modules" / "parcel"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(trace)!r}, 'w')")
    (package / "inner.py").write_text("")
    assert Code.allow(["parcel.inner:f"]).files == (("parcel.inner:f", hashlib.sha256(b"").hexdigest()),)
    for name in ("parcel.none:f", "parcel.inner.deeper:f"):
        with pytest.raises(ValueError, match="cannot find a file of the module"):
            Code.allow([name])
    assert not trace.exists()
