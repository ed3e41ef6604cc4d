"""The windows of convolutions and pools: their options for height and width, and the pixels that no window reaches."""

from collections.abc import Sequence


def pair(option: int | Sequence[int]) -> tuple[int, int]:
    """Return an option of a convolution or a pool, such as its stride, for the height and for the width."""
    return for_axes(option, 2)


def for_axes(option: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """Return an option of a convolution or a pool for each axis, as PyTorch reads it: one number holds for all.

    Raises
    ------
    ValueError
        If it is neither one number nor one for each axis.
    """
    numbers = tuple(option) if isinstance(option, (tuple, list)) else (option,)
    if len(numbers) not in (1, axes):
        raise ValueError(f"expected one number or {axes}, one for each axis, got {option!r}")
    return numbers if len(numbers) == axes else numbers * axes


def left_over(
    size: Sequence[int],
    outputs: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """Return how many pixels at the far edge of each axis no window has reached; below 0, how far windows go beyond."""
    every = zip(size, outputs, kernel, stride, padding, dilation, strict=True)
    return [n - ((out - 1) * s - 2 * p + d * (k - 1) + 1) for n, out, k, s, p, d in every]
