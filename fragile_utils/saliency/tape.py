"""A pass down a network: what arrives at the scores is handed to what they were computed from, function by function."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fragile_utils.models.surrogate import SMOOTH
from fragile_utils.saliency.attention import Attended, WrittenOut
from fragile_utils.saliency.propagation.calls import replaced, tensors, works_in_place
from fragile_utils.saliency.propagation.steps import name_of

Shares = Iterator[tuple[Tensor, Tensor]]


class Call(NamedTuple):
    """A function that the network called, with what, and what it returned."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    results: tuple[Tensor, ...]
    method: str = ""  # whose rule it meets

    def expect(self, holds: bool, what: str) -> None:
        """Refuse the network, unless the call is as its rule expects."""
        if not holds:
            got = ", ".join(str(tuple(x.shape)) for x in tensors((self.args, self.kwargs)))
            raise ValueError(f"model: {self.method}: expected {_name(self.function)} {what}, got values {got}")


Rule = Callable[[Call, list[Tensor], list[Tensor | None], bool], Shares]


@dataclass(frozen=True)
class Rules:
    """How a method hands down what arrives.

    Attributes
    ----------
    method : str
        Its name, for what is refused.
    of : mapping
        The rule of each function. Called with the call, the inputs that depend on the image, what arrived at each
        result (None: nothing), and `create_graph`, it yields inputs and their shares.
    """

    method: str
    of: Mapping[Callable, Rule]

    def rule(self, call: Call) -> Rule:
        if call.function not in self.of or _in_place(call.function, call.kwargs):
            raise ValueError(
                f"model: {self.method}: expected functions that it has a rule for, got {_name(call.function)}"
            )
        return self.of[call.function]


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

    def hand_down(
        self, rules: Rules, seen: Attended, share: Tensor, ends: Sequence[Tensor], create_graph: bool
    ) -> list[Tensor]:
        """Return what arrives at each of `ends`, of a `share` (N, classes) at the logits of what was `seen`.

        Raises
        ------
        ValueError
            If there is no rule for a function on the way, or nothing arrives.
        """
        arrived = {id(seen.logits): share}
        wanted = {id(end) for end in ends}
        moving, known = {id(seen.images)}, {id(seen.images)}  # depends on the image; is of the image or a call
        for call in self.calls:
            results = {id(result) for result in call.results}
            if any(id(x) in moving or _from_elsewhere(x, known) for x in tensors((call.args, call.kwargs))):
                moving |= results
            known |= results
        users = [
            i for i, call in enumerate(self.calls) if any(id(x) in wanted for x in tensors((call.args, call.kwargs)))
        ]
        for call in reversed(self.calls[min(users, default=0) :]):
            given = [arrived.pop(id(r), None) if id(r) not in wanted else arrived.get(id(r)) for r in call.results]
            if all(share is None for share in given):
                continue
            live = _live(call, moving, known)
            if not live:  # a constant gets the share
                continue
            rule, call = rules.rule(call), call._replace(method=rules.method)
            for tensor, share in rule(call, live, given, create_graph):
                before = arrived.get(id(tensor))
                arrived[id(tensor)] = share if before is None else before + share
        if not wanted <= arrived.keys():
            raise ValueError("model: expected scores that go through each attention, got others")
        return [arrived[id(end)] for end in ends]


def transposed(call: Call, live: list[Tensor], given: list[Tensor | None], create_graph: bool) -> Shares:
    """Put what arrived back in its place: the transpose of a function that is linear, or linear and a constant."""
    zeros = {id(x): torch.zeros_like(x).requires_grad_() for x in live}
    args, kwargs = replaced((call.args, call.kwargs), lambda x: zeros.get(id(x), x), Tensor)
    results = tuple(tensors(call.function(*args, **kwargs)))
    pairs = [(result, share) for result, share in zip(results, given, strict=True) if share is not None]
    outputs, shares = zip(*pairs, strict=True)
    found = torch.autograd.grad(
        outputs, list(zeros.values()), shares, create_graph=create_graph, materialize_grads=True
    )
    return iter(zip(live, found, strict=True))


def _name(function: Callable) -> str:
    """Return the name of a function, or of the kinked one in whose place a surrogate calls it."""
    return name_of(next((kinked for kinked, smooth in SMOOTH.items() if smooth is function), function))


def _live(call: Call, moving: set[int], known: set[int]) -> list[Tensor]:
    """Return the arguments that depend on the image."""
    found = [x for x in tensors((call.args, call.kwargs)) if x.requires_grad and id(x) in moving]
    for x in tensors((call.args, call.kwargs)):
        if _from_elsewhere(x, known):
            raise ValueError(f"model: expected functions of PyTorch before {name_of(call.function)}, got others")
    return list({id(x): x for x in found}.values())


def _from_elsewhere(x: Tensor, known: set[int]) -> bool:
    """Return whether a value was computed by what nobody has seen."""
    return x.grad_fn is not None and id(x) not in known


def _in_place(function: Callable, kwargs: dict[str, Any]) -> bool:
    return works_in_place(function) or function is Tensor.__setitem__ or bool(kwargs.get("inplace"))
