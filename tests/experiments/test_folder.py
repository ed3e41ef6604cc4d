"""The folder of a sweep: begun with other settings, damaged, half done."""

import json
import logging

import pytest
import sweeps
from sweeps import files, same

from fragile_utils import experiments
from fragile_utils.experiments import _parquet

# --- Other settings --------------------------------------------------------------------------------------------------


def test_a_folder_with_other_settings_is_refused_by_name(finished):
    with pytest.raises(ValueError, match=r"begun with other settings: steps 3 \(now 4\); k 20 \(now 10\); choose"):
        sweeps.run(sweeps.small(steps=4, k=10), finished)
    with pytest.raises(ValueError, match=r"begun with other settings: shard_size 3 \(now 4\)"):
        sweeps.run(sweeps.small(), finished, shard_size=4)


def test_settings_without_results_may_be_corrected(tmp_path):
    with pytest.raises(ValueError, match="k: expected a whole number from 1 to 255, got 1000"):
        sweeps.run(sweeps.small(attacks={"name": "topk", "k": 1000}), tmp_path)
    assert (tmp_path / "settings.json").exists()
    assert sweeps.run(sweeps.small(), tmp_path).to_do == []
    assert experiments.status(tmp_path).plan.sweep == sweeps.small()


def test_a_remark_is_no_other_setting(finished):
    before = [path.stat().st_mtime_ns for path in files(finished)]
    assert sweeps.run(sweeps.small(about="a remark"), finished).to_do == []
    assert [path.stat().st_mtime_ns for path in files(finished)] == before


@pytest.mark.parametrize(
    ("text", "message"), [("{}", "not the settings of a sweep"), ("{", "not the settings of a sweep")]
)
def test_settings_that_are_none_are_refused(text, message, tmp_path):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        sweeps.run(sweeps.small(), tmp_path)
    with pytest.raises(ValueError, match=r"expected the folder of a sweep, with settings\.json"):
        experiments.status(tmp_path / "none")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="folder: expected a folder, got the file"):
        sweeps.run(sweeps.small(), tmp_path / "file")


# --- Damage ----------------------------------------------------------------------------------------------------------


def copy(source, target):
    (target / "shards").mkdir(parents=True)
    for path in source.rglob("*.*"):
        (target / path.relative_to(source)).write_bytes(path.read_bytes())


def test_damaged_shards_are_reported_left_out_and_computed_again(finished, tmp_path, caplog):
    folder = tmp_path / "copy"
    copy(finished, folder)
    cut, foreign, missing, *_ = files(folder)
    cut.write_bytes(cut.read_bytes()[:-100])
    foreign.write_bytes(files(folder)[-1].read_bytes())
    missing.unlink()
    state = experiments.status(folder)
    assert {shard.name for shard in state.damaged} == {cut.name, foreign.name}
    assert [shard.name for shard in state.missing] == [missing.name]
    with pytest.raises(ValueError, match=r"21 of 24 shards done in .*, 2 damaged; .* run the sweep again"):
        experiments.results(folder)
    _, table = experiments.results(folder, partial=True)
    assert len(table) == 8 * 7 - 3 - 3 - 1

    with caplog.at_level(logging.WARNING):
        sweeps.run(sweeps.small(), folder)
    assert [f"{cut.name} is damaged and computed again: it cannot be read" in text for text in caplog.messages] == [
        True,
        False,
    ]
    assert f"{foreign.name} is damaged and computed again: it has 1 rows, not 3" in caplog.messages[1]
    same(sweeps.rows(folder), sweeps.rows(finished))


def test_a_shard_of_another_sweep_is_damaged(finished, tmp_path):
    sweeps.run(sweeps.small(steps=1), tmp_path, shard_size=3)
    files(tmp_path)[0].write_bytes((finished / "shards" / files(tmp_path)[0].name).read_bytes())
    assert list(experiments.status(tmp_path).damaged.values()) == ["it belongs to another sweep"]


def test_a_folder_in_the_place_of_a_shard_stops_no_other(finished, tmp_path, caplog):
    folder = tmp_path / "copy"
    copy(finished, folder)
    first, second, *_ = files(folder)
    first.unlink()
    first.mkdir()
    second.unlink()
    state = sweeps.run(sweeps.small(), folder)
    assert caplog.messages == [f"{first} is left out: there is a folder in its place; remove it"]
    assert (len(state.done), [*state.damaged.values()]) == (23, ["there is a folder in its place; remove it"])
    assert [shard.name for shard in state.blocked] == [first.name]
    first.rmdir()
    sweeps.run(sweeps.small(), folder)
    same(sweeps.rows(folder), sweeps.rows(finished))


def test_a_shard_that_may_not_be_read_is_not_damaged(finished, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_parquet.pq, "ParquetFile", refuse)  # root may read all
    with pytest.raises(ValueError, match=rf"cannot read {files(finished)[0]}: Permission denied"):
        experiments.status(finished)


# --- Mangled settings ------------------------------------------------------------------------------------------------

