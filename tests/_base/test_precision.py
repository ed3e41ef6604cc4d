"""The precision of float32 on a GPU: what is asked for while it lasts, and afterwards what was there before."""

import pytest
import torch
from torch import nn

from fragile_utils import data, influence, models
from fragile_utils._base import precision
from fragile_utils.models import convnet, training
from fragile_utils.models.stored import Stored

BACKENDS = torch.backends
NEWER = hasattr(BACKENDS.cudnn, "conv")  # PyTorch has two ways to set it, and refuses to read one after the other
CUDNN, MATMUL = BACKENDS.cudnn, BACKENDS.cuda.matmul
SETTINGS = {
    "as it comes": (CUDNN, "allow_tf32", True),
    "older, off": (CUDNN, "allow_tf32", False),
    "older, on": (MATMUL, "allow_tf32", True),
}
if NEWER:
    SETTINGS |= {
        "newer, on for all": (BACKENDS, "fp32_precision", "tf32"),
        "newer, off for convolutions and others": (CUDNN, "fp32_precision", "ieee"),
        "newer, off for convolutions": (CUDNN.conv, "fp32_precision", "ieee"),
        "newer, on for products": (MATMUL, "fp32_precision", "tf32"),
        "newer, bfloat16 for all": (BACKENDS, "fp32_precision", "bf16"),
        "newer, bfloat16 for convolutions on a CPU": (BACKENDS.mkldnn.conv, "fp32_precision", "bf16"),
        "newer, bfloat16 for products on a CPU": (BACKENDS.mkldnn.matmul, "fp32_precision", "bf16"),
    }


def read(look):
    try:
        return look()
    except RuntimeError:
        return "mixed"


def state():
    looks = [lambda: CUDNN.allow_tf32, lambda: MATMUL.allow_tf32, torch.get_float32_matmul_precision]
    if NEWER:
        places = (BACKENDS, CUDNN, CUDNN.conv, MATMUL, BACKENDS.mkldnn.conv, BACKENDS.mkldnn.matmul)
        looks += [lambda place=place: place.fp32_precision.replace("none", "ieee") for place in places]
    return [read(look) for look in looks]


def computed():
    """What convolutions and products are computed in."""
    if NEWER:
        assert "bf16" not in {place.fp32_precision for place in (BACKENDS.mkldnn.conv, BACKENDS.mkldnn.matmul)}
        return ["tf32" if place.fp32_precision == "tf32" else "float32" for place in (CUDNN.conv, MATMUL)]
    return ["tf32" if place.allow_tf32 else "float32" for place in (CUDNN, MATMUL)]


def check():
    before = state()
    for tf32, name in ((False, "float32"), (True, "tf32")):
        with precision.float32(tf32):
            assert computed() == [name, name]
            with precision.float32():
                assert computed() == ["float32", "float32"]
            assert computed() == [name, name]
        assert state() == before
    with pytest.raises(KeyError), precision.float32():
        raise KeyError
    assert state() == before


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_caller_has_set_holds_again_afterwards(name):
    place, attribute, value = SETTINGS[name]
    before, start = getattr(place, attribute), state()
    setattr(place, attribute, value)
    try:
        check()
    finally:
        setattr(place, attribute, before)
    assert state() == start  # for the tests that come after this one


def test_products_of_medium_precision_are_so_again_afterwards():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        check()
    finally:
        torch.set_float32_matmul_precision(before)


# --- Where it is asked for -------------------------------------------------------------------------------------------


class Means(nn.Module):
    """Tells how bright the channels are, and notes what convolutions would be computed in meanwhile."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, images):
        self.seen.add(torch.backends.cudnn.allow_tf32)
        return images.mean(dim=(2, 3))

    extract = influence.Features.extract


def attack_influence(means, images, labels):
    seen = means(images.double())
    means.seen.clear()
    explain = influence.Influence(influence.fit(seen, labels), seen, labels)
    influence.run(influence.GradientSign(), means, explain, images.double(), labels, eps=0.1)


def measure_accuracy(means, images, labels):
    stored = Stored(convnet.ConvNet(), means, torch.zeros(3, 4, 4), torch.ones(3))
    training.accuracy(stored, data.Batch(images, labels))


ASKING = {
    "predictions": lambda means, images, labels: data.predict(means, images),
    "beta": lambda means, images, labels: models.choose_beta(means, images),
    "features": lambda means, images, labels: means.extract(images),
    "attacks on influence": attack_influence,
    "accuracy": measure_accuracy,
}


@pytest.mark.parametrize("name", ASKING)
def test_a_gpu_computes_in_full_float32(name):
    means = Means().eval()
    with precision.float32(tf32=True):  # as PyTorch does, in convolutions, unless told otherwise
        ASKING[name](means, torch.rand(6, 3, 4, 4), torch.arange(6) % 3)
    assert means.seen == {False}
