"""Steps of any kind, which autograd differentiates twice, and steps that it takes for constants."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fragile_utils.saliency.propagation.operation import NO_BENDS, Bends, Graph, Operation, Setting, within_step
from fragile_utils.saliency.propagation.steps import Step


class Shares(NamedTuple):
    """What was handed down, with the graph that leads to it."""

    m: Tensor
    of_inputs: list[Tensor]


class General(Operation):
    """A step of any kind: autograd differentiates it twice, within the step."""

    own = False

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        self.seen = [i for i, node in enumerate(step.inputs) if node.differentiable]

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Graph]:
        graph = within_step(self.step, self.setting, inputs, self.seen)
        return graph.value.detach(), graph

    def transposed(self, m: Tensor, kept: Graph) -> list[Tensor | None]:
        return self._placed(self._shares(m, kept, False))

    def propagate(self, m: Tensor, kept: Graph, keep: bool) -> tuple[list[Tensor | None], Shares | None]:
        if not keep:
            return self.transposed(m, kept), None
        with torch.enable_grad():
            m = m.detach().clone().requires_grad_()  # a copy: what follows may overwrite it
            shares = self._shares(m, kept, True)
        return self._placed([share.detach().clone() for share in shares]), Shares(m, shares)

    def differentiate(self, tangents: list[Tensor], kept: Graph, propagated: Shares) -> tuple[Tensor, Bends]:
        inputs = [propagated.m, *(kept.arguments[i] for i in self.seen)]
        chosen = [tangents[i] for i in self.seen]
        pairs = [(s, t) for s, t in zip(propagated.of_inputs, chosen, strict=True) if s.requires_grad]
        if not pairs:
            return torch.zeros_like(propagated.m), NO_BENDS
        shares, chosen = zip(*pairs, strict=True)
        tangent, *bends = torch.autograd.grad(shares, inputs, chosen, retain_graph=True, allow_unused=True)
        return torch.zeros_like(propagated.m) if tangent is None else tangent, Bends(self._placed(bends))

    def _shares(self, m: Tensor, kept: Graph, create_graph: bool) -> list[Tensor]:
        arguments = [kept.arguments[i] for i in self.seen]
        return list(
            torch.autograd.grad(
                kept.value, arguments, m, retain_graph=True, create_graph=create_graph, materialize_grads=True
            )
        )

    def _placed(self, values: list[Tensor | None]) -> list[Tensor | None]:
        """Return values of the inputs that are differentiable as values of all inputs."""
        result: list[Tensor | None] = [None] * len(self.step.inputs)
        for i, value in zip(self.seen, values, strict=True):
            result[i] = value
        return result


class Detached(Operation):
    """A value that depends on the image, and that autograd takes for a constant: nothing is handed down."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, None]:
        with self.setting.activations:
            return self.step.call(*inputs, *self.step.weights).detach(), None

    def transposed(self, m: Tensor, kept: None) -> list[Tensor | None]:
        return [None] * len(self.step.inputs)

    def propagate(self, m: Tensor, kept: None, keep: bool) -> tuple[list[Tensor | None], Tensor]:
        return self.transposed(m, kept), m.new_zeros(()).expand(m.shape)

    def differentiate(self, tangents: list[Tensor], kept: None, propagated: Tensor) -> tuple[Tensor, Bends]:
        return propagated, NO_BENDS
