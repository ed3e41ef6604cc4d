"""Programs of torch.export as networks: their operators are called as the functions of PyTorch that they stand for.

What can be attacked exactly is a network that calls functions. The module of a program calls operators, and it can be
told neither ``eval()`` nor ``train()``: it is what it was exported as, and says of itself that it is in training.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

_aten = torch.ops.aten
_AS_CALLED = {  # what a program calls, and the functions by which the rest of this package knows the same
    _aten.conv2d.default: F.conv2d,
    _aten.linear.default: F.linear,
    _aten.relu.default: F.relu,
    _aten.relu_.default: F.relu_,
    _aten.leaky_relu.default: F.leaky_relu,
    _aten.leaky_relu_.default: F.leaky_relu_,
    _aten.hardtanh.default: F.hardtanh,
    _aten.hardtanh_.default: F.hardtanh_,
    _aten.hardswish.default: F.hardswish,
    _aten.hardsigmoid.default: F.hardsigmoid,
    _aten.relu6.default: F.relu6,
    _aten.elu.default: F.elu,
    _aten.selu.default: F.selu,
    _aten.prelu.default: F.prelu,
    _aten.softshrink.default: F.softshrink,
    _aten.gelu.default: F.gelu,
    _aten.silu.default: F.silu,
    _aten.mish.default: F.mish,
    _aten.softplus.default: F.softplus,
    _aten.sigmoid.default: torch.sigmoid,
    _aten.tanh.default: torch.tanh,
    _aten.abs.default: torch.abs,
    _aten.clamp.default: torch.clamp,
    _aten.clamp_min.default: torch.clamp_min,
    _aten.clamp_max.default: torch.clamp_max,
    _aten.clamp_.default: torch.clamp_,
    _aten.maximum.default: torch.maximum,
    _aten.minimum.default: torch.minimum,
    _aten.max.other: torch.maximum,
    _aten.min.other: torch.minimum,
    _aten.fmax.default: torch.fmax,
    _aten.fmin.default: torch.fmin,
    _aten.amax.default: torch.amax,
    _aten.amin.default: torch.amin,
    _aten.max.dim: torch.max,
    _aten.min.dim: torch.min,
    _aten.max_pool2d.default: F.max_pool2d,
    _aten.avg_pool2d.default: F.avg_pool2d,
    _aten.adaptive_avg_pool2d.default: F.adaptive_avg_pool2d,
    _aten.add.Tensor: torch.add,
    _aten.add_.Tensor: Tensor.add_,
    _aten.sub.Tensor: torch.sub,
    _aten.mul.Tensor: torch.mul,
    _aten.mul_.Tensor: Tensor.mul_,
    _aten.div.Tensor: torch.div,
    _aten.cat.default: torch.cat,
    _aten.flatten.using_ints: torch.flatten,
    _aten.view.default: torch.reshape,
    _aten.reshape.default: torch.reshape,
    _aten.permute.default: torch.permute,
    _aten.transpose.int: torch.transpose,
    _aten.mean.dim: torch.mean,
    _aten.softmax.int: torch.softmax,
    _aten.log_softmax.int: torch.log_softmax,
    _aten.matmul.default: torch.matmul,
}
_TRAINING = {  # where these say whether they are in training mode
    _aten.batch_norm.default: 5,
    _aten.dropout.default: 2,
    _aten.feature_dropout.default: 2,
    _aten.alpha_dropout.default: 2,
    _aten.feature_alpha_dropout.default: 2,
}
_IN_PLACE = {_aten.hardswish_.default: F.hardswish, _aten.silu_.default: F.silu}


def size_of(program: torch.fx.GraphModule) -> tuple[int, int] | None:
    """Return height and width of the images that a program takes, if it was exported for one size."""
    meta = next(node.meta for node in program.graph.nodes if node.op == "placeholder")
    shape = meta["val"].shape if isinstance(meta.get("val"), Tensor) else ()
    height, width = shape[2:] if len(shape) == 4 else (None, None)
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def as_called(program: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return a module that shares the parameters of a program and calls functions in place of its operators.

    Raises
    ------
    ValueError
        If it was exported in training mode.
    """
    module = torch.fx.GraphModule(program, copy.deepcopy(program.graph))
    for node in module.graph.nodes:
        if node.op == "call_module" and node.target == "_guards_fn":  # they refuse other numbers of images
            module.graph.erase_node(node)
        if node.op != "call_function":
            continue
        if node.target in _TRAINING and node.args[_TRAINING[node.target]]:
            got = f"{node.target} of training mode; call model.eval() before torch.export.export"
            raise ValueError(f"model: expected a program that was exported in evaluation mode, got {got}")
        if node.target is _aten.dropout.default:
            node.replace_all_uses_with(node.args[0])
        elif node.target is _aten.batch_norm.default:
            x, weight, bias, mean, variance, training, momentum, eps, *_ = node.args
            node.target, node.args = F.batch_norm, (x, mean, variance, weight, bias, training, momentum, eps)
        elif node.target in _IN_PLACE:
            node.target, node.kwargs = _IN_PLACE[node.target], {**node.kwargs, "inplace": True}
        else:
            node.target = _AS_CALLED.get(node.target, node.target)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module.eval()
