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

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fragile_utils._base.layout import layout
from fragile_utils.saliency.propagation.operation import NO_BENDS, Bends, Operation
from fragile_utils.saliency.propagation.program import IMAGE, TARGETS, Program


class Walks:
    """The first two walks, from which the change of <v, M(x)> for any v is quick to get.

    Parameters
    ----------
    program : Program
    images : Tensor (N, 3, H, W)
    cotangents : Tensor (N, classes), or (N, 1)
        The multipliers with which the second walk begins: of the logits, or of the score of one class of each image.
    targets : Tensor (N,), optional
        That class, for a program of scores.
    products : bool
        Whether there will be products; without, less is kept.
    at_reference : list, optional
        What the operations keep of a reference image.

    Attributes
    ----------
    value : Tensor (N, classes) or (N, 1)
        What the program computes: logits or scores.
    multipliers : Tensor (N, 3, H, W)
        M: what arrives at the image.
    """

    @torch.no_grad()
    def __init__(
        self,
        program: Program,
        images: Tensor,
        cotangents: Tensor,
        targets: Tensor | None = None,
        products: bool = True,
        at_reference: list[Any] | None = None,
    ) -> None:
        self._program, self._layout = program, layout(images)
        given = {IMAGE: images} if targets is None else {IMAGE: images, TARGETS: targets}
        self.value, self._kept = program.run(given, at_reference)
        self._propagated: dict[int, Any] = {}  # what the operations that were handed multipliers need for a product
        self.multipliers = self._hand_down(cotangents, products)

    @torch.no_grad()
    def product(self, vectors: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of <v, M(x)> for `vectors` v (N, 3, H, W): H v where M is the gradient."""
        program, bends = self._program, {}
        tangents = {IMAGE: vectors.contiguous(memory_format=self._layout)}
        for number, propagated in sorted(self._propagated.items()):
            arriving = program.arriving(number, tangents)
            operation, kept = program.operations[number - 1], self._kept[number - 1]
            tangents[number], bends[number] = operation.differentiate(arriving, kept, propagated)
        return self._back({}, bends)

    @torch.no_grad()
    def back_from(self, number: int, cotangents: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of the sum of the value of that number times `cotangents`."""
        return self._back({number: cotangents}, {})

    def input_of(self, place: int) -> Tensor:
        """Return the input of the last layer, which is at this place."""
        kept = self._kept[place]
        return (kept.of_layer if hasattr(kept, "of_layer") else kept).x

    def _hand_down(self, m: Tensor, products: bool) -> Tensor:
        """Carry multipliers from the end to the image, by the rule."""
        carried = {self._program.end: m}
        for number, operation, kept in self._backwards():
            if (m := carried.pop(number, None)) is not None:
                shares, propagated = operation.propagate(m, kept, products)
                if products:
                    self._propagated[number] = propagated
                self._join(carried, number, shares)
        return self._arrived(carried)

    def _back(self, carried: dict[int, Tensor], bends: dict[int, Bends]) -> Tensor:
        """Carry cotangents of the values that `carried` names, and those that bends add, to the image."""
        for number, operation, kept in self._backwards():
            r, bend = carried.pop(number, None), bends.pop(number, NO_BENDS)
            if bend.of_value is not None:
                r = bend.of_value if r is None else r + bend.of_value
            if r is None:
                self._join(carried, number, bend.of_inputs)
            else:
                self._join(carried, number, operation.transposed_and_bent(r, kept, bend.of_inputs))
        return self._arrived(carried)

    def _backwards(self) -> Iterable[tuple[int, Operation, Any]]:
        operations, kept = self._program.operations, self._kept
        return ((number, operations[number - 1], kept[number - 1]) for number in range(len(operations), 0, -1))

    def _join(self, carried: dict[int, Tensor], number: int, shares: Iterable[Tensor | None]) -> None:
        for i, share in zip(self._program.inputs[number - 1], shares, strict=False):
            if share is not None:
                carried[i] = carried[i] + share if i in carried else share

    def _arrived(self, carried: dict[int, Tensor]) -> Tensor:
        found = carried.get(IMAGE)
        return found if found is not None else torch.zeros(self._program.first.shape).to(self.value)
