"""The steps of a network, each with its derivatives: what ``walks`` carries values, multipliers and tangents through.

An operation knows four things of its step: the value; what the step hands down, by a rule, to its inputs when
multipliers arrive at its output; the transpose of that, with the bends that come of it (see ``walks``); and the
transpose of its own derivative. Here the rule is the derivative; the rules of DeepLIFT and LRP stand with the methods,
in ``deeplift`` and ``lrp``, as operations that are built on these.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils.models.convolution import convolution_transposed, pairs
from fragile_utils.models.surrogate import softplus_and_slope
from fragile_utils.saliency.propagation.trace import RELU, Kind, Step

CONVOLUTION = {"stride": 1, "padding": 0, "dilation": 1}


class Setting(NamedTuple):
    """How a step is computed."""

    activations: AbstractContextManager  # within which it is: softplus in place of ReLU
    beta: float  # of that softplus; infinite for ReLU itself
    over: bool = False  # whether an elementwise step may compute in the memory of its input
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


# --- Linear steps ----------------------------------------------------------------------------------------------------


class Linear(Operation):
    """A step that is linear, or linear and a shift: it hands down by its transpose, and nothing bends."""

    def tangent(self, tangents: list[Tensor], kept: Any) -> Tensor:
        """Return the derivative, applied to the tangents of the inputs."""
        raise NotImplementedError

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Any]:
        return self.transposed(m, kept), None

    def differentiate(self, tangents: list[Tensor], kept: Any, propagated: Any) -> tuple[Tensor, Bends]:
        return self.tangent(tangents, kept), NO_BENDS


class Graph(NamedTuple):
    """A value with the graph of its step alone."""

    value: Tensor
    arguments: list[Tensor]


class LinearByAutograd(Linear):
    """Sums, averages, scalings, and values that move to other places: the transpose is left to autograd."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Graph]:
        graph = within_step(self.step, self.setting, inputs)
        return graph.value.detach(), graph

    def transposed(self, m: Tensor, kept: Graph) -> list[Tensor | None]:
        return list(torch.autograd.grad(kept.value, kept.arguments, m, retain_graph=True))

    def tangent(self, tangents: list[Tensor], kept: Graph) -> Tensor:
        constants = self.step.kind is Kind.COMBINE and self.step.constants
        if self.step.kind is Kind.CONSTANT or constants:  # the transpose of the transpose
            with torch.enable_grad():
                m = torch.zeros_like(kept.value).requires_grad_()
                shares = torch.autograd.grad(kept.value, kept.arguments, m, create_graph=True)
                return torch.autograd.grad(shares, m, tangents, retain_graph=True)[0]
        value = self.step.call(*tangents)
        if self.step.constants:  # beside which values are put: they do not change
            value = value - self.step.call(*map(torch.zeros_like, tangents))
        return value


class Weighted(Linear):
    """A convolution or a linear layer."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, None]:
        return self.step.call(*inputs, *self.step.weights), None

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        weight, _ = self.step.weights
        return [self.transpose(m, weight)]

    def tangent(self, tangents: list[Tensor], kept: Any) -> Tensor:
        weight, _ = self.step.weights
        return self.step.call(*tangents, weight, None)

    def transpose(self, m: Tensor, weight: Tensor) -> Tensor:
        """Return the transpose of the layer with these weights, applied to `m`."""
        if self.step.function is F.linear:
            return m @ weight
        options = self.step.options
        stride, padding, dilation = pairs(*(options.get(name, d) for name, d in CONVOLUTION.items()))
        size = self.step.inputs[0].shape[-2:]
        return convolution_transposed(m, weight, size, stride, padding, dilation, options.get("groups", 1))


class Places(NamedTuple):
    """Where in its plane each maximum is."""

    indices: Tensor  # (N, C, h, w)


class MaxPool(Linear):
    """Max pooling: its derivative takes, or puts back, the places of the maxima."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Any]:
        value, indices = self.step.call(*inputs)
        return value, Places(indices)

    def tangent(self, tangents: list[Tensor], kept: Any) -> Tensor:
        return taken(tangents[0], kept.indices)

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        return [self.put_back(m, kept.indices)]

    def put_back(self, m: Tensor, indices: Tensor) -> Tensor:
        """Return multipliers of the input: those of each window at the place of its maximum."""
        n, c, h, w = self.step.inputs[0].shape
        x = m.new_zeros(n, h * w, c).scatter_add_(1, _by_pixel(indices), _by_pixel(m))
        return x.unflatten(1, (h, w)).movedim(-1, 1)


