"""The windows of convolutions and pools, against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from fragile_utils._base.geometry import for_axes, left_over, pair

OPTIONS = [2, (2,), [2], (2, 1), [1, 2], torch.Size([2])]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_pair_is_what_pytorch_makes_of_an_option(option):
    x, weight = (torch.randn(2, 3, n, n, generator=torch.Generator().manual_seed(n)) for n in (9, 3))
    for name in ("stride", "padding", "dilation"):
        torch.testing.assert_close(F.conv2d(x, weight, **{name: pair(option)}), F.conv2d(x, weight, **{name: option}))
    torch.testing.assert_close(F.avg_pool2d(x, pair(option)), F.avg_pool2d(x, option))


@pytest.mark.parametrize("option", [(), (1, 2, 3)], ids=str)
def test_what_is_for_no_two_axes_is_refused(option):
    with pytest.raises(ValueError, match="expected one number or 2, one for each axis, got"):
        pair(option)


def test_other_numbers_of_axes():
    assert for_axes(3, 1) == for_axes([3], 1) == (3,)
    assert for_axes((1, 2, 3), 3) == (1, 2, 3)


@pytest.mark.parametrize("size", range(5, 12))
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(3, 2, 1, 1), (2, 3, 0, 2), (4, 1, 2, 1)])
def test_what_is_left_over_is_the_output_padding_that_gives_the_size_back(size, kernel, stride, padding, dilation):
    x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    y = F.conv1d(x, weight, None, stride, padding, dilation)
    (rest,) = left_over((size,), y.shape[2:], (kernel,), (stride,), (padding,), (dilation,))
    shortest = F.conv_transpose1d(y, weight, None, stride, padding, dilation=dilation)
    assert shortest.shape[2] + rest == size
