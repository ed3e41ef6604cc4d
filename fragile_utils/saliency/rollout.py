"""Attention rollout: how much of each patch reaches the token that is read, by the attention of all layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fragile_utils.saliency.attention import attend
from fragile_utils.saliency.method import Method


@dataclass(frozen=True)
class Rollout(Method):
    """The attention matrices of all layers, averaged over their heads, and multiplied.

    Of each layer (A + I) / 2 is taken, where I stands for the shortcut past it, so that rows sum to 1; the map is the
    row of the class token in the product, enlarged bilinearly from patches to pixels. Where a network averages its
    tokens instead, it is the mean of their rows.

    It does not depend on the class that is explained, and holds no gradient: an attack on it needs first derivatives
    alone, and no surrogate.

    References
    ----------
    Abnar, Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020, arXiv:2005.00928, section 3, equation 1.
    """

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            seen = attend(model, images, create_graph)
            row = seen.row(model, targets)
            for matrix in reversed(seen.matrices):  # a row times each matrix, from the last: no product of matrices
                row = (row @ seen.by_head(matrix).mean(dim=1) + row) / 2
            return seen.answer(row.squeeze(1), create_graph)
