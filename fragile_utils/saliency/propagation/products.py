"""Products of two values that both depend on the image, as in attention: Q K^T, and the weights times V."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fragile_utils.saliency.propagation.operation import Bends, Operation
from fragile_utils.saliency.propagation.steps import Step

MATMUL = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}


class Factors(NamedTuple):
    """The two factors, as stacks of matrices."""

    a: Tensor  # (B, r, s)
    b: Tensor  # (B, s, c)


class Product(Operation):
    """A B, matrix by matrix: it hands down m B^T and A^T m, of which each depends on the other factor."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Factors]:
        kept = Factors(*map(_stack, inputs))
        return torch.bmm(*kept).view(self.step.output.shape), kept

    def transposed(self, m: Tensor, kept: Factors) -> list[Tensor | None]:
        return self._unstacked(_handed_down(_stack(m), kept))

    def propagate(self, m: Tensor, kept: Factors, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        m = _stack(m)
        return self._unstacked(_handed_down(m, kept)), m if keep else None

    def differentiate(self, tangents: list[Tensor], kept: Factors, propagated: Tensor) -> tuple[Tensor, Bends]:
        changes = Factors(*map(_stack, tangents))
        tangent = torch.bmm(changes.a, kept.b).baddbmm_(kept.a, changes.b)
        return tangent.view(self.step.output.shape), Bends(self._unstacked(_handed_down(propagated, changes)))

    def _unstacked(self, shares: list[Tensor]) -> list[Tensor | None]:
        return [share.view(node.shape) for share, node in zip(shares, self.step.inputs, strict=True)]


def _stack(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[-2:])


def _handed_down(m: Tensor, factors: Factors) -> list[Tensor]:
    return [torch.bmm(m, factors.b.mT), torch.bmm(factors.a.mT, m)]


def is_product(step: Step) -> bool:
    """Return whether a step multiplies two values as matrices, one by one."""
    if step.function not in MATMUL or step.constants or step.given is None or len(step.inputs) != 2:
        return False
    a, b = step.inputs
    in_order = step.given == ((a, b), {})
    alike = a.dtype == b.dtype == step.output.dtype and a.differentiable and b.differentiable
    return in_order and alike and len(a.shape) > 2 and a.shape[:-2] == b.shape[:-2]
