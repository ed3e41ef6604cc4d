"""Files that are whole or not there."""

import errno
import os
import re
import time
from pathlib import Path

import pytest

from fragile_utils._base import files


def test_what_killed_processes_left_behind_is_removed_and_what_is_being_written_is_not(tmp_path):
    old, new, other = (tmp_path / name for name in (".a.parquet.1.part", ".b.parquet.2.part", "c.part"))
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (time.time() - 2 * files.LEFT_BEHIND,) * 2)
    files.sweep_up(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {new.name, other.name}


def test_a_folder_that_was_left_behind_is_removed_too(tmp_path):
    (tmp_path / ".x.part").mkdir()
    (tmp_path / ".x.part" / "file").write_bytes(b"")
    os.utime(tmp_path / ".x.part", (0, 0))
    files.sweep_up(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.txt", "x" * 250 + ".txt", "b/c/a.txt"])
def test_a_file_is_written_whole(name, tmp_path):
    path = tmp_path / name
    files.write_bytes(path, b"first")
    files.write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def fill(path, error):
    with files.whole_file(path) as file:
        file.write(b"half")
        raise error


def fill_folder(path, error):
    with files.whole_folder(path) as folder:
        (folder / "half").write_bytes(b"")
        raise error


@pytest.mark.parametrize("write", [fill, fill_folder])
def test_what_goes_wrong_half_way_leaves_nothing_behind(write, tmp_path):
    full = OSError(errno.ENOSPC, "no room")
    with pytest.raises(ValueError, match=f"cannot write {tmp_path}/a: no room; free some and start again"):
        write(tmp_path / "a", full)
    with pytest.raises(KeyError, match="a key"):
        write(tmp_path / "a", KeyError("a key"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_in_a_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path, message in (
        (tmp_path / "file" / "a", "File exists|Not a directory"),
        (tmp_path / "folder", "Is a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(ValueError, match=f"cannot write {path}: ({message})"):
            files.write_bytes(path, b"")
    with pytest.raises(ValueError, match=f"cannot write to {tmp_path}/file/a: Not a directory"):
        files.make_folder(tmp_path / "file" / "a")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_no_other_module_writes_aside_by_hand():
    package = Path(files.__file__).parents[1]
    by_hand = re.compile(r"\.part[\"']|\.write_bytes\(|\.write_text\(|\.open\(\"[wxa]|os\.replace|NamedTemporaryFile")
    found = {str(p.relative_to(package)) for p in package.rglob("*.py") if by_hand.search(p.read_text("utf-8"))}
    filled = {"data/_downloads.py", "laboratory/folder.py"}  # they fill a folder that `files` renames
    assert found == {"_base/files.py"} | filled
