"""The precision of float32 on a GPU: what is asked for while it lasts, and afterwards what was there before."""

import pytest
import torch

from fragile_utils import precision

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
    }


def read(look):
    try:
        return look()
    except RuntimeError:
        return "mixed"


def state():
    looks = [lambda: CUDNN.allow_tf32, lambda: MATMUL.allow_tf32, torch.get_float32_matmul_precision]
    if NEWER:
        places = (BACKENDS, CUDNN, CUDNN.conv, MATMUL, BACKENDS.mkldnn.matmul)
        looks += [lambda place=place: place.fp32_precision.replace("none", "ieee") for place in places]
    return [read(look) for look in looks]


def computed():
    """What convolutions and products are computed in."""
    if NEWER:
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
