"""What a table of operators is: how functions of PyTorch are written in ONNX, a function of Python for each."""

from collections.abc import Callable
from typing import Any

from torch._ops import OpOverload

# writer(graph, what is known of the result, *arguments) -> the name of the result, or a list of names, with None for
# results that nobody reads. Of the arguments, tensors are `Value`s; the others are as PyTorch has them.
Writer = Callable[..., "str | list[str | None]"]


class Table(dict[OpOverload, Writer]):
    """From functions of PyTorch, out of place, to how each is written in ONNX."""

    def writes(self, *functions: OpOverload) -> Callable[[Writer], Writer]:
        """Enter what is decorated as the writer of these functions."""

        def enter(writer: Writer) -> Writer:
            self.update(dict.fromkeys(functions, writer))
            return writer

        return enter


def overloads(packet: Any, *names: str) -> list[OpOverload]:
    """Return the overloads of a function that this version of PyTorch has: of those named, or all."""
    return [getattr(packet, name) for name in packet.overloads() if not names or name in names]
