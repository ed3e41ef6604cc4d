"""A network as steps: what they are called, and what is refused, by name."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from propagated import run
from references import CLASSES, batch, cifar
from torch import nn

from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency.deeplift import Rescale
from fragile_utils.saliency.lrp import EpsilonRule
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.trace import trace


def test_a_trace_names_the_layers_and_knows_their_kinds():
    model, (images, _) = cifar(), batch()
    steps = trace(model, images).steps
    names = [(step.layer, step.kind) for step in steps]
    assert names[:4] == [
        ("normalize", Kind.CONSTANT),
        ("normalize", Kind.CONSTANT),
        ("network.0", Kind.WEIGHTED),
        ("network.1", Kind.HOMOGENEOUS),
    ]
    assert names[-1] == ("network.12", Kind.WEIGHTED)
    assert [kind for _, kind in names].count(Kind.MAX_POOL) == 1


class Forward(nn.Module):
    """A convolution called `layer`, then any function."""

    def __init__(self, function, module=None) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, CLASSES, 3)
        self.inner = module or nn.Identity()
        self.function = function

    def forward(self, images):
        return self.function(self, self.layer(images)).mean((2, 3))


def on(function, module=None):
    return lambda: Forward(function, module).eval()


class CustomSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        return grad


def _batch_statistics():
    return nn.BatchNorm2d(CLASSES, track_running_stats=False)


NO_RULE = r"\) has no propagation rule"
REFUSED = {
    "unknown layer": (
        on(lambda self, x: self.inner(x), nn.GroupNorm(1, CLASSES)),
        rf"^inner \(.*group_norm{NO_RULE} of LRP",
    ),
    "unknown function": (on(lambda self, x: x.cumsum(1)), rf"^Forward \(.*cumsum{NO_RULE}"),
    "softmax layer": (
        on(lambda self, x: self.inner(x), nn.Softmax(1)),
        rf"^inner \(.*softmax{NO_RULE}",
    ),
    "softmax function": (
        on(lambda self, x: F.log_softmax(x, 1)),
        rf"^Forward \(.*log_softmax{NO_RULE}",
    ),
    "product of values": (on(lambda self, x: x * x.flip(1)), rf"^Forward \(.*mul{NO_RULE}"),
    "quotient": (on(lambda self, x: 1 / (x.relu() + 1)), r"^Forward \(.*reciprocal|div"),
    "weights made of the image": (
        on(lambda self, x: F.conv2d(x, x[:1, :, :1, :1])),
        rf"^Forward \(.*conv2d{NO_RULE}",
    ),
    "batch statistics": (on(lambda self, x: self.inner(x), _batch_statistics()), r"^inner: .*statistics of the batch"),
    "functional dropout": (on(lambda self, x: F.dropout(x, 0.5)), r"^Forward: .*dropout"),
    "in place on a view": (on(lambda self, x: F.relu_(x.view(x.shape))), r"^Forward: .*in place"),
    "in place below a view": (on(lambda self, x: (x.flatten(1), x.relu_())[1]), r"^Forward: .*in place"),
    "in place into a constant": (on(lambda self, x: torch.zeros(x.shape).double().add_(x)), r"^Forward: .*in place"),
    "written into": (on(lambda self, x: x.__setitem__(0, 0) or x), r"^Forward: .*__setitem__"),
    "out=": (on(lambda self, x: torch.add(x, 1, out=torch.zeros(x.shape).double())), r"^Forward: .*add"),
    "branch on a value": (on(lambda self, x: x if x.sum() > 0 else -x), r"^Forward: .*__bool__ asks for values"),
    "detached": (on(lambda self, x: x + x.detach()), rf"^Forward \(.*detach{NO_RULE} of LRP: cut off"),
    "data": (on(lambda self, x: x + x.data), rf"^Forward \(.*data.*{NO_RULE} of LRP: cut off"),
    "custom function": (on(lambda self, x: CustomSquare.apply(x)), "^Forward: .*exp is called by an autograd.Function"),
    "no layers": (lambda: nn.Flatten().eval(), "^model: expected layers between"),
    "constant": (lambda: _Constant().eval(), r"^model: expected logits computed from the images"),
    "training mode": (lambda: Forward(lambda self, x: x), "call model.eval()"),
    "part in training mode": (
        lambda: (m := on(lambda self, x: x, nn.Dropout())(), m.inner.train())[0],
        "training mode in inner",
    ),
    "surrogate inside": (
        lambda: nn.Sequential(softplus_surrogate(on(lambda self, x: x)())).eval(),
        "^0: a softplus surrogate inside",
    ),
}


class _Constant(nn.Module):
    def forward(self, images):
        return torch.ones(len(images), CLASSES, dtype=images.dtype)


def hooks(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_explained_is_refused_by_name_and_leaves_nothing_behind(case):
    build, message = REFUSED[case]
    model, (images, targets) = build().double(), batch()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        run(model, images, targets, EpsilonRule())
    assert set(hooks(model)) == {(0, 0, 0)}
    assert [module.training for module in model.modules()] == training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.overrides._get_current_function_mode() is None
    assert torch.is_grad_enabled()


def test_torchscript_is_refused_as_a_module_and_as_a_function():
    images, targets = batch()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script", category=FutureWarning)
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, CLASSES, 16), nn.Flatten()).double().eval())
        function = torch.jit.script(_relu)
    outer = nn.Module()
    outer.inner = scripted
    with pytest.raises(ValueError, match="TorchScript"):
        run(scripted, images, targets, EpsilonRule())
    with pytest.raises(ValueError, match=r"^inner: expected a plain module, got TorchScript"):
        run(outer.eval(), images, targets, EpsilonRule())
    with pytest.raises(ValueError, match=r"^Forward: .*cannot be traced"):
        run(on(lambda self, x: function(x))().double(), images, targets, EpsilonRule())


def _relu(x):
    return torch.relu(x)


def test_a_compiled_model_is_refused():
    images, targets = batch()
    compiled = torch.compile(cifar())
    with pytest.raises(ValueError, match=r"torch\.compile"):
        run(compiled, images, targets, EpsilonRule())


def test_the_hooks_are_gone_and_the_parameters_untouched_afterwards():
    model, (images, targets) = cifar(), batch()
    model.requires_grad_(True)
    run(model, images, targets, Rescale())
    assert set(hooks(model)) == {(0, 0, 0)}
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
