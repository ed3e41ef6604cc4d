import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fragile_utils import data
from fragile_utils.data import flower_photos
from fragile_utils.data.samples import packaged

RED = np.zeros((40, 60, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def test_imagenet_samples_are_20_labelled_images(samples):
    assert samples.images.shape == (20, 3, 227, 227)
    assert samples.images.dtype == torch.float32
    assert samples.images.min() >= 0
    assert samples.images.max() <= 1
    assert samples.names[1] == "imagenet_01_559.jpg"
    assert samples.label_names[1] == "folding chair"


def test_cifar10_samples_are_the_pixels_of_the_files():
    batch = data.cifar10_samples()
    assert batch.images.shape == (20, 3, 32, 32)
    path, match = packaged("foolbox", r"data/cifar10_\d\d_(\d)\.png")[3]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal((batch.images[3] * 255).round().numpy().transpose(1, 2, 0), pixels)
    assert batch.labels[3] == int(match[1])


def test_mnist_samples_are_500_of_each_digit():
    batch = data.mnist_samples()
    assert batch.images.shape == (5000, 3, 28, 28)
    assert torch.bincount(batch.labels).tolist() == [500] * 10
    assert torch.equal(batch.images[:, 0], batch.images[:, 2])
    assert batch.images.max() == 1


def test_imagenet_wnids_are_in_the_order_of_the_class_index():
    wnids, classes = data.imagenet_wnids(), data.imagenet_classes()
    assert len(wnids) == len(classes) == 1000
    known = {"n01440764": "tench", "n02123045": "tabby", "n03769881": "minibus", "n15075141": "toilet tissue"}
    assert {wnid: classes[wnids[wnid]] for wnid in known} == known


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        *[(2, [2]), (slice(1, 3), [1, 2]), ([4, 0], [4, 0]), (torch.tensor([True] + [False] * 4), [0]), (-1, [4])],
        *[(np.int64(3), [3]), (torch.tensor(3), [3])],
    ],
    ids=["number", "slice", "list", "mask", "from the end", "NumPy's number", "a tensor's number"],
)
def test_batch_indexing_keeps_images_labels_and_names_together(index, expected):
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 2, 2) / 5
    part = data.Batch(images, torch.arange(5), names=tuple("abcde"))[index]
    assert part.labels.tolist() == expected
    assert part.names == tuple("abcde"[i] for i in expected)
    assert torch.equal(part.images, images[expected])


def test_correct_keeps_what_the_model_gets_right(tiny, tiny_batch):
    images, predicted = tiny_batch
    labels = predicted.clone()
    labels[1] = (labels[1] + 1) % 5
    labels[4] = data.UNKNOWN
    batch = data.Batch(images, labels)
    assert batch.correct(tiny).names == ("image 0", "image 2", "image 3", "image 5")
    assert torch.equal(batch.labelled_by(tiny).labels, torch.where(torch.arange(6) == 1, labels, predicted))


def test_a_batch_without_correct_images_is_empty(tiny, tiny_batch):
    images, predicted = tiny_batch
    assert len(data.Batch(images, (predicted + 1) % 5).correct(tiny)) == 0


def test_to_moves_everything(tiny_batch):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved = data.Batch(*tiny_batch).to(device)
    assert moved.images.device.type == moved.labels.device.type == device
    assert torch.equal(moved.images.cpu(), tiny_batch[0])


# --- Reading files ---------------------------------------------------------------------------------------------------


def as_mode(mode):
    return np.asarray(Image.fromarray(RED).convert(mode))


MODES = {
    "RGB": (RED, "png", (1, 0, 0)),
    "grey": (as_mode("L"), "png", (0.298,) * 3),
    "palette": (None, "gif", (1, 0, 0)),
    "CMYK": (None, "jpg", (1, 0, 0)),
    "transparent": (np.dstack([RED, np.zeros((40, 60), np.uint8)]), "png", (1, 1, 1)),
    "16-bit grey": (np.full((40, 60), 32768, np.uint16), "png", (0.5,) * 3),
    "float": (np.full((40, 60), 0.25, np.float32), "tiff", (0.25,) * 3),
}


@pytest.mark.parametrize("mode", MODES)
def test_images_of_any_mode_are_read_as_rgb(tmp_path, mode):
    array, suffix, colour = MODES[mode]
    image = (
        Image.fromarray(array)
        if array is not None
        else Image.fromarray(RED).convert({"gif": "P", "jpg": "CMYK"}[suffix])
    )
    path = tmp_path / f"x.{suffix}"
    image.save(path)
    got = data.read_image(path, 16)
    assert got.shape == (3, 16, 16)
    torch.testing.assert_close(got.mean(dim=(1, 2)), torch.tensor(colour).float(), atol=0.01, rtol=0)


def test_crop_cuts_the_centre_and_stretch_keeps_all(tmp_path):
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255  # white in the middle third
    path = save(tmp_path / "x.png", stripes)
    assert data.read_image(path, 10, "crop").mean() == 1
    assert data.read_image(path, 10, "stretch").mean() == pytest.approx(1 / 3, abs=0.01)


