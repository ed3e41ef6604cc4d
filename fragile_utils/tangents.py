"""Tangents: the gradient of a class score, and how it changes in a direction, layer by layer.

An attack on a gradient g(x) climbs a dissimilarity D(g(x)). Its direction is H v, with the Hessian H of the score and
v = dD/dg: one product with one known vector. Autograd finds it by differentiating its own backward pass. Here it is
written down: values go forward, multipliers m = dS/da come back, then the tangents of both do the same,

    forward   z = W a + b      a = f(z)           dz = W da         da = f'(z) dz
    backward  m_a = W^T m_z    m_z = f'(z) m_a    dm_a = W^T dm_z   dm_z = f'(z) dm_a + f''(z) m_a dz

from da = v at the image to dm at the image, which is H v. For softplus f' = s, a sigmoid, and f'' = beta s (1 - s).
A second vector for the same images costs the two passes of the tangents alone.
"""

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fragile_utils import checks
from fragile_utils.surrogate import SoftplusSurrogate, convolution_transposed, pairs, softplus_and_slope
from fragile_utils.tracing import (
    ACTIVATION,
    CAT,
    COMBINE,
    HOMOGENEOUS,
    MAX_POOL,
    REARRANGE,
    RELU,
    WEIGHTED,
    Node,
    Step,
    Trace,
    Untraceable,
    trace,
)

KEPT = 4  # programs of a surrogate, for batches of different shapes


