"""How much memory there is, and how many images fit into it."""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from fragile_utils._base import schema

BLOCK_ON_CPU = 2**30  # bytes: larger blocks are no faster there
HELD_ON_CPU = 2**32  # bytes

T = TypeVar("T")


def images_at_once(model: nn.Module, images: Tensor, create_graph: bool) -> int:
    """Return how many images to hold graphs of at a time.

    As many as fit in a quarter of the free memory, on a CPU in a GiB at most. One image is taken to need twice
    what autograd saves in a forward pass, and four times with `create_graph`. One where that cannot be counted, in a
    model with transforms of torch.func.
    """
    return max(1, _fitting(model, images, 4 if create_graph else 2, BLOCK_ON_CPU))


def images_held(model: nn.Module, images: Tensor) -> int:
    """Return how many images may keep their graphs, with `create_graph`, while those of others are computed.

    As many as fit in a quarter of the free memory, on a CPU in 4 GiB at most. One image is taken to hold twice what
    autograd saves in a forward pass, which is more than the programs of `saliency.propagation` hold. None where that
    cannot be counted.
    """
    return _fitting(model, images, 2, HELD_ON_CPU)


def _fitting(model: nn.Module, images: Tensor, times: int, most_on_cpu: int) -> int:
    """Return how many images fit in a quarter of the memory if one needs so many times what autograd saves."""
    try:
        needed = saved_bytes(model, images[:1]) * times
    except RuntimeError as error:
        if out_of_memory(error) or "saved tensor hooks" not in str(error):
            raise
        return 0
    room = free_bytes(images.device) // 4
    if images.device.type == "cpu":
        room = min(room, most_on_cpu)
    return room // max(1, needed)


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


def in_parts(compute: Callable[[slice], T], first: int, last: int, size: int) -> tuple[list[T], list[int]]:
    """Compute something of images `first` to `last`, `size` at a time, or fewer where they do not fit into the memory.

    Parameters
    ----------
    compute : callable
        Returns what is wanted of a slice of the images; not None.

    Returns
    -------
    results : list
        Of all parts, in order.
    halved : list of int
        To how many images at a time it came down, each time that memory was short.

    Raises
    ------
    ValueError
        If a single image does not fit.
    """
    results, halved = [], []
    while first < last:
        rows = slice(first, min(first + size, last))
        result = _attempt(compute, rows)
        if result is None:
            size = (rows.stop - first) // 2
            halved.append(size)
        else:
            results.append(result)
            first = rows.stop
    return results, halved


def _attempt(compute: Callable[[slice], T], rows: slice) -> T | None:
    """Return what is computed of these images, or None if they do not fit into the memory."""
    try:
        return compute(rows)
    except Exception as error:
        if not out_of_memory(error):
            raise
        if rows.stop - rows.start == 1:
            raise ValueError(f"out of memory with one image at a time: {schema.reason(error)}") from error
    if torch.cuda.is_available():  # now that no traceback holds any of it
        torch.cuda.empty_cache()
    return None


def out_of_memory(error: Exception) -> bool:
    """Return whether PyTorch says, in one of its ways, or Python, that memory is short."""
    said = str(error).lower()
    signs = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(sign in said for sign in signs)
    )
