"""The precision of float32 on a GPU.

NVIDIA's GPUs may multiply float32 numbers with 10 bits of mantissa (TensorFloat-32), and PyTorch lets convolutions do
so unless told otherwise. A saliency map, and the signs that an attack steps along, are differences of such products:
here they are computed in full float32, and in TensorFloat-32 on request only. bfloat16 is not offered: it flips about
one sign in six.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32(tf32: bool = False) -> Iterator[None]:
    """Compute in full float32 on a GPU, or with `tf32` in TensorFloat-32; afterwards all is as it was."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
