"""Folders of the reader's own: where they are, and how what is in them is labelled."""

from pathlib import Path

import pytest
from pictures import RED, save

from fragile_utils import data


def test_imagenet_folder_reads_flat_files_and_class_folders(tmp_path):
    save(tmp_path / "0001_n01443537_goldfish.JPEG", RED)
    save(tmp_path / "n02123045" / "x.jpg", RED)
    batch = data.imagenet_folder(tmp_path, size=20)
    assert batch.labels.tolist() == [1, 281]
    assert batch.images.shape == (2, 3, 20, 20)


def test_class_folders_take_the_order_of_the_classes(tmp_path, monkeypatch):
    for name in ("roses", "sunflowers", "tulips"):
        save(tmp_path / "flower_photos" / name / "1.png", RED)
    monkeypatch.setenv("FRAGILE_DATA", str(tmp_path))
    batch = data.class_folders("flower_photos", ("sunflowers", "roses"), size=8)
    assert batch.label_names == ("sunflowers", "roses")
    assert data.class_folders(tmp_path / "flower_photos").classes == ("roses", "sunflowers", "tulips")


def test_cifar10_folder_and_limit(tmp_path):
    for name in data.CIFAR10_CLASSES:
        for i in range(3):
            save(tmp_path / "cifar10" / "test" / name / f"{i}.png", RED)
    assert data.cifar10_folder("test", tmp_path, limit=10).labels.tolist() == list(range(10))


def test_what_macos_leaves_beside_images_is_no_image(tmp_path):
    save(tmp_path / "a.png", RED)
    (tmp_path / "._a.png").write_bytes(b"attributes")
    assert data.load(tmp_path, size=8).names == ("a.png",)


def test_a_photograph_that_cannot_be_read_is_not_left_out(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name, RED)
    (tmp_path / "b.HEIF").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"cannot read .*b\.HEIF as an image: it is HEIC, .* or leave it out"):
        data.load(tmp_path, size=8, limit=1)


def test_the_cache_is_the_users(monkeypatch):
    monkeypatch.delenv("FRAGILE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert data.cache_folder() == Path("/x/fragile_utils")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.cache_folder() == Path.home() / ".cache" / "fragile_utils"


BAD = {
    "empty folder": (lambda folder: data.imagenet_folder(folder / "empty"), "no images in"),
    "missing folder": (lambda folder: data.imagenet_folder(folder / "none"), "no such folder"),
    "no data folder": (lambda folder: data.imagenet_folder(), "FRAGILE_DATA"),
    "no class in the name": (lambda folder: data.imagenet_folder(folder / "plain"), "WordNet id"),
    "missing class": (lambda folder: data.class_folders(folder, ["roses"]), "missing: roses"),
    "split": (lambda folder: data.cifar10_folder("valid", folder), "'train' or 'test'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(wrong, case):
    action, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        action(wrong)
