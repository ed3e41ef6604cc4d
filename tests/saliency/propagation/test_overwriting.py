"""What is computed in the memory of other values is what it is without."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fragile_utils import saliency
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency.propagation import program, programs
from fragile_utils.saliency.propagation.linear import Normalised

CLASSES = 3


class Net(nn.Module):
    """Convolutions, each with a normalisation that has seen data, and what a function makes of them."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(3 if i == 3 else 4) for i in range(4)])
        self.last = nn.Linear(4, CLASSES)

    def forward(self, images):
        return self.last(self.function(images, *self.convolutions, *self.norms).mean((2, 3)))


def block(x, first, second, *norms):
    """Return a residual block: one value is read by a convolution and by a sum."""
    y = F.relu(norms[0](first(x)))
    return F.relu(norms[1](second(y)) + y)


NETWORKS = {
    "ReLU": lambda x, a, b, n, m, *_: F.relu(m(b(F.relu(n(a(x)))))),
    "ReLU6": lambda x, a, b, n, m, *_: F.relu6(m(b(F.relu6(n(a(6 * x)))))),
    "clip without normalisation": lambda x, a, b, *_: b(F.hardtanh(3 * a(x), -0.3, 0.4)),
    "leaky ReLU": lambda x, a, b, n, m, *_: F.leaky_relu(m(b(F.leaky_relu(n(a(x)))))),
    "GELU": lambda x, a, b, n, m, *_: F.gelu(m(b(F.gelu(n(a(x)))))),
    "two in a row": lambda x, a, b, n, m, k, _: b(F.relu(k(m(n(a(x)))))),
    "before the activation": lambda x, a, b, n, m, k, _: b(m(F.relu(n(F.relu(a(x)))))),
    "residual": block,
    "read twice": lambda x, a, b, n, m, *_: F.relu(n(y := a(x))) + F.relu(m(y)) + b(F.relu(y)),
    "given to two": lambda x, a, b, n, *_: b(F.relu(y := n(a(x)))) + F.relu6(y),
    "max pool": lambda x, a, b, n, m, *_: m(b(F.max_pool2d(F.relu(n(a(x))), 2))),
    "average": lambda x, a, b, n, m, *_: F.relu(m(F.avg_pool2d(F.relu(n(a(x))), 2))),
    "of the pixels": lambda x, a, b, n, m, k, pixels: b(F.relu(n(a(pixels(x))))),
}
METHODS = {
    "gradient": saliency.Gradient(),
    "DeepLIFT": saliency.DeepLift(baseline=0.4),
    "LRP": saliency.LRP(epsilon=1e-3),
    "z-plus": saliency.LRP("zplus", epsilon=1e-3),
    "deep Taylor": saliency.DeepTaylor(),
}


def made(function):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = Net(function).double().train()
        for _ in range(3):
            model(2 * torch.rand(8, 3, 6, 6, dtype=torch.float64))
    return model.eval().requires_grad_(False)


def explained(function, method):
    """Return a map, and how it changes in two directions, one after the other."""
    generator = torch.Generator().manual_seed(3)
    x, *vectors = (torch.rand(2, 3, 6, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    surrogate = softplus_surrogate(made(function), 2.0, constant=True)
    x.requires_grad_()
    attributions, _ = method.explain(surrogate, x, torch.tensor([0, 2]), create_graph=True)
    products = [torch.autograd.grad(attributions, x, v - 0.5, retain_graph=True)[0] for v in vectors]
    return [attributions.detach(), *products]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_changes_when_memory_is_used_again(name, method, monkeypatch):
    got = explained(NETWORKS[name], METHODS[method])
    monkeypatch.setattr(program, "_may_overwrite", lambda *_: (False, False))
    for value, wanted in zip(got, explained(NETWORKS[name], METHODS[method]), strict=True):
        assert wanted.abs().max() > 1e-6
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-15)


def test_memory_is_used_again_where_nobody_else_reads_it():
    found = {}
    for name in ("ReLU", "ReLU6", "GELU", "residual", "read twice", "given to two", "of the pixels"):
        surrogate = softplus_surrogate(made(NETWORKS[name]), 2.0, constant=True)
        operations = programs.program_of(surrogate, torch.rand(2, 3, 6, 6, dtype=torch.float64)).operations
        norms = [operation.setting for operation in operations if isinstance(operation, Normalised)]
        found[name] = [(setting.over, setting.back) for setting in norms]
    assert found["ReLU"] == found["ReLU6"] == found["GELU"] == [(True, True)] * 2
    assert found["residual"] == [(True, True), (True, False)]  # a sum hands the same memory to both
    assert found["read twice"] == [(False, True)] * 2
    assert found["given to two"] == [(True, True)]
    assert found["of the pixels"][0] == (False, False)
