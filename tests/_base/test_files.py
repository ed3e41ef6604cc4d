"""Files that are whole or not there."""

import os
import time

from fragile_utils._base import files


def test_what_killed_processes_left_behind_is_removed_and_what_is_being_written_is_not(tmp_path):
    old, new, other = (tmp_path / name for name in (".a.parquet.1.part", ".b.parquet.2.part", "c.part"))
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (time.time() - 2 * files.LEFT_BEHIND,) * 2)
    files.sweep_up(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {new.name, other.name}
