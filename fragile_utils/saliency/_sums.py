"""Sums over many points, such as those of integrated gradients, within the memory there is.

Each point costs a forward and a backward pass, and their graph. A sum over 100 points of a batch does not hold 100
graphs: it is taken block by block. Where it is differentiated, the graphs of the first blocks are kept, as many as fit;
each of the others is computed again when its turn comes.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from fragile_utils._base import checks, memory
from fragile_utils._base.layout import layout
from fragile_utils._base.once import once

# What a block computes: part(images of its rows, rows, points, create_graph) -> attributions summed over the points
# (n, 3, H, W), and, from the block of the last point, the logits of the images (n, classes).
Part = Callable[[Tensor, slice, slice, bool], tuple[Tensor, Tensor | None]]
Block = tuple[slice, slice]


def blocks(rows: int, points: int, at_once: int) -> list[Block]:
    """Return the pairs (rows, points) of slices that cover all, each with at most `at_once` images; points last."""
    of_rows = min(rows, at_once)
    of_points = max(1, at_once // of_rows)
    return [
        (slice(row, row + of_rows), slice(point, point + of_points))
        for row in range(0, rows, of_rows)
        for point in range(0, points, of_points)
    ]


def accumulate(
    part: Part, images: Tensor, blocks: list[Block], create_graph: bool, kept: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Return the sum of `part` over all points (N, 3, H, W), and the logits (N, classes) if it gives any.

    With `create_graph`, both can be differentiated with respect to `images`. The graphs of the first `kept` blocks are
    held until then, and that of one other block at a time.
    """
    if not (create_graph and images.requires_grad):
        return _sum((part(images.detach()[rows], rows, points, False) for rows, points in blocks), images, blocks)
    if len(blocks) == 1:
        return part(images, *blocks[0], True)
    return _InBlocks.apply(images, part, blocks, kept)


def _sum(
    computed: Iterable[tuple[Tensor, Tensor | None]], images: Tensor, blocks: list[Block]
) -> tuple[Tensor, Tensor | None]:
    total, logits = torch.zeros_like(images), []
    for (rows, _), (attributions, of_rows) in zip(blocks, computed, strict=True):
        total[rows] += attributions.detach()
        logits += [] if of_rows is None else [of_rows.detach()]
    return total, torch.cat(logits) if logits else None


class _InBlocks(torch.autograd.Function):
    """The sum, with the graphs of some blocks; the backward pass computes the others once more, with theirs."""

    @staticmethod
    def forward(ctx, images: Tensor, part: Part, blocks: list[Block], kept: int) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(images)
        ctx.part, ctx.blocks, ctx.graphs = part, blocks, {}
        ctx.set_materialize_grads(False)

        def computed() -> Iterator[tuple[Tensor, Tensor | None]]:
            for number, block in enumerate(blocks):
                if number < kept:
                    ctx.graphs[number] = _with_graph(part, images, block)
                    yield ctx.graphs[number][1]
                else:
                    yield part(images.detach()[block[0]], *block, False)

        return _sum(computed(), images, blocks)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor, None, None, None]:
        (images,) = ctx.saved_tensors
        result = torch.zeros_like(images)
        for number, (rows, points) in enumerate(ctx.blocks):
            # A second backward pass finds no graph left.
            some, computed = ctx.graphs.pop(number, None) or _with_graph(ctx.part, images, (rows, points))
            pairs = [
                (value, grad[rows])
                for value, grad in zip(computed, grads, strict=True)
                if value is not None and grad is not None and value.requires_grad
            ]
            if pairs:
                values, of_values = zip(*pairs, strict=True)
                result[rows] += torch.autograd.grad(values, some, of_values)[0]
        return result, None, None, None


@torch.enable_grad()
def _with_graph(part: Part, images: Tensor, block: Block) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
    """Return the images of a block, and what it computes of them."""
    some = images[block[0]].detach().requires_grad_()
    return some, part(some, *block, True)


def as_batch(points: Tensor, like: Tensor) -> Tensor:
    """Return points (P, N, 3, H, W) as a batch (P N, 3, H, W), in the memory layout of `like`."""
    return points.flatten(0, 1).contiguous(memory_format=layout(like))


def check_chunk(chunk: int | None) -> None:
    if chunk is not None:
        checks.count(chunk, "chunk")


def in_chunks(
    part: Part, model: nn.Module, images: Tensor, points: int, chunk: int | None, create_graph: bool
) -> tuple[Tensor, Tensor | None]:
    at_once = chunk or once(
        f"images at once {images.shape[1:]} {images.dtype} {create_graph}",
        (model,),
        lambda: memory.images_at_once(model, images, create_graph),
    )
    of = blocks(len(images), points, at_once)
    kept = 0
    if create_graph and len(of) > 1 and chunk is None:
        key = f"images held {images.shape[1:]} {images.dtype}"
        kept = once(key, (model,), lambda: memory.images_held(model, images)) // at_once
    return accumulate(part, images, of, create_graph, kept)
