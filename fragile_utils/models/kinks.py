"""The kinks and steps that a network computes: what no surrogate has smoothed, and no Hessian knows of."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Below the functions of PyTorch lie few operations, the same for every alias and for TorchScript. One that makes whole
# numbers or truth values of numbers is a step, whatever its name; of the others, these have kinks or steps.
_KINKED = re.compile(
    r"relu|leaky_relu|_prelu_kernel|rrelu_with_noise|hardtanh|hardsigmoid|hardswish|hardshrink|softshrink|threshold|abs|"
    r"maximum|minimum|fmax|fmin|max|min|amax|amin|aminmax|cummax|cummin|\w*max_pool\w*|sort|topk|kthvalue|median|"
    r"nanmedian|mode|where|sign|sgn|heaviside|round|floor|ceil|trunc|frac|fmod|remainder|floor_divide"
)
_KINKED_IF: dict[str, Callable[..., bool]] = {  # of all arguments but the first tensor
    "clamp": lambda min=None, max=None: (min is not None and max is not None) or _is_kink(min) or _is_kink(max),
    **dict.fromkeys(("clamp_min", "clamp_max"), lambda bound: _is_kink(bound)),
    "elu": lambda alpha=1, *scales: alpha != 1,
    "linalg_vector_norm": lambda ord=2, *axes, **options: ord in (0, 1, math.inf, -math.inf),
    "_cdist_forward": lambda other, p, mode: p in (0, 1, math.inf),
}


def _is_kink(bound: Any) -> bool:
    """Return whether a bound is 0 or one of many; another one keeps numbers in range, unless it stops some."""
    return isinstance(bound, Tensor) or bound == 0


_replacing: ContextVar[bool] = ContextVar("replacing", default=False)


@contextmanager
def replacing(whether: bool = True) -> Iterator[None]:
    """Say whether what is computed in the block takes the place of a kink, and has none, whatever it is made of."""
    before = _replacing.set(whether)
    try:
        yield
    finally:
        _replacing.reset(before)


class _Noting(TorchDispatchMode):
    """While it is active, operations with kinks or steps are noted, unless they are part of what replaces one."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.noted: list[str] = []
        # Of the images, and of what is computed from them: kept, so that nothing else comes to lie there.
        self._memory = _memory_of(images)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if _are_real(x)]
        if not any(place in self._memory for x in given for place in _memory_of(x)):
            return result
        self._memory |= {place: kept for x in tree_leaves(result) for place, kept in _memory_of(x).items()}
        if not _replacing.get():
            operation = func.overloadpacket.__name__.removesuffix("_")  # the same in place
            name = f"torch.{operation.removesuffix('_with_indices').lstrip('_')}"
            if name not in self.noted and (
                _is_step(operation, result)
                or _has_kinks(operation, args[1:], kwargs)
                or _is_at_bound(operation, result, (*args[1:], *kwargs.values()))
            ):
                self.noted.append(name)
        return result


def _memory_of(x: Any) -> dict[int, Any]:
    """Return the memory of a tensor, by its place."""
    if not isinstance(x, Tensor) or x.layout != torch.strided or not x.numel():
        return {}
    return {x.untyped_storage().data_ptr(): x.untyped_storage()}


def _are_real(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def _is_step(operation: str, result: Any) -> bool:
    if operation.startswith(("new_", "is")) or operation.endswith("_like"):  # of no values; guards against NaN
        return False
    return isinstance(result, Tensor) and not _are_real(result)


def _has_kinks(operation: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    if operation in _KINKED_IF:
        return _KINKED_IF[operation](*args, **kwargs)
    return _KINKED.fullmatch(operation) is not None


def _is_at_bound(operation: str, result: Any, bounds: tuple) -> bool:
    """Return whether a clamp stops any value."""
    return operation.startswith("clamp") and any(
        bool((result == bound).any()) for bound in bounds if isinstance(bound, int | float)
    )


@torch.enable_grad()  # without, some maxima are computed in other ways
def kinks_left(model: nn.Module, images: Tensor) -> list[str]:
    """Return the names of the operations with kinks, or steps, that a model, such as a surrogate, computes."""
    image = images[:1].detach().clone().requires_grad_()
    with torch.jit.optimized_execution(False), _Noting(image) as noting:
        model(image)
    return noting.noted
