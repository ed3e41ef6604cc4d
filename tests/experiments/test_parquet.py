"""Tables on disk: whole or not there, and refused when they are damaged."""

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fragile_utils.experiments import _parquet

TABLE = pd.DataFrame(
    {
        "name": ["a.png", "b.png", "c.png"],
        "index": [4, 5, 6],
        "success": [True, False, True],
        "reason": ["", "no iterate kept the label", ""],
        "value": [0.1, np.nan, 1 / 3],
    }
)
KEYS = TABLE[["name", "index"]]
ABOUT = {"seconds": 1.25, "device": "cpu", "versions": {"torch": "2"}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "size=3" / "shard.parquet"  # a folder that looks like a partition
    _parquet.write(path, TABLE, ABOUT)
    return path


def test_what_is_written_is_what_is_read(path):
    table, about = _parquet.read(path, KEYS)
    pd.testing.assert_frame_equal(table, TABLE, check_exact=True)
    assert about == ABOUT
    pd.testing.assert_frame_equal(pd.read_parquet(path, partitioning=None), TABLE, check_exact=True)


def test_a_missing_file_is_not_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        _parquet.read(tmp_path / "none.parquet", KEYS)


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(share, path):
    contents = path.read_bytes()
    path.write_bytes(contents[: int(share * len(contents))])
    with pytest.raises(_parquet.Damaged, match="cannot be read"):
        _parquet.read(path, KEYS)


@settings(deadline=None, max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255))
def test_no_altered_byte_alters_a_result(place, flipped, tmp_path_factory):
    path = tmp_path_factory.mktemp("altered") / "shard.parquet"
    _parquet.write(path, TABLE, ABOUT)
    contents = bytearray(path.read_bytes())
    contents[int(place * len(contents))] ^= flipped
    path.write_bytes(contents)
    try:
        table, about = _parquet.read(path, KEYS)
    except _parquet.Damaged:
        return
    pd.testing.assert_frame_equal(table, TABLE, check_exact=True)
    assert about == ABOUT


@pytest.mark.parametrize(
    ("name", "kind"),
    [("name", pa.binary()), ("index", pa.uint8()), ("index", pa.int32()), ("index", pa.duration("s"))],
)
def test_a_column_of_another_type_is_refused(name, kind, path):
    contents = pq.ParquetFile(path).read()
    at = contents.schema.get_field_index(name)
    assert contents.schema.field(at).type != kind
    altered = contents.set_column(at, name, contents[name].cast(kind))
    pq.write_table(altered.replace_schema_metadata(contents.schema.metadata), path)
    with pytest.raises(_parquet.Damaged, match=r"bytes|timedelta|its checksum is not that of its contents"):
        _parquet.read(path, KEYS)


OTHERS = {
    "other names": (KEYS.assign(name=["a.png", "b.png", "d.png"]), "its 'name' is that of other rows"),
    "another order": (KEYS[::-1], "its 'name' is that of other rows"),
    "fewer rows": (KEYS[:2], "it has 3 rows, not 2"),
    "no such column": (KEYS.assign(eps=8.0), "its 'eps' is that of other rows"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_file_with_other_rows_is_refused(case, path):
    keys, message = OTHERS[case]
    with pytest.raises(_parquet.Damaged, match=message):
        _parquet.read(path, keys)


def test_a_parquet_file_of_someone_else_is_refused(path):
    TABLE.to_parquet(path)
    with pytest.raises(_parquet.Damaged, match="cannot be read"):
        _parquet.read(path, KEYS)


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open"])
def test_a_full_disk_is_reported_and_leaves_what_was_there(call, path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(call, full)
    with pytest.raises(ValueError, match=r"cannot write .*shard.parquet: No space left on device; free some"):
        _parquet.write(path, TABLE[:1], ABOUT)
    monkeypatch.undo()
    assert [entry.name for entry in path.parent.iterdir()] == ["shard.parquet"]
    pd.testing.assert_frame_equal(_parquet.read(path, KEYS)[0], TABLE)


def test_an_interrupt_while_writing_leaves_nothing_half_done(path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _parquet.write(path, TABLE[:1], ABOUT)
    assert [entry.name for entry in path.parent.iterdir()] == ["shard.parquet"]
