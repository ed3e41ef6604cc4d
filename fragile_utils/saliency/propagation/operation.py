"""What an operation is: a step of a network with its derivatives, through which ``walks`` carries its values.

An operation knows four things of its step: the value; what the step hands down, by a rule, to its inputs when
multipliers arrive at its output; the transpose of that, with the bends that come of it (see ``walks``); and the
transpose of its own derivative. Which operation a step has is said in ``operations`` where the rule is the derivative.
The rules of DeepLIFT and LRP stand with the methods, in ``deeplift`` and ``lrp``, as operations built on these.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils.saliency.propagation.steps import Step


class Setting(NamedTuple):
    """How a step is computed."""

    activations: AbstractContextManager  # within which it is: softplus in place of ReLU
    beta: float  # of that softplus; infinite for ReLU itself
    over: bool = False  # whether a step of one value may compute in the memory of its input
    back: bool = False  # and of the multipliers of its output


class Bends(NamedTuple):
    """The derivative of <tangents, what is handed down> by the values on which that depends."""

    of_inputs: Sequence[Tensor | None] = ()  # one for each input, or none at all
    of_value: Tensor | None = None  # by the output, as if it did not depend on the inputs


NO_BENDS = Bends()


class Operation:
    """A step with its derivatives.

    Parameters
    ----------
    step : Step
    setting : Setting
    """

    own = True  # whether its derivatives are written down here, and not left to autograd

    def __init__(self, step: Step, setting: Setting) -> None:
        self.step, self.setting = step, setting

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Any]:
        """Return the value, and what the rest needs of it; `at_reference` is that of the same step on the reference."""
        raise NotImplementedError

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        """Return the transpose of the derivative, applied to multipliers `m` of the output: those of each input."""
        raise NotImplementedError

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Any]:
        """Return what the rule makes of multipliers `m`, for each input, and what `differentiate` needs of it.

        Without `keep`, there will be no call of `differentiate`.
        """
        raise NotImplementedError

    def differentiate(self, tangents: list[Tensor], kept: Any, propagated: Any) -> tuple[Tensor, Bends]:
        """Return the transpose of `propagate`, applied to `tangents` of the inputs; and its bends."""
        raise NotImplementedError

    def transposed_and_bent(self, r: Tensor, kept: Any, bends: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return `transposed`, with the bends of the inputs added."""
        shares = self.transposed(r, kept)
        if not bends:
            return shares
        pairs = zip(shares, bends, strict=True)
        return [share if bend is None else bend if share is None else share + bend for share, bend in pairs]


class Linear(Operation):
    """A step that is linear, or linear and a shift: it hands down by its transpose, and nothing bends."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Any]:
        return self.step.call(*inputs), None

    def tangent(self, tangents: list[Tensor], kept: Any) -> Tensor:
        """Return the derivative, applied to the tangents of the inputs."""
        raise NotImplementedError

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Any]:
        return self.transposed(m, kept), None

    def differentiate(self, tangents: list[Tensor], kept: Any, propagated: Any) -> tuple[Tensor, Bends]:
        return self.tangent(tangents, kept), NO_BENDS


def named(step: Step, *names: str) -> dict[str, Any]:
    """Return the arguments of a step by these names, with nodes in place of values; more positional ones are dropped.

    Only for steps of functions with one output: others have no `given`.
    """
    arguments, options = step.given
    return dict(zip(names, arguments, strict=False)) | options


def times(factor: float, t: Tensor) -> Tensor:
    """Return t times a factor, in its memory."""
    return t if factor == 1 else t.mul_(factor)


# --- Steps that autograd differentiates ------------------------------------------------------------------------------


class Graph(NamedTuple):
    """A value with the graph of its step alone."""

    value: Tensor
    arguments: list[Tensor]


def within_step(step: Step, setting: Setting, inputs: list[Tensor], seen: list[int] | None = None) -> Graph:
    """Compute a step with a graph of its own, which begins at its inputs: all of them, or those of the places `seen`.

    Attention takes the kernel that can be differentiated twice; the fused ones cannot.
    """
    with torch.enable_grad(), setting.activations, sdpa_kernel(SDPBackend.MATH):
        arguments = [
            x.detach().requires_grad_() if seen is None or i in seen else x.detach() for i, x in enumerate(inputs)
        ]
        return Graph(step.call(*arguments, *step.weights), arguments)
