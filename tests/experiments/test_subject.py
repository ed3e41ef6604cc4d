"""The images of a sweep: which they are, and that they are still the same."""

import json

import pytest
import sweeps
import torch
from PIL import Image
from sweeps import files
from torch import nn

from fragile_utils import data, experiments, models


def test_the_images_are_those_the_network_gets_right_evenly_spread():
    sweep = sweeps.small(data="sweeps:images", images=4)
    subject = experiments.Subject.choose(sweeps.parts(sweep), *sweep.subjects[0])
    right = [i for i in range(sweeps.COUNT) if i % 2]  # the others are labelled wrong
    assert (subject.read, subject.right) == (sweeps.COUNT, len(right))
    assert subject.rows == tuple(right[i] for i in (0, 1, 3, 4))
    assert subject.names == tuple(f"{i}.png" for i in subject.rows)
    model, batch = subject.load(sweeps.parts(sweep), "cpu")
    assert torch.equal(data.predict(model, batch.images), torch.tensor(subject.labels))
    assert torch.equal(batch.images, sweeps.images(None, "crop", None).images[list(subject.rows)])
    everything = sweeps.small(data="sweeps:images", images=None, candidates=7)
    assert experiments.Subject.choose(sweeps.parts(everything), *everything.subjects[0]).rows == (1, 3, 5)


