"""How images lie in memory: channel by channel, or with the channels of each pixel side by side."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return whether the channels come last in memory, and not in both ways, as where there is only one."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def layout(x: Tensor) -> torch.memory_format:
    """Return the layout in memory that goes with that of `x`: of what is computed beside it, elementwise."""
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format
