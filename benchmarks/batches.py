"""Batches of any size for a benchmark, made of the few images that there are."""

from torch import Tensor

from fragile_utils.data import Batch


def of_size(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
    """Return `size` images (N, 3, H, W) and labels (N,): those of the batch, from the first again where it ends."""
    repeats = -(-size // len(batch))
    return batch.images.repeat(repeats, 1, 1, 1)[:size], batch.labels.repeat(repeats)[:size]
