"""Grad-CAM on tokens: the channels of the tokens that enter the last attention, weighted by their gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fragile_utils.saliency.attention import attend
from fragile_utils.saliency.method import Method, class_scores


@dataclass(frozen=True)
class TokenGradCAM(Method):
    """Grad-CAM with tokens in the place of pixels of a layer.

    The layer is the last whose tokens of patches still reach the score where it is read off a class token: what is
    normalised to enter the last attention. Each of its channels is weighted by the mean of its gradient over the
    patches; what is positive of their sum is enlarged bilinearly from patches to pixels.

    References
    ----------
    Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017,
    arXiv:1610.02391, equations 1 and 2, where a layer has pixels.
    """

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            seen = attend(model, images, create_graph)
            tokens = seen.entering
            if tokens is None or tokens.shape[:2] != (len(images), seen.tokens):
                got = "none" if tokens is None else str(tuple(tokens.shape))
                expected = f"normalised tokens ({len(images)}, {seen.tokens}, channels) before the last attention"
                raise ValueError(f"model: expected {expected}, got {got}")
            seen.read(model, targets)  # refuses patches that are not the last tokens
            scores = class_scores(seen.logits, targets).sum()
            (gradient,) = torch.autograd.grad(scores, tokens, create_graph=create_graph)
            patches = seen.grid[0] * seen.grid[1]
            weights = gradient[:, -patches:].mean(dim=1, keepdim=True)
            return seen.answer((weights * tokens).sum(dim=2).clamp(min=0), create_graph)
