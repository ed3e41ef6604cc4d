"""EfficientNet-Lite against the module that its weights were published for, and against TensorFlow's padding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fragile_utils import data, models
from fragile_utils.models import _lite
from fragile_utils.models.efficientnet import SCALES, SameConv2d
from fragile_utils.models.pretrained import MODELS

RIGHT = (17, 19, 18)  # of the 20 embedded images


def original(size, side=None):
    """Return PyPI's module with its own loading: images in [0, 1] to logits."""
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    options = {} if side is None else {"image_size": side}
    network = efficientnet.from_name(f"efficientnet-lite{size}", **options)
    network.load_state_dict(torch.load(_lite.LITE[size].path(), weights_only=True))
    network.eval().requires_grad_(False)
    return lambda images: network((255 * images - 127) / 128)


@pytest.mark.parametrize("size", range(3))
def test_logits_agree_with_the_original_and_the_classes_are_those_of_the_samples(size):
    model = models.efficientnet_lite(size)
    batch = data.imagenet_samples(model.size)
    logits = model(batch.images)
    assert (logits - original(size)(batch.images)).abs().max() < 1e-4
    assert batch.classes == model.classes
    assert (logits.argmax(1) == batch.labels).sum() == RIGHT[size]
    assert (logits.topk(5).indices == batch.labels[:, None]).any(1).all()


@pytest.mark.parametrize("side", [75, 97, 128])
def test_other_sizes_of_images_agree_with_the_original_built_for_them(side):
    images = data.imagenet_samples(side).images[:4]
    assert (models.efficientnet_lite0()(images) - original(0, side)(images)).abs().max() < 1e-4


def test_the_networks_are_frozen_in_evaluation_mode_and_have_their_size():
    for size, scale in enumerate(SCALES):
        model = MODELS[f"efficientnet-lite{size}"]()
        assert model.size == scale.size
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_surrogate_predicts_as_the_network_on_all_that_it_gets_right():
    model = models.efficientnet_lite0()
    batch = data.imagenet_samples(model.size).correct(model)
    assert torch.equal(data.predict(models.softplus_surrogate(model), batch.images), batch.labels)


@pytest.mark.parametrize("bad", [3, -1, "0", None, True, 0.5])
def test_sizes_that_do_not_exist_are_refused(bad):
    with pytest.raises(ValueError, match="size: expected 0, 1 or 2, got "):
        models.efficientnet_lite(bad)


def test_a_changed_file_is_refused_before_it_is_read(monkeypatch, tmp_path):
    path = tmp_path / "weights.pth"
    content = bytearray(_lite.LITE[0].read())
    content[1000] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(type(_lite.LITE[0]), "path", lambda self: path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was read"))
    with pytest.raises(ValueError, match="expected SHA-256 57934424"):
        models.efficientnet_lite0()


# --- Padding ---------------------------------------------------------------------------------------------------------


def naive(x, weight, stride):
    """Return TensorFlow's "same" convolution of one channel, window by window, as its documentation defines it."""
    size, kernel = x.shape[-1], weight.shape[-1]
    out = -(-size // stride)
    total = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    before = total // 2
    result = torch.zeros(out, out, dtype=x.dtype)
    for i in range(out):
        for j in range(out):
            for a in range(kernel):
                for b in range(kernel):
                    row, column = i * stride + a - before, j * stride + b - before
                    if 0 <= row < size and 0 <= column < size:
                        result[i, j] += x[row, column] * weight[a, b]
    return result


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [5, 6, 7, 8])
def test_the_border_is_tensorflows(size, kernel, stride):
    layer = SameConv2d(1, 1, kernel, stride, bias=False).double()
    x = torch.rand(size, size, dtype=torch.float64)
    torch.testing.assert_close(layer(x[None, None])[0, 0], naive(x, layer.weight[0, 0], stride))


def test_height_and_width_have_borders_of_their_own():
    layer = SameConv2d(2, 2, 3, 2, groups=2).double()
    x = torch.rand(1, 2, 7, 10, dtype=torch.float64)
    by_hand = F.conv2d(nn.ZeroPad2d((0, 1, 1, 1))(x), layer.weight, layer.bias, 2, groups=2)
    torch.testing.assert_close(layer(x), by_hand)
