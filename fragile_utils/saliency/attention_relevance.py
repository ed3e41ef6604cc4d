"""Attention weighted by its relevance and its gradient: the rule for transformers that propagates relevance."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fragile_utils.models.adapter import SOFTMAX
from fragile_utils.saliency.attention import NORMS, PRODUCTS, WrittenOut, attend
from fragile_utils.saliency.method import Method
from fragile_utils.saliency.propagation import kinds
from fragile_utils.saliency.propagation.recording import replaced, tensors
from fragile_utils.saliency.propagation.steps import name_of


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
            images = images if create_graph and images.requires_grad else images.detach().requires_grad_()
            tape = Tape()
            seen = attend(model, images, True, tape)  # what depends on the image is known by its graph
            one = torch.zeros_like(seen.logits).scatter(1, targets.clamp(max=seen.logits.shape[1] - 1)[:, None], 1)
            row = seen.read(model, targets).expand(len(images), 1, -1)
            gradients = seen.gradients(targets, create_graph)
            relevances = tape.relevances(seen.logits, one, create_graph)
            for gradient, relevance in reversed(list(zip(gradients, relevances, strict=True))):
                row = row + row @ (gradient * seen.by_head(relevance)).clamp(min=0).mean(dim=1)
            return seen.answer(row.squeeze(1), create_graph)


class Call(NamedTuple):
    """A function that the network called, with what, and what it returned."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    results: tuple[Tensor, ...]


class Tape(WrittenOut):
    """Attention written out, and all functions that the network calls in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def called(self, func: Callable, args: tuple, kwargs: dict[str, Any], result: Any) -> None:
        super().called(func, args, kwargs, result)
        results = tuple(tensors(args[0] if func is Tensor.__setitem__ else result))
        if results and (_in_place(func, kwargs) or not any(r is t for r in results for t in tensors((args, kwargs)))):
            self.calls.append(Call(func, args, kwargs, results))

    def relevances(self, logits: Tensor, relevance: Tensor, create_graph: bool) -> list[Tensor]:
        """Return what arrives at each attention matrix, of `relevance` (N, classes) at the logits.

        Raises
        ------
        ValueError
            If there is no rule for a function on the way.
        """
        arrived = {id(logits): relevance}
        missing = {id(matrix) for matrix in self.matrices}
        known = {id(result) for call in self.calls for result in call.results}
        found: dict[int, Tensor] = {}
        for call in reversed(self.calls):
            if missing <= found.keys():
                break
            given = [arrived.pop(id(result), None) for result in call.results]
            if all(share is None for share in given):
                continue
            live = _live(call, known)
            for tensor, share in _rule(call)(call, live, given, create_graph):
                before = arrived.get(id(tensor))
                arrived[id(tensor)] = share if before is None else before + share
            found |= {id(tensor): arrived[id(tensor)] for tensor in live if id(tensor) in missing}
        if not missing <= found.keys():
            raise ValueError("model: expected relevance at each attention, got none: the score does not go through it")
        return [found[id(matrix)] for matrix in self.matrices]


# --- Rules: each yields the inputs that depend on the image, and their shares of what arrived at the results ---------

Shares = Iterator[tuple[Tensor, Tensor]]


def _identity(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Hand on what arrived: activations, normalisations, softmax, and what is done to a value with constants."""
    _expect(call, len(live) == 1 and live[0].shape == call.results[0].shape, "of one value that depends on the image")
    yield live[0], given[0]


