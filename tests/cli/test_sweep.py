"""`fragile sweep` as a user meets it: output, exit status, files."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import sweeps
from command_line import assert_refused

from fragile_utils import attacks


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(sweeps.small().to_dict()))
    return path


def test_a_sweep_is_run_resumed_and_looked_at(fragile, config, tmp_path):
    status, out, err = fragile(
        "sweep", config, "--allow-code", "--out", tmp_path / "out", "--shard-size", 4, "--batch-size", 3
    )
    assert (status, err) == (0, "")
    assert out.startswith(f"{tmp_path}/out: 16 of 16 shards done in ")
    shard = min((tmp_path / "out" / "shards").iterdir())
    shard.write_bytes(b"PAR1")

    status, out, _ = fragile("sweep", "--status", tmp_path / "out")
    assert status == 0
    assert "15 of 16 shards done" in out
    assert f"{shard.name} is damaged: it cannot be read" in out
    status, out, _ = fragile("sweep", "--status", tmp_path / "out", "--json")
    facts = json.loads(out)
    assert {name: facts[name] for name in ("done", "damaged", "shards")} == {"done": 15, "damaged": 1, "shards": 16}
    assert facts["seconds_left"] > 0

    status, out, err = fragile("sweep", config, "--allow-code", "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith(f"fragile: {shard} is damaged and computed again")
    assert "16 of 16 shards done" in out


def test_it_is_silent_but_for_one_line_and_verbose_when_asked(fragile, config, tmp_path):
    status, out, err = fragile("sweep", config, "--allow-code", "--out", tmp_path / "out", "--verbose", "--json")
    assert status == 0
    assert [line.split(":")[1].strip() for line in err.splitlines()] == [f"{i} of 8" for i in range(1, 9)]
    assert json.loads(out)["done"] == 8


def test_a_network_of_ones_own_is_found_in_the_current_folder(fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    (tmp_path / "my_networks.py").write_text("import sweeps\n\ndef mine():\n    return sweeps.network()\n")
    (tmp_path / "sweep.json").write_text(
        json.dumps(sweeps.small(methods="gradient").to_dict() | {"models": "my_networks:mine"})
    )
    assert fragile("sweep", "sweep.json", "--allow-code", "--out", "out")[0] == 0


def test_the_current_folder_is_no_place_for_code_unless_it_is_allowed(fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    (tmp_path / "my_other_networks.py").write_text("raise SystemExit(0)")
    (tmp_path / "sweep.json").write_text(json.dumps(sweeps.small(models="my_other_networks:mine").to_dict()))
    outcome = fragile("sweep", "sweep.json", "--out", "out")
    assert_refused(
        outcome,
        "fragile: error: my_other_networks:mine is code of your own, which is imported only with allow_code=True "
        "(on the command line --allow-code)\n",
    )
    assert str(tmp_path) not in sys.path
    outcome = fragile("sweep", "sweep.json", "--allow-code", "--out", "out")
    assert_refused(outcome, "models: cannot import my_other_networks:mine: SystemExit: 0")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_130_and_finished_shards_stay(number, fragile, config, tmp_path, monkeypatch):
    run, calls = attacks.run, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), number)
        return run(*arguments, **options)

    monkeypatch.setattr(attacks, "run", interrupted)
    status, out, err = fragile("sweep", config, "--allow-code", "--out", tmp_path / "out", "--shard-size", 4)
    assert (status, out) == (130, "")
    assert err == f"fragile: stopped; finished shards are in {tmp_path}/out, and the same command goes on\n"
    assert len([*(tmp_path / "out" / "shards").iterdir()]) == 4


BAD = {
    "nothing": ([], "expected CONFIG and --out FOLDER, or --status FOLDER"),
    "no folder": (["sweep.json"], "expected CONFIG and --out FOLDER"),
    "no such file": (["none.json", "--out", "out"], "cannot read none.json: No such file or directory"),
    "both": (["sweep.json", "--status", "empty"], "CONFIG: this does not apply where --status is given; leave it out"),
    "two folders": (["--status", "empty", "--out", "out"], "--out: this does not apply where --status is given"),
    "shards of what is": (["--status", "empty", "--shard-size", 7], "--shard-size: this does not apply where --status"),
    "code that is not called": (["--status", "empty", "--allow-code"], "--allow-code: this does not apply where"),
    "trust in nothing": (["--status", "empty", "--trust"], "--trust: this does not apply where --status is given"),
    "no sweep there": (["--status", "empty"], "empty: expected the folder of a sweep, with settings.json"),
    "a file": (["sweep.json", "--out", "sweep.json"], "--out: expected a folder, got the file sweep.json"),
    "an unknown field": (["wrong.json", "--out", "out"], "wrong.json: sweep: unknown 'step'"),
    "batches of none": (["sweep.json", "--out", "out", "--batch-size", 0], "--batch-size: expected a whole number"),
    "shards of -1": (["sweep.json", "--out", "out", "--shard-size", -1], "--shard-size: expected a whole number"),
    "shards of none": (["sweep.json", "--out", "out", "--shard-size", 0], "--shard-size: expected a whole number"),
    "no scheduler": (["sweep.json", "--out", "out", "--scheduler", "x"], "scheduler: expected an address such as"),
    "no device": (["sweep.json", "--out", "out", "--device", "abacus"], "--device: 'abacus' is not available here"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_clear_line_and_exit_status_2(case, fragile, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.json").write_text(json.dumps(sweeps.small().to_dict() | {"step": 3}))
    arguments, message = BAD[case]
    assert_refused(fragile("sweep", *arguments), message)
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused_by_name(fragile, folder, tmp_path):
    config = tmp_path / "sweep.json"
    config.write_text(json.dumps(sweeps.small(budgets=[4, 8]).to_dict()))
    outcome = fragile("sweep", config, "--allow-code", "--out", folder)
    assert_refused(
        outcome, "was begun with other settings: budgets [4.0, 16.0] (now [4.0, 8.0]); choose another folder"
    )


def test_a_complete_folder_of_other_images_is_refused_and_read_all_the_same(fragile, folder, tmp_path, monkeypatch):
    config = tmp_path / "sweep.json"
    config.write_text(json.dumps(sweeps.small().to_dict()))
    monkeypatch.setattr(sweeps, "many_images", sweeps.images)
    outcome = fragile("sweep", config, "--allow-code", "--out", folder)
    assert_refused(outcome, "data: sweeps:many_images has other images than when the sweep began")
    assert fragile("sweep", "--status", folder)[0] == 0
    assert fragile("report", folder, "--out", tmp_path / "report")[0] == 0


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_on_local_processes_quietly(tmp_path, config):
    """As a terminal sends it: to every process of the group."""
    config.write_text(json.dumps(sweeps.small(images=24, steps=200).to_dict()))
    command = [sys.executable, "-m", "fragile_utils", "sweep", config, "--allow-code", "--out", tmp_path / "out"]
    command += ["--shard-size", "3"]
    process = subprocess.Popen(
        [*map(str, command), "--scheduler", "local:2"],
        env=os.environ | {"PYTHONPATH": sweeps.PYTHONPATH},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    timer = threading.Timer(200, process.kill)
    timer.start()
    while not [*tmp_path.glob("out/shards/[0-9]*")]:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    timer.cancel()
    said = f"fragile: stopped; finished shards are in {tmp_path}/out, and the same command goes on\n"
    assert (process.returncode, err) == (130, said)
    assert 0 < len([*tmp_path.glob("out/shards/[0-9]*")]) < 64
