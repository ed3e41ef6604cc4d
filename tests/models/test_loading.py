"""Networks by name: from functions, files and folders; code and pickles only where they are allowed."""

import os
import pickle
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch
from networks import Tiny
from torch import nn

from fragile_utils import models, saliency
from fragile_utils._base.code import Code
from fragile_utils.models import files, loading
from fragile_utils.saliency.propagation import passes

SOURCE = """
import torch
from pathlib import Path

Path({trace!r}).write_text("imported")

import beside
from networks import Tiny
from fragile_utils import models


def network():
    return Tiny(beside.SEED).eval()


def classifier():
    return models.Classifier(Tiny(beside.SEED), (0.5,) * 3, (0.25,) * 3, size=16).eval()


def wrapped():
    return models.wrap(network(), size=16)


def training():
    return Tiny(beside.SEED).train()


def needs(argument):
    return network()


def nothing():
    return 3
"""
TRACED = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # it is deprecated, and still in use
OPTIONS = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "size": 16}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with code and weights of a network."""
    monkeypatch.chdir(tmp_path)
    before = [*sys.path]
    (tmp_path / "net.py").write_text(SOURCE.format(trace=str(tmp_path / "trace")))
    (tmp_path / "beside.py").write_text("SEED = 4")
    tiny = Tiny(5).eval()
    torch.save(tiny.state_dict(), "weights.pt")
    safetensors.torch.save_file(tiny.state_dict(), "weights.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": v for n, v in tiny.state_dict().items()}}, "trained.ckpt")
    torch.save(tiny, "whole.pt")
    yield tmp_path
    sys.modules.pop("beside", None)
    sys.path[:] = before


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def expected(images, seed):
    return Tiny(seed).eval()((images - 0.5) / 0.25)


def test_a_function_in_a_file_is_called_only_when_it_is_allowed(place, images):
    with pytest.raises(ValueError, match=r"net\.py:network is code of your own"):
        models.load("net.py:network", **OPTIONS)
    assert not (place / "trace").exists()
    for allowed in (True, Code.allow(["net.py:network"])):
        model = models.load("net.py:network", **OPTIONS, allow_code=allowed)
        torch.testing.assert_close(model(images), expected(images, 4))
    assert (place / "trace").exists()
    assert not any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(models.load(f"{place}/net.py:classifier", allow_code=True)(images), expected(images, 4))
    assert models.load("net.py:wrapped", allow_code=True).outputs == 5


def test_a_file_that_changed_is_not_the_one_that_was_allowed(place):
    code = Code.allow(["net.py:network"])
    (place / "net.py").write_text((place / "net.py").read_text() + "\n")
    with pytest.raises(ValueError, match=r"the file of net\.py:network is not the one"):
        models.load("net.py:network", allow_code=code)


@pytest.mark.parametrize("weights", ["weights.pt", "weights.safetensors", "trained.ckpt"])
@pytest.mark.parametrize("maker", ["network", "classifier", "training"])
def test_weights_go_into_the_network_that_a_function_makes(place, images, weights, maker):
    options = {} if maker == "classifier" else OPTIONS
    model = models.load(f"net.py:{maker}@{weights}", **options, allow_code=True)
    torch.testing.assert_close(model(images), expected(images, 5))


class Planted:
    """What executes something when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_is_refused_unless_it_is_trusted(place, images):
    with pytest.raises(ValueError, match=r"whole\.pt: this is a pickle of more than numbers.*--trust"):
        models.load("whole.pt", **OPTIONS)
    torch.testing.assert_close(models.load("whole.pt", **OPTIONS, trust=True)(images), expected(images, 5))
    torch.save({"state_dict": Planted()}, "planted.pt")
    (place / "legacy.pt").write_bytes(pickle.dumps(Planted()))
    for name in ("planted.pt", "legacy.pt", "net.py:network@planted.pt"):
        with pytest.raises(ValueError, match=r"pickle of more than numbers|cannot read"):
            models.load(name, allow_code=True)
    assert not (place / "pwned").exists()


