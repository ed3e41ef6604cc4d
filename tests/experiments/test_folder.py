"""The folder of a sweep: begun with other settings, damaged, half done."""

import logging

import pytest
import sweeps
from sweeps import files, same

from fragile_utils import experiments

# --- Other settings --------------------------------------------------------------------------------------------------


def test_a_folder_with_other_settings_is_refused_by_name(finished):
    with pytest.raises(ValueError, match=r"begun with other settings: steps 3 \(now 4\); k 20 \(now 10\); choose"):
        sweeps.run(sweeps.small(steps=4, k=10), finished)
    with pytest.raises(ValueError, match=r"begun with other settings: shard_size 3 \(now 4\)"):
        sweeps.run(sweeps.small(), finished, shard_size=4)


def test_settings_without_results_may_be_corrected(tmp_path):
    with pytest.raises(ValueError, match="k: expected a whole number from 1 to 256, got 1000"):
        sweeps.run(sweeps.small(k=1000), tmp_path)
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
