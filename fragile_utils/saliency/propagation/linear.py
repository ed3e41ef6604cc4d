"""Linear steps that are no layers: values that move, that are scaled, and that are added up.

Each has its transpose written down. What has none here is left to autograd, within the step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils._base.geometry import pair
from fragile_utils._base.layout import layout
from fragile_utils.saliency.propagation.kinds import ADD, CAT, DIVIDE, FLIP, MULTIPLY, SAME_ORDER, SUBTRACT, Kind
from fragile_utils.saliency.propagation.operation import Graph, Linear, Setting, named, within_step
from fragile_utils.saliency.propagation.steps import Node, Step


class WithoutShift(Linear):
    """A step that is linear in its inputs, with nothing added: its derivative is the step itself."""

    def tangent(self, tangents: list[Tensor], kept: None) -> Tensor:
        return self.step.call(*tangents)


class SameOrder(WithoutShift):
    """Another shape, with all values in the same order: flatten, view, squeeze."""

    def transposed(self, m: Tensor, kept: None) -> list[Tensor | None]:
        return [m.reshape(self.step.inputs[0].shape)]


class Flip(WithoutShift):
    """Values in reverse, which reversed again are as before."""

    def transposed(self, m: Tensor, kept: None) -> list[Tensor | None]:
        return [self.step.call(m)]


class Cat(WithoutShift):
    """Values side by side."""

    def transposed(self, m: Tensor, kept: None) -> list[Tensor | None]:
        along = axis_of_cat(self.step)
        return list(m.split([node.shape[along] for node in self.step.inputs], along))


class Sum(WithoutShift):
    """The sum of two values, or their difference."""

    def transposed(self, m: Tensor, kept: None) -> list[Tensor | None]:
        return [m, m.neg() if self.step.function in SUBTRACT else m]


class Average(WithoutShift):
    """Fewer values than before: multipliers are to have the layout in memory that the values had."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, torch.memory_format]:
        return self.step.call(*inputs), layout(inputs[0])


