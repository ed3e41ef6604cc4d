"""Programs of networks, kept in a run of many steps alone, and their comparison with autograd."""

import threading
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils._base.once import once
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.program import DERIVATIVES, Program
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.steps import Trace, Untraceable, as_untraceable
from fragile_utils.saliency.propagation.trace import trace
from fragile_utils.saliency.propagation.walks import Walks


def program_of(model: nn.Module, images: Tensor, rule: Rule = DERIVATIVES) -> Program:
    """Return the program of a network.

    In a run (`once.run`), in which a network stays what it is, it is traced once for each shape, type and place of
    images. Outside it is traced each time: what a forward pass reads, numbers from buffers and settings among it, may
    have changed, and nobody can see all of it. The first program of each sequence of steps is compared with autograd.

    Raises
    ------
    ValueError
        `Untraceable`, if the model computes what has no rule, or something else than autograd differentiates.
    """
    programs = once("programs", (_network_of(model),), dict)
    beta = model.beta if isinstance(model, SoftplusSurrogate) else None
    key = images.shape, images.stride(), images.dtype, images.device, beta, rule
    if key not in programs:
        try:
            forward = trace(model, images)
            program = Program(forward, rule)
            _compare(forward, model, images)
            programs[key] = program
        except Untraceable as error:
            programs[key] = Untraceable(*error.args)  # another: this one holds the frames that it went through
    if isinstance(programs[key], Untraceable):
        raise Untraceable(*programs[key].args)
    return programs[key]


def _network_of(model: nn.Module) -> nn.Module:
    """Return the network itself, of a surrogate too: who holds on to a network by it lets go of both."""
    return model.model if isinstance(model, SoftplusSurrogate) else model


# --- The comparison with autograd ------------------------------------------------------------------------------------

# Which sequences of steps of a network have been compared with autograd.
_compared: weakref.WeakKeyDictionary[nn.Module, set[Any]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()

FEW = 2  # images are enough to compare
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # of the norm


def _compare(forward: Trace, model: nn.Module, images: Tensor) -> None:
    """Compare gradient and product of the steps with autograd's, once for each sequence of steps.

    Raises
    ------
    Untraceable
        If they differ: the model computes something that autograd does not differentiate as its functions. Or if one
        of them cannot be computed.
    """
    sequence = (forward.beta, tuple((step.kind, step.function, step.layer) for step in forward.steps))
    with _lock:
        compared = _compared.setdefault(_network_of(model), set())
    if sequence in compared:
        return
    images = images[:FEW].detach()
    if len(images) < forward.image.shape[0]:
        forward = trace(model, images)
    generator = torch.Generator().manual_seed(0)
    weights, vectors = (
        torch.randn(shape, generator=generator).to(images) for shape in (forward.end.shape, images.shape)
    )
    try:
        made = Walks(Program(forward), images, weights)
        ours = {"value": made.value, "gradient": made.multipliers, "second derivative": made.product(vectors)}
        autograds = _by_autograd(model, images, weights, vectors)
    except Exception as error:
        raise as_untraceable(error) from None
    for (what, got), wanted in zip(ours.items(), autograds, strict=False):
        if not (got - wanted).norm() <= TOLERANCE[images.dtype] * wanted.norm():
            raise Untraceable(f"{_suspect(forward)}: autograd finds another {what}, by a rule of its own")
    compared.add(sequence)


@torch.enable_grad()
def _by_autograd(model: nn.Module, images: Tensor, weights: Tensor, vectors: Tensor) -> list[Tensor]:
    """Return logits, the gradient of their weighted sum and, if possible, the product of its Hessian with `vectors`."""
    x = images.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        logits = model(x)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x, create_graph=True, materialize_grads=True)
        found = [logits.detach(), gradient.detach()]
        if not gradient.requires_grad:
            return [*found, torch.zeros_like(x)]
        try:
            return [*found, *torch.autograd.grad(gradient, x, vectors, materialize_grads=True)]
        except RuntimeError:  # a function that PyTorch does not differentiate twice: its first derivative has to do
            return found


def _suspect(forward: Trace) -> str:
    """Return the step that is the likeliest to be differentiated otherwise: the last that cuts off, or is general."""
    cut = [step for step in forward.steps if step.kind is Kind.DETACHED and any(n.differentiable for n in step.inputs)]
    general = [step for step in forward.steps if step.kind is Kind.GENERAL]
    return str((cut or general or ["model"])[-1])
