"""What a user names on the command line."""

import os

import pytest
import torch
from pictures import RED, save

from fragile_utils import data


def test_load_labels_what_it_can(tmp_path):
    save(tmp_path / "a.png", RED)
    assert data.load(tmp_path, size=8).labels.tolist() == [data.UNKNOWN]
    assert data.load(tmp_path / "a.png", size=8).label_names == ("unknown",)
    save(tmp_path / "wn" / "0001_n01443537_goldfish.png", RED)
    assert data.load(tmp_path / "wn", size=8).label_names == ("goldfish",)
    assert len(data.load("cifar10-samples", limit=3)) == 3
    assert data.load("cifar10-samples").images.shape[-2:] == (32, 32)


def test_a_part_of_the_samples_is_evenly_spread_over_them():
    """The digits are sorted: 500 of each."""
    assert data.load("mnist-samples", limit=100).labels.bincount(minlength=10).tolist() == [10] * 10
    every = data.load("imagenet-samples", size=8)
    assert data.load("imagenet-samples", size=8, limit=5).names == every.names[::4]
    assert data.load("imagenet-samples", size=8, limit=100).names == every.names
    with pytest.raises(ValueError, match="limit: expected a whole number at least 1, got 0"):
        data.load("cifar10-samples", limit=0)


def test_load_brings_the_imagenet_samples_to_a_size():
    small = data.load("imagenet-samples", size=64)
    assert torch.equal(small.images, data.imagenet_samples(64).images)
    assert data.load("imagenet-samples", size=None, limit=1).images.shape == (1, 3, 227, 227)


def test_an_unknown_source_is_refused_with_the_names_of_the_samples(tmp_path):
    with pytest.raises(ValueError, match="embedded samples are imagenet-samples"):
        data.load(tmp_path / "none")


BAD = {
    "nothing": (None, "source: expected a name or a path, got None"),
    "an empty name": ("", "source: expected a name or a path, got ''"),
    "a number": (3, "source: expected a name or a path, got 3"),
    "a home of nobody": ("~nobody-of-this-name/x", "source: there is no home folder for '~nobody-of-this-name/x'"),
    "a long name": ("x" * 5000, "cannot read 'xxx.*xxx': File name too long"),
    "a null character": ("a\0b", r"cannot read 'a\\x00b': embedded null byte"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_source_is_refused(case):
    source, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        data.load(source)


@pytest.mark.parametrize("place", [".", "inner"])
def test_a_folder_that_cannot_be_read_is_no_empty_one(place, tmp_path, monkeypatch):
    save(tmp_path / "inner" / "a.png", RED)
    scan = os.scandir

    def scandir(path):
        if os.path.samefile(path, tmp_path / place):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read all
    with pytest.raises(ValueError, match=f"cannot read {tmp_path}.*: Permission denied"):
        data.load(tmp_path)
