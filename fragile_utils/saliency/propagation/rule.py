"""What a rule of propagation is: what each step of a network does to the multipliers that pass through it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fragile_utils.saliency.propagation.operations import Operation, Ruled
from fragile_utils.saliency.propagation.trace import Step


@dataclass(frozen=True)
class LocalDerivatives:
    """The derivatives as they are: what arrives at the image is the gradient of the score.

    Rules are called with a step and the multipliers m of its output, and return those of each of its inputs.
    """

    compares = False  # with a reference

    def __call__(self, step: Step, m: Tensor) -> list[Tensor]:
        return getattr(self, step.kind)(step, m)

    def derivative(self, step: Step, m: Tensor) -> list[Tensor]:
        graph = torch.is_grad_enabled()
        return list(torch.autograd.grad(step.output.value, step.arguments, m, retain_graph=True, create_graph=graph))

    rearrange = constant = combine = weighted = homogeneous = activation = max_pool = derivative

    def is_derivative(self, step: Step) -> bool:
        """Return whether the rule of a step is its derivative."""
        return getattr(type(self), step.kind) is LocalDerivatives.derivative

    def operation(self, step: Step, given: tuple[Any, ...]) -> Operation:
        """Return the operation of a step whose rule is not its derivative; `given` are the usual arguments of one."""
        return Ruled(*given[:2], self)
