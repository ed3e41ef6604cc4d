"""AttnLRP: relevance propagation through attention, down to the pixels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fragile_utils.models.adapter import SOFTMAX
from fragile_utils.models.surrogate import SMOOTH
from fragile_utils.saliency.attention import NORMS, PRODUCTS, attend
from fragile_utils.saliency.baseline import Baseline
from fragile_utils.saliency.method import Method, answer, leaf
from fragile_utils.saliency.propagation import kinds
from fragile_utils.saliency.tape import Call, Rules, Shares, Tape, transposed


@dataclass(frozen=True)
class AttnLRP(Method):
    """AttnLRP: of each value its share of the score, through linear layers, activations, norms, softmax and attention.

    The relevance of a value is the value times a multiplier, and the rules say how multipliers are handed down. Linear
    layers hand them down as derivatives do (the epsilon rule with a vanishing epsilon). An activation f multiplies them
    by f(z) / z, a normalisation by one over the deviation that it divides by. A softmax has its derivative, and a
    product of two values that depend on the image, such as Q K^T and A V, gives each factor half of its derivative, so
    that no relevance is made. What biases take is lost. The map is that of the image less what the network subtracts
    from it, times its multipliers.

    The multipliers are functions of the activations, and are differentiated as such, so that attacks are exact. On a
    softplus surrogate its derivative stands for f(z) / z, as for the ReLU that it replaces.

    The authors claim a patent on the method, and allow its use for personal and scientific purposes. It is
    not among the methods of the command line.

    References
    ----------
    Achtibat et al., *AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers*, ICML 2024,
    arXiv:2402.05602, section 3. For vision transformers the authors advise the gamma rule in linear layers and
    convolutions; here these have the epsilon rule.
    """

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        mean = Baseline("mean").image_in_a_run(model, images.detach())
        with torch.enable_grad():
            tape = Tape()  # which knows by the graph what depends on the image
            seen = attend(model, leaf(images, create_graph), True, tape)
            one = torch.zeros_like(seen.logits).scatter(1, targets.clamp(max=seen.logits.shape[1] - 1)[:, None], 1)
            (multipliers,) = tape.hand_down(RULES, seen, one, [seen.images], create_graph)
            attributions = (seen.images - mean) * multipliers
        return answer(attributions, seen.logits, create_graph)


# --- Rules: each yields the inputs that depend on the image, and their multipliers -----------------------------------


def _activation(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Multiply by f(z) / z: equation 9."""
    (z,) = live
    yield z, given[0] * _GATES[call.function](z, *call.args[1:], **call.kwargs)


def _gelu(z: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        return (1 + torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z**3))) / 2
    return (1 + torch.erf(z / 2**0.5)) / 2


def _slope(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Take the derivative of what is linear in pieces, which is f(z) / z there."""
    (z,) = (x.detach().requires_grad_() for x in live)
    result = call.function(z, *call.args[1:], **call.kwargs)
    (found,) = torch.autograd.grad(result, z, given[0], create_graph=create_graph)
    yield live[0], found


def _norm(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Divide by the deviation (layer norm) or the root mean square as by a constant: proposition 3.4."""
    centred = call.function not in _RMS_NORMS
    names = ("input", "normalized_shape", "weight", *(("bias",) if centred else ()), "eps")
    given_as = dict(zip(names, call.args, strict=False)) | call.kwargs
    z, weight, eps = live[0], given_as.get("weight"), given_as.get("eps")
    call.expect(len(live) == 1 and given_as["input"] is z, "with constant weights")
    axes = tuple(range(-len(given_as["normalized_shape"]), 0))
    if centred:
        square = z.var(axes, unbiased=False, keepdim=True) + (1e-5 if eps is None else eps)
    else:
        square = z.square().mean(axes, keepdim=True) + (torch.finfo(z.dtype).eps if eps is None else eps)
    share = (given[0] if weight is None else given[0] * weight) / square.sqrt()
    yield z, share - share.mean(axes, keepdim=True) if centred else share


def _softmax(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Take the derivative: with it the relevance of z_i is z_i (R_i - s_i sum_j R_j), proposition 3.1."""
    axis = call.args[1] if len(call.args) > 1 else call.kwargs["dim"]
    shares = call.results[0] * given[0]
    yield live[0], shares - call.results[0] * shares.sum(axis, keepdim=True)


def _matrix_product(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Give each factor half of its derivative: proposition 3.3. A constant factor is a linear layer."""
    if len(live) == 1:
        yield from transposed(call, live, given, create_graph)
        return
    a, b = call.args[:2]
    call.expect(a.shape[:-2] == b.shape[:-2], "of two values (..., n, m) that depend on the image")
    yield a, given[0] @ b.transpose(-2, -1) / 2
    yield b, a.transpose(-2, -1) @ given[0] / 2


def _scaled(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Scale by a constant; of two values that depend on the image, such as a gate, each gets half."""
    if len(live) == 1 and (call.function not in kinds.DIVIDE or call.args[0] is live[0]):
        yield from transposed(call, live, given, create_graph)
        return
    call.expect(call.function not in kinds.DIVIDE, "by a constant")
    a, b = call.args[:2]
    call.expect(a.shape == b.shape, "of two values of the same shape")
    yield a, given[0] * b / 2
    yield b, given[0] * a / 2


_T = Tensor
_GATES = {
    F.gelu: _gelu,
    F.silu: lambda z, inplace=False: torch.sigmoid(z),
    F.hardswish: lambda z, inplace=False: F.relu6(z + 3) / 6,
    F.mish: lambda z, inplace=False: torch.tanh(F.softplus(z)),
    F.softplus: lambda z, beta=1.0, threshold=20.0: torch.sigmoid(beta * z),  # its derivative: a surrogate's ReLU
    **{SMOOTH[relu]: lambda z, beta: torch.sigmoid(beta * z) for relu in kinds.RELU},
    SMOOTH[F.leaky_relu]: lambda z, beta, negative_slope=0.01: (
        negative_slope + (1 - negative_slope) * torch.sigmoid(beta * z)
    ),
    SMOOTH[F.hardswish]: SMOOTH[F.hardsigmoid],
}
_RMS_NORMS = {F.rms_norm, torch.rms_norm}
_LINEAR = {
    *(F.linear, F.conv2d, torch.conv2d, F.batch_norm, torch.mean, _T.mean, torch.sum, _T.sum, F.avg_pool2d),
    *(F.adaptive_avg_pool2d, torch.neg, _T.neg, torch.roll, _T.roll, F.pad, torch.clone, _T.clone, _T.to, _T.float),
    *(*kinds.VIEWS, *kinds.SEVERAL_VIEWS, *kinds.CAT, *kinds.FLIP, *kinds.ADD, *kinds.SUBTRACT),
}
_SCALINGS = {*kinds.MULTIPLY, *kinds.DIVIDE, _T.__mul__, _T.__rmul__, _T.__truediv__}
RULES = Rules(
    "AttnLRP",
    {
        **dict.fromkeys(_LINEAR, transposed),
        **dict.fromkeys(_SCALINGS, _scaled),
        **dict.fromkeys(_GATES, _activation),
        **dict.fromkeys((*kinds.RELU, F.leaky_relu, *kinds.MAX_POOL), _slope),
        **dict.fromkeys(NORMS, _norm),
        **dict.fromkeys(SOFTMAX, _softmax),
        **dict.fromkeys(PRODUCTS, _matrix_product),
    },
)
