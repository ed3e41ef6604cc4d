"""Downloads from a server on this machine: whole, cut short, of another content, missing; and archives."""

import hashlib
import io
import tarfile

import pytest

from fragile_utils.data._downloads import Download, unpack

CONTENT = bytes(range(256)) * 10_000  # more than one chunk
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(server, tmp_path):
    """The address of a server of one file, whole and cut short."""
    for name in ("file.bin", "cut.bin"):
        (tmp_path / "served" / name).write_bytes(CONTENT)
    return server


def test_a_file_is_fetched_whole(server, tmp_path):
    target = tmp_path / "new" / "cache" / "file.bin"
    assert Download(f"{server}/file.bin", SHA256, len(CONTENT)).fetch(target) == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_a_progress_bar_is_shown_when_asked_for(server, tmp_path, capsys):
    download = Download(f"{server}/file.bin", SHA256, len(CONTENT))
    download.fetch(tmp_path / "a")
    assert capsys.readouterr().err == ""
    download.fetch(tmp_path / "b", progress=True)
    assert "100%" in capsys.readouterr().err


BAD = {
    "another content": ("file.bin", "0" * 64, len(CONTENT), f"expected SHA-256 {'0' * 64}, got {SHA256}"),
    "shorter than expected": ("file.bin", SHA256, len(CONTENT) + 1, "expected 2,560,001 bytes, got 2,560,000"),
    "longer than expected": ("file.bin", SHA256, 10, "expected 10 bytes, got more"),
    "cut short": ("cut.bin", SHA256, len(CONTENT), "IncompleteRead|got 1,280,000"),
    "not there": ("none.bin", SHA256, len(CONTENT), "cannot download .*: .*File not found"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_the_file_leaves_nothing_behind(case, server, tmp_path):
    name, sha256, size, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Download(f"{server}/{name}", sha256, size).fetch(tmp_path / "cache" / "file.bin")
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_server_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="cannot download http://127"):
        Download("http://127.0.0.1:9/file.bin", SHA256, 1).fetch(tmp_path / "file.bin")


def test_a_target_that_cannot_be_written_is_a_clear_error(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*file\.bin: (Not a directory|File exists)"):
        Download(f"{server}/file.bin", SHA256, len(CONTENT)).fetch(tmp_path / "file" / "file.bin")


# --- Archives --------------------------------------------------------------------------------------------------------


def archive(path, files, links=()):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    return path


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_unpack_takes_what_is_wanted_and_nothing_else(tmp_path):
    files = {"top/a/1.jpg": b"1", "top/a/2.png": b"2", "top/b/3.jpg": b"3", "top/LICENSE.txt": b"CC"}
    tar = archive(tmp_path / "x.tgz", files)
    folder = unpack(tar, tmp_path / "out" / "photos", ["LICENSE.txt", "a/*.jpg"])
    assert written(folder) == ["LICENSE.txt", "a/1.jpg"]
    assert (folder / "a/1.jpg").read_bytes() == b"1"
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_nothing_is_written_outside_the_folder_and_no_link(tmp_path):
    files = {"top/a/1.jpg": b"1", "top/../../a/evil.jpg": b"x", "/a/a/evil.jpg": b"x"}
    tar = archive(tmp_path / "x.tgz", files, links=["top/a/link.jpg"])
    folder = unpack(tar, tmp_path / "out" / "photos", ["a/*.jpg"])
    assert written(tmp_path / "out") == ["photos/a/1.jpg"]
    assert [path.name for path in (folder / "a").iterdir()] == ["1.jpg"]


def test_a_broken_archive_and_one_without_the_files_leave_nothing_behind(tmp_path):
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(archive(tmp_path / "x.tgz", {"top/a/1.jpg": bytes(range(256)) * 99}).read_bytes()[:100])
    for path, message in ((broken, "cannot unpack"), (tmp_path / "x.tgz", r"expected files b/\*\.jpg in it")):
        with pytest.raises(ValueError, match=message):
            unpack(path, tmp_path / "out" / "photos", ["a/*.jpg", "b/*.jpg"])
        assert list((tmp_path / "out").iterdir()) == []
