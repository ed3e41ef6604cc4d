"""Propagation with modified local derivatives: the one mechanism behind DeepLIFT, LRP and deep Taylor decomposition.

The gradient of a score is a product of local derivatives, one for each function that the network computes. DeepLIFT
takes output differences over input differences instead; layer-wise relevance propagation takes ratios of relevances.
So all of them are one walk: `trace` runs the network once and writes down, step by step, each function that touches the
image; `propagate` goes back from the score to the image, and rules say what each step does to the multipliers m that
pass through it.

====================  ===================================================  =================================
`LocalDerivatives`    the derivatives as they are                          the gradient
`Rescale`             output difference over input difference              DeepLIFT
`EpsilonRule`         share of each input in the sum                       LRP-epsilon
`AlphaBetaRule`       shares of the positive and the negative inputs       LRP-alpha-beta; z-plus for beta = 0
`DeepTaylorRule`      z-plus; z-box in the layer that sees the pixels      deep Taylor decomposition
====================  ===================================================  =================================

The rules are differentiable operations on the values of the network, so that with ``create_graph=True`` the result has
an exact gradient with respect to the image. A function that has no rule is refused by name.
"""

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.saliency.propagation.rule import LocalDerivatives
from fragile_utils.saliency.propagation.trace import Trace, trace
from fragile_utils.saliency.propagation.walks import applicable, multipliers


def propagate(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    rules: "LocalDerivatives",
    reference: Tensor | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Carry the score of each image's target class back to its pixels.

    Parameters
    ----------
    model : Module
        In evaluation mode: images to logits (N, classes).
    images : Tensor (N, 3, H, W)
    targets : Tensor (N,)
        The class whose score is explained.
    rules : LocalDerivatives
        What each step does to the multipliers; see the table at the top of the module.
    reference : Tensor (1, 3, H, W) or (N, 3, H, W), for `Rescale` only
        The images against which it takes differences: one for all, or one for each.
    create_graph : bool
        Whether the result can be differentiated with respect to `images`.

    Returns
    -------
    result : Tensor (N, 3, H, W)
        The multipliers of the pixels, or, from an `EpsilonRule` and its kin, their relevances.
    logits : Tensor (N, classes)

    Raises
    ------
    ValueError
        If an argument is not as described, or the model computes what has no rule; the layer is named.
    """
    if rules.compares:
        _check_reference(reference, images)
    else:
        reference = None
    if applicable(model):
        return multipliers(model, images, targets, create_graph, rules, reference)
    with torch.enable_grad():
        images = images if create_graph and images.requires_grad else images.detach().requires_grad_()
        forward = trace(model, images)
        logits = checks.logits_shape(forward.end.value, len(images))
        chosen = targets.clamp(max=logits.shape[1] - 1)[:, None]
        if rules.compares:
            _pair(forward, trace(model, reference.detach().requires_grad_()))
    carried = {forward.end: torch.zeros_like(logits).scatter(1, chosen, 1)}
    with torch.set_grad_enabled(create_graph), forward.activations:
        for step in reversed(forward.steps):
            if (m := carried.pop(step.output, None)) is not None:
                for node, share in zip(step.inputs, rules(step, m), strict=True):
                    carried[node] = carried[node] + share if node in carried else share
    result = carried.get(forward.image, torch.zeros_like(images))
    return (result, logits) if create_graph else (result.detach(), logits.detach())


def _check_reference(reference: Tensor | None, images: Tensor) -> None:
    if not isinstance(reference, Tensor) or reference.shape not in (images.shape, (1, *images.shape[1:])):
        expected = f"reference: expected shape {tuple(images.shape)}, or one image for all"
        raise ValueError(f"{expected}, got {checks.described(reference)}")


def _pair(forward: Trace, reference: Trace) -> None:
    if [step.function for step in forward.steps] != [step.function for step in reference.steps]:
        raise ValueError("model: expected the same steps on the images and on the reference, got others")
    for step, other in zip(forward.steps, reference.steps, strict=True):
        step.reference = other
