"""Tangents: an explanation that is handed down layer by layer, and how it changes in a direction.

An attack on attributions M(x) climbs a dissimilarity D(M(x)). Its direction is the gradient of <v, M(x)>, with
v = dD/dM known. Autograd finds it by differentiating its own backward pass. Here it is written down, in four walks,

    forward   z = W a + b               a = f(z)
    backward  m_a = W^T m_z             m_z = c(z) m_a      multipliers, from 1 at the score to M at the image
    forward   t_z = W t_a               t_a = c(z) t_z      the transpose, from v at the image
    backward  r_a = W^T r_z             r_z = f'(z) r_a + c'(z) m_a t_z

where c is what the rule puts in place of the derivative f' of an activation. The bends c'(z) m_a t_z are where <v, M>
depends on z; r carries them to the image by the true derivatives. For the gradient c = f', so that t is the tangent of
a in the direction v, r that of m, and the result is H v, with the Hessian H of the score. For DeepLIFT c is the slope
from the reference. A rule may treat a layer W alike: whatever it does, its transpose and its bends are what is needed.
A second v for the same images costs the last two walks alone.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.propagation.operations import operation_of
from fragile_utils.saliency.propagation.trace import MAX_POOL, RELU, Node, Step, Trace, Untraceable, trace

KEPT = 4  # programs of a surrogate, for batches of different shapes


class Pass:
    """The first two walks, from which the change of <v, M(x)> for any v is quick to get.

    Parameters
    ----------
    model : SoftplusSurrogate
        In evaluation mode. Its parameters are taken as constants.
    images : Tensor (N, 3, H, W)
    targets : Tensor (N,)
        The class whose score is explained.
    rules : LocalDerivatives, optional
        What each step hands down; see ``propagation``. By default the derivatives, which give the gradient.
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
        `tracing.Untraceable`, if the model computes what has no rule; the layer is named.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: SoftplusSurrogate,
        images: Tensor,
        targets: Tensor,
        rules: Any = None,
        reference: Tensor | None = None,
        products: bool = True,
    ) -> None:
        images = images.detach()
        self._program = program = program_of(model, images, rules)
        beside = None
        if reference is not None:
            _, beside = program_of(model, reference, rules).run(reference)
        self.logits, self._saved = program.run(images, beside)
        checks.logits_shape(self.logits, len(images))
        chosen = targets.clamp(max=self.logits.shape[1] - 1)[:, None]
        self._noted: dict[int, Any] = {}  # what the operations that were handed multipliers need for the third walk
        self.multipliers = self._hand_down(torch.zeros_like(self.logits).scatter_(1, chosen, 1), products)

    @torch.no_grad()
    def product(self, vectors: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of <v, M(x)> for `vectors` v (N, 3, H, W): H v where M is the gradient."""
        program, tangents, bends = self._program, {0: vectors}, {}
        for number, noted in sorted(self._noted.items()):
            arriving = program.arriving(number, tangents)
            operation, saved = program.operations[number - 1], self._saved[number - 1]
            tangents[number], bends[number] = operation.answer(arriving, saved, noted)
        return self._back({}, bends)

    @torch.no_grad()
    def transposed(self, cotangents: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of the sum of the logits times `cotangents` (N, classes)."""
        return self._back({self._program.end: cotangents}, {})

    def _hand_down(self, m: Tensor, products: bool) -> Tensor:
        """Carry multipliers from the logits to the image, by the rules."""
        carried = {self._program.end: m}
        for number, operation, saved in self._backwards():
            if (m := carried.pop(number, None)) is not None:
                shares, noted = operation.hand(m, saved, products)
                if products:
                    self._noted[number] = noted
                self._join(carried, number, shares)
        return self._arrived(carried)

    def _back(self, carried: dict[int, Tensor], bends: dict[int, list[Tensor | None]]) -> Tensor:
        """Carry cotangents of the values that `carried` names, and those that bends add, to the image."""
        for number, operation, saved in self._backwards():
            r, of_inputs = carried.pop(number, None), bends.pop(number, [])
            if len(of_inputs) > len(self._program.inputs[number - 1]):
                of_value = of_inputs.pop()
                r = of_value if r is None else r.add_(of_value)
            if r is not None:
                self._join(carried, number, operation.transposed(r, saved))
            self._join(carried, number, of_inputs)
        return self._arrived(carried)

    def _backwards(self) -> Iterable[tuple[int, Any, Any]]:
        operations, saved = self._program.operations, self._saved
        return ((number, operations[number - 1], saved[number - 1]) for number in range(len(operations), 0, -1))

    def _join(self, carried: dict[int, Tensor], number: int, shares: list[Tensor | None]) -> None:
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
        model, targets, rules, reference = arguments
        ctx.made = Pass(model, images, targets, rules, reference)
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


def applicable(model: nn.Module) -> bool:
    """Return whether `multipliers` may stand in for autograd: a surrogate of constant parameters, not known to fail."""
    if not isinstance(model, SoftplusSurrogate) or model.programs is None:
        return False
    return model.constant or not any(parameter.requires_grad for parameter in model.parameters())


def multipliers(
    model: SoftplusSurrogate,
    images: Tensor,
    targets: Tensor,
    create_graph: bool = True,
    rules: Any = None,
    reference: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the multipliers (N, 3, H, W) of the pixels, by default the gradients, and the logits (N, classes).

    With `create_graph` both can be differentiated, once: a third derivative is not to be had. Arguments and errors as
    for `Pass`.
    """
    if create_graph:
        return _Multipliers.apply(images, model, targets, rules, reference)
    made = Pass(model, images, targets, rules, reference, products=False)
    return made.multipliers, made.logits


# --- The network as a program ----------------------------------------------------------------------------------------


class Program:
    """The steps of a network for images of one shape, each with its derivatives. Value 0 is the image.

    Where max pooling follows ReLU it comes first: the two commute, and after the pool there are fewer values.
    """

    def __init__(self, forward: Trace, beta: float, rules: Any) -> None:
        steps = _pool_first(forward.steps, rules)
        numbers = {forward.image: 0} | {step.output: number for number, step in enumerate(steps, start=1)}
        readers = _readers(steps)
        self.shape = tuple(forward.image.value.shape)
        self.inputs = [[numbers[node] for node in step.inputs] for step in steps]  # of each operation
        self.operations = [operation_of(step, beta, forward.activations, readers, rules) for step in steps]
        self.end = numbers[forward.end]
        self._last = {i: number for number, inputs in enumerate(self.inputs, start=1) for i in inputs}
        self._last[self.end] = 0

    def run(self, images: Tensor, beside: list[list[Any]] | None = None) -> tuple[Tensor, list[list[Any]]]:
        """Return the logits, and what each operation saved; `beside` is what they saved of the reference."""
        values, saved = {0: images}, []
        for number, operation in enumerate(self.operations, start=1):
            of_reference = beside[number - 1] if beside else None
            values[number], kept = operation.forward(self.arriving(number, values), of_reference)
            saved.append(kept)
        return values[self.end], saved

    def arriving(self, number: int, values: dict[int, Tensor]) -> list[Tensor]:
        """Return the inputs of an operation, and forget those that no later one reads."""
        inputs = self.inputs[number - 1]
        arriving = [values[i] for i in inputs]
        for i in inputs:
            if self._last[i] == number:
                values.pop(i, None)
        return arriving


def program_of(model: SoftplusSurrogate, images: Tensor, rules: Any = None) -> Program:
    """Return the program of a surrogate, traced once for each shape, type and place of images."""
    tensors: Iterable[Tensor] = (*model.parameters(), *model.buffers())
    key = (images.shape, images.stride(), images.dtype, images.device, tuple(map(id, tensors)), rules)
    programs: OrderedDict = model.programs
    if key not in programs:
        try:
            programs[key] = Program(trace(model, images), model.beta, rules)
        except Untraceable:
            model.programs = None
            raise
        while len(programs) > KEPT:
            programs.popitem(last=False)
    return programs[key]


def _readers(steps: list[Step]) -> dict[Node, list[Step]]:
    readers: dict[Node, list[Step]] = {}
    for step in steps:
        for node in step.inputs:
            readers.setdefault(node, []).append(step)
    return readers


def _pool_first(steps: list[Step], rules: Any) -> list[Step]:
    """Return the steps with each max pool moved before the ReLU that it alone reads, where both keep derivatives."""
    readers, result = _readers(steps), list(steps)
    for pool in steps:
        relu = pool.inputs[0].step
        both = pool.kind == MAX_POOL and relu is not None and relu.function in RELU
        if (
            both
            and readers[relu.output] == [pool]
            and all(rules is None or rules.is_derivative(s) for s in (pool, relu))
        ):
            pooled = Node(pool.output.value)
            first = replace(pool, inputs=relu.inputs, output=pooled)
            then = replace(relu, inputs=[pooled], output=pool.output)
            pooled.step = first
            result[result.index(relu)], result[result.index(pool)] = first, then
    return result
