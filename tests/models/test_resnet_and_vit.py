"""The residual network and the vision transformer for CIFAR-10: their layers, files, derivatives and training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import network
from references import gradient_and_product
from torch import nn

from fragile_utils import models, saliency
from fragile_utils.models import stored, training
from fragile_utils.models.resnet import ResNet
from fragile_utils.models.vit import HEAD, Attention, ViT
from fragile_utils.saliency.propagation import passes

SMALL = {"resnet": ResNet(4, 2), "softplus resnet": ResNet(4, 1, "softplus", 3.0), "vit": ViT(32, 2)}
over_layouts = pytest.mark.parametrize("layout", SMALL.values(), ids=SMALL)


def warmed(layout, batch_norm=True):
    """The network of a layout with normalisations that are not the identity, as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = layout.build(batch_norm).double()
        for layer in built.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for value in (layer.weight, layer.running_var):
                    nn.init.uniform_(value, 0.5, 1.5)
                for value in (layer.bias, layer.running_mean):
                    nn.init.normal_(value, std=0.3)
    return built.eval().requires_grad_(False)


# --- Layers ----------------------------------------------------------------------------------------------------------


def test_the_residual_network_has_the_published_size():
    """ResNet-20 without batch normalisation: 9 ab + b weights a convolution, and two shortcuts of ab + b."""
    built = ResNet().build()
    convolutions = [(3, 16), *[(16, 16)] * 6, (16, 32), *[(32, 32)] * 5, (32, 64), *[(64, 64)] * 5]
    expected = sum(9 * a * b + b for a, b in convolutions) + (16 * 32 + 32) + (32 * 64 + 64) + 64 * 10 + 10
    assert sum(p.numel() for p in built.parameters()) == expected == 271_690


def test_the_residual_network_is_what_its_paper_says():
    """Written out with functions, from the parameters in the order in which they were made."""
    layout = ResNet(4, 2)
    built = warmed(layout, batch_norm=False)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    state = built.state_dict()

    def convolve(x, name, stride, padding=1):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)

    y = convolve(x, "0", 1).relu()
    for block in range(6):  # two in each of three stages
        stride, name = (2 if block in (2, 4) else 1), str(2 + block)
        z = convolve(convolve(y, f"{name}.convolutions.0", stride).relu(), f"{name}.convolutions.2", 1)
        y = (z + (convolve(y, f"{name}.shortcut.0", 2, 0) if stride == 2 else y)).relu()
    assert y.shape == (2, 16, 8, 8)
    torch.testing.assert_close(built(x), F.linear(y.mean((2, 3)), state["10.weight"], state["10.bias"]))


def test_attention_is_pytorchs_and_its_weights_can_be_seen():
    ours = Attention(3 * HEAD).double()
    theirs = nn.MultiheadAttention(3 * HEAD, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.queries_keys_values.weight,
            "in_proj_bias": ours.queries_keys_values.bias,
            "out_proj.weight": ours.last.weight,
            "out_proj.bias": ours.last.bias,
        }
    )
    tokens, seen = torch.rand(2, 7, 3 * HEAD, dtype=torch.float64), []
    ours.softmax.register_forward_hook(lambda _, __, output: seen.append(output))
    expected, weights = theirs(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(ours(tokens), expected)
    torch.testing.assert_close(seen[0], weights)


def test_the_transformer_takes_64_tokens_and_a_class_token():
    built = warmed(ViT(32, 1))
    seen = []
    built.blocks[0].attention.softmax.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    logits = built(x)
    assert logits.shape == (2, 10)
    assert seen == [(2, 1, 65, 65)]
    built.positions[:, 1:] = built.positions[:, 1:].flip(1)  # the places of tokens matter
    assert not torch.allclose(built(x), logits)


# --- Files -----------------------------------------------------------------------------------------------------------


@over_layouts
def test_folding_changes_nothing(layout, noise):
    before = warmed(layout)
    after = stored.fold(before)
    x = noise.images[:4].double()
    torch.testing.assert_close(after(x), before(x), rtol=1e-10, atol=1e-10)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in after.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in before.modules())
    assert after.state_dict().keys() == layout.build().state_dict().keys()


@over_layouts
def test_a_file_gives_back_layout_and_network(layout, noise, tmp_path):
    built, path = network(layout, batch_norm=False), tmp_path / "weights.safetensors"
    stored.Stored(layout, built, noise.images.mean(0), torch.tensor([0.2, 0.25, 0.3])).save(path)
    found = stored.load(path)
    assert found.layout == layout
    for a, b in zip(found.network.parameters(), built.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2**-11, atol=1e-7)
    assert models.cifar10_net(path)(noise.images[:2]).shape == (2, 10)