def test_images_without_labels_are_explained_as_predicted(finished):
    predicted = data.predict(sweeps.network(), sweeps.many_images(None, "crop", None).images)
    assert experiments.SweepFolder.load(finished).subjects[0].labels == tuple(
        predicted[i * 40 // 7].item() for i in range(7)
    )


def test_a_top_of_all_pixels_is_an_error(tmp_path):
    """It is the same before and after, whatever became of the map."""
    with pytest.raises(ValueError, match="k: expected at most 255, less than the pixels of an image, got 256"):
        sweeps.run(sweeps.small(attacks="mass-center", k=256), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_few_right_images_are_an_error(tmp_path):
    sweep = sweeps.small(data="sweeps:images", images=7)
    with pytest.raises(ValueError, match="images: expected 7 that sweeps:network gets right, got 6 of the 12 read"):
        sweeps.run(sweep, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_images_of_other_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="data: cifar10-samples has other classes than squeezenet"):
        sweeps.run(sweeps.small(models="squeezenet", data="cifar10-samples"), tmp_path)


def test_images_of_another_number_of_classes_are_refused(tmp_path):
    """The network has five classes, without names."""
    with pytest.raises(ValueError, match="data: sweeps:images_of_ten_classes has other classes than sweeps:network"):
        sweeps.run(sweeps.small(data="sweeps:images_of_ten_classes"), tmp_path)


def test_a_network_in_training_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected evaluation mode"):
        sweeps.run(sweeps.small(models="sweeps:training_network"), tmp_path)


left = pytest.mark.parametrize("left", [0, 1], ids=["complete", "one shard missing"])


def remove(folder, shards):
    for path in files(folder)[:shards]:
        path.unlink()


@left
def test_another_network_under_the_same_name_is_refused(left, forget, tmp_path, monkeypatch):
    network = sweeps.plain_network()
    network.last.bias.data += 1e-6
    sweep = sweeps.small(models="sweeps:plain_network", methods="gradient")
    sweeps.run(sweep, tmp_path)
    remove(tmp_path, left)
    monkeypatch.setattr(sweeps, "plain_network", lambda: network)
    forget()
    with pytest.raises(ValueError, match="plain_network has other parameters than when the sweep began"):
        sweeps.run(sweep, tmp_path)


@left
@pytest.mark.parametrize("change", ["pixels", "names", "fewer"])
def test_other_images_under_the_same_name_are_refused(change, left, forget, tmp_path, monkeypatch):
    right = sweeps.images(None, "crop", None)
    pixels, names = right.images.clone(), right.names
    if change == "pixels":
        pixels[1, 0, 0, 0] = (pixels[1, 0, 0, 0] + 0.5) % 1
    elif change == "names":
        names = (*names[1:], names[0])
    other = data.Batch(pixels, right.labels, right.classes, names)[: 11 if change == "fewer" else None]
    sweep = sweeps.small(data="sweeps:images", images=3)
    sweeps.run(sweep, tmp_path)
    remove(tmp_path, left)
    monkeypatch.setattr(sweeps, "images", lambda **_: other)
    forget()
    with pytest.raises(ValueError, match="sweeps:images has other images than when the sweep began"):
        sweeps.run(sweep, tmp_path)


def test_what_is_finished_is_compared_where_another_network_goes_on(forget, tmp_path, monkeypatch):
    network = sweeps.plain_network()
    network.last.bias.data += 1e-6
    both = ["sweeps:network", "sweeps:plain_network"]
    sweep = sweeps.small(models=both, methods="gradient", attacks="random-sign", budgets=4)
    sweeps.run(sweep, tmp_path)
    files(tmp_path)[0].unlink()  # of the first
    monkeypatch.setattr(sweeps, "plain_network", lambda: network)
    forget()
    with pytest.raises(ValueError, match="plain_network has other parameters than when the sweep began"):
        sweeps.run(sweep, tmp_path)
    monkeypatch.undo()
    assert sweeps.run(sweep, tmp_path).to_do == []


def test_a_network_of_a_sweep_may_have_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    network = {"name": "sweeps:plain_network", "mean": [0.5] * 3, "std": [0.25] * 3, "size": 16, "classes": "names.txt"}
    sweep = sweeps.small(models=network, methods="gradient", attacks="random-sign", budgets=8)
    assert experiments.Sweep.from_json(sweep.to_json()) == sweep
    made = sweeps.parts(sweep).network("sweeps:plain_network")
    assert (made.classes, made.size, made.beta) == (tuple("abcde"), 16, 63.75)
    assert sweeps.run(sweep, tmp_path / "folder").to_do == []
    assert set(sweeps.rows(tmp_path / "folder")["model"]) == {"sweeps:plain_network"}
    with pytest.raises(ValueError, match="models: sweeps:plain_network: unknown option 'sizes'; expected some of mean"):
        sweeps.small(models=network | {"sizes": 3})
    with pytest.raises(ValueError, match=r"models: net\.onnx: ONNX|models: 'net\.onnx': ONNX"):
        sweeps.small(models="net.onnx")


def bent(activation):
    """A network whose weights are the same whatever bends it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    return nn.Sequential(*layers).eval()


@left
@pytest.mark.parametrize("kind", ["images", "weights"])
def test_what_is_not_there_any_more_is_an_error(kind, left, forget, tmp_path):
    images, weights = tmp_path / "images", tmp_path / "net.pt"
    images.mkdir()
    for i, image in enumerate(sweeps.many_images(None, "crop", None).images[:3]):
        pixels = image.mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(images / f"{i}.png")
    torch.save(bent(nn.ReLU()), weights)
    network = {"name": str(weights), "mean": [0.5] * 3, "std": [0.25] * 3, "size": 16}
    changes = {"images": 3, "methods": "gradient", "attacks": "random-sign"}
    sweep = sweeps.small(models=network, data=str(images), **changes)
    sweeps.run(sweep, tmp_path / "out", trust=True)
    remove(tmp_path / "out", left)
    gone = images if kind == "images" else weights
    gone.rename(tmp_path / "elsewhere")
    forget()
    with pytest.raises(ValueError, match=gone.name):
        sweeps.run(sweep, tmp_path / "out", trust=True)
    assert len(experiments.status(tmp_path / "out").missing) == left  # reading needs neither


@pytest.fixture(params=["a pickle", "a folder"])
def written(request, tmp_path, monkeypatch):
    """A sweep whose network is in a file or a folder, and a function that writes it bent by something."""
    options = {"mean": [0.5] * 3, "std": [0.25] * 3, "size": 16}
    pickle, settings = tmp_path / "net.pt", tmp_path / "saved" / "config.json"
    settings.parent.mkdir()

    def write(kind):
        torch.save(bent(kind()), pickle)
        settings.write_text(json.dumps(kind.__name__))

    def made(_, **how):  # as transformers does it: the weights are elsewhere
        return models.wrap(bent(getattr(nn, json.loads(settings.read_text()))()), **how)

    monkeypatch.setitem(models.loading.PREFIXES, "hf", made)
    network = {"name": str(pickle) if request.param == "a pickle" else f"hf:{settings.parent}", **options}
    sweep = sweeps.small(models=network, methods="gradient", attacks="random-sign", budgets=[4, 16], images=3)
    return sweep, write


@left
def test_a_network_of_the_same_weights_in_another_file_is_refused(left, written, forget, tmp_path):
    sweep, write = written
    write(nn.ReLU)
    sweeps.run(sweep, tmp_path / "out", trust=True)
    before = sweeps.rows(tmp_path / "out")
    remove(tmp_path / "out", left)
    forget()
    write(nn.Tanh)
    with pytest.raises(ValueError, match=r"models: .*(net\.pt|saved) has other files than when the sweep began"):
        sweeps.run(sweep, tmp_path / "out", trust=True)
    write(nn.ReLU)
    assert sweeps.run(sweep, tmp_path / "out", trust=True).to_do == []
    sweeps.same(sweeps.rows(tmp_path / "out"), before)


def test_a_folder_of_before_files_were_recorded_is_read_and_goes_on_with_a_warning(written, forget, tmp_path, caplog):
    sweep, write = written
    write(nn.ReLU)
    sweeps.run(sweep, tmp_path / "out", trust=True)
    plan = experiments.SweepFolder.load(tmp_path / "out")
    (subject,) = plan.subjects
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["subjects"][0].pop("files") == subject.files
    old = tmp_path / "old"
    old.mkdir()
    (old / "settings.json").write_text(json.dumps(settings))
    for shard in plan.shards:  # as they were then
        table, about = plan.read(shard)
        experiments.SweepFolder.load(old).write(shard, table, about)
    sweeps.same(sweeps.rows(old), sweeps.rows(tmp_path / "out"))
    files(old)[0].unlink()
    forget()
    assert sweeps.run(sweep, old, trust=True).to_do == []
    assert "it is not known whether its files are those with which the sweep began" in caplog.text
    sweeps.same(sweeps.rows(old), sweeps.rows(tmp_path / "out"))


def test_a_network_without_files_is_described_as_before(finished):
    settings = json.loads((finished / "settings.json").read_text())
    assert settings["subjects"][0].keys() == {
        *("model", "data", "beta", "read", "right", "rows", "labels", "names", "pixels", "parameters")
    }
