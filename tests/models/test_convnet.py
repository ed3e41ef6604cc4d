"""The network for CIFAR-10, and its files."""

import pytest
import torch
from networks import network

from fragile_utils import models
from fragile_utils.models import convnet, stored


def test_the_papers_network_has_the_papers_size():
    """Convolutions of 9 ab + b weights, a dense layer on 8 x 8 x 192 values: 13.6 million, 12.6 of them dense."""
    with torch.device("meta"):
        built = convnet.ConvNet(width=96, hidden=1024).build()
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in built]
    convolutions = [(3, 96), (96, 96), (96, 96), (96, 192), (192, 192), (192, 192)]
    expected = [9 * a * b + b for a, b in convolutions] + [12288 * 1024 + 1024, 1024 * 10 + 10]
    assert [size for size in sizes if size] == expected
    assert built(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("layout", [convnet.ConvNet(4), convnet.ConvNet(4, 7, "softplus", 2.0)], ids=["relu", "dense"])
def test_folding_changes_nothing(layout, noise):
    before = network(layout, batch_norm=True).double()
    x = noise.images.double()
    after = stored.fold(before)
    torch.testing.assert_close(after(x), before(x), rtol=1e-10, atol=1e-10)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in after)
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in before)
    assert len(after.state_dict()) == len(layout.build().state_dict())


def test_a_file_gives_back_the_network_in_half_precision(tmp_path, noise):
    layout = convnet.ConvNet(4, 7, "softplus", 2.0)
    built = network(layout, batch_norm=False)
    mean, std = noise.images.mean(0), torch.tensor([0.2, 0.25, 0.3])
    path = tmp_path / "weights.safetensors"
    stored.Stored(layout, built, mean, std).save(path)
    found = stored.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
    assert found.layout == layout
    for a, b in zip(found.network.parameters(), built.parameters(), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=2**-11, atol=1e-7)
    model = models.cifar10_net(path)
    x = noise.images[:4]
    by_hand = found.network((x - mean.half().float()) / std.half().float().view(-1, 1, 1))
    torch.testing.assert_close(model(x), by_hand)
    assert not any(p.requires_grad for p in model.parameters())


def test_what_is_no_such_file_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match="no such file"):
        stored.load(path)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ValueError, match="expected a network written by `fragile train`"):
        stored.load(path)
    stored.safetensors.torch.save_file({"mean": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="expected a network written by `fragile train`: 'layout'"):
        stored.load(path)
