"""A small vision transformer for CIFAR-10: three convolutions make the tokens, attention does the rest.

It is smooth: GELU, softmax and layer normalisation have all derivatives, and no surrogate is needed. Its attention is
written out, since the fused kernels of PyTorch cannot be differentiated twice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.models.convnet import CLASSES, SIZE

HEAD = 32  # channels of an attention head
WIDER = 2  # how many times as wide a block is between its two linear layers
TOKENS = (SIZE // 4) ** 2  # one for 4 x 4 pixels


@dataclass(frozen=True)
class ViT:
    """A convolutional stem to 8 x 8 tokens, a class token, blocks of attention, and a linear layer on the class token.

    Parameters
    ----------
    width : int
        Length of a token: a multiple of 32, the width of an attention head.
    depth : int
        Blocks.

    References
    ----------
    Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021, arXiv:2010.11929; the stem after Xiao et al., *Early
    Convolutions Help Transformers See Better*, NeurIPS 2021, arXiv:2106.14881.
    """

    width: int = 96
    depth: int = 6

    def __post_init__(self) -> None:
        checks.count(self.depth, "depth")
        if checks.count(self.width, "width") % HEAD:
            raise ValueError(f"width: expected a multiple of {HEAD}, got {self.width}")

    def build(self, batch_norm: bool = False) -> nn.Module:
        """Return the network, its parameters drawn from torch's global generator: (N, 3, 32, 32) to logits (N, 10).

        With `batch_norm`, the convolutions of the stem are normalised; it can be folded into them.
        """
        return VisionTransformer(self, batch_norm)


class VisionTransformer(nn.Module):
    """What `ViT` describes: normalised images (N, 3, 32, 32) to logits (N, 10)."""

    def __init__(self, layout: ViT, batch_norm: bool) -> None:
        super().__init__()
        width = layout.width
        stem: list[nn.Module] = []
        for before, after, stride in ((3, width // 2, 1), (width // 2, width // 2, 2), (width // 2, width, 2)):
            stem.append(nn.Conv2d(before, after, 3, stride, padding=1, bias=not batch_norm))
            stem += [nn.BatchNorm2d(after)] if batch_norm else []
            stem.append(nn.GELU())
        self.stem = nn.Sequential(*stem)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + TOKENS, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layout.depth)))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # (N, 64, width)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1) + self.positions
        return self.last(self.norm(self.blocks(tokens))[:, 0])


class Block(nn.Module):
    """Attention, and two linear layers on each token, both past a shortcut and after a normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, WIDER * width), nn.GELU(), nn.Linear(WIDER * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.layers(self.norm2(tokens))


class Attention(nn.Module):
    """Each token takes a weighted mean of the values of all; `softmax` returns the weights (N, heads, T, T)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries_keys_values, self.last = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.queries_keys_values(tokens).unflatten(-1, (3, -1, HEAD))  # (N, T, 3, heads, 32)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, T, 32) each
        weights = self.softmax(queries @ keys.transpose(-2, -1) * HEAD**-0.5)
        return self.last((weights @ values).transpose(1, 2).flatten(2))
