"""A laboratory is one folder: whole or not there, its manifest right, its graphs and weights of one making."""

import hashlib
import io
import json

import onnxruntime
import pytest
import torch
from exported import SETTINGS, assert_close, residual
from PIL import Image

from fragile_utils import attacks, data, laboratory, saliency
from fragile_utils.laboratory import export, folder, steps
from fragile_utils.laboratory.weights import Weights


@pytest.fixture(scope="module")
def images():
    pixels = torch.randint(0, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    return pixels.float() / 255


@pytest.fixture(scope="module")
def network(images):
    model = residual()
    labels = data.predict(model, images)
    labels[0] = (labels[0] + 1) % 5  # which the network gets wrong, and the page says so
    methods = [laboratory.explanation("gradient"), laboratory.explanation("deeplift", size=12)]
    return laboratory.Network("mine", "My own", model, methods, data.Batch(images, labels, model.classes))


@pytest.fixture(scope="module")
def written(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("laboratory") / "new"
    return path, laboratory.write(path, [network])


def test_the_manifest_tells_what_is_there(written, network):
    path, manifest = written
    assert json.loads((path / "models" / "manifest.json").read_text()) == manifest
    (of_network,) = manifest["networks"]
    assert (of_network["name"], of_network["title"]) == ("mine", "My own")
    assert of_network["classes"] == [f"kind {i}" for i in range(5)]
    assert [(m["name"], m["size"], m["k"]) for m in of_network["methods"]] == [
        ("gradient", 16, 64),
        ("deeplift", 12, 36),
    ]
    named = [of_network["weights"], *(g for m in of_network["methods"] for g in m["graphs"].values())]
    assert {entry["file"] for entry in named} | {"manifest.json"} == {p.name for p in (path / "models").iterdir()}
    for where, entry in [*(("models", e) for e in named), *(("examples", e) for e in manifest["examples"])]:
        contents = (path / where / entry["file"]).read_bytes()
        assert (len(contents), hashlib.sha256(contents).hexdigest()) == (entry["bytes"], entry["sha256"])


def test_the_page_is_copied(written):
    path, _ = written
    assert (path / "index.html").read_bytes() == (folder.PAGE / "index.html").read_bytes()


def test_examples_are_lossless_and_those_that_were_given(written, network, images):
    path, manifest = written
    assert [entry["label"] for entry in manifest["examples"]] == network.examples.labels.tolist()
    for entry, image in zip(manifest["examples"], images, strict=True):
        read = Image.open(io.BytesIO((path / "examples" / entry["file"]).read_bytes()))
        pixels = torch.tensor(
            list(read.get_flattened_data() if hasattr(read, "get_flattened_data") else read.getdata())
        )
        assert torch.equal(pixels.view(16, 16, 3).permute(2, 0, 1).float() / 255, image)
        assert entry["title"] == f"kind {entry['label']}"


def test_the_graphs_of_a_folder_compute_as_python_does(written, network, images):
    path, manifest = written
    x = images[1:2]
    for what, attack in (("topk", attacks.TopK(100)), ("centre", attacks.MassCenter())):
        file = manifest["networks"][0]["methods"][0]["graphs"][what]["file"]
        session = onnxruntime.InferenceSession(path / "models" / file, providers=["CPUExecutionProvider"])
        maps, _, label = steps.explanation(network.model, saliency.Gradient())(x)
        arguments = (x, x, label, attack.reference(maps).float(), *SETTINGS)
        feeds = {name: value.numpy() for name, value in zip(steps.STEP[0], arguments, strict=True)}
        found = [torch.from_numpy(value) for value in session.run(None, feeds)]
        expected = steps.attack_step(network.model, saliency.Gradient(), attack)(*arguments)
        assert torch.allclose(found[0], expected[0], atol=1e-6)
        assert_close(found[1:3], expected[1:3])


def test_all_graphs_share_one_file_of_weights(network):
    weights = Weights("w")
    first = export(network.model, saliency.Gradient(), None)
    left = weights.take(first)
    once = len(weights.contents())
    assert len(left) < len(first.SerializeToString()) - once / 2
    weights.take(first)
    assert len(weights.contents()) == once
    weights.take(export(network.model, saliency.Gradient(), attacks.TopK(3)))
    numbers = network.model.network[3].body[0].weight.detach().numpy().tobytes()
    assert weights.contents().count(numbers) == 1


def test_an_earlier_laboratory_is_replaced_whole(written, network, tmp_path):
    small = laboratory.Network("other", "Other", network.model, network.methods[:1], network.examples)
    laboratory.write(tmp_path / "here", [network])
    (tmp_path / "here" / "models" / "stale.onnx").write_bytes(b"old")
    laboratory.write(tmp_path / "here", [small])
    names = {path.name for path in (tmp_path / "here" / "models").iterdir()}
    assert names == {
        "manifest.json",
        "other.weights",
        *(f"other-gradient-16-{what}.onnx" for what in ("explain", "topk", "centre")),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_nothing_is_written_when_something_cannot_be_exported(network, tmp_path):
    bad = laboratory.Explanation("lrp", "LRP", saliency.LRP(), size=2)  # too small for the network's pool
    with pytest.raises(ValueError, match="cannot take images"):
        laboratory.write(tmp_path / "new", [laboratory.Network("mine", "Mine", network.model, [bad], network.examples)])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(network, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        laboratory.write(tmp_path, [network])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "../up"}, "name: expected small letters"),
        ({"name": "Mine"}, "name: expected small letters"),
        ({"title": " "}, "title: expected a text"),
        ({"model": torch.nn.ReLU()}, "model: expected a value such as"),
        ({"methods": []}, "methods: expected at least one"),
        ({"methods": [saliency.Gradient()]}, "methods: expected a value such as"),
        ({"methods": [laboratory.explanation("gradient")] * 2}, "methods: expected each once, got gradient-16 twice"),
        ({"examples": []}, "examples: expected a value such as"),
        ({"examples": data.Batch(torch.zeros(1, 3, 16, 16), torch.tensor([-1]))}, "expected a label for each image"),
    ],
)
def test_a_network_that_is_none_is_refused(network, change, said):
    fields = {name: getattr(network, name) for name in ("name", "title", "model", "methods", "examples")}
    with pytest.raises(ValueError, match=said):
        laboratory.Network(**fields | change)


@pytest.mark.parametrize("networks", [[], ["squeezenet"]])
def test_networks_that_are_none_are_refused(networks, tmp_path):
    with pytest.raises(ValueError, match="networks: expected"):
        laboratory.write(tmp_path / "new", networks)


def test_two_networks_of_one_name_are_refused(network, tmp_path):
    with pytest.raises(ValueError, match="networks: expected each once, got mine twice"):
        laboratory.write(tmp_path / "new", [network, network])


def test_classes_without_names_get_numbers_and_a_wrong_number_of_names_is_refused(network):
    model = residual()
    model.classes = ()
    nameless = laboratory.Network("mine", "Mine", model, network.methods, network.examples)
    assert folder._classes(nameless) == [f"class {i}" for i in range(5)]
    model.classes = ("one", "two")
    with pytest.raises(ValueError, match="expected a name for each of 5 classes, got 2"):
        folder._classes(nameless)
