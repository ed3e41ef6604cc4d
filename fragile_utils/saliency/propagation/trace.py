"""Tracing: one forward pass of any network, written down function by function.

`trace` runs a model on tensors that stand for values, and records each function that touches the image as a `Step`, of
one of nine kinds (module ``kinds``). Module calls, functional calls, operators and methods are seen alike, since what
is seen is the function of PyTorch that they all end in. ``walks`` goes through the steps, forwards and backwards.
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.models.compiled import uncompiled
from fragile_utils.models.surrogate import Smooth, SoftplusSurrogate
from fragile_utils.saliency.propagation.calls import Traced
from fragile_utils.saliency.propagation.recording import Recorder
from fragile_utils.saliency.propagation.steps import Node, Step, Trace, Untraceable, as_untraceable


@torch.enable_grad()
def trace(model: nn.Module, images: Tensor) -> Trace:
    """Run `model` on `images` (N, 3, H, W) and return the steps that depend on them.

    A `SoftplusSurrogate` is traced as the network inside it, with softplus in place of ReLU. Nothing is left changed,
    in the model or elsewhere, and no value is kept; a model that keeps features is run once more, and has theirs.

    Raises
    ------
    ValueError
        If the model is in training mode, or (`Untraceable`) computes what autograd does not differentiate alone:
        TorchScript, modules with backward hooks, random numbers, sizes that depend on values. The layer is named.
    """
    checks.evaluation_mode(model)
    beta = math.inf
    if isinstance(model, SoftplusSurrogate):
        beta, model = model.beta, model.model
    activations = nullcontext() if math.isinf(beta) else Smooth(beta)
    _check_modules(model)
    recorder = Recorder(model, activations, images.device)
    image = recorder.known(images.detach(), Node(images.shape, pixels=True, dtype=images.dtype))
    try:
        with uncompiled():
            logits = model(Traced(images, image, recorder))
    except Exception as error:  # TorchScript turns the refusal into one of its own
        raise recorder.refused or as_untraceable(error) from None
    if not isinstance(logits, Traced):
        raise ValueError(f"model: expected logits computed from the images, got {type(logits).__name__}")
    end = logits.node
    del logits
    if end.pixels:
        raise ValueError("model: expected layers between the images and the logits, got none")
    if recorder.is_held():  # a model or hook that keeps features: they get their values, as after any pass
        with torch.no_grad(), uncompiled(), activations:
            model(images.detach())
    return Trace(image, end, _needed(recorder.steps, end), activations, beta)


def _check_modules(model: nn.Module) -> None:
    """Refuse modules whose derivatives are not those of the functions that they compute."""
    for name, module in model.named_modules():
        name = name or "model"
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):  # scripted or compiled
            got = "TorchScript" if isinstance(module, torch.jit.ScriptModule) else "the result of torch.compile"
            raise Untraceable(f"{name}: expected a plain module, got {got}, which cannot be traced")
        if isinstance(module, SoftplusSurrogate):
            raise ValueError(f"{name}: a softplus surrogate inside another model; make one of the whole model")
        if module._backward_hooks or module._backward_pre_hooks:
            raise Untraceable(f"{name}: expected no backward hooks, which replace derivatives; remove them")


def _needed(steps: list[Step], end: Node) -> list[Step]:
    """Return the steps that the logits depend on: a function of several outputs is a step for each of them."""
    wanted, kept = {end}, []
    for step in reversed(steps):
        if step.output in wanted:
            wanted.update(step.inputs)
            kept.append(step)
    return kept[::-1]