def _linear(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share among the products of input and weight that are positive: equations 5 and 6."""
    x, weight = call.args[0], call.args[1] if len(call.args) > 1 else call.kwargs["weight"]
    _expect(call, len(live) == 1 and live[0] is x, "with constant weights")
    raising, lowering = weight.clamp(min=0), weight.clamp(max=0)
    above, below = x.clamp(min=0), x.clamp(max=0)
    share = _divided(given[0], F.linear(above, raising) + F.linear(below, lowering))
    yield x, above * (share @ raising) + below * (share @ lowering)


def _product(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share between both factors, by halves: equations 8 and 12."""
    a, b = call.args[:2]
    _expect(call, len(live) == 2 and a.shape[:-2] == b.shape[:-2], "of two values (..., n, m) that depend on the image")
    share = _divided(given[0], call.results[0])
    yield a, a * (share @ b.transpose(-2, -1)) / 2
    yield b, b * (a.transpose(-2, -1) @ share) / 2


def _sum(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share between both terms, in proportion to the magnitudes of their sums: equations 8 to 11."""
    if len(live) == 1:
        yield from _identity(call, live, given, create_graph)
        return
    a, b = call.args[:2]
    _expect(call, len(live) == 2 and a.shape == b.shape and not call.kwargs, "of two values of the same shape")
    share = _divided(given[0], call.results[0])
    of_each = [a * share, b * share]
    dims = tuple(range(1, a.ndim))
    sums = [shares.sum(dims, keepdim=True) for shares in of_each]
    total, magnitude = given[0].sum(dims, keepdim=True), sums[0].abs() + sums[1].abs()
    for term, shares, own in zip((a, b), of_each, sums, strict=True):
        yield term, shares * _divided(_divided(own.abs(), magnitude) * total, own)


def _averaged(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Share among the values of a mean, in proportion to them: equation 5."""
    for x, share in _transposed(call, live, [_divided(given[0], call.results[0])], create_graph):
        yield x, x * share


def _transposed(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Put what arrived back in its place: the transpose of a function that is linear."""
    zeros = {id(x): torch.zeros_like(x).requires_grad_() for x in live}
    args, kwargs = replaced((call.args, call.kwargs), lambda x: zeros.get(id(x), x), Tensor)
    results = tuple(tensors(call.function(*args, **kwargs)))
    pairs = [(result, share) for result, share in zip(results, given, strict=True) if share is not None]
    outputs, shares = zip(*pairs, strict=True)
    found = torch.autograd.grad(
        outputs, list(zeros.values()), shares, create_graph=create_graph, materialize_grads=True
    )
    return iter(zip(live, found, strict=True))


def _divided(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b is 0."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))


_T = Tensor
_ACTIVATIONS = {F.gelu, F.silu, F.mish, F.elu, F.hardswish, F.leaky_relu, torch.tanh, _T.tanh, *kinds.RELU}
_SCALINGS = {*kinds.MULTIPLY, *kinds.DIVIDE, _T.__mul__, _T.__rmul__, _T.__truediv__, torch.clone, _T.clone}
_RULES: dict[Callable, Callable[..., Shares]] = {
    **dict.fromkeys((*_ACTIVATIONS, *_SCALINGS, *SOFTMAX, *NORMS, *kinds.SUBTRACT), _identity),
    **dict.fromkeys((*kinds.VIEWS, *kinds.SEVERAL_VIEWS, *kinds.CAT), _transposed),
    **dict.fromkeys(kinds.ADD, _sum),
    **dict.fromkeys(PRODUCTS, _product),
    **{F.linear: _linear, torch.mean: _averaged, _T.mean: _averaged},
}


def _rule(call: Call) -> Callable[..., Shares]:
    if call.function not in _RULES or _in_place(call.function, call.kwargs):
        raise ValueError(
            f"model: attention relevance: expected functions that it has a rule for, got {name_of(call.function)}"
        )
    return _RULES[call.function]


def _expect(call: Call, holds: bool, what: str) -> None:
    if not holds:
        got = ", ".join(str(tuple(x.shape)) for x in tensors((call.args, call.kwargs)))
        raise ValueError(f"model: attention relevance: expected {name_of(call.function)} {what}, got values {got}")


def _live(call: Call, known: set[int]) -> list[Tensor]:
    """Return the arguments that depend on the image."""
    found = [x for x in tensors((call.args, call.kwargs)) if x.requires_grad and id(x) in known]
    for x in tensors((call.args, call.kwargs)):
        if x.grad_fn is not None and id(x) not in known:
            raise ValueError(f"model: expected functions of PyTorch before {name_of(call.function)}, got others")
    return list({id(x): x for x in found}.values())


def _in_place(function: Callable, kwargs: dict[str, Any]) -> bool:
    name = getattr(function, "__name__", "")
    written = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i") or name == "__setitem__"
    return written or bool(kwargs.get("inplace"))