def taken(x: Tensor, indices: Tensor) -> Tensor:
    """Return the values of x (N, C, H, W) at the places `indices` (N, C, h, w) in their planes."""
    return _by_pixel(x).gather(1, _by_pixel(indices)).unflatten(1, indices.shape[-2:]).movedim(-1, 1)


def _by_pixel(x: Tensor) -> Tensor:
    """Return x (N, C, H, W) as (N, H W, C)."""
    return x.movedim(1, -1).flatten(1, 2)


# --- Elementwise steps -----------------------------------------------------------------------------------------------


class Elementwise(Operation):
    """An activation f: it hands down f'(z) m, and f''(z) m bends."""

    def slope(self, kept: Any) -> Tensor:
        """Return f'(z)."""
        raise NotImplementedError

    def curvature(self, m: Tensor, kept: Any) -> Tensor:
        """Return f''(z) m."""
        raise NotImplementedError

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        slope = self.slope(kept)
        return [m.mul_(slope) if self.setting.back else m * slope]

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        curvature = self.curvature(m, kept) if keep else None
        return self.transposed(m, kept), curvature

    def differentiate(self, tangents: list[Tensor], kept: Any, propagated: Tensor) -> tuple[Tensor, Bends]:
        (t,) = tangents
        bend = propagated * t
        slope = self.slope(kept)
        return t.mul_(slope) if self.setting.over else t * slope, Bends([bend])


class Slope(NamedTuple):
    """The derivative of an activation."""

    slope: Tensor


class Softplus(Elementwise):
    """ReLU, smoothed by the surrogate."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Slope]:
        value, slope = softplus_and_slope(*inputs, self.setting.beta, in_place=self.setting.over)
        return value, Slope(slope)

    def slope(self, kept: Slope) -> Tensor:
        return kept.slope

    def curvature(self, m: Tensor, kept: Slope) -> Tensor:
        if math.isinf(self.setting.beta):
            return torch.zeros_like(m)
        curvature = torch.ops.aten.sigmoid_backward(m, kept.slope)  # m s (1 - s), in one pass
        return curvature if self.setting.beta == 1 else curvature.mul_(self.setting.beta)


class SlopeGraph(NamedTuple):
    """The derivative of an activation, with the graph that leads to it."""

    slope: Tensor
    z: Tensor


class ElementwiseByAutograd(Elementwise):
    """Any other activation: autograd differentiates it, within the step."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, SlopeGraph]:
        value, (z,) = within_step(self.step, self.setting._replace(over=False), inputs)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        return value.detach(), SlopeGraph(slope, z)

    def slope(self, kept: SlopeGraph) -> Tensor:
        return kept.slope.detach()

    def curvature(self, m: Tensor, kept: SlopeGraph) -> Tensor:
        if not kept.slope.requires_grad:  # piecewise linear
            return torch.zeros_like(m)
        (curvature,) = torch.autograd.grad(kept.slope, kept.z, m, retain_graph=True, materialize_grads=True)
        return curvature


# --- Anything else ---------------------------------------------------------------------------------------------------


class Shares(NamedTuple):
    """What was handed down, with the graph that leads to it."""

    m: Tensor
    of_inputs: list[Tensor]


class General(Operation):
    """A step of any kind: autograd differentiates it twice, within the step."""

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


def within_step(step: Step, setting: Setting, inputs: list[Tensor], seen: list[int] | None = None) -> Graph:
    """Compute a step with a graph of its own, which begins at its inputs: all of them, or those of the places `seen`.

    Attention takes the kernel that can be differentiated twice; the fused ones cannot.
    """
    with torch.enable_grad(), setting.activations, sdpa_kernel(SDPBackend.MATH):
        arguments = [
            x.detach().requires_grad_() if seen is None or i in seen else x.detach() for i, x in enumerate(inputs)
        ]
        return Graph(step.call(*arguments, *step.weights), arguments)


def derivative(step: Step, setting: Setting) -> Operation:
    """Return the operation of a step that hands down by its derivative."""
    if step.kind is Kind.WEIGHTED:
        return Weighted(step, setting)
    if step.kind is Kind.MAX_POOL:
        return MaxPool(step, setting)
    if step.kind in (Kind.HOMOGENEOUS, Kind.ACTIVATION):
        return Softplus(step, setting) if step.function in RELU else ElementwiseByAutograd(step, setting)
    if step.kind is Kind.GENERAL:
        return General(step, setting)
    return Detached(step, setting) if step.kind is Kind.DETACHED else LinearByAutograd(step, setting)
