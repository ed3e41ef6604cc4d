"""Attention weighted by its relevance and its gradient: the rule for transformers that propagates relevance."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fragile_utils.models.adapter import SOFTMAX
from fragile_utils.models.surrogate import SMOOTH
from fragile_utils.saliency.attention import NORMS, PRODUCTS, attend
from fragile_utils.saliency.method import Method, leaf
from fragile_utils.saliency.propagation import kinds
from fragile_utils.saliency.tape import Call, Rules, Shares, Tape, transposed


@dataclass(frozen=True)
class AttentionRelevance(Method):
    """What attention weighs, weighted by the relevance that propagates to it, and by the gradient of the class score.

    The score is handed down layer by layer: a linear layer shares it among what raises its output (positive parts of
    inputs with positive weights, negative with negative); activations, normalisations and softmax hand on what they
    get; a sum and a product share it between their two terms, so that nothing is lost. R(A) is what arrives at an
    attention matrix A, and each layer is I + E[(dS/dA * R(A))+], E the mean over heads. The map is the row of the class
    token in the product of the layers, enlarged bilinearly from patches to pixels; where a network averages its tokens
    instead, it is the mean of their rows.

    Its rules divide by sums of both signs, which may be near zero: the map is far more curved than those of the other
    methods, and its derivative holds for smaller changes of the image.

    References
    ----------
    Chefer, Gur, Wolf, *Transformer Interpretability Beyond Attention Visualization*, CVPR 2021, arXiv:2012.09838,
    equations 5 to 14. In a sum, what the terms get is scaled image by image (equation 11).
    """

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            tape = Tape()  # which knows by the graph what depends on the image
            seen = attend(model, leaf(images, create_graph), True, tape)
            one = torch.zeros_like(seen.logits).scatter(1, targets.clamp(max=seen.logits.shape[1] - 1)[:, None], 1)
            row = seen.row(model, targets)
            gradients = seen.gradients(targets, create_graph)
            relevances = tape.hand_down(RULES, seen, one, seen.matrices, create_graph)
            for gradient, relevance in reversed(list(zip(gradients, relevances, strict=True))):
                row = row + row @ (gradient * seen.by_head(relevance)).clamp(min=0).mean(dim=1)
            return seen.answer(row.squeeze(1), create_graph)


# --- Rules: each yields the inputs that depend on the image, and their shares of what arrived at the results ---------


def _identity(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Hand on what arrived: activations, normalisations, softmax, and what is done to a value with constants."""
    call.expect(len(live) == 1 and live[0].shape == call.results[0].shape, "of one value that depends on the image")
    yield live[0], given[0]


def _linear(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share among the products of input and weight that are positive: equations 5 and 6."""
    x, weight = call.args[0], call.args[1] if len(call.args) > 1 else call.kwargs["weight"]
    call.expect(len(live) == 1 and live[0] is x, "with constant weights")
    raising, lowering = weight.clamp(min=0), weight.clamp(max=0)
    above, below = x.clamp(min=0), x.clamp(max=0)
    share = _divided(given[0], F.linear(above, raising) + F.linear(below, lowering))
    yield x, above * (share @ raising) + below * (share @ lowering)


def _product(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share between both factors, by halves: equations 8 and 12."""
    a, b = call.args[:2]
    call.expect(len(live) == 2 and a.shape[:-2] == b.shape[:-2], "of two values (..., n, m) that depend on the image")
    share = _divided(given[0], call.results[0])
    yield a, a * (share @ b.transpose(-2, -1)) / 2
    yield b, b * (a.transpose(-2, -1) @ share) / 2


def _sum(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share between both terms, in proportion to the magnitudes of their sums: equations 8 to 11."""
    if len(live) == 1:
        yield from _identity(call, live, given, create_graph)
        return
    a, b = call.args[:2]
    call.expect(len(live) == 2 and a.shape == b.shape and not call.kwargs, "of two values of the same shape")
    share = _divided(given[0], call.results[0])
    of_each = [a * share, b * share]
    dims = tuple(range(1, a.ndim))
    sums = [shares.sum(dims, keepdim=True) for shares in of_each]
    total, magnitude = given[0].sum(dims, keepdim=True), sums[0].abs() + sums[1].abs()
    for term, shares, own in zip((a, b), of_each, sums, strict=True):
        yield term, shares * _divided(_divided(own.abs(), magnitude) * total, own)


def _averaged(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share among the values of a mean, in proportion to them: equation 5."""
    for x, share in transposed(call, live, [_divided(given[0], call.results[0])], create_graph):
        yield x, x * share


def _divided(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b is 0."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))


_T = Tensor
_ACTIVATIONS = {F.gelu, F.silu, F.mish, F.elu, F.hardswish, F.leaky_relu, torch.tanh, _T.tanh, *kinds.RELU}
_ACTIVATIONS |= {SMOOTH[kinked] for kinked in _ACTIVATIONS & SMOOTH.keys()}  # of a softplus surrogate
_SCALINGS = {*kinds.MULTIPLY, *kinds.DIVIDE, _T.__mul__, _T.__rmul__, _T.__truediv__, torch.clone, _T.clone}
RULES = Rules(
    "attention relevance",
    {
        **dict.fromkeys((*_ACTIVATIONS, *_SCALINGS, *SOFTMAX, *NORMS, *kinds.SUBTRACT), _identity),
        **dict.fromkeys((*kinds.VIEWS, *kinds.SEVERAL_VIEWS, *kinds.CAT), transposed),
        **dict.fromkeys(kinds.ADD, _sum),
        **dict.fromkeys(PRODUCTS, _product),
        **{F.linear: _linear, torch.mean: _averaged, _T.mean: _averaged},
    },
)