def test_a_file_of_an_unknown_network_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    for layout in ('{"network": "mlp"}', "[]", '{"network": "vit", "width": 5}', '{"heads": 3}'):
        stored.safetensors.torch.save_file({"mean": torch.zeros(3)}, path, {"layout": layout})
        with pytest.raises(ValueError, match="expected a network written by `fragile train`"):
            stored.load(path)


# --- Explanations ----------------------------------------------------------------------------------------------------


@over_layouts
def test_gradients_and_products_are_those_of_torch_func_in_any_batch_and_layout(layout):
    model = stored.fold(warmed(layout))
    model = model if isinstance(layout, ViT) else models.softplus_surrogate(model, 5.0)
    generator = torch.Generator().manual_seed(1)
    images, vectors = (torch.rand(3, 3, 32, 32, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.tensor([1, 4, 9])

    gradient, product = gradient_and_product(model, images, targets, vectors)
    assert product.any()
    for x in (images, images.contiguous(memory_format=torch.channels_last)):
        made = passes.Pass(model, x, targets)
        assert (made.multipliers - gradient).norm() <= 1e-9 * gradient.norm()
        assert (made.product(vectors) - product).norm() <= 1e-9 * product.norm()
    made = passes.Pass(model, images[2:], targets[2:])  # one image, after three
    assert (made.product(vectors[2:]) - product[2:]).norm() <= 1e-9 * product[2:].norm()


def test_the_transformer_is_smooth_and_its_surrogate_is_itself():
    model, x = warmed(ViT(32, 1)), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    surrogate = models.softplus_surrogate(model, 2.0)
    assert torch.equal(surrogate(x), model(x))
    assert models.kinks_left(surrogate, x) == []


@pytest.mark.parametrize("method", [saliency.DeepLift(0.5), saliency.LRP(), saliency.DeepTaylor()], ids=repr)
def test_rules_refuse_the_transformer_by_name_and_take_the_residual_network(method):
    images, targets = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1])
    with pytest.raises(
        ValueError, match=r"^blocks\.0\.norm1 \(.*layer_norm\) has no propagation rule of (DeepLIFT|LRP)"
    ):
        method.attribute(warmed(SMALL["vit"]), images, targets)
    assert method.attribute(stored.fold(warmed(SMALL["resnet"])), images, targets).any()


# --- Training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_a_preset_learns_and_goes_on_where_it_stopped(name, noise, tmp_path):
    values = {
        "width": {"resnet": 8, "vit": 32}[name],
        "depth": 1,
        "epochs": 3,
        "batch_size": 16,
        "precision": "float32",
    }
    settings = replace(training.PRESETS[name], **values)
    whole = training.train(settings, noise, noise)
    assert whole.log["train_loss"].iloc[-1] < whole.log["train_loss"].iloc[0]
    stop = tmp_path / "checkpoint.pt"

    def interrupt(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(settings, noise, noise, checkpoint=stop, report=interrupt)
    again = training.train(settings, noise, noise, checkpoint=stop)
    assert not stop.exists()
    state = again.stored.network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in whole.stored.network.state_dict().items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "mlp"}, "network: expected one of convnet, resnet, vit, got 'mlp'"),
        ({"network": "vit", "width": 100}, "width: expected a multiple of 32, got 100"),
        ({"network": "vit", "width": 64, "activation": "softplus"}, "activation: a vit has none, got 'softplus'"),
        ({"network": "resnet", "hidden": 5}, "hidden: a resnet has none, got 5"),
        ({"network": "convnet", "depth": 5}, "depth: a convnet has none, got 5"),
        ({"network": "resnet", "depth": 0}, "depth: expected"),
        ({"network": "resnet", "activation": "elu"}, "activation: expected 'relu' or 'softplus', got 'elu'"),
    ],
)
def test_values_that_a_network_does_not_have_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        training.Training(**values)


def test_the_presets_are_what_they_are_called():
    assert isinstance(training.PRESETS["resnet"].layout, ResNet)
    assert isinstance(training.PRESETS["vit"].layout, ViT)
    assert training.Training("resnet").layout == ResNet(width=32)  # the depth is its own
    for settings in training.PRESETS.values():
        assert training.Training.from_json(settings.to_json()) == settings
