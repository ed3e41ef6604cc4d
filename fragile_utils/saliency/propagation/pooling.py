"""Max pooling: what is the maximum of each window, and where."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fragile_utils._base.layout import layout
from fragile_utils.saliency.propagation.operation import Linear


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
        shape = m.shape[:1] + self.step.inputs[0].shape[1:]
        like = torch.empty(shape, dtype=m.dtype, device=m.device, memory_format=layout(m))
        # Of the functions of PyTorch that go back through a pool, this one needs nothing but the places.
        return torch.ops.aten.adaptive_max_pool2d_backward(m, like, indices)


def taken(x: Tensor, indices: Tensor) -> Tensor:
    """Return the values of x (N, C, H, W) at the places `indices` (N, C, h, w) in their planes."""
    return _by_pixel(x).gather(1, _by_pixel(indices)).unflatten(1, indices.shape[-2:]).movedim(-1, 1)


def _by_pixel(x: Tensor) -> Tensor:
    """Return x (N, C, H, W) as (N, H W, C)."""
    return x.movedim(1, -1).flatten(1, 2)
