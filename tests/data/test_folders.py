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


@pytest.mark.parametrize("ending", ["DNG", "nef", "jxl"])
def test_what_only_other_programs_read_is_named(tmp_path, ending):
    save(tmp_path / "a.png", RED)
    (tmp_path / f"b.{ending}").write_bytes(b"II*\0anything")
    with pytest.raises(
        ValueError, match=rf"b\.{ending} as an image: files ending in \.{ending.lower()} are not read he"
    ):
        data.load(tmp_path, size=8)


def test_a_jpeg_is_read_whatever_its_ending(tmp_path):
    for name in ("a.jpg", "b.JFIF", "c.jpe"):
        save(tmp_path / name, RED, format="jpeg")
    batch = data.load(tmp_path)
    assert batch.names == ("a.jpg", "b.JFIF", "c.jpe")
    assert (batch.images == batch.images[0]).all()


@pytest.mark.parametrize("name", ["b.avif", "b.jp2"])
def test_what_not_every_pillow_reads_is_read_or_named(tmp_path, name):
    save(tmp_path / "a.png", RED)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ValueError, match=rf"cannot read .*{name} as an image"):
        data.load(tmp_path)


@pytest.fixture
def linked(tmp_path):
    """A folder with a folder in it, a link to another one, and links that lead round in circles."""
    for place in ("pictures/n02123045/c.png", "elsewhere/n01443537/d.png", "elsewhere/deep/n01440764/e.png"):
        save(tmp_path / place, RED)
    links = {"a_cats": "n02123045", "b_round": ".", "n01443537": "../elsewhere/n01443537", "z_more": "../elsewhere"}
    try:
        for name, to in links.items():
            (tmp_path / "pictures" / name).symlink_to(to, target_is_directory=True)
        (tmp_path / "elsewhere" / "back").symlink_to("../pictures", target_is_directory=True)
    except OSError:
        pytest.skip("this file system has no links")
    return tmp_path / "pictures"


def test_linked_folders_are_read_each_folder_once(linked):
    batch = data.imagenet_folder(linked, size=8)
    places = ["n01443537/d.png", "n02123045/c.png", "z_more/deep/n01440764/e.png"]
    assert [path.relative_to(linked).as_posix() for path in data.image_files(linked)] == places
    assert batch.labels.tolist() == [1, 281, 0]


def test_a_linked_folder_of_a_class_is_one(linked):
    batch = data.class_folders(linked, ["n02123045", "n01443537"], size=8)
    assert batch.labels.tolist() == [0, 1]


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
