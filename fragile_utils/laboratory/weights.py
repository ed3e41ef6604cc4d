"""The weights of a network, in one file that all its graphs share."""

import hashlib

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

LEAST = 1024  # bytes: smaller constants stay in the graph
ALIGNMENT = 64  # bytes, at which each constant begins


class Weights:
    """The contents of a file of constants, none of them twice.

    Parameters
    ----------
    name : str
        Of the file, which stands beside those of the graphs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._contents = bytearray()
        self._offsets: dict[bytes, int] = {}

    def take(self, model: onnx.ModelProto) -> bytes:
        """Move the constants of a model into this file, and return what is left of it, as the contents of a file."""
        left = onnx.ModelProto()
        left.CopyFrom(model)
        for constant in left.graph.initializer:
            if len(constant.raw_data) >= LEAST:
                self._move(constant)
        return left.SerializeToString(deterministic=True)

    def contents(self) -> bytes:
        return bytes(self._contents)

    def _move(self, constant: TensorProto) -> None:
        numbers = constant.raw_data
        key = hashlib.sha256(numbers).digest()
        if key not in self._offsets:
            self._contents.extend(bytes(-len(self._contents) % ALIGNMENT))
            self._offsets[key] = len(self._contents)
            self._contents.extend(numbers)
        set_external_data(constant, self.name, self._offsets[key], len(numbers))
        constant.ClearField("raw_data")