class Pass:
    """A forward and a backward pass, from which products of the Hessian with any vectors are quick to get.

    Parameters
    ----------
    model : SoftplusSurrogate
        In evaluation mode. Its parameters are taken as constants.
    images : Tensor (N, 3, H, W)
    targets : Tensor (N,)
        The class whose score is differentiated.
    products : bool
        Whether there will be products; without, less is kept.

    Attributes
    ----------
    gradient : Tensor (N, 3, H, W)
        Of the score of each image's target, with respect to the image.
    logits : Tensor (N, classes)

    Raises
    ------
    ValueError
        `tracing.Untraceable`, if the model computes what has no rule; the layer is named.
    """

    @torch.no_grad()
    def __init__(self, model: SoftplusSurrogate, images: Tensor, targets: Tensor, products: bool = True) -> None:
        images = images.detach()
        self._program = program = program_of(model, images)
        self._saved: list[list[Tensor]] = []  # what each operation needs for its derivatives
        values = {0: images}
        for number, operation in enumerate(program.operations, start=1):
            value, saved = operation.forward(*program.arriving(number, values))
            values[number] = value
            self._saved.append(saved)
        self.logits = checks.logits_shape(values[program.end], len(images))
        chosen = targets.clamp(max=self.logits.shape[1] - 1)[:, None]
        self._curvatures: dict[int, Tensor] = {}  # f''(z) m of each operation that is curved
        seed = torch.zeros_like(self.logits).scatter_(1, chosen, 1)
        self.gradient = self._back({program.end: seed}, note=products)

    @torch.no_grad()
    def product(self, vectors: Tensor) -> Tensor:
        """Return H v (N, 3, H, W) for `vectors` v (N, 3, H, W), with the Hessian H of each image's own score."""
        tangents, bends = {0: vectors}, {}
        for number, operation in enumerate(self._program.operations, start=1):
            arriving = self._program.arriving(number, tangents)
            if number in self._curvatures:
                bends[number] = self._curvatures[number] * arriving[0]
            tangents[number] = operation.tangent(arriving, self._saved[number - 1])
        return self._back({}, bends)

    @torch.no_grad()
    def transposed(self, cotangents: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of the sum of the logits times `cotangents` (N, classes)."""
        return self._back({self._program.end: cotangents})

    def _back(self, carried: dict[int, Tensor], bends: dict[int, Tensor] | None = None, note: bool = False) -> Tensor:
        """Carry multipliers, or their tangents, from the values that `carried` names back to the image.

        `bends` holds the terms f''(z) m dz that join at activations. With `note`, their f''(z) m are noted.
        """
        program = self._program
        bends = bends or {}
        for number in range(len(program.operations), 0, -1):
            operation, saved = program.operations[number - 1], self._saved[number - 1]
            m, shares = carried.pop(number, None), []
            if m is not None:
                if note and (curvature := operation.curvature(m, saved)) is not None:
                    self._curvatures[number] = curvature
                shares = operation.transposed(m, saved)
            if (bend := bends.pop(number, None)) is not None:
                shares = [shares[0].add_(bend)] if shares else [bend]
            for i, share in zip(program.inputs[number - 1], shares, strict=False):
                carried[i] = carried[i] + share if i in carried else share
        found = carried.get(0)
        return found if found is not None else torch.zeros(program.shape).to(self.logits)


class _Gradient(torch.autograd.Function):
    """The gradient of a score as a function of the image: its own gradient is a product with the Hessian."""

    @staticmethod
    def forward(ctx, images: Tensor, model: SoftplusSurrogate, targets: Tensor) -> tuple[Tensor, Tensor]:
        ctx.made = Pass(model, images, targets)
        ctx.set_materialize_grads(False)
        # Tensors of their own: an output that the pass held would hold the pass, and nothing would ever be freed.
        return ctx.made.gradient.detach(), ctx.made.logits.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, vectors: Tensor | None, cotangents: Tensor | None) -> tuple[Tensor | None, None, None]:
        result = None if vectors is None else ctx.made.product(vectors)
        if cotangents is not None:
            of_logits = ctx.made.transposed(cotangents)
            result = of_logits if result is None else result + of_logits
        return result, None, None


def applicable(model: nn.Module) -> bool:
    """Return whether `gradient` may stand in for autograd: a surrogate of constant parameters, not known to fail."""
    if not isinstance(model, SoftplusSurrogate) or model.programs is None:
        return False
    return model.constant or not any(parameter.requires_grad for parameter in model.parameters())


def gradient(
    model: SoftplusSurrogate, images: Tensor, targets: Tensor, create_graph: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the gradient (N, 3, H, W) of each image's score and the logits (N, classes).

    With `create_graph` both can be differentiated, once: a third derivative is not to be had. Arguments and errors as
    for `Pass`.
    """
    if create_graph:
        return _Gradient.apply(images, model, targets)
    made = Pass(model, images, targets, products=False)
    return made.gradient, made.logits


# --- The network as a program ----------------------------------------------------------------------------------------


class Program:
    """The steps of a network for images of one shape, each with its derivatives. Value 0 is the image.

    Where max pooling follows ReLU it comes first: the two commute, and after the pool there are fewer values.
    """

    def __init__(self, forward: Trace, beta: float) -> None:
        steps = _pool_first(forward.steps)
        numbers = {forward.image: 0} | {step.output: number for number, step in enumerate(steps, start=1)}
        readers = _readers(steps)
        self.shape = tuple(forward.image.value.shape)
        self.inputs = [[numbers[node] for node in step.inputs] for step in steps]  # of each operation
        self.operations = [_operation(step, beta, forward.activations, readers) for step in steps]
        self.end = numbers[forward.end]
        self._last = {i: number for number, inputs in enumerate(self.inputs, start=1) for i in inputs}
        self._last[self.end] = 0

    def arriving(self, number: int, values: dict[int, Tensor]) -> list[Tensor]:
        """Return the inputs of an operation, and forget those that no later one reads."""
        inputs = self.inputs[number - 1]
        arriving = [values[i] for i in inputs]
        for i in inputs:
            if self._last[i] == number:
                values.pop(i, None)
        return arriving


def program_of(model: SoftplusSurrogate, images: Tensor) -> Program:
    """Return the program of a surrogate, traced once for each shape, type and place of images."""
    tensors: Iterable[Tensor] = (*model.parameters(), *model.buffers())
    key = (images.shape, images.stride(), images.dtype, images.device, tuple(map(id, tensors)))
    programs: OrderedDict = model.programs
    if key not in programs:
        try:
            programs[key] = Program(trace(model, images), model.beta)
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


def _pool_first(steps: list[Step]) -> list[Step]:
    """Return the steps with each max pool moved before the ReLU that it alone reads."""
    readers, result = _readers(steps), list(steps)
    for pool in steps:
        relu = pool.inputs[0].step
        if pool.kind == MAX_POOL and relu is not None and relu.function in RELU and readers[relu.output] == [pool]:
            pooled = Node(pool.output.value)
            first = replace(pool, inputs=relu.inputs, output=pooled)
            then = replace(relu, inputs=[pooled], output=pool.output)
            pooled.step = first
            result[result.index(relu)], result[result.index(pool)] = first, then
    return result


# --- Operations ------------------------------------------------------------------------------------------------------


class Operation:
    """A step with its derivatives. The general one leaves them to autograd, within the step."""

    def __init__(self, step: Step, activations: AbstractContextManager) -> None:
        self.step, self.activations = step, activations

    def forward(self, *inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the value, and what the derivatives need of it."""
        with torch.enable_grad(), self.activations:
            arguments = [x.detach().requires_grad_() for x in inputs]
            value = self.step.call(*arguments, *self.step.weights)
        return value.detach(), [value, *arguments]

    def transposed(self, m: Tensor, saved: list[Tensor]) -> list[Tensor]:
        """Return the transpose of the derivative, applied to multipliers `m` of the output: those of each input."""
        value, *arguments = saved
        return list(torch.autograd.grad(value, arguments, m, retain_graph=True))

    def tangent(self, tangents: list[Tensor], saved: list[Tensor]) -> Tensor:
        """Return the derivative, applied to the tangents of the inputs."""
        if self.step.kind in (REARRANGE, COMBINE):
            return self.step.call(*tangents)
        value, *arguments = saved
        with torch.enable_grad():  # the transpose of the transpose
            m = torch.zeros_like(value).requires_grad_()
            shares = torch.autograd.grad(value, arguments, m, create_graph=True)
            return torch.autograd.grad(shares, m, tangents, retain_graph=True)[0]

    def curvature(self, m: Tensor, saved: list[Tensor]) -> Tensor | None:
        """Return f''(z) m of an elementwise step, None of one that is not curved."""
        if self.step.kind not in (HOMOGENEOUS, ACTIVATION):
            return None
        value, z = saved
        with torch.enable_grad():
            (share,) = torch.autograd.grad(value, z, m, create_graph=True)
            return torch.autograd.grad(share.sum(), z, retain_graph=True)[0] if share.requires_grad else None


class Weighted(Operation):
    """A convolution or a linear layer."""

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.step.call(x, *self.step.weights), []

    def transposed(self, m: Tensor, saved: list[Tensor]) -> list[Tensor]:
        weight, _ = self.step.weights
        if self.step.function is F.linear:
            return [m @ weight]
        options = self.step.options
        stride, padding, dilation = pairs(*(options.get(name, d) for name, d in CONVOLUTION.items()))
        size = self.step.inputs[0].value.shape[-2:]
        return [convolution_transposed(m, weight, size, stride, padding, dilation, options.get("groups", 1))]

    def tangent(self, tangents: list[Tensor], saved: list[Tensor]) -> Tensor:
        weight, _ = self.step.weights
        return self.step.call(*tangents, weight, None)


class SoftplusOfReLU(Operation):
    """ReLU, smoothed by the surrogate."""

    def __init__(self, step: Step, activations: AbstractContextManager, beta: float, over: bool, back: bool) -> None:
        super().__init__(step, activations)
        self.beta = beta
        self.over, self.back = over, back  # whether values, and multipliers, may be overwritten

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        value, slope = softplus_and_slope(x, self.beta, in_place=self.over)
        return value, [slope]

    def transposed(self, m: Tensor, saved: list[Tensor]) -> list[Tensor]:
        return [m.mul_(saved[0]) if self.back else m * saved[0]]

    def tangent(self, tangents: list[Tensor], saved: list[Tensor]) -> Tensor:
        return tangents[0].mul_(saved[0]) if self.over else tangents[0] * saved[0]

    def curvature(self, m: Tensor, saved: list[Tensor]) -> Tensor:
        curvature = torch.ops.aten.sigmoid_backward(m, saved[0])  # m s (1 - s), in one pass
        return curvature if self.beta == 1 else curvature.mul_(self.beta)


class MaxPool(Operation):
    """Max pooling: its derivative takes, or puts back, the places of the maxima."""

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        value, indices = self.step.call(x)
        return value, [indices]

    def tangent(self, tangents: list[Tensor], saved: list[Tensor]) -> Tensor:
        (indices,) = saved
        taken = _by_pixel(tangents[0]).gather(1, _by_pixel(indices))
        return taken.unflatten(1, indices.shape[-2:]).movedim(-1, 1)

    def transposed(self, m: Tensor, saved: list[Tensor]) -> list[Tensor]:
        (indices,) = saved
        n, c, h, w = self.step.inputs[0].value.shape
        x = m.new_zeros(n, h * w, c).scatter_add_(1, _by_pixel(indices), _by_pixel(m))
        return [x.unflatten(1, (h, w)).movedim(-1, 1)]


CONVOLUTION = {"stride": 1, "padding": 0, "dilation": 1}


def _by_pixel(x: Tensor) -> Tensor:
    """Return x (N, C, H, W) as (N, H W, C)."""
    return x.movedim(1, -1).flatten(1, 2)


def _operation(
    step: Step, beta: float, activations: AbstractContextManager, readers: dict[Node, list[Step]]
) -> Operation:
    if step.kind == WEIGHTED and not isinstance(step.options.get("padding"), str):
        return Weighted(step, activations)
    if step.kind == MAX_POOL:
        return MaxPool(step, activations)
    if step.function in RELU:
        (before,) = step.inputs
        fresh = before.step is not None and before.step.kind in (WEIGHTED, MAX_POOL)
        over = fresh and len(readers[before]) == 1
        return SoftplusOfReLU(step, activations, beta, over, _handed_down_fresh(step.output, readers))
    return Operation(step, activations)


def _handed_down_fresh(node: Node, readers: dict[Node, list[Step]]) -> bool:
    """Whether the multipliers that arrive at `node` are in memory that is used for nothing else."""
    return all(
        reader.kind in (WEIGHTED, MAX_POOL)
        or (reader.function in CAT and len(reader.inputs) > 1 and _handed_down_fresh(reader.output, readers))
        for reader in readers.get(node, [])
    ) and bool(readers.get(node))