MANGLED = {
    "a size in words": ({"shard_size": "x"}, "shard_size: expected a whole number from 1 to 1000000, got 'x'"),
    "shards of none": ({"shard_size": 0}, "shard_size: expected a whole number from 1 to 1000000, got 0"),
    "no subjects": ({"subjects": []}, "subjects: expected a list with at least one entry, got []"),
    "subjects by name": ({"subjects": {}}, "subjects: expected a list with at least one entry, got {}"),
    "too many subjects": ({"subjects": [{}, {}]}, "subjects: expected 1 entries, got 2"),
    "half a subject": ({"subjects": [{"model": "x"}]}, "subjects[0]: expected data, beta, read, right, rows, labels, "),
    "no sweep": ({"sweep": None}, "sweep: expected an object with its fields, got None"),
    "another sweep": ({"sweep": {"models": "x"}}, "sweep: expected data, methods, attacks, budgets"),
    "code in a list": ({"code": []}, "code: expected an object with its fields, got []"),
    "code without a name": ({"code": {"os": ""}}, "code: expected package.module:function, got 'os'"),
    "code without a file": ({"code": {"os:system": 3}}, "code: os:system: expected text, got 3"),
}
OF_A_SUBJECT = {
    "model": (3, "expected text, got 3"),
    "data": ("", "expected a name, got ''"),
    "beta": ("8", "expected a number above 0, got '8'"),
    "read": (0, "expected a whole number at least 1, got 0"),
    "right": (10**30, "expected a whole number from 1 to 40, got 10"),
    "rows": ([0, 1, 2, 3, 4, 5, 40], "expected a whole number from 0 to 39, got 40"),
    "labels": ([0], "expected 7 entries, got 1"),
    "names": (["a"] * 6 + [None], "expected text, got None"),
    "pixels": (None, "expected text, got None"),
    "parameters": ("x" * 5000, "expected at most 4,096 characters, got 5,000"),
}


@pytest.fixture
def mangle(finished, tmp_path):
    """Change settings, of the sweep or of its subject, and be refused in a line that names file and field."""

    def change(message, subject=None, **changes):
        settings = json.loads((finished / "settings.json").read_text())
        settings["subjects"][0] |= subject or {}
        settings |= changes
        path = tmp_path / "settings.json"
        path.write_text(json.dumps(settings))
        for read in (experiments.status, experiments.results, lambda folder: sweeps.run(sweeps.small(), folder)):
            with pytest.raises(ValueError, match="these are not the settings") as raised:
                read(tmp_path)
            assert str(raised.value).startswith(f"{path}: these are not the settings of a sweep: {message}")

    return change


@pytest.mark.parametrize("case", MANGLED)
def test_mangled_settings_are_refused_by_file_and_field(case, mangle):
    changes, message = MANGLED[case]
    mangle(message, **changes)


@pytest.mark.parametrize("field", OF_A_SUBJECT)
def test_a_mangled_subject_is_refused_by_file_and_field(field, mangle):
    value, message = OF_A_SUBJECT[field]
    mangle(f"subjects[0]: {field}: {message}", {field: value})


def test_a_subject_of_another_network_is_refused(mangle):
    mangle("subjects[0]: expected sweeps:network on sweeps:many_images, got x on sweeps:many_images", {"model": "x"})


def test_settings_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "settings.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"settings\.json: these are not the settings of a sweep: 'utf-8' codec"):
        experiments.status(tmp_path)
    (tmp_path / "folder" / "settings.json").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"cannot read .*settings\.json: Is a directory"):
        experiments.status(tmp_path / "folder")


# --- Large plans -----------------------------------------------------------------------------------------------------


def test_a_plan_of_too_many_shards_is_refused_before_it_is_made(finished, tmp_path):
    message = (
        r": expected at most 20 shards, got 24, of 3 images; a larger shard_size \(--shard-size\) makes fewer, and"
    )
    with pytest.raises(ValueError, match=f"{finished}{message}"):
        experiments.status(finished, max_cells=20)
    with pytest.raises(ValueError, match=f"{finished}{message}"):
        experiments.results(finished, max_cells=20)
    with pytest.raises(ValueError, match=f"{tmp_path}{message}"):
        sweeps.run(sweeps.small(), tmp_path, shard_size=3, max_cells=20)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="expected at most 7 cells, got 8"):
        sweeps.run(sweeps.small(), tmp_path, max_cells=7)


def test_the_name_of_a_shard_is_one_of_a_file(tmp_path):
    layers = [{"name": "grad-cam", "layer": "ü" * 150}, {"name": "grad-cam", "layer": "v" * 200}]
    sweep = sweeps.small(methods=layers)
    subject = experiments.Subject(*sweep.subjects[0], 1.0, 1, 1, (0,), (0,), ("a",), "0", "0")
    names = {shard.name for shard in experiments.SweepFolder(sweep, tmp_path, 1, (subject,)).shards}
    assert len(names) == 8
    assert max(len(name.encode()) for name in names) < 220


# --- What is said of it ----------------------------------------------------------------------------------------------


def test_the_estimate_knows_what_kind_of_shard_takes_how_long(finished):
    state = experiments.status(finished)
    seconds = {("gradient", "random-sign"): 1.0, ("gradient", "topk"): 5.0, ("integrated-gradients", "topk"): 20.0}
    done = {
        shard: {"seconds": seconds[shard.cell.method, shard.cell.attack] * len(shard)}
        for shard in state.plan.shards
        if (shard.cell.method, shard.cell.attack) in seconds and shard.cell.eps == 4
    }
    state = experiments.Status(state.plan, done, {}, ())
    # Of the kinds that were timed, the other budget; of random signs, which were not, both, at the method's mean.
    expected = 7 * (1 + 5 + 20) + 2 * 7 * 20
    assert state.estimate() == pytest.approx(expected)
    assert experiments.Status(state.plan, {}, {}, ()).estimate() is None
