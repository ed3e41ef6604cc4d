"""Explanations of a network by walks: the multipliers of the pixels, as a function that can be differentiated once."""

from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils._base.once import in_a_run, once
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.propagation.program import DERIVATIVES, IMAGE, TARGETS
from fragile_utils.saliency.propagation.programs import program_of
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.walks import Walks


class Pass:
    """The explanation of the score of one class of each image, and what it takes to differentiate it.

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

    Raises
    ------
    ValueError
        `steps.Untraceable`, if the model computes what has no rule; the layer is named.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        rule: Rule = DERIVATIVES,
        reference: Tensor | None = None,
        products: bool = True,
    ) -> None:
        images = images.detach()
        whole = program_of(model, images, rule)
        checks.logits_shape(torch.empty(whole.shape, device="meta"), len(images))
        targets = targets.clamp(max=whole.shape[1] - 1)
        self._whole, self._program = whole, whole.score or whole
        if whole.score is not None:  # one row of the last layer is enough
            ends = images.new_ones(len(images), 1)
        else:
            ends = torch.zeros(whole.shape).to(images).scatter_(1, targets[:, None], 1)
        at_reference = None if reference is None else self._at(model, reference.detach(), targets, rule)
        self._walks = Walks(
            self._program, images, ends, None if whole.score is None else targets, products, at_reference
        )
        self.multipliers = self._walks.multipliers

    def _at(self, model: nn.Module, reference: Tensor, targets: Tensor, rule: Rule) -> list[Any]:
        """Return what the operations keep of the reference."""
        whole = program_of(model, reference, rule)
        if whole.functions != self._whole.functions or (whole.score is None) != (self._whole.score is None):
            raise ValueError("model: expected the same steps on the images and on the reference, got others")
        program = whole.score or whole
        last = once("reference", (program,), list)  # in a run that of the step before
        if not (last and last[0] is reference and torch.equal(last[1], targets)):
            given = {IMAGE: reference} | ({} if whole.score is None else {TARGETS: targets})
            last[:] = reference, targets, program.run(given)[1]
        return last[2]

    @property
    @torch.no_grad()
    def logits(self) -> Tensor:
        """Of all classes (N, classes)."""
        if self._whole.rest is None:
            return self._walks.value
        return self._whole.rest.run({IMAGE: self._before_the_last_layer()})[0]

    def product(self, vectors: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of <v, M(x)> for `vectors` v (N, 3, H, W): H v where M is the gradient."""
        return self._walks.product(vectors)

    def transposed(self, cotangents: Tensor) -> Tensor:
        """Return the gradient (N, 3, H, W) of the sum of the logits times `cotangents` (N, classes)."""
        whole = self._whole
        if whole.rest is None:
            return self._walks.back_from(whole.end, cotangents)
        of_rest = Walks(whole.rest, self._before_the_last_layer(), cotangents, products=False)
        (number, _) = self._program.inputs[whole.head]
        return self._walks.back_from(number, of_rest.multipliers)

    def _before_the_last_layer(self) -> Tensor:
        return self._walks.input_of(self._whole.head)


class _Multipliers(torch.autograd.Function):
    """The multipliers and logits as functions of the image, to be differentiated once."""

    @staticmethod
    def forward(ctx, images: Tensor, *arguments: Any) -> tuple[Tensor, Tensor | None]:
        model, targets, rule, reference, logits = arguments
        ctx.made = Pass(model, images, targets, rule, reference)
        ctx.set_materialize_grads(False)
        # Tensors of their own: an output that the pass held would hold the pass, and nothing would ever be freed.
        return ctx.made.multipliers.detach(), ctx.made.logits.detach() if logits else None

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, vectors: Tensor | None, cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        result = None if vectors is None else ctx.made.product(vectors)
        if cotangents is not None:
            of_logits = ctx.made.transposed(cotangents)
            result = of_logits if result is None else result + of_logits
        return result, None, None, None, None, None


def multipliers(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    create_graph: bool = True,
    rule: Rule = DERIVATIVES,
    reference: Tensor | None = None,
    logits: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Return the multipliers (N, 3, H, W) of the pixels, by default the gradients, and the logits (N, classes).

    With `create_graph` both can be differentiated with respect to the images, once: a third derivative, or one with
    respect to parameters, is not to be had. Without `logits` they are not computed, and are None. Other arguments and
    errors as for `Pass`.
    """
    if create_graph:
        return _Multipliers.apply(images, model, targets, rule, reference, logits)
    made = Pass(model, images, targets, rule, reference, products=False)
    return made.multipliers, made.logits if logits else None


def stands_in_for_autograd(model: nn.Module) -> bool:
    """Return whether `multipliers` may take the place of autograd: for a surrogate whose parameters are constants."""
    if not isinstance(model, SoftplusSurrogate):
        return False
    return model.constant or not any(parameter.requires_grad for parameter in model.parameters())


def walks_are_quicker(model: nn.Module, images: Tensor) -> bool:
    """Return whether to leave a map that nobody differentiates to the walks: in a run, which traces the network once.

    That pays on a CPU, where no step of the network is left to autograd, and no module watches the forward pass.
    """
    if not in_a_run() or images.device.type != "cpu":
        return False

    def found() -> bool:
        if is_watched(model) or model.training:
            return False
        try:
            return program_of(model, images.detach()).own
        except ValueError:
            return False

    return once("walks are quicker", (model,), found)


def is_watched(model: nn.Module) -> bool:
    """Return whether a hook sees the forward pass of any module, which walks leave out."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