def test_the_camera_orientation_is_applied(tmp_path):
    top_is_white = np.zeros((20, 20), np.uint8)
    top_is_white[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = save(tmp_path / "x.png", top_is_white, exif=exif)
    assert data.read_image(path)[:, :10].mean() == 0


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


def test_load_labels_what_it_can(tmp_path):
    save(tmp_path / "a.png", RED)
    assert data.load(tmp_path, size=8).labels.tolist() == [data.UNKNOWN]
    assert data.load(tmp_path / "a.png", size=8).label_names == ("unknown",)
    save(tmp_path / "wn" / "0001_n01443537_goldfish.png", RED)
    assert data.load(tmp_path / "wn", size=8).label_names == ("goldfish",)
    assert len(data.load("cifar10-samples", limit=3)) == 3
    assert data.load("cifar10-samples").images.shape[-2:] == (32, 32)


def test_load_brings_the_imagenet_samples_to_a_size():
    small = data.load("imagenet-samples", size=64)
    assert torch.equal(small.images, data.imagenet_samples(64).images)
    assert data.load("imagenet-samples", size=None, limit=1).images.shape == (1, 3, 227, 227)


def test_what_macos_leaves_beside_images_is_no_image(tmp_path):
    save(tmp_path / "a.png", RED)
    (tmp_path / "._a.png").write_bytes(b"attributes")
    assert data.load(tmp_path, size=8).names == ("a.png",)


BAD = {
    "missing file": (lambda folder: data.read_image(folder / "none.png"), "no such file"),
    "not an image": (lambda folder: data.read_image(folder / "text.png"), "cannot read .*text.png as an image"),
    "cut short": (lambda folder: data.read_image(folder / "short.png"), "cannot read .*short.png as an image"),
    "NaN pixels": (lambda folder: data.read_image(folder / "nan.tiff"), "not finite"),
    "empty folder": (lambda folder: data.imagenet_folder(folder / "empty"), "no images in"),
    "missing folder": (lambda folder: data.imagenet_folder(folder / "none"), "no such folder"),
    "no data folder": (lambda folder: data.imagenet_folder(), "FRAGILE_DATA"),
    "no class in the name": (lambda folder: data.imagenet_folder(folder / "plain"), "WordNet id"),
    "missing class": (lambda folder: data.class_folders(folder, ["roses"]), "missing: roses"),
    "unknown source": (lambda folder: data.load(folder / "none"), "embedded samples are imagenet-samples"),
    "size 0": (lambda folder: data.read_image(folder / "plain/a.png", 0), "size: expected a whole number"),
    "fit": (lambda folder: data.read_image(folder / "plain/a.png", 4, "squash"), "'crop' or 'stretch'"),
    "split": (lambda folder: data.cifar10_folder("valid", folder), "'train' or 'test'"),
    "sizes differ": (lambda folder: data.load(folder / "mixed", size=None), "images of one size"),
    "too few labels": (lambda folder: data.Batch(torch.rand(2, 3, 4, 4), torch.tensor([0])), r"shape \(2,\)"),
    "package missing": (lambda folder: packaged("no-such-package", "x"), "pip install no-such-package"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(tmp_path, monkeypatch, case):
    monkeypatch.delenv("FRAGILE_DATA", raising=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("not an image")
    save(tmp_path / "plain" / "a.png", RED)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = save(tmp_path / "mixed" / "b.png", noise).read_bytes()
    save(tmp_path / "mixed" / "c.png", RED)
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    action, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        action(tmp_path)


# --- Flower photos ---------------------------------------------------------------------------------------------------


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
    class Fake:
        calls = 0

        def fetch(self, target, progress):
            self.calls += 1
            target.parent.mkdir()
            folder = photos(tmp_path / "flower_photos")
            (folder / "LICENSE.txt").write_text("CC BY")
            with tarfile.open(target, "w:gz") as tar:
                tar.add(folder, "flower_photos")
            return target

    monkeypatch.setattr(flower_photos, "FLOWER_PHOTOS", fake := Fake())
    for _ in range(2):
        assert len(data.flowers(size=16, download=True)) == 6
    assert fake.calls == 1
    assert [path.name for path in cache.iterdir()] == ["flower_photos"]
    assert sorted(path.name for path in (cache / "flower_photos").iterdir()) == ["LICENSE.txt", "roses", "sunflowers"]


def test_the_flower_photos_are_the_file_that_tensorflow_datasets_expects():
    """Size and SHA-256 as in tensorflow_datasets/url_checksums/tf_flowers.txt (commit 333639b)."""
    assert flower_photos.FLOWER_PHOTOS.size == 228813984
    assert flower_photos.FLOWER_PHOTOS.sha256 == "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"


def test_the_cache_is_the_users(monkeypatch):
    monkeypatch.delenv("FRAGILE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert data.cache_folder() == Path("/x/fragile_utils")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.cache_folder() == Path.home() / ".cache" / "fragile_utils"


def test_split_deals_out_every_image_once(tiny_batch):
    batch = data.Batch(*tiny_batch)
    first, rest = batch.split(4, seed=1)
    assert sorted(first.names + rest.names) == sorted(batch.names)
    assert (len(first), len(rest)) == (4, 2)
    assert batch.split(4, seed=1)[0].names == first.names != batch.split(4, seed=2)[0].names
    with pytest.raises(ValueError, match="first: expected a whole number from 1 to 6, got 7"):
        batch.split(7)


def test_results_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"name: expected one of .*got 'nonsense'"):
        data.results("nonsense")


def test_the_flower_results_are_there_with_their_settings():
    about, table = data.results("influence_flowers")
    assert about["task"]["accuracy"] >= 0.96
    assert about["settings"]["train"] == 1000
    counts = table.groupby(["attack", "eps"]).image.nunique()
    assert set(counts) == {200}
    assert len(counts) == len(about["settings"]["attacks"]) * len(about["settings"]["eps"])
    kept = table[table.success]
    assert (kept.label == kept.label_after).all()
    assert (kept.linf <= kept.eps).all()
    example, influences = data.results("influence_flowers_example")
    assert example["settings"] == about["settings"]
    assert len(influences) == 1000
