"""What ``torch.compile`` has compiled: no mode sees into it, so that it has to run as it is written."""

import sys
import threading
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``torch.compile(module)`` made it, or ``module.compile()`` changed what a call of it runs."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def uncompiled() -> AbstractContextManager:
    """Return a context in which ``torch.compile`` has no effect (PyTorch 2.6): no mode sees into compiled code."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):  # nothing is compiled without
        return nullcontext()
    return _eager


class _Eager(AbstractContextManager):
    """A stance is one for all threads: the first that comes takes it, and the last that goes gives it back."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stance.__exit__(None, None, None)


_eager = _Eager()