class Mean(Average):
    """The mean over some axes, or the sum."""

    def transposed(self, m: Tensor, kept: torch.memory_format) -> list[Tensor | None]:
        shape = self.step.inputs[0].shape
        axes = _axes(self.step)
        kept_axes = [1 if i in axes else n for i, n in enumerate(shape)]
        if self.step.function in (torch.mean, Tensor.mean):
            m = m / (shape.numel() // torch.Size(kept_axes).numel())
        m = m.reshape(kept_axes).expand(shape)
        return [m.contiguous(memory_format=kept) if kept is torch.channels_last else m]


class AveragePool(Average):
    """Averages of the windows of a grid."""

    def transposed(self, m: Tensor, kept: torch.memory_format) -> list[Tensor | None]:
        like = torch.empty(self.step.inputs[0].shape, dtype=m.dtype, device=m.device, memory_format=kept)
        if self.step.function is F.adaptive_avg_pool2d:
            return [torch.ops.aten._adaptive_avg_pool2d_backward(m, like)]
        given = named(self.step, "x", "kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor")
        kernel = given["kernel"] if "kernel" in given else given["kernel_size"]
        given = {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True, "divisor": None} | given
        pairs = map(pair, (kernel, given["stride"] or kernel, given["padding"]))
        divisor = given.get("divisor_override", given["divisor"])
        flags = given["ceil_mode"], given["count_include_pad"]
        return [torch.ops.aten.avg_pool2d_backward(m, like, *pairs, *flags, divisor)]


class Shifted(Linear):
    """A constant added to each value, or subtracted: nothing changes but the values."""

    def tangent(self, tangents: list[Tensor], kept: None) -> Tensor:
        return tangents[0]

    def transposed(self, m: Tensor, kept: None) -> list[Tensor | None]:
        return [m]


class Scaled(WithoutShift):
    """Each value multiplied or divided by a constant: so are tangents and multipliers."""

    def transposed(self, m: Tensor, kept: None) -> list[Tensor | None]:
        return [self.step.call(m)]


class Normalised(Linear):
    """Batch normalisation with running statistics: each channel is scaled, and shifted."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Tensor]:
        given = named(self.step, *_BATCH_NORM)
        factor = (given["running_var"] + given.get("eps", 1e-5)).rsqrt()
        if given.get("weight") is not None:
            factor = factor * given["weight"]
        return self.step.call(*inputs), factor.view(-1, *[1] * (inputs[0].ndim - 2))

    def tangent(self, tangents: list[Tensor], kept: Tensor) -> Tensor:
        return tangents[0].mul_(kept) if self.setting.over else tangents[0] * kept

    def transposed(self, m: Tensor, kept: Tensor) -> list[Tensor | None]:
        return [m.mul_(kept) if self.setting.back else m * kept]


class LinearByAutograd(Linear):
    """Any other sum, average or scaling, and values that move elsewhere: the transpose is left to autograd."""

    own = False

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


# --- Which of them a step is -----------------------------------------------------------------------------------------

_BATCH_NORM = ("x", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def linear(step: Step, setting: Setting) -> Linear:
    """Return the operation of a linear step that is no layer."""
    kinds = {Kind.REARRANGE: _rearranged, Kind.CONSTANT: _by_constants, Kind.COMBINE: _combined}
    same_type = all(node.dtype == step.output.dtype for node in step.inputs)
    found = kinds[step.kind](step) if step.given is not None and same_type else None
    return (found or LinearByAutograd)(step, setting)


def _rearranged(step: Step) -> type[Linear] | None:
    if step.constants:
        return None
    if step.function in SAME_ORDER:
        return SameOrder
    if step.function in FLIP:
        return Flip
    return Cat if axis_of_cat(step) is not None else None


def axis_of_cat(step: Step) -> int | None:
    """Return the axis along which a step puts different values side by side; None if it is no such step."""
    if step.function not in CAT or step.constants or step.given is None:
        return None
    given = named(step, "tensors", "dim")
    values = given["tensors"]
    if not all(isinstance(value, Node) for value in values) or len(values) != len(step.inputs):
        return None
    return given.get("dim", given.get("axis", 0)) % len(step.output.shape)


def _by_constants(step: Step) -> type[Linear] | None:
    (node,) = step.inputs
    if node.shape != step.output.shape:
        return None
    if step.function is F.batch_norm:
        return Normalised if is_normalised(step) else None
    arguments, options = step.given
    first = bool(arguments) and arguments[0] is node and not options
    if first and step.function in {*ADD, *SUBTRACT} - {Tensor.__rsub__}:
        return Shifted
    if (
        (first and step.function in DIVIDE)
        or (step.function in MULTIPLY and not options)
        or (first and step.function in (torch.neg, Tensor.neg))
    ):
        return Scaled
    return None


def is_normalised(step: Step) -> bool:
    """Return whether a step is batch normalisation with running statistics."""
    if step.function is not F.batch_norm or step.given is None or len(step.output.shape) < 2:
        return False
    return named(step, *_BATCH_NORM).get("running_var") is not None


def _combined(step: Step) -> type[Linear] | None:
    _, options = step.given
    if step.constants:
        return None
    if step.function in ADD | SUBTRACT:
        same = all(node.shape == step.output.shape for node in step.inputs)
        two = len(step.inputs) == 2 and not options and step.function is not Tensor.__rsub__
        return Sum if same and two else None
    if step.function in (torch.mean, Tensor.mean, torch.sum, Tensor.sum):
        return Mean if "dtype" not in options and _axes(step) is not None else None
    pools = step.function in (F.avg_pool2d, F.adaptive_avg_pool2d)
    return AveragePool if pools and len(step.output.shape) == 4 else None


def _axes(step: Step) -> set[int] | None:
    """Return the axes over which a step takes the mean or the sum; None if it does not name them."""
    given = named(step, "x", "dim", "keepdim")
    axes = given.get("dim", given.get("axis"))
    axes = (axes,) if isinstance(axes, int) else axes
    if not axes or not all(isinstance(axis, int) for axis in axes):
        return None
    return {axis % len(step.inputs[0].shape) for axis in axes}
