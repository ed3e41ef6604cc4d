"""The table: which kind of step each function of PyTorch is, and so which rule it follows."""

from collections.abc import Callable
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor


class Kind(Enum):
    """What a step does to the values that depend on the image."""

    REARRANGE = "moves values to other places, or beside constants"
    CONSTANT = "shifts or scales each value by a constant"
    COMBINE = "sums or averages values"
    WEIGHTED = "a convolution or a linear layer"
    HOMOGENEOUS = "elementwise, with f(z) = f'(z) z: ReLU, leaky ReLU"
    ACTIVATION = "any other elementwise function"
    MAX_POOL = "max pooling"
    GENERAL = "anything else that autograd differentiates"
    DETACHED = "cut off from the image: autograd sees a constant"


_T = Tensor
_aten = torch.ops.aten
RELU = {F.relu, torch.relu, _T.relu, _aten.relu, _aten.relu.default}
VIEWS = {  # the output may share the memory of the input
    *(torch.flatten, _T.flatten, _T.view, _T.view_as, torch.reshape, _T.reshape, torch.permute, _T.permute),
    *(torch.transpose, _T.transpose, torch.squeeze, _T.squeeze, torch.unsqueeze, _T.unsqueeze, _T.contiguous),
    *(torch.narrow, _T.narrow, torch.select, _T.select, _T.expand, _T.expand_as, torch.movedim, _T.movedim),
    *(_T.T.__get__, _T.mT.__get__, _T.t, torch.t, torch.unflatten, _T.unflatten, _T.__getitem__),
}
SAME_ORDER = {  # of the views, those in which all values follow each other as before
    *(torch.flatten, _T.flatten, _T.view, _T.view_as, torch.reshape, _T.reshape, _T.contiguous),
    *(torch.squeeze, _T.squeeze, torch.unsqueeze, _T.unsqueeze, torch.unflatten, _T.unflatten),
}
SEVERAL_VIEWS = {
    *(torch.chunk, _T.chunk, torch.split, _T.split, torch.unbind, _T.unbind, torch.tensor_split, _T.tensor_split)
}
FLIP = {torch.flip, _T.flip}
CAT = {torch.cat, torch.concat, torch.concatenate}
ADD = {torch.add, _T.add, _T.__add__, _T.__radd__}
SUBTRACT = {torch.sub, _T.sub, _T.__rsub__}
MULTIPLY = {torch.mul, _T.mul}
DIVIDE = {torch.div, _T.div}
AVERAGE = {torch.mean, _T.mean, torch.sum, _T.sum, F.avg_pool2d, F.adaptive_avg_pool2d}
_LINEAR = {  # with the constants beside them, which come second
    *(F.conv1d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.interpolate, F.avg_pool1d),
    *(torch.matmul, _T.matmul, _T.__matmul__, torch.conv1d, torch.conv_transpose2d),
}
MAX_POOL = {F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d}
_ELEMENTWISE = {  # a line here is all that a new activation needs
    *(torch.sigmoid, _T.sigmoid, F.sigmoid, torch.tanh, _T.tanh, F.tanh, F.softplus, F.logsigmoid, F.softsign),
    *(F.gelu, F.silu, F.mish, F.elu, F.selu, torch.selu, F.celu, torch.celu, F.hardswish, F.hardsigmoid, F.tanhshrink),
    *(F.relu6, F.hardtanh, F.threshold, torch.threshold, F.hardshrink, F.softshrink, torch.clamp, _T.clamp),
    *(torch.clamp_min, _T.clamp_min, torch.clamp_max, _T.clamp_max, torch.clip, _T.clip, torch.abs, _T.abs),
    *(torch.exp, _T.exp, torch.square, _T.square, torch.pow, _T.pow, _T.__pow__, torch.sqrt, _T.sqrt),
    *(torch.sin, _T.sin, torch.cos, _T.cos, torch.erf, _T.erf, torch.atan, _T.atan, torch.log1p, _T.log1p),
}
KINDS: dict[Callable, Kind] = {
    **dict.fromkeys((*VIEWS, *SEVERAL_VIEWS, *CAT, *FLIP, torch.roll, _T.roll, F.pad), Kind.REARRANGE),
    **dict.fromkeys((*MULTIPLY, *DIVIDE, torch.neg, _T.neg, F.batch_norm), Kind.CONSTANT),
    **dict.fromkeys((*ADD, *SUBTRACT), Kind.CONSTANT),  # COMBINE, when both terms depend on the image
    **dict.fromkeys((*AVERAGE, *_LINEAR), Kind.COMBINE),
    **dict.fromkeys((F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle), Kind.REARRANGE),
    **dict.fromkeys((F.conv2d, torch.conv2d, F.linear), Kind.WEIGHTED),
    **dict.fromkeys((*RELU, F.leaky_relu, F.prelu, torch.prelu, _T.prelu, F.rrelu), Kind.HOMOGENEOUS),
    **dict.fromkeys(_ELEMENTWISE, Kind.ACTIVATION),
    **dict.fromkeys(MAX_POOL, Kind.MAX_POOL),
}
IN_PLACE: dict[Callable, Callable] = {  # and the same function out of place
    **dict.fromkeys((torch.relu_, _T.relu_, F.relu_), torch.relu),
    **dict.fromkeys((torch.sigmoid_, _T.sigmoid_), torch.sigmoid),
    **dict.fromkeys((torch.tanh_, _T.tanh_), torch.tanh),
    **{F.leaky_relu_: F.leaky_relu, F.elu_: F.elu, F.hardtanh_: F.hardtanh},
    **dict.fromkeys((_T.add_, _T.__iadd__), torch.add),
    **dict.fromkeys((_T.sub_, _T.__isub__), torch.sub),
    **dict.fromkeys((_T.mul_, _T.__imul__), torch.mul),
    **dict.fromkeys((_T.div_, _T.__itruediv__), torch.div),
}
EQUIVALENT: dict[Callable, Callable] = {  # the same values, by functions that are differentiable twice, in any layout
    **{_T.view: _T.reshape, _T.view_as: _T.reshape_as, F.hardsigmoid: lambda x: F.relu6(x + 3) / 6},
}
POSITIVE = RELU | {torch.sigmoid, _T.sigmoid, F.softplus}  # have no values below 0
KEEP_POSITIVE = VIEWS | CAT | ADD | AVERAGE | MAX_POOL  # give none below 0 when they are given none
DROPOUT = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout}
RANDOM = {
    *(torch.rand_like, torch.randn_like, torch.randint_like, torch.bernoulli, _T.bernoulli, torch.multinomial),
    *(torch.poisson, torch.normal, F.gumbel_softmax, F.rrelu, torch.rrelu),
}
DETACH = {_T.detach, torch.detach, _T.data.__get__}
NEW = {  # constants of the shape, type or device of a value
    *(_T.new_zeros, _T.new_ones, _T.new_full, _T.new_empty, _T.new_tensor),
    *(torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like),
}
LIKE = {_T.type_as, _T.to, _T.expand_as, _T.view_as, _T.reshape_as}  # what is first, in the form of a value
INPUT_LATER = {torch.where, torch.searchsorted}  # functions of which `input` is not the first parameter
SHAPE_ONLY = {  # what may be asked of a value without computing with it
    *(_T.size, _T.dim, _T.numel, _T.nelement, _T.__len__, _T.is_floating_point, _T.is_contiguous, _T.stride),
    *(torch.is_floating_point, torch.is_tensor, torch.numel, _T.get_device, _T.is_complex, _T.element_size),
    *(getattr(_T, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "requires_grad")),
    *(
        getattr(_T, name).__get__
        for name in ("is_mps", "is_sparse", "is_quantized", "is_nested", "is_meta", "itemsize")
    ),
    torch.result_type,
}
