"""Walks through a network: an explanation that is handed down layer by layer, and how it changes in a direction.

An attack on attributions M(x) climbs a dissimilarity D(M(x)). Its direction is the gradient of <v, M(x)>, with
v = dD/dM known. Here it is written down, in four walks,

    forward   z = W a + b               a = f(z)
    backward  m_a = W^T m_z             m_z = c(z) m_a      multipliers, from 1 at the score to M at the image
    forward   t_z = W t_a               t_a = c(z) t_z      the transpose, from v at the image
    backward  r_a = W^T r_z             r_z = f'(z) r_a + c'(z) m_a t_z

where c is what the rule puts in place of the derivative f' of an activation. The bends c'(z) m_a t_z are where <v, M>
depends on z; r carries them to the image by the true derivatives. For the gradient c = f', so that t is the tangent of
a in the direction v, r that of m, and the result is H v, with the Hessian H of the score. For DeepLIFT c is the slope
from the reference. A rule may treat a layer W alike: whatever it does, its transpose and its bends are what is needed.
A second v for the same images costs the last two walks alone.

**Why not autograd with a modified backward?** Hooks, and functions whose backward follows a rule, give M. But autograd
then takes the rule for the derivative everywhere, in the second pass too. The last walk needs both: the multipliers
follow the rule c, while the values on which they depend change by the true derivative f'. With c in place of f' there,
the gradient of <v, M> is wrong, without a word.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils._base import checks
from fragile_utils.models.door import state_of
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.propagation.operations import Bends, Operation, Setting
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.trace import CAT, RELU, Kind, Node, Step, Trace, Untraceable, trace

KEPT = 4  # programs of a model, for batches of different shapes
GRADIENT = Rule()


class Pass:
    """The first two walks, from which the change of <v, M(x)> for any v is quick to get.

    Parameters
    ----------
    model : Module
        In evaluation mode: a network, or its `models.SoftplusSurrogate`. Its parameters are taken as constants.
    images : Tensor (N, 3, H, W)
    targets : Tensor (N,)
        The class whose score is explained.
    rule : Rule
        What each step hands down. By default the derivatives, which give the gradient.
    reference : Tensor (1, 3, H, W) or (N, 3, H, W), optional
        For rules that compare with one.
    products : bool
        Whether there will be products; without, less is kept.

    Attributes
    ----------
    multipliers : Tensor (N, 3, H, W)
        M: what arrives at the image, by default the gradient of the score of each image's target.
    logits : Tensor (N, classes)

    Raises
    ------
    ValueError
        `trace.Untraceable`, if the model computes what has no rule; the layer is named.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        rule: Rule = GRADIENT,
        reference: Tensor | None = None,
        products: bool = True,
    ) -> None:
        images = images.detach()
        program = program_of(model, images, rule)
        at_reference = None
        if reference is not None:
            other = program_of(model, reference.detach(), rule)
            if other.functions != program.functions:
                raise ValueError("model: expected the same steps on the images and on the reference, got others")
            _, at_reference = other.run(reference)
        self._start(program, images, at_reference)
        checks.logits_shape(self.logits, len(images))
        chosen = targets.clamp(max=self.logits.shape[1] - 1)[:, None]
        self._hand_down(torch.zeros_like(self.logits).scatter_(1, chosen, 1), products)

    @classmethod
    @torch.no_grad()
    def along(cls, program: "Program", images: Tensor, cotangents: Tensor) -> "Pass":
        """Return the walks of a program that begin with any multipliers of the logits (N, classes)."""
        made = cls.__new__(cls)
        made._start(program, images, None)
        made._hand_down(cotangents, True)
        return made

    @torch.no_grad()
    def product(self, vectors: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of <v, M(x)> for `vectors` v (N, 3, H, W): H v where M is the gradient."""
        program, tangents, bends = self._program, {0: vectors}, {}
        for number, propagated in sorted(self._propagated.items()):
            arriving = program.arriving(number, tangents)
            operation, kept = program.operations[number - 1], self._kept[number - 1]
            tangents[number], bends[number] = operation.differentiate(arriving, kept, propagated)
        return self._back({}, bends)

    @torch.no_grad()
    def transposed(self, cotangents: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of the sum of the logits times `cotangents` (N, classes)."""
        return self._back({self._program.end: cotangents}, {})

    def _start(self, program: "Program", images: Tensor, at_reference: list[Any] | None) -> None:
        """Carry values from the image to the logits."""
        self._program = program
        self.logits, self._kept = program.run(images, at_reference)
        self._propagated: dict[int, Any] = {}  # what the operations that were handed multipliers need for a product

    def _hand_down(self, m: Tensor, products: bool) -> None:
        """Carry multipliers from the logits to the image, by the rule."""
        carried = {self._program.end: m}
        for number, operation, kept in self._backwards():
            if (m := carried.pop(number, None)) is not None:
                shares, propagated = operation.propagate(m, kept, products)
                if products:
                    self._propagated[number] = propagated
                self._join(carried, number, shares)
        self.multipliers = self._arrived(carried)

    def _back(self, carried: dict[int, Tensor], bends: dict[int, Bends]) -> Tensor:
        """Carry cotangents of the values that `carried` names, and those that bends add, to the image."""
        for number, operation, kept in self._backwards():
            r, bend = carried.pop(number, None), bends.pop(number, Bends())
            if bend.of_value is not None:
                r = bend.of_value if r is None else r + bend.of_value
            if r is not None:
                self._join(carried, number, operation.transposed(r, kept))
            self._join(carried, number, bend.of_inputs)
        return self._arrived(carried)

    def _backwards(self) -> Iterable[tuple[int, Operation, Any]]:
        operations, kept = self._program.operations, self._kept
        return ((number, operations[number - 1], kept[number - 1]) for number in range(len(operations), 0, -1))

    def _join(self, carried: dict[int, Tensor], number: int, shares: Iterable[Tensor | None]) -> None:
        for i, share in zip(self._program.inputs[number - 1], shares, strict=False):
            if share is not None:
                carried[i] = carried[i] + share if i in carried else share

    def _arrived(self, carried: dict[int, Tensor]) -> Tensor:
        found = carried.get(0)
        return found if found is not None else torch.zeros(self._program.shape).to(self.logits)


class _Multipliers(torch.autograd.Function):
    """The multipliers and logits as functions of the image, to be differentiated once."""

    @staticmethod
    def forward(ctx, images: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        model, targets, rule, reference = arguments
        ctx.made = Pass(model, images, targets, rule, reference)
        ctx.set_materialize_grads(False)
        # Tensors of their own: an output that the pass held would hold the pass, and nothing would ever be freed.
        return ctx.made.multipliers.detach(), ctx.made.logits.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, vectors: Tensor | None, cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        result = None if vectors is None else ctx.made.product(vectors)
        if cotangents is not None:
            of_logits = ctx.made.transposed(cotangents)
            result = of_logits if result is None else result + of_logits
        return result, None, None, None, None


def multipliers(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    create_graph: bool = True,
    rule: Rule = GRADIENT,
    reference: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the multipliers (N, 3, H, W) of the pixels, by default the gradients, and the logits (N, classes).

    With `create_graph` both can be differentiated with respect to the images, once: a third derivative, or one with
    respect to parameters, is not to be had. Arguments and errors as for `Pass`.
    """
    if create_graph:
        return _Multipliers.apply(images, model, targets, rule, reference)
    made = Pass(model, images, targets, rule, reference, products=False)
    return made.multipliers, made.logits


def stands_in_for_autograd(model: nn.Module) -> bool:
    """Return whether `multipliers` may take the place of autograd: for a surrogate whose parameters are constants."""
    if not isinstance(model, SoftplusSurrogate):
        return False
    return model.constant or not any(parameter.requires_grad for parameter in model.parameters())


# --- The network as a program ----------------------------------------------------------------------------------------


class Program:
    """The steps of a network for images of one shape, each with its derivatives. Value 0 is the image.

    Where max pooling follows ReLU it comes first: the two commute, and after the pool there are fewer values.
    """

    def __init__(self, forward: Trace, rule: Rule = GRADIENT) -> None:
        steps = _pool_first(forward.steps, rule)
        numbers = {forward.image: 0} | {step.output: number for number, step in enumerate(steps, start=1)}
        readers = _readers(steps)
        self.shape = tuple(forward.image.shape)
        self.functions = [step.function for step in steps]
        self.inputs = [[numbers[node] for node in step.inputs] for step in steps]  # of each operation
        self.operations = [
            rule.operation(step, Setting(forward.activations, forward.beta, *_may_overwrite(step, readers)))
            for step in steps
        ]
        self.end = numbers[forward.end]
        self._last = {i: number for number, inputs in enumerate(self.inputs, start=1) for i in inputs}
        self._last[self.end] = 0

    def run(self, images: Tensor, at_reference: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Return the logits, and what each operation keeps; `at_reference` is what they kept of the reference."""
        values, kept = {0: images}, []
        for number, operation in enumerate(self.operations, start=1):
            other = at_reference[number - 1] if at_reference else None
            values[number], of_operation = operation.forward(self.arriving(number, values), other)
            kept.append(of_operation)
        return values[self.end], kept

    def arriving(self, number: int, values: dict[int, Tensor]) -> list[Tensor | None]:
        """Return the inputs of an operation, and forget those that no later one reads."""
        inputs = self.inputs[number - 1]
        arriving = [values.get(i) for i in inputs]
        for i in inputs:
            if self._last[i] == number:
                values.pop(i, None)
        return arriving


def _readers(steps: list[Step]) -> dict[Node, list[Step]]:
    readers: dict[Node, list[Step]] = {}
    for step in steps:
        for node in step.inputs:
            readers.setdefault(node, []).append(step)
    return readers


def _pool_first(steps: list[Step], rule: Rule) -> list[Step]:
    """Return the steps with each max pool moved before the ReLU that it alone reads, where both keep derivatives."""
    readers, result = _readers(steps), list(steps)
    for pool in steps:
        relu = pool.inputs[0].step
        both = pool.kind is Kind.MAX_POOL and relu is not None and relu.function in RELU
        if both and readers[relu.output] == [pool] and rule.is_derivative(pool) and rule.is_derivative(relu):
            pooled = Node(pool.output.shape)
            first = replace(pool, inputs=relu.inputs, output=pooled)
            then = replace(relu, inputs=[pooled], output=pool.output)
            pooled.step = first
            result[result.index(relu)], result[result.index(pool)] = first, then
    return result


def _may_overwrite(step: Step, readers: dict[Node, list[Step]]) -> tuple[bool, bool]:
    """Return whether an activation may compute in the memory of its input, and of the multipliers of its output."""
    if step.kind not in (Kind.HOMOGENEOUS, Kind.ACTIVATION):
        return False, False
    (before,) = step.inputs
    fresh = before.step is not None and before.step.kind in (Kind.WEIGHTED, Kind.MAX_POOL)
    alone = fresh and len(readers[before]) == 1 and step.function in RELU  # of others, autograd keeps the input
    return alone, _handed_down_fresh(step.output, readers)


def _handed_down_fresh(node: Node, readers: dict[Node, list[Step]]) -> bool:
    """Return whether the multipliers that arrive at `node` are in memory that is used for nothing else."""
    return all(
        reader.kind in (Kind.WEIGHTED, Kind.MAX_POOL)
        or (reader.function in CAT and len(reader.inputs) > 1 and _handed_down_fresh(reader.output, readers))
        for reader in readers.get(node, [])
    ) and bool(readers.get(node))


# --- Programs that are kept, as long as the network is what it was ---------------------------------------------------


@dataclass
class _Kept:
    """What is known of a network: its programs, and which sequences of steps have been compared with autograd."""

    programs: OrderedDict[Any, Program | Untraceable] = field(default_factory=OrderedDict)
    compared: set[Any] = field(default_factory=set)


_networks: weakref.WeakKeyDictionary[nn.Module, _Kept] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def program_of(model: nn.Module, images: Tensor, rule: Rule = GRADIENT) -> Program:
    """Return the program of a network, traced once for each shape, type and place of images.

    A program is kept as long as the network is the same: its modules, their attributes and hooks, its parameters. What
    is computed from parameters in the forward pass, as under weight normalisation, is traced each time. The first
    program of each sequence of steps is compared with autograd.

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
    key = (images.shape, images.stride(), images.dtype, images.device, beta, rule, state_of(network))
    found = known.programs.get(key)
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
    made = Pass.along(Program(forward), images, weights)
    ours = {"value": made.logits, "gradient": made.multipliers, "second derivative": made.product(vectors)}
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
