"""Steps that set values in relation to each other: softmax, and layer normalisation."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils.models.adapter import SOFTMAX
from fragile_utils.saliency.propagation.operation import Bends, Operation, Setting, named
from fragile_utils.saliency.propagation.steps import Step

LAYER_NORM = {F.layer_norm, torch.layer_norm}


class Probabilities(NamedTuple):
    """The value of a softmax: positive, with sum 1 along its axis."""

    p: Tensor


class Softmax(Operation):
    """p = softmax(z): it hands down J m = p (m - <p, m>), with J the same matrix as its transpose.

    Of <t, J m>, with t the tangent of z, the derivative by p is t m - <p, m> t - <p, t> m.
    """

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        self.axis = _axis(step)

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Probabilities]:
        p = inputs[0].softmax(self.axis)
        return p, Probabilities(p)

    def transposed(self, m: Tensor, kept: Probabilities) -> list[Tensor | None]:
        return [torch.ops.aten._softmax_backward_data(m, kept.p, self.axis, m.dtype)]

    def propagate(self, m: Tensor, kept: Probabilities, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        return self.transposed(m, kept), m if keep else None

    def differentiate(self, tangents: list[Tensor], kept: Probabilities, propagated: Tensor) -> tuple[Tensor, Bends]:
        (t,), m, p = tangents, propagated, kept.p
        (tangent,) = self.transposed(t, kept)
        of_m, of_t = ((p * v).sum(self.axis, keepdim=True) for v in (m, t))
        return tangent, Bends(of_value=(t * (m - of_m)).addcmul_(of_t, m, value=-1))


class Standardised(NamedTuple):
    """Values with mean 0 and variance 1, and by what they were divided."""

    n: Tensor  # (N, ..., D)
    over: Tensor  # 1 / s (N, ..., 1)


class LayerNorm(Operation):
    """w n + b, with n = (x - mean) / s: it hands down J w m, with J u = (u - mean(u) - n mean(n u)) / s.

    J is the same matrix as its transpose, and the derivative of n. With t the tangent of x and u = w m, <t, J u>
    depends on x through s and n; its derivative is -J (mean(n u) t + mean(n t) u) / s - n mean(u J t) / s.
    """

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        given = named(step, *_LAYER_NORM)
        self.axes = len(given["normalized_shape"])
        self.eps = given.get("eps", 1e-5)

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Standardised]:
        (x,) = inputs
        given = named(self.step, *_LAYER_NORM)
        value, mean, over = torch.native_layer_norm(
            x, given["normalized_shape"], given.get("weight"), given.get("bias"), self.eps
        )
        n = (x - mean).mul_(over)
        return value, Standardised(self._flat(n), over.view(*over.shape[: x.ndim - self.axes], 1))

    def transposed(self, m: Tensor, kept: Standardised) -> list[Tensor | None]:
        return [_derivative(self._weighted(m), kept).view(m.shape)]

    def propagate(self, m: Tensor, kept: Standardised, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        u = self._weighted(m)
        return [_derivative(u, kept).view(m.shape)], u if keep else None

    def differentiate(self, tangents: list[Tensor], kept: Standardised, propagated: Tensor) -> tuple[Tensor, Bends]:
        shape, t, u, (n, over) = tangents[0].shape, self._flat(tangents[0]), propagated, kept
        of_t, of_u = _mean(n, t), _mean(n, u)
        along = _derivative(t, kept)
        bends = _derivative((of_u * t).addcmul_(of_t, u), kept).addcmul_(n, _mean(along, u)).mul_(over).neg_()
        return self._weighted(along.view(shape)).view(shape), Bends([bends.view(shape)])

    def _flat(self, x: Tensor) -> Tensor:
        """Return x with the axes that are normalised as one."""
        return x.flatten(-self.axes)

    def _weighted(self, m: Tensor) -> Tensor:
        """Return w m, flat."""
        weight = named(self.step, *_LAYER_NORM).get("weight")
        return self._flat(m if weight is None else m * weight)


def _mean(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of a b along the last axis."""
    return (a * b).mean(-1, keepdim=True)


def _derivative(u: Tensor, kept: Standardised) -> Tensor:
    """Return J u."""
    return (u - u.mean(-1, keepdim=True)).addcmul_(kept.n, _mean(kept.n, u), value=-1).mul_(kept.over)


# --- Which steps they are --------------------------------------------------------------------------------------------

_LAYER_NORM = ("x", "normalized_shape", "weight", "bias", "eps")


def is_softmax(step: Step) -> bool:
    """Return whether a step is a softmax along an axis that it names, in the type of its input."""
    return step.function in SOFTMAX and _of_one_value(step) and isinstance(_axis(step), int)


def is_layer_norm(step: Step) -> bool:
    """Return whether a step is a layer normalisation by constants, in a type that keeps mean and variance."""
    return step.function in LAYER_NORM and _of_one_value(step) and step.output.dtype in (torch.float32, torch.float64)


def _of_one_value(step: Step) -> bool:
    """Return whether a step has one value that depends on the image, its first argument, and keeps its type."""
    if step.given is None or len(step.inputs) != 1:
        return False
    (node,), (arguments, _) = step.inputs, step.given
    return bool(arguments) and arguments[0] is node and node.differentiable and node.dtype == step.output.dtype


def _axis(step: Step) -> Any:
    given = named(step, "x", "dim")
    axis = given.get("dim")
    return axis % len(step.output.shape) if isinstance(axis, int) else axis
