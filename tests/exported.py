"""What the tests of the laboratory share: running ONNX, and networks that readers might have."""

import functools

import numpy as np
import onnxruntime
import torch
from torch import nn

from fragile_utils import attacks, models
from fragile_utils.laboratory import export, steps

SETTINGS = torch.tensor(8 / 255), torch.tensor(1 / 255)  # eps and step size


def session(model):
    """A session of onnxruntime: of an ONNX model, of its bytes, or of a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    given = model.SerializeToString() if hasattr(model, "SerializeToString") else model
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=4)
def made(model, method, attack, size):
    """A session of what is exported; tests that follow each other ask for the same."""
    return session(export(model, method, attack, size))


def run(of, names, arguments):
    """The outputs of a session for these arguments, as tensors."""
    of = of if isinstance(of, onnxruntime.InferenceSession) else session(of)
    feeds = dict(zip(names, (value.detach().numpy() for value in arguments), strict=True))
    return [torch.from_numpy(np.asarray(value)) for value in of.run(None, feeds)]


def residual(size=16, classes=5, seed=1):
    """A reader's network: batch normalisation, a residual, average pooling, two linear layers."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())

        def forward(self, x):
            return x + self.body(x)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = [nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
        last = [nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, classes)]
        network = nn.Sequential(*first, Block(), nn.AvgPool2d(2), Block(), nn.AdaptiveAvgPool2d(1), *last)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_var, 0.2, 1)
                nn.init.normal_(layer.running_mean, std=0.3)
    names = [f"kind {i}" for i in range(classes)]
    return models.Classifier(network, (0.5,) * 3, (0.25,) * 3, classes=names, size=size).eval()


def assert_agrees(model, method, attack, images, iterates=3, signs=0.995, of_d=5e-3):
    """Compare explanation and steps with Python's: each step set out from Python's own iterate, as runs are chaotic."""
    size = images.shape[-1]
    explain = steps.explanation(model, method)
    of_explanation = run(made(model, method, None, size), steps.EXPLAIN[0], (images,))
    maps, logits, label = explain(images)
    assert_close(of_explanation, (maps, logits, label))
    step = steps.attack_step(model, method, attack)
    of_step = made(model, method, attack, size)
    reference, x = attack.reference(maps).float(), images
    for _ in range(iterates):
        arguments = (x, images, label, reference, *SETTINGS)
        found, expected = run(of_step, steps.STEP[0], arguments), step(*arguments)
        assert ((found[0] - expected[0]).abs() < 1e-6).float().mean() >= signs
        assert_close(found[1:3], expected[1:3])
        if isinstance(attack, attacks.MassCenter):
            torch.testing.assert_close(found[3], expected[3], rtol=0, atol=5e-3)  # pixels: D starts at 0
        else:
            torch.testing.assert_close(found[3], expected[3], rtol=of_d, atol=0)
        x = expected[0].detach()
    assert (x - images).abs().max() > (iterates - 0.5) / 255  # the attack went somewhere


def assert_close(found, expected):
    """Compare maps, logits and, if there is one, the label."""
    assert (found[0] - expected[0]).abs().sum() < 1e-3  # of a sum of 1
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-4)
    if len(expected) > 2:
        assert torch.equal(found[2], expected[2])
