"""Attention weighted by its gradient: the generic rule for transformers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fragile_utils.saliency.attention import attend
from fragile_utils.saliency.method import Method


@dataclass(frozen=True)
class AttentionGradient(Method):
    """The generic rule: what attention weighs, weighted once more by the gradient of the class score.

    R begins as the identity; each layer adds E[(dS/dA * A)+] R, where A is its attention, S the score, E the mean over
    heads, and + what is positive. The map is the row of the class token in R, enlarged bilinearly from patches to
    pixels; where a network averages its tokens instead, it is the mean of their rows.

    References
    ----------
    Chefer, Gur, Wolf, *Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers*, ICCV 2021, arXiv:2103.15679, equations 1, 5 and 6.
    """

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            seen = attend(model, images, create_graph)
            row = seen.row(model, targets)
            layers = zip(seen.matrices, seen.gradients(targets, create_graph), strict=True)
            for matrix, gradient in reversed(list(layers)):  # a row times each matrix, from the last
                row = row + row @ (gradient * seen.by_head(matrix)).clamp(min=0).mean(dim=1)
            return seen.answer(row.squeeze(1), create_graph)
