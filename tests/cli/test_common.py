"""What the commands share."""


def test_a_picture_that_cannot_be_written_leaves_nothing_half_done(fragile, tmp_path, monkeypatch):
    from pathlib import Path

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, err = fragile("attack", "--steps", 1, "--images", 1, "--out", tmp_path / "pictures")
    assert status == 2
    assert "No space left on device" in err
    assert list((tmp_path / "pictures").iterdir()) == []