class Program(nn.Module):
    """A network with the layers of which an exported program has operators of its own."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.first, self.norm = nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6)
            self.second, self.last = nn.Conv2d(6, 8, 3, padding=1), nn.Linear(16, 5)
            self.activations = nn.ModuleList([nn.ReLU(), nn.Hardswish(), nn.LeakyReLU(0.1), nn.Hardtanh()])
            self.in_place = nn.ReLU(inplace=True)
            nn.init.uniform_(self.norm.running_var, 0.5, 2)
            nn.init.normal_(self.norm.running_mean)

    def forward(self, images):
        x = self.norm(self.first(images))
        for activation in self.activations:
            x = activation(x) + 0.1 * x
        x = nn.functional.dropout(self.in_place(self.second(x)), training=self.training)
        x = nn.functional.max_pool2d(torch.cat([x, x.clamp(min=0)], 1), 2)
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)).softmax(1)


@pytest.mark.parametrize("dynamic", [True, False])
def test_an_exported_program_is_the_network_that_was_exported(place, images, dynamic):
    network = Program().eval()
    shapes = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if dynamic else {}
    torch.export.save(torch.export.export(network, (images[:2],), **shapes), "net.pt2")
    with pytest.raises(ValueError, match=r"net\.pt2 is code of your own"):
        models.load("net.pt2")
    model = models.load("net.pt2", allow_code=True)
    assert (model.size, model.outputs) == (16, 5)
    assert any("softmax at the end" in line for line in model.adapted)
    torch.testing.assert_close(model(images).softmax(1), network(images))
    plain = models.wrap(network.requires_grad_(False), size=16)
    targets = plain(images).argmax(1)
    for method in (saliency.Gradient(), saliency.DeepLift(), saliency.LRP("zplus")):
        torch.testing.assert_close(method(model, images, targets), method(plain, images, targets))
    both = [passes.Pass(models.softplus_surrogate(net, 3.0), images, targets) for net in (model, plain)]
    of_program, of_network = (made.product(images - 0.5) for made in both)
    assert of_network.norm() > 1e-3
    assert (of_program - of_network).norm() < 1e-4 * of_network.norm()
    models.check_network(model, images)


def test_a_program_is_wrapped_and_left_as_it_is(images):
    network = Program().eval().requires_grad_(False)
    program = torch.export.export(network, (images[:2],))
    module = program.module()
    before = str(module.graph)
    plain = models.wrap(network, size=16)
    for given in (program, module):
        model = models.wrap(given)
        assert model.size == 16  # for which it was exported
        torch.testing.assert_close(model(images), plain(images))
        targets = plain(images).argmax(1)
        maps = [saliency.DeepLift()(net, images, targets) for net in (model, plain)]
        torch.testing.assert_close(*maps)
    assert str(module.graph) == before
    assert {id(p) for p in model.parameters()} == {id(p) for p in module.parameters()}


def test_a_program_knows_no_mode_and_is_refused_where_that_matters(place, images):
    network = Program().eval()
    module = torch.export.export(network, (images[:2],)).module()
    for model, name in ((module, "GraphModule"), (nn.Sequential(module), "0")):
        with pytest.raises(ValueError, match=f"model: {name}.* is the module of a program .* alone to models.wrap"):
            saliency.Gradient()(model, images, torch.zeros(len(images), dtype=torch.long))
    program = torch.export.export(network.train(), (images[:2],))
    torch.export.save(program, "net.pt2")
    for wrapped in (lambda: models.wrap(program), lambda: models.load("net.pt2", allow_code=True)):
        with pytest.raises(
            ValueError, match=r"exported in evaluation mode, got aten\.batch_norm.* model\.eval\(\) before"
        ):
            wrapped()


def test_a_function_may_return_a_program(place, images):
    text = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    def make():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        return torch.export.export(network.eval(), (torch.rand(2, 3, 16, 16),)).module()
    """
    Path("made.py").write_text(textwrap.dedent(text), encoding="utf-8")
    model = models.load("made.py:make", allow_code=True)
    weights = {name: torch.zeros_like(value) for name, value in model.network.network.state_dict().items()}
    torch.save(weights, "zeros.pt")
    assert models.load("made.py:make", allow_code=True)(images).abs().amax() > 0
    assert models.load("made.py:make@zeros.pt", allow_code=True)(images).abs().amax() == 0


