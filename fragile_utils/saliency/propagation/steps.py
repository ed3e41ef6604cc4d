"""What a forward pass consists of: values that depend on the image, and the steps that compute them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from fragile_utils._base import schema
from fragile_utils._base.memory import out_of_memory
from fragile_utils.saliency.propagation.kinds import Kind


@dataclass(eq=False)
class Node:
    """A value that depends on the image: the image itself, or the output of a step."""

    shape: torch.Size
    differentiable: bool = True  # floating point, and not cut off from the image
    step: "Step | None" = None  # which computed it
    pixels: bool = False  # the image, also after normalisation by constants: one value for one value of the image
    positive: bool = False  # known to have no value below 0
    shared: bool = False  # its memory may be another node's
    dtype: torch.dtype | None = None


@dataclass(eq=False)
class Step:
    """One function of the network: ``output = call(*values of the inputs, *weights)``."""

    kind: Kind
    function: Callable
    layer: str
    inputs: list[Node]
    output: Node
    call: Callable[..., Any]  # `call(x, weight, bias)` if the step is WEIGHTED
    weights: tuple[Tensor, Tensor | None] = ()
    options: dict[str, Any] = field(default_factory=dict)  # of a WEIGHTED step: stride, padding, ...
    constants: bool = False  # whether tensors that do not depend on the image take part
    given: tuple[tuple, dict[str, Any]] | None = None  # the arguments, with nodes for values; of one output alone

    def __str__(self) -> str:
        return f"{self.layer} ({name_of(self.function)})"


@dataclass(eq=False)
class Trace:
    """One forward pass: its steps in order, and how activations are computed in it."""

    image: Node
    end: Node  # its value: the logits (N, classes)
    steps: list[Step]
    activations: AbstractContextManager
    beta: float  # of softplus in place of ReLU; infinite for ReLU itself


class Untraceable(ValueError):
    """The model computes what has no rule."""


def as_untraceable(error: Exception) -> Exception:
    """Return what an error in a network that is taken apart means: `Untraceable`, unless memory is short.

    Where the error is the network's own, it comes up again in the next forward pass.
    """
    if isinstance(error, Untraceable) or out_of_memory(error):
        return error
    said = f"{type(error).__name__}: {schema.reason(error)}"
    return Untraceable(f"model: expected a network that can be traced, got {said}")


def name_of(function: Callable) -> str:
    return resolve_name(function) or str(function)
