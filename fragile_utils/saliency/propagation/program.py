"""A network as a program: its steps for images of one shape, in an order that saves work, each with its derivatives."""

import itertools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fragile_utils.saliency.propagation.elementwise import is_smooth_clip
from fragile_utils.saliency.propagation.kinds import AVERAGE, RELU, SAME_ORDER, Kind
from fragile_utils.saliency.propagation.linear import axis_of_cat, is_normalised
from fragile_utils.saliency.propagation.operation import Operation, Setting
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.steps import Node, Step, Trace
from fragile_utils.saliency.propagation.weighted import sees_each_place_alone

DERIVATIVES = Rule()
IMAGE, TARGETS = 0, -1  # the numbers of what a program is given; the values of its operations are counted from 1


class Program:
    """The steps of a network for images of one shape, each with its derivatives.

    Where max pooling follows ReLU it comes first: the two commute, and after the pool there are fewer values.

    Parameters
    ----------
    forward : Trace
    rule : Rule

    Attributes
    ----------
    operations : list of Operation
    inputs : list of list of int
        The numbers of the values that each operation reads.
    end : int
        The number of the logits.
    score : Program or None
        The same with the score of one class of each image (N, 1) at the end, in place of all logits; None if the last
        layers mix the classes. It begins in the same way, and its operation `head` is the last layer.
    rest : Program or None
        From the input of that layer to all logits.
    """

    def __init__(self, forward: Trace, rule: Rule = DERIVATIVES) -> None:
        steps = _pool_first(forward.steps, rule)
        self.score: Program | None = None
        self.rest: Program | None = None
        self.head = _head(steps)
        if self.head is not None:
            self.score, self.rest = Program.__new__(Program), Program.__new__(Program)
            targets = Node(forward.end.shape[:1], differentiable=False)
            alone = _of_one_class(steps, self.head, targets)
            self.score._write_down(forward, alone, alone[-1].output, rule, targets=targets)
            first = steps[self.head].inputs[0]
            self.rest._write_down(forward, steps[self.head :], forward.end, DERIVATIVES, first=first)
        self._write_down(forward, steps, forward.end, rule)

    def _write_down(
        self,
        forward: Trace,
        steps: list[Step],
        end: Node,
        rule: Rule,
        first: Node | None = None,
        targets: Node | None = None,
    ) -> None:
        first = first or forward.image
        numbers = {first: IMAGE, targets: TARGETS} | {step.output: n for n, step in enumerate(steps, start=1)}
        readers, made_by = _readers(steps), _made_by(steps)
        self.first, self.shape = first, tuple(end.shape)
        self.functions = [step.function for step in steps]
        self.inputs = [[numbers[node] for node in step.inputs] for step in steps]
        self.operations: list[Operation] = []
        for step in steps:
            setting = Setting(forward.activations, forward.beta, *_may_overwrite(step, forward.beta, readers, made_by))
            self.operations.append(rule.operation(step, setting))
        self.end = numbers[end]
        self.own = all(operation.own for operation in self.operations)
        self._last = {i: number for number, inputs in enumerate(self.inputs, start=1) for i in inputs}
        self._last[self.end] = 0

    def run(self, given: dict[int, Tensor], at_reference: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Return the value at the end, and what each operation keeps; `at_reference` is what they kept there."""
        values, kept = dict(given), []
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


def _made_by(steps: list[Step]) -> dict[Node, Step]:
    return {step.output: step for step in steps}


# --- Max pooling first -----------------------------------------------------------------------------------------------


def _pool_first(steps: list[Step], rule: Rule) -> list[Step]:
    """Return the steps with each max pool moved before what it commutes with, where both keep derivatives.

    It does with a ReLU, and with channels put side by side, that it alone reads.
    """
    result = list(steps)
    waiting = [step for step in steps if step.kind is Kind.MAX_POOL and rule.is_derivative(step)]
    while waiting:
        pool = waiting.pop()
        before, readers = _made_by(result).get(pool.inputs[0]), _readers(result)
        if before is None or readers[before.output] != [pool] or not rule.is_derivative(before):
            continue
        if before.function not in RELU and axis_of_cat(before) != 1:
            continue
        pools = []
        for node in before.inputs:
            pooled = replace(node, shape=node.shape[:2] + pool.output.shape[2:], pixels=False, shared=False)
            pools.append(replace(pool, inputs=[node], output=pooled))
        then = replace(
            before, inputs=[first.output for first in pools], output=pool.output, given=_given(before, pools)
        )
        result[result.index(pool)] = then
        at = result.index(before)
        result[at : at + 1] = pools
        waiting += pools
    return result


def _given(before: Step, pools: list[Step]) -> tuple | None:
    """Return the arguments of a step with the pooled values in place of those that it was given."""
    if before.given is None:
        return None
    new = {old: first.output for old, first in zip(before.inputs, pools, strict=True)}
    values, *others = before.given[0]
    values = [new[value] for value in values] if isinstance(values, (list, tuple)) else new[values]
    return (values, *others), before.given[1]


# --- The score of one class ------------------------------------------------------------------------------------------


def _head(steps: list[Step]) -> int | None:
    """Return the place of the last layer, if what follows it computes each class from that class alone."""
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        if step.kind is Kind.WEIGHTED:
            break
        if step.constants or step.function not in RELU | AVERAGE | SAME_ORDER or len(step.inputs) != 1:
            return None
    else:
        return None
    chain = steps[place:]
    follow = all(after.inputs == [before.output] for before, after in itertools.pairwise(chain))
    first = step.inputs[0]
    fits = sees_each_place_alone(step) and first.differentiable and not first.pixels
    if not (follow and fits and step.output.shape[1] > 1):
        return None
    classes, rows = step.output.shape[1], step.output.shape[0] + 1
    shape = (rows, 1, *step.output.shape[2:])
    for after in chain[1:]:  # each keeps images and classes apart, however many there are
        try:
            found = tuple(after.call(torch.empty(shape, device="meta")).shape)
        except (RuntimeError, IndexError):
            return None
        if after.output.shape[1:2] != (classes,) or found != (rows, 1, *after.output.shape[2:]):
            return None
        shape = found
    return place if len(shape) == 2 else None


def _of_one_class(steps: list[Step], head: int, targets: Node) -> list[Step]:
    """Return the steps with the last layer, and what follows it, for the class of each image alone."""
    last, *chain = steps[head:]
    result = [*steps[:head], replace(last, inputs=[last.inputs[0], targets], output=_one_class(last.output))]
    for step in chain:
        before = result[-1].output
        given = None if step.given is None else ((before, *step.given[0][1:]), step.given[1])
        result.append(replace(step, inputs=[before], output=_one_class(step.output), given=given))
    return result


def _one_class(node: Node) -> Node:
    return replace(node, shape=torch.Size((node.shape[0], 1, *node.shape[2:])))


# --- What may be overwritten -----------------------------------------------------------------------------------------


def _may_overwrite(
    step: Step, beta: float, readers: dict[Node, list[Step]], made_by: dict[Node, Step]
) -> tuple[bool, bool]:
    """Return whether a step of one value may compute in the memory of its input, and of the multipliers of its output.

    Only an activation, or a normalisation: `over` is of the values and tangents of the input, which no other step may
    read, and `back` of multipliers, which no other value may share.
    """
    if step.output.pixels or not (_is_activation(step) or is_normalised(step)):
        return False, False
    (before,) = step.inputs
    alone = before in made_by and _makes_new(made_by[before]) and len(readers[before]) == 1
    handed_down = readers.get(step.output, [])
    own = all(_makes_new(reader) or (_is_activation(reader) and not reader.output.pixels) for reader in handed_down)
    return alone and not _keeps_input(step, beta), bool(handed_down) and own


def _makes_new(step: Step) -> bool:
    """Return whether values, tangents and multipliers of a step are in memory of their own."""
    return step.kind in (Kind.WEIGHTED, Kind.MAX_POOL) or (is_normalised(step) and not step.output.pixels)


def _is_activation(step: Step) -> bool:
    return step.kind in (Kind.HOMOGENEOUS, Kind.ACTIVATION)


def _keeps_input(step: Step, beta: float) -> bool:
    """Return whether the operation of an activation may look at its input again."""
    return _is_activation(step) and step.function not in RELU and not is_smooth_clip(step, beta)
