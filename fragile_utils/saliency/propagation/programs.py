"""Programs that are kept as long as the network is what it was, and their comparison with autograd."""

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils._base.once import once
from fragile_utils.models.door import state_of
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.program import DERIVATIVES, Program
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.steps import Trace, Untraceable
from fragile_utils.saliency.propagation.trace import trace
from fragile_utils.saliency.propagation.walks import Walks

KEPT = 8  # programs of a model, for batches of different shapes


@dataclass
class _Kept:
    """What is known of a network: its programs, and which sequences of steps have been compared with autograd."""

    programs: OrderedDict[Any, Program | Untraceable] = field(default_factory=OrderedDict)
    compared: set[Any] = field(default_factory=set)


_networks: weakref.WeakKeyDictionary[nn.Module, _Kept] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def program_of(model: nn.Module, images: Tensor, rule: Rule = DERIVATIVES) -> Program:
    """Return the program of a network, traced once for each shape, type and place of images.

    A program is kept as long as the network is the same: its modules, their attributes and hooks, its parameters. What
    is computed from parameters in the forward pass, as under weight normalisation, is traced each time, or once in a
    run, in which parameters stay as they are. The first program of each sequence of steps is compared with autograd.

    Raises
    ------
    ValueError
        `Untraceable`, if the model computes what has no rule, or something else than autograd differentiates.
    """
    surrogate = isinstance(model, SoftplusSurrogate)
    network = model.model if surrogate else model
    with _lock:
        known = _networks.setdefault(network, _Kept())
    beta = model.beta if surrogate else None
    key = (
        images.shape,
        images.stride(),
        images.dtype,
        images.device,
        beta,
        rule,
        once("state", (network,), lambda: state_of(network)),
    )
    with _lock:
        found = known.programs.get(key)
        if found is not None:
            known.programs.move_to_end(key)
    of_the_run = once("programs", (network,), dict)
    found = found or of_the_run.get(key)
    if found is None:
        try:
            forward = trace(model, images)
            found = Program(forward, rule)
            _compare(forward, model, images, known)
        except Untraceable as error:
            found = error
        if isinstance(found, Untraceable) or forward.live:
            with _lock:
                known.programs[key] = found
                while len(known.programs) > KEPT:
                    known.programs.popitem(last=False)
        else:
            of_the_run[key] = found
    if isinstance(found, Untraceable):
        raise Untraceable(*found.args)
    return found


def programs_kept(model: nn.Module) -> list[Program | Untraceable]:
    """Return the programs that are kept of a network, or of that of a surrogate."""
    network = model.model if isinstance(model, SoftplusSurrogate) else model
    return list(_networks.get(network, _Kept()).programs.values())


# --- The comparison with autograd ------------------------------------------------------------------------------------

FEW = 2  # images are enough to compare
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2, torch.float16: 0.2, torch.bfloat16: 0.5}  # of the norm


def _compare(forward: Trace, model: nn.Module, images: Tensor, known: _Kept) -> None:
    """Compare gradient and product of the steps with autograd's, once for each sequence of steps.

    Raises
    ------
    Untraceable
        If they differ: the model computes something that autograd does not differentiate as its functions, a custom
        autograd.Function for instance.
    """
    sequence = (forward.beta, tuple((step.kind, step.function, step.layer) for step in forward.steps))
    if sequence in known.compared:
        return
    images = images[:FEW].detach()
    if len(images) < forward.image.shape[0]:
        forward = trace(model, images)
    generator = torch.Generator().manual_seed(0)
    weights, vectors = (
        torch.randn(shape, generator=generator).to(images) for shape in (forward.end.shape, images.shape)
    )
    made = Walks(Program(forward), images, weights)
    ours = {"value": made.value, "gradient": made.multipliers, "second derivative": made.product(vectors)}
    for (what, got), wanted in zip(ours.items(), _by_autograd(model, images, weights, vectors), strict=False):
        if not (got - wanted).norm() <= TOLERANCE[images.dtype] * wanted.norm():
            raise Untraceable(f"{_suspect(forward)}: autograd finds another {what}, by a rule of its own")
    known.compared.add(sequence)


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
