"""The photos of flowers: found where they are, downloaded once."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from pictures import RED, save

from fragile_utils import data
from fragile_utils.data import flower_photos
from fragile_utils.data._downloads import Download


def photos(folder):
    for i in range(3):
        save(folder / "roses" / f"{i}.jpg", RED)
        save(folder / "sunflowers" / f"{i}.jpg", np.roll(RED, 1, axis=2))
    save(folder / "tulips" / "0.jpg", RED)
    return folder


@pytest.mark.parametrize("place", ["root", "FRAGILE_DATA", "cache"])
def test_flowers_are_found_where_they_are(place, cache, tmp_path, monkeypatch):
    photos((cache if place == "cache" else tmp_path / "mine") / "flower_photos")
    if place == "FRAGILE_DATA":
        monkeypatch.setenv("FRAGILE_DATA", str(tmp_path / "mine"))
    batch = data.flowers(tmp_path / "mine" if place == "root" else None, size=16)
    assert batch.images.shape == (6, 3, 16, 16)
    assert batch.label_names == ("roses",) * 3 + ("sunflowers",) * 3


def test_a_folder_of_the_readers_own_comes_before_the_download(cache, tmp_path, monkeypatch):
    photos(cache / "flower_photos")
    monkeypatch.setenv("FRAGILE_DATA", str(photos(tmp_path / "mine" / "flower_photos").parent))
    (tmp_path / "mine" / "flower_photos" / "roses" / "0.jpg").unlink()
    assert len(data.flowers(size=16)) == 5


def test_flowers_are_not_downloaded_unless_asked_for(cache, monkeypatch):
    monkeypatch.setattr(flower_photos, "FLOWER_PHOTOS", None)
    with pytest.raises(ValueError, match=r"no flower photos in .*cache.*set FRAGILE_DATA, or .*download=True"):
        data.flowers()
    with pytest.raises(ValueError, match=r"no flower photos in .*tests.*"):
        data.flowers(Path(__file__).parent, download=True)


def test_flowers_are_downloaded_once(cache, tmp_path, monkeypatch):
    class Fake(Download):
        calls = 0

        def fetch(self, target, progress):
            Fake.calls += 1
            target.parent.mkdir()
            folder = photos(tmp_path / "flower_photos")
            (folder / "LICENSE.txt").write_text("CC BY")
            with tarfile.open(target, "w:gz") as tar:
                tar.add(folder, "flower_photos")
            return target

    monkeypatch.setattr(flower_photos, "FLOWER_PHOTOS", Fake("", "", 0))
    for _ in range(2):
        assert len(data.flowers(size=16, download=True)) == 6
    assert Fake.calls == 1
    assert [path.name for path in cache.iterdir()] == ["flower_photos"]
    assert sorted(path.name for path in (cache / "flower_photos").iterdir()) == ["LICENSE.txt", "roses", "sunflowers"]


def test_the_flower_photos_are_the_file_that_tensorflow_datasets_expects():
    """Size and SHA-256 as in tensorflow_datasets/url_checksums/tf_flowers.txt (commit 333639b)."""
    assert flower_photos.FLOWER_PHOTOS.size == 228813984
    assert flower_photos.FLOWER_PHOTOS.sha256 == "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"
