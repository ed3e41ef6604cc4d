"""Propagation with modified local derivatives: the one mechanism behind DeepLIFT, LRP and deep Taylor decomposition.

`propagate` runs the network once, step by step, and goes back from the score to the image; a rule says what each step
does to the multipliers m that pass through it. The result has an exact gradient with respect to the image: see
``walks``. A function that has no rule is refused by name.
"""

from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.saliency.propagation.passes import multipliers
from fragile_utils.saliency.propagation.rule import Rule


def propagate(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    rule: Rule,
    reference: Tensor | None = None,
    create_graph: bool = False,
    logits: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Carry the score of each image's target class back to its pixels.

    Parameters
    ----------
    model : Module
        In evaluation mode: images to logits (N, classes). Its parameters are taken as constants.
    images : Tensor (N, 3, H, W)
    targets : Tensor (N,)
        The class whose score is explained.
    rule : Rule
        What each step does to the multipliers; see the table in module ``rule``.
    reference : Tensor (1, 3, H, W) or (N, 3, H, W), for rules that compare with one
        The images against which `deeplift.Rescale` takes differences: one for all, or one for each.
    create_graph : bool
        Whether the result can be differentiated, once, with respect to `images`.
    logits : bool
        Whether the logits are wanted; without, they may be spared, and are None.

    Returns
    -------
    result : Tensor (N, 3, H, W)
        The multipliers of the pixels, or, from an `lrp.EpsilonRule` and its kin, their relevances.
    logits : Tensor (N, classes)

    Raises
    ------
    ValueError
        If an argument is not as described, or the model computes what has no rule; the layer is named.
    """
    if rule.compares:
        _check_reference(reference, images)
    else:
        reference = None
    checks.evaluation_mode(model)
    return multipliers(model, images, targets, create_graph, rule, reference, logits)


def _check_reference(reference: Tensor | None, images: Tensor) -> None:
    if not isinstance(reference, Tensor) or reference.shape not in (images.shape, (1, *images.shape[1:])):
        expected = f"reference: expected shape {tuple(images.shape)}, or one image for all"
        raise ValueError(f"{expected}, got {checks.described(reference)}")
