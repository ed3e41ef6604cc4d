"""Sums over many points, such as those of integrated gradients, within the memory there is.

Each point costs a forward and a backward pass, and their graph. A sum over 100 points of a batch does not hold 100
graphs: it is taken block by block, and where it is differentiated, each block is computed again when its turn comes.
"""

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

# What a block computes: part(images of its rows, rows, points, create_graph) -> attributions summed over the points
# (n, 3, H, W), and, from the block of the last point, the logits of the images (n, classes).
Part = Callable[[Tensor, slice, slice, bool], tuple[Tensor, Tensor | None]]
Block = tuple[slice, slice]

BLOCK_ON_CPU = 2**29  # bytes: larger blocks are no faster there


def blocks(rows: int, points: int, at_once: int) -> list[Block]:
    """Return the pairs (rows, points) of slices that cover all, each with at most `at_once` images; points last."""
    of_rows = min(rows, at_once)
    of_points = max(1, at_once // of_rows)
    return [
        (slice(row, row + of_rows), slice(point, point + of_points))
        for row in range(0, rows, of_rows)
        for point in range(0, points, of_points)
    ]


def images_at_once(model: nn.Module, images: Tensor, create_graph: bool) -> int:
    """Return how many images to hold graphs of at a time.

    As many as fit in a quarter of the free memory, on a CPU in half a GiB at most. One image is taken to need twice
    what autograd saves in a forward pass, and four times with `create_graph`.
    """
    needed = saved_bytes(model, images[:1]) * (4 if create_graph else 2)
    block = free_bytes(images.device) // 4
    if images.device.type == "cpu":
        block = min(block, BLOCK_ON_CPU)
    return max(1, block // max(1, needed))


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Return how many bytes autograd saves in a forward pass, not counting parameters and buffers."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(images.detach().requires_grad_())
    return sum(saved.values())


def free_bytes(device: torch.device) -> int:
    """Return how much memory is free on `device`, 2 GiB where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held by PyTorch, and free
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows, macOS
        return 2 * 2**30


def accumulate(part: Part, images: Tensor, blocks: list[Block], create_graph: bool) -> tuple[Tensor, Tensor]:
    """Return the sum of `part` over all points (N, 3, H, W), and the logits (N, classes).

    With `create_graph`, both can be differentiated with respect to `images`; one block's graph is held at a time.
    """
    if not (create_graph and images.requires_grad):
        return _sum(part, images.detach(), blocks)
    if len(blocks) == 1:
        return part(images, *blocks[0], True)
    return _Recomputed.apply(images, part, blocks)


def _sum(part: Part, images: Tensor, blocks: list[Block]) -> tuple[Tensor, Tensor]:
    total, logits = torch.zeros_like(images), []
    for rows, points in blocks:
        attributions, of_rows = part(images[rows], rows, points, False)
        total[rows] += attributions
        logits += [] if of_rows is None else [of_rows]
    return total, torch.cat(logits)


class _Recomputed(torch.autograd.Function):
    """The sum without its graph; the backward pass computes each block once more, with one."""

    @staticmethod
    def forward(ctx, images: Tensor, part: Part, blocks: list[Block]) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(images)
        ctx.part, ctx.blocks = part, blocks
        ctx.set_materialize_grads(False)
        return _sum(part, images.detach(), blocks)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor, None, None]:
        (images,) = ctx.saved_tensors
        result = torch.zeros_like(images)
        for rows, points in ctx.blocks:
            with torch.enable_grad():
                some = images[rows].detach().requires_grad_()
                computed = ctx.part(some, rows, points, True)
            pairs = [
                (value, grad[rows])
                for value, grad in zip(computed, grads, strict=True)
                if value is not None and grad is not None and value.requires_grad
            ]
            if pairs:
                values, of_values = zip(*pairs, strict=True)
                result[rows] += torch.autograd.grad(values, some, of_values)[0]
        return result, None, None


# --- Points on a path -------------------------------------------------------------------------------------------------


def _gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    places, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()


def _trapezoid(steps: int) -> tuple[list[float], list[float]]:
    ends = {0, steps - 1}
    return [k / (steps - 1) for k in range(steps)], [(0.5 if k in ends else 1) / steps for k in range(steps)]


# From a number of steps to the places on the path, from 0 to 1, and their weights.
PATHS: dict[str, Callable[[int], tuple[list[float], list[float]]]] = {
    "riemann_right": lambda steps: ([(k + 1) / steps for k in range(steps)], [1 / steps] * steps),
    "riemann_left": lambda steps: ([k / steps for k in range(steps)], [1 / steps] * steps),
    "riemann_middle": lambda steps: ([(k + 0.5) / steps for k in range(steps)], [1 / steps] * steps),
    "riemann_trapezoid": _trapezoid,
    "gausslegendre": _gauss_legendre,
}
