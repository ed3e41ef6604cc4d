"""CIFAR-10 from the authors' binary files: read, preferred or not, downloaded from a server on this machine."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fragile_utils import data
from fragile_utils.data import cifar
from fragile_utils.data._downloads import Download


@pytest.fixture
def records():
    """Six files of ten records in the layout that the authors describe, by name, and what is in them."""
    generator = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    images = {name: generator.integers(256, size=(10, 3, 32, 32), dtype=np.uint8) for name in names}
    labels = {name: generator.integers(10, size=10) for name in names}
    files = {name: b"".join(bytes([labels[name][i]]) + images[name][i].tobytes() for i in range(10)) for name in names}
    return files, images, labels


def write_records(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.bin").write_bytes(content)
    return folder


@pytest.mark.parametrize("place", ["root", "FRAGILE_DATA", "cache"])
def test_cifar10_is_read_from_the_authors_files(place, records, cache, tmp_path, monkeypatch):
    files, images, labels = records
    write_records((cache if place == "cache" else tmp_path / "mine") / "cifar-10-batches-bin", files)
    if place == "FRAGILE_DATA":
        monkeypatch.setenv("FRAGILE_DATA", str(tmp_path / "mine"))
    root = tmp_path / "mine" if place == "root" else None
    test = data.cifar10("test", root)
    np.testing.assert_array_equal(test.images.numpy(), images["test_batch"].astype(np.float32) / 255)
    assert test.labels.tolist() == labels["test_batch"].tolist()
    assert test.classes == data.CIFAR10_CLASSES
    train = data.cifar10("train", root)
    assert len(train) == 50
    assert train.names[12] == "train image 12"
    np.testing.assert_array_equal(train.images[12].numpy(), images["data_batch_2"][2].astype(np.float32) / 255)
    assert data.cifar10("train", root, limit=5).names == train.names[::10]


def test_cifar10_as_image_files_comes_before_the_authors_files(records, cache, tmp_path, monkeypatch):
    write_records(tmp_path / "mine" / "cifar-10-batches-bin", records[0])
    for name in data.CIFAR10_CLASSES:
        path = tmp_path / "mine" / "cifar10" / "test" / name / "0.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (32, 32), "red").save(path)
    monkeypatch.setenv("FRAGILE_DATA", str(tmp_path / "mine"))
    assert data.cifar10().names == tuple(f"{name}/0.png" for name in data.CIFAR10_CLASSES)


def test_cifar10_is_not_downloaded_unless_asked_for(cache, monkeypatch):
    monkeypatch.setattr(cifar, "CIFAR10", None)
    with pytest.raises(ValueError, match=r"no cifar10 or .*cache.*set FRAGILE_DATA, or give download=True"):
        data.cifar10()
    with pytest.raises(ValueError, match=r"no cifar10 or .*tests.*"):
        data.cifar10("test", Path(__file__).parent, download=True)
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'valid'"):
        data.cifar10("valid")


def test_cifar10_is_downloaded_once(records, cache, tmp_path, server, monkeypatch):
    """From a server on this machine, through the package's own download, which checks size and SHA-256."""
    archive = tmp_path / "served" / "c.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        folder = write_records(tmp_path / "cifar-10-batches-bin", records[0])
        (folder / "readme.html").write_text("CIFAR-10")
        tar.add(folder, folder.name)
    content = archive.read_bytes()
    download = Download(f"{server}/c.tgz", hashlib.sha256(content).hexdigest(), len(content))
    monkeypatch.setattr(cifar, "CIFAR10", download)
    assert len(data.cifar10("train", download=True)) == 50
    archive.unlink()
    assert len(data.cifar10("test", download=True)) == 10
    assert [path.name for path in cache.iterdir()] == ["cifar-10-batches-bin"]
    assert len(list((cache / "cifar-10-batches-bin").iterdir())) == 6


def test_a_file_that_is_cut_short_is_refused(records, cache):
    files, *_ = records
    folder = write_records(cache / "cifar-10-batches-bin", files | {"test_batch": files["test_batch"][:-1]})
    with pytest.raises(ValueError, match=r"expected test files of records of 3,073 bytes"):
        data.cifar10("test")
    for path in folder.glob("data_batch_*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"expected train files"):
        data.cifar10("train")


def test_cifar10_is_the_file_that_tensorflow_datasets_expects():
    """Size and SHA-256 as in tensorflow_datasets/url_checksums/cifar10.txt."""
    assert cifar.CIFAR10.size == 170052171
    assert cifar.CIFAR10.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