class Maxima(nn.Module):
    """Maxima and minima of two values, and a maximum over an axis."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        x = torch.max(self.first(images), self.second(images))
        x = torch.fmin(x, 0.5 * x)
        return self.last(x.mean((2, 3))) + x.amax((2, 3)).max(dim=1, keepdim=True)[0]


def test_an_exported_program_is_smoothed_where_the_network_is(place, images):
    network = Maxima().eval().requires_grad_(False)
    torch.export.save(torch.export.export(network, (images[:2],)), "net.pt2")
    model = models.load("net.pt2", allow_code=True)
    smooth, wanted = (models.softplus_surrogate(net, 3.0) for net in (model, models.wrap(network, size=16)))
    torch.testing.assert_close(smooth(images), wanted(images))
    assert (smooth(images) - model(images)).abs().amax() > 0.1
    assert models.kinks_left(smooth, images) == ["torch.amax", "torch.max"]


def test_a_program_with_a_pickle_is_refused(place, images):
    import zipfile

    torch.export.save(torch.export.export(Tiny().eval(), (images,)), "net.pt2")
    with zipfile.ZipFile("net.pt2") as old, zipfile.ZipFile("planted.pt2", "w") as new:
        for item in old.infolist():
            name, content = item.filename, old.read(item)
            new.writestr(name, pickle.dumps(Planted()) if name.endswith("sample_inputs/model.pt") else content)
    with pytest.raises(ValueError, match="pickle of more than numbers"):
        models.load("planted.pt2", allow_code=True)
    assert not (place / "pwned").exists()


REFUSED = {
    "onnx": ("net.onnx", "ONNX holds no network that can be differentiated twice; give the function"),
    "torchscript": ("net.ts", "TorchScript cannot be attacked exactly"),
    "traced": ("traced.pt", "TorchScript cannot be attacked exactly"),
    "keras": ("net.h5", "this is no file of PyTorch"),
    "unknown": ("squeezenest", r"model: expected one of squeezenet, .*hf:\.\.\..*; got 'squeezenest'"),
    "no such file": ("none.py:network", r"no such file: none\.py"),
    "no such module": ("nomodule:network", "cannot find a file of the module nomodule"),
    "no such function": ("net.py:missing", r"cannot find net\.py:missing; in net\.py are '\w+', '"),
    "no such weights": ("net.py:network@none.pt", r"no such file: none\.pt"),
    "weights alone": ("weights.pt", r"holds weights without their network.*FUNCTION@weights\.pt"),
    "no network": ("net.py:nothing", "expected net.py:nothing to return a torch.nn.Module, got int"),
    "an argument": ("net.py:needs", "missing 1 required positional argument"),
    "training": ("net.py:training", "expected evaluation mode"),
    "other weights": ("net.py:network@other.pt", "'first.weight', .* missing; 'x' unknown"),
    "no folder": ("hf:none", "hf: expected a folder with config.json"),
    "no program": ("net.pt2", "no such file"),
    "text": ("text.pt", r"cannot read text\.pt|pickle of more than numbers"),
    "a zero byte": ("\0.pt", "expected one of"),
}


@TRACED
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_network_is_refused_in_a_line(case, place):
    name, message = REFUSED[case]
    torch.save({"x": torch.zeros(1)}, "other.pt")
    (place / "text.pt").write_text("this is no network")
    torch.jit.save(torch.jit.trace(Tiny().eval(), torch.rand(1, 3, 16, 16)), "traced.pt")
    with pytest.raises(ValueError, match=message) as caught:
        models.load(name, size=16, allow_code=True)
    assert "\n" not in str(caught.value)


def test_nothing_is_imported_to_know_a_name(place):
    for name in ("net.py:network", "net:network", "net.py:network@weights.pt", "net.pt2", "hf:folder", "whole.pt"):
        loading.check_name(name)
    assert loading.code_of("net.py:network@weights.pt") == ("net.py:network",)
    assert loading.code_of("hf:folder") == loading.code_of("squeezenet") == loading.code_of("whole.pt") == ()
    assert not (place / "trace").exists()


def test_options_of_a_network_that_has_its_own_are_refused(place):
    with pytest.raises(ValueError, match="is a Classifier, with its own mean, std, size; leave them out"):
        models.load("net.py:classifier", **OPTIONS, allow_code=True)


def test_classes_come_from_a_file(place):
    (place / "names.txt").write_text("a\nb\n\n c \nd\ne\n")
    (place / "names.json").write_text('{"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}')
    (place / "list.json").write_text('["a", "b", "c", "d", "e"]')
    for name in ("names.txt", "names.json", "list.json"):
        assert models.load("net.py:network", **OPTIONS, classes=name, allow_code=True).classes == tuple("abcde")
    (place / "names.json").write_text('{"0": "a", "2": "b"}')
    with pytest.raises(ValueError, match=r"names\.json: expected the numbers from 0 to 1"):
        files.read_classes(place / "names.json")
    with pytest.raises(ValueError, match="no such file"):
        models.load("squeezenet", classes="none.txt")


def test_an_image_classifier_of_transformers(tmp_path, images):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=16,
        patch_size=4,
        num_labels=3,
        id2label={0: "cat", 1: "dog", 2: "<b>"},
    )
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"height": 16, "width": 16}}'
    )
    model = models.load(f"hf:{tmp_path}")
    assert (model.size, model.classes) == (16, ("cat", "dog", "<b>"))
    torch.testing.assert_close(model(images), network(pixel_values=(images - 0.5) / 0.25).logits)
    assert saliency.Gradient()(model, images, torch.tensor([0, 1, 2])).sum((1, 2)) == pytest.approx([1, 1, 1])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"hf: .* expected an image classifier"):
        models.load(f"hf:{tmp_path}")
